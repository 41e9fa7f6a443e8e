"""The metrics against scikit-learn, the benchmark's own scorer and direct transcriptions."""

import json
import warnings
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isic_challenge_scoring.classification import ClassificationMetric, ClassificationScore
from sklearn import metrics as skm

from jiadf.data.schema import CLASSES
from jiadf.evaluation import metrics
from jiadf.evaluation.bootstrap import stratified_weights

OFFICIAL = {
    "auc": "AUC",
    "auc_sens_80": "AUC at sensitivity > 80 %",
    "ap": "average precision",
    "accuracy": "accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "dice": "Dice",
    "ppv": "PPV",
    "npv": "NPV",
}


def draw(seed, lesions=200, classes=11, skill=1.5, decimals=None):
    """Imbalanced truth that holds every class, and softmax probabilities."""
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.full(classes, 0.7))
    truth = np.concatenate([np.arange(classes), rng.choice(classes, lesions - classes, p=share)])
    logits = rng.normal(size=(lesions, classes)) * 1.5
    logits[np.arange(lesions), truth] += skill
    prob = np.exp(logits)
    prob /= prob.sum(1, keepdims=True)
    return truth, prob if decimals is None else prob.round(decimals)


def class_table(truth, prob, classes=CLASSES):
    """Lay the metrics of each class out, a row a metric, the mean first."""
    table = pd.DataFrame(metrics.per_class(truth, prob), index=list(classes)).T
    table.insert(0, "mean", table.mean(axis="columns"))
    return table


def official_category(truth, prob, k):
    """Score class `k` with the official package; None where it refuses the input."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ClassificationScore._category_score(
                pd.Series((truth == k).astype(float)),
                pd.Series(prob[:, k]),
                pd.Series(np.ones(len(truth))),
                CLASSES[k],
            )
        except ValueError:
            return None


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # the scorer's own
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("decimals", [None, 1])
def test_class_table_equal_the_official_scorer(seed, decimals):
    truth, prob = draw(seed, decimals=decimals)
    one_hot = pd.DataFrame(np.eye(11)[truth], columns=CLASSES)
    weights = pd.DataFrame({"score_weight": 1.0, "validation_weight": 1.0}, index=one_hot.index)
    expected = ClassificationScore(
        one_hot, pd.DataFrame(prob, columns=CLASSES), weights, ClassificationMetric.AUC
    )
    table = class_table(truth, prob)
    assert list(table.columns) == ["mean", *CLASSES]
    for theirs, ours in OFFICIAL.items():
        np.testing.assert_allclose(
            table.loc[ours, list(CLASSES)], expected.per_category[theirs], atol=1e-12
        )
        assert table.loc[ours, "mean"] == pytest.approx(expected.macro_average[theirs], abs=1e-12)
    if decimals is None:  # with ties the official scorer calls a lesion undecided
        summary = metrics.summary(truth, prob)
        assert summary["balanced_accuracy"] == pytest.approx(
            expected.aggregate["balanced_accuracy"], abs=1e-12
        )


DEGENERATE = {
    "class 2 absent": (np.array([0, 1, 1, 0, 3]), draw(0, lesions=11)[1][:5]),
    "all of class 1": (np.ones(6, int), draw(1, lesions=11)[1][:6]),
    "constant prediction": (np.arange(11).repeat(2), np.full((22, 11), 1 / 11)),
    "one class always": (np.arange(11).repeat(2), np.eye(11)[np.full(22, 4)]),
    "never above a half": (np.arange(11).repeat(2), np.full((22, 11), 0.5)),
    "perfect": (np.arange(11), np.eye(11)),
    "always wrong": (np.arange(11), np.eye(11)[(np.arange(11) + 1) % 11]),
    "one lesion": (np.array([5]), np.eye(11)[[5]]),
}


@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_inputs_equal_the_official_scorer(case):
    truth, prob = DEGENERATE[case]
    table = class_table(truth, prob)
    for k, name in enumerate(CLASSES):
        expected = official_category(truth, prob, k)
        if expected is None:  # it has no answer for a class that no lesion has
            assert not (truth == k).any()
            assert np.isnan(table.loc["AUC at sensitivity > 80 %", name])
            assert np.isnan(table.loc["AUC", name])
            called = prob[:, k] > 0.5
            assert table.loc["average precision", name] == 0
            assert table.loc["sensitivity", name] == 1
            assert table.loc["specificity", name] == pytest.approx(1 - called.mean())
            assert table.loc["Dice", name] == (0 if called.any() else 1)
        else:
            for theirs, ours in OFFICIAL.items():
                assert table.loc[ours, name] == pytest.approx(
                    expected[theirs], abs=1e-12, nan_ok=True
                ), (name, ours)


def test_threshold_is_strict_and_undefined_ratios_are_one():
    table = class_table(np.array([0, 1]), [[0.5, 0.5]] * 2, classes=("a", "b"))
    assert table.loc["sensitivity", "a"] == 0  # 0.5 is not larger than 0.5
    assert table.loc["PPV", "a"] == 1  # never called: 0/0
    assert metrics.summary(np.array([0, 1]), [[0.5, 0.5]] * 2)["macro_f1_at_half"] == 0


@pytest.mark.parametrize("seed", range(3))
def test_summary_equals_scikit_learn(seed):
    truth, prob = draw(seed, lesions=300)
    ours, one_hot, top = metrics.summary(truth, prob), np.eye(11)[truth], prob.argmax(1)
    assert tuple(ours) == metrics.SUMMARY_METRICS
    expected = {
        "macro_auc": skm.roc_auc_score(truth, prob, multi_class="ovr", average="macro"),
        "macro_ap": skm.average_precision_score(one_hot, prob, average="macro"),
        "macro_f1": skm.f1_score(truth, top, average="macro"),
        "macro_f1_at_half": skm.f1_score(one_hot, prob > 0.5, average="macro", zero_division=1.0),
        "balanced_accuracy": skm.balanced_accuracy_score(truth, top),
        "top1_accuracy": skm.accuracy_score(truth, top),
        "mean_accuracy": (one_hot == (prob > 0.5)).mean(),
        "nll": skm.log_loss(truth, prob),
        "brier": skm.brier_score_loss(truth, prob, scale_by_half=False),
    }
    for name, value in expected.items():
        assert ours[name] == pytest.approx(value, abs=1e-12), name
    assert ours["macro_f1_at_half"] == ours["mean_dice"]


def test_macro_f1_leaves_out_a_class_neither_present_nor_predicted():
    truth, prob = np.array([0, 1, 1]), np.eye(3)[[0, 1, 1]]
    assert metrics.summary(truth, prob)["macro_f1"] == 1
    predicted_third = np.eye(3)[[0, 1, 2]]
    assert metrics.summary(truth, predicted_third)["macro_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_calibration_error_equals_a_direct_transcription(bins):
    truth, prob = draw(5, lesions=400)
    confidence, right = prob.max(1), prob.argmax(1) == truth
    expected = 0.0
    for low, high in pairwise(np.linspace(0, 1, bins + 1)):
        member = (confidence > low) & (confidence <= high)
        if member.any():
            gap = confidence[member].mean() - right[member].mean()
            expected += member.mean() * abs(gap)
    found = metrics.confidence_gap(confidence, right, np.ones((1, len(truth))), bins)
    assert found[0] == pytest.approx(expected)
    if bins == 15:
        assert metrics.summary(truth, prob)["ece"] == pytest.approx(expected)


def test_resampled_metrics_equal_metrics_of_the_resampled_lesions():
    truth, prob = draw(5, lesions=150, decimals=2)
    draws = stratified_weights(truth, 4, seed=1)
    fast, classwise = metrics.summary(truth, prob, draws), metrics.per_class(truth, prob, draws)
    for r, weights in enumerate(draws.astype(int)):
        t, p = np.repeat(truth, weights), np.repeat(prob, weights, axis=0)
        for name, value in metrics.summary(t, p).items():
            assert fast[name][r] == pytest.approx(value, abs=1e-9), name
        table = class_table(t, p)
        for metric in metrics.BENCHMARK_METRICS:
            np.testing.assert_allclose(
                classwise[metric][r], table.loc[metric, list(CLASSES)], atol=1e-9
            )


def test_resamples_keep_the_class_counts():
    truth, _ = draw(6, lesions=90)
    draws = stratified_weights(truth, 20, seed=0)
    assert ((draws @ np.eye(11)[truth]) == np.bincount(truth)).all()
    assert (draws != 1).any()


def test_score_is_ready_for_json():
    truth, prob = draw(9, lesions=60)
    keep = truth != 6
    scored = json.loads(json.dumps(metrics.score(truth[keep], prob[keep]), allow_nan=False))
    assert set(scored) == {"summary", "per_class"}
    assert scored["per_class"]["AUC"]["MAL_OTH"] is None
    assert scored["summary"] == pytest.approx(metrics.summary(truth[keep], prob[keep]))
    assert list(scored["per_class"]["AUC"]) == ["mean", *CLASSES]


@pytest.mark.parametrize(
    ("truth", "prob", "message"),
    [
        ([0, 1], np.full((3, 2), 0.5), "shape"),
        ([0, 1], [0.5, 0.5], "shape"),
        ([], np.zeros((0, 2)), "no lesions"),
        ([0.0, 1.0], np.full((2, 2), 0.5), "integers"),
        ([0, 2], np.full((2, 2), 0.5), "0 to 1"),
        ([0, -1], np.full((2, 2), 0.5), "0 to 1"),
        ([0, 1], [[0.5, np.nan]] * 2, "NaN"),
        ([0, 1], [[50, 50]] * 2, "outside"),
    ],
)
def test_unusable_input_is_refused(truth, prob, message):
    with pytest.raises(ValueError, match=message):
        metrics.summary(truth, prob)


def test_unusable_arguments_are_refused():
    truth, prob = np.array([0, 1]), np.eye(2)
    for weights in ([1.0], [1.0, -1.0], [0.0, 0.0], [1.0, np.nan], np.ones((2, 3))):
        with pytest.raises(ValueError, match="sample_weight"):
            metrics.summary(truth, prob, weights)


def test_one_weighting_gives_numbers_and_equals_scikit_learns():
    truth, prob = draw(11, lesions=200)
    weights = np.random.default_rng(0).uniform(0.1, 3, 200)
    ours, top = metrics.summary(truth, prob, weights), prob.argmax(1)
    one_hot = np.eye(11)[truth]
    expected = {
        "macro_auc": skm.roc_auc_score(truth, prob, multi_class="ovr", sample_weight=weights),
        "macro_ap": skm.average_precision_score(one_hot, prob, sample_weight=weights),
        "macro_f1": skm.f1_score(truth, top, average="macro", sample_weight=weights),
        "nll": skm.log_loss(truth, prob, sample_weight=weights),
    }
    assert {name: ours[name] for name in expected} == pytest.approx(expected)
    several = metrics.summary(truth, prob, np.stack([np.ones(200), weights]))
    assert several["macro_auc"].tolist() == pytest.approx(
        [metrics.summary(truth, prob)["macro_auc"], ours["macro_auc"]]
    )
    assert metrics.per_class(truth, prob, weights)["AUC"].shape == (11,)


@st.composite
def predictions(draw_from):
    """Any truth over three classes with coarse, hence often tied, probabilities."""
    lesions = draw_from(st.integers(1, 12))
    truth = draw_from(st.lists(st.integers(0, 2), min_size=lesions, max_size=lesions))
    cells = st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.6, 1.0]), min_size=3, max_size=3)
    prob = draw_from(st.lists(cells, min_size=lesions, max_size=lesions))
    return np.array(truth), np.array(prob)


@settings(max_examples=60, deadline=None)
@given(predictions())
def test_values_stay_in_range_and_equal_the_official_scorers(pair):
    truth, prob = pair
    ours = metrics.summary(truth, prob)
    for name, value in ours.items():
        if name not in ("nll", "brier") and not np.isnan(value):
            assert -1e-9 <= value <= 1 + 1e-9
    for k in range(3):
        expected = official_category(truth, prob, k)
        if expected is not None:
            table = class_table(truth, prob, classes=range(3))
            for theirs, name in OFFICIAL.items():
                assert table.loc[name, k] == pytest.approx(expected[theirs], abs=1e-9, nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(predictions(), st.randoms(use_true_random=False))
def test_order_of_lesions_does_not_matter(pair, random):
    truth, prob = pair
    order = list(range(len(truth)))
    random.shuffle(order)
    before, after = metrics.summary(truth, prob), metrics.summary(truth[order], prob[order])
    assert after == pytest.approx(before, nan_ok=True)

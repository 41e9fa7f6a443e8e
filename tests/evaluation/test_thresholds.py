"""Cuts moved to 0.5: the mapping, the fit, its shrinkage, and the honest estimate of its gain."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, roc_auc_score

from jiadf.data.schema import CLASSES
from jiadf.evaluation.metrics import per_class, summary
from jiadf.evaluation.thresholds import (
    ThresholdError,
    Thresholds,
    best_threshold,
    choose_strength,
    common_threshold,
    crossfitted,
    f1_curve,
    fit_thresholds,
    load_thresholds,
)

PROBABILITY = st.floats(0, 1)
CUT = st.floats(1e-3, 1 - 1e-3)


def macro_f1_at_half(truth, prob):
    return summary(truth, prob, curves=False)["macro_f1_at_half"]


def drawn(n=400, seed=0, sharpness=1.0):
    """Labels of unequal frequency, and probabilities that know something about them."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(11, n, p=np.array([30, 8, 6, 4, 3, 3, 2, 2, 1, 1, 1]) / 61)
    logits = rng.normal(size=(n, 11)) + 1.5 * sharpness * np.eye(11)[truth]
    prob = np.exp(logits)
    return truth, prob / prob.sum(1, keepdims=True), np.arange(n) % 4


@given(a=PROBABILITY, b=PROBABILITY, cut=CUT)
def test_the_mapping_rises_from_0_to_1_and_crosses_half_at_the_cut(a, b, cut):
    cuts = Thresholds((cut,))
    low, high = cuts.apply([[min(a, b)], [max(a, b)]])[:, 0]
    assert 0 <= low <= high <= 1
    ends = cuts.apply([[0.0], [cut], [1.0]])[:, 0]
    np.testing.assert_allclose(ends, [0, 0.5, 1], atol=1e-12)


def test_the_mapping_is_the_shift_of_the_logit():
    p, t = np.array([[0.02, 0.4, 0.97]]), (0.1, 0.3, 0.8)
    shifted = np.log(p / (1 - p)) - np.log(np.array(t) / (1 - np.array(t)))
    np.testing.assert_allclose(Thresholds(t).apply(p), 1 / (1 + np.exp(-shifted)))


def test_the_ranking_within_a_class_is_untouched():
    truth, prob, _ = drawn()
    mapped = fit_thresholds(truth, prob, 20).apply(prob)
    rows = ["AUC", "AUC at sensitivity > 80 %", "average precision"]
    before, after = per_class(truth, prob), per_class(truth, mapped)
    for row in rows:
        np.testing.assert_allclose(before[row], after[row], atol=1e-12)
    assert (np.argsort(prob, 0, kind="stable") == np.argsort(mapped, 0, kind="stable")).all()


def test_calling_above_half_after_is_calling_above_the_cut_before():
    truth, prob, _ = drawn()
    cuts = fit_thresholds(truth, prob, 0)
    np.testing.assert_array_equal(cuts.apply(prob) > 0.5, prob > np.array(cuts.values))


def test_the_curve_agrees_with_scikit_learn_at_every_cut_and_misses_none():
    rng = np.random.default_rng(3)
    positive, scores = rng.random(60) < 0.3, rng.integers(1, 20, 60) / 20  # with ties
    cuts, f1 = f1_curve(positive, scores)
    assert len(cuts) == len(set(scores)) + 1
    told = [f1_score(positive, scores > cut, zero_division=0) for cut in cuts]
    np.testing.assert_allclose(f1, told)
    fine = [f1_score(positive, scores > c, zero_division=0) for c in np.linspace(0, 1, 997)]
    assert best_threshold(positive, scores, 0.5) in cuts
    assert f1.max() == pytest.approx(max(fine))


def test_without_shrinkage_each_class_has_its_best_f1():
    truth, prob, _ = drawn()
    cuts = fit_thresholds(truth, prob, 0)
    for k in range(11):
        reached = f1_score(truth == k, prob[:, k] > cuts.values[k], zero_division=0)
        assert reached == pytest.approx(f1_curve(truth == k, prob[:, k])[1].max())


def test_shrinkage_goes_from_own_cuts_to_the_common_one_and_rare_classes_go_first():
    truth, prob, _ = drawn()
    logit = lambda values: np.log(np.array(values) / (1 - np.array(values)))  # noqa: E731
    own, common = fit_thresholds(truth, prob, 0).values, common_threshold(truth, prob)
    np.testing.assert_allclose(fit_thresholds(truth, prob, np.inf).values, common)
    half = logit(fit_thresholds(truth, prob, 10).values)
    counts = np.bincount(truth, minlength=11)
    kept = (half - logit(common)) / (logit(own) - logit(common))
    np.testing.assert_allclose(kept, counts / (counts + 10))


def test_a_class_that_never_occurs_gets_the_common_threshold():
    truth, prob, _ = drawn()
    here = truth != 10
    cuts = fit_thresholds(truth[here], prob[here], 0)
    assert cuts.values[10] == pytest.approx(common_threshold(truth[here], prob[here]))
    assert cuts.lesions[10] == 0


def test_one_lesion_and_equal_scores_can_be_fitted():
    one = fit_thresholds(np.array([3]), np.full((1, 11), 1 / 11), 0)
    assert all(0 < value < 1 for value in one.values)
    sure = fit_thresholds(np.array([0, 1]), np.eye(11)[:2], 0)
    np.testing.assert_array_equal(sure.apply(np.eye(11)[:2]) > 0.5, np.eye(11)[:2] > 0.5)


def test_what_a_fold_is_mapped_with_does_not_depend_on_its_labels():
    truth, prob, folds = drawn()
    changed = np.where(folds == 2, (truth + 1) % 11, truth)
    alone, other = (crossfitted(labels, prob, folds, [10])[0] for labels in (truth, changed))
    np.testing.assert_array_equal(alone[folds == 2], other[folds == 2])


def test_noise_gains_nothing_in_nested_folds_though_it_seems_to_in_sample():
    rng = np.random.default_rng(7)
    gains = []
    for _ in range(5):
        truth = rng.choice(11, 300)
        prob = rng.dirichlet(np.ones(11), 300)
        folds = np.arange(300) % 5
        nested = crossfitted(truth, prob, folds, [0.0])[0]
        seeming = fit_thresholds(truth, prob, 0).apply(prob)
        gains.append([macro_f1_at_half(truth, p) for p in (nested, seeming)])
    nested, seeming = np.mean(gains, 0)
    assert seeming > nested + 0.02


def test_strength_is_chosen_by_the_cross_fitted_score():
    truth, prob, folds = drawn()
    strengths = (0.0, 30.0, np.inf)
    scores = [macro_f1_at_half(truth, p) for p in crossfitted(truth, prob, folds, strengths)]
    assert choose_strength(truth, prob, folds, strengths) == strengths[int(np.argmax(scores))]
    assert choose_strength(truth, prob, folds, (30.0,)) == 30


@pytest.mark.parametrize("strength", [3.5, 0.0, np.inf])
def test_saved_thresholds_are_read_back(tmp_path, strength):
    truth, prob, _ = drawn()
    made = fit_thresholds(truth, prob, strength, {"runs": 3})
    path = made.save(tmp_path / "new" / "t.json")
    assert "Infinity" not in path.read_text()
    assert load_thresholds(path) == made
    (tmp_path / "bare.json").write_text(
        json.dumps({"values": dict(zip(CLASSES, made.values, strict=True))})
    )
    assert load_thresholds(tmp_path / "bare.json").values == made.values


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "not readable as JSON"),
        ("[]", "'values'"),
        ('{"values": 3}', "'values'"),
        ('{"values": {"AKIEC": 0.2, "X": 1}}', "no threshold for BCC"),
        ('{"values": {"AKIEC": 0.2, "X": 1}}', "unknown class 'X'"),
        ('{"values": {"AKIEC": 0}}', "AKIEC is 0, not a number between 0 and 1"),
        ('{"values": {"AKIEC": "a"}}', "AKIEC is 'a'"),
        ('{"values": {"AKIEC": true}}', "AKIEC is True"),
    ],
)
def test_a_broken_file_is_refused_with_all_that_is_wrong(tmp_path, text, told):
    path = tmp_path / "t.json"
    path.write_text(text)
    with pytest.raises(ThresholdError) as caught:
        load_thresholds(path)
    assert told in str(caught.value)
    assert "jiadf thresholds" in str(caught.value)


def test_what_cannot_be_fitted_or_mapped_is_refused(tmp_path):
    truth, prob, folds = drawn()
    with pytest.raises(ThresholdError, match="no such file"):
        load_thresholds(tmp_path / "none.json")
    with pytest.raises(ValueError, match="strength is -1"):
        fit_thresholds(truth, prob, -1)
    with pytest.raises(ThresholdError, match="shape"):
        Thresholds((0.5, 0.5)).apply(prob)
    with pytest.raises(ThresholdError, match="between 0 and 1"):
        Thresholds((0.5, 1.0))
    with pytest.raises(ValueError, match="two folds"):
        crossfitted(truth, prob, np.zeros_like(folds), [0])


def test_a_moved_class_scores_where_the_benchmark_gave_nothing():
    """A class that never gets more than 0.5, though it ranks perfectly."""
    truth = np.repeat([0, 1], [40, 10])
    rare = np.where(truth == 1, 0.3, 0.1) + np.linspace(0, 0.05, 50)
    prob = np.stack([1 - rare, rare], 1)
    assert roc_auc_score(truth, rare) == 1
    assert f1_score(truth, prob[:, 1] > 0.5, zero_division=0) == 0
    mapped = crossfitted(truth, prob, np.arange(50) % 5, [5])[0]
    assert f1_score(truth, mapped[:, 1] > 0.5) == 1

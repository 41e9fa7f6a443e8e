"""Paired comparisons against slow transcriptions and scipy, their calibration, and the words."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from jiadf.evaluation import metrics, weighted
from jiadf.evaluation.metrics import SUMMARY_METRICS
from jiadf.evaluation.paired_tests import (
    COMPARISON_COLUMNS,
    compare_all,
    compare_paired,
    compare_pairs,
    holm,
    score_all,
)
from jiadf.paper import claims
from jiadf.verdicts import METRIC_NAMES, decimals, judge_claims, sentence, verdict


def labels(rng, lesions, classes):
    return np.concatenate([np.arange(classes), rng.integers(0, classes, lesions - classes)])


def predict(rng, truth, classes, skill):
    logits = rng.normal(size=(len(truth), classes))
    logits[np.arange(len(truth)), truth] += skill
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


@pytest.fixture(scope="module")
def small():
    """Two systems of two seeds on 60 lesions of 4 classes."""
    rng = np.random.default_rng(0)
    truth = labels(rng, 60, 4)
    a, b = ([predict(rng, truth, 4, skill) for _ in range(2)] for skill in (1.5, 1.0))
    return truth, a, b


def mean_summary(truth, seeds):
    return pd.DataFrame([metrics.summary(truth, prob) for prob in seeds]).mean()


def test_differences_and_intervals_equal_a_slow_transcription(small):
    truth, a, b = small
    table = compare_paired(truth, a, b, n=12, seed=3).set_index("metric")
    assert tuple(table.index) == SUMMARY_METRICS
    expected = mean_summary(truth, a) - mean_summary(truth, b)
    np.testing.assert_allclose(table["difference"], expected[table.index], atol=1e-12)
    draws = []
    for weights in weighted.stratified_weights(truth, 12, seed=3).astype(int):
        rows = np.repeat(np.arange(len(truth)), weights)
        draws.append(
            mean_summary(truth[rows], [p[rows] for p in a])
            - mean_summary(truth[rows], [p[rows] for p in b])
        )
    low, high = np.quantile(pd.DataFrame(draws)[table.index], [0.025, 0.975], axis=0)
    np.testing.assert_allclose(table["low"], low, atol=1e-12)
    np.testing.assert_allclose(table["high"], high, atol=1e-12)


def test_p_values_equal_a_slow_transcription(small):
    """The exchanges are drawn again from the same stream: all seeds of a lesion go together."""
    truth, a, b = small
    table = compare_paired(truth, a, b, n=14, seed=5).set_index("metric")
    swaps = np.random.default_rng([5, 1]).integers(0, 2, (14, len(truth))).astype(bool)
    null = []
    for swap in swaps[:, :, None]:
        first = [np.where(swap, y, x) for x, y in zip(a, b, strict=True)]
        second = [np.where(swap, x, y) for x, y in zip(a, b, strict=True)]
        null.append(mean_summary(truth, first) - mean_summary(truth, second))
    null = pd.DataFrame(null)[table.index].to_numpy()
    as_large = np.abs(null) >= table["difference"].abs().to_numpy() - 1e-10
    np.testing.assert_allclose(table["p"], (1 + as_large.sum(0)) / 15)
    assert 1 / 15 <= table["p"].min() < table["p"].max() <= 1


def macro_auc(truth, prob):
    parts = [(prob[truth == k, k][:, None] > prob[truth != k, k]).mean() for k in range(3)]
    return np.mean(parts)


def macro_f1_at_half(truth, prob):
    present = truth[:, None] == np.arange(3)
    called = prob > 0.5
    return np.mean(2 * (present & called).sum(0) / (present.sum(0) + called.sum(0)))


def nll(truth, prob):
    return -np.log(prob[np.arange(len(truth)), truth]).mean()


@pytest.mark.parametrize("metric", [macro_auc, macro_f1_at_half, nll])
def test_p_value_approaches_the_exact_test_of_scipy(metric):
    rng = np.random.default_rng(1)
    truth = np.array([0, 1, 0, 1, 2, 2, 0, 1])
    a, b = predict(rng, truth, 3, 2.0), predict(rng, truth, 3, 0.5)
    both = np.concatenate([a, b])

    def difference(first, second):
        first, second = both[first.astype(int)], both[second.astype(int)]
        return metric(truth, first) - metric(truth, second)

    exact = scipy_stats.permutation_test(
        (np.arange(8), np.arange(8, 16)), difference, permutation_type="samples", n_resamples=np.inf
    )
    ours = compare_paired(truth, a, b, [metric.__name__], n=4000).iloc[0]
    assert ours["difference"] == pytest.approx(exact.statistic)
    assert ours["p"] == pytest.approx(exact.pvalue, abs=0.03)


def test_p_values_are_uniform_where_there_is_no_difference():
    names = ["macro_auc", "macro_f1", "nll"]
    p_values = {name: [] for name in names}
    for trial in range(300):
        rng = np.random.default_rng(trial)
        truth = labels(rng, 40, 3)
        ease = rng.normal(1.0, 1.0, size=40)  # hard for one is hard for the other
        a, b = (predict(rng, truth, 3, ease) for _ in range(2))
        table = compare_paired(truth, a, b, names, n=99, seed=trial)
        for name, p in zip(table["metric"], table["p"], strict=True):
            p_values[name].append(p)
    for name in names:
        for alpha in (0.05, 0.2, 0.5):
            share = np.mean(np.array(p_values[name]) <= alpha)
            error = 3.5 * np.sqrt(alpha * (1 - alpha) / 300)
            assert share <= alpha + error, (name, alpha)
            assert share >= alpha - error - (0.1 if name == "macro_f1" else 0), name  # has ties


def test_an_obvious_difference_is_found_and_none_is_not():
    rng = np.random.default_rng(2)
    truth = labels(rng, 300, 11)
    good, poor = predict(rng, truth, 11, 3.0), predict(rng, truth, 11, 0.5)
    table = compare_paired(truth, good, poor, ["macro_auc", "nll"], n=199).set_index("metric")
    assert (table["p"] == 1 / 200).all()
    assert table.loc["macro_auc", "low"] > 0
    assert table.loc["nll", "high"] < 0
    same = compare_paired(truth, good, good, n=50)
    assert (same[["difference", "low", "high"]] == 0).all(axis=None)
    assert (same["p"] == 1).all()


def test_comparing_the_other_way_round_turns_every_sign(small):
    truth, a, b = small
    there, back = compare_paired(truth, a, b, n=60), compare_paired(truth, b, a, n=60)
    np.testing.assert_allclose(there["difference"], -back["difference"])
    np.testing.assert_allclose(there["low"], -back["high"], atol=1e-12)
    np.testing.assert_array_equal(there["p"], back["p"])


def test_seeds_are_averaged_and_their_order_within_a_system_is_free_for_the_interval(small):
    truth, a, b = small
    names = ["macro_auc", "brier"]
    once = compare_paired(truth, a[0], b[0], names, n=40)
    pd.testing.assert_frame_equal(once, compare_paired(truth, a[:1] * 3, b[:1] * 3, names, n=40))
    pd.testing.assert_frame_equal(once, compare_paired(truth, np.stack(a[:1]), b[:1], names, n=40))
    columns = ["difference", "low", "high"]
    straight = compare_paired(truth, a, b, names, n=40)[columns]
    pd.testing.assert_frame_equal(straight, compare_paired(truth, a[::-1], b, names, n=40)[columns])


def test_what_cannot_be_compared_is_refused(small):
    truth, a, b = small
    with pytest.raises(ValueError, match="a 2 x 4, b 1 x 4"):
        compare_paired(truth, a, b[:1])
    with pytest.raises(ValueError, match=r"'b', seed 1.*NaN"):
        compare_paired(truth, a, [b[0], np.full_like(b[1], np.nan)])
    with pytest.raises(ValueError, match="no predictions"):
        compare_paired(truth, a, [])
    with pytest.raises(ValueError, match="no metric"):
        compare_paired(truth, a, b, ["macro_f2"])
    with pytest.raises(ValueError, match="level"):
        compare_paired(truth, a, b, level=95)
    with pytest.raises(ValueError, match="no predictions of z; there are a"):
        compare_all(truth, {"a": a}, "z")
    with pytest.raises(ValueError, match="no predictions of z; there are a"):
        compare_pairs(truth, {"a": a}, [("a", "z")])
    with pytest.raises(ValueError, match="no pairs"):
        compare_all(truth, {"a": a}, "a")


@pytest.mark.filterwarnings("error")
def test_absent_and_single_classes_give_no_nonsense():
    rng = np.random.default_rng(4)
    truth = np.array([0, 0, 0, 1, 1, 3])  # 2 is absent, 3 occurs once
    a, b = predict(rng, truth, 4, 1.0), predict(rng, truth, 4, 1.0)
    table = compare_paired(truth, a, b, n=20)
    assert table.notna().all(axis=None)
    assert (table["low"] <= table["high"]).all()
    table = compare_pairs(np.zeros(6, int), {"a": a, "b": b}, [("a", "b")], n=20)
    table = table.set_index("metric")
    assert table.loc["macro_auc", ["difference", "low", "high", "p", "p_holm"]].isna().all()
    assert table.loc["nll"].notna().all()
    assert verdict(table.reset_index(), "a", "b", "macro_auc") == "cannot be told apart"


def test_holm_equals_values_by_hand():
    # Smallest first: 0.01 x 4, 0.013 x 3 = 0.039 raised to 0.04, 0.04 x 2 = 0.08, 0.05 to 0.08.
    np.testing.assert_allclose(holm([0.04, 0.01, 0.05, 0.013]), [0.08, 0.04, 0.08, 0.04])
    np.testing.assert_allclose(holm([0.6, 0.7]), [1, 1])
    np.testing.assert_allclose(holm([0.02, np.nan, 0.03]), [0.04, np.nan, 0.04])
    assert len(holm([])) == 0
    with pytest.raises(ValueError, match="within"):
        holm([0.5, 1.2])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_the_p_value_and_bonferroni_and_rejects_as_the_steps_do(p_values):
    p_values = np.array(p_values)
    adjusted = holm(p_values)
    assert (adjusted >= p_values).all()
    assert (adjusted <= np.minimum(p_values * len(p_values), 1)).all()
    rejected = np.zeros(len(p_values), bool)
    for step, index in enumerate(np.argsort(p_values, kind="stable")):
        if p_values[index] * (len(p_values) - step) >= 0.05:
            break
        rejected[index] = True
    np.testing.assert_array_equal(adjusted < 0.05, rejected)


def test_compare_all_adjusts_over_the_systems_within_a_metric(small):
    truth, a, b = small
    rng = np.random.default_rng(9)
    systems = {"a": a, "b": b, "c": [predict(rng, truth, 4, 0.7) for _ in range(2)]}
    table = compare_all(truth, systems, "b", ["macro_auc", "nll"], n=99, seed=1)
    assert tuple(table.columns) == COMPARISON_COLUMNS
    assert list(table["system"]) == ["a", "a", "c", "c"]
    assert set(table["reference"]) == {"b"}
    for metric, rows in table.groupby("metric"):
        np.testing.assert_allclose(rows["p_holm"], holm(rows["p"]), err_msg=metric)
    alone = compare_paired(truth, a, b, ["macro_auc", "nll"], n=99, seed=1)
    kept = list(alone.columns)
    pd.testing.assert_frame_equal(alone, table[table["system"] == "a"][kept])


def comparison(*rows):
    """A table of rows (system, reference, metric, difference, low, high, p_holm)."""
    columns = ["system", "reference", "metric", "difference", "low", "high", "p_holm"]
    return pd.DataFrame(rows, columns=columns)


TABLE = comparison(
    ("C", "CDM", "macro_auc", -0.0712, -0.1034, -0.0391, 0.004),
    ("CD", "CDM", "macro_auc", 0.0123, -0.0123, 0.0345, 0.7),
    ("M", "CDM", "macro_auc", 0.0212, 0.0191, 0.0234, 0.01),
    ("C", "CDM", "nll", 0.3, 0.1, 0.5, 0.004),
)


def test_verdict_needs_significance_and_the_right_direction():
    assert verdict(TABLE, "CDM", "C", "macro_auc") == "holds"
    assert verdict(TABLE, "C", "CDM", "macro_auc") == "does not hold"
    assert verdict(TABLE, "M", "CDM", "macro_auc") == "holds"
    assert verdict(TABLE, "M", "CDM", "macro_auc", alpha=0.005) == "cannot be told apart"
    assert verdict(TABLE, "CDM", "CD", "macro_auc") == "cannot be told apart"
    assert verdict(TABLE, "CDM", "C", "nll") == "holds"  # less is better
    with pytest.raises(ValueError, match="not compared"):
        verdict(TABLE, "C", "M", "macro_auc")


def test_sentence_says_what_stands_with_the_decimals_its_interval_allows():
    assert sentence(TABLE, "macro_auc") == (
        "Macro AUC: C is below CDM by 0.07 (95 % interval 0.04 to 0.10) and M is above CDM by "
        "0.021 (95 % interval 0.019 to 0.023) (paired permutation test, Holm-adjusted over 3 "
        "comparisons, p < 0.05). CD cannot be told apart from CDM at this sample size."
    )
    assert sentence(TABLE, "nll") == (
        "Negative log-likelihood: C is above CDM by 0.3 (95 % interval 0.1 to 0.5) "
        "(paired permutation test, p < 0.05)."
    )
    none = TABLE.assign(p_holm=[0.2, 0.7, np.nan, 1], reference=["CDM", "CDM", "D", "CDM"])
    assert sentence(none, "macro_auc") == (
        "Macro AUC: C and CD cannot be told apart from CDM and M cannot be told apart from D at "
        "this sample size (paired permutation test, Holm-adjusted over 3 comparisons, p ≥ 0.05)."
    )
    with pytest.raises(ValueError, match="there are macro_auc, nll"):
        sentence(TABLE, "brier")


def test_sentence_shows_an_interval_beyond_zero_with_its_sign():
    table = comparison(("a", "b", "macro_f1", -0.05, -0.11, 0.012, 0.04))
    assert "below b by 0.05 (95 % interval −0.01 to 0.11)" in sentence(table, "macro_f1")
    table = comparison(("a", "b", "macro_f1", 0.05, -0.001, 0.11, 0.04))
    assert "above b by 0.05 (95 % interval 0.00 to 0.11)" in sentence(table, "macro_f1")


@pytest.mark.parametrize(
    ("half", "expected"), [(30, 0), (0.3, 1), (0.04, 2), (0.004, 3), (0.0004, 3), (0, 3)]
)
def test_decimals_follow_half_the_width(half, expected):
    assert decimals(-half, half) == expected


def test_every_metric_has_a_name():
    assert set(METRIC_NAMES) == set(SUMMARY_METRICS)


def test_judge_claims_adjusts_for_the_claims_made(small):
    truth, a, b = small
    rng = np.random.default_rng(5)
    systems = {"skip": b, "attention": a, "both": [predict(rng, truth, 4, 4.0)] * 2}
    made = claims("Table 3")
    made = pd.concat([made, made.tail(1).assign(metric="macro_auc")], ignore_index=True)
    judged = judge_claims(made, truth, systems, n=199)
    pd.testing.assert_frame_equal(judged[list(made.columns)], made)
    of_dice = judged[judged["metric"] == "mean_dice"]
    np.testing.assert_allclose(of_dice["p_holm"], holm(of_dice["p"]))
    only = judged[judged["metric"] == "macro_auc"]  # claimed of one pair: nothing to adjust for
    np.testing.assert_allclose(only["p_holm"], only["p"])
    assert set(judged["verdict"]) == {"holds"}
    with pytest.raises(ValueError, match="no predictions of both"):
        judge_claims(made, truth, {"skip": b, "attention": a})


def test_leaving_the_curves_out_changes_no_other_metric():
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 11, 60)
    a, b = rng.dirichlet(np.ones(11), 60), rng.dirichlet(np.ones(11), 60)
    few = compare_paired(truth, a, b, ["macro_f1_at_half", "nll"], n=50)
    many = compare_paired(truth, a, b, n=50).set_index("metric").loc[few["metric"]].reset_index()
    assert few.equals(many[few.columns])


def test_a_sentence_counts_many_systems_and_names_few():
    rows = [(f"s{i}", "a", "macro_f1", 0.0, -0.1, 0.1, 1.0) for i in range(8)]
    told = sentence(comparison(*rows), "macro_f1")
    assert "none of the 8 other systems can be told apart from a" in told
    rows.append(("worse", "a", "macro_f1", -0.2, -0.3, -0.1, 0.001))
    told = sentence(comparison(*rows), "macro_f1")
    assert "worse is below a by 0.2" in told
    assert "The 8 other systems cannot be told apart from a" in told


def test_scores_are_means_over_seeds_with_the_interval_of_the_mean(small):
    truth, a, b = small
    names = ["macro_f1", "nll", "macro_auc"]
    table = score_all(truth, {"a": a, "b": b}, names, n=200).set_index(["system", "metric"])
    for name, seeds in {"a": a, "b": b}.items():
        for metric in names:
            row, each = (
                table.loc[(name, metric)],
                [metrics.summary(truth, p)[metric] for p in seeds],
            )
            assert row["value"] == pytest.approx(np.mean(each))
            assert row["sd"] == pytest.approx(np.std(each, ddof=1))
            assert row["low"] < row["value"] < row["high"]
    weights = weighted.stratified_weights(truth, 200, 0)
    draws = np.mean([weighted.summary(truth, prob, weights)["nll"] for prob in a], axis=0)
    both = table.loc[("a", "nll"), ["low", "high"]].tolist()
    np.testing.assert_allclose(both, np.quantile(draws, [0.025, 0.975]))
    alone = score_all(truth, {"a": a[:1]}, ["nll"], n=10).iloc[0]
    assert np.isnan(alone["sd"])
    assert (alone["seeds"], alone["lesions"]) == (1, 60)

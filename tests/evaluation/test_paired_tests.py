"""Paired comparisons against slow transcriptions and scipy, and their calibration."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from jiadf.evaluation import metrics
from jiadf.evaluation.bootstrap import paired_bootstrap, stratified_weights
from jiadf.evaluation.metrics import SUMMARY_METRICS
from jiadf.evaluation.paired_tests import (
    compare_all,
    compare_pairs,
    holm,
)


def labels(rng, lesions, classes):
    return np.concatenate([np.arange(classes), rng.integers(0, classes, lesions - classes)])


def predict(rng, truth, classes, skill):
    logits = rng.normal(size=(len(truth), classes))
    logits[np.arange(len(truth)), truth] += skill
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def compare_paired(truth, a, b, names=SUMMARY_METRICS, **options):
    """Compare one pair."""
    table = compare_pairs(truth, {"a": a, "b": b}, [("a", "b")], names, **options)
    return table.drop(columns=["system", "reference", "p_holm"])


@pytest.fixture(scope="module")
def small():
    """Two systems on 60 lesions of 4 classes."""
    rng = np.random.default_rng(0)
    truth = labels(rng, 60, 4)
    return truth, predict(rng, truth, 4, 1.5), predict(rng, truth, 4, 1.0)


def difference(truth, a, b):
    return pd.Series(metrics.summary(truth, a)) - pd.Series(metrics.summary(truth, b))


def test_differences_and_intervals_equal_a_slow_transcription(small):
    truth, a, b = small
    table = compare_paired(truth, a, b, n=12, seed=3).set_index("metric")
    assert tuple(table.index) == SUMMARY_METRICS
    np.testing.assert_allclose(table["difference"], difference(truth, a, b), atol=1e-12)
    draws = []
    for weights in stratified_weights(truth, 12, seed=3).astype(int):
        rows = np.repeat(np.arange(len(truth)), weights)
        draws.append(difference(truth[rows], a[rows], b[rows]))
    draws = pd.DataFrame(draws)
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    np.testing.assert_allclose(table["low"], low, atol=1e-12)
    np.testing.assert_allclose(table["high"], high, atol=1e-12)
    by_hand = paired_bootstrap(table.loc["nll", "difference"], draws["nll"].to_numpy())
    assert (by_hand["low"], by_hand["high"]) == pytest.approx(
        tuple(table.loc["nll", ["low", "high"]])
    )


def test_bootstrap_p_value_counts_shifted_draws_as_large_as_the_difference():
    draws = np.array([1.0, 2.0, 3.0, 4.0])  # shifted: -1.5, -0.5, 0.5, 1.5
    assert paired_bootstrap(1.5, draws)["p"] == 3 / 5
    assert paired_bootstrap(-1.6, draws)["p"] == 1 / 5
    assert np.isnan(paired_bootstrap(np.nan, draws)["p"])


def test_p_values_equal_a_slow_transcription(small):
    """The exchanges are drawn again from the same stream."""
    truth, a, b = small
    table = compare_paired(truth, a, b, n=14, seed=5).set_index("metric")
    swaps = np.random.default_rng([5, 1]).integers(0, 2, (14, len(truth))).astype(bool)
    null = []
    for swap in swaps[:, :, None]:
        null.append(difference(truth, np.where(swap, b, a), np.where(swap, a, b)))
    null = pd.DataFrame(null).to_numpy()
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

    def statistic(first, second):
        first, second = both[first.astype(int)], both[second.astype(int)]
        return metric(truth, first) - metric(truth, second)

    exact = scipy_stats.permutation_test(
        (np.arange(8), np.arange(8, 16)), statistic, permutation_type="samples", n_resamples=np.inf
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


@pytest.mark.filterwarnings("error")
def test_absent_and_single_classes_give_no_nonsense():
    rng = np.random.default_rng(4)
    truth = np.array([0, 0, 0, 1, 1, 3])  # 2 is absent, 3 occurs once
    a, b = predict(rng, truth, 4, 1.0), predict(rng, truth, 4, 1.0)
    table = compare_paired(truth, a, b, n=20)
    assert table.notna().all(axis=None)
    assert (table["low"] <= table["high"]).all()
    table = compare_pairs(np.zeros(6, int), {"a": a, "b": b}, [("a", "b")], SUMMARY_METRICS, n=20)
    table = table.set_index("metric")
    assert table.loc["macro_auc", ["difference", "low", "high", "p", "p_holm"]].isna().all()
    assert table.loc["nll"].notna().all()


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


def test_leaving_the_curves_out_changes_no_other_metric():
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 11, 60)
    a, b = rng.dirichlet(np.ones(11), 60), rng.dirichlet(np.ones(11), 60)
    few = compare_paired(truth, a, b, ["macro_f1_at_half", "nll"], n=50)
    many = compare_paired(truth, a, b, n=50).set_index("metric").loc[few["metric"]].reset_index()
    assert few.equals(many[few.columns])


def test_what_cannot_be_compared_is_refused(small):
    truth, a, b = small
    with pytest.raises(ValueError, match=r"system 'b': .*NaN"):
        compare_paired(truth, a, np.full_like(b, np.nan))
    with pytest.raises(ValueError, match="no metric"):
        compare_paired(truth, a, b, ["macro_f2"])
    with pytest.raises(ValueError, match="no predictions of z; there are a"):
        compare_all(truth, {"a": a}, "z", ["nll"])
    with pytest.raises(ValueError, match="no pairs"):
        compare_all(truth, {"a": a}, "a", ["nll"])
    with pytest.raises(ValueError, match="one weighting"):
        compare_paired(truth, a, b, sample_weight=np.ones((2, len(truth))))


def test_compare_all_adjusts_over_the_systems_within_a_metric(small):
    truth, a, b = small
    systems = {"a": a, "b": b, "c": predict(np.random.default_rng(9), truth, 4, 0.7)}
    table = compare_all(truth, systems, "b", ["macro_auc", "nll"], n=99, seed=1)
    assert list(table["system"]) == ["a", "a", "c", "c"]
    assert set(table["reference"]) == {"b"}
    for metric, rows in table.groupby("metric"):
        np.testing.assert_allclose(rows["p_holm"], holm(rows["p"]), err_msg=metric)
    alone = compare_paired(truth, a, b, ["macro_auc", "nll"], n=99, seed=1)
    kept = list(alone.columns)
    pd.testing.assert_frame_equal(alone, table[table["system"] == "a"][kept])


def test_weights_of_lesions_are_repetitions_of_them(small):
    truth, a, b = small
    weights = np.random.default_rng(3).integers(1, 4, len(truth))
    rows = np.repeat(np.arange(len(truth)), weights)
    names = ["macro_ap", "nll"]
    weighted = compare_paired(truth, a, b, names, n=9, sample_weight=weights)
    repeated = compare_paired(truth[rows], a[rows], b[rows], names, n=9)
    np.testing.assert_allclose(weighted["difference"], repeated["difference"], atol=1e-12)
    ones = compare_paired(truth, a, b, names, n=9, sample_weight=np.ones(len(truth)))
    pd.testing.assert_frame_equal(ones, compare_paired(truth, a, b, names, n=9))

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from jiadf.evaluation import metrics
from jiadf.evaluation.bootstrap import stratified_weights
from jiadf.evaluation.calibration import (
    binned_gap,
    confidence_bins,
    error_draws,
    error_intervals,
    expected_calibration_error,
    paired_differences,
    reliability_bands,
    simulated_ece,
    weighted_errors,
)


def predictions(n, seed=0, sharpness=1.0, classes=4):
    """Perfectly calibrated predictions at a sharpness of 1, over-confident above."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.2, (n, classes))
    honest = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    truth = (honest.cumsum(1) < rng.random((n, 1))).sum(1)
    stated = np.exp(sharpness * logits)
    return truth, stated / stated.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def some():
    return predictions(400, sharpness=1.8)


def test_unweighted_errors_are_those_of_metrics(some):
    truth, prob = some
    errors = weighted_errors(truth, prob, np.ones((1, len(truth))))
    known = metrics.summary(truth, prob)
    for name in ("ece", "nll", "brier"):
        assert errors[name][0] == pytest.approx(known[name])
    mass = expected_calibration_error(truth, prob, scheme="mass")
    assert errors["ece_mass"][0] == pytest.approx(mass)
    gap = prob.max(1).mean() - (prob.argmax(1) == truth).mean()
    assert errors["overconfidence"][0] == pytest.approx(gap)


def test_squared_errors_against_a_slow_transcription(some):
    truth, prob = some
    errors = weighted_errors(truth, prob, np.ones((1, len(truth))), bins=7)
    edges, _ = confidence_bins(prob.max(1), 7, "mass")
    excess = prob.max(1) - (prob.argmax(1) == truth)
    plain = debiased = 0.0
    for place, (lower, upper) in enumerate(pairwise(edges)):
        confidence = prob.max(1)
        member = (confidence > lower) & (confidence <= upper)
        if place == 0:
            member |= confidence == lower
        inside = excess[member]
        assert 55 <= len(inside) <= 60
        plain += len(inside) * inside.mean() ** 2
        debiased += len(inside) * (inside.mean() ** 2 - inside.var(ddof=1) / len(inside))
    assert errors["squared"][0] == pytest.approx(plain / len(truth))
    assert errors["squared_debiased"][0] == pytest.approx(debiased / len(truth))


def test_classwise_error_against_a_slow_transcription(some):
    truth, prob = some
    errors = weighted_errors(truth, prob, np.ones((1, len(truth))), bins=5)
    total = 0.0
    for k in range(prob.shape[1]):
        for b in range(5):
            member = (prob[:, k] > b / 5) & (prob[:, k] <= (b + 1) / 5)
            if member.any():
                gap = prob[member, k].mean() - (truth[member] == k).mean()
                total += member.mean() * abs(gap)
    assert errors["classwise_ece"][0] == pytest.approx(total / prob.shape[1])


def test_a_weight_is_a_number_of_lesions(some):
    truth, prob = (part[:60] for part in some)
    weights = np.random.default_rng(1).integers(0, 4, (1, 60))
    twice = np.repeat(np.arange(60), weights[0])
    got = weighted_errors(truth, prob, weights, bins=3)
    expected = weighted_errors(truth[twice], prob[twice], np.ones((1, len(twice))), bins=3)
    for name in ("ece", "classwise_ece", "nll", "brier", "overconfidence"):
        assert got[name][0] == pytest.approx(expected[name][0]), name


def test_debiasing_removes_the_bias_that_plain_errors_have():
    draws = [weighted_errors(*predictions(200, seed), np.ones((1, 200))) for seed in range(150)]
    plain = np.mean([draw["squared"][0] for draw in draws])
    debiased = np.array([draw["squared_debiased"][0] for draw in draws])
    assert plain > 0.005
    assert abs(debiased.mean()) < 3 * debiased.std() / np.sqrt(len(draws)) + 1e-4


def test_the_debiased_interval_holds_the_truth_about_as_often_as_it_says():
    truth, prob = predictions(200_000, 5, sharpness=2.5)
    true = np.sqrt(weighted_errors(truth, prob, np.ones((1, len(truth))), bins=5)["squared"][0])
    hits = 0
    for seed in range(40):
        truth, prob = predictions(300, seed, sharpness=2.5)
        draws = error_draws(truth, [prob], stratified_weights(truth, 200, 0), bins=5)
        row = error_intervals(draws).set_index("metric").loc["rms_debiased"]
        hits += row["low"] <= true <= row["high"]
    assert hits >= 34  # of 40 at 95 %: fewer has a chance below one in a thousand


def test_intervals_and_differences_take_seeds_together(some):
    truth, prob = some
    weights = stratified_weights(truth, 50, 0)
    other = np.full_like(prob, 1 / prob.shape[1])
    both = error_draws(truth, [prob, other], weights)
    table = error_intervals(both).set_index("metric")
    nll = [metrics.summary(truth, p)["nll"] for p in (prob, other)]
    assert table.loc["nll", "value"] == pytest.approx(np.mean(nll))
    assert table.loc["nll", "sd"] == pytest.approx(np.std(nll, ddof=1))
    assert (table["low"] <= table["high"]).all()
    same = paired_differences(both, both)
    assert (same[["difference", "low", "high"]] == 0).all().all()
    single = error_draws(truth, [prob], weights)
    change = paired_differences(single, error_draws(truth, [other], weights)).set_index("metric")
    assert change.loc["nll", "difference"] == pytest.approx(nll[0] - nll[1])


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        (np.ones((1, 3)), "shape"),
        (np.zeros((1, 400)), "all zero"),
        (-np.ones((1, 400)), "non-negative"),
    ],
)
def test_weights_that_do_not_fit_are_refused(some, weights, told):
    with pytest.raises(ValueError, match=told):
        weighted_errors(*some, weights)


def test_one_lesion_and_a_bin_of_one():
    errors = weighted_errors([1], [[0.2, 0.8]], np.ones((1, 1)))
    assert errors["ece"][0] == pytest.approx(0.2)
    assert np.isnan(errors["squared_debiased"][0])  # one lesion has no variance


def test_simulation_knows_its_true_error():
    confidence = np.full(1000, 0.7)
    true_error, measured = simulated_ece(confidence, 5000, overconfidence=0.1, n=50)
    assert true_error == pytest.approx(0.1)
    assert measured.mean() == pytest.approx(0.1, abs=0.01)
    _, noise = simulated_ece(np.linspace(0.2, 1, 500), 100, n=200)
    _, less = simulated_ece(np.linspace(0.2, 1, 500), 10_000, n=20)
    assert noise.mean() > 3 * less.mean() > 0
    assert simulated_ece(confidence, 5, overconfidence=1.0, n=5)[1].min() == pytest.approx(0.7)
    with pytest.raises(ValueError, match="at least 1"):
        simulated_ece(confidence, 0)


@pytest.mark.parametrize("scheme", ["width", "mass"])
def test_binned_gap_is_the_ece(some, scheme):
    truth, prob = some
    got = binned_gap(prob.max(1), prob.argmax(1) == truth, 9, scheme)
    assert got == pytest.approx(expected_calibration_error(truth, prob, 9, scheme))


def test_bands_hold_the_accuracy_and_the_diagonal_of_a_calibrated_system():
    truth, prob = predictions(3000)
    weights = stratified_weights(truth, 200, 0)
    table = reliability_bands(truth, [prob], weights)
    right = pd.Series(prob.argmax(1) == truth, dtype=float)
    _, index = confidence_bins(prob.max(1))
    known = right.groupby(index).mean().reindex(range(15))
    np.testing.assert_allclose(table["accuracy"], known)
    full = table[table["count"] > 0]
    assert (full["low"] <= full["accuracy"]).all()
    assert (full["accuracy"] <= full["high"]).all()
    assert full["accuracy"].between(full["expected_low"], full["expected_high"]).mean() >= 0.8
    shy = reliability_bands(
        *[truth], [np.sqrt(prob) / np.sqrt(prob).sum(1, keepdims=True)], weights
    )
    shy = shy[shy["count"] > 50]
    assert (shy["accuracy"] > shy["expected_high"]).mean() > 0.5
    two = reliability_bands(truth, [prob, prob], weights)
    pd.testing.assert_frame_equal(two, table)

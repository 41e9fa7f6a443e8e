"""Calibration errors against slow transcriptions, and the bias that one of them is without."""

from itertools import pairwise

import numpy as np
import pytest

from jiadf.evaluation import metrics
from jiadf.evaluation.bootstrap import stratified_weights
from jiadf.evaluation.calibration import (
    classwise_ece,
    debiased_error,
    expected_calibration_error,
    pivotal_interval,
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


def slow_ece(confidence, right, bins):
    total = 0.0
    for low, high in pairwise(np.linspace(0, 1, bins + 1)):
        member = (confidence > low) & (confidence <= high)
        if member.any():
            gap = confidence[member].mean() - right[member].mean()
            total += member.mean() * abs(gap)
    return total


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_errors_equal_a_direct_transcription(some, bins):
    truth, prob = some
    expected = slow_ece(prob.max(1), prob.argmax(1) == truth, bins)
    assert expected_calibration_error(truth, prob, bins) == pytest.approx(expected)
    if bins == 15:
        assert metrics.summary(truth, prob)["ece"] == pytest.approx(expected)
    each = [slow_ece(prob[:, k], truth == k, bins) for k in range(prob.shape[1])]
    assert classwise_ece(truth, prob, bins) == pytest.approx(np.mean(each))


def test_a_weight_is_a_number_of_lesions(some):
    truth, prob = (part[:60] for part in some)
    weights = np.random.default_rng(1).integers(0, 4, (2, 60))
    got = expected_calibration_error(truth, prob, 3, weights)
    for error, weight in zip(got, weights, strict=True):
        rows = np.repeat(np.arange(60), weight)
        assert error == pytest.approx(expected_calibration_error(truth[rows], prob[rows], 3))


def test_debiased_error_equals_a_slow_transcription(some):
    truth, prob = some
    confidence = prob.max(1)
    edges = np.quantile(confidence, np.linspace(0, 1, 8))
    edges[0] = 0
    excess = confidence - (prob.argmax(1) == truth)
    squares = 0.0
    for low, high in pairwise(edges):
        inside = excess[(confidence > low) & (confidence <= high)]
        assert 55 <= len(inside) <= 60
        squares += len(inside) * (inside.mean() ** 2 - inside.var(ddof=1) / len(inside))
    assert debiased_error(truth, prob, 7) == pytest.approx(np.sqrt(squares / len(truth)))


def test_debiasing_removes_the_bias_that_a_plain_error_has():
    """Perfectly calibrated systems: the plain error is never near 0, the debiased one about half
    of the time exactly."""
    drawn = [predictions(200, seed) for seed in range(150)]
    assert min(expected_calibration_error(*one) for one in drawn) > 0.01
    assert 0.3 < np.mean([debiased_error(*one) == 0 for one in drawn]) < 0.7
    known = debiased_error(*predictions(200_000, 5, sharpness=2.5), bins=5)
    found = [debiased_error(*predictions(300, seed, sharpness=2.5), bins=5) for seed in range(60)]
    assert np.mean(found) == pytest.approx(known, abs=0.015)
    assert np.isnan(debiased_error([1], [[0.2, 0.8]]))  # one lesion has no variance


def test_pivotal_interval_holds_an_error_that_resampling_biases_upwards():
    truth, prob = predictions(200_000, 5, sharpness=2.5)
    known, hits = expected_calibration_error(truth, prob, 5), 0
    for seed in range(40):
        truth, prob = predictions(300, seed, sharpness=2.5)
        draws = expected_calibration_error(truth, prob, 5, stratified_weights(truth, 200, 0))
        low, high = pivotal_interval(expected_calibration_error(truth, prob, 5), draws)
        hits += low <= known <= high
    assert hits >= 34  # of 40 at 95 %: fewer has a chance below one in a thousand
    assert pivotal_interval(0.1, np.array([0.3, 0.3])) == (0, 0)
    assert pivotal_interval(0.1, np.linspace(0, 0.2, 101)) == pytest.approx((0.005, 0.195))

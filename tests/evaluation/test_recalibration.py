import numpy as np
import pytest

from jiadf.evaluation.recalibration import adjust_prior, fit_temperature, with_temperature


def predictions(n, seed=0, sharpness=1.0, classes=4):
    """Perfectly calibrated predictions at a sharpness of 1, over-confident above."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.2, (n, classes))
    honest = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    truth = (honest.cumsum(1) < rng.random((n, 1))).sum(1)
    stated = np.exp(sharpness * logits)
    return truth, stated / stated.sum(1, keepdims=True)


def test_temperature_finds_the_sharpness_that_was_put_in():
    truth, prob = predictions(20_000, sharpness=2.0)
    found = fit_temperature(prob, truth)
    assert found == pytest.approx(2.0, rel=0.05)
    honest = with_temperature(prob, 2.0)
    assert honest == pytest.approx(predictions(20_000)[1])
    assert (honest.argmax(1) == prob.argmax(1)).all()


def test_zero_probabilities_are_survived():
    prob = np.array([[1.0, 0.0, 0.0]] * 10 + [[0.0, 0.5, 0.5]] * 10)
    truth = np.array([0] * 9 + [1] * 6 + [2] * 5)
    assert np.isfinite(np.log(with_temperature(prob, fit_temperature(prob, truth)))).all()


def test_prior_adjustment_is_bayes_rule():
    moved = adjust_prior([[0.5, 0.5]], np.array([0.5, 0.5]), np.array([0.9, 0.1]))
    assert moved[0] == pytest.approx([0.9, 0.1])

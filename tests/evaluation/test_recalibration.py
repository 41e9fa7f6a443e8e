import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from jiadf.evaluation.recalibration import (
    METHODS,
    adjust_prior,
    choose_strength,
    fit_affine,
    fit_recalibration,
    fit_temperature,
    mean_nll,
)
from tests.evaluation.test_calibration import predictions


def nll(truth, prob):
    return mean_nll(np.log(prob), truth)


def test_temperature_finds_the_sharpness_that_was_put_in():
    truth, prob = predictions(20_000, sharpness=2.0)
    assert fit_temperature(prob, truth) == pytest.approx(2.0, rel=0.05)
    fitted = fit_recalibration("temperature", prob, truth)(prob)
    assert (fitted.argmax(1) == prob.argmax(1)).all()


@pytest.mark.parametrize("method", METHODS)
def test_an_overconfident_system_is_mended_on_other_lesions(method):
    truth, prob = predictions(2000, sharpness=3.0)
    fitted = fit_recalibration(method, prob[:1000], truth[:1000])(prob[1000:])
    assert fitted.sum(1) == pytest.approx(1.0)
    assert (fitted > 0).all()
    assert nll(truth[1000:], fitted) < nll(truth[1000:], prob[1000:]) - 0.05


@pytest.mark.parametrize("method", METHODS)
def test_a_class_without_lesions_and_few_lesions_do_no_harm(method):
    truth, prob = predictions(12, sharpness=1.0)
    truth = np.where(truth == 3, 0, truth)
    fitted = fit_recalibration(method, prob, truth)(prob)
    assert np.isfinite(fitted).all()
    assert fitted.sum(1) == pytest.approx(1.0)


@pytest.mark.parametrize("method", METHODS)
def test_zero_probabilities_are_survived(method):
    prob = np.array([[1.0, 0.0, 0.0]] * 10 + [[0.0, 0.5, 0.5]] * 10)
    truth = np.array([0] * 9 + [1] * 6 + [2] * 5)
    assert np.isfinite(np.log(fit_recalibration(method, prob, truth)(prob))).all()


def test_affine_reaches_scikit_learns_minimum():
    """Unpenalised, the matrix map is a multinomial logistic regression on the log-probabilities."""
    truth, prob = predictions(500, sharpness=2.0)
    scores = np.log(prob)
    matrix, offsets = fit_affine(scores, truth, 1e-9, diagonal=False)
    ours = mean_nll(log_softmax(scores @ matrix.T + offsets, axis=1), truth)
    model = LogisticRegression(C=1e9, max_iter=10_000, tol=1e-8).fit(scores, truth)
    theirs = mean_nll(np.log(model.predict_proba(scores)), truth)
    assert ours == pytest.approx(theirs, abs=1e-4)


def test_strong_penalty_changes_nothing_and_diagonal_stays_diagonal():
    truth, prob = predictions(300, sharpness=2.0)
    matrix, offsets = fit_affine(np.log(prob), truth, 1e6, diagonal=False)
    assert np.allclose(matrix, np.eye(4), atol=1e-3)
    assert np.allclose(offsets, 0, atol=1e-3)
    matrix, _ = fit_affine(np.log(prob), truth, 1e-3, diagonal=True)
    assert (matrix[~np.eye(4, dtype=bool)] == 0).all()
    assert not np.allclose(matrix, np.eye(4), atol=0.05)


def test_vector_scaling_moves_a_wrong_prior_back():
    truth, prob = predictions(4000)
    skewed = adjust_prior(prob, np.full(4, 0.25), np.array([0.7, 0.1, 0.1, 0.1]))
    fitted = fit_recalibration("vector", skewed[:2000], truth[:2000])(skewed[2000:])
    assert nll(truth[2000:], fitted) < nll(truth[2000:], skewed[2000:]) - 0.1
    frequency = np.bincount(truth[2000:]) / 2000
    assert fitted.mean(0) == pytest.approx(frequency, abs=0.05)
    assert skewed[2000:].mean(0)[0] > frequency[0] + 0.2


def test_strength_is_weaker_where_there_is_more_to_learn():
    truth, prob = predictions(60)
    few = choose_strength(np.log(prob), truth, diagonal=False)
    truth, prob = predictions(3000)
    mixed = prob @ np.array([[0.8, 0.2, 0, 0], [0.2, 0.8, 0, 0], [0, 0, 0.5, 0.5], [0, 0, 0, 1]])
    assert choose_strength(np.log(mixed), truth, diagonal=False) < few
    assert choose_strength(np.log(prob)[:5], truth[:5], diagonal=False) == 1.0


def test_prior_adjustment_is_bayes_rule():
    moved = adjust_prior([[0.5, 0.5]], np.array([0.5, 0.5]), np.array([0.9, 0.1]))
    assert moved[0] == pytest.approx([0.9, 0.1])


def test_unknown_method_is_named():
    with pytest.raises(ValueError, match=r"'platt'.*temperature"):
        fit_recalibration("platt", [[0.5, 0.5]], [0])

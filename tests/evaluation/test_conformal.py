"""Conformal sets reach the coverage that they are for, however bad the network."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from jiadf.evaluation.conformal import (
    conformal_scores,
    conformal_sets,
    conformal_threshold,
    coverage_interval,
    fit_conformal,
)
from tests.evaluation.test_calibration import predictions


def test_conformal_threshold_is_the_right_order_statistic():
    scores = np.arange(1, 20) / 20  # 19 of them
    assert conformal_threshold(scores, 0.1) == scores[17]  # the 18th of 19
    assert conformal_threshold(scores[:8], 0.1) == math.inf
    assert conformal_threshold(scores[:9], 0.1) == scores[8]
    with pytest.raises(ValueError, match="alpha is 1"):
        conformal_threshold(scores, 1)


@pytest.mark.parametrize("score", ["lac", "aps"])
def test_scores_order_the_classes_of_a_lesion(score):
    prob = np.array([[0.2, 0.7, 0.1]])
    scores = conformal_scores(prob, score)
    assert np.argsort(scores[0]).tolist() == [1, 0, 2]
    if score == "aps":
        assert scores[0] == pytest.approx([0.9, 0.7, 1.0])
    with pytest.raises(ValueError, match="'softmax'"):
        conformal_scores(prob, "softmax")


@pytest.mark.parametrize("score", ["lac", "aps"])
def test_coverage_follows_the_beta_binomial_and_not_the_binomial(score):
    """However bad the network: here its probabilities are far too sure."""
    covered = []
    for seed in range(400):
        truth, prob = predictions(150, seed, sharpness=4.0)
        thresholds = fit_conformal(prob[:50], truth[:50], 0.2, score=score)
        sets = conformal_sets(prob[50:], thresholds, score)
        covered.append(sets[np.arange(100), truth[50:]].mean())
    covered = np.array(covered)
    assert covered.mean() >= 0.79
    exact = coverage_interval(50, 100, 0.2)
    plain = tuple(binom.ppf([0.025, 0.975], 100, 0.8) / 100)
    inside = [((low <= covered) & (covered <= high)).mean() for low, high in (exact, plain)]
    assert inside[0] > 0.92
    assert inside[1] < 0.90


def test_coverage_intervals_narrow_with_lesions():
    low, high = coverage_interval(1000, 1000, 0.1)
    assert 0.86 < low < 0.9 < high < 0.94
    assert coverage_interval(5, 100, 0.1) == (1.0, 1.0)


def test_a_class_with_too_few_lesions_is_in_every_set():
    truth, prob = predictions(400, sharpness=2.0)
    keep = (truth != 2) | (np.cumsum(truth == 2) <= 4)  # four lesions of class 2
    truth, prob = truth[keep], prob[keep]
    included = fit_conformal(prob, truth, 0.1, by_class=True)
    assert math.isinf(included[2])
    assert np.isfinite(np.delete(included, 2)).all()
    assert conformal_sets(prob, included)[:, 2].all()


def test_class_conditional_sets_keep_their_coverage_within_classes():
    truth, prob = predictions(6000, sharpness=3.0)
    bias = prob * np.array([8, 1, 1, 0.2])  # a network that forgets the last class
    prob = bias / bias.sum(1, keepdims=True)
    half = slice(0, 3000), slice(3000, None)
    coverages = []
    for by_class in (False, True):
        thresholds = fit_conformal(prob[half[0]], truth[half[0]], 0.1, by_class=by_class)
        sets = conformal_sets(prob[half[1]], thresholds)
        hit = sets[np.arange(3000), truth[half[1]]]
        coverages.append([hit[truth[half[1]] == k].mean() for k in range(4)])
    assert min(coverages[0]) < 0.86
    assert min(coverages[1]) > 0.86

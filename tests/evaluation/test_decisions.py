import math

import numpy as np
import pytest
from scipy.stats import binom

from jiadf.data.schema import CLASSES
from jiadf.evaluation.decisions import (
    MALIGNANT_WITHOUT_AKIEC,
    aurc,
    class_sum,
    conformal_scores,
    conformal_sets,
    conformal_threshold,
    coverage_interval,
    fit_conformal,
    operating_point,
    risk_coverage,
    sensitivity_threshold,
    smallest_count,
    summed_coverage_interval,
    weighted_risk,
)
from tests.evaluation.test_calibration import predictions


def test_risk_coverage_by_hand_and_with_ties():
    assert risk_coverage([0, 1, 0, 1], [0.9, 0.8, 0.7, 0.6]) == pytest.approx(
        [0, 1 / 2, 1 / 3, 1 / 2]
    )
    assert risk_coverage([0, 1], [0.5, 0.5]) == pytest.approx([0.5, 0.5])
    assert aurc([1, 0], [0.5, 0.5]) == aurc([0, 1], [0.5, 0.5])
    with pytest.raises(ValueError, match=r"\(2,\)"):
        risk_coverage([0, 1], [0.5])


def test_weighted_risk_is_that_of_the_repeated_lesions():
    rng = np.random.default_rng(0)
    wrong, confidence = rng.random(30) < 0.4, rng.random(30)
    weights = rng.integers(0, 3, (1, 30))
    repeated = np.repeat(np.arange(30), weights[0])
    coverage = np.array([0.25, 0.5, 1.0])
    risk, _ = weighted_risk(wrong, confidence, weights, coverage)
    assert risk[0, -1] == pytest.approx(wrong[repeated].mean())
    risk, area = weighted_risk(wrong, confidence, np.ones((1, 30)), coverage)
    assert area[0] == pytest.approx(aurc(wrong, confidence))
    assert risk[0, -1] == pytest.approx(wrong.mean())


def test_conformal_threshold_is_the_right_order_statistic():
    scores = np.arange(1, 20) / 20  # 19 of them
    assert conformal_threshold(scores, 0.1) == scores[17]  # the 18th of 19
    assert conformal_threshold(scores[:8], 0.1) == math.inf
    assert conformal_threshold(scores[:9], 0.1) == scores[8]
    assert smallest_count(0.1) == 9
    assert smallest_count(0.05) == 19
    with pytest.raises(ValueError, match="alpha is 1"):
        conformal_threshold(scores, 1)


@pytest.mark.parametrize("score", ["threshold", "cumulative"])
def test_scores_order_the_classes_of_a_lesion(score):
    prob = np.array([[0.2, 0.7, 0.1]])
    scores = conformal_scores(prob, score)
    assert np.argsort(scores[0]).tolist() == [1, 0, 2]
    if score == "cumulative":
        assert scores[0] == pytest.approx([0.9, 0.7, 1.0])
    with pytest.raises(ValueError, match="'softmax'"):
        conformal_scores(prob, "softmax")


@pytest.mark.parametrize("score", ["threshold", "cumulative"])
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
    plain = coverage_interval(50, 100, 0.2, exact=False)
    inside = [((low <= covered) & (covered <= high)).mean() for low, high in (exact, plain)]
    assert inside[0] > 0.92
    assert inside[1] < 0.90
    assert plain == pytest.approx(tuple(binom.ppf([0.025, 0.975], 100, 0.8) / 100), abs=0.011)


def test_coverage_intervals_narrow_with_lesions_and_sum():
    low, high = coverage_interval(1000, 1000, 0.1)
    assert 0.86 < low < 0.9 < high < 0.94
    assert coverage_interval(5, 100, 0.1) == (1.0, 1.0)
    one = summed_coverage_interval([(200, 200)], 0.1)
    assert one == pytest.approx(coverage_interval(200, 200, 0.1), abs=0.011)
    five = summed_coverage_interval([(200, 200)] * 5, 0.1)
    assert one[0] < five[0] < five[1] < one[1]
    assert summed_coverage_interval([(3, 10)], 0.1) == (1.0, 1.0)
    assert all(map(math.isnan, summed_coverage_interval([(3, 0)], 0.1)))


def test_classes_with_too_few_lesions_are_included_or_pooled():
    truth, prob = predictions(400, sharpness=2.0)
    keep = (truth != 2) | (np.cumsum(truth == 2) <= 4)  # four lesions of class 2
    truth, prob = truth[keep], prob[keep]
    included = fit_conformal(prob, truth, 0.1, by_class=True)
    assert math.isinf(included[2])
    assert np.isfinite(np.delete(included, 2)).all()
    assert conformal_sets(prob, included)[:, 2].all()
    pooled = fit_conformal(prob, truth, 0.1, by_class=True, few="pool")
    assert pooled[2] == fit_conformal(prob, truth, 0.1)[2]
    with pytest.raises(ValueError, match="'drop'"):
        fit_conformal(prob, truth, few="drop")


def test_class_conditional_sets_keep_the_promise_within_classes():
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


def test_malignancy_is_a_sum_of_named_classes():
    prob = np.eye(11)
    called = class_sum(prob, MALIGNANT_WITHOUT_AKIEC)
    assert called.sum() == 4
    assert called[CLASSES.index("AKIEC")] == 0
    with pytest.raises(ValueError, match="XYZ"):
        class_sum(prob, ["XYZ"])
    with pytest.raises(ValueError, match="at least one"):
        class_sum(prob, [])


def test_sensitivity_threshold_misses_no_more_than_allowed():
    scores = np.arange(100) / 100
    threshold = sensitivity_threshold(scores, 0.95)
    assert (scores >= threshold).mean() == pytest.approx(0.95)
    assert (scores >= np.nextafter(threshold, 1)).mean() < 0.95
    assert sensitivity_threshold(scores, 0.95, 0.95) < threshold
    assert sensitivity_threshold(scores[:20], 0.95, 0.95) == -math.inf  # 0.95 ** 20 > 0.05
    with pytest.raises(ValueError, match="0 positive"):
        sensitivity_threshold([])


def test_assurance_is_reached_in_as_many_draws():
    rng = np.random.default_rng(0)
    plain, assured = [], []
    for _ in range(500):
        scores = rng.random(200)  # sensitivity elsewhere is 1 - threshold
        plain.append(1 - sensitivity_threshold(scores, 0.9) >= 0.9)
        assured.append(1 - sensitivity_threshold(scores, 0.9, 0.95) >= 0.9)
    assert 0.35 < np.mean(plain) < 0.65
    assert 0.93 < np.mean(assured) <= 1


def test_operating_point_with_a_threshold_a_lesion():
    positive, scores = [1, 1, 0, 0], [0.9, 0.4, 0.6, 0.1]
    assert operating_point(positive, scores, 0.5) == (0.5, 0.5)
    assert operating_point(positive, scores, np.array([1, 0, 1, 1])) == (0.5, 1.0)
    assert math.isnan(operating_point([1], [0.5], 0.1)[1])

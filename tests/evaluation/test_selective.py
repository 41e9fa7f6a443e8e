"""Risk against coverage, and thresholds for a wanted sensitivity."""

import math

import numpy as np
import pytest

from jiadf.evaluation.selective import risk_coverage, sensitivity_threshold


def test_risk_coverage_by_hand_and_with_ties():
    assert risk_coverage([0, 1, 0, 1], [0.9, 0.8, 0.7, 0.6]) == pytest.approx(
        [0, 1 / 2, 1 / 3, 1 / 2]
    )
    assert risk_coverage([0, 1], [0.5, 0.5]) == pytest.approx([0.5, 0.5])


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

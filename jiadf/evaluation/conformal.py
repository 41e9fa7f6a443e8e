"""Conformal prediction: instead of one class, a set that holds the true one often enough.

The set holds the true class with a chance of at least ``1 - alpha``, whatever the network is worth,
provided that the lesions that set the threshold and the new ones are exchangeable (Vovk et al.
2005; Angelopoulos and Bates 2023). One threshold for all classes gives this coverage over all
lesions; one a class gives it within every class (class-conditional, or Mondrian, sets).
"""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import betabinom

from jiadf.evaluation.metrics import check_predictions

SCORES = ("lac", "aps")


def conformal_scores(y_prob, score: str = "lac") -> np.ndarray:
    """How badly each class fits each lesion, (N, K): a set holds the classes that fit well enough.

    Parameters
    ----------
    y_prob : (N, K) float array
    score : {"lac", "aps"}
        LAC: one less the class's probability, which gives the smallest sets (Sadinle et al.
        2019). APS: the probability of the classes down to it from the top, which adapts the size
        of a set to how hard its lesion is (Romano et al. 2020, without their randomisation).
    """
    y_prob = np.asarray(y_prob, dtype=float)
    if score == "lac":
        return 1 - y_prob
    if score == "aps":
        order = np.argsort(-y_prob, axis=1, kind="stable")
        result = np.empty_like(y_prob)
        np.put_along_axis(result, order, np.cumsum(np.take_along_axis(y_prob, order, 1), 1), 1)
        return result
    raise ValueError(f"score is {score!r}; it must be one of {', '.join(SCORES)}")


def conformal_rank(n: int, alpha: float) -> int:
    """Which of ``n`` sorted scores is the threshold, from 1; ``n + 1`` where n is too small."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}; it must lie between 0 and 1")
    return math.ceil((n + 1) * (1 - alpha) - 1e-9)


def conformal_threshold(scores, alpha: float) -> float:
    """Return the ``ceil((n + 1)(1 - alpha))``-th smallest score; infinite if there are too few."""
    scores = np.sort(np.asarray(scores, dtype=float))
    rank = conformal_rank(len(scores), alpha)
    return float(scores[rank - 1]) if rank <= len(scores) else math.inf


def fit_conformal(
    y_prob, y_true, alpha: float = 0.1, *, score: str = "lac", by_class: bool = False
) -> np.ndarray:  # fmt: skip
    """Set the thresholds of conformal sets.

    Parameters
    ----------
    y_prob, y_true
        Calibration lesions, which neither trained the network nor will be scored.
    alpha
        Share of lesions whose set may lack the true class.
    score
        As for :func:`conformal_scores`.
    by_class
        A threshold a class instead of one for all. A class with too few calibration lesions is
        then in every set, which keeps its coverage and says nothing of it.

    Returns
    -------
    (K,) float array
        Of the largest score that each class may have in a set; infinite: always in it.
    """
    y_true, y_prob = check_predictions(y_true, y_prob)
    of_truth = conformal_scores(y_prob, score)[np.arange(len(y_true)), y_true]
    if not by_class:
        return np.full(y_prob.shape[1], conformal_threshold(of_truth, alpha))
    each = [conformal_threshold(of_truth[y_true == k], alpha) for k in range(y_prob.shape[1])]
    return np.array(each)


def conformal_sets(y_prob, thresholds: np.ndarray, score: str = "lac") -> np.ndarray:
    """Return which classes are in each lesion's set, bool (N, K)."""
    return conformal_scores(y_prob, score) <= thresholds


def coverage_interval(
    n_calibration: int, n: int, alpha: float, level: float = 0.95
) -> tuple[float, float]:
    """Interval for the measured coverage of ``n`` lesions if the guarantee holds.

    Parameters
    ----------
    n_calibration, n
        Lesions that set the threshold, and lesions whose sets are looked at.

    Returns
    -------
    low, high : float
        Beta-binomial, the exact law for scores without ties: the threshold is itself a draw of
        ``n_calibration`` lesions, so that coverage varies even over infinitely many lesions.
    """
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    rank = conformal_rank(n_calibration, alpha)
    if rank > n_calibration:
        return 1.0, 1.0
    a, b = rank, n_calibration + 1 - rank
    low, high = betabinom.ppf(tails, n, a, b) / n
    return float(low), float(high)

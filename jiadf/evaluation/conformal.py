"""Conformal prediction: instead of one class, a set that holds the true one often enough.

The set holds the true class with a chance of at least ``1 - alpha``, whatever the network is worth,
provided that the lesions that set the threshold and the new ones are exchangeable (Vovk et al.
2005; Angelopoulos and Bates 2023). One threshold for all classes gives this coverage over all
lesions; one a class gives it within every class (class-conditional, or Mondrian, sets).
"""

import math

import numpy as np
from scipy.stats import betabinom

from jiadf.evaluation.metrics import check_predictions


def conformal_scores(y_prob, score: str = "lac") -> np.ndarray:
    """How badly each class fits each lesion, (N, K): a set holds the classes that fit well enough.

    ``lac`` is one less the class's probability, which gives the smallest sets (Sadinle et al.
    2019); ``aps`` the probability of the classes down to it from the top, which adapts the size of
    a set to how hard its lesion is (Romano et al. 2020, without their randomisation).
    """
    y_prob = np.asarray(y_prob, dtype=float)
    if score == "lac":
        return 1 - y_prob
    if score == "aps":
        order = np.argsort(-y_prob, axis=1, kind="stable")
        result = np.empty_like(y_prob)
        np.put_along_axis(result, order, np.cumsum(np.take_along_axis(y_prob, order, 1), 1), 1)
        return result
    raise ValueError(f"score is {score!r}; it must be lac or aps")


def _rank(n: int, alpha: float) -> int:
    """Which of ``n`` sorted scores is the threshold, from 1; ``n + 1`` where n is too small."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}; it must lie between 0 and 1")
    return math.ceil((n + 1) * (1 - alpha) - 1e-9)


def conformal_threshold(scores, alpha: float) -> float:
    """Return the ``ceil((n + 1)(1 - alpha))``-th smallest score; infinite if there are too few."""
    scores = np.append(np.sort(np.asarray(scores, dtype=float)), math.inf)
    return float(scores[_rank(len(scores) - 1, alpha) - 1])


def fit_conformal(
    y_prob, y_true, alpha: float = 0.1, *, score: str = "lac", by_class: bool = False
) -> np.ndarray:
    """Set the largest score that each class may have in a set, (K,).

    The lesions given neither trained the network nor will be scored; `alpha` is the share of
    lesions whose set may lack the true class. The threshold is one for all classes, or `by_class`;
    that of a class with too few lesions is infinite: it is in every set, which keeps its coverage.
    """
    y_true, y_prob = check_predictions(y_true, y_prob)
    of_truth = conformal_scores(y_prob, score)[np.arange(len(y_true)), y_true]
    parts = [of_truth[y_true == k] if by_class else of_truth for k in range(y_prob.shape[1])]
    return np.array([conformal_threshold(part, alpha) for part in parts])


def conformal_sets(y_prob, thresholds: np.ndarray, score: str = "lac") -> np.ndarray:
    """Return which classes are in each lesion's set, bool (N, K)."""
    return conformal_scores(y_prob, score) <= thresholds


def coverage_interval(n_calibration: int, n: int, alpha: float) -> tuple[float, float]:
    """Return the 95 % interval of the measured coverage of ``n`` lesions if the guarantee holds.

    Beta-binomial, the exact law for scores without ties: the threshold is itself a draw of
    ``n_calibration`` lesions, so that coverage varies even over infinitely many lesions.
    """
    rank = _rank(n_calibration, alpha)
    if rank > n_calibration:
        return 1.0, 1.0
    low, high = betabinom.ppf([0.025, 0.975], n, rank, n_calibration + 1 - rank) / n
    return float(low), float(high)

"""What probabilities are for: leaving the doubtful lesions, sets of classes, operating points.

*Selective prediction*: the system decides on its most confident lesions and leaves the rest to
somebody else. :func:`risk_coverage` gives the error among those decided, at every share decided,
and AURC, the area under it (Geifman and El-Yaniv 2017).

*Conformal prediction*: instead of one class, a set that holds the true one with a chance of at
least ``1 - alpha``, whatever the network is worth, provided that the lesions that set the threshold
and the new ones are exchangeable (Vovk et al. 2005; Angelopoulos and Bates 2023). One threshold
for all classes promises this over all lesions; one a class promises it within every class, if
enough lesions of that class set it: :func:`smallest_count`.

*Operating points*: a sum of the malignant classes' probabilities, called above a threshold that is
set on some malignant lesions so as to miss few others: :func:`sensitivity_threshold`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import beta, betabinom

from jiadf.data.schema import CLASSES
from jiadf.evaluation.metrics import check_predictions

# MILK10k's hierarchy: these are malignant, the actinic keratoses and carcinomas in situ of AKIEC
# are what comes before.
MALIGNANT_WITHOUT_AKIEC = ("BCC", "MAL_OTH", "MEL", "SCCKA")
SCORES = ("threshold", "cumulative")


def risk_coverage(wrong, confidence) -> np.ndarray:
    """Return the share of errors among the 1, 2, ..., N most confident lesions, (N,).

    Lesions of equal confidence are taken in random order, on average.

    Parameters
    ----------
    wrong : (N,) bool array
    confidence : (N,) float array
    """
    wrong, confidence = np.asarray(wrong, dtype=float), np.asarray(confidence, dtype=float)
    if wrong.shape != confidence.shape or wrong.ndim != 1 or not len(wrong):
        raise ValueError(f"wrong {wrong.shape} and confidence {confidence.shape} must both be (N,)")
    _, tie = np.unique(-confidence, return_inverse=True)
    expected = np.bincount(tie, weights=wrong) / np.bincount(tie)
    ordered = expected[np.sort(tie)]
    return np.cumsum(ordered) / np.arange(1, len(wrong) + 1)


def aurc(wrong, confidence) -> float:
    """Area under the risk-coverage curve: the mean of :func:`risk_coverage`."""
    return float(risk_coverage(wrong, confidence).mean())


def weighted_risk(
    wrong, confidence, weights: np.ndarray, coverage: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Risk at some coverages, and AURC, under many weightings; ties in the order given.

    Parameters
    ----------
    wrong, confidence : (N,) arrays
    weights : (R, N) float array
        From :func:`jiadf.evaluation.weighted.stratified_weights`.
    coverage : (G,) float array
        In (0, 1].

    Returns
    -------
    risk, area : (R, G) and (R,) float arrays
    """
    order = np.argsort(-np.asarray(confidence), kind="stable")
    taken = np.asarray(weights, dtype=float)[:, order]
    decided = np.cumsum(taken, 1)
    errors = np.cumsum(taken * np.asarray(wrong)[order], 1)
    risk = errors / np.maximum(decided, 1e-12)
    share = decided / decided[:, -1:]
    at = np.stack([np.interp(coverage, s, r) for s, r in zip(share, risk, strict=True)])
    return at, (taken * risk).sum(1) / decided[:, -1]


def conformal_scores(prob, score: str = "threshold") -> np.ndarray:
    """How badly each class fits each lesion, (N, K): a set holds the classes that fit well enough.

    Parameters
    ----------
    prob : (N, K) float array
    score : {"threshold", "cumulative"}
        One less the class's probability, which gives the smallest sets (Sadinle et al. 2019), or
        the probability of the classes down to it from the top, which adapts the size of a set to
        how hard its lesion is (Romano et al. 2020, without their randomisation).
    """
    prob = np.asarray(prob, dtype=float)
    if score == "threshold":
        return 1 - prob
    if score == "cumulative":
        order = np.argsort(-prob, axis=1, kind="stable")
        result = np.empty_like(prob)
        np.put_along_axis(result, order, np.cumsum(np.take_along_axis(prob, order, 1), 1), 1)
        return result
    raise ValueError(f"score is {score!r}; it must be one of {', '.join(SCORES)}")


def conformal_rank(n: int, alpha: float) -> int:
    """Which of ``n`` sorted scores is the threshold, from 1; ``n + 1`` where n is too small."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}; it must lie between 0 and 1")
    return math.ceil((n + 1) * (1 - alpha) - 1e-9)


def smallest_count(alpha: float) -> int:
    """Fewest calibration lesions for which a threshold is finite."""
    n = math.floor(1 / alpha - 1 + 1e-9)
    return n if conformal_rank(n, alpha) <= n else n + 1


def conformal_threshold(scores, alpha: float) -> float:
    """Return the ``ceil((n + 1)(1 - alpha))``-th smallest score; infinite if there are too few."""
    scores = np.sort(np.asarray(scores, dtype=float))
    rank = conformal_rank(len(scores), alpha)
    return float(scores[rank - 1]) if rank <= len(scores) else math.inf


def fit_conformal(
    prob, truth, alpha: float = 0.1, *, score: str = "threshold", by_class: bool = False,
    few: str = "include",
) -> np.ndarray:  # fmt: skip
    """Set the thresholds of conformal sets.

    Parameters
    ----------
    prob, truth
        Calibration lesions, which neither trained the network nor will be scored.
    alpha
        Share of lesions whose set may lack the true class.
    score
        As for :func:`conformal_scores`.
    by_class
        A threshold a class instead of one for all.
    few : {"include", "pool"}
        What becomes of a class with fewer than :func:`smallest_count` lesions when ``by_class``:
        it is in every set, which keeps the promise and says nothing of it; or it gets the
        threshold of all lesions, which gives the promise up for this class.

    Returns
    -------
    (K,) float array
        Of the largest score that each class may have in a set; infinite: always in it.
    """
    truth, prob = check_predictions(truth, prob)
    if few not in ("include", "pool"):
        raise ValueError(f"few is {few!r}; it must be 'include' or 'pool'")
    of_truth = conformal_scores(prob, score)[np.arange(len(truth)), truth]
    overall = conformal_threshold(of_truth, alpha)
    if not by_class:
        return np.full(prob.shape[1], overall)
    thresholds = [conformal_threshold(of_truth[truth == k], alpha) for k in range(prob.shape[1])]
    return np.array([overall if math.isinf(t) and few == "pool" else t for t in thresholds])


def conformal_sets(prob, thresholds: np.ndarray, score: str = "threshold") -> np.ndarray:
    """Return which classes are in each lesion's set, bool (N, K)."""
    return conformal_scores(prob, score) <= thresholds


def coverage_interval(
    n_calibration: int, n: int, alpha: float, level: float = 0.95, exact: bool = True
) -> tuple[float, float]:
    """Interval for the measured coverage of ``n`` lesions if the promise holds.

    Parameters
    ----------
    n_calibration, n
        Lesions that set the threshold, and lesions whose sets are looked at.
    exact
        Beta-binomial, the exact law for scores without ties: the threshold is itself a draw of
        ``n_calibration`` lesions, so that coverage scatters even over infinitely many lesions. If
        False, the binomial around ``1 - alpha``, which forgets that and is too narrow.
    """
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    rank = conformal_rank(n_calibration, alpha)
    if rank > n_calibration:
        return 1.0, 1.0
    a, b = rank, n_calibration + 1 - rank
    if not exact:
        a, b = (1 - alpha) * 1e7, alpha * 1e7  # a beta this narrow is a point
    low, high = betabinom.ppf(tails, n, a, b) / n
    return float(low), float(high)


def summed_coverage_interval(
    counts: Sequence[tuple[int, int]], alpha: float, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """:func:`coverage_interval` of several calibrations together, by 20,000 draws.

    ``counts`` holds (calibration lesions, lesions looked at) of each, taken as independent.
    """
    rng = np.random.default_rng(seed)
    covered, total = np.zeros(20_000), 0
    for n_calibration, n in counts:
        rank = conformal_rank(n_calibration, alpha)
        total += n
        if rank > n_calibration:
            covered += n
        else:
            chance = rng.beta(rank, n_calibration + 1 - rank, len(covered))
            covered += rng.binomial(n, chance)
    if not total:
        return math.nan, math.nan
    low, high = np.quantile(covered / total, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def class_sum(prob, members: Sequence[str], classes: Sequence[str] = CLASSES) -> np.ndarray:
    """Sum the probabilities of some classes, (N,).

    Raises
    ------
    ValueError
        Naming what is not a class.
    """
    unknown = sorted(set(members) - set(classes))
    if unknown or not members:
        raise ValueError(f"no class {unknown}; give at least one of {', '.join(classes)}")
    return np.asarray(prob)[:, [list(classes).index(name) for name in members]].sum(1)


def sensitivity_threshold(
    scores, sensitivity: float = 0.95, assurance: float | None = None
) -> float:
    """Return the highest threshold at which enough of the positive lesions are called.

    A lesion is called where its score is at least the threshold.

    Parameters
    ----------
    scores : (n,) float array
        Of positive lesions that will not be scored.
    sensitivity : float
        Wanted, in (0, 1).
    assurance : float, optional
        If given, the threshold is lowered until *other* positive lesions reach this sensitivity
        with this probability, over draws of these n (a tolerance bound); without, they reach it
        about every other time.

    Returns
    -------
    float
        Minus infinity, which calls everything, where n is too small to assure anything.
    """
    scores = np.sort(np.asarray(scores, dtype=float))
    n = len(scores)
    if not n or not 0 < sensitivity < 1:
        raise ValueError(f"{n} positive lesions and sensitivity {sensitivity}: cannot be met")
    missed = math.floor(n * (1 - sensitivity) + 1e-9)  # lesions below the threshold
    if assurance is not None:
        # With r lesions missed, the sensitivity elsewhere is a draw of Beta(n - r, r + 1).
        chances = beta.sf(sensitivity, n - np.arange(missed + 1), np.arange(missed + 1) + 1)
        enough = np.flatnonzero(chances >= assurance)
        if not len(enough):
            return -math.inf
        missed = int(enough[-1])
    return float(scores[missed])


def operating_point(positive, scores, threshold) -> tuple[float, float]:
    """Sensitivity and specificity of calling scores of at least ``threshold``; NaN if undefined.

    ``threshold`` may be a number, or an array with one for each lesion.
    """
    positive, called = np.asarray(positive, dtype=bool), np.asarray(scores) >= threshold
    sensitivity = called[positive].mean() if positive.any() else math.nan
    specificity = (~called[~positive]).mean() if (~positive).any() else math.nan
    return float(sensitivity), float(specificity)

"""Selective prediction, and operating points of malignancy.

The system decides on its most confident lesions and leaves the rest to somebody else.
"""

import math

import numpy as np
from scipy.stats import beta


def risk_coverage(wrong, confidence) -> np.ndarray:
    """Return the share of errors (bool, (N,)) among the 1, 2, ..., N most confident lesions, (N,).

    Lesions of equal confidence are taken in random order, on average. The mean is the area under
    the curve, AURC (Geifman and El-Yaniv 2017).
    """
    wrong = np.asarray(wrong, dtype=float)
    _, tie = np.unique(-np.asarray(confidence, dtype=float), return_inverse=True)
    expected = np.bincount(tie, weights=wrong) / np.bincount(tie)
    return np.cumsum(expected[np.sort(tie)]) / np.arange(1, len(wrong) + 1)


def sensitivity_threshold(
    scores, sensitivity: float = 0.95, assurance: float | None = None
) -> float:
    """Return the highest threshold that at least this share of positive lesions reaches.

    Parameters
    ----------
    scores : (n,) float array
        Of positive lesions that will not be scored.
    sensitivity
        Wanted, in (0, 1).
    assurance
        If given, the threshold is lowered until *other* positive lesions reach this sensitivity
        with this probability, over draws of these n (a tolerance bound); without, they reach it
        about every other time. Minus infinity, which calls everything, where n is too small.
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

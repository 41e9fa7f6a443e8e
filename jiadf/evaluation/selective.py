"""Selective prediction, and operating points of malignancy.

The system decides on its most confident lesions and leaves the rest to somebody else.
:func:`risk_coverage` gives the error among those decided, at every share decided, and AURC, the
area under it (Geifman and El-Yaniv 2017). :func:`sensitivity_threshold` sets a threshold on some
malignant lesions so as to miss few others.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import beta

# MILK10k's hierarchy: these are malignant, the actinic keratoses and carcinomas in situ of AKIEC
# are what comes before.
MALIGNANT_WITHOUT_AKIEC = ("BCC", "MAL_OTH", "MEL", "SCCKA")


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

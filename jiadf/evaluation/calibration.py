"""How far probabilities can be taken at their word.

A lesion's confidence is the probability of its most probable class, and its prediction is right
where that class is the true one. :func:`expected_calibration_error` (ECE) is the one that papers
print, with a choice of bins and under many weightings of the lesions at once (a bootstrap);
:func:`classwise_ece` also sees the classes that are not the most probable one;
:func:`debiased_error` leaves out what chance alone would show; :func:`pivotal_interval` is the
interval for all of them.
"""

import numpy as np
import pandas as pd

from jiadf.evaluation.metrics import check_predictions, check_weights, confidence_gap


def expected_calibration_error(
    y_true, y_prob, bins: int = 15, sample_weight=None
) -> float | np.ndarray:
    """Mean distance between confidence and accuracy over `bins` of equal width.

    ``sample_weight`` of shape (R, N), R weightings of the lesions, gives (R,) errors.
    """
    y_true, y_prob = check_predictions(y_true, y_prob)
    weights = check_weights(sample_weight, len(y_true))
    gaps = confidence_gap(y_prob.max(1), y_prob.argmax(1) == y_true, weights, bins)
    return gaps if np.ndim(sample_weight) == 2 else float(gaps[0])


def classwise_ece(y_true, y_prob, bins: int = 15) -> float:
    """ECE of every class's own probability, mean over the classes (Kull et al. 2019)."""
    y_true, y_prob = check_predictions(y_true, y_prob)
    ones = np.ones((1, len(y_true)))
    gaps = [confidence_gap(p, y_true == k, ones, bins) for k, p in enumerate(y_prob.T)]
    return float(np.mean(gaps))


def debiased_error(y_true, y_prob, bins: int = 15) -> float:
    """Root mean squared distance between confidence and accuracy, without its bias.

    A bin's accuracy scatters even where the system is perfectly calibrated, so plain errors are
    never 0: they are too large by an amount that grows with the bins and falls with the lesions.
    Here each bin's sampling variance is taken off (Bröcker 2012; Kumar, Liang and Ma 2019); where
    that leaves less than nothing, 0. Bins hold equally many lesions; one of a single lesion, which
    tells nothing of its variance, is left out.
    """
    y_true, y_prob = check_predictions(y_true, y_prob)
    confidence = y_prob.max(1)
    edges = np.unique(np.quantile(confidence, np.linspace(0, 1, bins + 1)))  # ties stay together
    excess = pd.Series(confidence - (y_prob.argmax(1) == y_true))
    index = np.digitize(confidence, edges[1:-1], right=True)
    table = excess.groupby(index).agg(["size", "mean", "var"]).dropna()
    squares = table["mean"] ** 2 - table["var"] / table["size"]
    mean = np.average(squares, weights=table["size"]) if len(table) else np.nan
    return float(np.sqrt(np.maximum(mean, 0)))


def pivotal_interval(value: float, draws: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return the basic bootstrap interval of an error, cut at 0: ``2 value - quantile``.

    Resamples of an error that is biased upwards are biased upwards once more, which this turns
    round (Efron and Tibshirani 1993). Near perfect calibration it is still too high.
    """
    low, high = 2 * value - np.quantile(draws, [(1 + level) / 2, (1 - level) / 2])
    return max(low, 0.0), max(high, 0.0)

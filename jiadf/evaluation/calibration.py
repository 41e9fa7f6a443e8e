"""How far probabilities can be taken at their word, with what chance alone would show.

A lesion's confidence is the probability of its most probable class, and its prediction is right
where that class is the true one. The expected calibration error (ECE) of one set of
predictions is :func:`expected_calibration_error`; the other errors come for many weightings of the
lesions at once (a bootstrap), and for systems of several seeds::

    weights = stratified_weights(y_true, 1000, seed=0)
    a, b = (error_draws(y_true, seeds, weights) for seeds in (before, after))
    error_intervals(a)          # metric, value, sd, low, high
    paired_differences(b, a)    # the same resamples for both, hence paired

What the errors are (:data:`ERRORS`):

``ece``, ``ece_mass``
    Mean distance between confidence and accuracy, in 15 bins of equal width or of equal mass.
``classwise_ece``
    The same for every class's own probability, in bins of equal width, mean over the classes
    (Kull et al. 2019). It also sees the classes that are not the most probable one.
``rms``, ``rms_debiased``
    Root of the mean *squared* distance in bins of equal mass. A bin's accuracy scatters even where
    the system is perfectly calibrated, so the plain errors are never 0: they are too large by an
    amount that grows with the bins and falls with the lesions. ``rms_debiased`` has each bin's
    sampling variance taken off (Bröcker 2012; Kumar, Liang and Ma 2019); where that
    leaves less than nothing it says 0.
``overconfidence``
    Mean confidence minus accuracy, signed, without bins.
``nll``, ``brier``
    Proper scores: no forecast can improve them by anything but being better informed or better
    calibrated.

Intervals are of the basic (pivotal) bootstrap, ``2 value - quantile``, as the resamples of an
error that is biased upwards are biased upwards once more (Efron and Tibshirani 1993). Near perfect
calibration the interval of ``ece`` is still too high; :func:`simulated_ece` says what a perfectly
calibrated system would score there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import binom

from jiadf.evaluation.metrics import check_predictions, check_weights, ratio, width_bins

ERRORS = (
    "ece", "ece_mass", "classwise_ece", "rms", "rms_debiased", "overconfidence", "nll", "brier",
)  # fmt: skip
_SQUARED = ("squared", "squared_debiased")  # what the two `rms` are the roots of
_SIGNED = ("overconfidence",)


def confidence_bins(
    confidence: np.ndarray, bins: int = 15, scheme: str = "width"
) -> tuple[np.ndarray, np.ndarray]:
    """Return the edges (B + 1,) of the bins of :func:`reliability_bands`, and each lesion's bin."""
    if bins < 1:
        raise ValueError(f"bins is {bins}; it must be at least 1")
    if scheme == "width":
        return np.linspace(0, 1, bins + 1), width_bins(confidence, bins)
    if scheme == "mass":
        edges = np.unique(np.quantile(confidence, np.linspace(0, 1, bins + 1)))
        if len(edges) == 1:
            edges = np.repeat(edges, 2)
        return edges, np.digitize(confidence, edges[1:-1], right=True)
    raise ValueError(f"scheme is {scheme!r}; it must be 'width' or 'mass'")


def weighted_errors(
    y_true, y_prob, weights: np.ndarray, bins: int = 15, classwise: bool = True
) -> dict[str, np.ndarray]:
    """Compute the calibration errors under every weighting.

    Parameters
    ----------
    y_true : (N,) int array
    y_prob : (N, K) float array
        Each row summing to one.
    weights : (R, N) float array
        One row a weighting, non-negative, no row all zero. The debiased error reads a weight as
        a number of lesions.
    bins : int
        Bins of every binned error; those of equal mass are laid on all lesions, unweighted.
    classwise : bool
        Compute ``classwise_ece`` too, by far the slowest.

    Returns
    -------
    dict of (R,) float arrays
        Keyed as :data:`ERRORS`, but with ``squared`` and ``squared_debiased``, the mean squared
        errors, in place of their roots. The debiased one may be negative; bins of fewer than two
        lesions, which tell nothing of their variance, are left out of it.

    Raises
    ------
    ValueError
        On predictions that cannot be scored, or weights that do not fit them.
    """
    y_true, y_prob = check_predictions(y_true, y_prob)
    weights = check_weights(weights, len(y_true))
    total = weights.sum(1)
    confidence = y_prob.max(1)
    excess = confidence - (y_prob.argmax(1) == y_true)  # (N,)
    result = {}
    for name, scheme in {"ece": "width", "ece_mass": "mass"}.items():
        edges, index = confidence_bins(confidence, bins, scheme)
        member = index[:, None] == np.arange(len(edges) - 1)  # (N, B)
        sums = weights @ (member * excess[:, None])  # (R, B)
        result[name] = np.abs(sums).sum(1) / total
    counts = weights @ member  # of the bins of equal mass from here on
    mean = ratio(sums, counts, 0.0)
    squares = weights @ (member * (excess**2)[:, None])
    variance = np.maximum(squares - counts * mean**2, 0) / np.maximum(counts - 1, 1)
    enough = counts >= 2
    unbiased = mean**2 - ratio(variance, counts, 0.0)
    result["squared"] = (counts * mean**2).sum(1) / total
    result["squared_debiased"] = ratio(
        (counts * unbiased * enough).sum(1), (counts * enough).sum(1), np.nan
    )
    if classwise:
        result["classwise_ece"] = _class_errors(y_true, y_prob, weights, bins).mean(1)
    result["overconfidence"] = weights @ excess / total
    of_truth = y_prob[np.arange(len(y_true)), y_true]
    result["nll"] = weights @ -np.log(np.maximum(of_truth, np.finfo(float).eps)) / total
    present = y_true[:, None] == np.arange(y_prob.shape[1])
    result["brier"] = weights @ ((y_prob - present) ** 2).sum(1) / total
    return result


def _class_errors(y_true, y_prob, weights, bins: int) -> np.ndarray:
    """ECE of every class's own probability, (R, K)."""
    columns = []
    for k in range(y_prob.shape[1]):
        member = width_bins(y_prob[:, k], bins)[:, None] == np.arange(bins)  # (N, B)
        member = member[:, member.any(0)]
        excess = y_prob[:, k] - (y_true == k)
        columns.append(np.abs(weights @ (member * excess[:, None])).sum(1))
    return np.stack(columns, 1) / weights.sum(1)[:, None]


def error_draws(
    y_true, seeds: Sequence[np.ndarray], weights: np.ndarray, bins: int = 15, classwise: bool = True
) -> dict[str, np.ndarray]:
    """Compute the errors of a system's seeds on all lesions and on resamples of them.

    Parameters
    ----------
    y_true : (N,) int array
    seeds : sequence of (N, K) float arrays
        Predictions of the same lesions, an array a seed.
    weights : (R, N) float array
        Resamples, from :func:`jiadf.evaluation.bootstrap.stratified_weights`.

    Returns
    -------
    dict of (S, 1 + R) float arrays
        As :func:`weighted_errors`, a row a seed; the first column is on all lesions.
    """
    stacked = np.vstack([np.ones(weights.shape[1]), weights])
    tables = [weighted_errors(y_true, y_prob, stacked, bins, classwise) for y_prob in seeds]
    return {name: np.stack([table[name] for table in tables]) for name in tables[0]}


def error_intervals(draws: Mapping[str, np.ndarray], level: float = 0.95) -> pd.DataFrame:
    """Return `metric`, `value` and `sd` (over seeds) and its interval over lesions, `low`, `high`.

    ``draws`` is the answer of :func:`error_draws`.
    """
    rows = []
    for name, seeds in draws.items():
        mean = seeds.mean(0)
        # In the bootstrap's world the y_true is the plain error, not its debiased estimate.
        centre = draws["squared"].mean(0)[0] if name == "squared_debiased" else mean[0]
        low, high = _pivotal(mean[0], mean[1:] - centre, level)
        values = np.append(seeds[:, 0], [mean[0], low, high])
        if name in _SQUARED:
            values, name = np.sqrt(np.maximum(values, 0)), name.replace("squared", "rms")
        elif name not in _SIGNED:
            values = np.maximum(values, 0)
        sd = values[:-3].std(ddof=1) if len(seeds) > 1 else np.nan
        rows.append((name, values[-3], sd, values[-2], values[-1]))
    return pd.DataFrame(rows, columns=["metric", "value", "sd", "low", "high"])


def _pivotal(value: float, deviations: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(deviations, [(1 - level) / 2, (1 + level) / 2])
    return value - high, value - low


def paired_differences(
    draws: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray], level: float = 0.95
) -> pd.DataFrame:
    """Return `metric`, `difference` (draws - reference, mean over seeds), `low` and `high`.

    Both are answers of :func:`error_draws` for the same lesions and weights. Squared errors are
    left out: differences of roots have no simple interval.
    """
    rows = []
    for name in (name for name in draws if name not in _SQUARED):
        difference = draws[name].mean(0) - reference[name].mean(0)
        low, high = _pivotal(difference[0], difference[1:] - difference[0], level)
        rows.append((name, difference[0], low, high))
    return pd.DataFrame(rows, columns=["metric", "difference", "low", "high"])


def binned_gap(confidence, right, bins: int = 15, scheme: str = "width") -> float:
    """ECE of confidences (N,) and of whether each prediction is right (N,)."""
    _, index = confidence_bins(confidence, bins, scheme)
    return float(np.abs(np.bincount(index, weights=confidence - right)).sum() / len(confidence))


def expected_calibration_error(y_true, y_prob, bins: int = 15, scheme: str = "width") -> float:
    """Mean distance between confidence and accuracy, weighted by the lesions of each bin.

    Parameters
    ----------
    y_true : (N,) int array
    y_prob : (N, K) float array
    bins : int
        Number of bins.
    scheme : {"width", "mass"}
        Bins of equal width on [0, 1], or between the quantiles of the confidences, hence holding
        about equally many lesions; equal quantiles are merged, so that ties stay together.
    """
    y_true, y_prob = check_predictions(y_true, y_prob)
    return binned_gap(y_prob.max(1), y_prob.argmax(1) == y_true, bins, scheme)


def simulated_ece(
    confidence: np.ndarray,
    size: int,
    *,
    overconfidence: float = 0.0,
    bins: int = 15,
    scheme: str = "width",
    n: int = 1000,
    seed: int = 0,
) -> tuple[float, np.ndarray]:
    """Simulate the ECE that a system of a known true error is measured to have.

    ``n`` times, ``size`` confidences are drawn with replacement, and each prediction is right with
    a chance of its confidence less ``overconfidence``, clipped to [0, 1].

    Returns
    -------
    true_error : float
        Mean distance between confidence and chance over all confidences.
    measured : (n,) float array
    """
    confidence = np.asarray(confidence, dtype=float)
    if confidence.ndim != 1 or not len(confidence) or size < 1:
        raise ValueError(f"{confidence.shape} confidences, size {size}: give (N,), and at least 1")
    rng = np.random.default_rng(seed)
    measured = np.empty(n)
    for draw in range(n):
        chosen = rng.choice(confidence, size)
        right = rng.random(size) < np.clip(chosen - overconfidence, 0, 1)
        measured[draw] = binned_gap(chosen, right, bins, scheme)
    true_error = np.abs(confidence - np.clip(confidence - overconfidence, 0, 1)).mean()
    return float(true_error), measured


def reliability_bands(
    y_true, seeds: Sequence[np.ndarray], weights: np.ndarray, bins: int = 15,
    scheme: str = "width", level: float = 0.95,
) -> pd.DataFrame:  # fmt: skip
    """Put the predictions of all seeds into bins of confidence, with two kinds of band.

    Parameters
    ----------
    y_true, seeds, weights
        As for :func:`error_draws`: a resampled lesion brings all its seeds.
    bins, scheme
        As for :func:`expected_calibration_error`, over all seeds' confidences.

    Returns
    -------
    DataFrame
        One row a bin: `lower`, `upper`, `count` (lesions, mean over seeds), mean `confidence`,
        `accuracy`, both NaN where it is empty, the bootstrap interval `low`, `high` of the
        accuracy, and `expected_low`, `expected_high`, where the accuracy of that many lesions lies
        if the confidence is right (Bröcker and Smith 2007; binomial, hence a little too wide).
    """
    y_true = check_predictions(y_true, seeds[0])[0]
    confidence = np.concatenate([y_prob.max(1) for y_prob in seeds])
    right = np.concatenate([y_prob.argmax(1) == y_true for y_prob in seeds]).astype(float)
    edges, index = confidence_bins(confidence, bins, scheme)
    member = index[:, None] == np.arange(len(edges) - 1)  # (S N, B)

    def by_lesion(values):  # summed over seeds, (N, B)
        return values.reshape(len(seeds), len(y_true), -1).sum(0)

    counts, hits = by_lesion(member * 1.0), by_lesion(member * right[:, None])
    drawn = ratio(weights @ hits, weights @ counts, np.nan)  # (R, B)
    count = counts.sum(0)
    table = pd.DataFrame({"lower": edges[:-1], "upper": edges[1:], "count": count / len(seeds)})
    table["confidence"] = ratio(confidence @ member, count, np.nan)
    table["accuracy"] = ratio(hits.sum(0), count, np.nan)
    full = count > 0
    tails = [(1 - level) / 2, (1 + level) / 2]
    table[["low", "high", "expected_low", "expected_high"]] = np.nan
    table.loc[full, ["low", "high"]] = np.nanquantile(drawn[:, full], tails, axis=0).T
    size = np.maximum(np.round(table.loc[full, "count"]), 1)
    expected = [binom.ppf(tail, size, table.loc[full, "confidence"]) / size for tail in tails]
    table.loc[full, ["expected_low", "expected_high"]] = np.stack(expected, 1)
    return table

"""The metrics of :mod:`jiadf.evaluation.metrics` for many weightings of the same lesions at once.

A bootstrap resample is a whole-number weight for each lesion, so a thousand resamples are one
matrix of weights.  Sorting happens once a class and not once a resample, which makes a thousand
resamples of a test set a matter of seconds.  Used by
:func:`jiadf.evaluation.metrics.bootstrap_intervals`; the point estimates there come from
scikit-learn, and the tests hold both to the same values.
"""

from __future__ import annotations

import numpy as np

BENCHMARK_METRICS = (
    "AUC",
    "AUC at sensitivity > 80 %",
    "average precision",
    "accuracy",
    "sensitivity",
    "specificity",
    "Dice",
    "PPV",
    "NPV",
)
MEAN_NAMES = {
    "macro_auc": "AUC",
    "macro_ap": "average precision",
    "mean_accuracy": "accuracy",
    "mean_sensitivity": "sensitivity",
    "mean_specificity": "specificity",
    "mean_dice": "Dice",
    "mean_ppv": "PPV",
    "mean_npv": "NPV",
    "mean_auc_sens80": "AUC at sensitivity > 80 %",
}
SENSITIVITY_FLOOR = 0.80
_CHUNK = 1_000_000  # weights held at once, bounding the memory of the curves


def stratified_weights(truth: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Draw `n` bootstrap resamples within each class, as weights.

    Parameters
    ----------
    truth : (N,) int array
        Class index of each lesion.
    n : int
        Number of resamples.
    seed : int
        Seed of NumPy's generator; the same seed gives the same resamples.

    Returns
    -------
    (n, N) float array
        How often each lesion is drawn; every class keeps its number of lesions in every resample.
    """
    truth = np.asarray(truth)
    rng = np.random.default_rng(seed)
    weights = np.empty((n, len(truth)))
    for label in np.unique(truth):
        members = np.flatnonzero(truth == label)
        weights[:, members] = rng.multinomial(
            len(members), np.full(len(members), 1 / len(members)), size=n
        )
    return weights


def width_bins(confidence: np.ndarray, bins: int) -> np.ndarray:
    """Index of the equal-width bin, open on the left, closed on the right, of each confidence."""
    return np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)


def ratio(numerator: np.ndarray, denominator: np.ndarray, undefined: float) -> np.ndarray:
    """Divide, with `undefined` wherever the denominator is 0."""
    denominator = np.asarray(denominator, dtype=float)
    empty = denominator == 0
    return np.where(empty, undefined, numerator / np.where(empty, 1.0, denominator))


def mean_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis that leaves NaN out; NaN where nothing is left."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0.0).sum(-1), defined.sum(-1), np.nan)


def _curve_metrics(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray):
    """Return AUC, AUC above the sensitivity floor and average precision, each (R,).

    The curves rise only at scores that a positive has, so only there are they computed: few columns
    for a rare class. Between two of them the ROC curve is flat.
    """
    order = np.argsort(-scores, kind="stable")
    is_positive = positive[order]
    if not is_positive.any():
        undefined = np.full(len(weights), np.nan)
        return undefined, undefined, np.zeros(len(weights))
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # of ties
    starts = np.append(0, ends[:-1] + 1)
    rises = np.add.reduceat(is_positive.astype(int), starts) > 0
    starts, ends = starts[rises], ends[rises]  # (G,)
    called = np.cumsum(weights[:, order], axis=1)  # (R, N)
    tp = np.cumsum(weights[:, order[is_positive]], axis=1)
    tp = tp[:, np.cumsum(is_positive)[ends] - 1]  # (R, G), after each rise
    tp_before = np.pad(tp[:, :-1], ((0, 0), (1, 0)))
    fp = called[:, ends] - tp
    fp_before = np.where(starts > 0, called[:, starts - 1], 0.0) - tp_before
    positives, negatives = tp[:, -1:], called[:, -1:] - tp[:, -1:]

    gained = ratio(tp - tp_before, positives, 0.0)
    average_precision = (gained * ratio(tp, tp + fp, 0.0)).sum(1)

    tpr, tpr_before = ratio(tp, positives, np.nan), ratio(tp_before, positives, np.nan)
    fpr, fpr_before = ratio(fp, negatives, np.nan), ratio(fp_before, negatives, np.nan)
    rising = (fpr - fpr_before) * (tpr + tpr_before) / 2
    flat = (np.pad(fpr_before[:, 1:], ((0, 0), (0, 1)), constant_values=1.0) - fpr) * tpr
    auc = rising.sum(1) + flat.sum(1)

    # The first rise that ends at or above the floor is cut at the floor.
    first = np.argmax(tpr >= SENSITIVITY_FLOOR, axis=1)[:, None]
    top, bottom, run = (
        np.take_along_axis(part, first, 1)[:, 0] for part in (tpr, tpr_before, fpr - fpr_before)
    )
    kept = ratio(top - SENSITIVITY_FLOOR, top - bottom, 0.0)
    cut_area = run * kept * (top + SENSITIVITY_FLOOR) / 2
    rank = np.arange(tpr.shape[1])
    above = np.where(rank >= first, flat, 0).sum(1) + np.where(rank > first, rising, 0).sum(1)
    return auc, np.where(np.isnan(auc), np.nan, above + cut_area), average_precision


def per_class(
    truth: np.ndarray,
    prob: np.ndarray,
    weights: np.ndarray,
    threshold: float = 0.5,
    curves: bool = True,
) -> dict[str, np.ndarray]:
    """Compute the benchmark's nine metrics of every class under every weighting.

    Parameters
    ----------
    truth : (N,) int array
    prob : (N, K) float array
    weights : (R, N) float array
        One row a weighting, non-negative.
    threshold : float
        A class is called present where its probability is larger than this.
    curves : bool
        Compute the metrics of curves (AUC, average precision), which take nearly all of the time;
        they are NaN if not.

    Returns
    -------
    dict of (R, K) float arrays
        Keyed as :data:`BENCHMARK_METRICS`; undefined values as :mod:`jiadf.evaluation.metrics`
        says.
    """
    resamples, (lesions, classes) = len(weights), prob.shape
    result = {name: np.full((resamples, classes), np.nan) for name in BENCHMARK_METRICS}
    present = truth[:, None] == np.arange(classes)  # (N, K)
    called = prob > threshold
    step = max(1, _CHUNK // lesions)
    for start in range(0, resamples if curves else 0, step):
        part = slice(start, start + step)
        chunk = weights[part]
        for k in range(classes):
            auc, auc_above, ap = _curve_metrics(present[:, k], prob[:, k], chunk)
            result["AUC"][part, k] = auc
            result["AUC at sensitivity > 80 %"][part, k] = auc_above
            result["average precision"][part, k] = ap
    tp = weights @ (present & called)  # (R, K)
    fp = weights @ (~present & called)
    fn = weights @ (present & ~called)
    tn = weights @ (~present & ~called)
    result["accuracy"] = (tp + tn) / (tp + tn + fp + fn)
    result["sensitivity"] = ratio(tp, tp + fn, 1.0)
    result["specificity"] = ratio(tn, tn + fp, 1.0)
    result["Dice"] = ratio(2 * tp, 2 * tp + fp + fn, 1.0)
    result["PPV"] = ratio(tp, tp + fp, 1.0)
    result["NPV"] = ratio(tn, tn + fn, 1.0)
    return result


def summary(
    truth: np.ndarray,
    prob: np.ndarray,
    weights: np.ndarray,
    bins: int = 15,
    classwise: dict[str, np.ndarray] | None = None,
    curves: bool = True,
) -> dict[str, np.ndarray]:
    """Compute :func:`jiadf.evaluation.metrics.summary` under every weighting.

    Parameters
    ----------
    truth : (N,) int array
    prob : (N, K) float array
    weights : (R, N) float array
    bins : int
        Bins of the expected calibration error.
    classwise : dict of (R, K) arrays, optional
        The answer of :func:`per_class`, where it is there already.
    curves : bool
        As in :func:`per_class`.

    Returns
    -------
    dict of (R,) float arrays
        Keyed and ordered as the answer of :func:`jiadf.evaluation.metrics.summary`.
    """
    classwise = per_class(truth, prob, weights, curves=curves) if classwise is None else classwise
    result = {name: mean_defined(classwise[metric]) for name, metric in MEAN_NAMES.items()}

    classes = prob.shape[1]
    total = weights.sum(1)
    present = truth[:, None] == np.arange(classes)  # (N, K)
    predicted = prob.argmax(1)
    chosen = predicted[:, None] == np.arange(classes)
    tp, support = weights @ (present & chosen), weights @ present  # (R, K)
    result["macro_f1"] = mean_defined(ratio(2 * tp, support + weights @ chosen, np.nan))
    result["macro_f1_at_half"] = result["mean_dice"].copy()
    result["balanced_accuracy"] = mean_defined(ratio(tp, support, np.nan))
    result["top1_accuracy"] = weights @ (predicted == truth) / total

    confidence = prob.max(1)
    in_bin = width_bins(confidence, bins)[:, None] == np.arange(bins)  # (N, bins)
    excess = (confidence - (predicted == truth))[:, None] * in_bin
    result["ece"] = np.abs(weights @ excess).sum(1) / total
    of_truth = prob[np.arange(len(truth)), truth]
    surprise = -np.log(np.maximum(of_truth, np.finfo(float).eps))
    result["nll"] = weights @ surprise / total
    result["brier"] = weights @ ((prob - present) ** 2).sum(1) / total
    return result

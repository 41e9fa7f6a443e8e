"""How good a prediction is: the ISIC live benchmark's metrics, F1 and calibration.

Every function takes the true class index of each lesion, ``y_true`` of shape (N,), the predicted
probabilities, ``y_prob`` of shape (N, K), and optionally ``sample_weight``: (N,) weights lesions,
for another prevalence say, and (R, N) are R weightings at once.  A bootstrap resample is a
whole-number weight for each lesion, so a thousand resamples are one matrix of weights; sorting
happens once a class and not once a resample, which makes them a matter of seconds.  The tests hold
every value to scikit-learn's.  What the names mean, and what happens where a metric is undefined:

* The nine metrics a class are those of the live benchmark (Table 5 of the paper): each class is a
  binary question, and a lesion is called positive where its probability is *larger than* 0.5.
* Sensitivity, specificity, Dice, PPV and NPV count 0/0 as 1.0, as the benchmark's own scorer,
  ``isic-challenge-scoring``, does.  A class that is never predicted therefore has a PPV of 1.0.
* AUC and AUC at sensitivity > 80 % do not exist for a class that no lesion, or every lesion, has:
  NaN, left out of the mean.  Average precision is then 0.0 (no positive) or 1.0 (no negative).
* ``macro_f1_at_half`` cuts every class at 0.5, as the benchmark ranks.  F1 and Dice are the same
  number, so this is the mean Dice: a class that occurs and is never given more than 0.5 scores 0,
  and a class that neither occurs nor is predicted scores 1.0.
* ``macro_f1`` gives each lesion its most probable class.  A class that neither occurs nor is
  predicted is left out of the mean, as scikit-learn leaves it out.  Ties go to the first class.
* ``mean_accuracy`` is the mean of K one-against-rest accuracies (the paper's "Accuracy");
  ``top1_accuracy`` is the share of lesions whose most probable class is the true one.
* ``ece`` is of the most probable class in 15 bins of equal width (Guo et al. 2017), ``nll`` the
  mean natural logarithm (probabilities floored at 2.2e-16), ``brier`` the mean over lesions of the
  squared errors summed over classes (0 to 2).

The AUC at sensitivity > 80 % is the area under the part of the ROC curve at or above that
sensitivity, not rescaled, hence between 0 and 1 and at most the AUC.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from jiadf.data.schema import CLASSES

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
METRIC_NAMES = {
    "macro_auc": "macro AUC",
    "macro_ap": "macro AP",
    "mean_accuracy": "mean accuracy",
    "mean_sensitivity": "mean sensitivity",
    "mean_specificity": "mean specificity",
    "mean_dice": "mean Dice",
    "mean_ppv": "mean PPV",
    "mean_npv": "mean NPV",
    "mean_auc_sens80": "mean AUC at sensitivity > 80 %",
    "macro_f1": "macro-F1",
    "macro_f1_at_half": "macro-F1 at 0.5",
    "balanced_accuracy": "balanced accuracy",
    "top1_accuracy": "accuracy",
    "ece": "ECE",
    "nll": "NLL",
    "brier": "Brier score",
}
SUMMARY_METRICS = tuple(METRIC_NAMES)
LOWER_IS_BETTER = frozenset({"ece", "nll", "brier"})
SENSITIVITY_FLOOR = 0.80
_CHUNK = 1_000_000  # weights held at once, bounding the memory of the curves


def check_predictions(y_true, y_prob) -> tuple[np.ndarray, np.ndarray]:
    """Return `y_true` as (N,) integers and `y_prob` as (N, K) floats, or raise ValueError.

    Values may leave [0, 1] by rounding only (1e-6).  Rows need not sum to 1: the benchmark does
    not ask for it either, but `nll`, `brier` and `ece` mean little where they do not.
    """
    y_true, y_prob = np.asarray(y_true), np.asarray(y_prob, dtype=float)
    if y_prob.ndim != 2 or y_true.shape != y_prob.shape[:1]:
        raise ValueError(
            f"y_true has shape {y_true.shape} and y_prob {y_prob.shape}; "
            "they must be (N,) and (N, K)"
        )
    if len(y_true) == 0:
        raise ValueError("no lesions: a metric needs at least one")
    if not np.issubdtype(y_true.dtype, np.integer):
        raise ValueError(f"y_true holds {y_true.dtype}; it must hold class indices (integers)")
    if y_true.min() < 0 or y_true.max() >= y_prob.shape[1]:
        raise ValueError(
            f"y_true holds {y_true.min()} to {y_true.max()}; with {y_prob.shape[1]} columns of "
            f"probabilities it must lie in 0 to {y_prob.shape[1] - 1}"
        )
    if not np.isfinite(y_prob).all():
        raise ValueError("y_prob holds NaN or infinite values")
    if y_prob.min() < -1e-6 or y_prob.max() > 1 + 1e-6:
        raise ValueError(f"y_prob holds {y_prob.min():g} to {y_prob.max():g}, outside [0, 1]")
    return y_true, y_prob


def check_weights(sample_weight, lesions: int) -> np.ndarray:
    """Return weights as (R, N) floats, one row of ones for None; or raise ValueError."""
    if sample_weight is None:
        return np.ones((1, lesions))
    weights = np.atleast_2d(np.asarray(sample_weight, dtype=float))
    if weights.ndim != 2 or weights.shape[1] != lesions:
        raise ValueError(
            f"sample_weight has shape {np.shape(sample_weight)}; it must be (R, {lesions}) or "
            f"({lesions},)"
        )
    if not np.isfinite(weights).all() or (weights < 0).any() or (weights.sum(1) == 0).any():
        raise ValueError("sample_weight must be finite and non-negative, and not all zero")
    return weights


def _shaped(result: dict[str, np.ndarray], sample_weight) -> dict[str, np.ndarray]:
    """Drop the axis of the weightings where there was but one."""
    if np.ndim(sample_weight) == 2:
        return result
    return {name: values[0] for name, values in result.items()}


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
    y_true, y_prob, sample_weight=None, *, threshold: float = 0.5, curves: bool = True
) -> dict[str, np.ndarray]:
    """Compute the benchmark's nine metrics of every class.

    Parameters
    ----------
    y_true : (N,) int array
    y_prob : (N, K) float array
    sample_weight : (N,) or (R, N) float array, optional
        Of each lesion, non-negative; a row a weighting.
    threshold : float
        A class is called present where its probability is larger than this; the benchmark's is 0.5.
    curves : bool
        Compute the metrics of curves (AUC, average precision), which take nearly all of the time;
        they are NaN if not.

    Returns
    -------
    dict of (K,) float arrays, or (R, K) if there are R weightings
        Keyed as :data:`BENCHMARK_METRICS`.

    Raises
    ------
    ValueError
        On shapes, labels, probabilities or weights that cannot be scored.
    """
    y_true, y_prob = check_predictions(y_true, y_prob)
    weights = check_weights(sample_weight, len(y_true))
    return _shaped(_per_class(y_true, y_prob, weights, threshold, curves), sample_weight)


def _per_class(y_true, y_prob, weights, threshold: float, curves: bool) -> dict[str, np.ndarray]:
    resamples, (lesions, classes) = len(weights), y_prob.shape
    result = {name: np.full((resamples, classes), np.nan) for name in BENCHMARK_METRICS}
    present = y_true[:, None] == np.arange(classes)  # (N, K)
    called = y_prob > threshold
    step = max(1, _CHUNK // lesions)
    for start in range(0, resamples if curves else 0, step):
        part = slice(start, start + step)
        chunk = weights[part]
        for k in range(classes):
            auc, auc_above, ap = _curve_metrics(present[:, k], y_prob[:, k], chunk)
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


def summary(y_true, y_prob, sample_weight=None, *, curves: bool = True) -> dict[str, float]:
    """Compute every headline figure of one prediction.

    Parameters
    ----------
    y_true : (N,) int array
    y_prob : (N, K) float array
    sample_weight : (N,) or (R, N) float array, optional
        Of each lesion, non-negative; a row a weighting.
    curves : bool
        As in :func:`per_class`.

    Returns
    -------
    dict of str to float, or to (R,) arrays if there are R weightings
        Keyed as :data:`SUMMARY_METRICS`.

    Raises
    ------
    ValueError
        As :func:`per_class`.
    """
    y_true, y_prob = check_predictions(y_true, y_prob)
    weights = check_weights(sample_weight, len(y_true))
    classwise = _per_class(y_true, y_prob, weights, 0.5, curves)
    result = {name: mean_defined(classwise[metric]) for name, metric in MEAN_NAMES.items()}
    classes = y_prob.shape[1]
    total = weights.sum(1)
    present = y_true[:, None] == np.arange(classes)  # (N, K)
    predicted = y_prob.argmax(1)
    chosen = predicted[:, None] == np.arange(classes)
    tp, support = weights @ (present & chosen), weights @ present  # (R, K)
    result["macro_f1"] = mean_defined(ratio(2 * tp, support + weights @ chosen, np.nan))
    result["macro_f1_at_half"] = result["mean_dice"].copy()
    result["balanced_accuracy"] = mean_defined(ratio(tp, support, np.nan))
    result["top1_accuracy"] = weights @ (predicted == y_true) / total

    confidence = y_prob.max(1)
    in_bin = width_bins(confidence, 15)[:, None] == np.arange(15)  # (N, bins)
    excess = (confidence - (predicted == y_true))[:, None] * in_bin
    result["ece"] = np.abs(weights @ excess).sum(1) / total
    of_truth = y_prob[np.arange(len(y_true)), y_true]
    surprise = -np.log(np.maximum(of_truth, np.finfo(float).eps))
    result["nll"] = weights @ surprise / total
    result["brier"] = weights @ ((y_prob - present) ** 2).sum(1) / total
    result = _shaped(result, sample_weight)
    return result if np.ndim(sample_weight) == 2 else {k: float(v) for k, v in result.items()}


def score(y_true, y_prob, classes: Sequence[str] = CLASSES) -> dict[str, dict]:
    """Score a prediction completely, ready for JSON.

    Returns
    -------
    dict
        ``summary`` (name to float) and ``per_class`` (metric to class or ``mean`` to float), with
        None for what is undefined, since JSON has no NaN.
    """

    def plain(value: float) -> float | None:
        return None if np.isnan(value) else float(value)

    table = class_table(y_true, y_prob, classes)
    return {
        "summary": {name: plain(value) for name, value in summary(y_true, y_prob).items()},
        "per_class": {
            metric: {str(name): plain(value) for name, value in row.items()}
            for metric, row in table.iterrows()
        },
    }


def class_table(y_true, y_prob, classes: Sequence[str] = CLASSES) -> pd.DataFrame:
    """Lay :func:`per_class` out as the paper's Table 5: a row a metric, the mean first."""
    table = pd.DataFrame(per_class(y_true, y_prob), index=list(classes)).T.rename_axis("metric")
    table.insert(0, "mean", table.mean(axis="columns"))
    return table

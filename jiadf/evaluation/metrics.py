"""How good a prediction is: the ISIC live benchmark's metrics, F1 and calibration.

Every function takes the true class index of each lesion, ``y_true`` of shape (N,), the predicted
probabilities, ``y_prob`` of shape (N, K), and optionally ``sample_weight``: (N,) weights lesions,
for another prevalence say, and (R, N) are R weightings at once. A bootstrap resample is a
whole-number weight for each lesion, so a thousand resamples are one matrix of weights, and sorting
happens once a class. The tests hold every value to scikit-learn's and to the benchmark's own
scorer, ``isic-challenge-scoring``. What happens where a metric is undefined:

* The nine metrics a class are those of the live benchmark (Table 5 of the paper): each class is a
  binary question, and a lesion is called positive where its probability is *larger than* 0.5.
* Sensitivity, specificity, Dice, PPV and NPV count 0/0 as 1.0, as the scorer does: a class that is
  never predicted has a PPV of 1.0, one that neither occurs nor is predicted a Dice of 1.0.
* AUC and AUC at sensitivity > 80 % do not exist for a class that no lesion, or every lesion, has:
  NaN, left out of the mean. Average precision is then 0.0 (no positive) or 1.0 (no negative).
* ``macro_f1_at_half``, by which the benchmark ranks, is the mean Dice, F1 being the same number. A
  class without lesions therefore counts as 1.0 where it is never predicted: the scorer's rule.
* ``macro_f1`` gives each lesion its most probable class. A class that neither occurs nor is
  predicted is left out of the mean, as scikit-learn leaves it out. Ties go to the first class.
* ``mean_accuracy`` is the mean of K one-against-rest accuracies (the paper's "Accuracy");
  ``top1_accuracy`` is the share of lesions whose most probable class is the true one.
* ``ece`` is of the most probable class in 15 bins of equal width (Guo et al. 2017), ``nll`` the
  mean natural logarithm (probabilities floored at 2.2e-16), ``brier`` the mean over lesions of the
  squared errors summed over classes (0 to 2).

The AUC at sensitivity > 80 % is the area under the part of the ROC curve at or above that
sensitivity, not rescaled, hence at most the AUC.
"""

import numpy as np
import pandas as pd

from jiadf.data.schema import CLASSES

BENCHMARK_METRICS = (
    "AUC", "AUC at sensitivity > 80 %", "average precision", "accuracy", "sensitivity",
    "specificity", "Dice", "PPV", "NPV",
)  # fmt: skip
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
    **{name: f"mean {metric}" for name, metric in MEAN_NAMES.items() if name.startswith("mean_")},
    "macro_f1": "macro-F1",
    "macro_f1_at_half": "macro-F1 at 0.5",
    "balanced_accuracy": "balanced accuracy",
    "top1_accuracy": "accuracy",
    "ece": "ECE",
    "nll": "NLL",
    "brier": "Brier score",
}
SUMMARY_METRICS = tuple(METRIC_NAMES)
SENSITIVITY_FLOOR = 0.80
_CHUNK = 1_000_000  # weights held at once, bounding the memory of the curves


def check_predictions(y_true, y_prob) -> tuple[np.ndarray, np.ndarray]:
    """Return `y_true` as (N,) integers and `y_prob` as (N, K) floats, or raise ValueError.

    Values may leave [0, 1] by rounding only (1e-6). Rows need not sum to 1: the benchmark does
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


def confidence_gap(confidence, right, weights: np.ndarray, bins: int = 15) -> np.ndarray:
    """Mean distance between confidence and share of right ones over bins of equal width, (R,).

    Bins are open on the left and closed on the right; `weights` is (R, N).
    """
    index = np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    member = index[:, None] == np.arange(bins)  # (N, bins)
    return np.abs(weights @ (member * (confidence - right)[:, None])).sum(1) / weights.sum(1)


def _ratio(numerator: np.ndarray, denominator: np.ndarray, undefined: float) -> np.ndarray:
    """Divide, with `undefined` wherever the denominator is 0."""
    denominator = np.asarray(denominator, dtype=float)
    empty = denominator == 0
    return np.where(empty, undefined, numerator / np.where(empty, 1.0, denominator))


def _mean_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis that leaves NaN out; NaN where nothing is left."""
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0.0).sum(-1), defined.sum(-1), np.nan)


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

    gained = _ratio(tp - tp_before, positives, 0.0)
    average_precision = (gained * _ratio(tp, tp + fp, 0.0)).sum(1)

    tpr, tpr_before = _ratio(tp, positives, np.nan), _ratio(tp_before, positives, np.nan)
    fpr, fpr_before = _ratio(fp, negatives, np.nan), _ratio(fp_before, negatives, np.nan)
    rising = (fpr - fpr_before) * (tpr + tpr_before) / 2
    flat = (np.pad(fpr_before[:, 1:], ((0, 0), (0, 1)), constant_values=1.0) - fpr) * tpr
    auc = rising.sum(1) + flat.sum(1)

    # The first rise that ends at or above the floor is cut at the floor.
    first = np.argmax(tpr >= SENSITIVITY_FLOOR, axis=1)[:, None]
    top, bottom, run = (
        np.take_along_axis(part, first, 1)[:, 0] for part in (tpr, tpr_before, fpr - fpr_before)
    )
    kept = _ratio(top - SENSITIVITY_FLOOR, top - bottom, 0.0)
    cut_area = run * kept * (top + SENSITIVITY_FLOOR) / 2
    rank = np.arange(tpr.shape[1])
    above = np.where(rank >= first, flat, 0).sum(1) + np.where(rank > first, rising, 0).sum(1)
    return auc, np.where(np.isnan(auc), np.nan, above + cut_area), average_precision


def per_class(y_true, y_prob, sample_weight=None) -> dict[str, np.ndarray]:
    """Compute :data:`BENCHMARK_METRICS` of every class: (K,), or (R, K) for R weightings.

    Raises ValueError on shapes, labels, probabilities or weights that cannot be scored.
    """
    y_true, y_prob = check_predictions(y_true, y_prob)
    result = _per_class(y_true, y_prob, check_weights(sample_weight, len(y_true)))
    if np.ndim(sample_weight) == 2:
        return result
    return {name: values[0] for name, values in result.items()}


def _per_class(y_true, y_prob, weights, curves: bool = True) -> dict[str, np.ndarray]:
    resamples, (lesions, classes) = len(weights), y_prob.shape
    result = {name: np.full((resamples, classes), np.nan) for name in BENCHMARK_METRICS}
    present, called = y_true[:, None] == np.arange(classes), y_prob > 0.5  # (N, K)
    step = max(1, _CHUNK // lesions)
    for start in range(0, resamples if curves else 0, step):
        part = slice(start, start + step)
        for k in range(classes):
            auc, auc_above, ap = _curve_metrics(present[:, k], y_prob[:, k], weights[part])
            result["AUC"][part, k] = auc
            result["AUC at sensitivity > 80 %"][part, k] = auc_above
            result["average precision"][part, k] = ap
    tp = weights @ (present & called)  # (R, K)
    fp = weights @ (~present & called)
    fn = weights @ (present & ~called)
    tn = weights @ (~present & ~called)
    result["accuracy"] = (tp + tn) / (tp + tn + fp + fn)
    result["sensitivity"] = _ratio(tp, tp + fn, 1.0)
    result["specificity"] = _ratio(tn, tn + fp, 1.0)
    result["Dice"] = _ratio(2 * tp, 2 * tp + fp + fn, 1.0)
    result["PPV"] = _ratio(tp, tp + fp, 1.0)
    result["NPV"] = _ratio(tn, tn + fn, 1.0)
    return result


def summary(y_true, y_prob, sample_weight=None, *, curves: bool = True) -> dict[str, float]:
    """Compute :data:`SUMMARY_METRICS`: numbers, or (R,) arrays for R weightings.

    Without `curves`, AUC and average precision, which take nearly all of the time, are NaN.
    Raises as :func:`per_class`.
    """
    y_true, y_prob = check_predictions(y_true, y_prob)
    weights = check_weights(sample_weight, len(y_true))
    classwise = _per_class(y_true, y_prob, weights, curves)
    result = {name: _mean_defined(classwise[metric]) for name, metric in MEAN_NAMES.items()}
    classes = np.arange(y_prob.shape[1])
    total = weights.sum(1)
    present = y_true[:, None] == classes  # (N, K)
    predicted = y_prob.argmax(1)
    chosen = predicted[:, None] == classes
    tp, support = weights @ (present & chosen), weights @ present  # (R, K)
    result["macro_f1"] = _mean_defined(_ratio(2 * tp, support + weights @ chosen, np.nan))
    result["macro_f1_at_half"] = result["mean_dice"].copy()
    result["balanced_accuracy"] = _mean_defined(_ratio(tp, support, np.nan))
    result["top1_accuracy"] = weights @ (predicted == y_true) / total
    result["ece"] = confidence_gap(y_prob.max(1), predicted == y_true, weights)
    of_truth = y_prob[np.arange(len(y_true)), y_true]
    result["nll"] = weights @ -np.log(np.maximum(of_truth, np.finfo(float).eps)) / total
    result["brier"] = weights @ ((y_prob - present) ** 2).sum(1) / total
    if np.ndim(sample_weight) == 2:
        return result
    return {name: float(values[0]) for name, values in result.items()}


def score(y_true, y_prob) -> dict[str, dict]:
    """Score a prediction of the eleven classes completely, ready for JSON.

    ``summary`` is name to float, ``per_class`` metric to class or ``mean`` to float, with None for
    what is undefined, since JSON has no NaN.
    """

    def plain(values) -> dict[str, float | None]:
        return {str(k): None if np.isnan(v) else float(v) for k, v in values.items()}

    table = pd.DataFrame(per_class(y_true, y_prob), index=list(CLASSES))
    table = pd.concat([table.mean().to_frame("mean").T, table])
    return {
        "summary": plain(summary(y_true, y_prob)),
        "per_class": {metric: plain(values) for metric, values in table.items()},
    }

"""How good a prediction is: the ISIC live benchmark's metrics, F1, calibration, intervals.

Every function takes the true class index of each lesion, ``truth`` of shape (N,), and the
predicted probabilities, ``prob`` of shape (N, K).  What the names mean, and what happens where a
metric is undefined:

* The nine metrics a class are those of the live benchmark (Table 5 of the paper): each class is a
  binary question, and a lesion is called positive where its probability is *larger than* 0.5.
* Sensitivity, specificity, Dice, PPV and NPV count 0/0 as 1.0, as the benchmark's own scorer,
  ``isic-challenge-scoring``, does.  A class that is never called therefore has a PPV of 1.0.
* AUC and AUC at sensitivity > 80 % do not exist for a class that no lesion, or every lesion, has:
  NaN, left out of the mean.  Average precision is then 0.0 (no positive) or 1.0 (no negative).
* ``macro_f1_at_half`` cuts every class at 0.5, as the benchmark ranks.  F1 and Dice are the same
  number, so this is the mean Dice: a class that occurs and is never given more than 0.5 scores 0,
  and a class that neither occurs nor is called scores 1.0.
* ``macro_f1`` gives each lesion its most probable class.  A class that neither occurs nor is
  predicted is left out of the mean, as scikit-learn leaves it out.  Ties go to the first class.
* ``mean_accuracy`` is the mean of K one-against-rest accuracies (the paper's "Accuracy");
  ``top1_accuracy`` is the share of lesions whose most probable class is the true one.

The AUC at sensitivity > 80 % is the area under the part of the ROC curve at or above that
sensitivity, not rescaled, hence between 0 and 1 and at most the AUC.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn import metrics as skm

from jiadf.data.schema import CLASSES
from jiadf.evaluation import weighted

BENCHMARK_METRICS = weighted.BENCHMARK_METRICS
SUMMARY_METRICS = (
    *weighted.MEAN_NAMES,
    "macro_f1",
    "macro_f1_at_half",
    "balanced_accuracy",
    "top1_accuracy",
    "ece",
    "nll",
    "brier",
)


def check_predictions(truth, prob) -> tuple[np.ndarray, np.ndarray]:
    """Return `truth` as (N,) integers and `prob` as (N, K) floats, or raise ValueError.

    Values may leave [0, 1] by rounding only (1e-6).  Rows need not sum to 1: the benchmark does
    not ask for it either, but `nll`, `brier` and `ece` mean little where they do not.
    """
    truth, prob = np.asarray(truth), np.asarray(prob, dtype=float)
    if prob.ndim != 2 or truth.shape != prob.shape[:1]:
        raise ValueError(
            f"truth has shape {truth.shape} and prob {prob.shape}; they must be (N,) and (N, K)"
        )
    if len(truth) == 0:
        raise ValueError("no lesions: a metric needs at least one")
    if not np.issubdtype(truth.dtype, np.integer):
        raise ValueError(f"truth holds {truth.dtype}; it must hold class indices (integers)")
    if truth.min() < 0 or truth.max() >= prob.shape[1]:
        raise ValueError(
            f"truth holds {truth.min()} to {truth.max()}; with {prob.shape[1]} columns of "
            f"probabilities it must lie in 0 to {prob.shape[1] - 1}"
        )
    if not np.isfinite(prob).all():
        raise ValueError("prob holds NaN or infinite values")
    if prob.min() < -1e-6 or prob.max() > 1 + 1e-6:
        raise ValueError(f"prob holds {prob.min():g} to {prob.max():g}, outside [0, 1]")
    return truth, prob


def auc_above_sensitivity(positive, scores, floor: float = weighted.SENSITIVITY_FLOOR) -> float:
    """Area under the part of the ROC curve whose sensitivity is at least `floor`.

    Parameters
    ----------
    positive : (N,) bool array
    scores : (N,) float array
    floor : float
        In (0, 1].

    Returns
    -------
    float
        Not rescaled; NaN where only one of the two classes occurs.
    """
    positive = np.asarray(positive, dtype=bool)
    if positive.all() or not positive.any():
        return float("nan")
    fpr, tpr, _ = skm.roc_curve(positive, scores, drop_intermediate=False)
    first = np.searchsorted(tpr, floor, side="left")
    at_floor = np.interp(floor, tpr[first - 1 : first + 1], fpr[first - 1 : first + 1])
    return float(skm.auc(np.insert(fpr[first:], 0, at_floor), np.insert(tpr[first:], 0, floor)))


def _binary_metrics(positive: np.ndarray, scores: np.ndarray, threshold: float) -> list[float]:
    """Return the nine metrics of one class, in the order of `BENCHMARK_METRICS`."""
    called = scores > threshold
    tn, fp, fn, tp = skm.confusion_matrix(positive, called, labels=[False, True]).ravel()
    one_sided = positive.all() or not positive.any()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns that nothing is positive
        average_precision = skm.average_precision_score(positive, scores)
    return [
        np.nan if one_sided else skm.roc_auc_score(positive, scores),
        auc_above_sensitivity(positive, scores),
        average_precision,
        (tp + tn) / len(positive),
        weighted.ratio(tp, tp + fn, 1.0),
        weighted.ratio(tn, tn + fp, 1.0),
        weighted.ratio(2 * tp, 2 * tp + fp + fn, 1.0),
        weighted.ratio(tp, tp + fp, 1.0),
        weighted.ratio(tn, tn + fn, 1.0),
    ]


def per_class_metrics(
    truth, prob, threshold: float = 0.5, classes: Sequence[str] = CLASSES
) -> pd.DataFrame:
    """Compute the live benchmark's nine metrics of every class, and their means.

    Parameters
    ----------
    truth : (N,) int array
        True class index of each lesion.
    prob : (N, K) float array
        Predicted probabilities.
    threshold : float
        A class is called present where its probability is larger than this; the benchmark's is 0.5.
    classes : sequence of K str
        Names of the columns of `prob`.

    Returns
    -------
    DataFrame
        Rows :data:`BENCHMARK_METRICS`, columns ``mean`` and then `classes`: the layout of the
        paper's Table 5.

    Raises
    ------
    ValueError
        On shapes, labels or probabilities that cannot be scored.
    """
    truth, prob = check_predictions(truth, prob)
    if len(classes) != prob.shape[1]:
        raise ValueError(f"{len(classes)} class names for {prob.shape[1]} columns of prob")
    columns = {
        name: _binary_metrics(truth == k, prob[:, k], threshold) for k, name in enumerate(classes)
    }
    table = pd.DataFrame(columns, index=pd.Index(BENCHMARK_METRICS, name="metric"), dtype=float)
    table.insert(0, "mean", table.mean(axis="columns"))
    return table


def summary(truth, prob) -> dict[str, float]:
    """Compute every headline figure of one prediction.

    Parameters
    ----------
    truth : (N,) int array
    prob : (N, K) float array

    Returns
    -------
    dict of str to float
        Keyed as :data:`SUMMARY_METRICS`.  `ece` is of the most probable class in 15 bins of equal
        width, `nll` the mean natural logarithm (probabilities floored at 2.2e-16), `brier` the
        mean over lesions of the squared errors summed over classes (0 to 2).
    """
    truth, prob = check_predictions(truth, prob)
    means = per_class_metrics(truth, prob, classes=range(prob.shape[1]))["mean"]
    result = {name: float(means[metric]) for name, metric in weighted.MEAN_NAMES.items()}
    predicted = prob.argmax(axis=1)
    result["macro_f1"] = float(skm.f1_score(truth, predicted, average="macro"))
    result["macro_f1_at_half"] = result["mean_dice"]
    result["balanced_accuracy"] = float(
        skm.recall_score(truth, predicted, labels=np.unique(truth), average="macro")
    )
    result["top1_accuracy"] = float(skm.accuracy_score(truth, predicted))
    result["ece"] = expected_calibration_error(truth, prob)
    of_truth = prob[np.arange(len(truth)), truth]
    result["nll"] = float(-np.log(np.maximum(of_truth, np.finfo(float).eps)).mean())
    result["brier"] = float(((prob - np.eye(prob.shape[1])[truth]) ** 2).sum(axis=1).mean())
    return result


def confidence_bins(
    confidence: np.ndarray, bins: int = 15, scheme: str = "width"
) -> tuple[np.ndarray, np.ndarray]:
    """Return the edges (B + 1,) of the bins of :func:`reliability_bins`, and each lesion's bin."""
    if bins < 1:
        raise ValueError(f"bins is {bins}; it must be at least 1")
    if scheme == "width":
        return np.linspace(0, 1, bins + 1), weighted.width_bins(confidence, bins)
    if scheme == "mass":
        edges = np.unique(np.quantile(confidence, np.linspace(0, 1, bins + 1)))
        if len(edges) == 1:
            edges = np.repeat(edges, 2)
        return edges, np.digitize(confidence, edges[1:-1], right=True)
    raise ValueError(f"scheme is {scheme!r}; it must be 'width' or 'mass'")


def reliability_bins(truth, prob, bins: int = 15, scheme: str = "width") -> pd.DataFrame:
    """Put the predictions into bins of confidence, as a reliability diagram shows them.

    The confidence of a lesion is the probability of its most probable class, and the prediction is
    right where that class is the true one (Guo et al. 2017).

    Parameters
    ----------
    truth : (N,) int array
    prob : (N, K) float array
    bins : int
        Number of bins.
    scheme : {"width", "mass"}
        Bins of equal width on [0, 1], or between the quantiles of the confidences, hence holding
        about equally many lesions; equal quantiles are merged, so that ties stay together.

    Returns
    -------
    DataFrame
        One row a bin ``(lower, upper]``: `lower`, `upper`, `count`, mean `confidence`, `accuracy`
        (both NaN in an empty bin) and their difference `gap` = confidence - accuracy, which is
        positive where the model is over-confident.
    """
    truth, prob = check_predictions(truth, prob)
    confidence = prob.max(axis=1)
    correct = prob.argmax(axis=1) == truth
    edges, index = confidence_bins(confidence, bins, scheme)
    count = np.bincount(index, minlength=len(edges) - 1)
    table = pd.DataFrame({"lower": edges[:-1], "upper": edges[1:], "count": count})
    for name, values in {"confidence": confidence, "accuracy": correct}.items():
        total = np.bincount(index, weights=values, minlength=len(count))
        table[name] = weighted.ratio(total, count, np.nan)
    table["gap"] = table["confidence"] - table["accuracy"]
    return table


def expected_calibration_error(truth, prob, bins: int = 15, scheme: str = "width") -> float:
    """Mean distance between confidence and accuracy over the bins of :func:`reliability_bins`.

    Parameters are those of :func:`reliability_bins`; a bin's weight is the number of its lesions.
    """
    table = reliability_bins(truth, prob, bins=bins, scheme=scheme)
    return float((table["gap"].abs().fillna(0) * table["count"]).sum() / table["count"].sum())


def _check_bootstrap(n: int, level: float) -> list[float]:
    if n < 1 or not 0 < level < 1:
        raise ValueError(f"n is {n} and level {level}; n must be at least 1, level between 0 and 1")
    return [(1 - level) / 2, (1 + level) / 2]


def bootstrap_intervals(
    truth, prob, n: int = 1000, seed: int = 0, level: float = 0.95
) -> pd.DataFrame:
    """Percentile bootstrap intervals of every figure of :func:`summary`.

    Lesions are drawn with replacement within each class, so that rare classes neither vanish nor
    double; the intervals are for test sets with these class counts.  Resampling repeats lesions,
    which by itself raises `ece` and, in rare classes, `macro_ap`: their values can lie near `low`.

    Parameters
    ----------
    truth : (N,) int array
    prob : (N, K) float array
    n : int
        Number of resamples.
    seed : int
        The same seed gives the same resamples, hence the same interval, for the same `truth`.
    level : float
        Share of the resamples inside the interval.

    Returns
    -------
    DataFrame
        Columns `metric`, `value` (on all lesions), `low`, `high`.
    """
    truth, prob = check_predictions(truth, prob)
    quantiles = _check_bootstrap(n, level)
    draws = weighted.summary(truth, prob, weighted.stratified_weights(truth, n, seed))
    rows = [
        (name, value, *np.quantile(draws[name], quantiles))
        for name, value in summary(truth, prob).items()
    ]
    return pd.DataFrame(rows, columns=["metric", "value", "low", "high"])


def bootstrap_per_class(
    truth,
    prob,
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    classes: Sequence[str] = CLASSES,
) -> pd.DataFrame:
    """Percentile bootstrap intervals of every cell of :func:`per_class_metrics`.

    Parameters
    ----------
    truth, prob, n, seed, level
        As in :func:`bootstrap_intervals`, with the same resamples for the same seed.
    classes : sequence of K str
        Names of the columns of `prob`.

    Returns
    -------
    DataFrame
        Columns `metric`, `label` (a class), `value`, `low`, `high`, `lesions` (of that class).
    """
    truth, prob = check_predictions(truth, prob)
    quantiles = _check_bootstrap(n, level)
    values = per_class_metrics(truth, prob, classes=classes)
    draws = weighted.per_class(truth, prob, weighted.stratified_weights(truth, n, seed))
    rows = [
        (metric, name, values.loc[metric, name], *np.quantile(draws[metric][:, k], quantiles), size)
        for metric in BENCHMARK_METRICS
        for k, (name, size) in enumerate(
            zip(classes, np.bincount(truth, minlength=len(classes)), strict=True)
        )
    ]
    return pd.DataFrame(rows, columns=["metric", "label", "value", "low", "high", "lesions"])


def score(truth, prob, classes: Sequence[str] = CLASSES) -> dict[str, dict]:
    """Score a prediction completely, ready for JSON.

    Returns
    -------
    dict
        ``summary`` (name to float) and ``per_class`` (metric to class or ``mean`` to float), with
        None for what is undefined, since JSON has no NaN.
    """

    def plain(value: float) -> float | None:
        return None if np.isnan(value) else float(value)

    table = per_class_metrics(truth, prob, classes=classes)
    return {
        "summary": {name: plain(value) for name, value in summary(truth, prob).items()},
        "per_class": {
            metric: {str(name): plain(value) for name, value in row.items()}
            for metric, row in table.iterrows()
        },
    }

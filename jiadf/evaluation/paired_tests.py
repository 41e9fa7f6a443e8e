"""Which differences between systems are significant on these lesions.

Systems predict the same lesions, so they are compared in pairs: both are scored on the same
resamples, and a difference is set against those that arise when the two systems' predictions are
exchanged lesion by lesion::

    table = compare_all(y_true, {"C": c, "CD": cd, "CDM": cdm}, "CDM", ["macro_auc"])
    table[["system", "difference", "low", "high", "p_holm"]]

* The interval is a 95 % percentile bootstrap, stratified by class.
* The p-value is of the null hypothesis that the two predictions of a lesion are exchangeable
  (two-sided; Monte Carlo, counting the observed labelling, so never 0). That says more than
  equal scores: for systems that are confident to very different degrees it is approximate, since
  exchanging rows then mixes two scales. Near 0.05, interval and p-value may disagree.
* Both are about other lesions for these trained networks, not about other trainings.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from jiadf.evaluation.bootstrap import stratified_weights
from jiadf.evaluation.metrics import SUMMARY_METRICS, check_predictions, check_weights, summary

CURVE_METRICS = frozenset({"macro_auc", "macro_ap", "mean_auc_sens80"})
_TIE = 1e-10  # differences this close to the observed one are as large as it


def compare_pairs(
    y_true, systems: Mapping[str, np.ndarray], pairs: Sequence[tuple[str, str]],
    names: Sequence[str], n: int = 1000, seed: int = 0, sample_weight=None,
) -> pd.DataFrame:  # fmt: skip
    """Compare chosen pairs of systems on the same lesions.

    Parameters
    ----------
    y_true : (N,) int array
        True class index of each lesion.
    systems : mapping of name to (N, K) float array
        Predicted probabilities.
    pairs : sequence of (system, reference)
        A difference is system - reference.
    names
        Metrics of :func:`jiadf.evaluation.metrics.summary`.
    n, seed
        Number of resamples, and of exchanges (no p-value is below 1 / (n + 1)), and their seed.
    sample_weight : (N,) float array, optional
        Of each lesion, to score and test at another prevalence.

    Returns
    -------
    DataFrame
        A row a pair and metric: `system`, `reference`, `metric`, `difference`, its interval `low`,
        `high`, and `p`, all NaN where the metric does not exist on these lesions; `p_holm` is
        adjusted for the number of pairs, within a metric.

    Raises
    ------
    ValueError
        On predictions that cannot be scored, and on names that do not exist.
    """
    pairs = list(dict.fromkeys(map(tuple, pairs)))
    used = list(dict.fromkeys(name for pair in pairs for name in pair))
    if not pairs:
        raise ValueError("no pairs to compare")
    if missing := [name for name in used if name not in systems]:
        raise ValueError(f"no predictions of {', '.join(missing)}; there are {', '.join(systems)}")
    if unknown := [name for name in names if name not in SUMMARY_METRICS]:
        raise ValueError(f"no metric {unknown}; there are {', '.join(SUMMARY_METRICS)}")
    y_prob = {}
    for name in used:
        try:
            y_true, y_prob[name] = check_predictions(y_true, systems[name])
        except ValueError as error:
            raise ValueError(f"system {name!r}: {error}") from error
    own = check_weights(sample_weight, len(y_true))  # (1, N)
    if len(own) > 1:
        raise ValueError("sample_weight must be (N,): one weighting of the lesions")

    resamples = stratified_weights(y_true, n, seed) * own
    swaps = np.random.default_rng([seed, 1]).integers(0, 2, resamples.shape).astype(float)
    value = {name: _scores(y_true, y_prob[name], own, names)[:, 0] for name in used}
    draws = {name: _scores(y_true, y_prob[name], resamples, names) for name in used}
    tables = []
    for system, reference in pairs:
        difference = value[system] - value[reference]
        low, high = np.quantile(draws[system] - draws[reference], [0.025, 0.975], axis=1)
        null = _exchanged(y_true, y_prob[system], y_prob[reference], swaps, own, names)
        as_large = np.abs(null) >= np.abs(difference)[:, None] - _TIE
        p = np.where(np.isnan(difference), np.nan, (1 + as_large.sum(1)) / (n + 1))
        columns = {"metric": names, "difference": difference, "low": low, "high": high, "p": p}
        tables.append(pd.DataFrame({"system": system, "reference": reference, **columns}))
    table = pd.concat(tables, ignore_index=True)
    return table.assign(p_holm=table.groupby("metric")["p"].transform(holm))


def compare_all(
    y_true, systems: Mapping[str, np.ndarray], reference: str, names: Sequence[str], **options
) -> pd.DataFrame:
    """Compare every system with one of them, `reference`; otherwise :func:`compare_pairs`."""
    pairs = [(name, reference) for name in systems if name != reference]
    return compare_pairs(y_true, systems, pairs, names, **options)


def _scores(y_true, y_prob, weights: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Score under weights (R, N): (metrics, R). Curves take most of the time, so only if asked."""
    result = summary(y_true, y_prob, weights, curves=bool(CURVE_METRICS.intersection(names)))
    return np.stack([result[name] for name in names])


def _exchanged(y_true, a, b, swaps, own, names) -> np.ndarray:
    """Differences after exchanging `a` and `b` where `swaps` (n, N) is 1: (metrics, n).

    Rows of both systems are pooled; weights say which of the two rows of a lesion is used.
    """
    y_true, pooled = np.concatenate([y_true, y_true]), np.concatenate([a, b])
    kept, swapped = (1 - swaps) * own, swaps * own
    first, second = np.hstack([kept, swapped]), np.hstack([swapped, kept])  # (n, 2N)
    return _scores(y_true, pooled, first, names) - _scores(y_true, pooled, second, names)


def holm(p_values) -> np.ndarray:
    """Adjust p-values (m,) for being many (Holm 1979), at most 1, in the order given.

    NaN, a comparison that could not be made, stays NaN and does not count.
    """
    p_values = np.asarray(p_values, dtype=float)
    if p_values.ndim != 1 or ((p_values < 0) | (p_values > 1)).any():
        raise ValueError(f"p-values must be a flat sequence within [0, 1], got {p_values}")
    adjusted = np.full(len(p_values), np.nan)
    order = np.argsort(p_values)[: (~np.isnan(p_values)).sum()]  # NaN sorts last
    steps = p_values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted

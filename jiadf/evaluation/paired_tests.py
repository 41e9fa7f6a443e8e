"""Which differences between systems stand, and which cannot be told apart on these lesions.

Systems predict the same lesions, so they are compared in pairs: both are scored on the same
resamples, and a difference is set against those that arise when the two systems' predictions are
exchanged lesion by lesion.  A system may have several seeds; its score is then the mean over them,
and all seeds of a lesion are resampled or exchanged together.

    >>> table = compare_all(y_true, {"C": c, "CD": cd, "CDM": cdm}, "CDM")  # doctest: +SKIP
    >>> table.query("metric == 'macro_auc'")["p_holm"].tolist()  # doctest: +SKIP
    [0.004, 0.31]

``sample_weight``, (N,), scores and tests at another prevalence than the lesions' own
(:func:`jiadf.evaluation.prevalence.hidden_test_weights`).

What the figures mean, and what they do not:

* The interval is a percentile bootstrap, stratified by class (:mod:`jiadf.evaluation.bootstrap`).
* The p-value is of the null hypothesis that the two predictions of a lesion are exchangeable
  (two-sided; Monte Carlo, counting the observed labelling, so never 0).  That says more than
  equal scores: for systems that are confident to very different degrees it is approximate, since
  exchanging rows then mixes two scales.  Near alpha, interval and p-value may disagree.
* Both are about other lesions for these trained networks.  The variability of training is not in
  them: see ``sd`` in :func:`score_all`.

The fast test is held to :func:`scipy.stats.permutation_test`, which takes one statistic at a time,
in the tests.  Holm (1979), "A simple sequentially rejective multiple test procedure".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from jiadf.evaluation.bootstrap import stratified_weights
from jiadf.evaluation.metrics import (
    SUMMARY_METRICS,
    check_predictions,
    check_weights,
    summary,
)

COMPARISON_COLUMNS = (
    "system", "reference", "metric", "difference", "low", "high", "p", "p_holm",
)  # fmt: skip
CURVE_METRICS = frozenset({"macro_auc", "macro_ap", "mean_auc_sens80"})
_TIE = 1e-10  # differences this close to the observed one are as large as it


def _check_systems(y_true, systems: Mapping[str, object]) -> tuple[np.ndarray, dict]:
    """Return `y_true` and the seeds of each system, (S, N, K), or raise ValueError."""
    checked = {}
    for name, given in systems.items():
        given = [given] if getattr(given, "ndim", 0) == 2 else list(given)
        if not given:
            raise ValueError(f"system {name!r} has no predictions")
        seeds = []
        for seed, y_prob in enumerate(given):
            try:
                y_true, y_prob = check_predictions(y_true, y_prob)
            except ValueError as error:
                raise ValueError(f"system {name!r}, seed {seed}: {error}") from error
            seeds.append(y_prob)
        checked[name] = np.stack(seeds)
    sizes = {name: seeds.shape for name, seeds in checked.items()}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {size[0]} x {size[2]}" for name, size in sizes.items())
        raise ValueError(
            f"systems must have as many seeds and classes as one another, but (seeds x classes): "
            f"{told}; compare the seeds that all of them have"
        )
    return y_true, checked


def _check_request(names: Sequence[str] | None, n: int, level: float) -> list[str]:
    names = list(SUMMARY_METRICS if names is None else names)
    unknown = [name for name in names if name not in SUMMARY_METRICS]
    if unknown:
        raise ValueError(f"no metric {unknown}; there are {', '.join(SUMMARY_METRICS)}")
    if n < 1 or not 0 < level < 1:
        raise ValueError(f"n is {n} and level {level}; n must be at least 1, level between 0 and 1")
    return names


def _scores(y_true, seeds: np.ndarray, weights: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Score seeds (S, N, K) under weights (R, N): metrics, mean over seeds, (metrics, R)."""
    total = np.zeros((len(names), len(weights)))
    curves = bool(CURVE_METRICS.intersection(names))  # else their time is saved
    for y_prob in seeds:
        result = summary(y_true, y_prob, weights, curves=curves)
        total += np.stack([result[name] for name in names])
    return total / len(seeds)


def score_all(
    y_true, systems: Mapping[str, object], names: Sequence[str] | None = None, n: int = 1000,
    seed: int = 0, level: float = 0.95, sample_weight=None,
) -> pd.DataFrame:  # fmt: skip
    """Score every system on the same lesions.

    Parameters
    ----------
    y_true, systems, names, n, seed, level, sample_weight
        As in :func:`compare_pairs`.

    Returns
    -------
    DataFrame
        A row a system and metric: `value`, the mean over seeds; `sd`, over seeds, NaN for one; and
        the interval `low`, `high` of the mean over lesions, all seeds of a lesion resampled
        together, as for a difference. `lesions` and `seeds` are counts.
    """
    names = _check_request(names, n, level)
    y_true, checked = _check_systems(y_true, systems)
    everything, tables = _weights(y_true, sample_weight), []
    resamples = stratified_weights(y_true, n, seed) * everything
    for system, seeds in checked.items():
        each = np.stack([_scores(y_true, [one], everything, names)[:, 0] for one in seeds])
        draws = _scores(y_true, seeds, resamples, names)  # (metrics, n)
        low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=1)
        columns = {"metric": names, "value": each.mean(0), "low": low, "high": high}
        columns["sd"] = each.std(axis=0, ddof=1) if len(seeds) > 1 else np.nan
        counts = {"lesions": len(y_true), "seeds": len(seeds)}
        tables.append(pd.DataFrame({"system": system, **columns, **counts}))
    return pd.concat(tables, ignore_index=True)


def _weights(y_true: np.ndarray, sample_weight) -> np.ndarray:
    """Return one weighting of the lesions, (1, N)."""
    if np.ndim(sample_weight) == 2:
        raise ValueError("sample_weight must be (N,): one weighting of the lesions")
    return check_weights(sample_weight, len(y_true))


def _exchanged_differences(
    y_true, a, b, swaps: np.ndarray, everything: np.ndarray, names: Sequence[str]
) -> np.ndarray:
    """Differences after exchanging `a` and `b` where `swaps` (n, N) is 1: (metrics, n).

    Both systems' rows are pooled; a weight of 1 says which of the two rows of a lesion is used.
    """
    pooled_truth = np.concatenate([y_true, y_true])
    pooled = np.concatenate([a, b], axis=1)  # (S, 2N, K)
    first = np.hstack([(1 - swaps) * everything, swaps * everything])
    second = np.hstack([swaps * everything, (1 - swaps) * everything])
    return _scores(pooled_truth, pooled, first, names) - _scores(
        pooled_truth, pooled, second, names
    )


def _compare(y_true, systems, pairs, names, n, seed, level, everything) -> pd.DataFrame:
    """Compare checked systems; each is scored on the resamples once, for all of its pairs."""
    needed = dict.fromkeys(name for pair in pairs for name in pair)
    resamples = stratified_weights(y_true, n, seed) * everything
    swaps = np.random.default_rng([seed, 1]).integers(0, 2, resamples.shape).astype(float)
    value = {name: _scores(y_true, systems[name], everything, names)[:, 0] for name in needed}
    draws = {name: _scores(y_true, systems[name], resamples, names) for name in needed}
    tables = []
    for system, reference in pairs:
        difference = value[system] - value[reference]
        low, high = np.quantile(
            draws[system] - draws[reference], [(1 - level) / 2, (1 + level) / 2], axis=1
        )
        both = systems[system], systems[reference]
        null = _exchanged_differences(y_true, *both, swaps, everything, names)
        as_large = np.abs(null) >= np.abs(difference)[:, None] - _TIE
        p = np.where(np.isnan(difference), np.nan, (1 + as_large.sum(1)) / (n + 1))
        columns = {"metric": names, "difference": difference, "low": low, "high": high, "p": p}
        tables.append(pd.DataFrame({"system": system, "reference": reference, **columns}))
    return pd.concat(tables, ignore_index=True)


def holm(p_values) -> np.ndarray:
    """Adjust p-values for being many, after Holm.

    Parameters
    ----------
    p_values : (m,) float array
        NaN for a comparison that could not be made: it stays NaN and does not count.

    Returns
    -------
    (m,) float array
        At most 1, in the order given.  Calling those below alpha true keeps the probability of
        any false call at or below alpha.
    """
    p_values = np.asarray(p_values, dtype=float)
    if p_values.ndim != 1 or ((p_values < 0) | (p_values > 1)).any():
        raise ValueError(f"p-values must be a flat sequence within [0, 1], got {p_values}")
    adjusted = np.full(len(p_values), np.nan)
    order = np.argsort(p_values)[: (~np.isnan(p_values)).sum()]  # NaN sorts last
    steps = p_values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def compare_pairs(
    y_true, systems: Mapping[str, object], pairs: Sequence[tuple[str, str]],
    names: Sequence[str] | None = None, n: int = 1000, seed: int = 0, level: float = 0.95,
    sample_weight=None,
) -> pd.DataFrame:  # fmt: skip
    """Compare chosen pairs of systems on the same lesions.

    Parameters
    ----------
    y_true : (N,) int array
        True class index of each lesion.
    systems : mapping of name to (N, K) float array, or a sequence of them
        Predicted probabilities, one array a seed; as many seeds in each system.
    pairs : sequence of (system, reference)
        A difference is system - reference.
    names : sequence of str, optional
        Metrics of :func:`jiadf.evaluation.metrics.summary`; all of them if not given.
    n : int
        Number of resamples, and of exchanges: no p-value is below 1 / (n + 1).
    seed : int
        The same seed gives the same resamples and exchanges for the same `y_true`.
    level : float
        Of the interval.
    sample_weight : (N,) float array, optional
        Of each lesion.

    Returns
    -------
    DataFrame
        Columns :data:`COMPARISON_COLUMNS`, a row a pair and metric: `difference` of means over
        seeds, its interval `low`, `high`, and `p`, all NaN where the metric does not exist on
        these lesions.  `p_holm` is adjusted for the number of pairs, within a metric.

    Raises
    ------
    ValueError
        On predictions that cannot be scored, or systems with different numbers of seeds.
    """
    names = _check_request(names, n, level)
    pairs = list(dict.fromkeys(map(tuple, pairs)))
    missing = sorted({name for pair in pairs for name in pair} - set(systems))
    if missing or not pairs:
        raise ValueError(
            f"no predictions of {', '.join(missing)}; there are {', '.join(systems)}"
            if missing
            else "no pairs to compare"
        )
    y_true, checked = _check_systems(y_true, systems)
    table = _compare(y_true, checked, pairs, names, n, seed, level, _weights(y_true, sample_weight))
    table["p_holm"] = table.groupby("metric")["p"].transform(holm)
    return table[list(COMPARISON_COLUMNS)]


def compare_all(
    y_true, systems: Mapping[str, object], reference: str, names: Sequence[str] | None = None,
    n: int = 1000, seed: int = 0, level: float = 0.95, sample_weight=None,
) -> pd.DataFrame:  # fmt: skip
    """Compare every system with one of them, `reference`; otherwise :func:`compare_pairs`."""
    if reference not in systems:
        raise ValueError(f"no predictions of {reference}; there are {', '.join(systems)}")
    pairs = [(name, reference) for name in systems if name != reference]
    return compare_pairs(y_true, systems, pairs, names, n, seed, level, sample_weight)

"""What comparisons of systems come to, in words: verdicts on claims, sentences under tables.

    >>> from jiadf import paper, stats
    >>> table = stats.compare_all(truth, {"C": c, "CD": cd, "CDM": cdm}, "CDM")  # doctest: +SKIP
    >>> sentence(table, "macro_auc")  # doctest: +SKIP
    'Macro AUC: C is below CDM by 0.06 (95 % interval 0.03 to 0.09) (paired permutation test, ...'
    >>> judge_claims(paper.claims("Table 2"), truth, systems)  # doctest: +SKIP

A difference stands where its Holm-adjusted p-value (:mod:`jiadf.evaluation.paired_tests`) is below
alpha.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from jiadf.evaluation.paired_tests import compare_pairs, holm

LOWER_IS_BETTER = frozenset({"ece", "nll", "brier"})
METRIC_NAMES = {
    "macro_auc": "macro AUC",
    "macro_ap": "macro average precision",
    "mean_accuracy": "mean accuracy",
    "mean_sensitivity": "mean sensitivity",
    "mean_specificity": "mean specificity",
    "mean_dice": "mean Dice",
    "mean_ppv": "mean PPV",
    "mean_npv": "mean NPV",
    "mean_auc_sens80": "mean AUC at sensitivity > 80 %",
    "macro_f1": "macro F1",
    "macro_f1_at_half": "macro F1 at 0.5",
    "balanced_accuracy": "balanced accuracy",
    "top1_accuracy": "top-1 accuracy",
    "ece": "calibration error",
    "nll": "negative log-likelihood",
    "brier": "Brier score",
}
HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "cannot be told apart"
_MOST_DECIMALS = 3
_MOST_NAMES = 6  # named in a sentence; more are counted


def verdict(table: pd.DataFrame, better: str, worse: str, metric: str, alpha: float = 0.05) -> str:
    """Judge the claim that one system is better than another.

    Parameters
    ----------
    table : DataFrame
        The answer of :func:`jiadf.evaluation.paired_tests.compare_pairs` or `compare_all`; this
        pair in either order.
    better, worse : str
        The systems of the claim.
    metric : str
        Of :data:`LOWER_IS_BETTER`, less is better.
    alpha : float
        Of the Holm-adjusted p-value.

    Returns
    -------
    {"holds", "does not hold", "cannot be told apart"}
        "does not hold" says that the opposite is significant.
    """
    for system, reference, sign in ((better, worse, 1), (worse, better, -1)):
        is_row = (table["system"] == system) & (table["reference"] == reference)
        row = table[is_row & (table["metric"] == metric)]
        if len(row):
            row = row.iloc[0]
            if not row["p_holm"] < alpha or row["difference"] == 0:
                return UNDECIDED
            sign = -sign if metric in LOWER_IS_BETTER else sign
            return HOLDS if sign * row["difference"] > 0 else FAILS
    raise ValueError(f"{better} and {worse} were not compared in {metric}")


def judge_claims(
    claims: pd.DataFrame, truth, systems: Mapping[str, object], n: int = 1000, seed: int = 0,
    level: float = 0.95, alpha: float = 0.05,
) -> pd.DataFrame:  # fmt: skip
    """Measure ordering claims, a row a claim and metric, and judge each.

    Parameters
    ----------
    claims : DataFrame
        With columns `better`, `worse` and `metric`, e.g. of :func:`jiadf.paper.claims`.
    truth, systems, n, seed, level
        As in :func:`jiadf.evaluation.paired_tests.compare_pairs`; adjusted for all claims given,
        within a metric.
    alpha : float
        As in :func:`verdict`.

    Returns
    -------
    DataFrame
        `claims` with `difference` (better - worse), `low`, `high`, `p`, `p_holm` and `verdict`.
    """
    names = list(dict.fromkeys(claims["metric"]))
    pairs = list(claims[["better", "worse"]].itertuples(index=False, name=None))
    table = compare_pairs(truth, systems, pairs, names, n, seed, level)
    table = table.rename(columns={"system": "better", "reference": "worse"})
    key = ["better", "worse", "metric"]
    table = table.merge(claims[key].drop_duplicates())  # pairs not claimed in a metric do not count
    table["p_holm"] = table.groupby("metric")["p"].transform(holm)
    named = table.rename(columns={"better": "system", "worse": "reference"})
    table["verdict"] = [verdict(named, *row, alpha) for row in table[key].to_numpy()]
    return claims.merge(table, on=key, how="left", validate="many_to_one")


def decimals(low: float, high: float) -> int:
    """How many decimals of a value its interval allows: one figure of half its width, 0 to 3."""
    half = abs(high - low) / 2
    if not half > 0:
        return _MOST_DECIMALS
    return int(np.clip(-np.floor(np.log10(half)), 0, _MOST_DECIMALS))


def listed(parts: Sequence[str]) -> str:
    """Write names one after the other, "and" before the last."""
    return " and ".join([", ".join(parts[:-1])] * (len(parts) > 1) + [parts[-1]])


def _said(row, level: float) -> str:
    """Say one difference that stands, without a sign: its direction is in the words."""
    sign, side = (1, "above") if row.difference > 0 else (-1, "below")
    places = decimals(row.low, row.high)
    size, low, high = (
        f"{round(number, places) + 0.0:.{places}f}".replace("-", "−")
        for number in (sign * row.difference, *sorted([sign * row.low, sign * row.high]))
    )
    return (
        f"{row.system} is {side} {row.reference} by {size} "
        f"({level * 100:g} % interval {low} to {high})"
    )


def _undecided(names: list[str], some_stand: bool) -> str:
    """Begin a statement about a few names, or about many by their number."""
    if len(names) <= _MOST_NAMES:
        return f"{listed(names)} cannot"
    which = "The" if some_stand else "none of the"
    return f"{which} {len(names)} other systems {'cannot' if some_stand else 'can'}"


def sentence(table: pd.DataFrame, metric: str, alpha: float = 0.05, level: float = 0.95) -> str:
    """Say in plain English which differences stand and which do not.

    Parameters
    ----------
    table : DataFrame
        The answer of :func:`jiadf.evaluation.paired_tests.compare_all` or
        :func:`jiadf.evaluation.paired_tests.compare_pairs`.
    metric : str
        One of its metrics.
    alpha : float
        A difference stands where its Holm-adjusted p-value is below this.
    level : float
        Of the intervals in `table`, for the words.

    Returns
    -------
    str
        Numbers have no more decimals than their interval allows.
    """
    rows = table[table["metric"] == metric]
    if rows.empty:
        raise ValueError(f"no metric {metric!r}; there are {', '.join(table['metric'].unique())}")
    name = METRIC_NAMES.get(metric, metric)
    stands = rows["p_holm"] < alpha
    sentences = []
    if stands.any():
        sentences.append(listed([_said(row, level) for row in rows[stands].itertuples()]) + ".")
    if not stands.all():
        undecided = rows[~stands].groupby("reference", sort=False)["system"]
        told = [
            f"{_undecided(list(systems), stands.any())} be told apart from {reference}"
            for reference, systems in undecided
        ]
        sentences.append(f"{listed(told)} at this sample size.")
    sign = "<" if stands.any() else "≥"
    adjusted = f"Holm-adjusted over {len(rows)} comparisons, " if len(rows) > 1 else ""
    sentences[0] = (
        f"{name[0].upper()}{name[1:]}: {sentences[0][:-1]} "
        f"(paired permutation test, {adjusted}p {sign} {alpha:g})."
    )
    return " ".join(sentences)

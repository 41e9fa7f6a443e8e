"""Tables and sentences of the page on Table 1, from scores, differences and studies of its grid.

What a page shows of its own runs and what was recorded on MILK10k come in the same tables:
:func:`jiadf.ablations.measure`, :func:`jiadf.evaluation.paired_tests.compare_all` with ji-adf as
the reference, and those of :mod:`jiadf.studies.cost` and :mod:`jiadf.studies.mechanisms`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler
from scipy.stats import kendalltau

from jiadf.ablations import TABLE1, beside_paper, count_verdicts
from jiadf.verdicts import FAILS, LOWER_IS_BETTER, METRIC_NAMES, decimals, listed, verdict

SHOWN = ("macro_auc", "macro_ap", "mean_dice", "mean_sensitivity", "ece")
CLAIMED = ("macro_auc", "macro_ap", "mean_sensitivity", "mean_dice")  # of those compared


def judge(differences: pd.DataFrame) -> pd.DataFrame:
    """Judge what Table 1 shows: JI-ADF above each method, in its metrics.

    ``differences`` are of every system from ji-adf; the answer is laid out like that of
    :func:`jiadf.verdicts.judge_claims`.
    """
    claimed = differences["metric"].isin(CLAIMED) & differences["system"].isin(TABLE1.systems)
    rows, reference = differences[claimed].copy(), TABLE1.reference
    rows["verdict"] = [
        verdict(differences, reference, row.system, row.metric) for row in rows.itertuples()
    ]
    rows["difference"], rows["low"], rows["high"] = -rows["difference"], -rows["high"], -rows["low"]
    rows = rows.rename(columns={"system": "worse", "reference": "better"})
    return rows.assign(source="Table 1", claim=[f"{reference} above {name}" for name in rows.worse])


def _overall(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Rows of a metric over all classes, a system each, the best first."""
    rows = scores[(scores["label"] == "mean") & (scores["metric"] == metric)].set_index("system")
    return rows.sort_values("value", ascending=metric in LOWER_IS_BETTER, kind="stable")


def show_beside(scores: pd.DataFrame) -> Styler:
    """Show the paper's table and ours, :func:`jiadf.ablations.beside_paper`, intervals below."""
    table = beside_paper(TABLE1, scores).replace({r" \(": "\n(", " to ": "–"}, regex=True)
    name = [("text-align", "left"), ("font-weight", "normal"), ("vertical-align", "top")]
    looks = [
        {"selector": "td", "props": [("white-space", "pre"), ("text-align", "center")]},
        {"selector": "th.row_heading", "props": name},
        {"selector": "td, th", "props": [("font-size", "0.85em"), ("padding", "0.2em 0.35em")]},
    ]
    return table.style.set_table_styles(looks)


def seed_table(scores: pd.DataFrame, metrics: Sequence[str] = SHOWN) -> pd.DataFrame:
    """Lay out mean ± standard deviation over seeds, a row a system; one seed has no deviation."""
    columns = {}
    for metric in metrics:
        rows = _overall(scores, metric)
        told = {s: f"{r.value:.3f}\u00a0±\u00a0{r.sd:.3f}" for s, r in rows.iterrows()}
        columns[METRIC_NAMES[metric]] = told
    table = pd.DataFrame(columns).reindex(scores["system"].unique())
    return table.rename_axis("system").replace({"\u00a0±\u00a0nan": ""}, regex=True)


def short(value: float) -> str:
    """Write a number with two figures, thousands apart; NaN is a dash."""
    if pd.isna(value):
        return "–"
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 10 else f"{rounded:#.2g}"


def cost_table(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Lay out the study of cost: a row a system, then a row a backbone with all its pictures.

    Parameters are in millions; operations and speed are of one lesion.
    """
    rows = {}
    for row in tables["systems"].itertuples():
        rows[row.system] = {
            "parameters": f"{row.parameters / 1e6:.2f}",
            "trainable": f"{row.trainable / 1e6:.2f}",
            "GFLOPs": short(row.gflops),
            "training, s": short(row.seconds_a_run),
            "lesions/s": short(row.lesions_per_second),
            "speed": f"{row.speed:.2f}",
        }
    for row in tables["backbones"].itertuples():
        rows[f"{row.backbone}, {row.images_a_lesion} pictures"] = {
            "parameters": f"{row.parameters / 1e6:.2f}",
            "trainable": "frozen",
            "GFLOPs": short(row.gflops * row.images_a_lesion),
            "lesions/s": short(row.images_per_second / row.images_a_lesion),
        }
    return pd.DataFrame.from_dict(rows, orient="index").fillna("").rename_axis("system")


def mechanism_table(tables: Mapping[str, pd.DataFrame], system: str | None = None) -> pd.DataFrame:
    """Lay out what was measured of one method's mechanism, or all, with the range over runs."""
    rows = tables["mechanisms"]
    rows = rows if system is None else rows[rows["system"] == system]
    told = [
        f"{r.value:.2f}" + (f" ({r.low:.2f} to {r.high:.2f})" if r.runs > 1 else "")
        for r in rows.itertuples()
    ]
    index = ["system", "measured"] if system is None else ["measured"]
    table = rows[index].assign(value=told, **{"lesions, all runs": rows["lesions"]})
    return table.set_index(index)


def agreement(scores: pd.DataFrame, metric: str) -> tuple[float, float, int]:
    """Compare our order of the systems with the paper's: Kendall's tau, its p-value, systems."""
    both = pd.DataFrame({"paper": TABLE1.printed()[metric], "ours": _overall(scores, metric).value})
    both = both.dropna()
    tau = kendalltau(both["paper"], both["ours"])
    return float(tau.statistic), float(tau.pvalue), len(both)


def _begin(where: str) -> str:
    return where[0].upper() + where[1:]


def tell_best(scores: pd.DataFrame, metric: str, where: str) -> str:
    """Say which system is best in a metric, and where ji-adf stands."""
    rows = _overall(scores, metric)

    def said(row) -> str:
        places = decimals(row.low, row.high)
        interval = f"{row.low:.{places}f} to {row.high:.{places}f}"
        return f"{row.value:.{places}f} (95 % interval {interval})"

    best, reference = rows.iloc[0], rows.loc[TABLE1.reference]
    word = "lowest" if metric in LOWER_IS_BETTER else "highest"
    told = f"{_begin(where)} the {word} {METRIC_NAMES[metric]} is that of {best.name}, {said(best)}"
    if best.name == TABLE1.reference:
        return f"{told}."
    place = list(rows.index).index(reference.name) + 1
    return f"{told}; {reference.name} is number {place} of {len(rows)} with {said(reference)}."


def tell_scores(scores: pd.DataFrame, differences: pd.DataFrame, where: str) -> list[str]:
    """Say what the comparison comes to, in a few sentences."""
    judged = judge(differences)
    told = [tell_best(scores, metric, where) for metric in ("macro_auc", "macro_ap", "ece")]
    told.append(count_verdicts(judged, where))
    against = judged[judged["verdict"] == FAILS].groupby("worse", sort=False)["metric"]
    above = [f"{name} ({listed([METRIC_NAMES[m] for m in ms])})" for name, ms in against]
    if above:
        told.append(f"Above {TABLE1.reference} beyond chance: {listed(above)}.")
    rows = _overall(scores, "macro_auc")
    if rows["sd"].notna().all():
        span = rows["value"].max() - rows["value"].min()
        told.append(
            f"Macro AUC spans {span:.3f} from the best to the worst of {len(rows)} methods; its "
            f"standard deviation over seeds is {rows['sd'].median():.3f} (median over methods)."
        )
    tau, p, count = agreement(scores, "macro_auc")
    sense = "they agree" if tau > 0 else "they are opposed"
    shown = f"{tau:.2f}".replace("-", "−")
    told.append(
        f"The paper's order of the methods by AUC and ours: Kendall's tau of {count} methods is "
        f"{shown} (p = {p:.2f}); {sense if p < 0.05 else 'that could be chance'}."
    )
    return told


def tell_cost(tables: Mapping[str, pd.DataFrame], where: str) -> list[str]:
    """Say what the methods cost, and how that compares with their backbone."""
    systems = tables["systems"].set_index("system")

    def ends(column: str, unit: str, scale: float = 1.0) -> str:
        values = systems[column].astype(float).sort_values() / scale
        low, high = values.index[0], values.index[-1]
        return f"from {short(values.iloc[0])} ({low}) to {short(values.iloc[-1])} ({high}) {unit}"

    told = [
        f"{_begin(where)} the methods have {ends('trainable', 'million', 1e6)} trainable "
        f"parameters, take {ends('gflops', 'GFLOPs a lesion')}, and need "
        f"{ends('seconds_a_run', 'seconds')} to train a run."
    ]
    most = systems["gflops"].max()
    for row in tables["backbones"].itertuples():
        whole = row.gflops * row.images_a_lesion
        line = f"{row.backbone} takes {short(whole)} GFLOPs for a lesion's pictures"
        line += f", {short(whole / most)} times the most costly method"
        if whole > 10 * most:
            line += ": unless its features are cached, the choice of method hardly moves the cost"
        told.append(f"{line}.")
    return told


def tell_not_run(provenance: Mapping[str, Any]) -> list[str]:
    """Say which systems were not run, and why."""
    return [f"{name} was not run: {why}." for name, why in provenance.get("not_run", {}).items()]

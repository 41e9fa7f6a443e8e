"""Tables and sentences of the page on robustness, from the tables of its study."""

import pandas as pd
from pandas.io.formats.style import Styler

from jiadf.verdicts import FAILS, HOLDS

NEAR = 4  # bits of 64: pictures this close are near copies
_COLOURS = {HOLDS: "#b9dcf2", FAILS: "#f6cfa0"}  # blue and orange, told apart by everybody


def gate_table(judged: pd.DataFrame, system: str = "ji-adf") -> Styler:
    """Lay out the gate's reaction of one system: a row a damage, with the verdict coloured.

    ``judged`` is the answer of :func:`jiadf.reaction.judge_gate`.
    """
    rows = judged[judged["system"] == system]
    text = {
        "damage": rows["name"],
        "damaged branch": rows["damaged"],
        "weight before": rows["before"].map("{:.3f}".format),
        "after": rows["after"].map("{:.3f}".format),
        "change (95 % interval)": [
            f"{r.change:+.3f} ({r.low:+.3f} to {r.high:+.3f})".replace("-", "−")
            for r in rows.itertuples()
        ],
        "harm to the branch": rows["harm"].map("{:+.2f}".format).str.replace("-", "−"),
        "adjusted p": rows["p_holm"].map(lambda p: "< 0.001" if p < 0.001 else f"{p:.3f}"),
        "the claim": rows["verdict"],
    }
    table = pd.DataFrame(text).set_index("damage")

    def colour(cell: str) -> str:
        return f"background-color: {_COLOURS[cell]}; color: black" if cell in _COLOURS else ""

    return table.style.map(colour, subset=["the claim"])


def reliability_table(reliability: pd.DataFrame) -> pd.DataFrame:
    """Lay out the rank correlations of :func:`jiadf.reaction.reliability` with their intervals."""
    told = [f"{r.rho:.2f} ({r.low:.2f} to {r.high:.2f})" for r in reliability.itertuples()]
    table = pd.DataFrame({"system": reliability["system"], "rank correlation": told})
    return table.set_index("system")


def duplicate_table(duplicates: pd.DataFrame) -> pd.DataFrame:
    """Lay out near-duplicates: a row a distance, columns by kind of image."""
    columns = ["pairs", "across_folds", "confirmed", "same_label"]
    wide = duplicates.pivot(index="distance", columns="images", values=columns)
    wide = wide.swaplevel(axis=1).dropna(axis=1, how="all").rename(
        columns={"across_folds": "across folds", "same_label": "same label"}
    )  # fmt: skip
    order = ["clinical", "dermoscopic", "clinical to dermoscopic"]
    wide = wide[[name for name in order if name in wide.columns.get_level_values(0)]]
    return wide.astype(float).round(0).astype(int).rename_axis(columns=[None, None])


def probe_table(probes: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Lay out the shortcut probes beside the whole network's intact scores."""
    metrics = {"macro_auc": "macro AUC", "macro_f1": "macro F1"}
    cells = probes.assign(
        cell=[f"{r.value:.2f} ({r.low:.2f} to {r.high:.2f})" for r in probes.itertuples()]
    )
    table = cells.pivot(index="system", columns="metric", values="cell")
    table = table.loc[list(dict.fromkeys(probes["system"])), list(metrics)].rename(columns=metrics)
    intact = scores[
        (scores["system"] == "ji-adf") & (scores["lesions"] == "all") & (scores["kind"] == "intact")
    ].set_index("metric")["value"]
    table.loc["ji-adf, everything"] = [f"{intact[name]:.2f}" for name in metrics]
    return table.rename_axis(index="what is seen", columns=None)


def say_slices(slices: pd.DataFrame, metric: str = "malignant AUC", alpha: float = 0.05) -> str:
    """Say which gaps stand in one metric, and how many slices are too small to tell."""
    rows = slices[slices["metric"] == metric]
    small = rows[~rows["large_enough"].astype(bool)]
    stands = rows[rows["p_holm"] < alpha]
    told = [
        f"{r.attribute} {r.value} differs from the rest by {r.gap:+.2f} "
        f"({r.gap_low:+.2f} to {r.gap_high:+.2f}, {r.lesions:,} lesions)".replace("-", "−")
        for r in stands.itertuples()
    ]
    gaps = "; ".join(told) if told else "no gap to the rest stands"
    names = ", ".join(f"{r.attribute} {r.value}" for r in small.itertuples())
    unknown = f" Too small to tell: {names}." if names else ""
    tested = int(rows["p"].notna().sum())
    return f"In {metric}, over {tested} tested slices (Holm-adjusted): {gaps}.{unknown}"


def say_duplicates(duplicates: pd.DataFrame, near: int = NEAR) -> str:
    """Say how many near copies lie across folds, and how many of them share a diagnosis."""
    rows = duplicates[duplicates["distance"] <= near]
    told = []
    for name in ("clinical", "dermoscopic"):
        part = rows[rows["images"] == name]
        told.append(
            f"{int(part['confirmed'].sum())} pairs of {name} images "
            f"({int(part['same_label'].sum())} with one diagnosis)"
        )
    return (
        f"Near copies of different lesions in different folds (at most {near} of 64 bits, by both "
        f"hashes): {' and '.join(told)}, among {int(duplicates['lesions'].iloc[0]):,} lesions."
    )


def say_probes(probes: pd.DataFrame) -> str:
    """Say how much a linear classifier makes of what is not the lesion."""
    rows = probes[probes["metric"] == "macro_auc"]
    told = [f"{r.system} {r.value:.2f} ({r.low:.2f} to {r.high:.2f})" for r in rows.itertuples()]
    return f"Macro AUC without the lesion, where chance gives 0.50: {'; '.join(told)}."

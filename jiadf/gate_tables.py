"""Small tables of the page on the gate, from the tables of :mod:`jiadf.studies.gate`.

The page shows the same things of its own runs and of those recorded on MILK10k: these functions
take either. ``ji-adf+`` is the name of the gate that validation lesions choose (:func:`plus`).
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from pandas.io.formats.style import Styler

from jiadf.openness import COLLAPSED
from jiadf.reaction import HARMLESS, judge_gate
from jiadf.studies.gate import AVERAGE, GATE
from jiadf.verdicts import FAILS, HOLDS, METRIC_NAMES

Tables = Mapping[str, pd.DataFrame]
BETTER, WORSE = "#b9dcf2", "#f6cfa0"  # blue and orange, told apart by everybody
_LOOKS = [
    {"selector": "td", "props": [("text-align", "center"), ("white-space", "nowrap")]},
    {"selector": "td, th", "props": [("font-size", "0.8em"), ("padding", "0.2em 0.3em")]},
    {"selector": "th.row_heading", "props": [("font-weight", "normal"), ("text-align", "left")]},
    {"selector": "th.row_heading", "props": [("white-space", "nowrap")]},
]


def plus(tables: Tables) -> str:
    """Name the system that is ``ji-adf+``: the gate with the smallest validation NLL."""
    choice = tables["choice"]
    return choice.loc[choice["chosen"] & (choice["fold"] == "all"), "system"].item()


def with_plus(tables: Tables, name: str) -> pd.DataFrame:
    """Return a table whose rows say which system is ``ji-adf+``."""
    chosen = plus(tables)
    names = {chosen: f"ji-adf+ ({chosen})"}
    return tables[name].assign(system=tables[name]["system"].replace(names))


def measures(tables: Tables, measure: str) -> pd.DataFrame:
    """Return one measure of ``openness``, by system."""
    table = tables["openness"]
    return table[table["measure"] == measure].set_index("system")


def _ranged(row, form: str = ".2f") -> str:
    spread = f" ({row.low:{form}} to {row.high:{form}})" if row.seeds > 1 else ""
    return f"{row.value:{form}}{spread}"


def openness_words(tables: Tables) -> pd.DataFrame:
    """Lay out how open every gate is, the most open first; in brackets the range over seeds."""
    runs = tables["collapse"].set_index("system")
    order = measures(tables, "entropy").query("gate").sort_values("value", ascending=False).index
    columns = {
        "entropy, share of the largest": ("entropy", ".2f"),
        "weight of the joint branch": ("weight joint", ".2f"),
        "its sd over lesions": ("sd joint", ".2f"),
        **{f"lesions above {x:g}": (f"above {x:g}", ".0%") for x in COLLAPSED},
    }
    table = {
        name: [_ranged(row, form) for row in measures(tables, measure).loc[order].itertuples()]
        for name, (measure, form) in columns.items()
    }
    for limit in COLLAPSED:
        counts = runs.loc[order]
        told = counts[f"above {limit:g}"].astype(str) + " of " + counts["runs"].astype(str)
        table[f"runs above {limit:g}"] = told.to_list()
    return pd.DataFrame(table, index=order)


def choice_words(tables: Tables) -> pd.DataFrame:
    """Lay out the validation scores that choose ``ji-adf+``, the best first."""
    choice = tables["choice"]
    every = choice[choice["fold"] == "all"].set_index("system").sort_values("nll")
    folds = choice[choice["chosen"] & (choice["fold"] != "all")]["system"].value_counts()
    total = choice.loc[choice["fold"] != "all", "fold"].nunique()
    table = {
        "validation NLL": every["nll"].map("{:.3f}".format),
        "validation macro-F1": every["macro_f1"].map("{:.3f}".format),
        "chosen in": [
            f"{folds.get(name, 0)} of {total} folds" if gate else "no gate"
            for name, gate in every["gate"].items()
        ],
    }
    return pd.DataFrame(table)


def pull_words(tables: Tables, system: str = GATE) -> pd.DataFrame:
    """Lay out what the loss does to a fresh gate, on training lesions and on new ones."""
    rows = tables["pull"][tables["pull"]["system"] == system]
    cells = {
        "NLL of the branch": [f"{r.nll:.2f}" for r in rows.itertuples()],
        "pull at its score": [
            f"{r.pull:+.3f} ({r.low:+.3f} to {r.high:+.3f})".replace("-", "−")
            for r in rows.itertuples()
        ],
    }
    index = pd.MultiIndex.from_frame(rows[["part", "branch"]], names=["lesions", "branch"])
    return pd.DataFrame(cells, index=index)


def show_scores(tables: Tables) -> Styler:
    """Show the scores, their intervals below, a row a system."""
    return _scores(with_plus(tables, "scores"), "system")


def _scores(table: pd.DataFrame, row: str, marks: list[str] | None = None) -> Styler:
    """Lay out scores with their intervals, each with a mark behind its value."""
    told = [
        f"{r.value:.3f}{mark}\n{r.low:.3f}–{r.high:.3f}"
        for r, mark in zip(table.itertuples(), marks or [""] * len(table), strict=True)
    ]
    wide = table.assign(cell=told).pivot(index=row, columns="metric", values="cell")
    wide = wide.loc[table[row].unique(), table["metric"].unique()].rename(columns=METRIC_NAMES)
    styled = wide.rename_axis(index=None, columns=None).style
    return styled.set_table_styles([*_LOOKS, {"selector": "td", "props": [("white-space", "pre")]}])


def show_posthoc(tables: Tables, system: str = AVERAGE) -> Styler:
    """Show the scores of one system's branches, mixed anew; a star where they stand apart.

    The star compares with the fixed average of the same branches.
    """
    rows = tables["posthoc"][tables["posthoc"]["system"] == system]
    gains = tables["gains"]
    gains = gains[(gains["system"] == system) & (gains["reference"] == "average")]
    stands = gains[gains["p_holm"] < 0.05].set_index(["method", "metric"]).index
    marks = [" *" if (r.method, r.metric) in stands else "" for r in rows.itertuples()]
    return _scores(rows, "method", marks)


def mixture_words(tables: Tables, system: str = AVERAGE) -> pd.DataFrame:
    """Lay out what was fitted: weights of the branches, and what their logits are divided by."""
    rows = tables["mixtures"][tables["mixtures"]["system"] == system]
    rows = rows[~rows["method"].isin(["average", "joint"])]
    rows = rows.assign(temperature=(1 / rows["scale"]).map("{:.2f}".format))
    rows.loc[~rows["method"].str.endswith("temperatures"), "temperature"] = "–"
    weights = rows.assign(weight=rows["weight"].map("{:.2f}".format))
    wide = weights.pivot(index="method", columns="branch", values=["weight", "temperature"])
    branches = rows["branch"].unique()
    return wide.loc[rows["method"].unique()].reindex(columns=branches, level="branch")


def _matrix(rows: pd.DataFrame, text: list[str], colours: list[str]) -> Styler:
    """Lay out a system a row and a damage a column, cells coloured."""
    names = rows["name"].str.replace(r"(\w+) of another lesion", r"another's \1", regex=True)
    rows = rows.assign(text=text, colour=colours, name=names)
    order = rows["system"].unique(), rows["name"].unique()
    wide = rows.pivot(index="system", columns="name", values="text").loc[order]
    paint = rows.pivot(index="system", columns="name", values="colour").loc[order]
    wide, paint = (t.rename_axis(index=None, columns=None) for t in (wide, paint))
    styled = wide.style.apply(lambda _: paint, axis=None)
    return styled.set_table_styles(_LOOKS)


def _paint(colour: str) -> str:
    return f"background-color: {colour}; color: black" if colour else ""


def show_reaction(tables: Tables) -> Styler:
    """Show the change of the damaged branch's mean weight: blue where it turns away, orange not.

    A damage that does not harm the branch has a dash: there is nothing to react to.
    """
    judged = judge_gate(with_plus(tables, "reaction"))
    colours = judged["verdict"].map({HOLDS: BETTER, FAILS: WORSE}).fillna("").map(_paint)
    text = [
        "–" if r.verdict == HARMLESS else f"{r.change:+.3f}".replace("-", "−")
        for r in judged.itertuples()
    ]
    return _matrix(judged, text, colours.to_list())


def show_damage(tables: Tables) -> Styler:
    """Show the NLL under damage less that of the fixed average; blue where it stands below."""
    table = with_plus(tables, "comparisons")
    rows = table[(table["metric"] == "nll") & (table["reference"] == AVERAGE)]
    stands = rows["p_holm"] < 0.05
    colours = [
        _paint("" if not stand else BETTER if value < 0 else WORSE)
        for stand, value in zip(stands, rows["difference"], strict=True)
    ]
    text = [f"{value:+.2f}".replace("-", "−") for value in rows["difference"]]
    return _matrix(rows, text, colours)

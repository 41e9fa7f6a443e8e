"""The paper's ablations: which systems each compares, and our answer beside the printed one.

:data:`ABLATIONS` says what Table 2, Table 3 and Figure 3 compare. :func:`run_ablation` trains its
systems from a grid (:mod:`jiadf.training.grid`) or finds them trained; :func:`measure` scores them;
:func:`read_ablation` reads what was recorded on MILK10k by ``book/record.py --grid``.

The whole network stands in the three under three names, CDM, both and ji-adf; a grid trains it
once, as ji-adf.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from jiadf.paper import PAPER_TO_SUMMARY, PAPER_TO_SYSTEM, paper_table
from jiadf.results import (
    RESULTS_DIR,
    describe_provenance,
    read_record,
    summarise_seeds,
    truth_codes,
)
from jiadf.training.grid import (
    Grid,
    ensure_runs,
    open_with_knobs,
    pooled_predictions,
    probabilities,
)
from jiadf.verdicts import FAILS, HOLDS, METRIC_NAMES, UNDECIDED

_BRANCHES = ("clinical", "dermoscopic", "image", "metadata", "joint")
SIGNS = {HOLDS: "✓", FAILS: "✗", UNDECIDED: "≈"}
_COLOURS = {"✓": "#b9dcf2", "✗": "#f6cfa0"}  # blue and orange, told apart by everybody
IN_GRID = {"CDM": "ji-adf", "both": "ji-adf"}  # names of the paper's claims, names in the grid


@dataclass(frozen=True)
class Ablation:
    """A comparison of the paper: its systems in the paper's order, and the whole network's name.

    ``added`` are systems of ours that stand beside them.
    """

    systems: tuple[str, ...]
    reference: str
    metrics: tuple[str, ...]
    table: int | None = None
    added: tuple[str, ...] = ()

    @property
    def in_grid(self) -> list[str]:
        """The systems' names in a grid."""
        return [IN_GRID.get(name, name) for name in self.systems]

    def printed(self) -> pd.DataFrame | None:
        """Return the paper's table with our names, or None for Figure 3, which has no numbers."""
        if self.table is None:
            return None
        table = paper_table(self.table, names="ours")
        return table.rename(index=PAPER_TO_SYSTEM).reindex(list(self.systems))


_ALL = tuple(PAPER_TO_SUMMARY.values())
_DESIGNS = ("late-concat", "jf-concat", "jf-mmfa", "ji-mmfa", "ji-adf-noaux", "ji-adf")
ABLATIONS = {
    "Table 2": Ablation(("C", "D", "M", "CD", "CM", "DM", "CDM"), "CDM", _ALL, 2),
    "Table 3": Ablation(("skip", "attention", "both"), "both", _ALL, 3),
    "Figure 3": Ablation(
        _DESIGNS, "ji-adf", ("macro_auc", "macro_ap", "mean_sensitivity", "mean_dice")
    ),
}
_METHODS = ("jif-mmfa", "vemfl", "caffm", "albef", "coscatnet-ufs", "dualrefnet", "skinm2former")
TABLE1 = Ablation(  # methods, not variants
    (*_METHODS, "panderm", "ji-adf"), "ji-adf", _ALL, 1, ("ji-adf+",)
)


@dataclass(frozen=True)
class Predictions:
    """The scored lesions' predictions of several systems, a table a seed."""

    protocol: str
    tables: dict[str, list[pd.DataFrame]]

    @property
    def labels(self) -> pd.Series:
        """Class code of each scored lesion."""
        return next(iter(self.tables.values()))[0]["label"]

    @property
    def truth(self) -> np.ndarray:
        """Class index of each scored lesion, (N,)."""
        return truth_codes(self.labels)

    @property
    def systems(self) -> dict[str, list[np.ndarray]]:
        """Each system's probabilities, (N, 11) a seed."""
        return {name: [probabilities(t) for t in seeds] for name, seeds in self.tables.items()}

    def gate(self, system: str) -> pd.DataFrame | None:
        """Return a system's branch weights, mean over seeds; None where it has one branch."""
        seeds = [table.filter(like="weight_") for table in self.tables[system]]
        weights = sum(seeds[1:], seeds[0]) / len(seeds)
        return weights.rename(columns=lambda c: c.removeprefix("weight_")) if weights.size else None

    def gate_means(self) -> pd.DataFrame:
        """Mean branch weights of every system that has more than one branch, a row a system."""
        gates = {name: self.gate(name) for name in self.tables}
        return _mean_table({n: g.mean() for n, g in gates.items() if g is not None})


def _mean_table(means: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    table = pd.DataFrame(means).T
    return table[[branch for branch in _BRANCHES if branch in table]]


def in_grid(systems: Iterable[str]) -> set[str]:
    """Return the names in a grid of systems that the paper's claims name."""
    return {IN_GRID.get(name, name) for name in systems}


def named(tables: Mapping[str, Any], systems: Sequence[str]) -> dict[str, Any]:
    """Look up systems by the names that the paper's claims use."""
    return {name: tables[IN_GRID.get(name, name)] for name in systems}


def open_grid(file: str | Path, knobs: Mapping[str, Any], source: str) -> Grid:
    """Open a grid with the systems of an ablation: :func:`jiadf.training.grid.open_with_knobs`.

    ``source`` is a key of :data:`ABLATIONS`.
    """
    return open_with_knobs(file, knobs, ABLATIONS[source].in_grid)


def run_ablation(
    grid: Grid, lesions: pd.DataFrame, runs_dir: str | Path | None, source: str
) -> Predictions:
    """Train what the grid's folder lacks, and return all systems under the ablation's names.

    Parameters
    ----------
    grid, lesions
        The grid, from :func:`open_grid`, and a labelled lesion table.
    runs_dir
        Folder of the run folders; None: one in the cache, of this base and data and this version
        of the code, which the pages share.
    source
        A key of :data:`ABLATIONS`.

    Raises
    ------
    RuntimeError
        If a run failed; with its reason.
    """
    folder = ensure_runs(grid, lesions, runs_dir)
    pooled = pooled_predictions(grid, folder)
    return Predictions(grid.protocol, named(pooled, ABLATIONS[source].systems))


def measure(predictions: Predictions, n: int = 1000) -> pd.DataFrame:
    """Score every system: :func:`jiadf.results.summarise_seeds`, one under the other."""
    truth = predictions.truth
    tables = [
        summarise_seeds(name, predictions.protocol, truth, seeds, n)
        for name, seeds in predictions.systems.items()
    ]
    return pd.concat(tables, ignore_index=True)


def beside_paper(source: str | Ablation, ours: pd.DataFrame, spread: bool = False) -> pd.DataFrame:
    """Lay the paper's table and ours out as text: two rows a system, the paper's columns.

    ``source`` is a key of :data:`ABLATIONS` or :data:`TABLE1`; ``ours`` is the answer of
    :func:`measure`. Its cells show a 95 % interval over lesions, or with ``spread`` the standard
    deviation over seeds; a system that it lacks was not run.
    """
    ablation = ABLATIONS[source] if isinstance(source, str) else source
    headings = {metric: heading for heading, metric in PAPER_TO_SUMMARY.items()}
    rows = {}
    printed = ablation.printed()
    overall = ours[ours["label"] == "mean"].set_index(["system", "metric"])
    there = overall.index.get_level_values("system")
    for system in (*ablation.systems, *(name for name in ablation.added if name in there)):
        if printed is not None and system in printed.index:
            rows[system, "paper"] = [f"{printed.loc[system, m]:.3f}" for m in ablation.metrics]
        if system not in there:
            rows[system, "ours"] = ["not run"] * len(ablation.metrics)
            continue
        cells = [overall.loc[(system, metric)] for metric in ablation.metrics]
        rows[system, "ours"] = [
            f"{c.value:.3f}\u00a0±\u00a0{c.sd:.3f}"
            if spread
            else f"{c.value:.2f} ({c.low:.2f} to {c.high:.2f})"
            for c in cells
        ]
    columns = [headings[metric] for metric in ablation.metrics]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    table.index = pd.MultiIndex.from_tuples(rows, names=["system", ""])
    return table


def verdict_table(judged: pd.DataFrame, rows: str = "pair") -> pd.DataFrame:
    """Lay out judged claims (:func:`jiadf.verdicts.judge_claims`) as text, a column a metric.

    With ``rows="pair"`` a row is named by its systems and a cell holds the verdict's sign
    (:data:`SIGNS`) and the difference; with ``rows="claim"`` it is named in words, and a cell
    holds the adjusted p-value too.
    """
    differences = [f"{value:+.2f}".replace("-", "−") for value in judged["difference"]]
    cells = judged["verdict"].map(SIGNS) + " " + differences
    if rows == "claim":
        cells += "\np " + judged["p_holm"].map("{:.3f}".format)
    pairs = judged["better"] + " above " + judged["worse"]
    metrics = judged["metric"].map(METRIC_NAMES)
    table = judged.assign(cell=cells, pair=pairs, metric=metrics)
    wide = table.pivot(index=["source", rows], columns="metric", values="cell")
    order = table[["source", rows]].drop_duplicates()
    wide = wide.reindex(pd.MultiIndex.from_frame(order))[metrics.unique()].fillna("")
    wide = wide.rename_axis(columns=None)
    return wide.droplevel("source") if judged["source"].nunique() == 1 else wide


def show_verdicts(judged: pd.DataFrame, rows: str = "pair") -> Styler:
    """Show :func:`verdict_table` with its signs explained and coloured; empty: not claimed."""

    def colour(cell: str) -> str:
        background = _COLOURS.get(cell[:1])
        return f"background-color: {background}; color: black" if background else ""

    caption = ", ".join(f"{sign} {verdict}" for verdict, sign in SIGNS.items())
    styled = verdict_table(judged, rows).style.map(colour).set_caption(caption)
    name = [("font-weight", "normal"), ("text-align", "left"), ("min-width", "11em")]
    cell = [("white-space", "pre"), ("text-align", "center")]
    looks = [("td", cell), ("th.row_heading:last-of-type", name), ("th", [("padding", "0.3em")])]
    return styled.set_table_styles([{"selector": s, "props": p} for s, p in looks])


def count_verdicts(judged: pd.DataFrame, where: str) -> str:
    """Say in one sentence how many claims hold, ``where`` being e.g. "on MILK10k"."""
    counts = judged["verdict"].value_counts()
    told = [f"{counts.get(verdict, 0)} {words}" for verdict, words in _COUNTED.items()]
    return (
        f"{where[0].upper()}{where[1:]}, of {len(judged)} orderings that the paper claims "
        "(a pair of systems in one metric), "
        f"{told[0]}, {told[1]}, and {told[2]} at this sample size "
        "(paired permutation test, Holm-adjusted within each metric)."
    )


_COUNTED = {HOLDS: "hold", FAILS: "do not hold", UNDECIDED: "cannot be told apart"}


@dataclass(frozen=True)
class Recorded:
    """What was recorded of a grid: scores, judged claims, where and how.

    A grid that has not every system of the paper's claims has none judged; it has the differences
    of its systems from the first one instead (:func:`jiadf.evaluation.paired_tests.compare_all`).
    """

    table: pd.DataFrame
    claims: pd.DataFrame | None
    provenance: dict[str, Any]
    from_first: pd.DataFrame | None = None

    def differences(self, reference: str) -> pd.DataFrame:
        """Return the claims that ``reference`` is better, laid out as comparisons with it."""
        order = {system: place for place, system in enumerate(self.table["system"].unique())}
        chosen = self.claims[self.claims["better"] == reference]
        chosen = chosen.sort_values("worse", key=lambda names: names.map(order), kind="stable")
        flipped = {"difference": -chosen["difference"], "low": -chosen["high"]}
        flipped |= {"high": -chosen["low"], "system": chosen["worse"]}
        return chosen.assign(**flipped, reference=reference)

    def gate_means(self) -> pd.DataFrame:
        """Mean branch weights, a row a system of this ablation."""
        means = _mean_table(self.provenance["gate_means"])
        systems = [s for s in self.table["system"].unique() if IN_GRID.get(s, s) in means.index]
        means = means.reindex([IN_GRID.get(s, s) for s in systems]).set_axis(systems)
        return means.dropna(axis="columns", how="all")


def read_ablation(
    name: str, source: str | None = None, folder: Path = RESULTS_DIR
) -> Recorded | None:
    """Read the record ``name``, of one ablation or of all; None if there is no such record."""
    if not (folder / f"{name}.csv").exists():
        return None
    table, provenance = read_record(name, folder)
    claims, from_first = (
        pd.read_csv(path) if path.exists() else None
        for path in (folder / f"{name}_claims.csv", folder / f"{name}_differences.csv")
    )
    if source is not None:
        claims = claims[claims["source"] == source]
        parts = {s: rows for s, rows in table.groupby("system")}
        chosen = named(parts, ABLATIONS[source].systems)
        table = pd.concat([rows.assign(system=system) for system, rows in chosen.items()])
    return Recorded(table, claims, provenance, from_first)


def describe_record(recorded: Recorded | None, name: str) -> str:
    """Say where a record was measured, or that there is none yet."""
    if recorded is None:
        return f"Nothing is recorded on MILK10k under the name `{name}` yet."
    protocols = " and ".join(recorded.table["part"].unique())
    return f"{describe_provenance(recorded.provenance)} Protocol: {protocols}."

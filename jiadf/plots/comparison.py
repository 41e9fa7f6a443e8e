"""Scores with intervals, the paper's beside ours, and differences between systems."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jiadf.evaluation.metrics import METRIC_NAMES
from jiadf.plots.style import FIRST, NEUTRAL, PALETTE, SECOND, WIDTH, name_rows, subplots

_COLUMNS = 3  # panels side by side, at most
_LINE = {"lw": 2.2, "alpha": 0.75}


def _panels(count: int, rows: int) -> tuple[Figure, list[Axes]]:
    """Make `count` panels of `rows` entries, up to three side by side; four make a square."""
    columns = 2 if count == 4 else min(count, _COLUMNS)
    down = math.ceil(count / columns)
    figure, axes = subplots(
        down, columns, squeeze=False, figsize=(WIDTH, 0.6 + down * (0.75 + 0.34 * max(rows, 2)))
    )
    figure.get_layout_engine().set(wspace=0.02, hspace=0.03)
    for ax in axes.flat[count:]:
        ax.set_visible(False)
    return figure, list(axes.flat[:count])


def _finish(ax: Axes, names: Sequence[str], metric: str) -> None:
    """Name the rows where the panel is the first of its line, and set what all panels share."""
    title = METRIC_NAMES.get(metric, metric.replace("_", " "))
    words = title.split()
    if len(title) > 24:  # too long for a third of the column
        half = (len(words) + 1) // 2
        title = f"{' '.join(words[:half])}\n{' '.join(words[half:])}"
    ax.set_title(title[0].upper() + title[1:], fontsize=11)
    name_rows(ax, names)


def paired_differences(
    table: pd.DataFrame, metrics: Sequence[str] | None = None, alpha: float = 0.05
) -> Figure:
    """Draw differences with their intervals, a panel a metric, a row a pair of systems.

    Filled markers are significant differences, hollow ones those that could be chance.

    Parameters
    ----------
    table : DataFrame
        The answer of :func:`jiadf.evaluation.paired_tests.compare_all` or
        :func:`jiadf.evaluation.paired_tests.compare_pairs`.
    metrics : sequence of str, optional
        Those to draw; all that `table` holds if not given.
    alpha : float
        A difference is significant where its Holm-adjusted p-value is below this.
    """
    metrics = list(dict.fromkeys(table["metric"])) if metrics is None else list(metrics)
    missing = sorted(set(metrics) - set(table["metric"]))
    if missing or not metrics:
        raise ValueError(f"no comparison in {', '.join(missing)}" if missing else "no metrics")
    pairs = list(dict.fromkeys(zip(table["system"], table["reference"], strict=True)))
    references = {reference for _, reference in pairs}
    names = [f"{system} − {reference}" for system, reference in pairs]
    if len(references) == 1:
        names = [system for system, _ in pairs]
    figure, axes = _panels(len(metrics), len(pairs))
    for ax, metric in zip(axes, metrics, strict=True):
        rows = table[table["metric"] == metric].set_index(["system", "reference"]).reindex(pairs)
        significant = (rows["p_holm"] < alpha).to_numpy()
        y = np.arange(len(pairs))
        ax.axvline(0, color="black", lw=1.2, zorder=1)
        for chosen, colour, face in ((significant, FIRST, FIRST), (~significant, NEUTRAL, "white")):
            ax.hlines(y[chosen], rows["low"][chosen], rows["high"][chosen], color=colour, **_LINE)
            ax.plot(rows["difference"][chosen], y[chosen], "o", color=colour, mfc=face, ms=7.5)
        _finish(ax, names, metric)
        low, high = ax.get_xlim()
        ax.set_xlim(min(low, -0.05 * (high - low)), max(high, 0.05 * (high - low)))
    handles = [
        Line2D(
            [], [], color=FIRST, marker="o", ms=7.5, label=f"significant (adjusted p < {alpha:g})"
        ),
        Line2D([], [], color=NEUTRAL, marker="o", mfc="white", ms=7.5, label="not significant"),
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=2)
    figure.supxlabel(
        f"difference from {references.pop()}" if len(references) == 1 else "difference", fontsize=11
    )
    return figure


def table_beside(
    paper: pd.DataFrame | None,
    ours: pd.DataFrame,
    metrics: Sequence[str],
    paper_name: str = "paper",
    our_name: str = "ours, 95 % interval",
) -> Figure:
    """Draw a table of the paper beside ours, a panel a metric, a row a system.

    Parameters
    ----------
    paper : DataFrame, optional
        Systems as index, metrics as columns: ``paper_table(2, names="ours")`` with its rows
        renamed by :data:`jiadf.evaluation.paper.PAPER_TO_SYSTEM`; None where the paper has none.
    ours : DataFrame
        `system`, `metric`, `value`, `low`, `high`: the answer of
        :func:`jiadf.evaluation.paired_tests.score_all`.
    metrics : sequence of str
        Names that both use; what one of them lacks is not drawn.
    paper_name, our_name : str
        What the legend calls them.

    Raises
    ------
    ValueError
        If a system has several rows for a metric.
    """
    ours = ours[ours["metric"].isin(list(metrics))]
    if ours.duplicated(["system", "metric"]).any():
        raise ValueError("a system has several rows for a metric")
    systems = list(dict.fromkeys([*([] if paper is None else paper.index), *ours["system"]]))
    figure, axes = _panels(len(metrics), len(systems))
    y = np.arange(len(systems))
    for ax, metric in zip(axes, metrics, strict=True):
        rows = ours[ours["metric"] == metric].set_index("system").reindex(systems)
        shift = 0.0 if paper is None else 0.14
        ax.hlines(y + shift, rows["low"], rows["high"], color=FIRST, **_LINE)
        ax.plot(rows["value"], y + shift, "o", color=FIRST, mec="white", ms=7.5)
        if paper is not None and metric in paper:
            printed = paper[metric].reindex(systems)
            ax.plot(printed, y - shift, "D", color=SECOND, mec="white", ms=7)
        _finish(ax, systems, metric)
    handles = [Line2D([], [], color=FIRST, marker="o", mec="white", ms=7.5, label=our_name)]
    if paper is not None:
        handles.append(
            Line2D([], [], color=SECOND, marker="D", mec="white", ms=7, ls="", label=paper_name)
        )
    figure.legend(handles=handles, loc="outside upper right", ncols=2)
    return figure


def dot_interval(
    table: pd.DataFrame,
    value: str = "value",
    low: str = "low",
    high: str = "high",
    label: str = "label",
    group: str | None = None,
    reference: str | None = None,
    xlabel: str = "",
    reference_name: str = "paper",
) -> Figure:
    """Draw values as dots with their intervals as lines, one row a label.

    Parameters
    ----------
    table : DataFrame
        Rows are drawn in their order, from the top.
    value, low, high, label : str
        Columns of `table`.
    group : str, optional
        A column whose values are drawn in colours of their own, beside one another, in each row.
    reference : str, optional
        A column of values to compare with (NaN for none), drawn as hollow diamonds.
    xlabel : str
        What is measured.
    reference_name : str
        What the legend calls the reference.
    """
    names = list(dict.fromkeys(table[label]))
    groups = [None] if group is None else list(dict.fromkeys(table[group]))
    step = 0.62 / len(groups)
    figure, ax = subplots(figsize=(WIDTH, 1.2 + len(names) * max(0.34, 0.2 * len(groups))))
    for g, name in enumerate(groups):
        rows = table if name is None else table[table[group] == name]
        y = [names.index(entry) + (g - (len(groups) - 1) / 2) * step for entry in rows[label]]
        colour, marker = PALETTE[g % len(PALETTE)], "osv^<>pP"[g % 8]
        ax.hlines(y, rows[low], rows[high], color=colour, lw=2.2, alpha=0.75)
        ax.plot(rows[value], y, marker, color=colour, mec="white", ms=7.5, label=name)
    if reference is not None:
        rows = table.drop_duplicates(label)
        y = [names.index(entry) for entry in rows[label]]
        ax.plot(
            rows[reference], y, "D", mfc="none", mec="black", mew=1.3, ms=8, label=reference_name
        )
    if group is not None or reference is not None:
        figure.legend(*ax.get_legend_handles_labels(), loc="outside upper right", ncols=4)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlabel(xlabel)
    ax.grid(axis="both")
    sns.despine(ax=ax, left=True)
    ax.tick_params(axis="y", length=0)
    return figure

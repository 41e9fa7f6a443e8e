"""Differences between systems, scores with their intervals, and the gate's weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jiadf.evaluation.metrics import METRIC_NAMES
from jiadf.plots.style import FIRST, NEUTRAL, PALETTE, WIDTH, name_rows, subplots

_INTERVAL = {"lw": 2.2, "alpha": 0.75}
_CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
_MARKERS = "osv^<>DPX*h"


def paired_differences(table: pd.DataFrame) -> Figure:
    """Draw differences with their intervals, a panel a metric, a row a pair of systems.

    Filled markers are significant differences (Holm-adjusted p below 0.05), hollow ones those that
    could be chance. `table` is the answer of :func:`jiadf.evaluation.paired_tests.compare_all` or
    :func:`jiadf.evaluation.paired_tests.compare_pairs`.
    """
    metrics = list(table["metric"].unique())
    pairs = list(dict.fromkeys(zip(table["system"], table["reference"], strict=True)))
    references = {reference for _, reference in pairs}
    names = [f"{system} − {reference}" for system, reference in pairs]
    if len(references) == 1:
        names = [system for system, _ in pairs]
    columns = 2 if len(metrics) == 4 else min(len(metrics), 3)
    down = math.ceil(len(metrics) / columns)
    height = 0.6 + down * (0.75 + 0.34 * max(len(pairs), 2))
    figure, axes = subplots(down, columns, squeeze=False, figsize=(WIDTH, height))
    figure.get_layout_engine().set(wspace=0.02, hspace=0.03)
    for ax in axes.flat[len(metrics) :]:
        ax.set_visible(False)
    for ax, metric in zip(axes.flat, metrics, strict=False):
        rows = table[table["metric"] == metric].set_index(["system", "reference"]).reindex(pairs)
        significant = (rows["p_holm"] < 0.05).to_numpy()
        y = np.arange(len(pairs))
        ax.axvline(0, color="black", lw=1.2, zorder=1)
        for chosen, colour, face in ((significant, FIRST, FIRST), (~significant, NEUTRAL, "white")):
            span = rows["low"][chosen], rows["high"][chosen]
            ax.hlines(y[chosen], *span, color=colour, **_INTERVAL)
            ax.plot(rows["difference"][chosen], y[chosen], "o", color=colour, mfc=face, ms=7.5)
        ax.set_title(_title(metric), fontsize=11)
        name_rows(ax, names)
        low, high = ax.get_xlim()
        ax.set_xlim(min(low, -0.05 * (high - low)), max(high, 0.05 * (high - low)))
    dot = {"marker": "o", "ms": 7.5}
    handles = [
        Line2D([], [], color=FIRST, label="significant (adjusted p < 0.05)", **dot),
        Line2D([], [], color=NEUTRAL, mfc="white", label="not significant", **dot),
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=2)
    against = f" from {references.pop()}" if len(references) == 1 else ""
    figure.supxlabel(f"difference{against}", fontsize=11)
    return figure


def _title(metric: str) -> str:
    """Return a metric's name, in two lines if it is too long for a third of the column."""
    title = METRIC_NAMES.get(metric, metric.replace("_", " "))
    title = title[0].upper() + title[1:]
    if len(title) <= 24:
        return title
    words = title.split()
    half = (len(words) + 1) // 2
    return f"{' '.join(words[:half])}\n{' '.join(words[half:])}"


def dot_interval(
    table: pd.DataFrame, value: str = "value", *, group: str | None = None, xlabel: str = ""
) -> Figure:
    """Draw values as dots with their intervals as lines, one row a label, in the table's order.

    `table` has the columns `label`, `low`, `high`, and the one that `value` names. The values of
    the column `group` are drawn in colours of their own, beside one another, in each row.
    """
    names = list(table["label"].unique())
    groups = [None] if group is None else list(table[group].unique())
    step = 0.62 / len(groups)
    figure, ax = subplots(figsize=(WIDTH, 1.2 + len(names) * max(0.34, 0.2 * len(groups))))
    for g, name in enumerate(groups):
        rows = table if name is None else table[table[group] == name]
        y = [names.index(entry) + (g - (len(groups) - 1) / 2) * step for entry in rows["label"]]
        colour, marker = PALETTE[g % len(PALETTE)], "osv^<>pP"[g % 8]
        ax.hlines(y, rows["low"], rows["high"], color=colour, **_INTERVAL)
        ax.plot(rows[value], y, marker, color=colour, mec="white", ms=7.5, label=name)
    if group is not None:
        figure.legend(*ax.get_legend_handles_labels(), loc="outside upper right", ncols=4)
    name_rows(ax, names)
    ax.locator_params(axis="x", nbins=9)
    ax.set_xlabel(xlabel)
    return figure


def gate_simplex(weights: np.ndarray, labels: np.ndarray, branches: Sequence[str]) -> Figure:
    """Draw the gate's weights of every lesion as points in a triangle.

    A corner is a decision by one branch alone, the middle an average of all three. Small points
    are lesions, large ones the means of their classes, `labels` (N,). `branches` name the columns
    of `weights` (N, 3); another number of them is a ValueError.
    """
    if weights.shape[1] != 3 or len(branches) != 3:
        raise ValueError(f"a triangle has 3 corners, and there are {len(branches)} branches")
    points = weights @ _CORNERS  # (N, 2)
    figure, ax = subplots(figsize=(WIDTH, 5.6))
    _draw_simplex(ax, branches)
    for place, label in enumerate(np.unique(labels)):
        style = {
            "color": [*PALETTE, "black"][place % 11],  # eleven classes, ten colours in the palette
            "marker": _MARKERS[place % len(_MARKERS)],
        }
        members = points[labels == label]
        ax.scatter(*members.T, s=9, alpha=0.4, lw=0, zorder=2, **style)
        ax.scatter(*members.mean(axis=0), s=95, ec="black", lw=0.9, zorder=3, label=label, **style)
    figure.legend(loc="outside right center", title="class mean")
    return figure


def _draw_simplex(ax: Axes, branches: Sequence[str]) -> None:
    """Draw the triangle with lines of equal weight at a quarter, a half and three quarters."""
    ax.plot(*_CORNERS[[0, 1, 2, 0]].T, color="black", lw=1.2, zorder=1)
    offset = {"textcoords": "offset points"}
    pale = offset | {"color": "0.4", "fontsize": 9}
    for level in (0.25, 0.5, 0.75):
        for corner in range(3):
            others = _CORNERS[[corner - 1, corner - 2]]
            ends = level * _CORNERS[corner] + (1 - level) * others
            ax.plot(*ends.T, color="0.85", lw=0.8, zorder=0)
        # along the left edge, where the third branch's weight rises from 0 to 1
        ax.annotate(f"{level:g}", level * _CORNERS[2], (-5, 3), ha="right", **pale)
    place = {"rotation": 60, "ha": "center", "va": "center"}
    ax.annotate(f"weight of {branches[2]}", _CORNERS[2] / 2, (-42, 24), **place, **pale)
    for corner, name, (dx, dy) in zip(_CORNERS, branches, ((-4, -6), (4, -6), (0, 6)), strict=True):
        va = "bottom" if dy > 0 else "top"
        ax.annotate(f"{name} only", corner, (dx, dy), ha="center", va=va, **offset)
    ax.set_aspect("equal")
    ax.set(xlim=(-0.12, 1.12), ylim=(-0.09, 0.95))
    ax.axis("off")

"""Pictures of the fusion: attention between the streams and the weights of the decision gate."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jiadf.data.schema import CLASSES
from jiadf.plots.style import PALETTE, WIDTH, heatmap, ordered, subplots

_CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(3) / 2]])
_MARKERS = "osv^<>DPX*h"


def _check_gate(weights, labels, branches: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    weights, labels = np.asarray(weights, dtype=float), np.asarray(labels)
    if weights.shape != (len(labels), len(branches)):
        raise ValueError(
            f"weights has shape {weights.shape}; for {len(labels)} labels and {len(branches)} "
            f"branches it must be ({len(labels)}, {len(branches)})"
        )
    if not np.allclose(weights.sum(axis=1), 1, atol=1e-3) or weights.min() < -1e-3:
        raise ValueError("the weights of a lesion must be non-negative and sum to 1")
    return weights, labels


def _draw_simplex(ax: Axes, branches: Sequence[str]) -> None:
    """Draw the triangle with lines of equal weight at a quarter, a half and three quarters."""
    closed = _CORNERS[[0, 1, 2, 0]]
    ax.plot(*closed.T, color="black", lw=1.2, zorder=1)
    for level in (0.25, 0.5, 0.75):
        for corner in range(3):
            ends = [
                level * _CORNERS[corner] + (1 - level) * _CORNERS[(corner + turn) % 3]
                for turn in (1, 2)
            ]
            ax.plot(*np.transpose(ends), color="0.85", lw=0.8, zorder=0)
        # along the left edge, where the third branch's weight rises from 0 to 1
        x, y = level * _CORNERS[2] + (1 - level) * _CORNERS[0]
        ax.annotate(
            f"{level:g}", (x, y), (-5, 3), textcoords="offset points", ha="right", fontsize=9,
            color="0.4",
        )  # fmt: skip
    ax.annotate(
        f"weight of {branches[2]}", (0.25, math.sqrt(3) / 4), (-42, 24),
        textcoords="offset points", rotation=60, ha="center", va="center", color="0.4", fontsize=9,
    )  # fmt: skip
    for corner, name, (dx, dy) in zip(_CORNERS, branches, ((-4, -6), (4, -6), (0, 6)), strict=True):
        ax.annotate(
            f"{name} only", corner, (dx, dy), textcoords="offset points", ha="center",
            va="bottom" if dy > 0 else "top",
        )  # fmt: skip
    ax.set_aspect("equal")
    ax.set(xlim=(-0.12, 1.12), ylim=(-0.09, 0.95))
    ax.axis("off")


def gate_simplex(
    weights, labels, branches: Sequence[str] = ("image", "metadata", "joint")
) -> Figure:
    """Draw the gate's weights of every lesion as points in a triangle.

    A corner is a decision by one branch alone, the middle an average of all three.  Small points
    are lesions, large ones the means of their classes.

    Parameters
    ----------
    weights : (N, 3) float array
        On the simplex.
    labels : (N,) array
        Class (or any other group) of each lesion.
    branches : sequence of 3 str
        Names of the columns of `weights`.
    """
    weights, labels = _check_gate(weights, labels, branches)
    if len(branches) != 3:
        raise ValueError(f"a triangle has 3 corners, and there are {len(branches)} branches")
    points = weights @ _CORNERS  # (N, 2)
    figure, ax = subplots(figsize=(WIDTH, 5.6))
    _draw_simplex(ax, branches)
    for place, label in enumerate(ordered(labels.tolist(), CLASSES)):
        colour = [*PALETTE, "black"][place % 11]  # eleven classes, ten colours in the palette
        marker = _MARKERS[place % len(_MARKERS)]
        members = points[labels == label]
        ax.scatter(*members.T, s=9, color=colour, marker=marker, alpha=0.4, lw=0, zorder=2)
        mean = members.mean(axis=0)
        ax.scatter(
            *mean, s=95, color=colour, marker=marker, ec="black", lw=0.9, zorder=3, label=label
        )
    figure.legend(loc="outside right center", title="class mean")
    return figure


def gate_means(table: pd.DataFrame) -> Figure:
    """Draw the mean weight of each branch as stacked bars, a row a system.

    Parameters
    ----------
    table : DataFrame
        Systems as index, branches as columns, NaN for a branch that a system lacks; a row sums
        to 1.
    """
    if not np.allclose(table.sum(axis=1), 1, atol=1e-2):
        raise ValueError("the mean weights of a system must sum to 1")
    figure, ax = subplots(figsize=(WIDTH, 1.3 + 0.42 * len(table)))
    _stack(ax, table)
    figure.legend(loc="outside upper right", ncols=len(table.columns))
    return figure


def _stack(ax: Axes, table: pd.DataFrame, written: float = 0.06) -> None:
    """Draw rows of weights as stacked bars, the first row on top; write the larger weights."""
    left = np.zeros(len(table))
    for colour, branch in zip(PALETTE, table.columns, strict=False):
        width = table[branch].fillna(0).to_numpy()
        bars = ax.barh(range(len(table)), width, left=left, color=colour, label=branch, height=0.7)
        texts = [f"{w:.2f}" if w > written else "" for w in width]
        ax.bar_label(bars, texts, label_type="center", color="white", fontsize=10)
        left += width
    ax.set_yticks(range(len(table)), list(table.index))
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel="mean weight in the decision")
    sns.despine(ax=ax, left=True)
    ax.tick_params(axis="y", length=0)


def gate_openness(table: pd.DataFrame, limit: float | None = None) -> Figure:
    """Draw each system's mean weights, and beside them how open its gate is.

    Parameters
    ----------
    table : DataFrame
        The answer of :func:`jiadf.openness.openness_table`.
    limit : float, optional
        The entropy from which on a gate is called open, drawn as a line.
    """
    weights = table[table["measure"].str.startswith("weight ")]
    weights = weights.assign(branch=weights["measure"].str.removeprefix("weight "))
    systems, branches = weights["system"].unique(), weights["branch"].unique()
    wide = weights.pivot(index="system", columns="branch", values="value")
    figure, (ax, right) = subplots(
        1, 2, figsize=(WIDTH, 1.4 + 0.38 * len(systems)), width_ratios=[1.7, 1], sharey=True
    )
    _stack(ax, wide.loc[systems, branches], 0.12)
    rows = table[table["measure"] == "entropy"].set_index("system").loc[systems]
    y = np.arange(len(systems))
    right.hlines(y, rows["low"], rows["high"], color="black", lw=2.2, alpha=0.75)
    right.plot(rows["value"], y, "o", color="black", mec="white", ms=7.5)
    if limit is not None:
        right.axvline(limit, color="0.4", lw=1.2, ls="--", zorder=0)
    right.set(xlim=(-0.03, 1.03), xlabel="entropy of the weights,\nshare of the largest")
    right.grid(axis="x")
    sns.despine(ax=right, left=True)
    right.tick_params(axis="y", length=0)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper right", ncols=len(branches))
    return figure


def gate_course(table: pd.DataFrame, columns: int = 4) -> Figure:
    """Draw the mean weight of each branch by epoch, a panel a system.

    Parameters
    ----------
    table : DataFrame
        The answer of :func:`jiadf.openness.course_table`: lines are means over runs, bands reach
        from the least to the greatest run.
    columns : int
        Panels side by side, at most.
    """
    systems, branches = list(dict.fromkeys(table["system"])), list(dict.fromkeys(table["branch"]))
    if not systems:
        raise ValueError("no course of a gate in this table")
    columns = min(columns, len(systems))
    down = math.ceil(len(systems) / columns)
    figure, axes = subplots(
        down, columns, figsize=(WIDTH, 0.9 + 1.75 * down), sharex=True, sharey=True, squeeze=False
    )
    for ax, system in zip(axes.flat, systems, strict=False):
        for colour, style, branch in zip(PALETTE, ("--", ":", "-"), branches, strict=False):
            rows = table[(table["system"] == system) & (table["branch"] == branch)]
            ax.fill_between(rows["epoch"], rows["low"], rows["high"], color=colour, alpha=0.2, lw=0)
            ax.plot(rows["epoch"], rows["value"], style, color=colour, lw=2, label=branch)
        ax.set_title(system, fontsize=11)
        ax.set_ylim(-0.03, 1.03)
        ax.grid(axis="y")
    for ax in axes.flat[len(systems) :]:
        ax.set_visible(False)
    for ax in axes.flat[max(len(systems) - columns, 0) : len(systems)]:
        ax.tick_params(labelbottom=True)
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    figure.supylabel("mean weight on validation lesions", fontsize=11)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(branches))
    return figure

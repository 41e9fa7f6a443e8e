"""The weights of the decision gate."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jiadf.data.schema import CLASSES
from jiadf.plots.style import PALETTE, WIDTH, ordered, subplots

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

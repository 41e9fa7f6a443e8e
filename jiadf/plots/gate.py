"""The weights of the decision gate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jiadf.plots.style import PALETTE, WIDTH, subplots

_CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
_MARKERS = "osv^<>DPX*h"


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

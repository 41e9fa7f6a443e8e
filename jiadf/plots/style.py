"""The looks that all figures share, and what pages and the other modules draw with."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from importlib import import_module

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

WIDTH = 8.0  # inches; at 100 dots an inch the book's column of 800 pixels
PALETTE = sns.color_palette("colorblind")
FIRST, SECOND = PALETTE[0], PALETTE[1]
NEUTRAL = "0.35"
_STYLE = {
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "svg.hashsalt": "jiadf",
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.h_pad": 0.08,
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.labelsize": 11,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "0.9",
}


def use_style() -> None:
    """Set the style of every figure of this process: seaborn's colour-blind palette, on white.

    A notebook shows line art as SVG, and a figure with photographs as JPEG.
    """
    sns.set_theme(style="ticks", palette="colorblind", rc=_STYLE)
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None or "matplotlib_inline" not in plt.get_backend():
        return
    import_module("matplotlib_inline.backend_inline")  # else it registers PNG when first drawn with
    formatters = shell.display_formatter.formatters
    formatters["image/png"].pop(Figure, None)
    formatters["image/svg+xml"].for_type(Figure, as_svg)
    formatters["image/jpeg"].for_type(Figure, as_jpeg)


def _has_photograph(figure: Figure) -> bool:
    return any(image.get_array().size > 30_000 for ax in figure.axes for image in ax.images)


def _drawn(figure: Figure, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, bbox_inches="tight", **options)
    return buffer.getvalue()


def as_svg(figure: Figure) -> str | None:
    """Draw a figure as SVG, clouds of over 500 points as dots; None for one with photographs."""
    if _has_photograph(figure):
        return None
    for cloud in figure.findobj(PathCollection):
        cloud.set_rasterized(len(cloud.get_offsets()) > 500)
    return _drawn(figure, "svg", dpi=200, metadata={"Date": None}).decode()


def as_jpeg(figure: Figure) -> bytes | None:
    """Draw a figure with photographs as JPEG; None for line art."""
    if not _has_photograph(figure):
        return None
    return _drawn(figure, "jpeg", dpi=160, pil_kwargs={"quality": 85, "optimize": True})


def subplots(*args, **kwargs) -> tuple[Figure, Axes | np.ndarray]:
    """Make a figure as pyplot does, but let pyplot forget it: a notebook then shows it once."""
    figure, axes = plt.subplots(*args, **{"layout": "constrained"} | kwargs)
    plt.close(figure)
    return figure, axes


def name_rows(ax: Axes, names: Sequence[str]) -> None:
    """Give a panel of dots a row a name, from top to bottom; names only in the first column."""
    is_first = ax.get_subplotspec().is_first_col()
    ax.set_yticks(range(len(names)), names if is_first else [""] * len(names))
    ax.set_ylim(len(names) - 0.45, -0.55)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
    ax.grid(axis="both")
    sns.despine(ax=ax, left=True)
    ax.tick_params(axis="y", length=0)


def heatmap(ax: Axes, table, text=None, **kwargs) -> None:
    """Draw an annotated heatmap, its row names level.

    Axes must not share their y axis: one of them would take the names from the others.
    """
    shown = {"annot": True, "fmt": ".2f"} if text is None else {"annot": text, "fmt": ""}
    looks = {"cmap": "Blues", "linewidths": 0.5, "annot_kws": {"fontsize": 9}, "vmin": 0}
    sns.heatmap(table, ax=ax, **shown | looks | kwargs)
    ax.tick_params(axis="both", length=0)
    ax.tick_params(axis="y", rotation=0)

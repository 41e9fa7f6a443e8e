"""Pictures of calibration and of decisions, from the tables of :mod:`jiadf.studies.calibration`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from jiadf.plots.style import FIRST, NEUTRAL, PALETTE, SECOND, WIDTH, subplots

_BAND = "0.86"
_NAMES = {
    "ece": "ECE, equal width",
    "ece_mass": "ECE, equal mass",
    "classwise_ece": "class-wise ECE",
    "rms": "RMS error, plain",
    "rms_debiased": "RMS error, debiased",
    "overconfidence": "over-confidence",
    "nll": "negative log-likelihood",
    "brier": "Brier score",
}


def reliability_panels(table: pd.DataFrame, titles: Sequence[str]) -> Figure:
    """Draw reliability diagrams side by side, each over its histogram of lesions.

    Parameters
    ----------
    table : DataFrame
        Rows of the study's ``reliability`` with a column `title`, one diagram a title.
    titles : sequence of str
        Those to draw, in this order.
    """
    columns = min(3, len(titles))
    down = math.ceil(len(titles) / columns)
    figure, axes = subplots(
        2 * down, columns, squeeze=False, sharex=True, figsize=(WIDTH, 3.5 * down + 0.4),
        height_ratios=[3, 1] * down,
    )  # fmt: skip
    for ax in axes.flat:
        ax.set_visible(False)
    for number, title in enumerate(titles):
        row, column = divmod(number, columns)
        ax, below = axes[2 * row, column], axes[2 * row + 1, column]
        bins = table[(table["title"] == title) & (table["count"] > 0)]
        if bins.empty:
            raise ValueError(
                f"no bins of {title!r}; there are {', '.join(table['title'].unique())}"
            )
        ax.set_visible(True)
        below.set_visible(True)
        ax.plot([0, 1], [0, 1], color=NEUTRAL, lw=1, ls="--")
        ax.vlines(
            bins["confidence"], bins["expected_low"], bins["expected_high"], color=_BAND, lw=9,
            zorder=0,
        )  # fmt: skip
        ax.vlines(bins["confidence"], bins["low"], bins["high"], color=FIRST, lw=2)
        ax.plot(bins["confidence"], bins["accuracy"], "o", color=FIRST, mec="white", ms=6)
        ax.set(xlim=(0, 1), ylim=(-0.02, 1.02), title=title, xticks=[0, 0.5, 1])
        widths = bins["upper"] - bins["lower"]
        below.bar(
            bins["lower"], bins["count"], widths, align="edge", color="0.7", edgecolor="white"
        )
        below.set_ylim(0, None)
        below.yaxis.set_major_locator(MaxNLocator(nbins=2, integer=True))
        if column == 0:
            ax.set_ylabel("accuracy")
            below.set_ylabel("lesions")
        below.set_xlabel("confidence")
        below.tick_params(labelbottom=True)
    handles = [
        Line2D([], [], color=FIRST, marker="o", mec="white", ms=6, lw=2, label="accuracy, 95 %"),
        Patch(color=_BAND, label="expected if calibrated"),
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=2)
    return figure


def error_panels(
    table: pd.DataFrame, metrics: Sequence[str], value: str = "value", zero: bool = False
) -> Figure:
    """Draw errors, or their differences, as dots with intervals: a panel a metric, a row a name.

    Parameters
    ----------
    table : DataFrame
        Rows of the study's ``errors`` or ``differences`` with a column `name`. Where it has
        ``perfect_low`` and ``perfect_high``, what a perfectly calibrated system would score is
        drawn as a grey bar.
    metrics : sequence of str
        Those to draw.
    value : str
        The column of the dots.
    zero : bool
        Draw a line at 0, and markers hollow where the interval holds it.
    """
    names = list(dict.fromkeys(table["name"]))
    columns = 2 if len(metrics) in (2, 4) else min(3, len(metrics))
    down = math.ceil(len(metrics) / columns)
    figure, axes = subplots(
        down, columns, squeeze=False, figsize=(WIDTH, 0.6 + down * (0.8 + 0.3 * len(names)))
    )
    for ax in axes.flat[len(metrics) :]:
        ax.set_visible(False)
    y = np.arange(len(names))
    perfect = False
    for ax, metric in zip(axes.flat, metrics, strict=False):
        rows = table[table["metric"] == metric].set_index("name").reindex(names)
        if "perfect_low" in rows and rows["perfect_low"].notna().any():
            perfect = True
            ax.hlines(y, rows["perfect_low"], rows["perfect_high"], color=_BAND, lw=9, zorder=0)
        ax.hlines(y, rows["low"], rows["high"], color=FIRST, lw=2.2, alpha=0.75)
        ax.plot(rows[value], y, "o", color=FIRST, mec="white", ms=7.5)
        if zero:
            could_be = ((rows["low"] <= 0) & (rows["high"] >= 0)).to_numpy()
            ax.plot(rows[value][could_be], y[could_be], "o", color="white", mec=FIRST, ms=6.5)
        if zero or metric == "overconfidence":
            ax.axvline(0, color=NEUTRAL, lw=1, ls="--", zorder=0)
        title = _NAMES.get(metric, metric)
        ax.set_title(title[0].upper() + title[1:], fontsize=11)
        first = ax.get_subplotspec().is_first_col()
        ax.set_yticks(y, names if first else [""] * len(names))
        ax.set_ylim(len(names) - 0.45, -0.55)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
        ax.grid(axis="both")
        sns.despine(ax=ax, left=True)
        ax.tick_params(axis="y", length=0)
    if perfect:
        handles = [Patch(color=_BAND, label="what a perfectly calibrated system would score")]
        figure.legend(handles=handles, loc="outside upper right")
    return figure


def ece_binning(table: pd.DataFrame, reference: float | None = None) -> Figure:
    """Draw how the ECE of samples moves with the number of bins, a panel a sample size.

    Parameters
    ----------
    table : DataFrame
        Rows of the study's ``binning``, of one method.
    reference : float, optional
        A printed ECE, drawn as a line.
    """
    sizes = list(dict.fromkeys(table["size"]))
    figure, axes = subplots(
        1, len(sizes), squeeze=False, sharey=True, figsize=(WIDTH, 3.6)
    )  # fmt: skip
    for ax, size in zip(axes[0], sizes, strict=True):
        for number, scheme in enumerate(("width", "mass")):
            rows = table[(table["size"] == size) & (table["scheme"] == scheme)]
            x = np.arange(len(rows)) + (number - 0.5) * 0.25
            colour, marker = PALETTE[number], "os"[number]
            ax.vlines(x, rows["low"], rows["high"], color=colour, lw=2.2, alpha=0.75)
            ax.plot(x, rows["median"], marker, color=colour, mec="white", ms=7.5)
            ax.plot(x, rows["all_lesions"], "_", color="black", ms=10, mew=1.6)
        if reference is not None:
            ax.axhline(reference, color=NEUTRAL, lw=1, ls="--")
        ax.set_xticks(range(len(rows)), rows["bins"])
        ax.set(xlabel="bins", title=f"samples of {size:,} lesions", ylim=(0, None))
        ax.grid(axis="y")
    axes[0, 0].set_ylabel("ECE")
    handles = [
        Line2D([], [], color=PALETTE[n], marker="os"[n], mec="white", lw=2.2, label=f"equal {name}")
        for n, name in enumerate(("width", "mass"))
    ]
    handles.append(Line2D([], [], color="black", marker="_", ls="", ms=10, label="all lesions"))
    if reference is not None:
        handles.append(Line2D([], [], color=NEUTRAL, ls="--", lw=1, label="paper"))
    figure.legend(handles=handles, loc="outside upper right", ncols=4)
    return figure


def plausible_ece(table: pd.DataFrame, reference: float, bins: int = 15) -> Figure:
    """Draw which ECE is measured for which true error, a panel a sample size.

    ``table`` is the study's ``plausible``; ``reference`` a printed ECE.
    """
    table = table[table["bins"] == bins]
    sizes = list(dict.fromkeys(table["size"]))
    figure, axes = subplots(1, len(sizes), squeeze=False, sharey=True, figsize=(WIDTH, 3.7))
    for ax, size in zip(axes[0], sizes, strict=True):
        rows = table[table["size"] == size]
        ax.fill_between(rows["true_error"], rows["low"], rows["high"], color=(*FIRST, 0.25), lw=0)
        ax.plot(rows["true_error"], rows["median"], color=FIRST, lw=2)
        ax.plot(rows["true_error"], rows["true_error"], color=NEUTRAL, lw=1, ls=":")
        ax.axhline(reference, color=SECOND, lw=1.5, ls="--")
        ax.set(xlabel="true error", title=f"samples of {size:,} lesions", ylim=(0, None))
        ax.grid(axis="y")
    axes[0, 0].set_ylabel(f"measured ECE, {bins} bins")
    handles = [
        Line2D([], [], color=FIRST, lw=2, label="median"),
        Patch(color=(*FIRST, 0.25), label="95 % of samples"),
        Line2D([], [], color=NEUTRAL, lw=1, ls=":", label="no bias"),
        Line2D([], [], color=SECOND, lw=1.5, ls="--", label="paper"),
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=4)
    return figure


def _around(table: pd.DataFrame) -> tuple[float, float]:
    ratio = table["mean_probability"] / table["prevalence"].replace(0, np.nan)
    return min(ratio.min(), 0.5) / 1.15, max(ratio.max(), 2.0) * 1.15


def class_bias(table: pd.DataFrame, titles: Sequence[str]) -> Figure:
    """Draw each class's mean probability over its frequency, on a logarithmic axis.

    ``table`` holds rows of the study's ``classes`` with a column `title`.
    """
    classes = list(dict.fromkeys(table["label"]))
    figure, ax = subplots(figsize=(WIDTH, 4.6))
    y = np.arange(len(classes))
    step = 0.6 / len(titles)
    for number, title in enumerate(titles):
        rows = table[table["title"] == title].set_index("label").reindex(classes)
        ratio = rows["mean_probability"] / rows["prevalence"].replace(0, np.nan)
        ax.plot(
            ratio, y + (number - (len(titles) - 1) / 2) * step, "osD^v"[number % 5],
            color=PALETTE[number], mec="white", ms=7.5, label=title,
        )  # fmt: skip
    lesions = table.drop_duplicates("label").set_index("label")["lesions"]
    ax.set_yticks(y, [f"{name}  ({lesions[name]:,})" for name in classes])
    ax.set_ylim(len(classes) - 0.45, -0.55)
    ax.axvline(1, color=NEUTRAL, lw=1, ls="--")
    ax.set_xscale("log", base=2)
    ax.set_xticks([0.25, 0.5, 1, 2, 4, 8])
    ax.set_xlim(*_around(table))
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    ax.set_xlabel("mean probability / frequency (lesions in brackets)")
    ax.grid(axis="both")
    sns.despine(ax=ax, left=True)
    ax.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper right", ncols=len(titles))
    return figure


def risk_curves(table: pd.DataFrame, names: Sequence[str]) -> Figure:
    """Draw error among the lesions decided, over the share decided, with 95 % bands.

    ``table`` holds rows of the study's ``risk`` with a column `name`.
    """
    figure, ax = subplots(figsize=(WIDTH, 4.2))
    for number, name in enumerate(names):
        rows = table[table["name"] == name]
        colour = PALETTE[number]
        ax.fill_between(rows["coverage"], rows["low"], rows["high"], color=(*colour, 0.18), lw=0)
        ax.plot(rows["coverage"], rows["risk"], "-" if number % 2 == 0 else "--", color=colour,
                lw=2, label=name)  # fmt: skip
    ax.set(xlabel="share of lesions decided, most confident first", ylabel="error among them")
    ax.set(xlim=(0, 1), ylim=(0, None))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.grid(axis="both")
    figure.legend(loc="outside upper right", ncols=3)
    return figure


def coverage_by_run(table: pd.DataFrame, kinds: Sequence[str], system: str = "ji-adf") -> Figure:
    """Draw the coverage of each run's sets over its intervals, a panel a kind.

    ``table`` is the study's ``coverage``. The wide bar is the beta-binomial interval, the darker
    and shorter one the binomial.
    """
    table = table[table["system"] == system]
    figure, axes = subplots(
        1, len(kinds), squeeze=False, sharey=True, figsize=(WIDTH, 4.2)
    )  # fmt: skip
    for ax, kind in zip(axes[0], kinds, strict=True):
        for number, alpha in enumerate(sorted(table["alpha"].unique())):
            rows = table[(table["kind"] == kind) & (table["alpha"] == alpha)].reset_index()
            x = number + np.linspace(-0.32, 0.32, len(rows)) if len(rows) > 1 else [number]
            # one interval a run: folds may differ by a lesion
            ax.vlines(x, rows["low"], rows["high"], color="0.85", lw=3.5)
            ax.vlines(x, rows["binomial_low"], rows["binomial_high"], color="0.6", lw=3.5)
            ax.plot(x, rows["coverage"], "o", color=FIRST, mec="white", ms=5.5)
            ax.hlines(1 - alpha, number - 0.42, number + 0.42, color=NEUTRAL, lw=1, ls="--")
        ax.set_xticks(
            range(table["alpha"].nunique()),
            [f"{1 - a:.0%}" for a in sorted(table["alpha"].unique())],
        )
        ax.set(title=kind[0].upper() + kind[1:], xlabel="promised")
        ax.grid(axis="y")
    axes[0, 0].set_ylabel("coverage on the test fold")
    axes[0, 0].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    handles = [
        Line2D([], [], color=FIRST, marker="o", mec="white", ls="", label="a run"),
        Line2D([], [], color="0.85", lw=4, label="95 %, beta-binomial"),
        Line2D([], [], color="0.6", lw=4, label="95 %, binomial"),
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=3)
    return figure


def coverage_by_class(table: pd.DataFrame) -> Figure:
    """Draw coverage within each class beside the size of its sets.

    ``table`` is the study's ``coverage_by_class``.
    """
    kinds, classes = list(dict.fromkeys(table["kind"])), list(dict.fromkeys(table["label"]))
    figure, axes = subplots(1, 2, figsize=(WIDTH, 5.0))
    y, step = np.arange(len(classes)), 0.62 / len(kinds)
    promised = table[table["low"].notna()].drop_duplicates("label").set_index("label")
    promised = promised.reindex(classes)
    axes[0].hlines(y, promised["low"], promised["high"], color=_BAND, lw=14, zorder=0)
    for number, kind in enumerate(kinds):
        rows = table[table["kind"] == kind].set_index("label").reindex(classes)
        at = y + (number - (len(kinds) - 1) / 2) * step
        for ax, column in zip(axes, ("coverage", "mean_size"), strict=True):
            ax.plot(rows[column], at, "osD"[number % 3], color=PALETTE[number], mec="white", ms=7,
                    label=kind if ax is axes[0] else None)  # fmt: skip
    lesions = table.drop_duplicates("label").set_index("label")["lesions"]
    axes[0].set_yticks(y, [f"{name}  ({lesions[name]:,})" for name in classes])
    axes[1].set_yticks(y, [""] * len(classes))
    axes[0].axvline(1 - table["alpha"].iloc[0], color=NEUTRAL, lw=1, ls="--")
    axes[0].set_xlabel("coverage (grey: promised, by class)")
    axes[1].set_xlabel("mean number of classes in a set")
    axes[1].set_xlim(0, len(classes) + 0.3)
    for ax in axes:
        ax.set_ylim(len(classes) - 0.4, -0.6)
        ax.grid(axis="both")
        sns.despine(ax=ax, left=True)
        ax.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper right", ncols=3)
    return figure


def operating_points(table: pd.DataFrame, wanted: float = 0.95) -> Figure:
    """Draw sensitivity and specificity with their intervals, a row a name.

    ``table`` holds rows of the study's ``operating`` with a column `name`.
    """
    figure, axes = subplots(1, 2, figsize=(WIDTH, 1.3 + 0.42 * len(table)))
    y = np.arange(len(table))
    for ax, name in zip(axes, ("sensitivity", "specificity"), strict=True):
        ax.hlines(y, table[f"{name}_low"], table[f"{name}_high"], color=FIRST, lw=2.2, alpha=0.75)
        ax.plot(table[name], y, "o", color=FIRST, mec="white", ms=7.5)
        ax.set(xlabel=name, ylim=(len(table) - 0.45, -0.55))
        ax.grid(axis="both")
        ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        ax.xaxis.set_major_locator(MaxNLocator(nbins=5))
        sns.despine(ax=ax, left=True)
        ax.tick_params(axis="y", length=0)
    axes[0].axvline(wanted, color=NEUTRAL, lw=1, ls="--")
    axes[0].set_yticks(y, table["name"])
    axes[1].set_yticks(y, [""] * len(table))
    return figure

"""Pictures of submissions: what ensembles and moved cuts gain, where cuts lie, what they cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from jiadf.data.schema import CLASSES
from jiadf.evaluation.thresholds import Thresholds, f1_curve
from jiadf.plots.style import FIRST, NEUTRAL, PALETTE, SECOND, WIDTH, name_rows, subplots

WAYS = {
    "none": "not moved",
    "own": "own cut of each class",
    "common": "one cut for all",
    "chosen": "shrunk, strength chosen",
    "validation": "on validation folds",
    "in sample": "in sample (flattering)",
}
NUMBERS = {"posterior": "posterior", "moved": "moved", "moved, renormalised": "moved, sum 1"}
COSTS = {"ece": "ECE", "brier": "Brier score", "binary_nll": "binary NLL", "nll": "NLL"}


def _side_by_side(names: Sequence[str], rows: int, share: bool = True) -> tuple[Figure, list[Axes]]:
    """Make a panel for each name, with room for a number of rows."""
    columns = min(len(names), 3)
    down = -(-len(names) // columns)
    size = (WIDTH, 0.9 + down * (0.55 + 0.36 * max(rows, 2)))
    figure, axes = subplots(down, columns, squeeze=False, figsize=size, sharex=share)
    for ax in axes.flat[len(names) :]:
        ax.set_visible(False)
    for ax, name in zip(axes.flat, names, strict=False):
        ax.set_title(name, fontsize=11)
    return figure, list(axes.flat[: len(names)])


def variant_scores(scores: pd.DataFrame, metric: str = "macro_f1_at_half") -> Figure:
    """Draw each variant with its 95 % interval, before and after its cuts moved; a panel a system.

    Parameters
    ----------
    scores : DataFrame
        The table ``scores`` of :func:`jiadf.studies.submission.study`.
    metric : str
        One that exists for both.
    """
    rows = scores[scores["metric"] == metric]
    if rows.empty:
        raise ValueError(f"no metric {metric!r}; there are {', '.join(scores['metric'].unique())}")
    systems, variants = list(rows["system"].unique()), list(rows["variant"].unique())
    figure, axes = _side_by_side(systems, len(variants))
    looks = (
        ("none", "cuts at 0.5", NEUTRAL, "s", -0.14),
        ("chosen", "cuts moved", FIRST, "o", 0.14),
    )
    for ax, system in zip(axes, systems, strict=True):
        for mapping, label, colour, marker, shift in looks:
            part = rows[(rows["system"] == system) & (rows["mapping"] == mapping)]
            part = part.set_index("variant").reindex(variants)
            y = np.arange(len(variants)) + shift
            ax.hlines(y, part["low"], part["high"], color=colour, lw=2.2, alpha=0.75)
            ax.plot(part["value"], y, marker, color=colour, mec="white", ms=7.5, label=label)
        name_rows(ax, variants)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2)
    name = {"macro_f1_at_half": "macro-F1 at 0.5"}.get(metric, metric.replace("_", " "))
    figure.supxlabel(f"{name}, out of fold, 95 % interval", fontsize=11)
    return figure


def mapping_ways(mapping: pd.DataFrame, variant: str | None = None) -> Figure:
    """Draw macro-F1 at 0.5 by how the cuts were fitted; a panel a system.

    Parameters
    ----------
    mapping : DataFrame
        The table ``mapping`` of :func:`jiadf.studies.submission.study`.
    variant : str, optional
        Which of its variants; the last if not given.
    """
    variant = variant or mapping["variant"].iloc[-1]
    rows = mapping[mapping["variant"] == variant]
    systems = list(rows["system"].unique())
    ways = [way for way in WAYS if way in set(rows["fitted"])]
    figure, axes = _side_by_side(systems, len(ways))
    for ax, system in zip(axes, systems, strict=True):
        part = rows[rows["system"] == system].set_index("fitted").reindex(ways)
        for y, (way, row) in enumerate(part.iterrows()):
            colour = {"none": NEUTRAL, "chosen": FIRST, "in sample": SECOND}.get(way, PALETTE[2])
            ax.hlines(y, row["low"], row["high"], color=colour, lw=2.2, alpha=0.75)
            ax.plot(row["value"], y, "o", color=colour, mec="white", ms=7.5)
        ax.axvline(part.loc["none", "value"], color=NEUTRAL, lw=1, ls=":", zorder=0)
        name_rows(ax, [WAYS[way] for way in ways])
    figure.supxlabel("macro-F1 at 0.5, 95 % interval", fontsize=11)
    return figure


def class_cuts(thresholds: pd.DataFrame) -> Figure:
    """Draw the cuts of each class: its own, the common one, and the chosen one with its range.

    Parameters
    ----------
    thresholds : DataFrame
        The table ``thresholds`` of :func:`jiadf.studies.submission.study`.
    """
    systems = list(thresholds["system"].unique())
    labels = list(dict.fromkeys(thresholds["label"]))
    figure, axes = _side_by_side(systems, len(labels))
    counts = thresholds.drop_duplicates("label").set_index("label")["lesions"]
    for ax, system in zip(axes, systems, strict=True):
        part = thresholds[thresholds["system"] == system].set_index("label").loc[labels]
        y = np.arange(len(labels))
        ax.axvline(0.5, color="black", lw=1.2, zorder=0)
        common = part["common"].iloc[0]
        ax.axvline(common, color=NEUTRAL, lw=1.4, ls="--", label="common", zorder=0)
        ax.hlines(y, part["low"], part["high"], color=FIRST, lw=2.2, alpha=0.75)
        ax.plot(part["own"], y, "D", color=SECOND, mec="white", ms=6, label="own", zorder=2)
        ax.plot(part["chosen"], y, "o", color=FIRST, mec="white", ms=8, label="chosen", zorder=3)
        name_rows(ax, [f"{label}  ({counts[label]:,})" for label in labels])
        ax.set_xscale("logit")
        ax.set_xlim(min(0.04, 0.8 * part[["own", "low"]].to_numpy().min()), 0.97)
        ax.xaxis.set_major_locator(FixedLocator([0.01, 0.05, 0.2, 0.5, 0.8, 0.95]))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.minorticks_off()
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper right", ncols=3)
    figure.supxlabel("cut (scale of the logit); lines: range when a fold is left out", fontsize=11)
    return figure


def mapping_cost(
    calibration: pd.DataFrame, metrics: Sequence[str] = ("ece", "brier", "binary_nll")
) -> Figure:
    """Draw what moving the cuts costs: a panel a metric, a row a system and kind of numbers.

    Parameters
    ----------
    calibration : DataFrame
        The table ``calibration`` of :func:`jiadf.studies.submission.study`.
    metrics : sequence of str
        Of its metrics; less is better.
    """
    rows = [(s, k) for s in calibration["system"].unique() for k in NUMBERS]
    figure, axes = _side_by_side([COSTS.get(m, m) for m in metrics], len(rows), share=False)
    colours = dict(zip(NUMBERS, (NEUTRAL, SECOND, FIRST), strict=True))
    for ax, metric in zip(axes, metrics, strict=True):
        part = calibration[calibration["metric"] == metric].set_index(["system", "numbers"])
        for y, key in enumerate(rows):
            if key in part.index:
                row = part.loc[key]
                ax.hlines(y, row["low"], row["high"], color=colours[key[1]], lw=2.2, alpha=0.75)
                ax.plot(row["value"], y, "o", color=colours[key[1]], mec="white", ms=7.5)
        name_rows(ax, [f"{system}: {NUMBERS[kind]}" for system, kind in rows])
        ax.set_xlim(0, 1.08 * ax.dataLim.x1)
    figure.supxlabel("less is better", fontsize=11)
    return figure


def mapping_curves(thresholds: Thresholds, classes: Sequence[str] = CLASSES) -> Figure:
    """Draw what the mapping does to a probability, a curve a class."""
    p = np.linspace(0, 1, 401)
    figure, ax = subplots(figsize=(6.4, 4.6))
    mapped = thresholds.apply(np.tile(p[:, None], (1, len(classes))))
    styles = ("-", "--", ":")
    order = np.argsort(thresholds.values)
    for place, k in enumerate(order):
        colour = PALETTE[place % len(PALETTE)]
        style = styles[place // len(PALETTE) % len(styles)]
        label = f"{classes[k]}  {thresholds.values[k]:.2f}"
        ax.plot(p, mapped[:, k], style, color=colour, lw=1.8, label=label)
    ax.axhline(0.5, color="black", lw=1.2, zorder=0)
    ax.plot([0, 1], [0, 1], color="0.6", lw=1, ls="--", zorder=0)
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability", ylabel="submitted number")
    figure.legend(loc="outside right upper", title="class and its cut")
    return figure


def f1_by_cut(
    truth, prob, thresholds: Thresholds, classes: Sequence[str] = CLASSES
) -> Figure:  # fmt: skip
    """Draw the F1 of each class over the cut, with 0.5 and the fitted cut marked.

    Parameters
    ----------
    truth : (N,) int array
    prob : (N, K) float array
    thresholds : Thresholds
        Fitted cuts of these classes.
    classes : sequence of K str
        Names.
    """
    truth, prob = np.asarray(truth), np.asarray(prob)
    columns = 4
    down = -(-len(classes) // columns)
    figure, axes = subplots(down, columns, figsize=(WIDTH, 1.75 * down), sharex=True, sharey=True)
    for ax in axes.flat[len(classes) :]:
        ax.set_visible(False)
    for k, (ax, name) in enumerate(zip(axes.flat, classes, strict=False)):
        cuts, f1 = f1_curve(truth == k, prob[:, k])
        ax.step(cuts, f1, where="mid", color=FIRST, lw=1.6)
        ax.axvline(0.5, color="black", lw=1)
        ax.axvline(thresholds.values[k], color=SECOND, lw=1.6, ls="--")
        ax.set_title(f"{name}  ({(truth == k).sum():,})", fontsize=10)
        ax.grid(axis="both")
        ax.set(xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1), xticklabels=("0", "0.5", "1"))
    figure.supxlabel("cut: black, where the benchmark cuts; orange, the fitted one", fontsize=11)
    figure.supylabel("F1", fontsize=11)
    return figure

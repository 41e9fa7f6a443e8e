"""Pictures of results: training curves, scores with their intervals, calibration, confusion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import confusion_matrix

from jiadf.data.schema import CLASSES
from jiadf.plots.style import FIRST, NEUTRAL, PALETTE, SECOND, WIDTH, heatmap, subplots


def history(
    table: pd.DataFrame, metric: str = "macro_f1", learning_rate: str | None = None
) -> Figure:
    """Draw a training run: loss, a metric, and the learning rate, with the best epoch marked.

    Parameters
    ----------
    table : DataFrame
        A row an epoch: ``epoch`` (or the index), ``train_loss``, ``val_loss``, ``val_<metric>``
        and, where they were recorded, ``train_<metric>`` and the learning rate.
    metric : str
        The best epoch is the first with the highest ``val_<metric>``.
    learning_rate : str, optional
        Its column; ``learning_rate`` or ``lr``, whichever is there, if not given.
    """
    epochs = table["epoch"] if "epoch" in table else pd.Series(table.index, index=table.index)
    rates = [learning_rate] if learning_rate else ["learning_rate", "lr"]
    rate = next((name for name in rates if name in table), None)
    best = table[f"val_{metric}"].idxmax()
    panels = ["loss", metric] + ([rate] if rate else [])
    figure, axes = subplots(
        len(panels), 1, sharex=True, figsize=(WIDTH, 2.3 * 2 + (1.3 if rate else 0)),
        height_ratios=[2, 2, 1][: len(panels)],
    )  # fmt: skip
    for ax, name in zip(axes, panels[:2], strict=False):
        for part, colour, style in (("train", SECOND, "--"), ("val", FIRST, "-")):
            if f"{part}_{name}" in table:
                label = "training" if part == "train" else "validation"
                ax.plot(epochs, table[f"{part}_{name}"], style, color=colour, lw=2, label=label)
        ax.set_ylabel(name.replace("_", " ").replace("f1", "F1"))
    if rate:
        axes[2].step(epochs, table[rate], where="post", color=NEUTRAL, lw=1.5)
        axes[2].set(yscale="log", ylabel="learning\nrate")
        axes[2].minorticks_off()
    for ax in axes:
        ax.axvline(epochs[best], color="0.6", lw=1, ls=":", zorder=0)
        ax.grid(axis="y")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    value = table.loc[best, f"val_{metric}"]
    axes[1].plot(epochs[best], value, "o", color=FIRST, mec="white", ms=9)
    left = epochs[best] > (epochs.min() + epochs.max()) / 2
    axes[1].annotate(
        f"best: {value:.3f}, epoch {epochs[best]}",
        (epochs[best], value),
        (-9 if left else 9, 9),
        textcoords="offset points",
        ha="right" if left else "left",
    )
    axes[1].margins(y=0.2)
    axes[-1].set_xlabel("epoch")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2)
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


def per_class_intervals(
    table: pd.DataFrame,
    metric: str = "Dice",
    reference: pd.Series | None = None,
    reference_name: str = "paper, Table 5",
) -> Figure:
    """Draw one metric of every class with its interval.

    Parameters
    ----------
    table : DataFrame
        The answer of :func:`jiadf.evaluation.metrics.bootstrap_per_class`.
    metric : str
        One of its metrics.
    reference : Series, optional
        Class to value, e.g. a row of the paper's Table 5.
    reference_name : str
        What the legend calls it.
    """
    rows = table[table["metric"] == metric]
    if rows.empty:
        raise ValueError(f"no metric {metric!r}; there are {', '.join(table['metric'].unique())}")
    names = [f"{row.label}  ({row.lesions:,})" for row in rows.itertuples()]
    rows = rows.assign(name=names)
    if reference is not None:
        rows["reference"] = [reference.get(label, np.nan) for label in rows["label"]]
    figure = dot_interval(
        rows,
        label="name",
        reference=None if reference is None else "reference",
        reference_name=reference_name,
        xlabel=f"{metric} (number of lesions in brackets)",
    )
    figure.axes[0].set_xlim(-0.03, 1.03)
    return figure


def reliability(bins: pd.DataFrame) -> Figure:
    """Draw a reliability diagram over a histogram of confidence.

    Parameters
    ----------
    bins : DataFrame
        The answer of :func:`jiadf.evaluation.metrics.reliability_bins`.
    """
    full = bins[bins["count"] > 0]
    figure, (ax, below) = subplots(
        2, 1, figsize=(6, 6.6), height_ratios=[3.2, 1], sharex=True
    )  # fmt: skip
    widths = full["upper"] - full["lower"]
    ax.bar(
        full["lower"], full["accuracy"], widths, align="edge", color=(*FIRST, 0.45),
        edgecolor=FIRST, label="accuracy",
    )  # fmt: skip
    ax.plot([0, 1], [0, 1], color=NEUTRAL, lw=1.2, ls="--", label="perfectly calibrated")
    ax.plot(
        full["confidence"], full["accuracy"], "o", color="black", ms=5, label="at mean confidence"
    )
    error = (full["gap"].abs() * full["count"]).sum() / full["count"].sum()
    ax.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
    ax.set_title(f"expected calibration error {error:.3f}", loc="left")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    below.bar(
        full["lower"], full["count"] / full["count"].sum() * 100, widths, align="edge",
        color="0.8", edgecolor="0.5",
    )  # fmt: skip
    below.set(xlabel="confidence (probability of the most probable class)", ylabel="lesions (%)")
    return figure


def confusion(truth, predicted, classes: Sequence[str] = CLASSES) -> Figure:
    """Draw a confusion matrix: colours are shares of the true class, numbers are lesions.

    Parameters
    ----------
    truth, predicted : (N,) int arrays
        Class indices.
    classes : sequence of str
        Names, by index.
    """
    counts = confusion_matrix(truth, predicted, labels=range(len(classes)))
    total = counts.sum(axis=1)
    share = counts / np.maximum(total, 1)[:, None] * 100
    text = np.where(counts > 0, counts.astype(str), "")
    frame = pd.DataFrame(share, index=classes, columns=classes)
    figure, ax = subplots(figsize=(WIDTH, 0.5 * len(classes) + 1.4))
    heatmap(ax, frame, text, vmax=100, cbar_kws={"label": "share of the true class (%)"})
    names = [f"{name}  ({size:,})" for name, size in zip(classes, total, strict=True)]
    ax.set_yticks(ax.get_yticks(), names)
    ax.set_xticks(ax.get_xticks(), classes, rotation=40, ha="right")
    ax.set(xlabel="predicted", ylabel="true (lesions)")
    return figure

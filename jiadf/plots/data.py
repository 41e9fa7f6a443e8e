"""Pictures of the data set: how many, of whom, and what they look like.

The tables are those of :func:`jiadf.data.read_lesions`: a row a lesion, the class in ``label``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from jiadf.data.schema import CLASSES, IMAGE_TYPES, MONET
from jiadf.plots.style import FIRST, NEUTRAL, SECOND, WIDTH, heatmap, ordered, subplots

MISSING = "missing"
_GAP = 0.03  # between the two images of a lesion, in widths of an image
_MONET_NAMES = {
    "MONET_ulceration_crust": "ulceration,\ncrust",
    "MONET_hair": "hair",
    "MONET_vasculature_vessels": "vessels",
    "MONET_erythema": "erythema",
    "MONET_pigmented": "pigmented",
    "MONET_gel_water_drop_fluid_dermoscopy_liquid": "gel, fluid",
    "MONET_skin_markings_pen_ink_purple_pen": "pen marks",
}


def class_counts(
    labels, reference: Mapping[str, int] | None = None, reference_name: str = "paper, Table 4"
) -> Figure:
    """Draw how many lesions each class has, on a logarithmic axis.

    Parameters
    ----------
    labels : sequence of str
        Class of each lesion.
    reference : mapping of class to count, optional
        Counts to compare with, drawn as diamonds.
    reference_name : str
        What the legend calls them.
    """
    counts = pd.Series(labels).value_counts()
    names = ordered({*counts.index, *(reference or {})}, CLASSES)
    values = counts.reindex(names, fill_value=0).to_numpy()
    positions = np.arange(len(names))
    figure, ax = subplots(figsize=(WIDTH, 1.2 + 0.33 * len(names)))
    ax.barh(positions, values, color=FIRST, height=0.7, label="this data set")
    highest = values.max()
    if reference is not None:
        expected = np.array([reference.get(name, 0) for name in names])
        highest = max(highest, expected.max())
        ax.plot(expected, positions, "D", color=SECOND, mec="white", ms=8, label=reference_name)
        figure.legend(loc="outside upper right", ncols=2)
    ax.set_xscale("log")
    ax.set_xlim(0.8, max(highest, 10) * 1.5)
    ax.set_yticks(
        positions, [f"{name}  ({value:,})" for name, value in zip(names, values, strict=True)]
    )
    ax.invert_yaxis()
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.set_xlabel("lesions (logarithmic)")
    ax.grid(axis="x")
    sns.despine(ax=ax, left=True)
    ax.tick_params(axis="y", length=0)
    return figure


def distribution_by_class(df: pd.DataFrame, column: str, name: str | None = None) -> Figure:
    """Draw box plots of a numeric column by class, with the lesions as points beneath.

    Parameters
    ----------
    df : DataFrame
        With `column` and ``label``; rows without a value are left out, and counted below.
    column : str
        E.g. ``age_approx``.
    name : str, optional
        What the axis is called; `column` in words if not given.
    """
    known = df[["label", column]].dropna()
    names = ordered(known["label"], CLASSES)
    figure, ax = subplots(figsize=(WIDTH, 1.4 + 0.36 * len(names)))
    sns.stripplot(
        known, x=column, y="label", order=names, ax=ax, size=2.5, color=NEUTRAL, alpha=0.3,
        jitter=0.28, zorder=0,
    )  # fmt: skip
    sns.boxplot(
        known, x=column, y="label", order=names, ax=ax, width=0.6, showfliers=False,
        boxprops={"facecolor": (*FIRST, 0.35), "edgecolor": FIRST},
        medianprops={"color": "black", "linewidth": 2},
        whiskerprops={"color": FIRST}, capprops={"color": FIRST},
    )  # fmt: skip
    counts = known["label"].value_counts()
    ax.set_yticks(range(len(names)), [f"{label}  ({counts[label]:,})" for label in names])
    without = len(df) - len(known)
    label = name or column.replace("_", " ")
    ax.set_xlabel(f"{label} ({without:,} of {len(df):,} lesions without)" if without else label)
    ax.set_ylabel("")
    ax.grid(axis="x")
    sns.despine(ax=ax, left=True)
    ax.tick_params(axis="y", length=0)
    return figure


def category_by_class(
    df: pd.DataFrame, column: str, order: Sequence | None = None, name: str | None = None
) -> Figure:
    """Draw the share of each category in each class as a heatmap; rows sum to 100 %.

    Parameters
    ----------
    df : DataFrame
        With `column` and ``label``; a missing value is a category of its own.
    column : str
        E.g. ``sex``, ``site`` or ``skin_tone_class``.
    order : sequence, optional
        Order of the categories; sorted if not given.
    name : str, optional
        What the axis is called; `column` in words if not given.
    """
    values = df[column].astype(object).where(df[column].notna(), MISSING)
    counts = pd.crosstab(df["label"], values)
    found = [value for value in counts.columns if value != MISSING]
    columns = ordered(found, order or sorted(found, key=str))
    columns += [MISSING] if MISSING in counts.columns else []
    counts = counts.reindex(index=ordered(counts.index, CLASSES), columns=columns)
    share = counts.div(counts.sum(axis=1), axis=0) * 100
    text = share.map(lambda value: f"{value:.0f}" if value >= 0.5 else ("<1" if value else "·"))
    figure, ax = subplots(figsize=(WIDTH, 1.7 + 0.34 * len(share)))
    heatmap(ax, share, text, vmax=100, cbar_kws={"label": "share of the class (%)"})
    ax.set_yticks(
        ax.get_yticks(), [f"{label}  ({size:,})" for label, size in counts.sum(axis=1).items()]
    )
    words = [str(column).replace("_", " ") for column in columns]
    slanted = max(map(len, words)) * len(words) > 60
    ax.set_xticks(
        ax.get_xticks(), words, rotation=30 if slanted else 0, ha="right" if slanted else "center"
    )
    ax.set(xlabel=name or column.replace("_", " "), ylabel="")
    return figure


def monet_by_class(df: pd.DataFrame) -> Figure:
    """Draw the median of each MONET score in each class, for both image types.

    Parameters
    ----------
    df : DataFrame
        With ``label`` and the columns ``clinical_MONET_...`` and ``dermoscopic_MONET_...``.
    """
    names = ordered(df["label"], CLASSES)
    figure, axes = subplots(1, 2, figsize=(WIDTH, 1.9 + 0.32 * len(names)))
    for ax, kind in zip(axes, IMAGE_TYPES, strict=True):
        medians = df.groupby("label")[[f"{kind}_{score}" for score in MONET]].median()
        medians = medians.reindex(names).set_axis([_MONET_NAMES[score] for score in MONET], axis=1)
        text = medians.map(lambda value: f"{value:.2f}".lstrip("0") if value < 1 else "1")
        last = kind == list(IMAGE_TYPES)[-1]
        bar = {"label": "median score"} if last else None
        heatmap(ax, medians, text, vmax=1, cbar=last, cbar_kws=bar, annot_kws={"fontsize": 8})
        ax.set_xticks(ax.get_xticks(), medians.columns, rotation=90, fontsize=9)
        ax.set(title=kind, xlabel="", ylabel="")
    axes[1].set_yticks([])
    return figure


def monet_by_image_type(df: pd.DataFrame) -> Figure:
    """Draw box plots of each MONET score in clinical and dermoscopic images.

    Boxes span the quartiles, whiskers the middle 90 % of the lesions.

    Parameters
    ----------
    df : DataFrame
        With the columns ``clinical_MONET_...`` and ``dermoscopic_MONET_...``.
    """
    long = pd.concat(
        df[[f"{kind}_{score}" for score in MONET]]
        .set_axis([_MONET_NAMES[score] for score in MONET], axis=1)
        .melt(var_name="score")
        .assign(kind=kind)
        for kind in IMAGE_TYPES
    )
    figure, ax = subplots(figsize=(WIDTH, 4.8))
    sns.boxplot(
        long, x="value", y="score", hue="kind", ax=ax, palette=[FIRST, SECOND], width=0.7, gap=0.15,
        whis=(5, 95), showfliers=False, linewidth=1, medianprops={"color": "black", "linewidth": 2},
    )  # fmt: skip
    handles, texts = ax.get_legend_handles_labels()
    ax.get_legend().remove()
    figure.legend(handles, texts, loc="outside upper right", ncols=2)
    ax.set(xlim=(-0.02, 1.02), xlabel="score", ylabel="")
    ax.grid(axis="x")
    sns.despine(ax=ax, left=True)
    ax.tick_params(axis="y", length=0)
    return figure


def missingness(df: pd.DataFrame, columns: Sequence[str] | None = None) -> Figure:
    """Draw the share of missing values of each column.

    Parameters
    ----------
    df : DataFrame
    columns : sequence of str, optional
        All columns if not given.
    """
    columns = list(df.columns if columns is None else columns)
    missing = df[columns].isna().sum()
    share = missing / max(len(df), 1) * 100
    figure, ax = subplots(figsize=(WIDTH, 1.0 + 0.3 * len(columns)))
    positions = np.arange(len(columns))
    ax.barh(positions, share, color=FIRST, height=0.65)
    for position, column in enumerate(columns):
        text = f"{share[column]:.1f} %  ({missing[column]:,})" if missing[column] else "none"
        ax.annotate(
            text, (share[column], position), (5, 0), textcoords="offset points", va="center",
            color="black" if missing[column] else NEUTRAL,
        )  # fmt: skip
    ax.set_yticks(positions, [column.replace("_", " ") for column in columns])
    ax.invert_yaxis()
    ax.set_xlim(0, max(share.max() * 1.3, 1))
    ax.set_xlabel(f"missing (% of {len(df):,} lesions)")
    sns.despine(ax=ax, left=True)
    ax.tick_params(axis="y", length=0)
    return figure


def image_pairs(images: Sequence, titles: Sequence[str], columns: int = 4) -> Figure:
    """Draw lesions, each as its clinical image above its dermoscopic one.

    Parameters
    ----------
    images : sequence of pairs of (H, W, 3) arrays
        The clinical and the dermoscopic image of each lesion.
    titles : sequence of str
        One a lesion.
    columns : int
        Lesions side by side; more go below.
    """
    if len(images) != len(titles) or not len(images):
        raise ValueError(f"{len(images)} pairs of images and {len(titles)} titles")
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    shape = np.shape(images[0][0])
    tall = 2 * shape[0] / shape[1] + _GAP  # of one lesion, in widths of an image
    figure, axes = subplots(
        rows, columns, squeeze=False, figsize=(WIDTH, rows * (WIDTH / columns * tall + 0.25))
    )
    figure.get_layout_engine().set(w_pad=0.04, h_pad=0.04, hspace=0, wspace=0)
    for ax in axes.flat[len(images) :]:
        ax.set_visible(False)
    for ax, (clinical, dermoscopic), title in zip(axes.flat, images, titles, strict=False):
        lower, upper = (
            np.shape(image)[0] / np.shape(image)[1] for image in (dermoscopic, clinical)
        )
        ax.imshow(np.asarray(dermoscopic), extent=(0, 1, 0, lower))
        ax.imshow(np.asarray(clinical), extent=(0, 1, lower + _GAP, lower + _GAP + upper))
        ax.set(xlim=(0, 1), ylim=(0, lower + _GAP + upper), xticks=[], yticks=[])
        ax.set_title(title, fontsize=10)
        if ax in axes[:, 0]:
            ax.set_yticks(
                [lower + _GAP + upper / 2, lower / 2], list(IMAGE_TYPES), rotation=90, va="center"
            )
        ax.tick_params(length=0)
        sns.despine(ax=ax, left=True, bottom=True)
    return figure

"""Pictures of explanations: one card a lesion, and whether cards like it can be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pytorch_grad_cam.utils.image import show_cam_on_image

from jiadf.plots.style import FIRST, NEUTRAL, PALETTE, SECOND, WIDTH, subplots

_HEAT = "inferno"
_WORDS = {"gel": "gel or fluid", "skin": "pen or skin marks", "vasculature": "vessels"}


@dataclass(frozen=True)
class Card:
    """What one lesion's explanation shows.

    Attributes
    ----------
    explained : str
        The class that the maps and the contributions are about.
    probability : dict of str to float
        The posterior, by class.
    pictures, maps : dict of str to array
        By image stream: uint8 (S, S, 3), and float (S, S) from 0 to 1.
    sources, metadata : dict of str to float
        Contributions to the log posterior of the explained class: of each picture and all
        metadata, and of each field of the metadata, in words.
    weights : dict of str to float, optional
        The gate's, by branch; None where no gate decides.
    truth : str, optional
        The true class.
    outlines : dict of str to array, optional
        Where the lesion is, bool (S, S), if that is known.
    """

    explained: str
    probability: Mapping[str, float]
    pictures: Mapping[str, np.ndarray]
    maps: Mapping[str, np.ndarray]
    sources: Mapping[str, float]
    metadata: Mapping[str, float]
    weights: Mapping[str, float] | None = None
    truth: str | None = None
    outlines: Mapping[str, np.ndarray] | None = None


def field_words(name: str) -> str:
    """Write the name of a metadata field out."""
    word, _, rest = name.partition(" (")
    return " (".join(filter(None, (_WORDS.get(word, word), rest)))


def explanation_card(card: Card, shown: int = 8) -> Figure:
    """Draw one lesion's explanation: pictures, maps and overlays, contributions, gate, classes.

    Parameters
    ----------
    card : Card
        What to show.
    shown : int
        How many of the largest contributions of the metadata.
    """
    streams = list(card.pictures)
    fields = sorted(card.metadata.items(), key=lambda item: -abs(item[1]))[:shown]
    heights = [2.35 * len(streams) + 0.75, 1.9 + 0.26 * max(4, len(fields))]
    figure = plt.figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    plt.close(figure)  # a notebook shows it once, as `subplots` has it
    above, below = figure.subfigures(2, 1, height_ratios=heights)
    axes = above.subplots(len(streams), 3, squeeze=False)
    for number, stream in enumerate(streams):
        _draw_row(card, stream, axes[number], first=number == 0)
    mosaic = [["sources", "gate" if card.weights else "classes"]]
    mosaic += [["metadata" if fields else "sources", "classes"]]
    panels = below.subplot_mosaic(mosaic, height_ratios=[3, max(4, len(fields))])
    label = f"contribution to log p({card.explained})"
    _draw_contributions(panels["sources"], card.sources, label if not fields else "")
    if fields:
        _draw_contributions(panels["metadata"], dict(fields), label)
        panels["metadata"].set_title("of the metadata (own scale)", loc="left", fontsize=10)
    if card.weights:
        _bars(panels["gate"], card.weights, FIRST)
        panels["gate"].set_title("weights of the gate", loc="left", fontsize=10)
    top = dict(sorted(card.probability.items(), key=lambda item: -item[1])[:4])
    colours = [SECOND if name == card.explained else NEUTRAL for name in top]
    _bars(panels["classes"], top, colours)
    panels["sources"].set_title("what moved the decision", loc="left", fontsize=10)
    panels["classes"].set_title("probabilities", loc="left", fontsize=10)
    truth = f" (true class: {card.truth})" if card.truth else ""
    said = f"{card.explained}, probability {card.probability[card.explained]:.2f}"
    figure.suptitle(f"Why {said}?{truth}", fontsize=13)
    return figure


def _overlay(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Lay a map over a picture, in colours that everybody tells apart."""
    scaled = np.float32(picture) / 255
    return show_cam_on_image(scaled, heat, use_rgb=True, colormap=cv2.COLORMAP_INFERNO)


def _draw_row(card: Card, stream: str, row: Sequence[Axes], first: bool) -> None:
    picture, heat = card.pictures[stream], np.asarray(card.maps[stream], float)
    row[0].imshow(picture)
    row[1].imshow(heat, cmap=_HEAT, vmin=0, vmax=1)
    row[2].imshow(_overlay(picture, heat))
    if heat.max() <= 0:
        row[1].text(
            0.5, 0.5, "nothing speaks\nfor this class", color="white", ha="center", va="center",
            transform=row[1].transAxes,
        )  # fmt: skip
    for ax, name in zip(row, ("picture", "Grad-CAM", "overlay"), strict=True):
        if card.outlines is not None and card.outlines[stream].any():
            ax.contour(card.outlines[stream], [0.5], colors="white", linewidths=1.2)
        ax.set(xticks=[], yticks=[])
        sns.despine(ax=ax, left=True, bottom=True)
        if first:
            ax.set_title(name)
    row[0].set_ylabel(stream)


def _draw_contributions(ax: Axes, values: Mapping[str, float], label: str) -> None:
    """Draw contributions, for the class to the right, against it to the left."""
    names = list(values)[::-1]
    widths = np.array([values[name] for name in names])
    colours = [FIRST if width >= 0 else SECOND for width in widths]
    bars = ax.barh(range(len(names)), widths, color=colours, height=0.7)
    digits = int(np.clip(np.ceil(1 - np.log10(max(np.abs(widths).max(), 1e-9))), 2, 4))
    texts = [f"{width:+.{digits}f}".replace("-", "−") for width in widths]
    ax.bar_label(bars, texts, padding=3, fontsize=9)
    ax.set_yticks(range(len(names)), [field_words(name) for name in names])
    ax.axvline(0, color="0.3", lw=0.8)
    ax.margins(x=0.45)
    ax.locator_params(axis="x", nbins=4)
    ax.set_xlabel(label)
    sns.despine(ax=ax, left=True)
    ax.tick_params(axis="y", length=0)


def _bars(ax: Axes, values: Mapping[str, float], colours) -> None:
    names = list(values)[::-1]
    widths = [values[name] for name in names]
    colours = colours[::-1] if isinstance(colours, list) else colours
    bars = ax.barh(range(len(names)), widths, color=colours, height=0.7)
    ax.bar_label(bars, [f"{w:.2f}" for w in widths], padding=3, fontsize=9)
    ax.set_yticks(range(len(names)), names)
    ax.set(xlim=(0, 1.2), xticks=[0, 0.5, 1])
    sns.despine(ax=ax, left=True)
    ax.tick_params(axis="y", length=0)


def maps_by_output(
    pictures: Mapping[str, np.ndarray], maps: Mapping[str, Mapping[str, np.ndarray]]
) -> Figure:
    """Draw one lesion's maps for several outputs side by side.

    Parameters
    ----------
    pictures : dict of str to array
        By image stream, uint8 (S, S, 3).
    maps : dict of str to dict
        By output, then by stream, (S, S) from 0 to 1.
    """
    columns = 1 + len(maps)
    side = WIDTH / columns
    figure, axes = subplots(
        len(pictures), columns, figsize=(WIDTH, len(pictures) * side + 0.3), squeeze=False
    )
    for row, (stream, picture) in zip(axes, pictures.items(), strict=True):
        shown = [picture] + [_overlay(picture, by_stream[stream]) for by_stream in maps.values()]
        for ax, image, name in zip(row, shown, ("picture", *maps), strict=True):
            ax.imshow(image)
            ax.set(xticks=[], yticks=[])
            sns.despine(ax=ax, left=True, bottom=True)
            if ax in axes[0]:
                ax.set_title(name)
        row[0].set_ylabel(stream)
    return figure


def map_localisation(table: pd.DataFrame, output: str = "fused") -> Figure:
    """Draw how much of a map lies in the lesion, and how often its highest cell touches it.

    Parameters
    ----------
    table : DataFrame
        ``localisation`` of :mod:`jiadf.studies.explanation`.
    output : str
        The output explained.
    """
    table = table[(table["output"] == output) & table["measure"].isin(["energy", "pointing"])]
    titles = {
        "energy": "energy in the lesion",
        "pointing": "highest cell touches the lesion",
    }
    return _dots(table, "measure", titles)


def map_sanity(table: pd.DataFrame, output: str = "fused") -> Figure:
    """Draw how like the trained network's maps are to those of other and of random networks.

    Parameters
    ----------
    table : DataFrame
        ``sanity`` of :mod:`jiadf.studies.explanation`.
    output : str
        The output explained.
    """
    chosen = (table["output"] == output) & table["measure"].isin(["rank correlation", "SSIM"])
    titles = {
        "rank correlation": "rank correlation",
        "SSIM": "structural similarity (SSIM)",
    }
    figure = _dots(table[chosen], "measure", titles)
    for ax in figure.axes:
        ax.axvline(0, color="0.6", lw=1, ls=":", zorder=0)
    return figure


def _dots(table: pd.DataFrame, panel: str, titles: Mapping[str, str]) -> Figure:
    """Draw a panel a measure, a row a kind of network, a colour a stream."""
    names = list(dict.fromkeys(table["network"]))
    streams = list(dict.fromkeys(table["stream"]))
    figure, axes = subplots(
        1, len(titles), figsize=(WIDTH, 1.3 + 0.36 * len(names)), squeeze=False
    )  # fmt: skip
    for number, (ax, (measure, title)) in enumerate(zip(axes[0], titles.items(), strict=True)):
        for place, stream in enumerate(streams):
            rows = table[(table[panel] == measure) & (table["stream"] == stream)]
            shift = (place - (len(streams) - 1) / 2) * 0.3
            y = [names.index(name) + shift for name in rows["network"]]
            ax.hlines(y, rows["low"], rows["high"], color=PALETTE[place], lw=2.2, alpha=0.75)
            ax.plot(
                rows["value"], y, "os"[place % 2], color=PALETTE[place], mec="white", ms=7,
                label=stream,
            )  # fmt: skip
        ax.set_yticks(range(len(names)), names if number == 0 else [])
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.set_xlabel(title, fontsize=10)
        ax.grid(axis="both")
        sns.despine(ax=ax, left=True)
        ax.tick_params(axis="y", length=0)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
    return figure


def artefact_energy(table: pd.DataFrame, output: str = "fused") -> Figure:
    """Draw the maps' energy on what is no lesion, beside the part of the picture it covers.

    Parameters
    ----------
    table : DataFrame
        ``artefacts`` of :mod:`jiadf.studies.explanation`.
    output : str
        The output explained.
    """
    table = table[table["output"] == output]
    rows = table.drop_duplicates(["region", "stream"])
    figure, ax = subplots(figsize=(WIDTH, 1.5 + 0.75 * max(1, len(rows))))
    for place, row in enumerate(rows.itertuples()):
        own = table[(table["region"] == row.region) & (table["stream"] == row.stream)]
        for shift, measure, colour, marker, label in (
            (-0.14, "energy", FIRST, "o", "energy of the maps"),
            (0.14, "area", NEUTRAL, "D", "share of the picture (chance)"),
        ):
            one = own[own["measure"] == measure]
            ax.hlines(place + shift, one["low"], one["high"], color=colour, lw=2.2, alpha=0.75)
            ax.plot(
                one["value"], [place + shift] * len(one), marker, color=colour, mec="white", ms=8,
                label=label if place == 0 else None,
            )  # fmt: skip
    names = [f"{r.region},\n{r.stream} ({r.lesions:,} lesions)" for r in rows.itertuples()]
    ax.set_yticks(range(len(rows)), names)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlim(left=0)
    ax.set_xlabel("share, over lesions whose picture shows it")
    ax.grid(axis="x")
    sns.despine(ax=ax, left=True)
    ax.tick_params(axis="y", length=0)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return figure


def cut_curves(table: pd.DataFrame) -> Figure:
    """Draw the probability of the class while cells of a picture are deleted or inserted.

    Parameters
    ----------
    table : DataFrame
        ``curves`` of :mod:`jiadf.studies.explanation`.
    """
    streams, modes = (list(dict.fromkeys(table[name])) for name in ("stream", "mode"))
    figure, axes = subplots(
        len(streams), len(modes), figsize=(WIDTH, 0.9 + 2.5 * len(streams)), sharex=True,
        sharey=True, squeeze=False,
    )  # fmt: skip
    names = {"map": "Grad-CAM's highest first", "random": "random", "centre": "middle first"}
    for (row, stream), (column, mode) in (
        (a, b) for a in enumerate(streams) for b in enumerate(modes)
    ):
        ax = axes[row, column]
        for colour, style, (order, name) in zip(
            (FIRST, NEUTRAL, SECOND), ("-o", ":s", "--^"), names.items(), strict=True
        ):
            chosen = (table["stream"] == stream) & (table["mode"] == mode)
            one = table[chosen & (table["order"] == order)]
            ax.plot(one["share"], one["value"], style, color=colour, ms=4, lw=1.8, label=name)
        ax.set_title(f"{mode}, {stream}", fontsize=11)
        ax.grid(axis="y")
    axes[0, 0].set_ylim(bottom=0)
    figure.supxlabel("share of the picture's cells cut", fontsize=11)
    figure.supylabel("mean probability of the explained class", fontsize=11)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
    return figure


def contribution_sizes(table: pd.DataFrame) -> Figure:
    """Draw how much each source moves the decision: the whole on the left, fields on the right.

    Parameters
    ----------
    table : DataFrame
        ``contributions`` of :mod:`jiadf.studies.explanation`.
    """
    whole = table["source"].str.endswith("picture") | (table["source"] == "all metadata")
    parts = [table[whole], table[~whole].sort_values("value", ascending=False)]
    parts = [part for part in parts if len(part)]
    figure, axes = subplots(
        1, len(parts), figsize=(WIDTH, 1.4 + 0.27 * max(map(len, parts))), squeeze=False
    )
    for ax, rows, title in zip(axes[0], parts, ("sources", "fields of the metadata"), strict=False):
        y = range(len(rows))
        ax.barh(y, rows["value"], color=FIRST, height=0.65, alpha=0.8)
        ax.hlines(y, rows["low"], rows["high"], color="black", lw=1.3)
        ax.set_yticks(y, [field_words(name) for name in rows["source"]])
        ax.locator_params(axis="x", nbins=5)
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.set_title(title, loc="left", fontsize=11)
        ax.grid(axis="x")
        sns.despine(ax=ax, left=True)
        ax.tick_params(axis="y", length=0)
    figure.supxlabel("mean size of the contribution to log p of the class", fontsize=11)
    return figure

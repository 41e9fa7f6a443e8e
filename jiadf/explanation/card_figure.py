"""A lesion's card as a figure, for a PNG; see :mod:`jiadf.explanation.card`."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jiadf.data.schema import CLASS_NAMES
from jiadf.explanation.card import (
    branch_weights,
    display_image,
    from_to,
    heat_pixels,
    missing_words,
    place_of,
    shown_contributions,
    top_three,
)
from jiadf.explanation.explain import Explanation
from jiadf.plots.style import FIRST, NEUTRAL, SECOND, WIDTH
from jiadf.submission.lesion_prediction import NOT_A_DEVICE


def card_figure(explained: Explanation, *, about: str = "", credit: str = "") -> Figure:
    """Draw a card; the arguments are those of :func:`jiadf.explanation.card.card`."""
    said = explained.prediction
    figure = Figure(figsize=(WIDTH, 8.6), layout="constrained", facecolor="white")
    top, middle, bottom = figure.subfigures(3, height_ratios=[2.5, 4.6, 1.5])
    for (name, source), axes in zip(
        explained.images.items(),
        np.reshape(top.subplots(1, 2 * len(explained.images)), (-1, 2)),
        strict=True,
    ):
        _draw_images(axes, explained, name, source)
    left, right = middle.subplots(1, 2, width_ratios=[1, 1.05])
    ordered = said.probabilities.sort_values()
    left.barh(list(ordered.index), ordered, color=FIRST)
    _number(left, ordered, "{:.2f}")
    left.set(title="probabilities", xlim=(0, 1.18))
    shown = shown_contributions(explained)[::-1]
    colours = [FIRST if value > 0 else SECOND for value in shown]
    right.barh([str(name) for name in shown.index], shown, color=colours)
    _number(right, shown, "{:+.2f}")
    right.axvline(0, color=NEUTRAL, lw=1)
    right.set(title=f"towards (+) or away from {said.label}")
    right.margins(x=0.25)
    for ax in (left, right):
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_xticks([])
        ax.title.set_size(10)
    figure.suptitle(
        f"Lesion {explained.lesion_id}: {CLASS_NAMES[said.label]} ({said.label}), "
        f"{said.probabilities.max():.2f}",
        fontsize=12,
    )
    lines = [
        f"{name} branch, weight {weight:.2f}: {top_three(said.branches.loc[name])}"
        for name, weight in branch_weights(said).items()
    ]
    lines += [from_to(explained)]
    lines += [line for line in (missing_words(said), about) if line]
    lines += [f"Images: {credit}. {NOT_A_DEVICE}" if credit else NOT_A_DEVICE]
    bottom.text(0.02, 0.95, "\n".join(lines), fontsize=8, va="top", linespacing=1.5)
    return figure


def _draw_images(axes: np.ndarray, explained: Explanation, name: str, source) -> None:
    image = display_image(source, 480)
    extent = (0, image.width, image.height, 0)
    for ax, title in zip(axes, (f"{name} image", place_of(explained.heat[name])), strict=True):
        ax.imshow(image, extent=extent)
        ax.set_title(title, fontsize=9)
        ax.axis("off")
    axes[1].imshow(heat_pixels(explained.heat[name], 160), extent=extent)


def _number(ax: Axes, values, form: str) -> None:
    texts = [form.format(value).replace("-", "−") for value in values]
    ax.bar_label(ax.containers[0], texts, padding=2, fontsize=8)

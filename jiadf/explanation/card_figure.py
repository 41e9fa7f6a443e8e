"""A lesion's card as a figure, for a PNG; see :mod:`jiadf.explanation.card`."""

import numpy as np
from matplotlib.figure import Figure

from jiadf.data.schema import CLASS_NAMES
from jiadf.explanation.card import (
    display_image,
    missing_words,
    place_of,
    shown_contributions,
    signed,
)
from jiadf.explanation.explain import Explanation
from jiadf.explanation.grad_cam import upsample
from jiadf.plots.style import FIRST, NEUTRAL, SECOND, WIDTH
from jiadf.submission.lesion_prediction import NOT_A_DEVICE


def card_figure(explained: Explanation, about: str = "") -> Figure:
    """Draw images, heat maps, probabilities, contributions and branches; `about` the model."""
    said = explained.prediction
    figure = Figure(figsize=(WIDTH, 8.2), layout="constrained", facecolor="white")
    top, middle, bottom = figure.subfigures(3, height_ratios=[2.5, 4.6, 1.1])
    axes = np.reshape(top.subplots(1, 2 * len(explained.images)), (-1, 2))
    for (plain, mapped), (name, heat) in zip(axes, explained.heat.items(), strict=True):
        image = display_image(explained.images[name], 480)
        extent = (0, image.width, image.height, 0)
        for ax, title in ((plain, f"{name} image"), (mapped, place_of(heat))):
            ax.imshow(image, extent=extent)
            ax.set_title(title, fontsize=9)
            ax.axis("off")
        smooth = upsample(heat[None], 160)[0]
        mapped.imshow(smooth, cmap="inferno", alpha=0.2 + 0.5 * smooth, extent=extent)
    panels = {
        "probabilities": (said.probabilities.sort_values(), "{:.2f}".format),
        f"towards (+) or away from {said.label}": (shown_contributions(explained)[::-1], signed),
    }
    for ax, (title, (values, write)) in zip(middle.subplots(1, 2), panels.items(), strict=True):
        ax.barh(values.index, values, color=[SECOND if value < 0 else FIRST for value in values])
        ax.bar_label(ax.containers[0], map(write, values), padding=2, fontsize=8)
        ax.axvline(0, color=NEUTRAL, lw=1)
        ax.set_title(title, fontsize=10)
        ax.set_xticks([])
        ax.margins(x=0.25)
        ax.tick_params(labelsize=8)
    figure.suptitle(
        f"Lesion {explained.lesion_id}: {CLASS_NAMES[said.label]} ({said.label}), "
        f"{said.probabilities.max():.2f}",
        fontsize=12,
    )
    lines = [missing_words(said), about, NOT_A_DEVICE]
    if said.weights is not None:
        weights = ", ".join(f"{name} {weight:.2f}" for name, weight in said.weights.items())
        lines.insert(0, f"Branch weights: {weights}")
    bottom.text(0.02, 0.95, "\n".join(filter(None, lines)), fontsize=8, va="top", linespacing=1.5)
    return figure

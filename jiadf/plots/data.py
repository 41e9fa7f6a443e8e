"""Images of lesions: the clinical close-up above the dermoscopic image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from jiadf.data.schema import IMAGE_TYPES
from jiadf.plots.style import WIDTH, subplots

_GAP = 0.03  # between the two images of a lesion, in widths of an image


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

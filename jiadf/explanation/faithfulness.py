"""Does a heat map tell the truth about the network? Deletion and insertion, and random weights.

* :func:`cell_ranks` and :func:`perturb_cells` delete or insert an image's cells in a map's order
  (Petsiuk et al. 2018, "RISE"). If the map is right about what matters, the class's probability
  falls, or rises, sooner than in another order.
* :func:`randomised` draws weights anew (Adebayo et al. 2018, "Sanity checks for saliency maps"). A
  map that stays as it is shows the image and not what was learned; :func:`rank_correlation` says
  how alike two maps are.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from scipy.stats import rankdata

from jiadf.explanation.network import ExplainableNetwork
from jiadf.models.encoders import ImageEncoder
from jiadf.models.network import JIADF

MODES = ("deletion", "insertion")
_STAGES = {
    "gate": ("network.adf.",),
    "heads": ("network.heads.",),
    "fusion": ("network.fusion.", "network.metadata_encoder."),
    "backbone": ("backbones.",),
}
STAGES = tuple(_STAGES)


def cell_ranks(maps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rank each map's cells, (N, h, w) -> int (N, h, w): 0 the highest; ties by chance."""
    flat = np.asarray(maps, float).reshape(len(maps), -1)
    order = np.lexsort((rng.random(flat.shape), -flat), axis=-1)
    return np.argsort(order, axis=-1).reshape(maps.shape)


def perturb_cells(images: np.ndarray, ranks: np.ndarray, share: float, mode: str) -> np.ndarray:
    """Delete the first cells of images, or insert them into blurred ones.

    Parameters
    ----------
    images
        uint8 (N, S, S, 3).
    ranks
        From :func:`cell_ranks`, (N, h, w).
    share
        Of all cells, 0 to 1.
    mode
        ``deletion``: the first cells get the image's mean colour; ``insertion``: they alone are
        sharp, the rest is blurred beyond recognition.

    Returns
    -------
    numpy.ndarray
        uint8 (N, S, S, 3).

    Raises
    ------
    ValueError
        For another mode.
    """
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}: choose one of {', '.join(MODES)}")
    side, (height, width) = images.shape[1], ranks.shape[1:]
    first = ranks < round(share * height * width)
    rows, columns = (np.arange(side) * n // side for n in (height, width))
    chosen = first[:, rows][:, :, columns][..., None]  # (N, S, S, 1)
    if mode == "deletion":
        mean = images.mean((1, 2), keepdims=True).round().astype(np.uint8)
        return np.where(chosen, mean, images)
    blurred = np.stack([cv2.GaussianBlur(np.array(image), (0, 0), side / 10) for image in images])
    return np.where(chosen, images, blurred)


def randomised(network: ExplainableNetwork, stage: str, seed: int = 0) -> ExplainableNetwork:
    """Copy a network with random weights from its output down to a stage, as before training.

    Parameters
    ----------
    network
        Stays as it is.
    stage
        The last of :data:`STAGES` that is drawn anew; those before it are too.
    seed
        Of the new weights; torch's global state is kept.
    """
    names = STAGES[: STAGES.index(stage) + 1]
    prefixes = tuple(prefix for name in names for prefix in _STAGES[name])
    copied = ExplainableNetwork.__new__(ExplainableNetwork)
    return copied

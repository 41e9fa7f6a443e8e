"""Does a heat map tell the truth about the network? Deletion and insertion, and random weights.

* :func:`cell_ranks` and :func:`perturb_cells` delete or insert an image's cells in a map's order
  (Petsiuk et al. 2018, "RISE"). If the map is right about what matters, the class's probability
  falls, or rises, sooner than in another order.
* :func:`randomised` draws weights anew (Adebayo et al. 2018, "Sanity checks for saliency maps"). A
  map that stays as it is shows the image and not what was learned; :func:`rank_correlation` says
  how alike two maps are.
"""

from __future__ import annotations

import copy

import cv2
import numpy as np
import torch
from scipy.stats import rankdata

from jiadf.explanation.network import ExplainableNetwork
from jiadf.models.encoders import ImageEncoder
from jiadf.models.network import JIADF

MODES = ("deletion", "insertion")
_MODULES = {"gate": ("adf",), "heads": ("heads",), "fusion": ("fusion", "metadata_encoder")}
STAGES = (*_MODULES, "backbone")


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
    return np.where(chosen, images, np.stack([_blurred(image) for image in images]))


def _blurred(image: np.ndarray) -> np.ndarray:
    """Blur by a tenth of the side, on a quarter of the pixels each way: as smooth, and faster."""
    side = len(image)
    small = cv2.resize(image, (max(1, side // 4),) * 2, interpolation=cv2.INTER_AREA)
    return cv2.resize(cv2.GaussianBlur(small, (0, 0), side / 40), (side, side))


def randomised(network: ExplainableNetwork, stage: str, seed: int = 0) -> ExplainableNetwork:
    """Copy a network with random weights from its output down to a stage, as before training.

    Parameters
    ----------
    network
        Stays as it is.
    stage
        The last of :data:`STAGES` whose weights are drawn; those of the stages before it are too.
    seed
        Of the new weights; torch's global state is kept.

    Raises
    ------
    ValueError
        For another stage.
    """
    if stage not in STAGES:
        raise ValueError(f"stage is {stage!r}: choose one of {', '.join(STAGES)}")
    copied = copy.deepcopy(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = JIADF(network.network.config)
        for reached in STAGES[: STAGES.index(stage) + 1]:
            for name in _MODULES.get(reached, ()):
                if hasattr(fresh, name):  # a design may lack gate, fusion or metadata
                    state = getattr(fresh, name).state_dict()
                    getattr(copied.network, name).load_state_dict(state)
        for encoder in dict.fromkeys(copied.backbones.values() if stage == "backbone" else ()):
            encoder.load_state_dict(ImageEncoder(encoder.backbone_name, "random").state_dict())
    return copied


def rank_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's correlation of two stacks of maps, (N, h, w) -> (N,); NaN where one is flat."""
    ranks = [rankdata(np.asarray(m).reshape(len(m), -1), axis=1) for m in (first, second)]
    one, other = (r - r.mean(axis=1, keepdims=True) for r in ranks)
    size = np.sqrt(np.square(one).sum(1) * np.square(other).sum(1))
    return np.where(size > 0, (one * other).sum(1) / np.where(size > 0, size, 1), np.nan)

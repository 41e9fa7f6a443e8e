"""Do maps of evidence mean anything? Measures of place, of likeness, and of effect.

* Place: :func:`energy_inside` and :func:`pointing_game` against a mask, with
  :func:`centred_gaussian`, a map that knows nothing but that pictures are centred, to beat.
* Likeness of two maps of one picture, for sanity checks (Adebayo et al. 2018): a map that stays as
  it is when the network's weights are drawn anew shows the picture, not the network.
  :func:`rank_correlation` and :func:`structural_similarity`.
* Effect (Petsiuk et al. 2018): :func:`cut_order` ranks cells, :func:`cut_pictures` deletes or
  inserts them in this order; the class's probability should fall, or rise, sooner than in another
  order.

Maps are arrays (N, h, w), not negative. One without any evidence is all zero, and has neither place
nor likeness: NaN.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from kornia.metrics import ssim
from scipy.stats import rankdata

MODES = ("deletion", "insertion")
ORDERS = ("map", "random", "centre")


def is_empty(maps: np.ndarray) -> np.ndarray:
    """Whether each map (N, h, w) is the same everywhere, so that it points nowhere."""
    flat = np.asarray(maps).reshape(len(maps), -1)
    return np.ptp(flat, axis=1) <= 1e-6


def energy_inside(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Share of each map's sum that lies inside the mask.

    Parameters
    ----------
    maps
        (N, H, W), or (H, W) for one map against every mask.
    masks
        bool (N, H, W).

    Returns
    -------
    numpy.ndarray
        (N,), NaN where the map is zero or the mask empty.
    """
    masks = np.asarray(masks, bool)
    maps = np.broadcast_to(np.asarray(maps, float), masks.shape)
    total, inside = maps.sum((1, 2)), (maps * masks).sum((1, 2))
    known = (total > 0) & masks.any((1, 2))
    return np.where(known, inside / np.where(known, total, 1), np.nan)


def pointing_game(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Whether each map's highest cell touches the mask: 1, 0, or NaN as in `energy_inside`.

    Parameters
    ----------
    maps
        (N, h, w), or (h, w) for one map against every mask; in the map's own cells, as pixels
        between cell centres can never be the highest. Of several highest cells each counts in part.
    masks
        bool (N, H, W).
    """
    maps = np.asarray(maps, float)
    touched = touched_cells(masks, maps.shape[-2:])
    maps = np.broadcast_to(maps, touched.shape)
    highest = maps >= maps.max((1, 2), keepdims=True) - 1e-9
    known = (maps.max((1, 2)) > 0) & touched.any((1, 2))
    hits = (highest & touched).sum((1, 2)) / highest.sum((1, 2))
    return np.where(known, hits, np.nan)


def touched_cells(masks: np.ndarray, cells: tuple[int, int]) -> np.ndarray:
    """Return which of ``cells`` (h, w) hold a part of each mask: bool (N, H, W) -> (N, h, w)."""
    return _cell_means(masks, cells) > 0


def ideal_map(masks: np.ndarray, cells: tuple[int, int]) -> np.ndarray:
    """Return what a perfect map has in its cells: the share that is mask, float (N, h, w)."""
    return _cell_means(masks, cells)


def _cell_means(masks: np.ndarray, cells: tuple[int, int]) -> np.ndarray:
    masks = np.asarray(masks, float)
    for axis, count in zip((1, 2), cells, strict=True):
        edges = np.arange(count + 1) * masks.shape[axis] // count
        sums = np.add.reduceat(masks, edges[:-1], axis=axis)
        shape = [1, 1, 1]
        shape[axis] = count
        masks = sums / np.diff(edges).reshape(shape)
    return masks


def centred_gaussian(size: int, width: float = 0.2) -> np.ndarray:
    """Return a map (size, size) that is highest in the middle; ``width`` is of the side."""
    axis = (np.arange(size) + 0.5) / size - 0.5
    one = np.exp(-0.5 * np.square(axis / width))
    return np.outer(one, one)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's correlation of two stacks of maps, (N,); NaN where one of a pair is empty."""
    flat = [np.asarray(m).reshape(len(m), -1) for m in (first, second)]
    ranks = [rankdata(maps, axis=1) for maps in flat]
    centred = [r - r.mean(axis=1, keepdims=True) for r in ranks]
    above = (centred[0] * centred[1]).sum(1)
    below = np.sqrt(np.prod([np.square(c).sum(1) for c in centred], axis=0))
    empty = is_empty(first) | is_empty(second)
    return np.where(empty, np.nan, above / np.where(empty, 1, below))


def structural_similarity(first: np.ndarray, second: np.ndarray, side: int = 56) -> np.ndarray:
    """SSIM of two stacks of maps, (N,); NaN where one of a pair is empty.

    Maps are scaled to ``side`` pixels; the window has eleven.
    """
    stacks = []
    for maps in (first, second):
        scaled = [cv2.resize(np.float32(one), (side, side)) for one in maps]
        stacks.append(torch.from_numpy(np.stack(scaled))[:, None])
    values = ssim(*stacks, window_size=11).mean((1, 2, 3)).numpy().astype(float)
    return np.where(is_empty(first) | is_empty(second), np.nan, values)


def cut_order(maps: np.ndarray, order: str, rng: np.random.Generator) -> np.ndarray:
    """Rank the cells of each map in the order in which they are to be cut.

    Parameters
    ----------
    maps
        (N, h, w).
    order
        ``map``: the highest first; ``random``; ``centre``: the middle of the picture first.
    rng
        Breaks ties, and makes the random order.

    Returns
    -------
    numpy.ndarray
        int (N, h, w): 0 for the first cell.
    """
    count, height, width = maps.shape
    chance = rng.random((count, height * width))
    if order == "map":
        key = -np.asarray(maps, float).reshape(count, -1)
    elif order == "random":
        key = np.zeros_like(chance)
    elif order == "centre":
        y, x = ((np.arange(n) + 0.5) / n - 0.5 for n in (height, width))
        away = np.round(np.hypot(y[:, None], x[None, :]), 9)
        key = np.broadcast_to(away.reshape(1, -1), chance.shape)
    else:
        raise ValueError(f"order is {order!r}: choose one of {', '.join(ORDERS)}")
    sequence = np.lexsort((chance, key), axis=-1)
    ranks = np.empty_like(sequence)
    np.put_along_axis(ranks, sequence, np.arange(height * width)[None], axis=1)
    return ranks.reshape(maps.shape)


def cut_pictures(pictures: np.ndarray, ranks: np.ndarray, share: float, mode: str) -> np.ndarray:
    """Delete the first cells of pictures, or insert them into a blurred picture.

    Parameters
    ----------
    pictures
        uint8 (N, S, S, 3).
    ranks
        From :func:`cut_order`.
    share
        Of all cells, 0 to 1.
    mode
        ``deletion``: the first cells get the picture's mean colour; ``insertion``: they alone are
        sharp, the rest is blurred beyond recognition.

    Returns
    -------
    numpy.ndarray
        uint8 (N, S, S, 3).
    """
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}: choose one of {', '.join(MODES)}")
    side, (height, width) = pictures.shape[1], ranks.shape[1:]
    first = ranks < round(share * height * width)
    rows, columns = (np.arange(side) * n // side for n in (height, width))
    chosen = first[:, rows][:, :, columns][..., None]
    if mode == "deletion":
        mean = pictures.mean((1, 2), keepdims=True).round().astype(np.uint8)
        return np.where(chosen, mean, pictures)
    blurred = np.stack([cv2.GaussianBlur(np.array(p), (0, 0), side / 10) for p in pictures])
    return np.where(chosen, pictures, blurred)


def area_under(shares: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Area under curves: shares (P,), values (..., P) -> (...), by trapezoids."""
    return np.trapezoid(np.asarray(values, float), shares, axis=-1)

"""Leakage and shortcuts: copies across the split, and what can be told without seeing the lesion.

Two questions that a good score cannot answer by itself. Are test lesions copies of training
lesions? :func:`near_duplicates` compares pictures by perceptual hash. And is the diagnosis written
somewhere else than in the lesion? :func:`jiadf.floor.linear_predictions` on the metadata alone, or
on pictures whose centre :func:`border_only` has painted over, says how much of it is.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from jiadf.data.image_cache import CachedImages, cache_images

BORDER = 0.1  # width of what stays visible on each side, in sides of the picture
GREY = 128
MAX_DISTANCE = 10  # bits of 64; Hamming distances beyond are no longer copies


def picture_hashes(paths: Sequence[str | Path], kind: str = "phash") -> np.ndarray:
    """Return the perceptual hash of each image file as bits, bool (N, 64).

    Parameters
    ----------
    paths
        Image files.
    kind : {"phash", "dhash"}
        Of the signs of the low frequencies, or of the differences between neighbouring pixels
        (the package ImageHash). Neither survives a turn or a mirror.
    """
    import imagehash

    functions = {"phash": imagehash.phash, "dhash": imagehash.dhash}
    if kind not in functions:
        raise ValueError(f"hash {kind!r} is unknown: choose one of {', '.join(functions)}")

    def digest(path: str | Path) -> np.ndarray:
        with Image.open(path) as image:
            image.draft("L", (128, 128))
            return functions[kind](image).hash.ravel()

    with ThreadPoolExecutor() as pool:
        return np.array(list(pool.map(digest, paths)), dtype=bool).reshape(len(paths), -1)


def hamming(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Count the bits in which every row of `a`, (N, 64), differs from every row of `b`, (M, 64)."""
    a, b = a.astype(np.float32), b.astype(np.float32)
    agree = a @ b.T + (1 - a) @ (1 - b).T
    return np.rint(a.shape[1] - agree).astype(np.int64)


def near_duplicates(
    hashes: np.ndarray, second: np.ndarray, folds: np.ndarray, labels: np.ndarray,
    max_distance: int = MAX_DISTANCE,
) -> pd.DataFrame:  # fmt: skip
    """Count pairs of different lesions whose pictures are nearly the same.

    Parameters
    ----------
    hashes, second : (N, 64) bool array
        Two kinds of hashes of one picture a lesion; a pair that is near in the first is
        *confirmed* where it is as near, within `max_distance`, in the second.
    folds, labels : (N,) array
        Fold and class of each lesion.
    max_distance : int
        Pairs further apart are not counted.

    Returns
    -------
    DataFrame
        A row a `distance` from 0: `pairs`, of them `across_folds` (one may be trained on while
        the other is scored), `confirmed` (across folds, by both hashes) and `same_label` (of
        the confirmed). A pair is counted at its own distance only.
    """
    folds, labels = np.asarray(folds), np.asarray(labels)
    distances = hamming(hashes, hashes)
    first, other = np.nonzero(np.triu(distances <= max_distance, k=1))
    distance = distances[first, other]
    across = folds[first] != folds[other]
    confirmed = across & ((second[first] != second[other]).sum(1) <= max_distance)
    same = confirmed & (labels[first] == labels[other])
    columns = {"pairs": np.ones_like(across), "across_folds": across}
    columns |= {"confirmed": confirmed, "same_label": same}
    counts = {
        name: np.bincount(distance[chosen], minlength=max_distance + 1)
        for name, chosen in columns.items()
    }
    return pd.DataFrame({"distance": np.arange(max_distance + 1), **counts})


def duplicates_of_lesions(
    lesions: pd.DataFrame, folds: np.ndarray, max_distance: int = MAX_DISTANCE
) -> pd.DataFrame:
    """Count near-duplicates among the clinical and among the dermoscopic images.

    The rows ``clinical to dermoscopic`` are the yardstick: a clinical image of one lesion and a
    dermoscopic one of another are no copies, so what is counted there is chance.

    Parameters
    ----------
    lesions
        A labelled table from :func:`jiadf.data.read.read_lesions`.
    folds : (N,) array
        Fold of each lesion.
    max_distance
        As in :func:`near_duplicates`.

    Returns
    -------
    DataFrame
        As :func:`near_duplicates`, with `images` and the number of lesions.
    """
    labels = lesions["label"].to_numpy()
    hashes = {
        (name, kind): picture_hashes(lesions[f"{name}_path"], kind)
        for name in ("clinical", "dermoscopic")
        for kind in ("phash", "dhash")
    }
    tables = [
        near_duplicates(
            hashes[name, "phash"], hashes[name, "dhash"], folds, labels, max_distance
        ).assign(images=name)
        for name in ("clinical", "dermoscopic")
    ]
    apart = hamming(hashes["clinical", "phash"], hashes["dermoscopic", "phash"])
    np.fill_diagonal(apart, max_distance + 1)  # a lesion's own two pictures
    chance = np.bincount(apart[apart <= max_distance], minlength=max_distance + 1)
    # As many pairs as there are within a kind: each two lesions are met twice here.
    chance = pd.DataFrame({"distance": np.arange(max_distance + 1), "pairs": chance / 2})
    tables.append(chance.assign(images="clinical to dermoscopic"))
    return pd.concat(tables, ignore_index=True).assign(lesions=len(lesions))


def border_only(pixels: np.ndarray, border: float = BORDER) -> np.ndarray:
    """Paint the centre of pictures grey and leave a frame.

    Parameters
    ----------
    pixels : (N, S, S, 3) uint8 array
    border : float
        Width of the frame on each side, in sides of the picture; above 0 and below 0.5.
    """
    if not 0 < border < 0.5:
        raise ValueError(f"border is {border}: give a share above 0 and below 0.5")
    side = pixels.shape[1]
    width = max(1, round(border * side))
    painted = np.array(pixels)
    painted[:, width : side - width, width : side - width] = GREY
    return painted


def border_images(
    paths: Sequence[str | Path], size: int, cache_dir: str | Path | None = None,
    border: float = BORDER,
) -> CachedImages:  # fmt: skip
    """Return :func:`border_only` of decoded images under a key of their own, for their features."""
    images = cache_images(paths, size, cache_dir, progress=False)
    key = hashlib.blake2b(f"{images.key}:border:{border}:{GREY}".encode(), digest_size=16)
    return CachedImages(border_only(images.pixels, border), key.hexdigest())

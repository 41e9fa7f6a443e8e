"""Where the lesion is in the pictures of a synthetic set: drawn again, nothing is stored.

A lesion's drawing depends on the set's seed, the part and the lesion's number alone
(:mod:`jiadf.data.synth`), so its mask can be had at any time, and for any folder, from what
``SYNTHETIC.txt`` says of it. For real pictures, where no mask is known,
:func:`jiadf.regions.lesion_estimate` is a guess.
"""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from jiadf.data.appearance import sample_lesion
from jiadf.data.draw import draw_lesion
from jiadf.data.layout import PARTS
from jiadf.data.schema import IMAGE_TYPES
from jiadf.data.synth import MARKER, class_labels, lesion_names

_LINE = re.compile(r"^(\w+): (\d+) lesions, seed (\d+), (\d+) x (\d+) pixels$")


def lesion_masks(
    root: str | Path, lesions: pd.DataFrame | pd.Index, size: int
) -> dict[str, np.ndarray]:
    """Return the lesions' masks in both pictures, as the network sees them.

    Parameters
    ----------
    root
        Folder of a synthetic set.
    lesions
        Table or index of ``lesion_id``, of either part, in the order of the result.
    size
        Side of the square that pictures are resized to, in pixels.

    Returns
    -------
    dict
        ``clinical`` and ``dermoscopic``, bool (N, ``size``, ``size``), True inside the lesion.

    Raises
    ------
    ValueError
        If the folder is no synthetic set, or a lesion is none of its.
    """
    wanted = list(getattr(lesions, "index", lesions))
    places = _places(Path(root))
    unknown = [lesion for lesion in wanted if lesion not in places]
    if unknown:
        raise ValueError(f"{root}: has no lesion {unknown[0]}; give a table read from this folder.")

    def draw(lesion: str) -> list[np.ndarray]:
        label, entropy, image_size = places[lesion]
        drawings = draw_lesion(sample_lesion(label, entropy), image_size)
        return [_resized(drawings[view].mask, size) for view in IMAGE_TYPES]

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        drawn = list(pool.map(draw, wanted))
    shape = (len(wanted), len(IMAGE_TYPES), size, size)
    stacked = np.array(drawn, dtype=bool).reshape(shape)
    return {view: stacked[:, place] for place, view in enumerate(IMAGE_TYPES)}


def _places(root: Path) -> dict[str, tuple[str, tuple[int, int, int], tuple[int, int]]]:
    """Class, seeds and picture size of every lesion of a set."""
    marker = root / MARKER
    if not marker.is_file():
        raise ValueError(
            f"{root}: lesion masks are known for sets drawn by `jiadf synth` only, and this folder "
            f"has no {MARKER}; for real pictures use jiadf.regions.lesion_estimate."
        )
    places = {}
    for line in marker.read_text(encoding="utf-8").splitlines():
        found = _LINE.match(line)
        if found and found[1] in PARTS:
            part, (count, seed, width, height) = found[1], map(int, found.groups()[1:])
            number = list(PARTS).index(part)
            for index, label in enumerate(class_labels(count, seed, part)):
                name = lesion_names(index, seed, part)["lesion_id"]
                places[name] = label, (seed, number, index), (width, height)
    return places


def _resized(mask: np.ndarray, size: int) -> np.ndarray:
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR)) > 127

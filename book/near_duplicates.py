"""List the near-duplicates of MILK10k: images of different lesions that are nearly the same.

MILK10k names neither patients nor photographs, so copies can only be found by looking. Two
perceptual hashes (pHash and dHash of the package ImageHash, 64 bits each) describe an image; two
images of one kind are near-duplicates if they are at most 10 bits apart in both. At 0 bits they are
one photograph; at 8 or 10, look-alikes are found by chance too. Turned or mirrored copies are not
found.

Usage: ``python book/near_duplicates.py --data /path/to/milk10k`` (rewrites
``book/results/near_duplicates.csv``)
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import imagehash
import numpy as np
import pandas as pd
from PIL import Image

from jiadf.data.read import read_lesions

MAX_DISTANCE = 10  # bits of 64
OUT = Path(__file__).parent / "results" / "near_duplicates.csv"
HASHES = {"phash": imagehash.phash, "dhash": imagehash.dhash}


def image_hashes(paths: Sequence[str | Path], kind: str) -> np.ndarray:
    """Return the hash of each image file as bits, bool (N, 64); `kind` is phash or dhash."""
    rows = []
    for path in paths:
        with Image.open(path) as image:
            image.draft("L", (128, 128))
            rows.append(HASHES[kind](image).hash.ravel())
    return np.array(rows, dtype=bool).reshape(len(rows), -1)


def hamming(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Count the bits in which every row of `a`, (N, 64), differs from every row of `b`, (M, 64)."""
    a, b = a.astype(np.float32), b.astype(np.float32)
    agree = a @ b.T + (1 - a) @ (1 - b).T
    return np.rint(a.shape[1] - agree).astype(np.int64)


def near_duplicates(lesions: pd.DataFrame) -> pd.DataFrame:
    """Return a row a pair of lesions and kind of image: `image`, two ids and both distances."""
    tables = []
    for image in ("clinical", "dermoscopic"):
        paths = lesions[f"{image}_path"]
        hashes = {kind: image_hashes(paths, kind) for kind in HASHES}
        distances = {kind: hamming(bits, bits) for kind, bits in hashes.items()}
        near = np.maximum(*distances.values()) <= MAX_DISTANCE
        first, second = np.nonzero(np.triu(near, k=1))
        ids = {"lesion_id": lesions.index[first], "other_id": lesions.index[second]}
        bits = {kind: distance[first, second] for kind, distance in distances.items()}
        tables.append(pd.DataFrame({"image": image, **ids, **bits}))
    return pd.concat(tables).sort_values(["image", "phash", "dhash", "lesion_id", "other_id"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="MILK10k's official folder")
    found = near_duplicates(read_lesions(parser.parse_args().data, "training"))
    found.to_csv(OUT, index=False, lineterminator="\n")

"""Draw the sample of real lesions that lies in the package, ``jiadf/data/sample``.

All drawn lesions are of one test fold, so that a model trained on the other folds has seen none of
them. The same lesion may have been photographed twice, so a lesion that has a near-duplicate in
another fold is left out: one whose clinical or dermoscopic image is, by both perceptual hashes of
``jiadf.leakage``, within its ``MAX_DISTANCE`` of an image of the same kind. What remains is filled
from the rarest class up: each class gives all its lesions, or an equal share of the places that
are still free if it has more. Rare classes are therefore in with every lesion, and the frequent
ones with equally many, drawn at random with a fixed seed.

The images and the rows of the three tables are copied byte for byte.

Usage: ``python book/draw_sample.py --data /path/to/milk10k --out jiadf/data/sample``
"""

import argparse
import csv
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from jiadf.data.layout import Layout
from jiadf.data.read import read_lesions
from jiadf.data.schema import CLASSES
from jiadf.data.split import assign_folds
from jiadf.leakage import MAX_DISTANCE, hamming, picture_hashes

KEPT = ("__init__.py", "README.md")  # written by hand, not by this tool
PARTS = ("Input", "Metadata.csv", "GroundTruth.csv", "Supplement.csv")


def find_near_duplicates(lesions: pd.DataFrame, inside: np.ndarray) -> dict[str, str]:
    """Name for each lesion of the mask ``inside`` the nearest near-duplicate outside, if any."""
    found: dict[str, str] = {}
    for kind in ("clinical", "dermoscopic"):
        distances = []
        for name in ("phash", "dhash"):
            hashes = picture_hashes(lesions[f"{kind}_path"], name)
            distances.append(hamming(hashes[inside], hashes[~inside]))
        distance = np.maximum(*distances)  # near by both, (inside, outside)
        for row in np.flatnonzero((distance <= MAX_DISTANCE).any(axis=1)):
            column = distance[row].argmin()
            other = f"{lesions.index[~inside][column]}, {distance[row, column]} bits, {kind}"
            found.setdefault(lesions.index[inside][row], other)
    return found


def allocate(counts: pd.Series, total: int) -> pd.Series:
    """Share ``total`` places among classes, equally as far as each class has lesions for it."""
    if total > counts.sum():
        raise ValueError(f"{total} lesions are asked for, but only {counts.sum()} can be drawn")
    places = pd.Series(0, index=counts.index)
    for done, (code, count) in enumerate(counts.sort_values(kind="stable").items()):
        places[code] = min(count, (total - places.sum()) // (len(counts) - done))
    return places


def draw(labels: pd.Series, total: int, seed: int) -> pd.Index:
    """Draw ``total`` lesions by the rule of :func:`allocate`; ids in the order of ``labels``."""
    rng = np.random.default_rng(seed)
    places = allocate(labels.value_counts().reindex(CLASSES, fill_value=0), total)
    drawn = [rng.permutation(labels.index[labels == code])[:n] for code, n in places.items()]
    return labels.index[labels.index.isin(np.concatenate(drawn))]


def copy_rows(source: Path, target: Path, column: str, ids: set[str]) -> None:
    """Copy the header and the rows whose ``column`` is in ``ids``, byte for byte."""
    header, *rows = source.read_bytes().splitlines(keepends=True)
    if any(row.count(b'"') % 2 for row in rows):
        raise ValueError(f"{source.name} has a line break inside a field")
    position = next(csv.reader([header.decode("utf-8-sig")])).index(column)
    wanted = [row for row in rows if next(csv.reader([row.decode()]))[position] in ids]
    target.write_bytes(b"".join([header, *wanted]))


def refuse_foreign(out: Path) -> None:
    """Raise FileExistsError unless ``out`` is absent, empty or the folder of a sample."""
    names = {path.name for path in out.iterdir()} if out.exists() else set()
    known = {*KEPT, "__pycache__", *(f"MILK10k_Training_{part}" for part in PARTS)}
    if names and ("__init__.py" not in names or names - known):
        raise FileExistsError(f"{out} is not the folder of a sample; nothing was written")


def write_sample(data: Path, out: Path, lesions: pd.DataFrame) -> None:
    """Copy lesions in the official layout to ``out``, whole or not at all."""
    images = lesions[["clinical_isic_id", "dermoscopic_isic_id"]]
    lesion_ids, isic_ids = set(lesions.index), set(images.to_numpy().ravel())
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as staging:
        new, old = Path(staging, "new"), Path(staging, "old")
        source, target = Layout(data, "training"), Layout(new, "training")
        for lesion, *pair in images.itertuples():
            (target.input_dir / lesion).mkdir(parents=True)
            for image in pair:
                shutil.copyfile(*(layout.image_path(lesion, image) for layout in (source, target)))
        copy_rows(source.metadata_csv, target.metadata_csv, "lesion_id", lesion_ids)
        copy_rows(source.ground_truth_csv, target.ground_truth_csv, "lesion_id", lesion_ids)
        copy_rows(source.supplement_csv, target.supplement_csv, "isic_id", isic_ids)
        for name in KEPT:
            if (out / name).is_file():
                shutil.copyfile(out / name, new / name)
        if out.exists():
            out.rename(old)
        try:
            new.rename(out)
        except BaseException:
            if old.exists():
                old.rename(out)
            raise


def draw_sample(data: Path, out: Path, total: int = 240, fold: int = 0, seed: int = 0) -> None:
    """Draw a sample of fold ``fold`` of five and write it; print what was left out and drawn."""
    refuse_foreign(out)
    lesions = read_lesions(data, "training")
    inside = (assign_folds(lesions["label"], 5, seed=seed) == fold).to_numpy()
    duplicates = find_near_duplicates(lesions, inside)
    labels = lesions.loc[inside, "label"]
    for lesion, other in duplicates.items():
        print(f"left out: {lesion} ({labels[lesion]}), near-duplicate of {other}")
    drawn = draw(labels.drop(list(duplicates)), total, seed)
    write_sample(data, out, lesions.loc[drawn])
    columns = {"in the fold": labels, "left out": labels[list(duplicates)], "drawn": labels[drawn]}
    counts = {name: column.value_counts() for name, column in columns.items()}
    print(pd.DataFrame(counts).reindex(CLASSES).fillna(0).astype(int).to_string())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="MILK10k's official folder")
    parser.add_argument("--out", type=Path, required=True, help="folder of the sample")
    options = parser.parse_args()
    draw_sample(options.data, options.out.resolve())

"""The embedded synthetic MILK10k: drawn lesions in the official layout.

It stands in for MILK10k wherever the real data are not at hand: same folders, file names and
columns, classes as unbalanced, and evidence split over the metadata, the clinical and the
dermoscopic picture. Nothing in it comes from a patient, as ``SYNTHETIC.txt`` in the folder says.

    >>> from jiadf.data.synth import synthesise
    >>> synthesise("synthetic", lesions=300, seed=0)

Lesion number ``i`` depends on the seed, the part and ``i`` alone: a smaller set is the beginning of
a larger one, and neither the number of workers nor the picture size changes what is drawn.
"""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from jiadf.data.appearance import Lesion, monet_scores, sample_lesion
from jiadf.data.draw import draw_lesion
from jiadf.data.layout import IMAGE_SUFFIX, PARTS, Layout
from jiadf.data.schema import (
    CLASSES,
    IMAGE_TYPES,
    PAPER_FULL_COUNTS,
    metadata_schema,
    supplement_schema,
)

MARKER = "SYNTHETIC.txt"
MASKS = "Synthetic_Masks"
_PART_NUMBERS = {"training": 0, "test": 1}
_FIRST_BLOCK = 110  # holds at least five lesions of each class
_AGE_MISSING, _SITE_MISSING = 0.01, 0.015
_HEADLINE = "Synthetic MILK10k, drawn by jiadf: these are pictures of no patient."


def class_labels(lesions: int, seed: int = 0, part: str = "training") -> list[str]:
    """Return the class codes of lesions ``0 .. lesions - 1``.

    Classes are as unbalanced as in MILK10k, but the first 110 lesions hold at least five of each.
    A shorter list is the beginning of a longer one.
    """
    shares = np.array([PAPER_FULL_COUNTS[code] for code in CLASSES], float)
    shares /= shares.sum()
    rng = np.random.default_rng([seed, _PART_NUMBERS[part], 1])
    spare = _FIRST_BLOCK - 5 * len(CLASSES)
    counts = np.floor(shares * spare).astype(int)
    for index in np.argsort(counts - shares * spare, kind="stable")[: spare - counts.sum()]:
        counts[index] += 1
    first = rng.permutation(np.repeat(np.arange(len(CLASSES)), counts + 5))
    later = rng.choice(len(CLASSES), size=max(0, lesions - _FIRST_BLOCK), p=shares)
    return [CLASSES[index] for index in np.concatenate([first, later])[:lesions]]


def lesion_names(index: int, seed: int = 0, part: str = "training") -> dict[str, str]:
    """Return ``lesion_id`` and the ``isic_id`` of both pictures; no two lesions share one."""
    number = index + 2_000_000 * _PART_NUMBERS[part]
    offset = seed * 2_654_435

    def scatter(value: int) -> int:
        return (value * 7_368_787 + offset) % 10_000_000  # one-to-one: 7368787 is prime to 10^7

    return {
        "lesion_id": f"IL_{scatter(number):07d}",
        "clinical": f"ISIC_{scatter(2 * number):07d}",
        "dermoscopic": f"ISIC_{scatter(2 * number + 1):07d}",
    }


def _rows(lesion: Lesion, names: dict[str, str]) -> tuple[list[dict], list[dict]]:
    rng = lesion.rng(12)
    patient = lesion.patient
    age = "" if rng.random() < _AGE_MISSING else patient.age
    site = "" if rng.random() < _SITE_MISSING else patient.site
    thickness = ""
    if lesion.diagnosis == "Melanoma Invasive":
        thickness = str(rng.choice(["<0.8", ">0.8-1.0", ">1.0-2.0", ">2.0-3.0"]))
    benign = lesion.label in ("NV", "BKL", "VASC", "INF")
    clinical_only = benign and rng.random() < 0.15
    confirmed = "single contributor clinical assessment" if clinical_only else "histopathology"
    metadata, supplement = [], []
    for view, image_type in IMAGE_TYPES.items():
        metadata.append(
            {
                "lesion_id": names["lesion_id"],
                "image_type": image_type,
                "isic_id": names[view],
                "attribution": "jiadf synthetic",
                "copyright_license": "CC-0",
                "image_manipulation": "instrument only",
                "age_approx": age,
                "sex": patient.sex,
                "skin_tone_class": patient.skin_tone,
                "site": site,
                **monet_scores(lesion, view),
            }
        )
        values = (names[view], lesion.diagnosis, confirmed, thickness)
        supplement.append(dict(zip(supplement_schema.columns, values, strict=True)))
    return metadata, supplement


def _write_csv(path: Path, columns: tuple[str, ...], rows: list[dict]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _own_entries(part: str) -> tuple[str, ...]:
    layout = Layout(".", part)
    paths = (layout.metadata_csv, layout.input_dir, layout.ground_truth_csv, layout.supplement_csv)
    return tuple(path.name for path in paths if path is not None)


def _refuse_foreign(root: Path) -> None:
    if not root.exists():
        return
    if not root.is_dir():
        raise FileExistsError(f"{root} is a file; give the path of a new or empty folder")
    found = {entry.name for entry in root.iterdir()}
    if not found:
        return
    marker = root / MARKER
    known = {MARKER, MASKS, *_own_entries("training"), *_own_entries("test")}
    foreign = sorted(found - known)
    ours = marker.is_file() and marker.read_text(encoding="utf-8").startswith(_HEADLINE)
    if not ours:
        raise FileExistsError(
            f"{root} is not empty and holds no earlier synthetic set ({MARKER} is missing or "
            "another's); nothing was written: give a new or empty folder"
        )
    if foreign:
        raise FileExistsError(
            f"{root} holds a synthetic set and also {', '.join(foreign[:5])}, which would be "
            "lost; nothing was written: move that away or give a new folder"
        )


def _marker_lines(root: Path) -> dict[str, str]:
    """Return the lines of an earlier set that say how each part was made."""
    marker = root / MARKER
    if not marker.is_file():
        return {}
    lines = marker.read_text(encoding="utf-8").splitlines()
    return {part: line for part in PARTS for line in lines if line.startswith(f"{part}: ")}


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _keep_other_part(root: Path, build: Path, other: str) -> None:
    """Carry the other part of an earlier set over to the folder being built."""
    for name in _own_entries(other):
        source = root / name
        if source.is_dir():
            shutil.copytree(source, build / name, copy_function=_link)
        elif source.is_file():
            _link(str(source), str(build / name))
    for picture in Layout(root, other).input_dir.glob(f"*/*{IMAGE_SUFFIX}"):
        mask = root / MASKS / f"{picture.stem}.png"
        if mask.is_file():
            (build / MASKS).mkdir(exist_ok=True)
            _link(str(mask), str(build / MASKS / mask.name))


def _swap(build: Path, root: Path) -> None:
    """Put the finished folder in the place of ``root``."""
    if root.exists():
        aside = build.with_name(build.name + ".old")
        root.rename(aside)
        try:
            build.rename(root)
        except BaseException:
            aside.rename(root)
            raise
        shutil.rmtree(aside)
    else:
        build.rename(root)


def _draw_all(
    lesions: list[Lesion],
    names: list[dict[str, str]],
    layout: Layout,
    masks: Path | None,
    image_size: tuple[int, int],
    workers: int,
    progress: bool,
) -> None:
    def write(lesion: Lesion, name: dict[str, str]) -> None:
        target = layout.input_dir / name["lesion_id"]
        target.mkdir()
        for view, drawing in draw_lesion(lesion, image_size).items():
            path = layout.image_path(name["lesion_id"], name[view])
            Image.fromarray(drawing.image).save(path, quality=88)
            if masks is not None:
                mask = Image.fromarray(drawing.mask.astype(np.uint8) * 255)
                mask.save(masks / f"{name[view]}.png")

    # Threads: NumPy and Pillow work outside the interpreter's lock, and no caller needs a guard.
    pool = ThreadPoolExecutor(workers)
    bar = tqdm(total=len(lesions), desc="lesions drawn", disable=not progress)
    try:
        for _ in pool.map(write, lesions, names):
            bar.update()
    finally:
        bar.close()
        pool.shutdown(wait=True, cancel_futures=True)


def synthesise(
    root: str | Path,
    lesions: int = 300,
    seed: int = 0,
    image_size: tuple[int, int] = (600, 450),
    part: str = "training",
    *,
    masks: bool = False,
    workers: int | None = None,
    progress: bool = False,
) -> Path:
    """Write a synthetic MILK10k.

    Parameters
    ----------
    root : path
        New or empty folder, or one with an earlier synthetic set: its same part is replaced, its
        other part kept.
    lesions : int
        Number of lesions, 1 to 1,000,000; each has a clinical and a dermoscopic picture.
    seed : int
        Not negative. The same seed gives the same files, bit for bit.
    image_size : tuple of int
        Width and height of the pictures in pixels. Smaller ones show the same, sooner.
    part : {"training", "test"}
        The test part has neither ground truth nor supplement.
    masks : bool
        Also write ``Synthetic_Masks/<isic_id>.png``, 255 where the lesion is.
    workers : int, optional
        Threads that draw; as many as there are processors, at most eight, by default.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Path
        The folder, which :func:`jiadf.data.read.read_lesions` reads.

    Raises
    ------
    FileExistsError
        If the folder holds anything but a synthetic set. Nothing is written.
    ValueError
        If an argument is out of range.
    """
    if part not in PARTS:
        raise ValueError(f"part is {part!r}; it must be one of {', '.join(PARTS)}")
    if not 1 <= lesions <= 1_000_000:
        raise ValueError(f"lesions is {lesions}; it must be from 1 to 1,000,000")
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must not be negative")
    width, height = image_size
    if min(width, height) < 32:
        raise ValueError(f"image_size is {width} x {height}; both sides need at least 32 pixels")
    root = Path(root).expanduser().resolve()
    _refuse_foreign(root)

    labels = class_labels(lesions, seed, part)
    drawn = [
        sample_lesion(label, (seed, _PART_NUMBERS[part], index))
        for index, label in enumerate(labels)
    ]
    names = [lesion_names(index, seed, part) for index in range(lesions)]
    order = sorted(range(lesions), key=lambda index: names[index]["lesion_id"])
    metadata, supplement, truth = [], [], []
    for index in order:
        rows, diagnoses = _rows(drawn[index], names[index])
        metadata += rows
        supplement += diagnoses
        one_hot = {code: float(code == labels[index]) for code in CLASSES}
        truth.append({"lesion_id": names[index]["lesion_id"], **one_hot})

    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=f".{root.name}.partial-", dir=root.parent, ignore_cleanup_errors=True
    ) as temporary:
        build = Path(temporary) / root.name
        layout = Layout(build, part)
        layout.input_dir.mkdir(parents=True)
        if masks:
            (build / MASKS).mkdir()
        made = _marker_lines(root)
        other = next(name for name in PARTS if name != part)
        if other in made:
            _keep_other_part(root, build, other)
        _draw_all(
            drawn,
            names,
            layout,
            build / MASKS if masks else None,
            (width, height),
            workers or min(8, os.cpu_count() or 1),
            progress,
        )
        _write_csv(layout.metadata_csv, tuple(metadata_schema.columns), metadata)
        if part == "training":
            _write_csv(layout.ground_truth_csv, ("lesion_id", *CLASSES), truth)
            supplement.sort(key=lambda row: row["isic_id"])
            _write_csv(layout.supplement_csv, tuple(supplement_schema.columns), supplement)
        made[part] = f"{part}: {lesions} lesions, seed {seed}, {width} x {height} pixels"
        lines = [
            _HEADLINE,
            "Every lesion, age, site and score was made up by a program for teaching and testing;",
            "nothing here may serve a diagnosis, nor does a figure measured on it speak of one.",
            *(made[name] for name in PARTS if name in made),
        ]
        (build / MARKER).write_text("\n".join(lines) + "\n", encoding="utf-8")
        _swap(build, root)
    return root

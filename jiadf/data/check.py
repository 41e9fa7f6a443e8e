"""Find every fault of a MILK10k folder in one pass.

:func:`check` is what ``jiadf check DIR`` runs. It never stops at the first fault: the tables are
validated against their schemas, held against each other and against the folder of images, and
every image is decoded in full. An id that could lead out of the folder (``../x``) is told and
never used as a path.
"""

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from jiadf.data import faults as kinds
from jiadf.data.faults import DataError, Fault
from jiadf.data.layout import IMAGE_SUFFIX, Layout
from jiadf.data.open_image import ImageError, open_image
from jiadf.data.schema import (
    IMAGE_TYPES,
    LESION_COLUMNS,
    ground_truth_schema,
    is_safe_id,
    metadata_schema,
    supplement_schema,
)
from jiadf.data.tables import read_table

_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


def check(
    root: str | Path, part: str | None = None, images: bool = True, progress: bool = True
) -> list[Fault]:
    """Check a data folder: its tables, its image files and, unless asked not to, every pixel.

    Parameters
    ----------
    root : path
        The data folder.
    part : {"training", "test"}, optional
        Found out from the files when not given.
    images : bool
        Decode every image. Without it the image files must still be there, unless the whole
        folder of images is absent: a folder of tables alone passes.
    progress : bool
        Show a progress bar while decoding.

    Returns
    -------
    list of Fault
        Empty if all is well.
    """
    try:
        layout = Layout.detect(root, part)
    except DataError as error:
        return error.faults
    tables, found = examine_tables(layout)
    metadata = tables.get("metadata")
    if images:
        return found + _decode_all(layout, metadata, progress)
    if layout.input_dir.is_dir():
        return found + check_image_files(layout, metadata)
    return found


def examine_tables(
    layout: Layout, require_supplement: bool = True
) -> tuple[dict[str, pd.DataFrame], list[Fault]]:
    """Read the tables of a folder and check them, each by itself and against the others.

    Parameters
    ----------
    layout : Layout
        The folder; no image is touched.
    require_supplement : bool
        Whether a training folder without its supplement is at fault; when there, it is checked.

    Returns
    -------
    tables : dict
        ``metadata``, ``ground_truth`` and ``supplement``, as far as they could be read, with line
        numbers for index (see ``jiadf.data.tables.read_table``).
    faults : list of Fault
        Everything wrong with them.
    """
    sources = {
        "metadata": (layout.metadata_csv, metadata_schema),
        "ground_truth": (layout.ground_truth_csv, ground_truth_schema),
        "supplement": (layout.supplement_csv, supplement_schema),
    }
    tables: dict[str, pd.DataFrame] = {}
    found: list[Fault] = []
    for name, (path, schema) in sources.items():
        absent = path is None or not path.exists()
        if absent and (path is None or (name == "supplement" and not require_supplement)):
            continue
        table, more = read_table(path, schema)
        found += more
        if table is not None:
            tables[name] = table
    metadata, truth = tables.get("metadata"), tables.get("ground_truth")
    supplement = tables.get("supplement")
    if metadata is not None:
        found += _check_pairs(metadata, layout.metadata_csv.name)
        found += _check_agreement(metadata, layout.metadata_csv.name)
    if metadata is not None and truth is not None:
        files = (layout.metadata_csv.name, layout.ground_truth_csv.name)
        found += _compare_ids(metadata, truth, files, "lesion_id", kinds.LESION_IN_ONE_TABLE)
    if metadata is not None and supplement is not None:
        files = (layout.metadata_csv.name, layout.supplement_csv.name)
        found += _compare_ids(metadata, supplement, files, "isic_id", kinds.IMAGE_IN_ONE_TABLE)
    return tables, found


def _check_pairs(metadata: pd.DataFrame, file: str) -> list[Fault]:
    """Check that each lesion has exactly one image of each type."""
    if not {"lesion_id", "image_type"} <= set(metadata.columns):
        return []
    names = {official: short for short, official in IMAGE_TYPES.items()}
    types = metadata["image_type"].map(names)
    counts = Counter(zip(metadata["lesion_id"], types, strict=True))
    unclear = set(metadata["lesion_id"][types.isna()])  # told as an unknown category
    found = []
    for lesion, row in _first_rows(metadata, "lesion_id").items():
        having = {name: counts[lesion, name] for name in IMAGE_TYPES}
        if set(having.values()) == {1} or lesion in unclear:
            continue
        counted = " and ".join(f"{count} {name}" for name, count in having.items())
        message = f"lesion {lesion} has {counted} images"
        remedy = "give each lesion one clinical and one dermoscopic row; lesions with one image go "
        remedy += "into a table for `jiadf predict --table`"
        found.append(Fault(kinds.IMAGE_PAIR, file, row, message, remedy))
    return found


def _check_agreement(metadata: pd.DataFrame, file: str) -> list[Fault]:
    """Check that the rows of a lesion agree on the patient and the place."""
    if "lesion_id" not in metadata.columns:
        return []
    columns = [column for column in LESION_COLUMNS if column in metadata.columns]
    known = metadata[metadata["lesion_id"].notna()]
    first = known.drop_duplicates("lesion_id").set_index("lesion_id")[columns]
    found = []
    for column in columns:
        expected = known["lesion_id"].map(first[column])
        same = (known[column] == expected) | (known[column].isna() & expected.isna())
        for row in known.index[~same]:
            lesion = known.at[row, "lesion_id"]
            here, there = known.at[row, column], expected.at[row]
            message = f"lesion {lesion} has {column} {_show(here)} here and {_show(there)} before"
            remedy = "give both rows of a lesion the same age, sex, skin tone and site"
            found.append(Fault(kinds.DISAGREEING_ROWS, file, int(row), message, remedy))
    return found


def _compare_ids(
    left: pd.DataFrame, right: pd.DataFrame, files: tuple[str, str], column: str, kind: str
) -> list[Fault]:
    """Check that ids are in both tables."""
    if column not in left.columns or column not in right.columns:
        return []
    rows = (_first_rows(left, column), _first_rows(right, column))
    found = []
    for here, there in ((0, 1), (1, 0)):
        for identifier, row in rows[here].items():
            if identifier in rows[there]:
                continue
            message = f"{column} {identifier!r} is not in {files[there]}"
            remedy = f"add it to {files[there]}, or remove it from {files[here]}"
            found.append(Fault(kind, files[here], row, message, remedy))
    return found


def _first_rows(table: pd.DataFrame, column: str) -> dict[str, int]:
    """Find the first line of each id, in the order of the table; empty ids left out."""
    ids = table[column].dropna().drop_duplicates()
    return {identifier: int(row) for row, identifier in ids.items()}


def _show(value: object) -> str:
    return "empty" if pd.isna(value) else str(value)


def _named_images(layout: Layout, metadata: pd.DataFrame | None) -> dict[Path, int]:
    """List the images that the metadata names with safe ids, each with its line."""
    if metadata is None or not {"lesion_id", "isic_id"} <= set(metadata.columns):
        return {}
    images: dict[Path, int] = {}
    for row, lesion, image in zip(
        metadata.index, metadata["lesion_id"], metadata["isic_id"], strict=True
    ):
        if all(isinstance(part, str) and is_safe_id(part) for part in (lesion, image)):
            images.setdefault(layout.image_path(lesion, image), int(row))
    return images


def check_image_files(layout: Layout, metadata: pd.DataFrame | None) -> list[Fault]:
    """Check that the image files are there, without opening them.

    Parameters
    ----------
    layout : Layout
        The folder.
    metadata : DataFrame or None
        As :func:`examine_tables` returns it; None checks the folder of images only.
    """
    if not layout.input_dir.is_dir():
        return [_missing_folder(layout)]
    images = _named_images(layout, metadata)
    return _missing_images(layout, {p: row for p, row in images.items() if not p.is_file()})


def _decode_all(layout: Layout, metadata: pd.DataFrame | None, progress: bool) -> list[Fault]:
    """Decode every image that the metadata names, in threads (decoding releases the lock)."""
    if not layout.input_dir.is_dir():
        return [_missing_folder(layout)]
    images = _named_images(layout, metadata)
    pool = ThreadPoolExecutor(_available_processors())
    try:
        results = pool.map(_image_error, images)
        bar = tqdm(results, total=len(images), desc="images", unit="image", disable=not progress)
        errors = {path: error for path, error in zip(images, bar, strict=True) if error}
    finally:
        pool.shutdown(cancel_futures=True)
    missing = {p: images[p] for p, error in errors.items() if error.kind == kinds.MISSING_IMAGE}
    return _missing_images(layout, missing) + [
        Fault(
            error.kind,
            layout.relative(path),
            images[path],
            error.message,
            f"{error.remedy}, or restore the image from the official archive",
        )
        for path, error in errors.items()
        if path not in missing
    ]


def _available_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _image_error(path: Path) -> ImageError | None:
    try:
        open_image(path)
    except ImageError as error:
        return error
    return None


def _missing_folder(layout: Layout) -> Fault:
    name = layout.relative(layout.input_dir)
    remedy = "unpack the official archive of images into the data folder"
    return Fault(kinds.MISSING_FOLDER, name, None, "there is no such folder of images", remedy)


def _missing_images(layout: Layout, missing: dict[Path, int]) -> list[Fault]:
    """Tell of each missing image, by its line, and where a file of its name lies instead."""
    others = layout.input_dir.rglob("*") if missing else ()
    lying = {p.stem.lower(): p for p in others if p.suffix.lower() in _IMAGE_SUFFIXES}
    found = []
    for path, row in missing.items():
        message = f"there is no such file, though {layout.metadata_csv.name} names it"
        remedy = "restore the image from the official archive"
        if other := lying.get(path.stem.lower()):
            message += f"; there is {layout.relative(other)}"
            remedy = "move or rename the images to "
            remedy += f"{layout.input_dir.name}/<lesion_id>/<isic_id>{IMAGE_SUFFIX}"
        found.append(Fault(kinds.MISSING_IMAGE, layout.relative(path), row, message, remedy))
    return found


def find_stray_files(layout: Layout) -> list[Fault]:
    """List what lies in the folder of images but is named in no table.

    These are notes, not faults, and :func:`check` leaves them out: nothing reads such files, and
    an archive may well hold a licence text. A folder of an unknown lesion is told once.
    """
    if not layout.input_dir.is_dir():
        return []
    table, _ = read_table(layout.metadata_csv, metadata_schema)
    named = _named_images(layout, table)
    lesions = {path.parent.name for path in named}
    stray = []
    for entry in sorted(layout.input_dir.iterdir()):
        if entry.name in lesions and entry.is_dir():
            stray += [path for path in sorted(entry.iterdir()) if path not in named]
        else:
            stray.append(entry)
    remedy = "nothing needs to be done; remove it if it should not be there"
    return [
        Fault(kinds.STRAY_FILE, layout.relative(path), None, "no table names it", remedy)
        for path in stray
    ]

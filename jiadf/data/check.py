"""Find every fault of a MILK10k folder in one pass.

:func:`check` is what ``jiadf check DIR`` runs. It never stops at the first fault: the tables are
validated against their schemas, held against each other and against the folder of images, and
every image is decoded in full. An id that could lead out of the folder (``../x``) is told and
never used as a path.
"""

from collections import Counter
from pathlib import Path

import pandas as pd
from tqdm.contrib.concurrent import thread_map

from jiadf.data import faults as kinds
from jiadf.data.faults import DataError, Fault
from jiadf.data.layout import Layout
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

_NO_FILE = ImageError(kinds.MISSING_IMAGE, "there is no such file", "correct the path")


def check(
    root: str | Path, part: str | None = None, images: bool = True, progress: bool = True
) -> list[Fault]:
    """Check a data folder: its tables, its image files and, unless asked not to, every pixel.

    The part, ``training`` or ``test``, is found out from the files when not given. The supplement
    may be missing, as nothing in training needs it. With ``images`` every image is decoded.
    Without, the image files must still be there, unless the whole folder of images is absent: a
    folder of tables alone passes.
    """
    try:
        layout = Layout.detect(root, part)
    except DataError as error:
        return error.faults
    tables, found = check_tables(layout)
    if images or layout.input_dir.is_dir():
        found += check_images(layout, tables.get("metadata"), decode=images, progress=progress)
    return found


def check_tables(layout: Layout) -> tuple[dict[str, pd.DataFrame], list[Fault]]:
    """Read the tables of a folder and check them, each by itself and against the others.

    Returns ``metadata``, ``ground_truth`` and ``supplement``, as far as they could be read (see
    :func:`jiadf.data.tables.read_table`), and all that is wrong with them.
    """
    sources = {
        "metadata": (layout.metadata_csv, metadata_schema),
        "ground_truth": (layout.ground_truth_csv, ground_truth_schema),
        "supplement": (layout.supplement_csv, supplement_schema),
    }
    tables: dict[str, pd.DataFrame] = {}
    found: list[Fault] = []
    for name, (path, schema) in sources.items():
        if path is None or (name == "supplement" and not path.exists()):
            continue
        table, more = read_table(path, schema)
        found += more
        if table is not None:
            tables[name] = table
    if "metadata" not in tables:
        return tables, found
    file, metadata = layout.metadata_csv.name, tables["metadata"]
    found += _check_pairs(metadata, file) + _check_agreement(metadata, file)
    for name, column, kind in (
        ("ground_truth", "lesion_id", kinds.LESION_IN_ONE_TABLE),
        ("supplement", "isic_id", kinds.IMAGE_IN_ONE_TABLE),
    ):
        if name in tables:
            files = (file, sources[name][0].name)
            found += _compare_ids(metadata, tables[name], files, column, kind)
    return tables, found


def _check_pairs(metadata: pd.DataFrame, file: str) -> list[Fault]:
    """Check that each lesion has exactly one image of each type."""
    if not {"lesion_id", "image_type"} <= set(metadata.columns):
        return []
    types = metadata["image_type"].map({official: name for name, official in IMAGE_TYPES.items()})
    counts = Counter(zip(metadata["lesion_id"], types, strict=True))
    unclear = set(metadata["lesion_id"][types.isna()])  # told as an unknown category
    remedy = "give each lesion one row of each type; `jiadf predict --table` takes single images"
    found = []
    for lesion, row in _first_rows(metadata, "lesion_id").items():
        having = [counts[lesion, name] for name in IMAGE_TYPES]
        if having != [1, 1] and lesion not in unclear:
            message = f"lesion {lesion} has {having[0]} clinical and {having[1]} dermoscopic images"
            found.append(Fault(kinds.IMAGE_PAIR, file, row, message, remedy))
    return found


def _check_agreement(metadata: pd.DataFrame, file: str) -> list[Fault]:
    """Check that the rows of a lesion agree on the patient and the place."""
    if "lesion_id" not in metadata.columns:
        return []
    known = metadata[metadata["lesion_id"].notna()].astype(object).fillna("empty")
    columns = [column for column in LESION_COLUMNS if column in metadata.columns]
    firsts = known.groupby("lesion_id")[columns].transform("first")
    found = []
    for column in columns:
        for row in known.index[known[column] != firsts[column]]:
            lesion, here = known.loc[row, ["lesion_id", column]]
            before = firsts.at[row, column]
            message = f"lesion {lesion} has {column} {here} here and {before} before"
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
            if identifier not in rows[there]:
                message = f"{column} {identifier!r} is not in {files[there]}"
                remedy = f"add it to {files[there]}, or remove it from {files[here]}"
                found.append(Fault(kind, files[here], row, message, remedy))
    return found


def _first_rows(table: pd.DataFrame, column: str) -> dict[str, int]:
    """Find the first line of each id, in the order of the table; empty ids left out."""
    ids = table[column].dropna().drop_duplicates()
    return {identifier: int(row) for row, identifier in ids.items()}


def check_images(
    layout: Layout, metadata: pd.DataFrame | None, *, decode: bool = False, progress: bool = False
) -> list[Fault]:
    """Check that the image files that the metadata names are there, or that they can be decoded."""
    if not layout.input_dir.is_dir():
        name, remedy = layout.input_dir.name, "unpack the official archive of images there"
        message = "there is no such folder of images"
        return [Fault(kinds.MISSING_FOLDER, name, None, message, remedy)]
    if metadata is None or not {"lesion_id", "isic_id"} <= set(metadata.columns):
        return []
    images: dict[Path, int] = {}
    for row, lesion, image in metadata[["lesion_id", "isic_id"]].itertuples():
        if all(isinstance(name, str) and is_safe_id(name) for name in (lesion, image)):
            images.setdefault(layout.image_path(lesion, image), row)
    if decode:  # in threads: decoding releases the lock
        errors = thread_map(_decoding_error, images, desc="images", disable=not progress)
    else:
        errors = [None if path.is_file() else _NO_FILE for path in images]
    return [
        Fault(
            error.kind,
            layout.relative(path),
            row,
            error.message,
            f"{error.remedy}, or restore the image from the official archive",
        )
        for (path, row), error in zip(images.items(), errors, strict=True)
        if error
    ]


def _decoding_error(path: Path) -> ImageError | None:
    try:
        open_image(path)
    except ImageError as error:
        return error
    return None

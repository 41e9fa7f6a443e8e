"""Read a MILK10k folder into a table with a row a lesion, or find every fault of it in one pass.

The official metadata have two rows a lesion, one for its clinical close-up and one for its
dermoscopic image. :func:`read_lesions` puts them side by side with the class and the paths of the
two images; every later step starts from this table. :func:`check`, which is ``jiadf check DIR``,
decodes every image, too. Neither stops at the first fault. An id that could lead out of the folder
(``../x``) is told and never used as a path.
"""

from collections import Counter
from itertools import permutations
from pathlib import Path

import pandas as pd
from tqdm.contrib.concurrent import thread_map

from jiadf.data import faults as kinds
from jiadf.data.faults import DataError, Fault
from jiadf.data.layout import Layout
from jiadf.data.open_image import ImageError, open_image
from jiadf.data.schema import (
    CLASSES,
    IMAGE_TYPES,
    LESION_COLUMNS,
    MONET,
    ground_truth_schema,
    is_safe_id,
    metadata_schema,
    supplement_schema,
)
from jiadf.data.tables import read_table

_NO_FILE = ImageError(kinds.MISSING_IMAGE, "there is no such file", "correct the path")


def read_lesions(
    root: str | Path, part: str | None = None, *, image_files: bool = True
) -> pd.DataFrame:
    """Read the tables of a data folder, checked.

    ``part``, ``training`` or ``test``, is found out from the files when not given. The images are
    not decoded (:func:`check` does that); without ``image_files`` they may be missing.

    Returns
    -------
    DataFrame
        One row a lesion under its ``lesion_id``, in the order of the metadata table. Columns:
        ``age_approx`` (years, NaN if missing), ``sex``, ``skin_tone_class`` (0 very dark to 5
        very light), ``site`` (NaN if missing), ``label`` (the class's code; training only), and
        for ``clinical`` and ``dermoscopic`` each: ``_isic_id``, ``_path`` (absolute),
        ``_image_manipulation`` and the seven ``_MONET_*`` scores with that prefix.

    Raises
    ------
    DataError
        With all that is wrong with the tables, and every image file that is missing.
    """
    layout = Layout.detect(root, part)
    tables, faults = check_tables(layout)
    if image_files:
        faults += check_images(layout, tables.get("metadata"))
    if faults:
        raise DataError(faults)
    metadata = tables["metadata"]
    lesions = metadata.drop_duplicates("lesion_id").set_index("lesion_id")[list(LESION_COLUMNS)]
    lesions = lesions.astype({"skin_tone_class": "int64", "sex": str})
    if "ground_truth" in tables:
        truth = tables["ground_truth"].set_index("lesion_id")[list(CLASSES)]
        lesions["label"] = truth.idxmax(axis=1).reindex(lesions.index).astype(str)
    blocks = [lesions]
    for name, official in IMAGE_TYPES.items():
        rows = metadata[metadata["image_type"] == official].set_index("lesion_id")
        block = rows.loc[lesions.index, ["isic_id", "image_manipulation", *MONET]]
        block = block.astype({"isic_id": str, "image_manipulation": str})
        paths = [layout.image_path(lesion, image) for lesion, image in block["isic_id"].items()]
        block.insert(1, "path", [str(path) for path in paths])
        blocks.append(block.add_prefix(f"{name}_"))
    table = pd.concat(blocks, axis=1)
    table["site"] = table["site"].astype(pd.Series(["a"]).dtype)
    return table


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
            pair = {file: metadata, sources[name][0].name: tables[name]}
            found += _compare_ids(pair, column, kind)
    return tables, found


def _check_pairs(metadata: pd.DataFrame, file: str) -> list[Fault]:
    """Check that each lesion has exactly one image of each type."""
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
    known = metadata[metadata["lesion_id"].notna()].astype(object).fillna("empty")
    firsts = known.groupby("lesion_id")[list(LESION_COLUMNS)].transform("first")
    found = []
    for column in LESION_COLUMNS:
        for row in known.index[known[column] != firsts[column]]:
            lesion, here = known.loc[row, ["lesion_id", column]]
            before = firsts.at[row, column]
            message = f"lesion {lesion} has {column} {here} here and {before} before"
            remedy = "give both rows of a lesion the same age, sex, skin tone and site"
            found.append(Fault(kinds.DISAGREEING_ROWS, file, int(row), message, remedy))
    return found


def _compare_ids(tables: dict[str, pd.DataFrame], column: str, kind: str) -> list[Fault]:
    """Check that the ids of two tables, under their files' names, are in both."""
    rows = {file: _first_rows(table, column) for file, table in tables.items()}
    found = []
    for here, there in permutations(rows) if all(rows.values()) else ():
        for identifier, row in rows[here].items():
            if identifier not in rows[there]:
                message = f"{column} {identifier!r} is not in {there}"
                remedy = f"add it to {there}, or remove it from {here}"
                found.append(Fault(kind, here, row, message, remedy))
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
    if metadata is None:
        return []
    images: dict[Path, int] = {}
    for row, lesion, image in metadata[["lesion_id", "isic_id"]].itertuples():
        if all(isinstance(name, str) and is_safe_id(name) for name in (lesion, image)):
            images.setdefault(layout.image_path(lesion, image), row)
    if decode:  # in threads: decoding releases the lock
        errors = thread_map(_decoding_error, images, desc="images", disable=not progress)
    else:
        errors = [None if path.is_file() else _NO_FILE for path in images]
    found = []
    for (path, row), error in zip(images.items(), errors, strict=True):
        if error:
            name = path.relative_to(layout.root).as_posix()
            remedy = f"{error.remedy}, or restore the image from the official archive"
            found.append(Fault(error.kind, name, row, error.message, remedy))
    return found


def _decoding_error(path: Path) -> ImageError | None:
    try:
        open_image(path)
    except ImageError as error:
        return error
    return None

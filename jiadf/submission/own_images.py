"""Anybody's own photographs as lesions that a network can see: a CSV with a row a lesion.

================================== =============================================================
``clinical``, ``dermoscopic``      paths of a JPEG or PNG, relative to the table; one is enough
``lesion_id``                      letters, digits, ``_`` and ``-``; ``row-1``, … without it
``age``                            years
``sex``, ``site``                  as in MILK10k, see :mod:`jiadf.data.schema`
``skin_tone``                      0 very dark to 5 very light
``clinical_MONET_…``, …            the seven MONET scores of either image, 0 to 1
================================== =============================================================

A column or a cell that is not there is missing, and the network is told so. Every fault of a table
is found in one pass and named with its row: the header is row 1, as in a spreadsheet.
"""

import difflib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jiadf.data import faults as kinds
from jiadf.data.faults import DataError, Fault, format_faults
from jiadf.data.metadata import MONET_COLUMNS
from jiadf.data.open_image import ImageError, ImageSource, decode
from jiadf.data.schema import IMAGE_TYPES, own_schema
from jiadf.data.tables import MISSING, check_cells, read_cells

FIELDS = {"age": "age_approx", "sex": "sex", "skin_tone": "skin_tone_class", "site": "site"}
COLUMNS = ("lesion_id", *IMAGE_TYPES, *FIELDS, *MONET_COLUMNS)
UNKNOWN_COLUMN = "unknown column"


class InputError(DataError):
    """Lesions cannot be predicted; the message spells out every fault."""

    def __str__(self) -> str:
        return f"nothing was predicted.\n{format_faults(self.faults, None)}"


@dataclass(frozen=True)
class OwnLesions:
    """N lesions with images of one's own.

    ``lesions`` has those columns of :func:`jiadf.data.read.read_lesions` that a network reads, and
    the paths, NaN where missing. By ``clinical`` and ``dermoscopic``, ``pixels`` are uint8
    (N, S, S, 3), zeros where the image is missing, and ``missing`` is bool (N,).
    """

    lesions: pd.DataFrame
    pixels: Mapping[str, np.ndarray]
    missing: Mapping[str, np.ndarray]

    def lacking(self) -> dict[str, int]:
        """Count the lesions that lack something, by its name; only what some lack."""
        counts = {f"{name} image": int(rows.sum()) for name, rows in self.missing.items()}
        counts |= {name: int(self.lesions[field].isna().sum()) for name, field in FIELDS.items()}
        scores = self.lesions[list(MONET_COLUMNS)].isna().any(axis=1)
        counts["MONET scores"] = int(scores.sum())
        return {name: count for name, count in counts.items() if count}


def read_own_images(table: str | os.PathLike | pd.DataFrame, size: int) -> OwnLesions:
    """Read a table of own lesions and decode their images; see the module for its columns.

    In a DataFrame paths are relative to the working folder, rows are counted from 1, and an image
    may also be a PIL image or an array. Whole images are resized to a square of `size` pixels.

    Raises
    ------
    InputError
        With every fault of the table and of the images.
    """
    if isinstance(table, pd.DataFrame):
        if table.index.name == "lesion_id" and "lesion_id" not in table:
            table = table.reset_index()
        rows = dict(enumerate(table.to_dict("records"), start=1))
        told = "the table", None, "has no rows", "give a row for each lesion"
        found = [] if rows else [Fault(kinds.UNREADABLE_CSV, *told)]
        return make_lesions(rows, list(table.columns), size, "the table", found=found)
    path = Path(table)
    cells, faults = read_cells(path)
    found = [replace(fault, file=str(path)) for fault in faults]
    if cells is None:
        raise InputError(found)
    rows = dict(zip(cells.index.tolist(), cells.to_dict("records"), strict=True))
    return make_lesions(rows, list(cells.columns), size, str(path), path.parent, found)


def make_lesions(
    rows: Mapping[int, Mapping[str, Any]],
    columns: Sequence[Any],
    size: int,
    file: str,
    folder: Path = Path(),
    found: Sequence[Fault] = (),
) -> OwnLesions:
    """Check rows of cells, by their number in the file, and decode their images.

    `file` is what faults call the table, `folder` where its paths begin, and `found` are faults
    that are known already.
    """
    filled = [{name: _cell(name, row.get(name)) for name in COLUMNS} for row in rows.values()]
    cells = pd.DataFrame(filled, list(rows), list(COLUMNS), dtype=object)
    if "lesion_id" not in columns:
        cells["lesion_id"] = [f"row-{number}" for number in range(1, len(cells) + 1)]
    faults = [*found, *_check_columns(columns, file)]
    if set(IMAGE_TYPES) & set(columns):
        message = "clinical and dermoscopic are both empty"
        remedy = "give the path of at least one image"
        blind = cells.index[cells[list(IMAGE_TYPES)].isna().all(axis=1)]
        faults += [Fault(kinds.MISSING_VALUE, file, row, message, remedy) for row in blind]
    table, wrong = check_cells(cells, own_schema, file, found)
    faults += wrong
    sources = {name: [_located(cell, folder) for cell in cells[name]] for name in IMAGE_TYPES}
    pixels, missing, failed = decode_all(sources, size)
    for (row, name), error in failed.items():
        given, remedy = cells[name].iat[row], error.remedy
        of_file = isinstance(sources[name][row], Path)
        shown = f"{name} is {os.fspath(given)!r}:" if of_file else name
        if error.kind == kinds.MISSING_IMAGE and folder != Path():
            remedy += f", which begins at {str(folder)!r}"
        message = f"{shown} {error.message}"
        faults.append(Fault(error.kind, file, cells.index[row], message, remedy))
    if faults:
        raise InputError(sorted(faults, key=lambda fault: fault.row or 0))
    return OwnLesions(_lay_out(table, sources), pixels, missing)


def _check_columns(columns: Sequence[Any], file: str) -> list[Fault]:
    known = {name.lower(): name for name in COLUMNS} | {v: k for k, v in FIELDS.items()}
    found = []
    for text in [str(column) for column in columns if column not in COLUMNS]:
        near = difflib.get_close_matches(text.strip().lower(), known, n=1, cutoff=0.5)
        remedy = f"rename it to {known[near[0]]!r}, or remove it" if near else "remove it"
        message = f"{text!r} is not one of: {', '.join(COLUMNS[: -len(MONET_COLUMNS)])}, …"
        found.append(Fault(UNKNOWN_COLUMN, file, 1, message, remedy))
    if not set(IMAGE_TYPES) & set(columns):
        message, remedy = "has no column 'clinical' and none 'dermoscopic'", "add the images' paths"
        found.append(Fault(kinds.MISSING_COLUMN, file, 1, message, remedy))
    return found


def _cell(name: str, cell: Any) -> Any:
    """Return a cell as text, or the image itself; None where it is empty."""
    if pd.api.types.is_scalar(cell) and pd.isna(cell):
        return None
    if name in IMAGE_TYPES and not isinstance(cell, str):
        return cell
    text = str(cell).strip()
    return None if text in MISSING else text


def decode_all(
    sources: Mapping[str, Sequence[ImageSource | None]], size: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[tuple[int, str], ImageError]]:
    """Decode the images of N lesions by image type, in threads; None is missing.

    Returns, by image type, pixels uint8 (N, S, S, 3), zeros where there are none, and what is
    missing, bool (N,); and by row and image type why an image could not be read.
    """
    missing = {n: np.array([image is None for image in of], bool) for n, of in sources.items()}
    pixels = {n: np.zeros((len(rows), size, size, 3), np.uint8) for n, rows in missing.items()}
    jobs = [(row, n) for n, rows in missing.items() for row in np.flatnonzero(~rows).tolist()]

    def fill(job: tuple[int, str]) -> ImageError | None:
        row, name = job
        try:
            pixels[name][row] = decode(sources[name][row], size)
        except ImageError as error:
            return error
        return None

    with ThreadPoolExecutor() as pool:  # decoding releases the interpreter's lock
        errors = zip(jobs, pool.map(fill, jobs), strict=True)
        return pixels, missing, {job: error for job, error in errors if error}


def _located(source: Any, folder: Path) -> Any:
    """Return the path of an image whose path begins at a folder, or the image itself."""
    return folder / source if isinstance(source, (str, os.PathLike)) else source


def _lay_out(table: pd.DataFrame, sources: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """Lay checked cells out as :func:`jiadf.data.read.read_lesions` does."""
    index = pd.Index(table["lesion_id"], dtype=object)
    lesions = table.drop(columns="lesion_id").set_axis(index).rename(columns=FIELDS)
    for kind in IMAGE_TYPES:
        paths = [s.absolute() if isinstance(s, Path) else None for s in sources[kind]]
        lesions[f"{kind}_path"] = [path and str(path) for path in paths]
    for name in ("sex", "site", *(f"{kind}_path" for kind in IMAGE_TYPES)):
        lesions[name] = pd.Series(lesions[name].tolist(), lesions.index, str)
    return lesions

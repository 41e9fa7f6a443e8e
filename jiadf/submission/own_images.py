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
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jiadf.data import faults as kinds
from jiadf.data.faults import DataError, Fault, format_faults
from jiadf.data.image_cache import decode
from jiadf.data.metadata import MONET_COLUMNS
from jiadf.data.open_image import ImageError
from jiadf.data.schema import AGE_RANGE, IMAGE_TYPES, SEXES, SITES, SKIN_TONES, is_safe_id
from jiadf.data.tables import MISSING, read_cells

FIELDS = {"age": "age_approx", "sex": "sex", "skin_tone": "skin_tone_class", "site": "site"}
COLUMNS = ("lesion_id", *IMAGE_TYPES, *FIELDS, *MONET_COLUMNS)
UNKNOWN_COLUMN = "unknown column"
_CATEGORIES = {"sex": SEXES, "site": SITES}
_RANGES = {"age": AGE_RANGE} | dict.fromkeys(MONET_COLUMNS, (0, 1))
_NO_ROWS = ("has no rows", "give a header and a row for each lesion")


class InputError(DataError):
    """Lesions cannot be predicted; the message spells out every fault."""

    def __str__(self) -> str:
        return f"nothing was predicted.\n{format_faults(self.faults, None)}"


class RowFault(Fault):
    """A fault of one's own table, in a row of it or as a whole."""

    @property
    def where(self) -> str:
        """The place in words."""
        return self.file if self.row is None else f"{self.file}, row {self.row}"


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
        found = [] if rows else [RowFault(kinds.UNREADABLE_CSV, "the table", None, *_NO_ROWS)]
        return make_lesions(rows, list(table.columns), size, "the table", found=found)
    path = Path(table)
    if not path.is_file():
        what = "is not a plain file" if path.exists() else "there is no such file"
        fault = RowFault(kinds.MISSING_CSV, str(path), None, what, "give the path of a CSV file")
        raise InputError([fault])
    cells, faults = read_cells(path)
    found = [RowFault(f.kind, str(path), f.row, f.message, _remedy(f)) for f in faults]
    if cells is None:
        raise InputError(found)
    rows = dict(zip(cells.index.tolist(), cells.to_dict("records"), strict=True))
    return make_lesions(rows, list(cells.columns), size, str(path), path.parent, found)


def _remedy(fault: Fault) -> str:
    """Say the remedy of an official table for one's own."""
    text = fault.remedy.replace(", or restore the official file", "")
    return _NO_ROWS[1] if "official" in text else text


def make_lesions(
    rows: Mapping[int, Mapping[str, Any]],
    columns: Sequence[Any],
    size: int,
    file: str,
    folder: Path = Path(),
    found: Iterable[Fault] = (),
) -> OwnLesions:
    """Check rows of cells, by their number in the file, and decode their images.

    `file` is what faults call the table, `folder` where its paths begin, and `found` are faults
    that are known already.
    """
    faults = [*found, *_check_columns(columns, file)]
    values: dict[str, list] = {column: [] for column in COLUMNS}
    seen: dict[str, int] = {}  # lesion -> its first row
    for count, (row, cells) in enumerate(rows.items(), start=1):

        def fault(kind: str, message: str, remedy: str, row: int = row) -> None:
            faults.append(RowFault(kind, file, row, message, remedy))

        known = {n: None if _is_empty(cells.get(n)) else cells[n] for n in COLUMNS}
        if set(IMAGE_TYPES) & set(columns) and all(known[name] is None for name in IMAGE_TYPES):
            message = "clinical and dermoscopic are both empty"
            fault(kinds.MISSING_VALUE, message, "give the path of at least one image")
        for name, value in known.items():
            if name == "lesion_id" and name not in columns:
                value = f"row-{count}"
            elif name == "lesion_id":
                value = _identifier(value, row, seen, fault)
            elif name not in IMAGE_TYPES and value is not None:
                value = _value(name, value, fault)
            values[name].append(value)
    pixels, missing, more = _decode_all(values, list(rows), size, file, folder)
    if faults := sorted([*faults, *more], key=lambda fault: fault.row or 0):
        raise InputError(faults)
    return OwnLesions(_table(values, folder), pixels, missing)


def _check_columns(columns: Sequence[Any], file: str) -> list[Fault]:
    known = {name.lower(): name for name in COLUMNS} | {v: k for k, v in FIELDS.items()}
    found = []
    for text in [str(column) for column in columns if column not in COLUMNS]:
        near = difflib.get_close_matches(text.strip().lower(), known, n=1, cutoff=0.5)
        remedy = f"rename it to {known[near[0]]!r}, or remove it" if near else "remove it"
        message = f"{text!r} is not one of: {', '.join(COLUMNS[: -len(MONET_COLUMNS)])}, …"
        found.append(RowFault(UNKNOWN_COLUMN, file, 1, message, remedy))
    if not set(IMAGE_TYPES) & set(columns):
        message, remedy = "has no column 'clinical' and none 'dermoscopic'", "add the images' paths"
        found.append(RowFault(kinds.MISSING_COLUMN, file, 1, message, remedy))
    return found


def _is_empty(cell: Any) -> bool:
    if isinstance(cell, str):
        return cell.strip() in MISSING
    return cell is None or cell is pd.NA or (isinstance(cell, float) and math.isnan(cell))


def _identifier(value: Any, row: int, seen: dict[str, int], fault: Callable) -> str:
    if value is None:
        fault(kinds.MISSING_VALUE, "lesion_id is empty", "give every row an id, or no row")
        return ""
    value = str(value).strip()
    if not is_safe_id(value):
        remedy = "make it of at most 100 letters, digits, '_' and '-'"
        fault(kinds.UNSAFE_ID, f"lesion_id is {value!r}", remedy)
    elif value in seen:
        message = f"lesion_id {value!r} is in row {seen[value]} already"
        fault(kinds.DUPLICATE_LESION_ID, message, "give every lesion an id of its own")
    seen.setdefault(value, row)
    return value


def _value(name: str, cell: Any, fault: Callable) -> str | float:
    """Return a cell's value, whatever it is if something is wrong with it, which is told."""
    shown = f"{cell:g}" if isinstance(cell, (int, float, np.number)) else repr(cell)
    shown = f"{name} is {shown}"
    if allowed := _CATEGORIES.get(name):
        value = str(cell).strip()
        if value not in allowed:
            near = difflib.get_close_matches(value.lower(), allowed, n=1)
            remedy = f"write {near[0]!r}" if near else "write one of these, or leave it empty"
            fault(kinds.UNKNOWN_CATEGORY, f"{shown}, not one of: {', '.join(allowed)}", remedy)
        return value
    try:
        number = math.nan if "_" in str(cell) else float(cell)
    except (TypeError, ValueError):
        number = math.nan
    low, high = _RANGES.get(name, (-math.inf, math.inf))
    if math.isnan(number):
        example = {"age": "85", "skin_tone": "3"}.get(name, "0.5")
        remedy = f"write a plain number such as {example}, or leave it empty"
        fault(kinds.NOT_A_NUMBER, f"{shown}, which is not a number", remedy)
    elif name == "skin_tone" and number not in SKIN_TONES:
        message = f"{shown}, not one of: {', '.join(map(str, SKIN_TONES))}"
        fault(kinds.OUT_OF_RANGE, message, "write 0 (very dark) to 5 (very light)")
    elif not low <= number <= high:
        remedy = f"write a number from {low} to {high}, or leave it empty"
        fault(kinds.OUT_OF_RANGE, f"{shown}, outside {low} to {high}", remedy)
    return number


def _decode_all(
    values: Mapping[str, list], numbers: list[int], size: int, file: str, folder: Path
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], list[Fault]]:
    """Return pixels, what is missing, and faults; threads decode, which releases the lock."""
    shape = (len(numbers), size, size, 3)
    pixels = {name: np.zeros(shape, np.uint8) for name in IMAGE_TYPES}
    missing = {name: np.array([v is None for v in values[name]], bool) for name in IMAGE_TYPES}
    jobs = [(n, row) for row in range(len(numbers)) for n in IMAGE_TYPES if not missing[n][row]]

    def fill(job: tuple[str, int]) -> Fault | None:
        name, row = job
        source = values[name][row]
        path = _path(source, folder)
        try:
            pixels[name][row] = decode(source if path is None else path, size)
        except ImageError as error:
            shown = name if path is None else f"{name} is {os.fspath(source)!r}:"
            remedy = error.remedy
            if error.kind == kinds.MISSING_IMAGE and folder != Path():
                remedy += f", which begins at {str(folder)!r}"
            return RowFault(error.kind, file, numbers[row], f"{shown} {error.message}", remedy)
        return None

    with ThreadPoolExecutor() as pool:
        return pixels, missing, [fault for fault in pool.map(fill, jobs) if fault]


def _path(source: Any, folder: Path) -> Path | None:
    """Return an image's path, None if it is no file but the image itself."""
    if not isinstance(source, (str, os.PathLike)):
        return None
    return folder / (source.strip() if isinstance(source, str) else source)


def _table(values: Mapping[str, list], folder: Path) -> pd.DataFrame:
    """Lay checked values out as :func:`jiadf.data.read.read_lesions` does."""
    index = pd.Index(values["lesion_id"], name="lesion_id", dtype=object)
    table = {
        field: pd.Series(values[name], index, str if name in _CATEGORIES else float)
        for name, field in FIELDS.items()
    }
    for kind in IMAGE_TYPES:
        paths = [_path(source, folder) for source in values[kind]]
        paths = [None if path is None else str(path.absolute()) for path in paths]
        table[f"{kind}_path"] = pd.Series(paths, index, str)
    table |= {column: pd.Series(values[column], index, float) for column in MONET_COLUMNS}
    return pd.DataFrame(table, index)

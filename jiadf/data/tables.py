"""Read one MILK10k table from CSV and say everything that is wrong with it.

:func:`read_cells` reads the cells as text, each row under its line number in the file, so that
a bad value can be shown as it was written; :func:`validate_cells` turns them into numbers and
categories with a pandera schema, and pandera's failure cases into faults.
"""

import csv
import difflib
import io
import math
import re
from pathlib import Path

import pandas as pd
import pandera.errors
import pandera.pandas as pa

from jiadf.data import faults as kinds
from jiadf.data.faults import Fault
from jiadf.data.schema import CLASSES
from jiadf.files import read_regular

MISSING = frozenset({"", "NA", "NaN", "nan"})  # spellings of an empty cell
# What a spreadsheet program saves if not asked for CSV in UTF-8, by its first bytes.
_OTHER_FORMATS = {
    "UTF-16 text": rb"\xff\xfe|\xfe\xff|.?\0",
    "a workbook, not CSV": rb"PK\x03\x04|\xd0\xcf\x11\xe0",
}
_SAVE_REMEDY = "save the table as CSV in UTF-8, or restore the official file"
_ID_REMEDY = "give every id once, made of letters, digits, '_' and '-'"


def read_table(path: Path, schema: pa.DataFrameSchema) -> tuple[pd.DataFrame | None, list[Fault]]:
    """Read a CSV file and validate it.

    Parameters
    ----------
    path : Path
        The CSV file.
    schema : pandera.DataFrameSchema
        Its columns.

    Returns
    -------
    table : DataFrame or None
        The columns of the schema that the file has, as text or float64, under their line numbers
        (the header is line 1). Cells that are not numbers are NaN where numbers are due. None if
        the file cannot be read as a table at all.
    faults : list of Fault
        Everything wrong with the file, by row.
    """
    cells, found, ragged = read_cells(path)
    if cells is None:
        return None, found
    table, more = validate_cells(cells, schema, path.name, ragged)
    return table, sorted(found + more, key=lambda fault: fault.row or 0)


def read_written(path: Path) -> pd.DataFrame:
    """Read a CSV that this package wrote, under its ``lesion_id``: ids are text, even ``0001``."""
    table = pd.read_csv(path, dtype={"lesion_id": str}, keep_default_na=False, na_values=[""])
    return table.set_index("lesion_id")


def read_cells(path: Path) -> tuple[pd.DataFrame | None, list[Fault], set[int]]:
    """Read the cells of a CSV file as text, None where a cell is empty.

    Returns
    -------
    cells : DataFrame or None
        Under their line numbers; None if the file is missing or is not a CSV file.
    faults : list of Fault
        Of the file and of its rows' lengths, not of the values.
    ragged : set of int
        Rows with fewer or more fields than the header, which were padded or cut.
    """
    header, numbered, found = read_rows(path)
    rows, lines, ragged = [], [], set()

    def unreadable(row: int | None, message: str, remedy: str) -> None:
        found.append(Fault(kinds.UNREADABLE_CSV, path.name, row, message, remedy))

    for line, fields in numbered:
        if not any(field.strip() for field in fields):
            continue  # a row of empty cells below a spreadsheet's last
        if len(fields) != len(header):
            message = f"has {len(fields)} fields where the header has {len(header)}"
            unreadable(line, message, "complete the row, or restore the official file")
            ragged.add(line)
            fields = (fields + [""] * len(header))[: len(header)]
        rows.append([None if field.strip() in MISSING else field for field in fields])
        lines.append(line)
    if not rows:
        if not found:
            unreadable(None, "has a header but no rows", "restore the official file")
        return None, found, ragged
    cells = pd.DataFrame(rows, columns=header, index=lines, dtype=object)
    repeated = cells.columns.duplicated()
    for column in cells.columns[repeated]:
        unreadable(1, f"names the column {column!r} twice", "keep one of the two columns")
    return cells.loc[:, ~repeated], found, ragged


def read_rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]], list[Fault]]:
    """Read a CSV file: its header, its rows under their line numbers, and why it could not be read.

    Blank lines are left out.
    """

    def failed(kind: str, row: int | None, message: str, remedy: str):
        return [], [], [Fault(kind, path.name, row, message, remedy)]

    rows: list[tuple[int, list[str]]] = []
    line = 0
    try:
        content = read_regular(path)
        for other, beginning in _OTHER_FORMATS.items():
            if re.match(beginning, content, re.DOTALL):
                return failed(kinds.UNREADABLE_CSV, None, f"is {other}", _SAVE_REMEDY)
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        for fields in reader:
            if len(fields) > 1 or any(field.strip() for field in fields):
                rows.append((line + 1, fields))
            line = reader.line_num
    except FileNotFoundError:
        remedy = f"put the official {path.name} into the folder, or fetch it with `jiadf download`"
        return failed(kinds.MISSING_CSV, None, "there is no such file", remedy)
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 text ({error.reason} at byte {error.start})"
        return failed(kinds.UNREADABLE_CSV, None, message, _SAVE_REMEDY)
    except OSError as error:
        message = f"cannot be read ({error.strerror})"
        remedy = "make it a plain file that you may read"
        return failed(kinds.UNREADABLE_CSV, None, message, remedy)
    except csv.Error as error:
        remedy = "close every quotation mark in the row"
        return failed(kinds.UNREADABLE_CSV, line + 1, f"is not valid CSV ({error})", remedy)
    if not rows:
        return failed(kinds.UNREADABLE_CSV, None, "is empty", "restore the official file")
    line, header = rows[0]
    if len(header) == 1 and re.search("[;\t]", header[0]):
        message, remedy = "has no commas between the columns", "save the table with commas"
        return failed(kinds.UNREADABLE_CSV, line, message, f"{remedy} between the columns")
    return header, rows[1:], []


def validate_cells(
    cells: pd.DataFrame, schema: pa.DataFrameSchema, file: str, ragged: set[int] = frozenset()
) -> tuple[pd.DataFrame, list[Fault]]:
    """Turn text cells into typed columns and collect what the schema finds wrong with them.

    Parameters
    ----------
    cells : DataFrame
        As :func:`read_cells` returns them.
    schema : pandera.DataFrameSchema
        One of ``jiadf.data.schema``.
    file : str
        The file's name, for the faults.
    ragged : set of int
        Rows whose missing cells are a fault already told.
    """
    columns = [name for name in schema.columns if name in cells.columns]
    table = cells[columns].copy()
    for column in columns:
        if str(schema.columns[column].dtype) == "float64":
            table[column] = cells[column].map(_number).astype("float64")
    try:
        schema.validate(table, lazy=True)
        return table, _not_numbers(cells, table, schema, file)
    except pandera.errors.SchemaErrors as error:
        cases = error.failure_cases
    found = _not_numbers(cells, table, schema, file)
    firsts = {column: _first_rows(cells[column]) for column in columns if column.endswith("_id")}
    told = {(fault.kind, fault.row) for fault in found if fault.kind == kinds.NOT_ONE_HOT}
    place = {column: number for number, column in enumerate(columns)}
    fields = (cases[name] for name in ("column", "check", "failure_case", "index"))
    for column, check, case, row in sorted(
        zip(*fields, strict=True), key=lambda item: (item[3] or 0, place.get(item[0], -1))
    ):
        if check == "column_in_dataframe":
            found.append(_missing_column(case, list(cells.columns), file))
            continue
        row = int(row)
        text = cells.at[row, column] if column in cells.columns else None
        if check == "one_hot" or column in CLASSES:
            if (kinds.NOT_ONE_HOT, row) not in told:
                told.add((kinds.NOT_ONE_HOT, row))
                found.append(_not_one_hot(cells, file, row))
        elif text is None:
            if check == "not_nullable" and row not in ragged:
                found.append(_missing_value(file, row, column))
        elif check != "not_nullable":  # a number that could not be read is told already
            found.append(_bad_value(schema, firsts, file, row, column, check, text))
    return table, found


def _number(text: str | None) -> float:
    """Read a number as Python does, but without its underscores; NaN where it is none."""
    if text is None or "_" in text:
        return math.nan
    try:
        return float(text)
    except ValueError:
        return math.nan


def _not_numbers(
    cells: pd.DataFrame, table: pd.DataFrame, schema: pa.DataFrameSchema, file: str
) -> list[Fault]:
    found: dict[tuple[int, str | None], Fault] = {}
    for column in table.columns[table.dtypes == "float64"]:
        for row in table.index[table[column].isna() & cells[column].notna()]:
            if column in CLASSES:
                found.setdefault((row, None), _not_one_hot(cells, file, int(row)))
                continue
            message = f"{column} is {cells.at[row, column]!r}, which is not a number"
            remedy = f"write {column} as a plain number such as 45 or 0.5"
            remedy += _or_nothing(schema, column)
            found[row, column] = Fault(kinds.NOT_A_NUMBER, file, int(row), message, remedy)
    return list(found.values())


def _missing_column(column: str, present: list[str], file: str) -> Fault:
    folded = {name.strip().lower(): name for name in present}
    near = difflib.get_close_matches(column.lower(), folded, n=1, cutoff=0.8)
    message = f"has no column {column!r}"
    remedy = "restore the column from the official file"
    if near and folded[near[0]] != column:
        remedy = f"rename the column {folded[near[0]]!r} to {column!r}"
    return Fault(kinds.MISSING_COLUMN, file, None, message, remedy)


def _missing_value(file: str, row: int, column: str) -> Fault:
    message = f"{column} is empty"
    remedy = "fill it in; only age_approx, site and the free text may be empty"
    return Fault(kinds.MISSING_VALUE, file, row, message, remedy)


def _not_one_hot(cells: pd.DataFrame, file: str, row: int) -> Fault:
    values = {code: cells.at[row, code] for code in CLASSES if code in cells.columns}
    notable = [
        f"{code}={'empty' if text is None else text}"
        for code, text in values.items()
        if text is None or _number(text) != 0
    ]
    lesion = cells.at[row, "lesion_id"] if "lesion_id" in cells.columns else None
    message = f"lesion {lesion} has {', '.join(notable) or 'no class set'}"
    remedy = "write 1 for the lesion's one class and 0 for every other"
    return Fault(kinds.NOT_ONE_HOT, file, row, message, remedy)


def _or_nothing(schema: pa.DataFrameSchema, column: str) -> str:
    return ", or leave the cell empty" if schema.columns[column].nullable else ""


def _first_rows(ids: pd.Series) -> dict[str, int]:
    first = ids.drop_duplicates()
    return dict(zip(first, first.index, strict=True))


def _bad_value(
    schema: pa.DataFrameSchema,
    firsts: dict[str, dict[str, int]],
    file: str,
    row: int,
    column: str,
    check: str,
    text: str,
) -> Fault:
    if check == "safe_id":
        message = f"{column} {text!r} is not the name of a single file or folder"
        return Fault(kinds.UNSAFE_ID, file, row, message, _ID_REMEDY)
    if check == "field_uniqueness":
        kind = kinds.DUPLICATE_ISIC_ID if column == "isic_id" else kinds.DUPLICATE_LESION_ID
        first = firsts[column][text]
        message = f"{column} {text!r} is in row {first} already"
        return Fault(kind, file, row, message, "remove one of the rows, or correct its id")
    statistics = schema.columns[column].checks[0].statistics
    if check.startswith("in_range"):
        low, high = statistics["min_value"], statistics["max_value"]
        message = f"{column} is {text}, outside {low} to {high}"
        remedy = f"give {column} between {low} and {high}"
        return Fault(kinds.OUT_OF_RANGE, file, row, message, remedy)
    allowed = [str(value) for value in statistics["allowed_values"]]
    message = f"{column} is {text!r}, not one of: {', '.join(allowed)}"
    near = difflib.get_close_matches(text.strip().lower(), allowed, n=1, cutoff=0.6)
    remedy = f"write {near[0]!r}" if near else "write one of these values"
    remedy += _or_nothing(schema, column)
    return Fault(kinds.UNKNOWN_CATEGORY, file, row, message, remedy)

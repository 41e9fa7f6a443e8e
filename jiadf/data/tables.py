"""Read one MILK10k table from CSV and say everything that is wrong with it.

The cells are read as text, each row under its line number in the file, so that a bad value can be
shown as it was written; pandera's failure cases become faults.
"""

import csv
import difflib
import io
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pandera.errors
import pandera.pandas as pa

from jiadf.data import faults as kinds
from jiadf.data.faults import Fault
from jiadf.data.schema import CLASSES
from jiadf.files import read_regular

MISSING = frozenset({"", "NA", "NaN", "nan"})  # spellings of an empty cell
_SAVE, _FILL = "save the table as CSV in UTF-8", "give a header and a row for each lesion"


def read_written(path: Path) -> pd.DataFrame:
    """Read a CSV that this package wrote, under its ``lesion_id``: ids are text, even ``0001``."""
    table = pd.read_csv(path, dtype={"lesion_id": str}, keep_default_na=False, na_values=[""])
    return table.set_index("lesion_id")


def read_table(path: Path, schema: pa.DataFrameSchema) -> tuple[pd.DataFrame | None, list[Fault]]:
    """Read an official CSV file and hold it against its schema.

    Returns the columns of the schema as text or float64, NaN where there is nothing of that kind,
    under their line numbers, or None if it is no table at all; and its faults, by row.
    """
    cells, faults = read_cells(path)
    found = [replace(fault, remedy=_official_remedy(fault)) for fault in faults]
    if cells is None:
        return None, found
    table, wrong = check_cells(cells, schema, path.name, found)
    table = table.reindex(columns=list(schema.columns))
    return table, sorted([*found, *wrong], key=lambda fault: fault.row or 0)


def _official_remedy(fault: Fault) -> str:
    if fault.kind == kinds.MISSING_CSV:
        return f"put the official {fault.file} into the folder, or fetch it with `jiadf download`"
    return f"{fault.remedy}, or restore the official file"


def check_cells(
    cells: pd.DataFrame, schema: pa.DataFrameSchema, file: str, known: Sequence[Fault] = ()
) -> tuple[pd.DataFrame, list[Fault]]:
    """Hold cells of :func:`read_cells` against a schema; answer as :func:`read_table` does.

    `known` are the faults of the reading, which are not told again.
    """
    found: list[Fault] = []
    short_rows = {fault.row for fault in known}  # their missing cells are told already
    table = cells[[name for name in schema.columns if name in cells]].copy()
    cases = []  # of row, column and failed check
    for column in table.columns:
        if str(schema.columns[column].dtype) == "float64":
            table[column] = pd.to_numeric(cells[column], errors="coerce").astype("float64")
            unread = table.index[table[column].isna() & cells[column].notna()]
            cases += [(row, column, "number") for row in unread]
    try:
        schema.validate(table, lazy=True)
    except pandera.errors.SchemaErrors as error:
        failed = error.failure_cases[["index", "column", "check"]].dropna()
        cases += failed.itertuples(index=False, name=None)
    for name in schema.columns:
        if name not in cells:
            found.append(_missing_column(name, list(cells.columns), file))
    not_one_hot = set()
    places = {name: place for place, name in enumerate(table.columns)}
    for row, column, check in sorted(cases, key=lambda case: (case[0], places[case[1]])):
        row, text = int(row), cells.at[row, column]
        if text is None and row in short_rows:
            continue
        if check == "one_hot" or column in CLASSES:
            if row not in not_one_hot:
                not_one_hot.add(row)
                found.append(_class_fault(cells.loc[row], file))
        elif (text is None) == (check == "not_nullable"):  # an unread number is told as that
            kind, *told = _cell_fault(cells[column], text, check, schema.columns[column])
            found.append(Fault(kind, file, row, *told))
    return table, found


def read_cells(path: Path) -> tuple[pd.DataFrame | None, list[Fault]]:
    """Read the cells of a CSV file as text, None where one is empty, under their line numbers.

    Rows of the wrong length are faults, and padded or cut. The table is None if the file is missing
    or no CSV file.
    """
    header, numbered, found = read_rows(path)
    rows = {}

    def unreadable(row: int | None, message: str, remedy: str) -> None:
        found.append(Fault(kinds.UNREADABLE_CSV, path.name, row, message, remedy))

    for line, fields in numbered:
        if not any(field.strip() for field in fields):
            continue  # a row of empty cells below a spreadsheet's last
        if len(fields) != len(header):
            message = f"has {len(fields)} fields where the header has {len(header)}"
            unreadable(line, message, "complete the row")
            fields = (fields + [""] * len(header))[: len(header)]
        rows[line] = [None if field.strip() in MISSING else field for field in fields]
    if not rows:
        if not found:
            unreadable(None, "has a header but no rows", _FILL)
        return None, found
    cells = pd.DataFrame(list(rows.values()), list(rows), header, dtype=object)
    repeated = cells.columns.duplicated()
    for column in cells.columns[repeated]:
        unreadable(1, f"names the column {column!r} twice", "keep one of the two columns")
    return cells.loc[:, ~repeated], found


def read_rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]], list[Fault]]:
    """Read a CSV file: its header, its rows under their line numbers, and why it could not be read.

    Blank lines are left out.
    """

    def failed(message: str, remedy: str, row: int | None = None, kind=kinds.UNREADABLE_CSV):
        return [], [], [Fault(kind, path.name, row, message, remedy)]

    rows: list[tuple[int, list[str]]] = []
    line = 0
    try:
        content = read_regular(path)
        if b"\0" in content:
            return failed("holds zero bytes, as a workbook or UTF-16 text", _SAVE)
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        for fields in reader:
            if len(fields) > 1 or any(field.strip() for field in fields):
                rows.append((line + 1, fields))
            line = reader.line_num
    except FileNotFoundError:
        return failed("there is no such file", "check the path", kind=kinds.MISSING_CSV)
    except UnicodeDecodeError as error:
        return failed(f"is not UTF-8 text ({error.reason} at byte {error.start})", _SAVE)
    except OSError as error:
        remedy = "make it a plain file that you may read"
        return failed(f"cannot be read ({error.strerror})", remedy)
    except csv.Error as error:
        remedy = "close every quotation mark in the row"
        return failed(f"is not valid CSV ({error})", remedy, line + 1)
    if not rows:
        return failed("is empty", _FILL)
    line, header = rows[0]
    if len(header) == 1 and re.search("[;\t]", header[0]):
        remedy = "save the table with commas between the columns"
        return failed("has no commas between the columns", remedy, line)
    return header, rows[1:], []


def _missing_column(column: str, present: list[str], file: str) -> Fault:
    folded = {name.strip().lower(): name for name in present}
    near = difflib.get_close_matches(column.lower(), folded, n=1, cutoff=0.8)
    remedy = "restore the column from the official file"
    if near and folded[near[0]] != column:
        remedy = f"rename the column {folded[near[0]]!r} to {column!r}"
    return Fault(kinds.MISSING_COLUMN, file, None, f"has no column {column!r}", remedy)


def _class_fault(row: pd.Series, file: str) -> Fault:
    values = {code: row[code] for code in CLASSES if code in row}
    notable = {code: text for code, text in values.items() if text not in ("0", "0.0")}
    given = ", ".join(f"{code}={text or 'empty'}" for code, text in notable.items())
    message = f"lesion {row.get('lesion_id')} has {given or 'no class set'}"
    remedy = "write 1 for the lesion's one class and 0 for every other"
    return Fault(kinds.NOT_ONE_HOT, file, int(row.name), message, remedy)


def _cell_fault(
    column: pd.Series, text: str | None, check: str, rule: pa.Column
) -> tuple[str, str, str]:
    """Say what kind of fault a cell has, what is wrong with it, and what to do."""
    name = column.name
    or_empty = ", or leave the cell empty" if rule.nullable else ""
    if check == "not_nullable":
        remedy = "fill it in: this column has a value in every row"
        return kinds.MISSING_VALUE, f"{name} is empty", remedy
    if check == "number":
        remedy = f"write {name} as a plain number such as 45 or 0.5{or_empty}"
        return kinds.NOT_A_NUMBER, f"{name} is {text!r}, which is not a number", remedy
    if check == "field_uniqueness":
        kind = kinds.DUPLICATE_ISIC_ID if name == "isic_id" else kinds.DUPLICATE_LESION_ID
        message = f"{name} {text!r} is in row {column.index[column == text][0]} already"
        return kind, message, "remove one of the rows, or correct its id"
    if name.endswith("_id"):
        message = f"{name} {text!r} is not the name of a single file or folder"
        return kinds.UNSAFE_ID, message, "give every id once, made of letters, digits, '_' and '-'"
    statistics = rule.checks[0].statistics
    if "min_value" in statistics:
        low, high = statistics["min_value"], statistics["max_value"]
        message = f"{name} is {text}, outside {low} to {high}"
        return kinds.OUT_OF_RANGE, message, f"give {name} between {low} and {high}"
    allowed = [str(value) for value in statistics["allowed_values"]]
    near = difflib.get_close_matches(text.strip().lower(), allowed, n=1, cutoff=0.6)
    remedy = f"write {near[0]!r}" if near else "write one of these values"
    message = f"{name} is {text!r}, not one of: {', '.join(allowed)}"
    return kinds.UNKNOWN_CATEGORY, message, remedy + or_empty

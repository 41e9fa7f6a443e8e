"""The live benchmark's submission file: writing it, reading it, and saying what is wrong with it.

A submission is a CSV with the columns ``lesion_id`` and the eleven classes in the order of
:data:`jiadf.data.schema.CLASSES`, one row a lesion, every cell a probability in [0, 1].  Rows need
not sum to 1.  The ground truth has the same columns, with one 1 a row and 0 elsewhere.

    >>> from jiadf.submission.benchmark_file import score_files
    >>> score_files("predictions.csv", "MILK10k_Training_GroundTruth.csv")  # doctest: +SKIP

All faults of a file are found in one pass and raised together, each naming file, row and remedy.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from jiadf.data import faults as kinds
from jiadf.data.faults import DataError, Fault, format_faults
from jiadf.data.schema import CLASSES
from jiadf.evaluation.metrics import score
from jiadf.files import atomic

COLUMNS = ("lesion_id", *CLASSES)
UNKNOWN_COLUMN = "unknown column"
COLUMN_ORDER = "columns out of order"
ROW_LENGTH = "wrong number of cells"
UNKNOWN_LESION = "unknown lesion"
MISSING_LESION = "missing lesion"
_ROUNDING = 1e-6  # what single precision may leave outside [0, 1]


class SubmissionError(DataError):
    """A submission or ground truth cannot be used; ``faults`` lists everything wrong with it."""

    def _text(self) -> str:
        return format_faults(self.faults, examples=max(self.shown, 1))


@dataclass
class _Parsed:
    """What could be read of a file, and all that is wrong with it."""

    file: str
    lines: dict[str, int] = field(default_factory=dict)  # lesion -> line of its first row
    values: list[list[float]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def fault(self, kind: str, row: int | None, message: str, remedy: str) -> None:
        self.faults.append(Fault(kind, self.file, row, message, remedy))

    def frame(self) -> pd.DataFrame:
        index = pd.Index(list(self.lines), name="lesion_id", dtype=object)
        return pd.DataFrame(np.reshape(self.values, (-1, len(CLASSES))), index, list(CLASSES))


def _check_header(parsed: _Parsed, header: Sequence[str]) -> dict[str, int]:
    """Add the header's faults; return the position of each column that can be read."""
    expected = "the columns are " + ",".join(COLUMNS)
    missing = [name for name in COLUMNS if name not in header]
    extra = [name for name in dict.fromkeys(header) if name not in COLUMNS]
    repeated = [name for name in COLUMNS if list(header).count(name) > 1]
    if missing:
        parsed.fault(kinds.MISSING_COLUMN, 1, f"no column {', '.join(missing)}", expected)
    if extra:
        names = ", ".join(map(repr, extra))
        parsed.fault(UNKNOWN_COLUMN, 1, f"unknown column {names}", f"remove it; {expected}")
    if repeated:
        names = ", ".join(repeated)
        parsed.fault(UNKNOWN_COLUMN, 1, f"repeated column {names}", "keep one of each")
    if not (missing or extra or repeated) and tuple(header) != COLUMNS:
        parsed.fault(COLUMN_ORDER, 1, f"the order is {','.join(header)}", expected)
    return {name: list(header).index(name) for name in COLUMNS if name in header}


def _check_cell(parsed: _Parsed, line: int, name: str, text: str, truth: bool) -> float:
    """Add the faults of one cell; return its value, NaN if it has none."""
    allowed = "0 or 1" if truth else "a probability in [0, 1]"
    try:
        value = float(text)
    except ValueError:
        what = f"{name} is {text!r}" if text.strip() else f"{name} is empty"
        parsed.fault(kinds.NOT_A_NUMBER, line, what, f"give {allowed}")
        return math.nan
    if not math.isfinite(value):
        parsed.fault(kinds.NOT_A_NUMBER, line, f"{name} is {text}", f"give {allowed}")
        return math.nan
    if not 0 <= value <= 1:
        parsed.fault(kinds.OUT_OF_RANGE, line, f"{name} is {text}", f"give {allowed}")
        return math.nan
    return value


def _check_row(
    parsed: _Parsed, line: int, cells: Sequence[str], where: dict[str, int], truth: bool
) -> None:
    lesion = cells[where["lesion_id"]] if "lesion_id" in where else None
    if lesion is not None and not lesion.strip():
        parsed.fault(kinds.MISSING_VALUE, line, "lesion_id is empty", "give the lesion's id")
    elif lesion in parsed.lines:
        first = parsed.lines[lesion]
        parsed.fault(
            kinds.DUPLICATE_LESION_ID,
            line,
            f"lesion {lesion} is already in row {first}",
            "keep one row a lesion",
        )
    values = [
        _check_cell(parsed, line, name, cells[where[name]], truth) if name in where else math.nan
        for name in CLASSES
    ]
    if (
        truth
        and not any(map(math.isnan, values))
        and (values.count(1), values.count(0)) != (1, len(CLASSES) - 1)
    ):
        parsed.fault(
            kinds.NOT_ONE_HOT,
            line,
            f"the classes sum to {sum(values):g}, with {values.count(1)} of them at 1",
            "give 1 to exactly one class and 0 to the others",
        )
    if lesion is not None and lesion not in parsed.lines:
        parsed.lines[lesion] = line
        parsed.values.append(values)


def _check_rows(
    file: str, rows: Iterable[tuple[int, Sequence[str]]], truth: bool = False
) -> _Parsed:
    """Check numbered rows of cells, the first being the header."""
    parsed, where, width = _Parsed(file), None, 0
    for line, cells in rows:
        if not cells:
            continue
        if where is None:
            where, width = _check_header(parsed, cells), len(cells)
        elif len(cells) != width:
            message = f"{len(cells)} cells under a header of {width}"
            parsed.fault(ROW_LENGTH, line, message, "give one cell a column")
        else:
            _check_row(parsed, line, cells, where, truth)
    if not parsed.lines and not parsed.faults:
        parsed.fault(kinds.UNREADABLE_CSV, None, "no rows", "give a header and a row a lesion")
    return parsed


def _parse(path: str | Path, truth: bool = False) -> _Parsed:
    path = Path(path)
    failed = _Parsed(str(path))
    if not path.is_file():
        failed.fault(kinds.MISSING_CSV, None, "there is no such file", "check the path")
        return failed
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            return _check_rows(str(path), ((reader.line_num, row) for row in reader), truth)
    except (UnicodeDecodeError, csv.Error) as error:
        failed.fault(kinds.UNREADABLE_CSV, None, str(error), "save it as a CSV in UTF-8")
        return failed


def _check_lesions(parsed: _Parsed, lesions: Iterable[str], source: str) -> None:
    """Add a fault for each lesion that is not among `lesions`, and for each that is missing."""
    expected = dict.fromkeys(lesions)
    if not parsed.lines:  # nothing could be read, which is a fault already
        return
    for lesion, line in parsed.lines.items():
        if lesion.strip() and lesion not in expected:
            parsed.fault(
                UNKNOWN_LESION, line, f"lesion {lesion!r} is not in {source}", "remove the row"
            )
    for lesion in expected:
        if lesion not in parsed.lines:
            message = f"lesion {lesion!r} of {source} has no row"
            parsed.fault(MISSING_LESION, None, message, "predict every lesion once")


def validate_submission(
    path: str | Path, lesions: Iterable[str] | None = None, source: str = "the lesions asked for"
) -> list[Fault]:
    """Find everything wrong with a submission file.

    Parameters
    ----------
    path : path
        The CSV.
    lesions : iterable of str, optional
        The lesions that must be there, each once, and no others; not checked if not given.
    source : str
        Where `lesions` come from, for the messages.

    Returns
    -------
    list of Fault
        Empty where the file can be submitted.
    """
    parsed = _parse(path)
    if lesions is not None:
        _check_lesions(parsed, lesions, source)
    return parsed.faults


def read_submission(path: str | Path) -> pd.DataFrame:
    """Read a submission.

    Returns
    -------
    DataFrame
        Index ``lesion_id`` in the file's order, the eleven classes as columns, probabilities.

    Raises
    ------
    SubmissionError
        A DataError, with every fault of the file.
    """
    parsed = _parse(path)
    if parsed.faults:
        raise SubmissionError(parsed.faults)
    return parsed.frame()


def read_truth(path: str | Path) -> pd.DataFrame:
    """Read a ground truth: as :func:`read_submission`, and each row must be one-hot."""
    parsed = _parse(path, truth=True)
    if parsed.faults:
        raise SubmissionError(parsed.faults)
    return parsed.frame()


def write_submission(path: str | Path, lesion_ids: Sequence[str], prob) -> Path:
    """Write a submission, whole or not at all.

    Parameters
    ----------
    path : path
        The CSV, replaced if it exists; its folder is made if it does not.
    lesion_ids : sequence of N str
    prob : (N, 11) float array
        Columns in the order of ``CLASSES``.  Values less than 1e-6 outside [0, 1], which single
        precision leaves behind, are put on the bound; all others are written in full, so that none
        crosses the benchmark's threshold by rounding, and with a decimal point, which the
        benchmark's scorer asks for.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    SubmissionError
        If what was to be written could not be submitted; nothing is written.
    ValueError
        If the shapes do not fit.
    """
    path = Path(path)
    prob = np.asarray(prob, dtype=float)
    if prob.shape != (len(lesion_ids), len(CLASSES)):
        raise ValueError(
            f"prob has shape {prob.shape}; for {len(lesion_ids)} lesions it must be "
            f"({len(lesion_ids)}, {len(CLASSES)})"
        )
    near = (prob > -_ROUNDING) & (prob < 1 + _ROUNDING)
    prob = np.where(near, np.clip(prob, 0, 1), prob)
    rows = [list(COLUMNS)]
    rows += [
        [str(lesion), *map(repr, values)]
        for lesion, values in zip(lesion_ids, prob.tolist(), strict=True)
    ]
    parsed = _check_rows(str(path), enumerate(rows, start=1))
    if parsed.faults:
        raise SubmissionError(parsed.faults)
    with atomic(path) as staged, staged.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)
    return path


def score_files(
    prediction: str | Path, truth: str | Path, lesions: Iterable[str] | None = None
) -> dict:
    """Score a submission against a ground truth.

    Parameters
    ----------
    prediction, truth : path
        The two CSV files; rows may be in any order.
    lesions : iterable of str, optional
        Score these lesions only, whatever else the two files hold (e.g. a validation part).  If
        not given, the two files must hold the same lesions.

    Returns
    -------
    dict
        ``lesions`` (their number), ``summary`` and ``per_class`` of
        :func:`jiadf.evaluation.metrics.score`.

    Raises
    ------
    SubmissionError
        A DataError, with every fault of both files.
    """
    predicted, known = _parse(prediction), _parse(truth, truth=True)
    if lesions is None:
        wanted = list(known.lines)
        if wanted:
            _check_lesions(predicted, wanted, known.file)
    else:
        wanted = list(dict.fromkeys(lesions))
        for parsed in (predicted, known):
            absent = [lesion for lesion in wanted if lesion not in parsed.lines]
            for lesion in absent if parsed.lines else ():
                message = f"lesion {lesion!r}, to be scored, has no row"
                parsed.fault(MISSING_LESION, None, message, "add it, or do not ask for it")
    if faults := predicted.faults + known.faults:
        raise SubmissionError(faults)
    labels = known.frame().loc[wanted].to_numpy().argmax(axis=1)
    return {"lesions": len(wanted), **score(labels, predicted.frame().loc[wanted].to_numpy())}

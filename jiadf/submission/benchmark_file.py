"""The live benchmark's submission file: writing it, reading it, and saying what is wrong with it.

A submission is a CSV with the columns ``lesion_id`` and the eleven classes, one row a lesion, every
cell a probability in [0, 1]. Rows need not sum to 1. The ground truth has the same columns, with
one 1 a row and 0 elsewhere.

    >>> score_files("predictions.csv", "MILK10k_Training_GroundTruth.csv")  # doctest: +SKIP

What is accepted is what the benchmark's own scorer, ``isic-challenge-scoring``, accepts: columns
in any order, ids that end in ``.jpg``, cells beyond the header's in all rows (which it does not
read); no column of whole numbers only, which it takes for another type. The tests hold every rule
to its verdicts. All faults of a file are found in one pass and raised together.
"""

import csv
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from jiadf.data import faults as kinds
from jiadf.data.faults import DataError, Fault
from jiadf.data.schema import CLASSES
from jiadf.data.tables import read_rows
from jiadf.evaluation.metrics import score
from jiadf.files import atomic

COLUMNS = ("lesion_id", *CLASSES)
UNKNOWN_COLUMN = "unknown column"
ROW_LENGTH = "wrong number of cells"
UNKNOWN_LESION = "unknown lesion"
MISSING_LESION = "missing lesion"
WHOLE_NUMBERS = "whole numbers only"
_ROUNDING = 1e-6  # what single precision may leave outside [0, 1]
_BLANK = r"[ \t\r\n]*"
_NUMBER = re.compile(_BLANK + r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?" + _BLANK)
_WHOLE = re.compile(_BLANK + r"[+-]?[0-9]+" + _BLANK)


class SubmissionError(DataError):
    """A submission or ground truth cannot be used; ``faults`` lists everything wrong with it."""


class _Parsed:
    """What could be read of a file, and all that is wrong with it."""

    def __init__(self, file: str | Path, truth: bool = False) -> None:
        self.file, self.truth = str(file), truth
        self.rows: dict[str, int] = {}  # lesion -> its first row
        self.values: list[list[float]] = []
        self.faults: list[Fault] = []

    def fault(self, kind: str, row: int | None, message: str, remedy: str) -> None:
        self.faults.append(Fault(kind, self.file, row, message, remedy))

    def frame(self) -> pd.DataFrame:
        if self.faults:
            raise SubmissionError(self.faults)
        index = pd.Index(list(self.rows), name="lesion_id", dtype=object)
        return pd.DataFrame(np.reshape(self.values, (-1, len(CLASSES))), index, list(CLASSES))

    def check_header(self, header: Sequence[str]) -> None:
        expected = "the columns are " + ",".join(COLUMNS)
        if missing := [name for name in COLUMNS if name not in header]:
            self.fault(kinds.MISSING_COLUMN, 1, f"no column {', '.join(missing)}", expected)
        if extra := [repr(name) for name in dict.fromkeys(header) if name not in COLUMNS]:
            message = f"unknown column {', '.join(extra)}"
            self.fault(UNKNOWN_COLUMN, 1, message, f"remove it; {expected}")
        if repeated := [name for name in COLUMNS if header.count(name) > 1]:
            message = f"repeated column {', '.join(repeated)}"
            self.fault(UNKNOWN_COLUMN, 1, message, "keep one of each")

    def check_row(self, row: int, cells: dict[str, str]) -> None:
        lesion = re.sub(r"\.jpg$", "", cells.get("lesion_id", ""), flags=re.IGNORECASE)
        if "lesion_id" in cells and not lesion.strip():
            self.fault(kinds.MISSING_VALUE, row, "lesion_id is empty", "give the lesion's id")
        elif lesion in self.rows:
            message = f"lesion {lesion!r} is already in row {self.rows[lesion]}"
            self.fault(kinds.DUPLICATE_LESION_ID, row, message, "keep one row a lesion")
        values = [
            self.check_cell(row, name, cells[name]) if name in cells else math.nan
            for name in CLASSES
        ]
        if self.truth and set(values) <= {0, 1} and values.count(1) != 1:
            message = f"{values.count(1)} of the classes are 1"
            remedy = "give 1 to exactly one class and 0 to the others"
            self.fault(kinds.NOT_ONE_HOT, row, message, remedy)
        if lesion not in self.rows:
            self.rows[lesion] = row
            self.values.append(values)

    def check_cell(self, row: int, name: str, text: str) -> float:
        """Add the faults of one cell; return its value, NaN if it has none."""
        allowed = "give 0 or 1" if self.truth else "give a probability in [0, 1]"
        if _NUMBER.fullmatch(text):
            value = float(text)
            if 0 <= value <= 1 and not (self.truth and value % 1):
                return value
            self.fault(kinds.OUT_OF_RANGE, row, f"{name} is {text}", allowed)
        else:
            what = repr(text) if text.strip() else "empty"
            self.fault(kinds.NOT_A_NUMBER, row, f"{name} is {what}", allowed)
        return math.nan

    def check_lesions(self, lesions: Iterable[str], source: str) -> None:
        """Add a fault for each lesion that is not among `lesions`, and for each that is missing."""
        expected = dict.fromkeys(lesions)
        if not self.rows:  # nothing could be read, which is a fault already
            return
        for lesion, row in self.rows.items():
            if lesion.strip() and lesion not in expected:
                message = f"lesion {lesion!r} is not in {source}"
                self.fault(UNKNOWN_LESION, row, message, "remove the row")
        for lesion in expected:
            if lesion not in self.rows:
                message = f"lesion {lesion!r} of {source} has no row"
                self.fault(MISSING_LESION, None, message, "predict every lesion once")


def _parse(path: str | Path, truth: bool = False, strict: bool = False) -> _Parsed:
    """Read a file; `strict` asks for what only the benchmark's scorer needs, too."""
    parsed = _Parsed(path, truth)
    header, rows, faults = read_rows(Path(path))
    for fault in faults:
        parsed.fault(fault.kind, fault.row, fault.message, fault.remedy)
    if faults:
        return parsed
    if not rows:
        parsed.fault(kinds.UNREADABLE_CSV, None, "no rows", "give a header and a row a lesion")
        return parsed
    parsed.check_header(header)
    width = max(len(header), len(rows[0][1]))
    for row, cells in rows:
        if len(header) <= len(cells) <= width:
            parsed.check_row(row, dict(zip(header, cells, strict=False)))
        else:
            message = f"{len(cells)} cells under a header of {len(header)}"
            parsed.fault(ROW_LENGTH, row, message, "give one cell a column")
    if not strict:
        return parsed
    with Path(path).open(encoding="utf-8") as stream:
        few = stream.read(2000).count("\n") < 2
    if few:
        message = "has fewer than two line ends in its first 2000 characters"
        parsed.fault(kinds.UNREADABLE_CSV, None, message, "end the last line, too")
    for name in [name for name in CLASSES if name in header]:
        place = header.index(name)
        if all(_WHOLE.fullmatch("".join(cells[place : place + 1])) for _, cells in rows):
            message = f"{name} has no decimal point in any row, so the scorer refuses it"
            remedy = "write 0.0 for 0 in one row at least; `jiadf validate --rewrite` does it"
            parsed.fault(WHOLE_NUMBERS, None, message, remedy)
    return parsed


def validate_submission(
    path: str | Path, lesions: Iterable[str] | None = None, source: str = "the lesions asked for"
) -> list[Fault]:
    """Find everything that the benchmark's scorer would refuse in a submission file.

    `lesions`, of which messages speak as `source`, must be there, each once, and no others; None
    leaves that unchecked. A file without faults can be submitted.
    """
    parsed = _parse(path, strict=True)
    if lesions is not None:
        parsed.check_lesions(lesions, source)
    return parsed.faults


def read_submission(path: str | Path) -> pd.DataFrame:
    """Read a submission: the classes under ``lesion_id``, in the file's order.

    All faults of the file come in one SubmissionError; columns of whole numbers are none.
    """
    return _parse(path).frame()


def read_truth(path: str | Path) -> pd.DataFrame:
    """Read a ground truth: as :func:`read_submission`, and each row must be one-hot."""
    return _parse(path, truth=True).frame()


def write_submission(path: str | Path, lesion_ids: Sequence[str], y_prob) -> Path:
    """Write a submission, whole or not at all.

    Values less than 1e-6 outside [0, 1], which single precision leaves behind, are put on the
    bound. All others are written in full, so that none crosses the benchmark's threshold by
    rounding, and with a decimal point, which the benchmark's scorer asks for.

    Columns of ``y_prob`` (N, 11) are in the order of ``CLASSES``.

    Raises
    ------
    SubmissionError
        If what was to be written could not be submitted; nothing is written.
    """
    y_prob = np.asarray(y_prob, dtype=float)
    near = (y_prob > -_ROUNDING) & (y_prob < 1 + _ROUNDING)
    y_prob = np.where(near, np.clip(y_prob, 0, 1), y_prob)
    parsed, rows = _Parsed(path), [list(COLUMNS)]
    for lesion, values in zip(map(str, lesion_ids), y_prob.tolist(), strict=True):
        rows.append([lesion, *map(repr, values)])
        parsed.check_row(len(rows), dict(zip(COLUMNS, rows[-1], strict=True)))
    parsed.frame()
    with atomic(Path(path)) as staged, staged.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)
    return Path(path)


def score_files(
    prediction: str | Path, truth: str | Path, lesions: Iterable[str] | None = None
) -> dict:
    """Score a submission against a ground truth, whose rows may be in any order.

    With `lesions` these are scored, whatever else the two files hold; else the two must hold the
    same lesions. All faults of both come in one SubmissionError.

    Returns
    -------
    dict
        ``lesions`` (their number), ``summary`` and ``per_class`` of
        :func:`jiadf.evaluation.metrics.score`, with None for what is undefined, and ``undefined``:
        by class, why its AUC is.
    """
    predicted, known = _parse(prediction), _parse(truth, truth=True)
    if lesions is None:
        wanted = list(known.rows)
        if wanted:
            predicted.check_lesions(wanted, known.file)
    else:
        wanted = list(dict.fromkeys(lesions))
        for parsed in (predicted, known):
            for lesion in wanted if parsed.rows else ():
                if lesion not in parsed.rows:
                    message = f"lesion {lesion!r}, to be scored, has no row"
                    remedy = "add it, or do not ask for it"
                    parsed.fault(MISSING_LESION, None, message, remedy)
    if faults := predicted.faults + known.faults:
        raise SubmissionError(faults)
    labels = known.frame().loc[wanted].to_numpy().argmax(axis=1)
    counts = dict(zip(CLASSES, np.bincount(labels, minlength=len(CLASSES)), strict=True))
    undefined = {code: "no lesion is of this class" for code, count in counts.items() if not count}
    undefined |= {code: "every lesion is" for code in CLASSES if counts[code] == len(labels)}
    scores = score(labels, predicted.frame().loc[wanted].to_numpy())
    return {"lesions": len(wanted), **scores, "undefined": undefined}

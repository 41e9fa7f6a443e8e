"""Submissions altered in many ways, and the verdict of the benchmark's own scorer on each.

``isic-challenge-scoring`` 5.6.0 does not run beside pandas 3 (it calls ``DataFrame.applymap``), so
its verdicts are recorded in ``scorer_verdicts.json``, made where it runs, with pandas 2.2.3::

    python -m pip install --target /tmp/pandas2 pandas==2.2.3 numpy==1.26.4
    PYTHONPATH=/tmp/pandas2:. python tests/submission/scorer_verdicts.py

The scorer calls the column of ids ``image``; MILK10k calls it ``lesion_id``.
"""

import json
import sys
from pathlib import Path

CLASSES = ["AKIEC", "BCC", "BEN_OTH", "BKL", "DF", "INF", "MAL_OTH", "MEL", "NV", "SCCKA", "VASC"]
LESIONS = ["IL_0000001", "IL_0000002", "IL_0000003"]
RECORDED = Path(__file__).with_suffix(".json")


def _text(rows: list[list[str]], end: str = "\n", between: str = ",") -> bytes:
    return "".join(between.join(row) + end for row in rows).encode()


def variants() -> dict[str, bytes]:
    """Return altered submissions by what was done to them."""
    header = ["lesion_id", *CLASSES]
    good = [header] + [[i, "0.5", *["0.05"] * 9, "0.1"] for i in LESIONS]

    def cell(value: str, column: int = 3, row: int = 2) -> bytes:
        rows = [list(r) for r in good]
        rows[row][column] = value
        return _text(rows)

    def column(values: list[str], place: int = 3) -> bytes:
        rows = [list(r) for r in good]
        for row, value in zip(rows[1:], values, strict=True):
            row[place] = value
        return _text(rows)

    def with_rows(*rows: list[str]) -> bytes:
        return _text([*good, *rows])

    def head(*names: str) -> bytes:
        return _text([list(names), *good[1:]])

    order = [0, 3, 2, 1, *range(4, 12)]
    made = {
        "as it is": _text(good),
        "carriage returns and line feeds": _text(good, "\r\n"),
        "carriage returns": _text(good, "\r"),
        "no line feed at the end": _text(good)[:-1],
        "byte order mark": b"\xef\xbb\xbf" + _text(good),
        "UTF-16": _text(good).decode().encode("utf-16"),
        "Latin-1 in an id": _text(good).replace(b"IL_0000002", b"IL_\xe90002"),
        "empty": b"",
        "blank": b"\n\n\n",
        "header only": _text([header]),
        "one line": _text(good[:2])[:-1],
        "semicolons": _text(good, between=";"),
        "tabs": _text(good, between="\t"),
        "comma and space": _text(good, between=", "),
        "blank line inside": _text(good[:2]) + b"\n" + _text(good[2:]),
        "line of spaces inside": _text(good[:2]) + b"   \n" + _text(good[2:]),
        "blank lines before": b"\n\n" + _text(good),
        "row of commas": with_rows([""] * 12),
        "quoted ids": _text([[f'"{r[0]}"', *r[1:]] for r in good]),
        "everything quoted": _text([[f'"{c}"' for c in r] for r in good]),
        "quote not closed": _text(good).replace(b"IL_0000002", b'"IL_0000002'),
        "null byte": _text(good).replace(b"0.1\n", b"0.1\0\n", 1),
        "columns reordered": _text([[row[i] for i in order] for row in good]),
        "id last": _text([[*row[1:], row[0]] for row in good]),
        "rows reordered": _text([good[0], *reversed(good[1:])]),
        "row missing": _text(good[:-1]),
        "row of an unknown lesion": with_rows(["IL_9999999", *good[1][1:]]),
        "row twice": with_rows(good[1]),
        "row twice with another value": with_rows([LESIONS[0], "0.4", *good[1][2:]]),
        "ids with .jpg": _text([header] + [[f"{r[0]}.jpg", *r[1:]] for r in good[1:]]),
        "ids with .JPG": _text([header] + [[f"{r[0]}.JPG", *r[1:]] for r in good[1:]]),
        "ids with .png": _text([header] + [[f"{r[0]}.png", *r[1:]] for r in good[1:]]),
        "ids with .jpg.jpg": _text([header] + [[f"{r[0]}.jpg.jpg", *r[1:]] for r in good[1:]]),
        "id twice, once with .jpg": with_rows([f"{LESIONS[0]}.jpg", *good[1][1:]]),
        "ids in lower case": _text([header] + [[r[0].lower(), *r[1:]] for r in good[1:]]),
        "id after a space": cell(f" {LESIONS[1]}", 0),
        "id before a space": cell(f"{LESIONS[1]} ", 0),
        "id empty": cell("", 0),
        "id NA": cell("NA", 0),
        "class missing": _text([row[:-1] for row in good]),
        "class twice": _text([[*row, row[1]] for row in good]),
        "id missing": _text([row[1:] for row in good]),
        "column more": _text([[*r, "note" if r is good[0] else "0.5"] for r in good]),
        "empty column more": _text([[*row, ""] for row in good]),
        "index column": _text([["" if not n else str(n), *r] for n, r in enumerate(good)]),
        "classes in lower case": head("lesion_id", *map(str.lower, CLASSES)),
        "spaces in the header": head("lesion_id", *(f" {c}" for c in CLASSES)),
        "class misspelt": head("lesion_id", "AKIES", *CLASSES[1:]),
        "id column in capitals": head("LESION_ID", *CLASSES),
        "no header": _text(good[1:]),
        "header twice": _text([header, *good]),
        "empty cell more in every row": _text([good[0], *([*r, ""] for r in good[1:])]),
        "cell more in every row": _text([good[0], *([*r, "0.3"] for r in good[1:])]),
        "two empty cells more in every row": _text([good[0], *([*r, "", ""] for r in good[1:])]),
        "empty cell more in the first row": _text([header, [*good[1], ""], *good[2:]]),
        "empty cell more in the second row": _text([*good[:2], [*good[2], ""], good[3]]),
        "cell more in the last row": _text([*good[:3], [*good[3], "0.3"]]),
        "cell less": _text([*good[:2], good[2][:-1], good[3]]),
        "column of 0 and 1": column(["0", "1", "0"]),
        "column of 0": column(["0", "0", "0"]),
        "column of 0 and one 0.0": column(["0", "0.0", "0"]),
        "column of 1 with spaces": column([" 1", "1 ", "1"]),
        "column of +1": column(["+1", "+1", "+1"]),
        "column of 0e0": column(["0e0", "1e0", "0e0"]),
        "column of 0.": column(["0.", "1.", "0."]),
        "column of truth values": column(["True", "False", "True"]),
        "column of truth values, lower case": column(["true", "false", "true"]),
        "column empty": column(["", "", ""]),
        "percent": cell("50%"),
        "decimal comma quoted": cell('"0,5"'),
        "more than 1": cell("1.0000001"),
        "1 and a little that floats lose": cell("1.00000000000000000001"),
        "below 0": cell("-0.0001"),
        "minus 0": cell("-0.0"),
        "leading plus": cell("+0.5"),
        "leading point": cell(".5"),
        "trailing point": cell("1."),
        "exponent": cell("5e-1"),
        "exponent in capitals": cell("5E-01"),
        "exponent of Fortran": cell("5d-1"),
        "a very small number": cell("1e-400"),
        "a very large number": cell("1e400"),
        "many digits": cell("0.5" + "0" * 400),
        "underscore": cell("0_0.5"),
        "full-width digits": cell("０.５"),
        "Arabic digits": cell("٠.٥"),
        "hexadecimal": cell("0x1p-1"),
        "fraction": cell("1/2"),
        "spaces around a number": cell("  0.5  "),
        "tab before a number": cell("\t0.5"),
        "no-break space before a number": cell("\u00a00.5"),
        "line feed in a quoted number": cell('"0.5\n"'),
        "space inside a number": cell("0. 5"),
        "letters": cell("high"),
        "dash": cell("-"),
        "nothing": cell(""),
        "space": cell(" "),
        "true": cell("True"),
    }
    missing = ["nan", "NaN", "NA", "N/A", "#N/A", "null", "None", "inf", "-inf", "Infinity"]
    return made | {f"cell {word}": cell(word) for word in missing}


def _official(content: bytes, folder: Path) -> str | None:
    """Return what the scorer says against a submission, None if it takes it."""
    import pandas as pd
    from isic_challenge_scoring.load_csv import parse_csv, validate_rows
    from isic_challenge_scoring.types import ScoreError

    path = folder / "submission.csv"
    path.write_bytes(content.replace(b"lesion_id", b"image"))
    truth = pd.DataFrame(0.0, LESIONS, CLASSES)
    try:
        with path.open() as stream:
            validate_rows(truth, parse_csv(stream, truth.columns))
    except ScoreError as error:
        return str(error)
    except Exception as error:
        return f"crashes: {type(error).__name__}: {error}"
    return None


if __name__ == "__main__":
    import tempfile
    import warnings

    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        said = {name: _official(content, Path(folder)) for name, content in variants().items()}
    RECORDED.write_text(json.dumps(said, indent=1, ensure_ascii=False) + "\n")
    accepted = sum(reason is None for reason in said.values())
    sys.stdout.write(f"{len(said)} submissions, {accepted} accepted\n")

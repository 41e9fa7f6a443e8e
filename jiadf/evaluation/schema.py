"""The tables of a record: their columns, checked whenever they are written or read.

A record of predictions has a row a system, seed and lesion:

==================== ============================================================================
``fold``             the fold whose network scored it, and that took nothing from it
``AKIEC`` … ``VASC`` probability of the class, to four decimals
``joint_AKIEC`` …    the branch's own, null where a system has no such branch; so for each of
                     :data:`BRANCHES`
``weight_joint`` …   weight of the branch in the decision, null likewise
==================== ============================================================================

The lesions of all records of a folder stand in one table more, ``lesions.parquet``.
"""

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd
import pandera.errors
import pandera.pandas as pa

from jiadf.data.schema import AGE_RANGE, CLASSES, SEXES, SITES, SKIN_TONES

BRANCHES = ("image", "clinical", "dermoscopic", "metadata", "joint")
KEYS = ("system", "seed", "lesion_id")
DECIMALS = 4
TOLERANCE = 0.002  # of a sum of rounded probabilities
SHOWN = 5  # faults that a message spells out


class RecordError(ValueError):
    """A record cannot be written or used; the message names file, place and remedy."""


def branch_columns(branch: str) -> list[str]:
    """Return the columns of a branch's eleven probabilities, e.g. ``joint_MEL``."""
    return [f"{branch}_{code}" for code in CLASSES]


def _name() -> pa.Column:
    return pa.Column(str, pa.Check.str_matches(r"\S"), coerce=True)


def _share(**options: bool) -> pa.Column:
    return pa.Column("float32", pa.Check.in_range(0, 1), coerce=True, **options)


def _category(values: Iterable[str], nullable: bool = False) -> pa.Column:
    return pa.Column(str, pa.Check.isin(list(values)), nullable=nullable, coerce=True)


PREDICTIONS = pa.DataFrameSchema(
    {
        "system": _name(),
        "seed": pa.Column("int16", coerce=True),
        "lesion_id": _name(),
        "fold": pa.Column("int8", pa.Check.ge(0), coerce=True),
        **{code: _share() for code in CLASSES},
        **{
            column: _share(nullable=True, required=False)
            for branch in BRANCHES
            for column in (*branch_columns(branch), f"weight_{branch}")
        },
    },
    strict=True,
    name="recorded predictions",
)

LESIONS = pa.DataFrameSchema(
    {
        "lesion_id": pa.Column(str, unique=True, coerce=True),
        "label": _category(CLASSES),
        "fold": pa.Column("int8", pa.Check.ge(0), coerce=True),
        "age_approx": pa.Column(
            "float32", pa.Check.in_range(*AGE_RANGE), nullable=True, coerce=True
        ),
        "sex": _category(SEXES),
        "skin_tone_class": pa.Column("int8", pa.Check.isin(SKIN_TONES), coerce=True),
        "site": _category(SITES, nullable=True),
        "diagnosis_full": pa.Column(str, nullable=True, coerce=True),
        "diagnosis_confirm_type": pa.Column(str, nullable=True, coerce=True),
    },
    strict=True,
    name="lesions",
)


def check_predictions(table: pd.DataFrame, file: str, remedy: str) -> pd.DataFrame:
    """Check a table of predictions and give its columns their types and their order.

    Raises :class:`RecordError` for columns, types, values or keys that a record may not have,
    naming `file` and `remedy`, system, seed and lesion.
    """
    table = _check_columns(table, PREDICTIONS, KEYS, file, remedy)
    twice = np.flatnonzero(table.duplicated(list(KEYS)))
    faults = [f"{_place(table, row, KEYS)}: stands there twice" for row in twice]
    faults += _wrong_sums(table, list(CLASSES), "the probabilities", skipna=False)
    for branch in BRANCHES:
        columns = [column for column in branch_columns(branch) if column in table]
        if lacking := set(branch_columns(branch)) - set(columns) if columns else ():
            faults.append(f"branch {branch!r} has no column {', '.join(sorted(lacking))}")
        what = f"the probabilities of branch {branch!r}"
        faults += _wrong_sums(table, columns, what, skipna=False)
    weights = [column for branch in BRANCHES if (column := f"weight_{branch}") in table]
    faults += _wrong_sums(table, weights, "the branch weights", skipna=True)
    refuse(faults or _uneven(table), file, remedy)
    return table


def check_lesions(table: pd.DataFrame, file: str, remedy: str) -> pd.DataFrame:
    """Check a lesion table likewise; raises as :func:`check_predictions`."""
    return _check_columns(table, LESIONS, ("lesion_id",), file, remedy)


def refuse(faults: list[str], file: str, remedy: str) -> None:
    """Raise :class:`RecordError` if there are faults: the first ones, and how many more."""
    if faults:
        more = [f"… and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
        lines = "\n  ".join([f"{file}:", *faults[:SHOWN], *more])
        raise RecordError(f"{lines}\nRemedy: {remedy}.")


def _check_columns(
    table: pd.DataFrame, schema: pa.DataFrameSchema, keys: Iterable[str], file: str, remedy: str
) -> pd.DataFrame:
    table = table.reset_index(drop=True)
    try:
        table = schema.validate(table, lazy=True)
    except pandera.errors.SchemaErrors as error:
        cases = error.failure_cases
        typed = cases["check"].str.match(r"dtype\(")  # tells again what its coercion tells
        cases = cases if typed.all() else cases[~typed]
        faults = [_message(table, keys, case) for case in cases.itertuples()]
        refuse(list(dict.fromkeys(faults)), file, remedy)
    return table[[name for name in schema.columns if name in table]]


def _message(table: pd.DataFrame, keys: Iterable[str], case) -> str:
    """Say a failure case of pandera in words."""
    value, check = case.failure_case, case.check
    if check == "column_in_dataframe":
        return f"there is no column {value!r}"
    if check == "column_in_schema":
        return f"{value!r} is not a column of a record"
    if pd.isna(case.index):
        return f"column {case.column!r}: {check}, but found {value}"
    value = f"{value:g}" if isinstance(value, float) else value
    kind = re.sub(r"coerce_dtype\('(\w+)'\)", r"is no \1", check)
    reason = {"not_nullable": "is empty", "field_uniqueness": "stands there twice"}.get(kind, kind)
    return f"{_place(table, int(case.index), keys)}: {case.column} = {value}: {reason}"


def _place(table: pd.DataFrame, row: int, keys: Iterable[str]) -> str:
    named = [f"{key.removesuffix('_id')} {table.at[row, key]}" for key in keys if key in table]
    return ", ".join(named)


def _wrong_sums(table: pd.DataFrame, columns: list[str], what: str, skipna: bool) -> list[str]:
    """Tell rows that have some of the values, which do not sum to 1; a gap is told as ``nan``."""
    values = table[columns].astype(np.float64)
    sums = values.sum(axis=1, skipna=skipna)
    wrong = values.notna().any(axis=1) & ~((sums - 1).abs() <= TOLERANCE)
    place = {row: _place(table, row, KEYS) for row in table.index[wrong]}
    return [f"{named}: {what} sum to {sums[row]:.4f}, not 1" for row, named in place.items()]


def _uneven(table: pd.DataFrame) -> list[str]:
    """Tell the systems and seeds that lack a lesion of the others."""
    lacks = table.groupby(list(KEYS), sort=False).size().unstack("lesion_id").isna()
    return [
        f"system {system}, seed {seed}: lacks lesion {lesion}"
        for (system, seed), row in lacks.iterrows()
        for lesion in row.index[row]
    ]

"""Recorded predictions: what every model of a page says of every lesion, in files that are small.

A record is two files, ``NAME.parquet`` with a row a system, seed and lesion
(:mod:`jiadf.evaluation.schema` lists the columns), and ``NAME.json`` with its provenance. Beside
them, once a folder, stands ``lesions.parquet``: label, fold and attributes of each lesion. The
repository keeps its records in ``book/results``; ``jiadf record`` makes them from run folders.

Probabilities have four decimals. One recorded as 0 is read as :data:`LEAST`, the middle of what
rounds to 0, so that logarithms stay finite, and rows are divided by their sum.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from jiadf.data.schema import CLASSES
from jiadf.evaluation.schema import (
    BRANCHES,
    DECIMALS,
    KEYS,
    RecordError,
    branch_columns,
    check_lesions,
    check_predictions,
    refuse,
)
from jiadf.files import atomic

LESIONS_FILE = "lesions.parquet"
LEAST = 0.25 * 10.0**-DECIMALS
LICENCE = "CC BY-NC 4.0, MILK study team"
RECORD_NAMES = {
    "end_to_end": "end to end",
    "end_to_end_views": "end to end, four views",
    "two_stage": "in two stages",
    "two_stage_views": "in two stages, four views",
    "best": "packaged recipe",
    "best_views": "packaged recipe, four views",
    "encoders": "single encoder",
    "finetuned": "fine-tuned features",
}  # the book's own records, as its pages call them
_CHECKOUT = Path(__file__).resolve().parents[2]
_RESTORE = "restore the file with git, or make the record anew with `jiadf record`"


@dataclass(frozen=True, eq=False)
class Predictions:
    """What one model says of N lesions, under S seeds of its training.

    Attributes
    ----------
    y_true
        Class index of each lesion, in the order of :data:`jiadf.data.schema.CLASSES`, int64 (N,).
    y_prob
        Probabilities under the first seed, float64 (N, K); each row sums to 1.
    by_seed
        The same under every seed, float64 (S, N, K).
    seeds
        Ascending.
    branches
        Probabilities of each branch, float64 (S, N, K) by name; empty if not recorded.
    weights
        Branch weights, float64 (S, N, b), in the order of `weight_names`; None if not recorded.
    weight_names
        The b branches that are weighted.
    lesions
        Indexed by ``lesion_id``, in the order of the rows above: ``label``, ``fold``,
        ``age_approx`` (years), ``sex``, ``skin_tone_class`` (0 very dark to 5 very light),
        ``site``, ``diagnosis_full``, ``diagnosis_confirm_type``. Here ``fold`` is that of the
        network that scored the lesion.
    provenance
        Of :func:`load_provenance`.
    """

    y_true: np.ndarray
    y_prob: np.ndarray
    by_seed: np.ndarray
    seeds: tuple[int, ...]
    branches: Mapping[str, np.ndarray]
    weights: np.ndarray | None
    weight_names: tuple[str, ...]
    lesions: pd.DataFrame
    provenance: Mapping[str, Any]

    def __len__(self) -> int:
        """Return the number of lesions."""
        return len(self.y_true)


def results_folder(folder: str | Path | None = None) -> Path:
    """Return the folder of the records: the one given, or the repository's ``book/results``."""
    if folder is None:
        folder = _CHECKOUT / "book" / "results"
        if not folder.is_dir():
            raise RecordError(
                "jiadf is installed without its book, whose records lie in book/results. "
                "Remedy: pass folder=, the folder that holds the records you want."
            )
    if not Path(folder).is_dir():
        raise RecordError(f"{folder}: no such folder. Remedy: give the folder of the records.")
    return Path(folder)


def records(folder: str | Path | None = None) -> list[str]:
    """Return the names of a folder's records of predictions."""
    files = results_folder(folder).glob("*.parquet")
    return sorted(file.stem for file in files if file.name != LESIONS_FILE)


def models(name: str, folder: str | Path | None = None) -> list[str]:
    """Return the systems of a record, in its order; raises as :func:`load_predictions`."""
    column = _read(_record_file(name, folder), columns=["system"])["system"]
    return list(dict.fromkeys(column))


def load_predictions(
    name: str, model: str | None = None, folder: str | Path | None = None
) -> Predictions:
    """Read what a model says of the lesions of a record.

    `model` may be left out if the record has but one; `folder` is where records lie, the
    repository's ``book/results`` if None.

    Raises
    ------
    RecordError
        For a record or model that is not there, naming those there are; for a file that is
        damaged, foreign or lacks another one, naming file and remedy.
    """
    file = _record_file(name, folder)
    table = _read(file, [("system", "==", model)] if model is not None else None)
    if "system" not in table or table["system"].nunique() != 1:
        there = ", ".join(models(name, folder))
        wrong = "name a model of" if model is None else f"there is no model {model!r} in"
        raise RecordError(f"{file}: {wrong} this record; it has {there}.")
    table = check_predictions(table, str(file), _RESTORE)
    table = table.sort_values(["seed", "lesion_id"], ignore_index=True)
    seeds = tuple(int(value) for value in table["seed"].unique())

    first = table[table["seed"] == seeds[0]].set_index("lesion_id")
    lesions = load_lesions(file.parent)
    if lacking := sorted(set(first.index) - set(lesions.index)):
        message = f"{len(lacking)} lesions of the record are not there, the first {lacking[0]}"
        refuse([message], str(file.with_name(LESIONS_FILE)), _RESTORE)
    lesions = lesions.loc[first.index].assign(fold=first["fold"])

    def by_seed(columns: list[str]) -> np.ndarray:
        return table[columns].to_numpy(np.float64).reshape(len(seeds), len(first), -1)

    def normalised(columns: list[str]) -> np.ndarray:
        values = np.maximum(by_seed(columns), LEAST)  # (S, N, K)
        return values / values.sum(-1, keepdims=True)

    recorded = set(table.columns[table.notna().any()])
    weighted = tuple(branch for branch in BRANCHES if f"weight_{branch}" in recorded)
    probabilities = normalised(list(CLASSES))
    return Predictions(
        y_true=pd.Categorical(lesions["label"], categories=CLASSES).codes.astype(np.int64),
        y_prob=probabilities[0],
        by_seed=probabilities,
        seeds=seeds,
        branches={
            branch: normalised(columns)
            for branch in BRANCHES
            if recorded.issuperset(columns := branch_columns(branch))
        },
        weights=by_seed([f"weight_{branch}" for branch in weighted]) if weighted else None,
        weight_names=weighted,
        lesions=lesions,
        provenance=load_provenance(name, folder),
    )


def load_provenance(name: str, folder: str | Path | None = None) -> dict[str, Any]:
    """Read where, when and from what a record was made; raises as :func:`load_predictions`."""
    file = _record_file(name, folder).with_suffix(".json")
    try:
        provenance = json.loads(file.read_text(encoding="utf-8"))
        digest = provenance.get("sha256")
    except FileNotFoundError:
        raise RecordError(f"{file}: no such file. Remedy: {_RESTORE}.") from None
    except ValueError as error:
        raise RecordError(f"{file}: is not JSON ({error}). Remedy: {_RESTORE}.") from None
    except AttributeError:
        raise RecordError(f"{file}: is not a record's provenance. Remedy: {_RESTORE}.") from None
    if digest != _digest(file.with_suffix(".parquet")):
        raise RecordError(
            f"{file}: is of another table than {name}.parquet, which was changed since, or whose "
            f"writing was broken off between the two. Remedy: {_RESTORE}."
        )
    return provenance


def load_lesions(folder: str | Path | None = None) -> pd.DataFrame:
    """Read a folder's lesion table, indexed by ``lesion_id``.

    Its columns are those of :attr:`Predictions.lesions`; ``fold`` is that of the standard split
    into five (``split_seed`` 0). Raises as :func:`load_predictions`.
    """
    file = results_folder(folder) / LESIONS_FILE
    if not file.exists():
        raise RecordError(f"{file}: no such file. Remedy: {_RESTORE}.")
    return check_lesions(_read(file), str(file), _RESTORE).set_index("lesion_id")


def write_lesions(folder: str | Path, table: pd.DataFrame) -> None:
    """Write a folder's lesion table, or make sure that the one there is the same.

    ``table`` is as :func:`load_lesions` reads it. Raises :class:`RecordError` if a value is wrong
    or the folder's table has another content.
    """
    file = Path(folder) / LESIONS_FILE
    remedy = "give one row a lesion, with the attributes that its data folder has"
    table = check_lesions(table.reset_index(), str(file), remedy)
    table = table.sort_values("lesion_id", ignore_index=True)
    if not file.exists():
        return _write(file, table)
    there = load_lesions(folder)
    try:
        pd.testing.assert_frame_equal(there, table.set_index("lesion_id"), rtol=0, atol=0)
    except AssertionError:
        raise RecordError(
            f"{file}: holds other lesions or attributes ({len(there):,} lesions there, "
            f"{len(table):,} now). Remedy: give another folder with --out, or delete the file if "
            "all records beside it are made anew from these data."
        ) from None


def write_predictions(
    folder: str | Path, name: str, table: pd.DataFrame, provenance: Mapping[str, Any]
) -> Path:
    """Write a record beside its lesion table: the predictions, then the provenance, each whole.

    Probabilities are rounded here. To the provenance are added ``lesions``, their number,
    ``licence`` and the table's ``sha256``, which ties the two files together.

    Raises
    ------
    RecordError
        If a column or value is wrong, a system's seed has other lesions than the rest or one of
        them twice, or a lesion is not in the folder's lesion table; nothing is written then.
    """
    file = Path(folder) / f"{name}.parquet"
    if Path(name).name != name or name.startswith(".") or file.name == LESIONS_FILE:
        raise RecordError(f"{name!r} cannot name a record. Remedy: give a plain file name.")
    remedy = "correct the table that is to be recorded"
    table = check_predictions(table, str(file), remedy)
    rounded = table.select_dtypes("float32").astype(np.float64).round(DECIMALS)
    table = table.assign(**rounded.astype(np.float32))
    unknown = sorted(set(table["lesion_id"]) - set(load_lesions(folder).index))
    if unknown:
        message = f"lesion {unknown[0]} and {len(unknown) - 1} more are not in {LESIONS_FILE}"
        refuse([message], str(file), remedy)
    order = pd.Categorical(table["system"], categories=table["system"].unique())
    table = table.assign(order=order).sort_values(["order", *KEYS[1:]], ignore_index=True)
    added = {"lesions": table["lesion_id"].nunique(), "licence": LICENCE}
    json.dumps(dict(provenance))  # what cannot be written is known before anything is
    _write(file, table.drop(columns="order"))
    text = json.dumps(dict(provenance) | added | {"sha256": _digest(file)}, indent=2) + "\n"
    with atomic(file.with_suffix(".json")) as staged:
        staged.write_text(text, encoding="utf-8")
    return file


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _record_file(name: str, folder: str | Path | None) -> Path:
    there = records(folder)
    file = results_folder(folder) / f"{name}.parquet"
    if name not in there:
        raise RecordError(f"{file}: no such record; there are: {', '.join(there) or 'none'}.")
    return file


def _read(file: Path, filters: list | None = None, columns: list[str] | None = None):
    try:
        return pq.read_table(file, filters=filters, columns=columns).to_pandas()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise RecordError(f"{file}: is not a record ({reason}). Remedy: {_RESTORE}.") from None


def _write(file: Path, table: pd.DataFrame) -> None:
    """Write parquet as small as it gets: every column as a dictionary, packed with zstd."""
    packed = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
    for number, field in enumerate(packed.schema):
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            words = packed[number].cast(pa.string()).dictionary_encode()
            packed = packed.set_column(number, field.name, words)
    with atomic(file) as staged:
        pq.write_table(packed, staged, compression="zstd", compression_level=19)

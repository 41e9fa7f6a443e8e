"""Recorded results: what was measured on MILK10k, with where and how.

A record is two files in ``book/results``: ``NAME.csv``, a tidy table with a row a system, part,
metric and class, and ``NAME.json``, its provenance (data fingerprint, commit, device, seeds,
parameters, seconds). A study (:mod:`jiadf.studies`) has several tables, ``NAME_TABLE.csv`` each.
``book/record.py`` writes them from run folders; pages only read them.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jiadf.data.schema import CLASSES
from jiadf.evaluation.metrics import bootstrap_intervals, bootstrap_per_class
from jiadf.files import atomic

RESULTS_DIR = Path(__file__).resolve().parents[1] / "book" / "results"
COLUMNS = ["system", "part", "metric", "label", "lesions", "seeds", "value", "sd", "low", "high"]


def summarise_seeds(
    system: str, part: str, truth: np.ndarray, probabilities: Sequence[np.ndarray], n: int = 1000
) -> pd.DataFrame:
    """Summarise one system's predictions of the same lesions under several seeds.

    Parameters
    ----------
    system, part
        Names for the rows.
    truth
        Class index of each lesion, (N,).
    probabilities
        For each seed, (N, 11).
    n
        Bootstrap resamples of the lesions, stratified by class.

    Returns
    -------
    pandas.DataFrame
        Columns :data:`COLUMNS`. ``value`` and ``sd`` are the mean and standard deviation over
        seeds; ``low`` and ``high`` bound a 95 % interval over lesions, each end averaged over
        seeds. ``label`` is a class code, or ``mean`` for the metrics over all classes.
    """
    tables = []
    for seed, probability in enumerate(probabilities):
        overall = bootstrap_intervals(truth, probability, n, seed).assign(
            label="mean", lesions=len(truth)
        )
        by_class = bootstrap_per_class(truth, probability, n, seed)
        tables.append(pd.concat([overall, by_class]))
    stacked = pd.concat(tables)
    grouped = stacked.groupby(["metric", "label"], sort=False)
    result = grouped[["value", "low", "high"]].mean()
    result["sd"] = grouped["value"].std(ddof=1) if len(probabilities) > 1 else np.nan
    result["lesions"] = grouped["lesions"].first()
    result = result.reset_index().assign(system=system, part=part, seeds=len(probabilities))
    return result[COLUMNS]


def write_record(
    name: str, table: pd.DataFrame, provenance: Mapping[str, Any], folder: Path = RESULTS_DIR
) -> None:
    """Write ``name.csv`` and ``name.json``, each whole or not at all."""
    with atomic(folder / f"{name}.csv") as staged:
        table.to_csv(staged, index=False, float_format="%.5g")
    with atomic(folder / f"{name}.json") as staged:
        staged.write_text(json.dumps(provenance, indent=2) + "\n")


def read_record(name: str, folder: Path = RESULTS_DIR) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read a record's table and provenance.

    Raises
    ------
    FileNotFoundError
        If there is no such record; names those there are.
    """
    path = folder / f"{name}.csv"
    if not path.exists():
        there = ", ".join(sorted(p.stem for p in folder.glob("*.json"))) or "none"
        raise FileNotFoundError(f"{path}: no such record; there are: {there}.")
    return pd.read_csv(path), json.loads(path.with_suffix(".json").read_text())


def write_tables(
    name: str,
    tables: Mapping[str, pd.DataFrame],
    provenance: Mapping[str, Any],
    folder: Path = RESULTS_DIR,
) -> None:
    """Write ``name_TABLE.csv`` for each table, without its index, and ``name.json`` last."""
    for table_name, table in tables.items():
        with atomic(folder / f"{name}_{table_name}.csv") as staged:
            table.to_csv(staged, index=False, float_format="%.5g")
    with atomic(folder / f"{name}.json") as staged:
        listed = dict(provenance) | {"tables": list(tables)}
        staged.write_text(json.dumps(listed, indent=2) + "\n")


def read_tables(
    name: str, folder: Path = RESULTS_DIR
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]] | None:
    """Read what :func:`write_tables` wrote, tables by name; None if there is no such record."""
    path = folder / f"{name}.json"
    if not path.exists():
        return None
    provenance = json.loads(path.read_text())
    tables = {table: pd.read_csv(folder / f"{name}_{table}.csv") for table in provenance["tables"]}
    return tables, provenance


def describe_provenance(provenance: Mapping[str, Any]) -> str:
    """Say in one sentence what a record was measured on, when and with what."""
    return (
        f"Measured on {provenance['lesions']:,} lesions of MILK10k "
        f"(data fingerprint `{provenance['data']['table'][:8]}`), {provenance['regime']} regime, "
        f"seeds {', '.join(map(str, provenance['seeds']))}, {provenance['device']}, "
        f"commit `{(provenance['git_commit'] or 'unknown')[:8]}`, {provenance['date']}."
    )


def truth_codes(labels: pd.Series) -> np.ndarray:
    """Class index of each label, int64 (N,)."""
    return pd.Categorical(labels, categories=CLASSES).codes.astype(np.int64)

"""Make a record of predictions from the run folders of a grid; ``jiadf record`` does it.

Each finished run left ``predictions.csv``; here its scored lesions
(:attr:`jiadf.training.grid.Grid. scored_part`) are put together, system by system and seed by
seed. Nothing is predicted anew.
"""

from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from jiadf.data.faults import DataError
from jiadf.data.layout import Layout
from jiadf.data.schema import CLASSES, LESION_COLUMNS, supplement_schema
from jiadf.data.split import assign_folds
from jiadf.data.tables import read_table
from jiadf.evaluation.schema import BRANCHES, RecordError, branch_columns
from jiadf.training.grid import Grid, GridRun
from jiadf.training.inputs import table_fingerprint
from jiadf.training.run_folder import Run

DIAGNOSIS = ["diagnosis_full", "diagnosis_confirm_type"]
# What a run may have other than its grid says: how it was computed, not what.
_TECHNICAL = frozenset({"device", "images_on", "num_workers", "checkpoint_every"})


def lesion_table(lesions: pd.DataFrame, data: str | Path) -> pd.DataFrame:
    """Lay out the lesion table that stands beside records.

    Parameters
    ----------
    lesions
        As of :func:`jiadf.data.read.read_lesions`, labelled.
    data
        Their data folder. Its supplement says what the close-up's diagnosis is and how it was
        confirmed; without a supplement these columns are empty.

    Returns
    -------
    pandas.DataFrame
        Indexed by ``lesion_id``: ``label``, ``fold`` of the standard split into five, attributes.

    Raises
    ------
    jiadf.data.faults.DataError
        If the supplement is faulty.
    """
    table = lesions[["label"]].assign(fold=assign_folds(lesions["label"]))
    table[list(LESION_COLUMNS)] = lesions[list(LESION_COLUMNS)]
    file = Layout.detect(data, "training").supplement_csv
    if not file.exists():
        return table.assign(**dict.fromkeys(DIAGNOSIS))
    supplement, faults = read_table(file, supplement_schema)
    if faults:
        raise DataError(faults)
    by_image = supplement.set_index("isic_id")[DIAGNOSIS]
    diagnoses = by_image.reindex(lesions["clinical_isic_id"]).set_axis(lesions.index)
    return table.join(diagnoses)


def record_grid_predictions(
    grid: Grid,
    runs_dir: str | Path,
    lesions: pd.DataFrame,
    branches: Iterable[str] = (),
    *,
    systems: Iterable[str] | None = None,
    allow_missing: bool = False,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Put the scored predictions of a grid's runs together.

    Parameters
    ----------
    grid, runs_dir
        The grid and where its run folders lie.
    lesions
        The table that the runs were trained on.
    branches
        Names of the systems whose branches are recorded too, probabilities and weights.
    systems
        Names of the systems that are recorded; all if None.
    allow_missing
        Leave out systems with a run that is not finished, instead of raising.

    Returns
    -------
    table : pandas.DataFrame
        A row a system, seed and lesion, for :func:`jiadf.evaluation.predictions.write_predictions`.
    provenance : dict
        Data, commit, device, packages, protocol, parameters by system and the rest. Where runs
        differ in one of these, all that there were, joined by commas. Systems that were left out
        stand under ``not_recorded`` with the reason.

    Raises
    ------
    jiadf.config.ParameterError
        If the grid lacks one of the systems.
    jiadf.evaluation.schema.RecordError
        If runs are not finished, hold other parameters than the grid's, were trained on another
        lesion table, or lack the branch probabilities that are wanted.
    """
    wanted = list(grid.systems if systems is None else dict.fromkeys(systems))
    with_branches = set(branches)
    grid.require([*wanted, *with_branches])
    if outside := sorted(with_branches - set(wanted)):
        raise RecordError(f"branches are wanted of {outside[0]!r}, which is not to be recorded.")
    unfinished = _unfinished([run for run in grid.runs(Path(runs_dir)) if run.system in wanted])
    kept = [name for name in wanted if name not in unfinished]
    runs = checked_runs(grid, runs_dir, lesions, kept if allow_missing and kept else wanted)
    tables = [_scored(run, grid.scored_part, run.system in with_branches) for run in runs]
    provenance = record_provenance(grid, runs)
    if unfinished:
        provenance["not_recorded"] = unfinished
    return pd.concat(tables, ignore_index=True), provenance


def checked_runs(
    grid: Grid, runs_dir: str | Path, lesions: pd.DataFrame, systems: Iterable[str]
) -> list[GridRun]:
    """Return the runs of some systems; raises as :func:`record_grid_predictions`."""
    systems = list(systems)
    grid.require(systems)
    runs = [run for run in grid.runs(Path(runs_dir)) if run.system in systems]
    if unfinished := _unfinished(runs):
        lines = "\n  ".join(f"{system}: {reason}" for system, reason in unfinished.items())
        remedy = "train them with `jiadf grid`"
        if len(unfinished) < len(systems):
            remedy += ", or leave these systems out with --partial"
        raise RecordError(f"not recorded, as runs are not finished:\n  {lines}\nRemedy: {remedy}.")
    data = table_fingerprint(lesions)
    for run in runs:
        _check_run(run, data)
    return runs


def _unfinished(runs: Sequence[GridRun]) -> dict[str, str]:
    """Return the systems with a run that is not finished, and which of their runs these are."""
    missing: dict[str, list[GridRun]] = {}
    for run in runs:
        if not Run(run.path).finished:
            missing.setdefault(run.system, []).append(run)
    return {
        system: f"{len(lacking)} of {sum(run.system == system for run in runs)} runs, the first "
        f"{lacking[0].path}" + (f" ({lacking[0].failure})" if lacking[0].failure else "")
        for system, lacking in missing.items()
    }


def _check_run(run: GridRun, data: str) -> None:
    made = Run(run.path)
    here, there = made.parameters.model_dump(), run.parameters.model_dump()
    names = [name for name in there if here[name] != there[name] and name not in _TECHNICAL]
    if names:
        changed = "; ".join(f"{name}: {here[name]} in the run, {there[name]} now" for name in names)
        raise RecordError(
            f"{run.path}: was trained with other parameters than the grid's ({changed}). Remedy: "
            "give the grid and the -p that it was trained with, or train it anew."
        )
    if made.environment["data"]["table"] != data:
        raise RecordError(
            f"{run.path}: was trained on another lesion table. Remedy: give the data folder that "
            "it was trained on, or train it anew."
        )


def _scored(run: GridRun, part: str, with_branches: bool) -> pd.DataFrame:
    """Return the scored rows of a run with the columns of a record."""
    table = Run(run.path).predictions
    table = table[table["split"] == part]
    columns = list(CLASSES)
    if with_branches:
        there = [name for name in BRANCHES if set(branch_columns(name)) <= set(table.columns)]
        weighted = [c for name in BRANCHES if (c := f"weight_{name}") in table.columns]
        lacking = {c.removeprefix("weight_") for c in weighted} - set(there)
        if lacking or not there:
            branch = ", ".join(sorted(lacking)) or "any branch"
            raise RecordError(
                f"{run.path}/predictions.csv: has no probabilities of {branch} (columns such as "
                "joint_MEL). Remedy: train the run anew with this version, or record the system "
                "without its branches."
            )
        columns += [c for name in there for c in branch_columns(name)] + weighted
    return table[columns].assign(**record_keys(run)).reset_index()


def record_keys(run: GridRun) -> dict[str, Any]:
    """Return what a record says of a run in each of its rows."""
    return {"system": run.system, "seed": run.seed, "fold": run.fold}


def record_provenance(grid: Grid, runs: Sequence[GridRun]) -> dict[str, Any]:
    """Return where and from what these runs were made."""
    environments = [Run(run.path).environment for run in runs]
    seconds: dict[str, list[float]] = {}
    for run, environment in zip(runs, environments, strict=True):
        seconds.setdefault(run.system, []).append(environment["seconds"])
    systems = list(seconds)

    def joined(key: str) -> Any:
        return _join([environment[key] for environment in environments])

    return {
        "data": joined("data"),
        "git_commit": joined("git_commit"),
        "device": joined("device"),
        "packages": joined("packages"),
        "regime": _join([run.parameters.regime for run in runs]),
        "protocol": grid.protocol,
        "seeds": grid.seeds,
        "folds": sorted({run.fold for run in runs}),
        "systems": systems,
        "parameters": {system: grid.base | grid.systems[system] for system in systems},
        "runs": len(runs),
        "seconds": round(sum(map(sum, seconds.values())), 1),
        "seconds_a_run": {name: round(sum(s) / len(s), 1) for name, s in seconds.items()},
        "date": date.today().isoformat(),
    }


def _join(values: Sequence[Any]) -> Any:
    """Return the one value there is, or the different ones in a string; dicts key by key."""
    if all(isinstance(value, dict) for value in values):
        keys = dict.fromkeys(key for value in values for key in value)
        return {key: _join([value[key] for value in values if key in value]) for key in keys}
    different = list(dict.fromkeys(values))
    return different[0] if len(different) == 1 else ", ".join(map(str, different))

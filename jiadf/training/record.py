"""Make a record of predictions from the run folders of a grid; ``jiadf record`` does it.

Each finished run left ``predictions.csv``; here its scored lesions are put together, or predicted
anew in several views.
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
from jiadf.training.predict import predict_views
from jiadf.training.run_folder import Run

DIAGNOSIS = ["diagnosis_full", "diagnosis_confirm_type"]
# What a run may have other than its grid says: how it was computed, not what.
_TECHNICAL = frozenset({"device", "num_workers", "checkpoint_every"})


def lesion_table(lesions: pd.DataFrame, data: str | Path) -> pd.DataFrame:
    """Lay out the lesion table that stands beside records, indexed by ``lesion_id``.

    The supplement of the folder `data` says what the close-up's diagnosis is and how it was
    confirmed; without a supplement these columns are empty. A faulty one raises
    :class:`jiadf.data.faults.DataError`.
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
    views: int = 1,
    cache_dir: str | Path | None = None,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Put the scored predictions of a grid's runs, trained on `lesions`, together.

    Only `systems` if given, and the `branches` of these. With `allow_missing`, systems with a run
    that is not finished stand in the provenance under ``not_recorded``, with the reason. With more
    than one of the `views` of :func:`jiadf.training.predict.predict_views`, their mean is recorded,
    for which `lesions` need their images, or `cache_dir` what was computed from them.

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
    runs = [run for run in grid.runs(Path(runs_dir)) if run.system in wanted]
    unfinished = _unfinished(runs)
    runs = [run for run in runs if run.system not in unfinished]
    if unfinished and not (allow_missing and runs):
        lines = "\n  ".join(f"{system}: {reason}" for system, reason in unfinished.items())
        remedy = "train them with `jiadf grid`"
        if runs:
            remedy += ", or leave these systems out with --partial"
        raise RecordError(f"not recorded, as runs are not finished:\n  {lines}\nRemedy: {remedy}.")
    data = table_fingerprint(lesions)
    for run in runs:
        _check_run(run, data)
    tables, shared = [], {}
    for run in runs:
        made = Run(run.path)
        table = made.predictions.query("split == @grid.scored_part")
        if views > 1:
            options = {"rows": lesions.index.get_indexer(table.index), "shared": shared}
            options |= {"branches": True, "progress": False}
            table = predict_views(made, lesions, cache_dir, views, **options)
        tables.append(_scored(run, table, run.system in with_branches))
    more = {"views": views} if views > 1 else {}
    more |= {"not_recorded": unfinished} if unfinished else {}
    return pd.concat(tables, ignore_index=True), record_provenance(grid, runs) | more


def _unfinished(runs: Sequence[GridRun]) -> dict[str, str]:
    """Return the systems with a run that is not finished, and which of their runs these are."""
    reasons = {}
    for system in dict.fromkeys(run.system for run in runs):
        its = [run for run in runs if run.system == system]
        if lacking := [run for run in its if not Run(run.path).finished]:
            reason = f"{len(lacking)} of {len(its)} runs, the first {lacking[0].path}"
            failure = lacking[0].failure
            reasons[system] = f"{reason} ({failure})" if failure else reason
    return reasons


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


def _scored(run: GridRun, table: pd.DataFrame, with_branches: bool) -> pd.DataFrame:
    """Return what a run says of its scored lesions with the columns of a record."""
    columns = list(CLASSES)
    if with_branches:
        there = [name for name in BRANCHES if set(branch_columns(name)) <= set(table.columns)]
        weighted = [name for name in BRANCHES if f"weight_{name}" in table.columns]
        if not there or set(weighted) - set(there):
            raise RecordError(
                f"{run.path}/predictions.csv: has no probabilities of its branches (columns such "
                "as joint_MEL). Remedy: train the run anew with this version, or record the "
                "system without its branches."
            )
        columns += [column for name in there for column in branch_columns(name)]
        columns += [f"weight_{name}" for name in weighted]
    table = table[columns].assign(system=run.system, seed=run.seed, fold=run.fold)
    return table.reset_index()


def record_provenance(grid: Grid, runs: Sequence[GridRun]) -> dict[str, Any]:
    """Return where and from what these runs were made; where they differ, all there were."""
    environments = [Run(run.path).environment for run in runs]
    names = [run.system for run in runs]
    seconds = pd.Series([environment["seconds"] for environment in environments], names)
    by_system = seconds.groupby(level=0, sort=False).mean().round(1)
    shared = ("data", "git_commit", "device", "packages")
    return {
        **{key: _join([environment[key] for environment in environments]) for key in shared},
        "regime": _join([run.parameters.regime for run in runs]),
        "protocol": grid.protocol,
        "seeds": grid.seeds,
        "folds": sorted({run.fold for run in runs}),
        "systems": list(by_system.index),
        "parameters": {system: grid.base | grid.systems[system] for system in by_system.index},
        "runs": len(runs),
        "seconds": round(float(seconds.sum()), 1),
        "seconds_a_run": by_system.to_dict(),
        "date": date.today().isoformat(),
    }


def _join(values: Sequence[Any]) -> Any:
    """Return the one value there is, or the different ones in a string; dicts key by key."""
    if all(isinstance(value, dict) for value in values):
        keys = dict.fromkeys(key for value in values for key in value)
        return {key: _join([value[key] for value in values if key in value]) for key in keys}
    different = list(dict.fromkeys(values))
    return different[0] if len(different) == 1 else ", ".join(map(str, different))

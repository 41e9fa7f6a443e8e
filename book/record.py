"""Measure on MILK10k and record the figures in ``book/results``; three kinds of record.

    python book/record.py --data MILK10K --params params/cpu.yaml --name milk10k_frozen
    python book/record.py --data MILK10K --grid params/grids/paper.yaml --name milk10k_ablations
    python book/record.py --data MILK10K --grid params/grids/trust.yaml --study calibration

``--grid``
    Scores of every system of a grid; where the grid has all systems that the paper makes claims
    about, the verdict on each claim goes into ``NAME_claims.csv``, else every system's difference
    from ji-adf (the first one if that is not there) into ``NAME_differences.csv``. A system whose
    weights file is not there is left out, and named under ``not_run`` with the reason; where a run
    failed for another reason nothing is recorded.
``--grid`` with ``--study``
    The tables of a study (:mod:`jiadf.studies`), named ``milk10k_STUDY`` if not otherwise.
``--params``
    JI-ADF with these parameters and, unless ``--no-floor``, linear classifiers, under both
    protocols of a grid (:mod:`jiadf.training.grid`). Under ``validation`` the lesions that chose
    the epoch are also the ones scored, so these figures are optimistic; they stand beside ``jiadf
    train``.

Finished runs are kept under ``--runs`` and not repeated; what is missing is trained. Nothing but
figures is written to ``book/results``.
"""

import argparse
import importlib
import pkgutil
import time
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from jiadf import paper, studies
from jiadf.ablations import Predictions, in_grid, measure, named
from jiadf.config import Parameters, load_parameters, make_parameters
from jiadf.data.embedded import is_synthetic
from jiadf.data.metadata import MetadataEncoder
from jiadf.data.read import read_lesions
from jiadf.data.schema import CLASSES
from jiadf.data.split import split_lesions
from jiadf.evaluation.paired_tests import compare_all
from jiadf.files import atomic
from jiadf.floor import linear_predictions
from jiadf.models.weights import MissingWeightsError
from jiadf.results import RESULTS_DIR, summarise_seeds, truth_codes, write_record, write_tables
from jiadf.training.grid import (
    PARTS,
    Grid,
    GridRun,
    collect,
    load_grid,
    pooled_predictions,
    run_grid,
)
from jiadf.training.inputs import prepare_inputs
from jiadf.training.provenance import git_commit
from jiadf.training.run_folder import Run
from jiadf.verdicts import judge_claims

STUDIES = [module.name for module in pkgutil.iter_modules(studies.__path__)]
COMPARED = ("macro_f1", "macro_auc", "macro_ap", "mean_sensitivity", "mean_dice", "ece")
REFERENCE = "ji-adf"
FLOORS = ("CDM", "CD", "C", "D", "M")


def floor_predictions(lesions: pd.DataFrame, grid: Grid, modalities: str) -> pd.DataFrame:
    """Fit the floor on a grid's folds; return the scored lesions' probabilities."""
    base = make_parameters(grid.base)
    tables = []
    for folds in grid.folds():
        chosen = {"val_fold": base.val_fold, "test_fold": base.test_fold} | folds
        parts = split_lesions(lesions["label"], base.n_folds, seed=base.split_seed, **chosen)
        encoder = MetadataEncoder.fit(lesions[parts == "train"], base.use_monet)
        inputs = prepare_inputs(lesions, encoder, base, progress=False)
        probabilities, strength = linear_predictions(inputs, parts.to_numpy(), modalities)
        print(f"floor {modalities}, {chosen}: strength {strength:g}", flush=True)
        table = pd.DataFrame(probabilities, lesions.index, list(CLASSES))
        tables.append(table[parts == grid.scored_part])
    return pd.concat(tables).sort_index()


def provenance(lesions: pd.DataFrame, runs: list[Run], regime: str, seeds: list[int]) -> dict:
    """Say what was measured, where, when and with what."""
    environment = runs[-1].environment
    seconds = [run.environment["seconds"] for run in runs]
    return {
        "lesions": len(lesions),
        "data": environment["data"],
        "regime": regime,
        "seeds": seeds,
        "device": environment["device"],
        "packages": environment["packages"],
        "git_commit": environment["git_commit"],
        "seconds_a_run": round(float(np.median(seconds)), 1),
        "seconds": round(float(np.sum(seconds)), 1),
        "runs": len(runs),
        "date": date.today().isoformat(),
    }


def lacking_weights(grid: Grid, failed: list[GridRun]) -> dict[str, str]:
    """Return the systems of which no run was made because a weights file is missing, and why."""
    runs = len(grid.seeds) * len(grid.folds())
    reasons: dict[str, list[str]] = {}
    for run in failed:
        kind, _, message = run.failure.partition(": ")
        if kind.endswith(MissingWeightsError.__name__):
            reasons.setdefault(run.system, []).append(message)
    return {system: told[0] for system, told in reasons.items() if len(told) == runs}


def finish(grid: Grid, lesions: pd.DataFrame, folder: Path) -> tuple[Grid, dict]:
    """Train what is missing; return the grid of the systems that were made, and provenance."""
    failed = run_grid(grid, lesions, folder)
    not_run = lacking_weights(grid, failed)
    if broken := [run for run in failed if run.system not in not_run]:
        raise SystemExit(f"not recorded: runs that failed: {len(broken)}; see {broken[0].path}")
    systems = {name: c for name, c in grid.overrides().items() if name not in not_run}
    if not systems:
        raise SystemExit(f"not recorded: no system was run; see {failed[0].path}")
    made = grid.model_copy(update={"systems": systems, "axes": {}})
    runs = [Run(run.path) for run in made.runs(folder)]
    described = provenance(lesions, runs, runs[-1].parameters.regime, made.seeds)
    described |= {
        "protocol": made.protocol,
        "parameters": made.base,
        "systems": systems,
        "seconds_by_system": collect(made, folder).groupby("system")["seconds"].mean().to_dict(),
    }
    return made, described | ({"not_run": not_run} if not_run else {})


def record_grid(
    grid: Grid, lesions: pd.DataFrame, folder: Path, name: str, n: int = 1000,
    results: Path = RESULTS_DIR,
) -> None:  # fmt: skip
    """Record a grid: scores of every system, and the verdict on each of the paper's claims."""
    grid, described = finish(grid, lesions, folder)
    predictions = Predictions(grid.protocol, pooled_predictions(grid, folder))
    claimed = paper.claims()
    needed = dict.fromkeys([*claimed["better"], *claimed["worse"]])
    if in_grid(needed) <= predictions.tables.keys():
        systems = named(predictions.systems, needed)
        judged, kind = judge_claims(claimed, predictions.truth, systems, n), "claims"
    else:
        systems = predictions.systems
        reference = REFERENCE if REFERENCE in systems else next(iter(systems))
        judged = compare_all(predictions.truth, systems, reference, list(COMPARED), n=n)
        kind = "differences"
    with atomic(results / f"{name}_{kind}.csv") as staged:
        judged.to_csv(staged, index=False, float_format="%.5g")
    described["gate_means"] = {
        system: row.dropna().round(4).to_dict()
        for system, row in predictions.gate_means().iterrows()
    }
    write_record(name, measure(predictions, n), described, results)


def record_study(
    topic: str, grid: Grid, lesions: pd.DataFrame, folder: Path, name: str,
    results: Path = RESULTS_DIR,
) -> None:  # fmt: skip
    """Record a study of a grid's networks."""
    grid, described = finish(grid, lesions, folder)
    start, commit = time.perf_counter(), git_commit()  # of the code that now runs
    study = importlib.import_module(f"jiadf.studies.{topic}").study
    tables = study(grid, folder, lesions, None)
    described["study_seconds"] = round(time.perf_counter() - start, 1)
    write_tables(name, tables, described | {"study_commit": commit}, results)


def record_networks(
    base: Parameters, lesions: pd.DataFrame, folder: Path, name: str, seeds: int, floor: bool
) -> None:
    """Record JI-ADF and, if asked, the floor, under both protocols."""
    rows, described = [], {}
    for protocol in PARTS:
        grid = Grid(
            base=base.model_dump(exclude={"val_fold", "test_fold"}),
            protocol=protocol,
            seeds=list(range(seeds)),
            systems={"JI-ADF": {}},
        )
        grid, described = finish(grid, lesions, folder / name / protocol)
        tables = pooled_predictions(grid, folder / name / protocol)
        rows.append(measure(Predictions(protocol, tables)))
        for modalities in FLOORS if floor else ():
            table = floor_predictions(lesions, grid, modalities)
            truth = truth_codes(lesions["label"].loc[table.index])
            rows.append(
                summarise_seeds(f"linear {modalities}", protocol, truth, [table.to_numpy()])
            )
    write_record(name, pd.concat(rows), described | {"parameters": base.model_dump()})


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--params", type=Path, help="parameters of JI-ADF")
    what.add_argument("--grid", type=Path, help="a grid, whose --runs are recorded")
    parser.add_argument("--study", choices=STUDIES, help="with --grid: record this study of it")
    parser.add_argument("--name", help="name of the record; milk10k_STUDY for a study")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument(
        "-p", dest="override", action="append", default=[], metavar="NAME=VALUE",
        help="with --grid: set one parameter of its base, as for `jiadf grid`; repeatable",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, default=5, help="with --params")
    parser.add_argument("--no-floor", action="store_true", help="with --params")
    arguments = parser.parse_args()
    if is_synthetic(arguments.data):
        parser.error(f"{arguments.data} is synthetic; records are of MILK10k only.")
    if arguments.override and not arguments.grid:
        parser.error("-p goes with --grid; with --params, write another file.")
    lesions = read_lesions(arguments.data, "training")
    if arguments.study and arguments.grid:
        name = arguments.name or f"milk10k_{arguments.study}"
        grid = load_grid(arguments.grid, arguments.override)
        record_study(arguments.study, grid, lesions, arguments.runs, name)
    elif not arguments.name or arguments.study:
        parser.error("give --name, and --study only with --grid.")
    elif arguments.grid:
        grid = load_grid(arguments.grid, arguments.override)
        record_grid(grid, lesions, arguments.runs, arguments.name)
    else:
        base, floor = load_parameters(arguments.params), not arguments.no_floor
        record_networks(base, lesions, arguments.runs, arguments.name, arguments.seeds, floor)


if __name__ == "__main__":
    main()

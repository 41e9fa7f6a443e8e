"""Measure JI-ADF and its floor, or a grid, on MILK10k and record the figures in ``book/results``.

    python book/record.py --data MILK10K --params params/cpu.yaml --name milk10k_frozen
    python book/record.py --data MILK10K --grid params/grids/paper.yaml --name milk10k_ablations

With ``--grid``, what ``jiadf grid`` left in ``--runs`` is recorded and what is missing trained; all
the paper's claims are judged into ``NAME_claims.csv``. With ``--params``, two protocols, the
same parameters and seeds in both:

``validation``
    The paper's split (A.2): the lesions that chose the epoch are also the ones scored, so these
    figures are optimistic. They exist to stand beside ``jiadf train``.
``out-of-fold``
    Five folds in turn are the test part, the next one validates, three train. Every lesion is
    scored once, by networks that took neither training nor the choice of an epoch from it. (What
    the parameter file says was chosen on validation lesions is the exception.)

Finished runs are kept under ``--runs`` and not repeated. Nothing but metrics is written to
``book/results``.
"""

import argparse
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from jiadf import paper
from jiadf.ablations import Predictions, measure, named
from jiadf.config import Parameters, load_parameters
from jiadf.data.embedded import is_synthetic
from jiadf.data.encode import MetadataEncoder
from jiadf.data.read import read_lesions
from jiadf.data.schema import CLASSES
from jiadf.data.split import split_lesions
from jiadf.files import atomic
from jiadf.floor import linear_predictions
from jiadf.grid import collect, load_grid, pooled_predictions, run_grid
from jiadf.inputs import prepare_inputs
from jiadf.results import RESULTS_DIR, summarise_seeds, truth_codes, write_record
from jiadf.runs import Run
from jiadf.train import train
from jiadf.verdicts import judge_claims

FLOORS = ("CDM", "CD", "C", "D", "M")


def folds_of(protocol: str, n_folds: int) -> list[dict]:
    """Return the folds of each run of a protocol."""
    if protocol == "validation":
        return [{"val_fold": 1, "test_fold": None}]
    return [{"val_fold": (fold + 1) % n_folds, "test_fold": fold} for fold in range(n_folds)]


def network_predictions(
    lesions: pd.DataFrame, base: Parameters, protocol: str, seed: int, runs: Path
) -> tuple[pd.DataFrame, list[Run]]:
    """Train a protocol's runs for one seed; return the scored lesions' probabilities."""
    part = "val" if protocol == "validation" else "test"
    tables, made = [], []
    for folds in folds_of(protocol, base.n_folds):
        name = f"{protocol}-seed{seed}-val{folds['val_fold']}"
        made.append(train(lesions, runs / name, base.model_copy(update=folds | {"seed": seed})))
        predictions = made[-1].predictions
        tables.append(predictions.loc[predictions["split"] == part, list(CLASSES)])
    return pd.concat(tables), made


def floor_predictions(
    lesions: pd.DataFrame, base: Parameters, protocol: str, modalities: str
) -> pd.DataFrame:
    """Fit the floor on a protocol's folds; return the scored lesions' probabilities."""
    part = "val" if protocol == "validation" else "test"
    tables = []
    for folds in folds_of(protocol, base.n_folds):
        parts = split_lesions(lesions["label"], base.n_folds, seed=base.split_seed, **folds)
        encoder = MetadataEncoder.fit(lesions[parts == "train"], base.use_monet)
        inputs = prepare_inputs(lesions, encoder, base, progress=False)
        probabilities, strength = linear_predictions(inputs, parts.to_numpy(), modalities)
        print(f"floor {modalities}, {protocol}, {folds}: strength {strength:g}", flush=True)
        table = pd.DataFrame(probabilities, lesions.index, list(CLASSES))
        tables.append(table[parts == part])
    return pd.concat(tables)


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


def record_grid(
    file: Path, lesions: pd.DataFrame, folder: Path, name: str, n: int = 1000,
    results: Path = RESULTS_DIR,
) -> None:  # fmt: skip
    """Record a grid: scores of every system, and the verdict on each of the paper's claims."""
    grid = load_grid(file)
    if failed := run_grid(grid, lesions, folder):
        raise SystemExit(f"not recorded: runs that failed: {len(failed)}; see {failed[0].path}")
    predictions = Predictions(grid.protocol, pooled_predictions(grid, folder))
    systems = predictions.systems
    claimed = paper.claims()
    needed = dict.fromkeys([*claimed["better"], *claimed["worse"]])
    judged = judge_claims(claimed, predictions.truth, named(systems, needed), n)
    runs = [Run(run.path) for run in grid.runs(folder)]
    described = provenance(lesions, runs, runs[-1].parameters.regime, grid.seeds)
    described |= {
        "protocol": grid.protocol,
        "parameters": grid.base,
        "systems": grid.overrides(),
        "seconds_by_system": collect(grid, folder).groupby("system")["seconds"].mean().to_dict(),
        "gate_means": {
            name: row.dropna().round(4).to_dict()
            for name, row in predictions.gate_means().iterrows()
        },
    }
    with atomic(results / f"{name}_claims.csv") as staged:
        judged.to_csv(staged, index=False, float_format="%.5g")
    write_record(name, measure(predictions, n), described, results)


def record_networks(
    base: Parameters, lesions: pd.DataFrame, folder: Path, name: str, seeds: int, floor: bool
) -> None:
    """Record JI-ADF and, if asked, the floor, under both protocols."""
    labels = pd.Series(truth_codes(lesions["label"]), lesions.index)
    rows, runs = [], []
    for protocol in ("validation", "out-of-fold"):
        systems: dict[str, list[pd.DataFrame]] = {"JI-ADF": []}
        for seed in range(seeds):
            table, made = network_predictions(lesions, base, protocol, seed, folder / name)
            systems["JI-ADF"].append(table)
            runs += made
        if floor:
            for modalities in FLOORS:
                table = floor_predictions(lesions, base, protocol, modalities)
                systems[f"linear {modalities}"] = [table]
        for system, tables in systems.items():
            truth = labels.loc[tables[0].index].to_numpy()
            rows.append(summarise_seeds(system, protocol, truth, [t.to_numpy() for t in tables]))
    described = provenance(lesions, runs, base.regime, list(range(seeds)))
    write_record(name, pd.concat(rows), described | {"parameters": base.model_dump()})


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--params", type=Path, help="parameters of JI-ADF")
    what.add_argument("--grid", type=Path, help="a grid, whose --runs are recorded")
    parser.add_argument("--name", required=True, help="name of the record")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", type=int, default=5, help="with --params")
    parser.add_argument("--no-floor", action="store_true", help="with --params")
    arguments = parser.parse_args()
    if is_synthetic(arguments.data):
        parser.error(f"{arguments.data} is synthetic; records are of MILK10k only.")
    lesions = read_lesions(arguments.data, "training")
    if arguments.grid:
        record_grid(arguments.grid, lesions, arguments.runs, arguments.name)
    else:
        base, floor = load_parameters(arguments.params), not arguments.no_floor
        record_networks(base, lesions, arguments.runs, arguments.name, arguments.seeds, floor)


if __name__ == "__main__":
    main()

"""Measure JI-ADF and its floor on MILK10k and record the figures in ``book/results``.

    python book/record.py --data MILK10K --params params/cpu.yaml --name milk10k_frozen

Two protocols, the same parameters and seeds in both:

``validation``
    The paper's split (A.2): the lesions that chose the epoch are also the ones scored, so these
    figures are optimistic. They exist to stand beside ``jiadf train``.
``out-of-fold``
    Five folds in turn are the test part, the next one validates, three train. Every lesion is
    scored once, by networks that took no part of their training or of any choice from it.

Finished runs are kept under ``--runs`` and not repeated. Nothing but metrics is written to
``book/results``.
"""

import argparse
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from jiadf.config import Parameters, load_parameters
from jiadf.data.embedded import is_synthetic
from jiadf.data.encode import MetadataEncoder
from jiadf.data.read import read_lesions
from jiadf.data.schema import CLASSES
from jiadf.data.split import split_lesions
from jiadf.floor import linear_predictions
from jiadf.inputs import prepare_inputs
from jiadf.results import summarise_seeds, truth_codes, write_record
from jiadf.runs import Run
from jiadf.train import train

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


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--params", type=Path, required=True)
    parser.add_argument("--name", required=True, help="name of the record")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--no-floor", action="store_true")
    arguments = parser.parse_args()
    if is_synthetic(arguments.data):
        parser.error(f"{arguments.data} is synthetic; records are of MILK10k only.")
    base = load_parameters(arguments.params)
    lesions = read_lesions(arguments.data, "training")
    labels = pd.Series(truth_codes(lesions["label"]), lesions.index)
    rows, runs = [], []
    for protocol in ("validation", "out-of-fold"):
        systems: dict[str, list[pd.DataFrame]] = {"JI-ADF": []}
        for seed in range(arguments.seeds):
            table, made = network_predictions(
                lesions, base, protocol, seed, arguments.runs / arguments.name
            )
            systems["JI-ADF"].append(table)
            runs += made
        if not arguments.no_floor:
            for modalities in FLOORS:
                table = floor_predictions(lesions, base, protocol, modalities)
                systems[f"linear {modalities}"] = [table]
        for system, tables in systems.items():
            truth = labels.loc[tables[0].index].to_numpy()
            rows.append(summarise_seeds(system, protocol, truth, [t.to_numpy() for t in tables]))
    environment = runs[-1].environment
    write_record(
        arguments.name,
        pd.concat(rows),
        {
            "lesions": len(lesions),
            "data": environment["data"],
            "regime": base.regime,
            "seeds": list(range(arguments.seeds)),
            "parameters": base.model_dump(),
            "device": environment["device"],
            "packages": environment["packages"],
            "git_commit": environment["git_commit"],
            "seconds_a_run": round(float(np.median([r.environment["seconds"] for r in runs])), 1),
            "runs": len(runs),
            "date": date.today().isoformat(),
        },
    )


if __name__ == "__main__":
    main()

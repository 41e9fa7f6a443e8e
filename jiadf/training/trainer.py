"""Train one network: the paper's recipe (A.2) in the `frozen` and `finetune` regimes.

:func:`train` goes on where a killed run stopped, and since every epoch is seeded by itself, ends
with the weights an unbroken run would have had. ``accelerate launch -m jiadf train …`` uses several
GPUs.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jiadf.config import Parameters
from jiadf.data.metadata import MetadataEncoder
from jiadf.data.schema import CLASSES
from jiadf.data.split import split_lesions
from jiadf.evaluation.metrics import summary
from jiadf.training.inputs import Shared, prepare_inputs, table_fingerprint
from jiadf.training.loop import Trainer
from jiadf.training.predict import prediction_table
from jiadf.training.provenance import environment
from jiadf.training.run_folder import Run, RunError, json_text


def train(
    lesions: pd.DataFrame,
    run_dir: str | Path,
    parameters: Parameters,
    cache_dir: str | Path | None = None,
    *,
    progress: bool = True,
    shared: Shared | None = None,
    wait: bool = True,
) -> Run:
    """Train on labelled lesions and fill the run folder, or go on with it, or find it finished.

    ``shared`` keeps what was read, for runs of one process over the same lesions; ``wait`` waits
    for another process that trains the same run now, and finds it finished.

    Raises
    ------
    jiadf.training.run_folder.RunError
        If the folder holds a run with other parameters or of other lesions; as `BusyError` if
        another process trains it and this one is not to ``wait``.
    ValueError
        If the table has no labels, or a fold gets no lesion.
    """
    if "label" not in lesions:
        raise ValueError("these lesions have no labels; train on the training part of MILK10k.")
    run = Run(Path(run_dir))
    with run.trained_here(wait):
        run.claim(parameters)
        if not run.finished:
            _train(run, lesions, parameters, cache_dir, progress, shared)
        elif run.environment["data"]["table"] != table_fingerprint(lesions):
            raise RunError(
                f"{run.path}: was trained on other lesions than these. Give another --run, or "
                "delete the folder to train anew."
            )
    return run


def _train(
    run: Run,
    lesions: pd.DataFrame,
    p: Parameters,
    cache_dir: str | Path | None,
    progress: bool,
    shared: Shared | None,
) -> None:
    parts = split_lesions(lesions["label"], p.n_folds, p.val_fold, p.test_fold, p.split_seed)
    if not (parts == "train").any():
        raise ValueError(
            f"n_folds={p.n_folds} with val_fold={p.val_fold} and test_fold={p.test_fold} leaves no "
            "lesion to train on; set n_folds to 3 or more."
        )
    for name, fold in {"val": p.val_fold, "test": p.test_fold}.items():
        if fold is not None and not (parts == name).any():
            raise ValueError(
                f"n_folds={p.n_folds} deals none of {len(lesions)} lesions to {name}_fold={fold}; "
                "set n_folds lower, or the fold to another."
            )
    encoder = MetadataEncoder.fit(lesions[parts == "train"], p.use_monet)
    run.write_text("encoder.json", encoder.to_json())
    views = p.feature_views if p.augment and p.regime == "frozen" else 1
    options = {"views": views, "activations": True, "progress": progress, "shared": shared}
    inputs = prepare_inputs(lesions, encoder, p, cache_dir, **options)
    inputs.keys["table"] = table_fingerprint(lesions)
    trainer = Trainer(run, inputs, parts.to_numpy(), p)
    trainer.fit(progress)
    table = prediction_table(lesions, trainer.predict(), branches=True)
    if trainer.accelerator.is_main_process:
        metrics: dict[str, Any] = {"best_epoch": trainer.progress.best_epoch}
        for part in ("val", "test"):
            rows = np.flatnonzero(parts == part)
            if len(rows):
                probabilities = table[list(CLASSES)].to_numpy()[rows]
                metrics[part] = summary(inputs.target[rows], probabilities)
                metrics[part]["lesions"] = len(rows)
        table.insert(0, "split", parts)
        table.insert(1, "label", lesions["label"])
        run.write_table("predictions.csv", table)
        precision, seconds = trainer.accelerator.mixed_precision, trainer.progress.seconds
        described = environment(str(trainer.accelerator.device), precision, inputs.keys, seconds)
        run.write_text("environment.json", json_text(described))
        run.finish(metrics)
    trainer.accelerator.wait_for_everyone()

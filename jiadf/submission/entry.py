"""From a folder of lesions to a file that the live benchmark takes: what `jiadf predict` does.

The folder is checked first, completely; then an ensemble of runs predicts it
(:mod:`jiadf.submission.ensemble`), each class's threshold is moved to 0.5 if asked
(:mod:`jiadf.evaluation.thresholds`), and the file is written by the benchmark's rules
(:mod:`jiadf.submission.benchmark_file`).
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from jiadf.data.read import check, read_lesions
from jiadf.data.schema import CLASSES
from jiadf.evaluation.thresholds import Thresholds, choose_strength, fit_thresholds
from jiadf.files import atomic
from jiadf.submission.benchmark_file import write_submission
from jiadf.submission.own_images import InputError
from jiadf.training.inputs import targets
from jiadf.training.run_folder import Run, RunError


def read_checked(
    data: str | Path, part: str | None = None, *, images: bool = True, progress: bool = False
) -> pd.DataFrame:
    """Read a folder as :func:`jiadf.data.read.read_lesions` does, after checking all of it.

    With `images` every image is decoded, so that a broken one is told with the rest and not
    half-way through: all faults of the folder in one :class:`InputError`.
    """
    faults = check(data, part, images=images, progress=progress)
    if faults:
        raise InputError(faults)
    return read_lesions(data, part)


def write_entry(out: str | Path, table: pd.DataFrame, *, weights: bool = False) -> Path:
    """Write a submission by the benchmark's rules; with `weights`, a table for reading."""
    if not weights:
        return write_submission(out, table.index, table[list(CLASSES)])
    with atomic(Path(out)) as staged:
        table.to_csv(staged)
    return Path(out)


def lesions_of(runs: Sequence[Run], split: str, present: pd.Index) -> list[str]:
    """Return the lesions of one part of a run's split.

    Raises
    ------
    ValueError
        If there are several runs, whose splits may differ, no such part, or a lesion of it that
        is not `present`.
    """
    if len(runs) > 1:
        raise ValueError("--split needs a single --run: the splits of several may differ.")
    parts = runs[0].predictions["split"]
    chosen = parts.index[parts == split]
    if chosen.empty:
        known = ", ".join(sorted(parts.unique()))
        raise ValueError(f"{runs[0].path} has no {split!r} lesions; it has {known}.")
    missing = chosen.difference(present)
    if len(missing):
        raise ValueError(
            f"{len(missing)} {split} lesions of {runs[0].path} are not in the data folder, the "
            f"first {missing[0]}; give the folder that the run was trained on."
        )
    return list(chosen)


def out_of_fold_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Return `label`, `fold` and mean probabilities of the runs' test lesions, by ``lesion_id``.

    Means are over all runs that have a lesion in their test part (seeds). It is a RunError if a run
    kept no test fold, or two runs tell different folds or labels of a lesion.
    """
    if without := [str(run.path) for run in runs if run.parameters.test_fold is None]:
        raise RunError(
            f"these runs kept no test fold: {', '.join(without)}. Thresholds are fitted on lesions "
            "that took no part in training: train with test_fold, or `jiadf grid` with "
            "`protocol: out-of-fold`."
        )
    tables = [
        run.predictions.query("split == 'test'").assign(fold=run.parameters.test_fold)
        for run in runs
    ]
    grouped = pd.concat(tables).groupby(level="lesion_id")
    if (grouped[["label", "fold"]].nunique() > 1).to_numpy().any():
        raise RunError("these runs deal the same lesions to different folds; give one split's.")
    return grouped[["label", "fold"]].first().join(grouped[list(CLASSES)].mean())


def fit_on_test_folds(runs: Sequence[Run], strength: float | None = None) -> Thresholds:
    """Fit thresholds on the test lesions of runs: all folds, and seeds, of one system.

    For `strength` see :mod:`jiadf.evaluation.thresholds`; None chooses it by cross-validation over
    the folds.
    """
    table = out_of_fold_table(runs)
    y_true, y_prob = targets(table), table[list(CLASSES)].to_numpy()
    folds = table["fold"].to_numpy()
    count = table["fold"].nunique()
    if strength is None:
        if count < 2:
            raise RunError("one test fold cannot choose the strength: give --strength, or more.")
        strength = choose_strength(y_true, y_prob, folds)
    source = {"runs": len(runs), "folds": count, "chosen_on": "test folds"}
    return fit_thresholds(y_true, y_prob, strength, source)

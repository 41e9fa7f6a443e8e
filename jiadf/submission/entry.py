"""From a folder of lesions to a file that the live benchmark takes: what `jiadf predict` does.

The folder is checked first, completely; then an ensemble of runs predicts it
(:mod:`jiadf.submission.ensemble`), each class's cut is moved to 0.5 if asked
(:mod:`jiadf.evaluation.thresholds`), and the file is written by the benchmark's rules
(:mod:`jiadf.submission.benchmark_file`).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from jiadf.data.check import check
from jiadf.data.faults import MISSING_CSV, DataError, format_faults
from jiadf.data.read import read_lesions
from jiadf.data.schema import CLASSES
from jiadf.evaluation.thresholds import Thresholds, choose_strength, fit_thresholds
from jiadf.files import atomic
from jiadf.submission.benchmark_file import write_submission
from jiadf.submission.ensemble import predict_ensemble
from jiadf.training.inputs import targets
from jiadf.training.run_folder import Run, RunError


class FolderError(DataError):
    """A folder cannot be predicted; the message spells out every fault."""

    def _text(self) -> str:
        return f"nothing was predicted.\n{format_faults(self.faults, None)}"


def read_checked(
    data: str | Path, part: str | None = None, *, images: bool = True, progress: bool = False
) -> pd.DataFrame:
    """Read a folder as :func:`jiadf.data.read.read_lesions` does, after checking all of it.

    Parameters
    ----------
    data, part
        The folder in the official layout, and its part.
    images
        Decode every image, so that a broken one is told with the rest and not half-way through.
    progress
        Show a progress bar while decoding.

    Raises
    ------
    FolderError
        With every fault of the folder.
    """
    faults = check(data, part, images=images, progress=progress)
    # A training folder's supplement is not read, so that it may be missing.
    faults = [f for f in faults if not (f.kind == MISSING_CSV and "Supplement" in f.file)]
    if faults:
        raise FolderError(faults)
    return read_lesions(data, part)


def make_table(
    runs: Sequence[Run],
    lesions: pd.DataFrame,
    cache_dir: str | Path | None = None,
    *,
    views: int | None = None,
    thresholds: Thresholds | None = None,
    only: Sequence[str] | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Predict lesions: `ensemble.predict_ensemble`, then the mapping if it is given."""
    table = predict_ensemble(runs, lesions, cache_dir, views=views, only=only, progress=progress)
    if thresholds is not None:
        table[list(CLASSES)] = thresholds.apply(table[list(CLASSES)])
    return table


def write_entry(out: str | Path, table: pd.DataFrame, *, weights: bool = False) -> Path:
    """Write a submission by the benchmark's rules; with `weights`, a table for reading.

    Raises
    ------
    jiadf.submission.benchmark_file.SubmissionError
        If it could not be submitted; nothing is written.
    """
    out = Path(out)
    if weights:
        with atomic(out) as staged:
            table.to_csv(staged)
        return out
    return write_submission(out, table.index, table[list(CLASSES)])


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
    run = runs[0]
    predictions = run.predictions
    known = sorted(predictions["split"].unique())
    if split not in known:
        raise ValueError(f"{run.path} has no {split!r} lesions; it has {', '.join(known)}.")
    chosen = predictions.index[predictions["split"] == split]
    missing = chosen.difference(present)
    if len(missing):
        raise ValueError(
            f"{len(missing)} {split} lesions of {run.path} are not in the data folder, the first "
            f"{missing[0]}; give the folder that the run was trained on."
        )
    return list(chosen)


def out_of_fold_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Return the mean prediction of each run's test lesions, from the run folders alone.

    Returns
    -------
    DataFrame
        Indexed by ``lesion_id``: `label`, `fold`, and the eleven probabilities, the mean over all
        runs that have this lesion in their test part (seeds).

    Raises
    ------
    jiadf.training.run_folder.RunError
        If a run kept no test fold, or two runs tell different folds or labels of a lesion.
    """
    tables = []
    without = [str(run.path) for run in runs if run.parameters.test_fold is None]
    if without:
        raise RunError(
            f"these runs kept no test fold: {', '.join(without)}. Thresholds are fitted on lesions "
            "that took no part in training: train with test_fold, or `jiadf grid` with "
            "`protocol: out-of-fold`."
        )
    for run in runs:
        table = run.predictions.query("split == 'test'")
        tables.append(table.assign(fold=run.parameters.test_fold)[["label", "fold", *CLASSES]])
    grouped = pd.concat(tables).groupby(level="lesion_id")
    if (grouped[["label", "fold"]].nunique() > 1).to_numpy().any():
        raise RunError("these runs deal the same lesions to different folds; give one split's.")
    means = grouped[list(CLASSES)].mean()
    return pd.concat([grouped[["label", "fold"]].first(), means], axis=1)


def fit_on_test_folds(runs: Sequence[Run], strength: float | None = None) -> Thresholds:
    """Fit cuts on the test lesions of runs: all folds, and seeds, of one system.

    Parameters
    ----------
    runs
        Finished runs that kept a test fold.
    strength
        See :mod:`jiadf.evaluation.thresholds`; None chooses it by cross-validation over the folds.
    """
    table = out_of_fold_table(runs)
    truth, prob = targets(table), table[list(CLASSES)].to_numpy()
    folds = table["fold"].to_numpy()
    if strength is None:
        if len(np.unique(folds)) < 2:
            raise RunError("one test fold cannot choose the strength: give --strength, or more.")
        strength = choose_strength(truth, prob, folds)
    source = {"runs": len(runs), "folds": len(np.unique(folds)), "chosen_on": "test folds"}
    return fit_thresholds(truth, prob, strength, source)

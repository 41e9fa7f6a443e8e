"""Probabilities from several networks, and from several views of a lesion: means of posteriors.

Members of an ensemble are finished runs (seeds, folds, or different settings); test-time
augmentation shows each of them several views of every lesion
(:func:`jiadf.training.predict.predict_views`).

The mean of posteriors is again a posterior, and its negative log-likelihood is never worse than
the mean of the members' (Jensen's inequality; Lakshminarayanan et al. 2017, "Simple and scalable
predictive uncertainty estimation using deep ensembles").
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from jiadf.training.inputs import Shared
from jiadf.training.predict import mean_table, predict_views
from jiadf.training.run_folder import Run, RunError


def find_runs(paths: Sequence[str | Path]) -> list[Run]:
    """Return the finished runs at `paths`, each a run folder or a folder that holds some.

    Raises
    ------
    jiadf.training.run_folder.RunError
        If a path leads to no finished run, or a run is there twice; names them all.
    """
    runs: list[Run] = []
    wrong = []
    for path in map(Path, paths):
        if not path.is_dir():
            wrong.append(f"{path}: no such folder")
        elif (path / "config.yaml").exists() or Run(path).finished:
            runs.append(Run(path))
        elif inside := sorted(path.rglob("config.yaml")):
            runs += [Run(file.parent) for file in inside]
        else:
            wrong.append(f"{path}: holds no run")
    places = [run.path.resolve() for run in runs]
    for number, run in enumerate(runs):
        if places[number] in places[:number]:
            wrong.append(f"{run.path}: given twice")
        elif not run.finished:
            wrong.append(f"{run.path}: not finished")
    if wrong:
        told = "\n  ".join(wrong)
        raise RunError(f"these runs cannot predict:\n  {told}\nGive finished run folders.")
    return runs


def predict_ensemble(
    runs: Sequence[Run],
    lesions: pd.DataFrame,
    cache_dir: str | Path | None = None,
    *,
    views: int = 1,
    only: Sequence[str] | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Return a table indexed by ``lesion_id``: eleven probabilities and the branch weights.

    Means over runs, each of which counts once, and views. Branch weights only where all runs have
    the same branches.

    Parameters
    ----------
    runs, lesions, cache_dir
        Finished runs, the lesions of one folder, and where image and feature caches lie.
    views
        Of every lesion (test-time augmentation); 1: the images themselves.
    only
        ``lesion_id`` of the lesions to predict, in the order of the result; all if None.
    progress
        Show progress bars.

    Raises
    ------
    ValueError
        If a `finetune` run is to see more than eight views.
    """
    chosen = lesions if only is None else lesions.loc[list(only)]
    shared: Shared = {}
    options = {"rows": lesions.index.get_indexer(chosen.index)}
    options |= {"progress": progress, "shared": shared}
    return mean_table([predict_views(run, lesions, cache_dir, views, **options) for run in runs])

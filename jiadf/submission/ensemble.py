"""Probabilities from several networks, and from several views of a lesion: means of posteriors.

Members of an ensemble are finished runs (seeds, folds, or different settings); test-time
augmentation shows each of them several views of every lesion:

* in the `frozen` regime the cached views, the picture itself first
(:mod:`jiadf.training.features`);
* in `finetune` the picture turned by quarters, then its mirror image turned by quarters: at most
  eight views, none of which resamples a pixel.

The mean of posteriors is again a posterior, and its negative log-likelihood is never worse than
the mean of the members' (Jensen's inequality; Lakshminarayanan et al. 2017, "Simple and scalable
predictive uncertainty estimation using deep ensembles").
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from jiadf.config import Parameters
from jiadf.data.batches import Inputs
from jiadf.data.schema import CLASSES
from jiadf.training.inputs import Shared, image_streams
from jiadf.training.predict import Prediction, prediction_table, predictor, run_inputs
from jiadf.training.run_folder import Run, RunError

TURNED_VIEWS = 8  # of a picture without resampling it


def find_runs(paths: Sequence[str | Path]) -> list[Run]:
    """Return the finished runs at `paths`, each a run folder or a folder that holds some.

    Raises
    ------
    jiadf.training.run_folder.RunError
        If a path leads to no finished run, a run is there twice, or there is none; names them all.
    """
    runs: list[Run] = []
    wrong = []
    for path in map(Path, paths):
        if not path.is_dir():
            wrong.append(f"{path}: no such folder")
        elif (path / "config.yaml").exists() or Run(path).finished:
            runs.append(Run(path))
        else:
            inside = [Run(file.parent) for file in sorted(path.rglob("config.yaml"))]
            runs += inside
            if not inside:
                wrong.append(f"{path}: holds no run")
    seen: set[Path] = set()
    for run in runs:
        if run.path.resolve() in seen:
            wrong.append(f"{run.path}: given twice")
        elif not run.finished:
            wrong.append(f"{run.path}: not finished")
        seen.add(run.path.resolve())
    if wrong or not runs:
        told = "\n  ".join(wrong or ["no run was named"])
        raise RunError(f"these runs cannot predict:\n  {told}\nGive finished run folders.")
    return runs


def turned(images: np.ndarray, view: int) -> np.ndarray:
    """Return one of the eight turned and mirrored views of images (N, S, S, 3); 0 is themselves.

    The answer shares the memory of `images`: a memory-mapped file is not read.
    """
    if not 0 <= view < TURNED_VIEWS:
        raise ValueError(f"view is {view}; a picture has {TURNED_VIEWS} such views, 0 to 7.")
    mirrored = images[:, :, ::-1] if view >= 4 else images
    return np.rot90(mirrored, view % 4, axes=(1, 2))


def useful_views(parameters: Parameters, views: int) -> int:
    """Return how many views of a lesion a run can use: 1 where it sees no picture.

    Raises
    ------
    ValueError
        If `views` is below 1, or above the eight of a `finetune` run.
    """
    if views < 1 or (parameters.regime == "finetune" and views > TURNED_VIEWS):
        raise ValueError(f"views is {views}; it must be 1 to {TURNED_VIEWS} (frozen: 1 or more).")
    return views if image_streams(parameters) else 1


def predict_views(
    run: Run, inputs: Inputs, views: int, rows: Sequence[int] | np.ndarray | None = None
) -> list[Prediction]:
    """Predict each of the first views of every lesion.

    Parameters
    ----------
    run
        A finished run.
    inputs
        Of N lesions, from :func:`jiadf.training.predict.run_inputs` with at least as many
        ``views``.
    views
        Number of views; the first is the picture itself.
    rows
        The lesions to predict, in the order of the result; all if None.
    """
    predictions, answer = [], predictor(run, inputs)
    for view in range(useful_views(run.parameters, views)):
        frozen = run.parameters.regime == "frozen"
        streams = {
            name: array[:, view : view + 1] if frozen else turned(array, view)
            for name, array in inputs.streams.items()
        }
        predictions.append(answer(replace(inputs, streams=streams), rows))
    return predictions


def mean_posterior(predictions: Sequence[Prediction]) -> np.ndarray:
    """Return the mean of the posteriors, float64 (N, K)."""
    return np.mean([prediction.posterior for prediction in predictions], axis=0)


def predict_ensemble(
    runs: Sequence[Run],
    lesions: pd.DataFrame,
    cache_dir: str | Path | None = None,
    *,
    views: int | None = None,
    only: Sequence[str] | None = None,
    progress: bool = True,
    shared: Shared | None = None,
) -> pd.DataFrame:
    """Return a table indexed by ``lesion_id``: eleven probabilities and the branch weights.

    Parameters
    ----------
    runs
        Finished runs; each counts the same.
    lesions
        A table from :func:`jiadf.data.read.read_lesions`, of either part; labels are not read.
    cache_dir
        Where image and feature caches lie.
    views
        Views of every lesion (test-time augmentation); 1: the images themselves; None: each run's
        ``prediction_views``.
    only
        ``lesion_id`` of the lesions to predict, in the order of the result; all if None.
    progress
        Show progress bars.
    shared
        A dict that keeps what was read, for more calls over the same lesions.

    Returns
    -------
    DataFrame
        Means over runs and views. Branch weights only where all runs have the same branches.
    """
    if not runs:
        raise ValueError("an ensemble needs at least one run.")
    shared = {} if shared is None else shared
    chosen = lesions if only is None else lesions.loc[list(only)]
    rows = lesions.index.get_indexer(chosen.index)
    tables = []
    for run in runs:
        seen = useful_views(run.parameters, views or run.parameters.prediction_views)
        cached = seen if run.parameters.regime == "frozen" else 1
        inputs = run_inputs(run, lesions, cache_dir, views=cached, progress=progress, shared=shared)
        said = predict_views(run, inputs, seen, rows)
        # A run counts once, however many views it can use.
        tables.append(_mean([prediction_table(chosen, prediction) for prediction in said]))
    return _mean(tables)


def _mean(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    same = all(table.columns.equals(tables[0].columns) for table in tables)
    columns = list(tables[0].columns) if same else list(CLASSES)
    values = np.mean([table[columns].to_numpy() for table in tables], axis=0)
    return pd.DataFrame(values, tables[0].index, columns)

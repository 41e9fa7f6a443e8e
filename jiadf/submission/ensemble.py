"""Probabilities from several networks, and from several views of a lesion: means of posteriors.

Members of an ensemble are finished runs (seeds, folds, or different settings); test-time
augmentation shows each of them several views of every lesion:

* in the `frozen` regime the cached views, the image itself first
  (:mod:`jiadf.training.features`);
* in `finetune` the image turned by quarters, then its mirror image turned by quarters: at most
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

from jiadf.data.schema import CLASSES
from jiadf.training.inputs import Shared, image_streams, prepare_inputs
from jiadf.training.predict import load_network, predict_inputs, prediction_table
from jiadf.training.run_folder import Run, RunError

TURNED_VIEWS = 8  # of an image without resampling it


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


def turned(images: np.ndarray, view: int) -> np.ndarray:
    """Return one of the eight turned and mirrored views of images (N, S, S, 3); 0 is themselves.

    The answer shares the memory of `images`: a memory-mapped file is not read.
    """
    mirrored = images[:, :, ::-1] if view >= 4 else images
    return np.rot90(mirrored, view % 4, axes=(1, 2))


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
    rows = lesions.index.get_indexer(chosen.index)
    shared: Shared = {}
    means = []
    for run in runs:
        frozen = run.parameters.regime == "frozen"
        if views > TURNED_VIEWS and not frozen:
            raise ValueError(f"views is {views}; a finetune run has {TURNED_VIEWS} of an image.")
        count = views if image_streams(run.parameters) else 1
        cached = count if frozen else 1
        options = {"views": cached, "progress": progress, "shared": shared}
        inputs = prepare_inputs(lesions, run.encoder, run.parameters, cache_dir, **options)
        network, tables = load_network(run, inputs), []
        for view in range(count):
            streams = {
                name: array[:, [view]] if frozen else turned(array, view)
                for name, array in inputs.streams.items()
            }
            seen = replace(inputs, streams=streams)
            prediction = predict_inputs(network, seen, run.parameters, rows)
            tables.append(prediction_table(chosen, prediction))
        means.append(_mean(tables))
    return _mean(means)


def _mean(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    same = all(table.columns.equals(tables[0].columns) for table in tables)
    columns = list(tables[0].columns) if same else list(CLASSES)
    values = np.mean([table[columns].to_numpy() for table in tables], axis=0)
    return pd.DataFrame(values, tables[0].index, columns)

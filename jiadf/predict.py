"""Probabilities for lesions from a finished run."""

from pathlib import Path

import numpy as np
import pandas as pd

from jiadf.build import build_network, load_weights
from jiadf.data.dataset import LesionDataset, whole_batch
from jiadf.data.encode import MetadataEncoder
from jiadf.inputs import prepare_inputs
from jiadf.runs import Run
from jiadf.train import DataLoader, make_accelerator, predict_batches, prediction_table


def predict(
    run: Run,
    lesions: pd.DataFrame,
    cache_dir: str | Path | None = None,
    *,
    progress: bool = True,
) -> pd.DataFrame:
    """Return a table indexed by ``lesion_id``: eleven probabilities and the branch weights.

    Parameters
    ----------
    run
        A finished run.
    lesions
        A table from :func:`jiadf.data.read.read_lesions`, of either part; labels are not read.
    cache_dir
        Where image and feature caches lie.
    progress
        Show progress bars.

    Raises
    ------
    jiadf.runs.RunError
        If the run is missing or unfinished.
    """
    parameters = run.parameters
    weights = run.weights()
    encoder = MetadataEncoder.from_json(run.text("encoder.json"), run.path / "encoder.json")
    inputs = prepare_inputs(lesions, encoder, parameters, cache_dir, progress=progress)
    network = build_network(parameters, inputs, pretrained=False)
    load_weights(network, weights, str(run.path))
    accelerator = make_accelerator(parameters)
    data = LesionDataset(inputs, np.arange(len(lesions)))
    loader = DataLoader(data, parameters.batch_size, collate_fn=whole_batch)
    network, loader = accelerator.prepare(network, loader)
    log_posterior, branch_weights = predict_batches(network, loader, accelerator)
    names = accelerator.unwrap_model(network).config.branch_names
    return prediction_table(lesions, log_posterior, branch_weights, names)

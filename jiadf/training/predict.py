"""Probabilities for lesions: what a network says of inputs, and as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.special import softmax
from torch.utils.data import DataLoader

from jiadf.config import Parameters
from jiadf.data.batches import Inputs, LesionDataset, whole_batch
from jiadf.data.schema import CLASSES
from jiadf.training.inputs import (
    Shared,
    image_streams,
    prepare_inputs,
    resolve_device,
    resolve_precision,
)
from jiadf.training.network import build_network, load_weights
from jiadf.training.run_folder import Run

TURNED_VIEWS = 8  # of an image without resampling it


@dataclass(frozen=True)
class Prediction:
    """What a network says of N lesions, in their order, float32.

    The decision ``log_posterior`` (N, K), the ``logits`` (N, K) of each branch as they are mixed,
    and the branch ``weights`` (N, b), None where the joint head decides.
    """

    log_posterior: np.ndarray
    logits: Mapping[str, np.ndarray]
    weights: np.ndarray | None

    @property
    def posterior(self) -> np.ndarray:
        """The decision as probabilities, float64 (N, K), each row summing to one."""
        posterior = np.exp(self.log_posterior.astype(np.float64))
        return posterior / posterior.sum(1, keepdims=True)


def load_network(run: Run, inputs: Inputs, device: str | None = None) -> torch.nn.Module:
    """Return a finished run's network, on the run's own device if none is given."""
    weights = run.weights()
    network = build_network(run.parameters, inputs, pretrained=False)
    load_weights(network, weights, str(run.path))
    return network.to(resolve_device(device or run.parameters.device)).eval()


@torch.inference_mode()
def predict_inputs(
    network: torch.nn.Module,
    inputs: Inputs,
    parameters: Parameters,
    rows: Sequence[int] | np.ndarray | None = None,
) -> Prediction:
    """Run a network in evaluation mode, where it lies, in a run's precision, over some rows."""
    network.eval()
    device = next(network.parameters()).device
    precision = resolve_precision(parameters, device.type)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    rows = np.arange(len(inputs)) if rows is None else rows
    data = LesionDataset(inputs, rows)
    parts = []
    for batch in DataLoader(data, parameters.batch_size, collate_fn=whole_batch):
        batch = {name: values.to(device) for name, values in batch.items()}
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            output = network(batch)
        logits = output.mixed
        if logits is None:
            logits = torch.stack(list(output.logits.values()), dim=1)  # (B, b, K)
        parts.append((output.log_posterior, logits, output.weights))
    log_posterior, logits, weights = (
        None if values[0] is None else torch.cat(values).float().cpu().numpy()
        for values in zip(*parts, strict=True)
    )
    branches = dict(zip(output.logits, logits.swapaxes(0, 1), strict=True))
    return Prediction(log_posterior, branches, weights)


def prediction_table(
    lesions: pd.DataFrame, prediction: Prediction, *, branches: bool = False
) -> pd.DataFrame:
    """Lay out probabilities, weights and maybe ``branches`` (``joint_MEL``), indexed by lesion."""
    table = pd.DataFrame(prediction.posterior, index=lesions.index, columns=list(CLASSES))
    if prediction.weights is not None:
        table[[f"weight_{branch}" for branch in prediction.logits]] = prediction.weights
    for branch, logits in prediction.logits.items() if branches else ():
        table[[f"{branch}_{code}" for code in CLASSES]] = softmax(logits.astype(np.float64), axis=1)
    return table


def mean_table(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Average tables of the same lesions; only their probabilities if other columns differ."""
    same = all(table.columns.equals(tables[0].columns) for table in tables)
    columns = list(tables[0].columns) if same else list(CLASSES)
    values = np.mean([table[columns].to_numpy() for table in tables], axis=0)
    return pd.DataFrame(values, tables[0].index, columns)


def turned(images: np.ndarray, view: int) -> np.ndarray:
    """Return one of the eight turned and mirrored views of images (N, S, S, 3); 0 is themselves.

    The answer shares the memory of `images`: a memory-mapped file is not read.
    """
    mirrored = images[:, :, ::-1] if view >= 4 else images
    return np.rot90(mirrored, view % 4, axes=(1, 2))


def predict_views(
    run: Run,
    lesions: pd.DataFrame,
    cache_dir: str | Path | None,
    views: int,
    *,
    rows: Sequence[int] | np.ndarray | None = None,
    progress: bool = True,
    shared: Shared | None = None,
    branches: bool = False,
) -> pd.DataFrame:
    """Return a :func:`prediction_table` of some rows of lesions, a finished run's mean over views.

    In the `frozen` regime these are the cached views, the image itself first
    (:mod:`jiadf.training.features`); in `finetune` the image turned by quarters, then its mirror
    image turned by quarters: at most eight, else a ``ValueError``. A run without images has one.
    """
    frozen = run.parameters.regime == "frozen"
    if views > TURNED_VIEWS and not frozen:
        raise ValueError(f"views is {views}; a finetune run has {TURNED_VIEWS} of an image.")
    count = views if image_streams(run.parameters) else 1
    options = {"views": count if frozen else 1, "progress": progress, "shared": shared}
    inputs = prepare_inputs(lesions, run.encoder, run.parameters, cache_dir, **options)
    network = load_network(run, inputs)
    chosen = lesions if rows is None else lesions.iloc[rows]
    tables = []
    for view in range(count):
        streams = {
            name: array[:, [view]] if frozen else turned(array, view)
            for name, array in inputs.streams.items()
        }
        seen = replace(inputs, streams=streams)
        prediction = predict_inputs(network, seen, run.parameters, rows)
        tables.append(prediction_table(chosen, prediction, branches=branches))
    return mean_table(tables)

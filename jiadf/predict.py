"""Probabilities for lesions: from a finished run, or from a network over prepared batches."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DataLoaderConfiguration
from torch.utils.data import DataLoader

from jiadf.build import build_network, load_weights
from jiadf.config import Parameters
from jiadf.data.dataset import LesionDataset, whole_batch
from jiadf.data.encode import MetadataEncoder
from jiadf.data.schema import CLASSES
from jiadf.inputs import prepare_inputs, resolve_device
from jiadf.runs import Run


def predict(
    run: Run,
    lesions: pd.DataFrame,
    cache_dir: str | Path | None = None,
    *,
    only: Sequence[str] | None = None,
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
    only
        ``lesion_id`` of the lesions to predict, in the order of the result; all if None. Images
        are cached for the whole table, so that a part of it costs nothing new.
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
    chosen = lesions if only is None else lesions.loc[list(only)]
    data = LesionDataset(inputs, lesions.index.get_indexer(chosen.index))
    loader = DataLoader(data, parameters.batch_size, collate_fn=whole_batch)
    network, loader = accelerator.prepare(network, loader)
    log_posterior, branch_weights = predict_batches(network, loader, accelerator)
    names = accelerator.unwrap_model(network).config.branch_names
    return prediction_table(chosen, log_posterior, branch_weights, names)


def make_accelerator(parameters: Parameters) -> Accelerator:
    """Make the Accelerator that the parameters ask for, in whatever launched this process."""
    if AcceleratorState._shared_state:  # an earlier run of this process may differ in precision
        AcceleratorState._reset_state(reset_partial_state=True)
    device = resolve_device(parameters.device)
    return Accelerator(
        cpu=device == "cpu",
        mixed_precision=parameters.mixed_precision,
        dataloader_config=DataLoaderConfiguration(
            use_seedable_sampler=True, data_seed=parameters.seed
        ),
    )


@torch.inference_mode()
def predict_batches(
    network: torch.nn.Module, loader: DataLoader, accelerator: Accelerator
) -> tuple[np.ndarray, np.ndarray | None]:
    """Run the network over a prepared loader, in order, on every process's share of it."""
    network.eval()
    log_posteriors, weights = [], []
    for batch in loader:
        with accelerator.autocast():
            output = network(batch)
        log_posteriors.append(accelerator.gather_for_metrics(output.log_posterior))
        if output.weights is not None:
            weights.append(accelerator.gather_for_metrics(output.weights))
    log_posterior = torch.cat(log_posteriors).float().cpu().numpy()
    return log_posterior, torch.cat(weights).float().cpu().numpy() if weights else None


def prediction_table(
    lesions: pd.DataFrame, log_posterior: np.ndarray, weights: np.ndarray | None, branches: tuple
) -> pd.DataFrame:
    """Lay out probabilities (N, K) and branch weights (N, b) as a table indexed by lesion."""
    posterior = np.exp(log_posterior.astype(np.float64))
    posterior /= posterior.sum(1, keepdims=True)
    table = pd.DataFrame(posterior, index=lesions.index, columns=list(CLASSES))
    if weights is not None:
        table[[f"weight_{branch}" for branch in branches]] = weights
    return table

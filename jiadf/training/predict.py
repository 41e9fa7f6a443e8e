"""Probabilities for lesions: from a finished run, or from a network over prepared batches.

:func:`predict` makes the table that is submitted. :func:`predict_inputs` shows more of the same
network, every branch's logits beside the posterior, for inputs that may have been changed first
(a damaged image, a missing field).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs
from scipy.special import softmax
from torch.utils.data import DataLoader

from jiadf.config import Parameters
from jiadf.data.batches import Inputs, LesionDataset, complete, whole_batch
from jiadf.data.metadata import MetadataEncoder
from jiadf.data.schema import CLASSES
from jiadf.training.inputs import Shared, prepare_inputs, resolve_device, resolve_precision
from jiadf.training.network import build_network, load_weights
from jiadf.training.run_folder import Run


@dataclass(frozen=True)
class Prediction:
    """What a network says of N lesions, in their order.

    Attributes
    ----------
    log_posterior
        The decision, float32 (N, K).
    logits
        Of each branch, in the network's order, float32 (N, K).
    weights
        Branch weights, float32 (N, b); None where the joint head decides.
    """

    log_posterior: np.ndarray
    logits: Mapping[str, np.ndarray]
    weights: np.ndarray | None

    @property
    def posterior(self) -> np.ndarray:
        """The decision as probabilities, float64 (N, K), each row summing to one."""
        posterior = np.exp(self.log_posterior.astype(np.float64))
        return posterior / posterior.sum(1, keepdims=True)


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
    jiadf.training.run_folder.RunError
        If the run is missing or unfinished.
    """
    inputs = run_inputs(run, lesions, cache_dir, progress=progress)
    chosen = lesions if only is None else lesions.loc[list(only)]
    rows = lesions.index.get_indexer(chosen.index)
    return prediction_table(chosen, predict_inputs(run, inputs, rows))


def run_inputs(
    run: Run,
    lesions: pd.DataFrame,
    cache_dir: str | Path | None = None,
    *,
    views: int = 1,
    progress: bool = True,
    shared: Shared | None = None,
) -> Inputs:
    """Return what a run's network sees of these lesions: `inputs.prepare_inputs`."""
    parameters = run.parameters
    encoder = MetadataEncoder.from_json(run.text("encoder.json"), run.path / "encoder.json")
    return prepare_inputs(
        lesions, encoder, parameters, cache_dir, views=views, progress=progress, shared=shared
    )


def load_network(run: Run, inputs: Inputs) -> torch.nn.Module:
    """Return a finished run's network on the CPU; of ``inputs`` only the widths are read."""
    weights = run.weights()
    network = build_network(run.parameters, inputs, pretrained=False)
    load_weights(network, weights, str(run.path))
    return network.eval()


def predict_inputs(
    run: Run,
    inputs: Inputs,
    rows: Sequence[int] | np.ndarray | None = None,
) -> Prediction:
    """Run a finished run's network over inputs from :func:`run_inputs`, or a change of them.

    Parameters
    ----------
    run
        A finished run.
    inputs
        Arrays of N lesions, encoded with this run's metadata encoder.
    rows
        The lesions to predict, in the order of the result; all if None.
    """
    return predictor(run, inputs)(inputs, rows)


def predictor(run: Run, inputs: Inputs) -> Callable[..., Prediction]:
    """Load a finished run's network once, for many calls as of :func:`predict_inputs`.

    Of ``inputs`` only the widths are read; call the answer with inputs and, if wanted, rows.
    """
    parameters = run.parameters
    accelerator = make_accelerator(parameters)
    network = accelerator.prepare(load_network(run, inputs))

    def answer(inputs: Inputs, rows: Sequence[int] | np.ndarray | None = None) -> Prediction:
        data = LesionDataset(inputs, np.arange(len(inputs)) if rows is None else rows)
        loader = DataLoader(data, parameters.batch_size, collate_fn=whole_batch)
        return predict_batches(network, accelerator.prepare(loader), accelerator)

    return answer


def make_accelerator(parameters: Parameters) -> Accelerator:
    """Make the Accelerator that the parameters ask for, in whatever launched this process."""
    if AcceleratorState._shared_state:  # an earlier run of this process may differ in precision
        AcceleratorState._reset_state(reset_partial_state=True)
    device = resolve_device(parameters.device)
    return Accelerator(
        cpu=device == "cpu",
        mixed_precision=resolve_precision(parameters),
        dataloader_config=DataLoaderConfiguration(
            use_seedable_sampler=True, data_seed=parameters.seed, non_blocking=device == "cuda"
        ),
        # Methods with stages leave some parameters idle in each.
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=parameters.method != "ji-adf")
        ],
    )


@torch.inference_mode()
def predict_batches(
    network: torch.nn.Module,
    loader: DataLoader,
    accelerator: Accelerator,
    arrays: Mapping[str, torch.Tensor] | None = None,
) -> Prediction:
    """Run the network over a prepared loader, in order, on every process's share of it.

    ``arrays`` are those on the device that the loader's batches are completed from, if they are.
    """
    network.eval()
    gathered: dict[str, list[torch.Tensor]] = {}
    for batch in loader:
        with accelerator.autocast():
            output = network(complete(batch, arrays))
        parts = {"log_posterior": output.log_posterior, "weights": output.weights}
        parts |= {f"logits.{name}": logits for name, logits in output.logits.items()}
        for name, value in parts.items():
            if value is not None:
                gathered.setdefault(name, []).append(accelerator.gather_for_metrics(value))
    whole = {name: torch.cat(values).float().cpu().numpy() for name, values in gathered.items()}
    logits = {n.removeprefix("logits."): v for n, v in whole.items() if n.startswith("logits.")}
    return Prediction(whole["log_posterior"], logits, whole.get("weights"))


def prediction_table(
    lesions: pd.DataFrame, prediction: Prediction, *, branches: bool = False
) -> pd.DataFrame:
    """Lay out probabilities and branch weights as a table indexed by lesion.

    With ``branches`` every branch's own probabilities stand in it too, as ``joint_MEL``.
    """
    table = pd.DataFrame(prediction.posterior, index=lesions.index, columns=list(CLASSES))
    if prediction.weights is not None:
        table[[f"weight_{branch}" for branch in prediction.logits]] = prediction.weights
    for branch, logits in prediction.logits.items() if branches else ():
        table[[f"{branch}_{code}" for code in CLASSES]] = softmax(logits.astype(np.float64), axis=1)
    return table

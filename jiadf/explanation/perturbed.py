"""Predictions of end-to-end networks for lesions with one thing wrong, to be recorded.

Each lesion is shown to the network that never saw it: as it is, without a modality or a field, with
one of another lesion, with its images exchanged, and with one image corrupted
(:mod:`jiadf.explanation.perturbations`, :mod:`jiadf.explanation.corruptions`). An image is encoded
once for all that leaves it alone, so that everything but corruptions costs seconds.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from jiadf.data.batches import Inputs, one_batch
from jiadf.data.metadata import MetadataEncoder
from jiadf.evaluation.record import checked_runs, record_keys, record_provenance
from jiadf.explanation import perturbations as damage
from jiadf.explanation.corruptions import CORRUPTIONS, corrupt
from jiadf.training.grid import Grid, GridRun
from jiadf.training.inputs import resolve_precision
from jiadf.training.predict import Prediction, load_network, prediction_table, run_inputs
from jiadf.training.run_folder import Run

INTACT = "intact"
SEVERITIES = (1, 3, 5)
_BATCH = 64


def perturbed_predictions(
    grid: Grid,
    runs_dir: str | Path,
    lesions: pd.DataFrame,
    cache_dir: str | Path | None = None,
    *,
    systems: Iterable[str],
    severities: Sequence[int] = SEVERITIES,
    progress: bool = True,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Predict what the scored lesions of each run look like with one thing wrong.

    Parameters
    ----------
    grid, runs_dir, lesions
        As of :func:`jiadf.evaluation.record.record_grid_predictions`; runs of the `finetune`
        regime that read both images and the metadata.
    cache_dir
        Where image caches lie.
    systems
        Names of the systems that are asked.
    severities
        Of the corruptions, 1 to 5.
    progress
        Print a line a run.

    Returns
    -------
    table, provenance
        For :func:`jiadf.evaluation.predictions.write_predictions`. A model is a system and what
        is wrong, ``ji-adf / clinical: blur 3``; ``ji-adf / intact`` is the system itself.
    """
    runs = checked_runs(grid, runs_dir, lesions, systems)
    tables, shared = [], {}
    for run in runs:
        for what, rows, prediction in _of_run(run, grid, lesions, cache_dir, severities, shared):
            table = prediction_table(lesions.iloc[rows], prediction, branches=True)
            table = table.assign(**record_keys(run) | {"system": f"{run.system} / {what}"})
            tables.append(table.astype({c: np.float32 for c in table.select_dtypes("float")}))
        if progress:
            print(f"{run.path}: {sum(len(t) for t in tables):,} predictions so far", flush=True)
    provenance = record_provenance(grid, runs) | {"severities": list(severities)}
    return pd.concat(tables).reset_index(), provenance


def _of_run(
    run: GridRun, grid: Grid, lesions: pd.DataFrame, cache_dir, severities, shared: dict
) -> Iterator[tuple[str, np.ndarray, Prediction]]:
    made = Run(run.path)
    parts = made.predictions["split"].loc[lesions.index].to_numpy()
    rows = np.flatnonzero(parts == grid.scored_part)
    pixels = damage.take(run_inputs(made, lesions, cache_dir, progress=False, shared=shared), rows)
    columns = MetadataEncoder.from_json(made.text("encoder.json"), made.path).columns
    network = SplitNetwork(load_network(made, pixels), resolve_precision(made.parameters) == "bf16")
    streams = {name: network.encode(name, array) for name, array in pixels.streams.items()}
    intact = replace(pixels, streams=streams)
    yield INTACT, rows, network.decide(intact)
    other = {"clinical": "dermoscopic", "dermoscopic": "clinical"}
    swapped = {n: network.encode(n, pixels.streams[other[n]]) for n in streams}
    yield "images exchanged", rows, network.decide(replace(intact, streams=swapped))
    for name, change in perturbations(columns).items():
        yield name, rows, network.decide(change(intact))
    for name, array in pixels.streams.items():
        for kind in CORRUPTIONS:
            for severity in severities:
                features = network.encode(name, corrupt(array, kind, severity, seed=0))
                changed = replace(intact, streams={**streams, name: features})
                yield f"{name}: {kind} {severity}", rows, network.decide(changed)


def perturbations(columns: Sequence[str]) -> dict[str, Callable[[Inputs], Inputs]]:
    """Return what is done to inputs whose images are encoded already, by its name.

    ``columns`` are those of the encoded metadata.
    """
    given = {name: [name] for name in ("clinical", "dermoscopic", "metadata")}
    given["images"] = ["clinical", "dermoscopic"]
    changes = {f"{name} missing": partial(damage.without, names=n) for name, n in given.items()}
    for field in damage.FIELDS:
        missing = partial(damage.field_missing, columns=columns, field=field)
        changes[f"{field} missing"] = missing
    for field in ("age", "site"):
        changes[f"{field} wrong"] = partial(damage.field_wrong, columns=columns, field=field)
    for name in ("clinical", "dermoscopic", "metadata"):
        changes[f"{name} of another lesion"] = partial(damage.of_another_lesion, name=name)
    return changes


class SplitNetwork:
    """A network cut between its image encoders and the rest."""

    def __init__(self, network: nn.Module, half: bool) -> None:
        self.encoders = dict(network.image_encoders)
        network.image_encoders = nn.ModuleDict({name: nn.Identity() for name in self.encoders})
        self.network, self.half = network, half

    @torch.inference_mode()
    def encode(self, name: str, pixels: np.ndarray) -> np.ndarray:
        """Map uint8 (N, S, S, 3) to features float32 (N, 1, F)."""
        parts = []
        for start in range(0, len(pixels), _BATCH):
            batch = torch.from_numpy(np.array(pixels[start : start + _BATCH])).permute(0, 3, 1, 2)
            with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
                parts.append(self.encoders[name](batch).float())
        return torch.cat(parts)[:, None].numpy()

    @torch.inference_mode()
    def decide(self, inputs: Inputs) -> Prediction:
        """Predict from features, all lesions as one batch."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            output = self.network(one_batch(inputs, np.arange(len(inputs))))
        logits = {name: value.float().numpy() for name, value in output.logits.items()}
        weights = None if output.weights is None else output.weights.float().numpy()
        return Prediction(output.log_posterior.float().numpy(), logits, weights)

"""The mechanisms of three methods of Table 1: do they work on lesions that are not trained on.

- VEMFL closes the gap between the means of its image and text embeddings, measured on the training
  lesions: how much of it is left on others?
- ALBEF aligns an image with its own sentence: how many other sentences are less similar to it?
- CoscatNet-UFS weighs two decisions by the error it expects of each: does the weight follow the
  decision that is right?
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from jiadf.data.batches import one_batch
from jiadf.models.baselines.base import IMAGES
from jiadf.training.grid import Grid
from jiadf.training.predict import load_network, run_inputs
from jiadf.training.run_folder import Run

Answer = dict[str, tuple[float, int]]  # what was measured: its value, and on how many lesions


def modality_gap(network: torch.nn.Module, batch: Mapping[str, Tensor]) -> Answer:
    """Measure VEMFL's gap between mean image and mean text, before and after it is closed."""
    pairs = {"before": network.embed(batch)}
    pairs["after"] = network.align(*pairs["before"])
    return {
        f"gap {when}": (float((image.mean(0) - text.mean(0)).norm()), len(image))
        for when, (image, text) in pairs.items()
    }


def own_sentence(network: torch.nn.Module, batch: Mapping[str, Tensor]) -> Answer:
    """Share of other sentences that are less similar to an ALBEF image than its own; chance 0.5.

    Sentences that read like the lesion's own are not counted; ties are one half.
    """
    encoded = network.encode(batch)
    numbers = network.text(batch["metadata"])
    _, image = network.image_side({name: encoded[name].tokens for name in IMAGES})
    _, text = network.text_side(numbers)
    similar = image @ text.mT  # (N, N), rows images
    own = similar.diagonal().unsqueeze(1)
    below = (similar < own).double() + 0.5 * (similar == own)
    other = (numbers.unsqueeze(1) != numbers).any(dim=-1)
    usable = other.any(dim=1)
    share = (below * other).sum(dim=1)[usable] / other.sum(dim=1)[usable]
    return {"own sentence nearer": (float(share.mean()), int(usable.sum()))}


def weight_of_the_right(network: torch.nn.Module, batch: Mapping[str, Tensor]) -> Answer:
    """Mean weight of CoscatNet's image decision, by which of its two decisions is right."""
    output = network(batch)
    right = {
        name: output.logits[name].argmax(dim=-1) == batch["target"]
        for name in ("joint", "metadata")
    }
    weight = output.weights[:, network.branch_names.index("joint")]
    groups = {
        "both right": right["joint"] & right["metadata"],
        "image alone right": right["joint"] & ~right["metadata"],
        "metadata alone right": ~right["joint"] & right["metadata"],
        "both wrong": ~right["joint"] & ~right["metadata"],
    }
    return {
        f"weight of the image, {name}": (float(weight[rows].mean()), int(rows.sum()))
        for name, rows in groups.items()
    }


MECHANISMS: dict[str, Callable[..., Answer]] = {
    "vemfl": modality_gap,
    "albef": own_sentence,
    "coscatnet-ufs": weight_of_the_right,
}


@torch.inference_mode()
def study(
    grid: Grid, folder: str | Path, lesions: pd.DataFrame, cache_dir: str | Path | None = None,
    *, seed: int = 0,
) -> dict[str, pd.DataFrame]:  # fmt: skip
    """Ask every run of the three methods about the lesions that it is scored on.

    As every study is called (:mod:`jiadf.studies`), for a grid of either protocol; nothing is
    drawn, so `seed` is not read.

    Returns
    -------
    dict of DataFrame
        ``mechanisms``: `system`, `measured`, `value` (mean over runs weighted by their lesions),
        `low` and `high` (the extremes over runs), `lesions` (of all runs) and `runs`.
    """
    rows, shared = [], {}
    for run in grid.runs(Path(folder)):
        if (ask := MECHANISMS.get(run.parameters.method)) is None:
            continue
        made = Run(run.path)
        inputs = run_inputs(made, lesions, cache_dir, progress=False, shared=shared)
        parts = made.predictions["split"].loc[lesions.index].to_numpy()
        batch = one_batch(inputs, np.flatnonzero(parts == grid.scored_part))
        for measured, (value, count) in ask(load_network(made, inputs), batch).items():
            rows.append((run.system, measured, value, count))
    table = pd.DataFrame(rows, columns=["system", "measured", "value", "lesions"])
    table["weighted"] = table["value"].fillna(0) * table["lesions"]
    groups = table.groupby(["system", "measured"], sort=False)
    lesions_asked = groups["lesions"].sum()
    result = pd.DataFrame(
        {
            "value": groups["weighted"].sum() / lesions_asked.replace(0, np.nan),
            "low": groups["value"].min(),
            "high": groups["value"].max(),
            "lesions": lesions_asked,
            "runs": groups.size(),
        }
    )
    return {"mechanisms": result.reset_index()}

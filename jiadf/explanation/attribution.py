"""Integrated gradients: how much each image and each metadata field moved a decision.

    >>> features = network.features(maps)  # doctest: +SKIP
    >>> given = integrated_gradients(network, features, inputs.metadata, classes)  # doctest: +SKIP
    >>> by_field(given["metadata"], model.encoder.columns)  # doctest: +SKIP

Attributions are measured from what the network takes for a lesion of which everything is missing:
features and metadata of zero, a mean age and mean scores, no category. They add up to the score's
difference from there.

Sundararajan et al. (2017), "Axiomatic attribution for deep networks". The computation is the
library's, captum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from captum.attr import IntegratedGradients
from torch import Tensor

from jiadf.explanation.network import FUSED, ExplainableNetwork


def integrated_gradients(
    network: ExplainableNetwork,
    features: Mapping[str, Tensor],
    metadata: np.ndarray,
    classes: Sequence[int] | np.ndarray,
    output: str = FUSED,
) -> dict[str, np.ndarray]:
    """Share out what `output` says of each lesion's class over its images and metadata.

    Arguments are those of :func:`jiadf.explanation.grad_cam.grad_cam`, with each stream's
    ``network.features`` (N, F) for its maps; every output can be explained.

    Returns
    -------
    dict
        Each stream's total (N,), ``metadata`` (N, D) a column, and ``gap`` (N,): what the numerical
        integration in 32 steps misses of the score's difference from the baseline.
    """
    names = tuple(features)

    def score(*values: Tensor) -> Tensor:
        scores = network.scores(dict(zip(names, values, strict=False)), values[-1], output)
        # Captum differentiates all that it is given; a branch may depend on a part of it.
        return scores + 0.0 * sum(value.sum(-1, keepdim=True) for value in values)

    inputs = (*(features[name] for name in names), torch.from_numpy(np.asarray(metadata)))
    values, gap = IntegratedGradients(score).attribute(
        inputs,
        target=torch.as_tensor(np.asarray(classes), dtype=torch.int64),
        n_steps=32,
        return_convergence_delta=True,
        internal_batch_size=2048,
    )
    result = {name: value.sum(-1).numpy() for name, value in zip(names, values, strict=False)}
    return result | {"metadata": values[-1].numpy(), "gap": gap.numpy()}


def field_of(column: str) -> str:
    """Return the metadata field behind a column of the encoder, in words."""
    name = column.split("=")[0].removesuffix("_missing")
    if "MONET_" in name:
        image, score = name.split("_MONET_")
        return f"MONET {score.split('_')[0]} ({image})"
    return {"skin_tone_class": "skin tone"}.get(name, name)


def by_field(values: np.ndarray, columns: Sequence[str]) -> pd.DataFrame:
    """Add up columns' attributions (N, D) by field: a row a lesion, a column a field."""
    table = pd.DataFrame(np.asarray(values, dtype=float), columns=list(columns))
    return table.T.groupby([field_of(column) for column in columns], sort=False).sum().T

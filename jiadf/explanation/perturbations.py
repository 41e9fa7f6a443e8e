"""Inputs of a network with something wrong in them, and a network that answers them fast.

Functions take :class:`jiadf.data.batches.Inputs` and return changed ones; the originals are left
alone. What a *missing* modality is, the network says (:meth:`jiadf.models.network.JIADF.streams`),
in training and here alike. :class:`SplitNetwork` encodes an image once for all changes that leave
it alone.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from jiadf.data.batches import Inputs, one_batch
from jiadf.training.predict import Prediction

# What an entry of the metadata is called, and how its columns begin (jiadf.data.metadata).
FIELDS = {
    "age": ("age",),
    "sex": ("sex=",),
    "site": ("site",),
    "skin tone": ("skin_tone_class=",),
    "MONET scores": ("clinical_MONET", "dermoscopic_MONET"),
}
_BATCH = 64


def without(inputs: Inputs, names: Sequence[str]) -> Inputs:
    """Take whole modalities (``clinical``, ``dermoscopic``, ``metadata``) from every lesion."""
    gone = {name: np.ones(len(inputs), dtype=bool) for name in names}
    return replace(inputs, missing={**inputs.missing, **gone})


def field_columns(columns: Sequence[str], field: str) -> list[int]:
    """Places of one of :data:`FIELDS` in the metadata vector, its missing-flag included."""
    return [i for i, name in enumerate(columns) if name.startswith(FIELDS[field])]


def field_missing(inputs: Inputs, columns: Sequence[str], field: str) -> Inputs:
    """Empty one field of every lesion, as the metadata encoder would have encoded it empty."""
    metadata = inputs.metadata.copy()
    for place in field_columns(columns, field):
        metadata[:, place] = float(columns[place].endswith("_missing"))
    return replace(inputs, metadata=metadata)


def of_another_lesion(inputs: Inputs, name: str, seed: int = 0) -> Inputs:
    """Give every lesion one modality of another lesion, of whatever class; nobody keeps its own."""
    order = np.random.default_rng(seed).permutation(len(inputs))
    donors = np.empty_like(order)
    donors[order] = np.roll(order, 1)  # one cycle through all lesions
    if name == "metadata":
        return replace(inputs, metadata=inputs.metadata[donors])
    return replace(inputs, streams={**inputs.streams, name: inputs.streams[name][donors]})


class SplitNetwork:
    """A network cut between its image encoders and the rest; `half` computes in bfloat16."""

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

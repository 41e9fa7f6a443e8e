"""Inputs of a network with something wrong in them.

Functions take :class:`jiadf.data.batches.Inputs` and return changed ones; the originals are left
alone. What a *missing* modality is, the network says (:meth:`jiadf.models.network.JIADF.streams`),
in training and here alike.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from jiadf.data.batches import Inputs

# What an entry of the metadata is called, and how its columns begin (jiadf.data.metadata).
FIELDS = {
    "age": ("age",),
    "sex": ("sex=",),
    "site": ("site",),
    "skin tone": ("skin_tone_class=",),
    "MONET scores": ("clinical_MONET", "dermoscopic_MONET"),
}


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

"""Inputs of a network with something wrong in them: missing, swapped, false or corrupted.

Every function takes :class:`jiadf.data.batches.Inputs` and returns changed ones, for
:func:`jiadf.training.predict.predict_inputs`; the originals are left alone. What a *missing*
modality is, the network says (:meth:`jiadf.models.network.JIADF.streams`), in training and here
alike.
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
    known = (*inputs.streams, "metadata")
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no modality {unknown}: the inputs have {', '.join(known)}")
    gone = {name: np.ones(len(inputs), dtype=bool) for name in names}
    return replace(inputs, missing={**inputs.missing, **gone})


def field_columns(columns: Sequence[str], field: str) -> list[int]:
    """Places of a field's entries in the metadata vector, its missing-flag included."""
    if field not in FIELDS:
        raise ValueError(f"no field {field!r}: choose one of {', '.join(FIELDS)}")
    return [i for i, name in enumerate(columns) if name.startswith(FIELDS[field])]


def field_missing(inputs: Inputs, columns: Sequence[str], field: str) -> Inputs:
    """Empty one field of every lesion, as the metadata encoder would have encoded it empty."""
    metadata = inputs.metadata.copy()
    for place in field_columns(columns, field):
        metadata[:, place] = float(columns[place].endswith("_missing"))
    return replace(inputs, metadata=metadata)


def field_wrong(inputs: Inputs, columns: Sequence[str], field: str, seed: int = 0) -> Inputs:
    """Give every lesion another lesion's value of a field, one that differs from its own.

    A lesion keeps its value where all lesions share one.
    """
    places = field_columns(columns, field)
    blocks = inputs.metadata[:, places]
    _, value = np.unique(blocks, axis=0, return_inverse=True)
    value = value.ravel()
    rng = np.random.default_rng(seed)
    donors = np.arange(len(inputs))
    for own in np.unique(value):
        others = np.flatnonzero(value != own)
        if len(others):
            members = np.flatnonzero(value == own)
            donors[members] = rng.choice(others, len(members))
    metadata = inputs.metadata.copy()
    metadata[:, places] = blocks[donors]
    return replace(inputs, metadata=metadata)


def of_another_lesion(inputs: Inputs, name: str, seed: int = 0) -> Inputs:
    """Give every lesion one modality of another lesion, of whatever class; nobody keeps its own."""
    order = np.random.default_rng(seed).permutation(len(inputs))
    donors = np.empty_like(order)
    donors[order] = np.roll(order, 1)  # one cycle through all lesions
    if name == "metadata":
        return replace(inputs, metadata=inputs.metadata[donors])
    return replace(inputs, streams={**inputs.streams, name: inputs.streams[name][donors]})


def exchanged(inputs: Inputs) -> Inputs:
    """Put the clinical image where the dermoscopic one belongs, and the other way round."""
    clinical, dermoscopic = inputs.streams["clinical"], inputs.streams["dermoscopic"]
    return replace(inputs, streams={"clinical": dermoscopic, "dermoscopic": clinical})


def corrupted(inputs: Inputs, name: str, rows: np.ndarray, images: np.ndarray) -> Inputs:
    """Put damaged pictures of some lesions, or their features, in the place of a stream.

    Parameters
    ----------
    inputs
        Arrays of N lesions.
    name
        ``clinical`` or ``dermoscopic``.
    rows : (n,) int array
        The lesions kept, in the order of the result.
    images
        Pixels (n, S, S, 3) or features (n, 1, F), as the inputs hold them.

    Returns
    -------
    Inputs
        Of these n lesions alone.
    """
    kept = take(inputs, rows)
    return replace(kept, streams={**kept.streams, name: images})


def take(inputs: Inputs, rows: np.ndarray) -> Inputs:
    """Return the inputs of some lesions, the pictures themselves without augmented views."""
    streams = {
        name: array[rows] if array.dtype == np.uint8 else array[rows, :1]
        for name, array in inputs.streams.items()
    }
    missing = {name: gone[rows] for name, gone in inputs.missing.items()}
    metadata, target = inputs.metadata[rows], inputs.target[rows]
    return replace(inputs, streams=streams, metadata=metadata, target=target, missing=missing)


def balanced_rows(target: np.ndarray, size: int, seed: int = 0) -> np.ndarray:
    """Choose lesions with the classes as equal as they can be: sorted rows, (min(size, N),).

    A class with fewer lesions than its share gives all it has, and the others share the rest.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(target))
    turn = np.empty(len(target), dtype=int)  # a lesion's place in the queue of its class
    for label in np.unique(target):
        queue = order[target[order] == label]
        turn[queue] = np.arange(len(queue))
    chosen = order[np.argsort(turn[order], kind="stable")]
    return np.sort(chosen[:size])

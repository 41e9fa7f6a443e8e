"""Batches of lesions for training and prediction, in both regimes.

A batch is a dict of tensors: ``clinical`` and ``dermoscopic`` (features (B, F), or uint8 images
(B, 3, S, S)), ``metadata`` (B, D), ``target`` (B,) with -1 where there is no label, and ``index``
(B,), the lesion's row. Where modalities are missing there are ``clinical_missing``,
``dermoscopic_missing`` and ``metadata_missing``, bool (B,), too. Where the arrays lie on the device
(:func:`resident`) only the index travels, and :func:`complete` puts the rest of the batch together
there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from jiadf.data.augmentation import augment_batch


@dataclass(frozen=True)
class Inputs:
    """What the network sees of N lesions, held in arrays.

    For each image type used, ``streams`` holds features float32 (N, V, F), pixels uint8
    (N, S, S, 3), or views of the fixed stages' output float16 (N, V, h, w, C). ``metadata`` is
    float32 (N, D), ``target`` the class index int64 (N,), -1 where there is no label; ``keys`` are
    digests of what the arrays were made from. By ``clinical``, ``dermoscopic`` or ``metadata``,
    ``missing`` are the lesions that lack it, bool (N,); what the arrays hold of them is not used.
    """

    streams: Mapping[str, np.ndarray]
    metadata: np.ndarray
    target: np.ndarray
    keys: dict[str, str] = field(default_factory=dict)
    missing: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.target)

    def small_arrays(self) -> dict[str, np.ndarray]:
        """Return all arrays but the images, by their names in a batch."""
        missing = {f"{name}_missing": rows for name, rows in self.missing.items()}
        return {"metadata": self.metadata, "target": self.target, **missing}


@dataclass(eq=False)
class LesionDataset(Dataset):
    """Some rows of :class:`Inputs`, in order; fetches a whole batch at a time.

    With ``random_view`` one of the cached views of a lesion's features is drawn, else they are the
    image's itself. With ``index_only`` there is nothing but ``index`` in the batches.
    """

    inputs: Inputs
    rows: Sequence[int] | np.ndarray
    random_view: bool = False
    index_only: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, items: list[int]) -> dict[str, Tensor]:
        """Return one batch."""
        rows = np.asarray(self.rows, dtype=np.int64)[items]
        batch = {"index": torch.from_numpy(rows)}
        if self.index_only:
            return batch
        for name, array in self.inputs.small_arrays().items():
            batch[name] = torch.from_numpy(array[rows])
        for name, array in self.inputs.streams.items():
            index = rows
            if array.dtype != np.uint8:
                views = np.zeros_like(rows)
                if self.random_view:
                    views = torch.randint(array.shape[1], rows.shape).numpy()
                index = (rows, views)
            values = torch.from_numpy(array[index])
            # Pixels and maps: (B, h, w, C) to (B, C, h, w)
            batch[name] = values.permute(0, 3, 1, 2) if values.ndim == 4 else values
        return batch


def whole_batch(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Collate nothing: :class:`LesionDataset` already returns batches."""
    return batch


def one_batch(inputs: Inputs, rows: np.ndarray) -> dict[str, Tensor]:
    """Return some lesions as a single batch, in their order, unaugmented."""
    return LesionDataset(inputs, rows).__getitems__(list(range(len(rows))))


def resident(
    inputs: Inputs, device: torch.device, shared: dict[tuple, Any] | None = None
) -> dict[str, Tensor]:
    """Put the arrays of all lesions, the streams being pixels, on the device.

    ``shared`` keeps the images, for runs of one process over the same ones.
    """
    shared = {} if shared is None else shared
    arrays = {k: torch.tensor(array, device=device) for k, array in inputs.small_arrays().items()}
    for name, array in inputs.streams.items():
        kind = ("resident", inputs.keys.get(f"{name}_images", id(array)), str(device))
        if kind not in shared:
            shared[kind] = torch.tensor(array, device=device)  # uint8 (N, S, S, 3)
        arrays[name] = shared[kind]
    return arrays


def complete(
    batch: Mapping[str, Tensor], arrays: Mapping[str, Tensor] | None, augment: bool = False
) -> dict[str, Tensor]:
    """Put a batch together on the device it lies on.

    ``arrays`` are what :func:`resident` returned, if the batch holds the index only. With
    ``augment`` pixels are augmented; features are left as they are.
    """
    batch = dict(batch)
    for name, array in (arrays or {}).items():
        rows = array.index_select(0, batch["index"])
        batch[name] = rows.permute(0, 3, 1, 2) if rows.dtype == torch.uint8 else rows
    for name in sorted(batch):
        if augment and batch[name].dtype == torch.uint8:
            batch[name] = augment_batch(batch[name])
    return batch

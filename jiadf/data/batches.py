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
from torch.utils.data import DataLoader, Dataset

from jiadf.data.augmentation import augment_batch


@dataclass(frozen=True)
class Inputs:
    """What the network sees of N lesions, held in arrays.

    Attributes
    ----------
    streams
        For each image type used, features float32 (N, V, F), pixels uint8 (N, S, S, 3), or views of
        the fixed stages' output float16 (N, V, h, w, C).
    metadata
        Encoded metadata, float32 (N, D).
    target
        Class index, int64 (N,); -1 where there is no label.
    keys
        Digests of what the arrays were made from.
    missing
        By ``clinical``, ``dermoscopic`` or ``metadata``, the lesions that lack it, bool (N,);
        what the arrays hold of them is not used.
    """

    streams: Mapping[str, np.ndarray]
    metadata: np.ndarray
    target: np.ndarray
    keys: dict[str, str] = field(default_factory=dict)
    missing: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        """Count the lesions."""
        return len(self.target)


class LesionDataset(Dataset):
    """Rows of :class:`Inputs`; fetches a whole batch at a time.

    Parameters
    ----------
    inputs
        Arrays of all lesions.
    rows
        Rows of this part, in order.
    random_view
        For features: draw one of the cached views a lesion, else the picture itself.
    index_only
        Leave everything but ``index`` out of the batches.
    """

    def __init__(
        self,
        inputs: Inputs,
        rows: Sequence[int] | np.ndarray,
        random_view: bool = False,
        index_only: bool = False,
    ) -> None:
        self.inputs, self.rows = inputs, np.asarray(rows, dtype=np.int64)
        self.random_view, self.index_only = random_view, index_only

    def __len__(self) -> int:
        """Count the lesions of this part."""
        return len(self.rows)

    def __getitem__(self, item: int) -> dict[str, torch.Tensor]:
        """Return the batch that holds only this lesion."""
        return self.__getitems__([item])

    def __getitems__(self, items: list[int]) -> dict[str, torch.Tensor]:
        """Return one batch."""
        rows = self.rows[items]
        if self.index_only:
            return {"index": torch.from_numpy(rows)}
        batch = {name: self._stream(array, rows) for name, array in self.inputs.streams.items()}
        for name, missing in self.inputs.missing.items():
            batch[f"{name}_missing"] = torch.from_numpy(missing[rows])
        batch["metadata"] = torch.from_numpy(self.inputs.metadata[rows])
        batch["target"] = torch.from_numpy(self.inputs.target[rows])
        batch["index"] = torch.from_numpy(rows)
        return batch

    def _stream(self, array: np.ndarray, rows: np.ndarray) -> torch.Tensor:
        if array.dtype != np.uint8:  # features (N, V, F), or maps (N, V, h, w, C)
            views = np.zeros(len(rows), dtype=np.int64)
            if self.random_view:
                views = torch.randint(array.shape[1], (len(rows),)).numpy()
            values = torch.from_numpy(array[rows, views])
            return values.permute(0, 3, 1, 2) if values.ndim == 4 else values  # maps: (B, C, h, w)
        return torch.from_numpy(array[rows]).permute(0, 3, 1, 2)  # (B, 3, S, S)


def whole_batch(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Collate nothing: :class:`LesionDataset` already returns batches."""
    return batch


def one_batch(inputs: Inputs, rows: np.ndarray) -> dict[str, Tensor]:
    """Return some lesions as a single batch, in their order, unaugmented."""
    return next(iter(DataLoader(LesionDataset(inputs, rows), len(rows), collate_fn=whole_batch)))


def resident(
    inputs: Inputs, device: torch.device, shared: dict[tuple, Any] | None = None
) -> dict[str, Tensor]:
    """Put the arrays of all lesions on the device, for :func:`complete`.

    Parameters
    ----------
    inputs
        Arrays of all lesions, the streams being pixels.
    device
        Where to.
    shared
        A dict that keeps the images, for runs of one process over the same ones.
    """
    shared = {} if shared is None else shared
    arrays = {"metadata": inputs.metadata, "target": inputs.target}
    arrays |= {f"{name}_missing": missing for name, missing in inputs.missing.items()}
    there = {name: torch.tensor(array, device=device) for name, array in arrays.items()}
    for name, array in inputs.streams.items():
        kind = ("resident", inputs.keys.get(f"{name}_images", id(array)), str(device))
        if kind not in shared:
            shared[kind] = torch.tensor(array, device=device)  # uint8 (N, S, S, 3)
        there[name] = shared[kind]
    return there


def complete(
    batch: Mapping[str, Tensor], arrays: Mapping[str, Tensor] | None, augment: bool = False
) -> dict[str, Tensor]:
    """Put a batch together on the device it lies on.

    Parameters
    ----------
    batch
        A batch of :class:`LesionDataset`.
    arrays
        What :func:`resident` returned, if the batch holds the index only; else None.
    augment
        Augment pixels; features are left as they are.
    """
    batch = dict(batch)
    for name, array in (arrays or {}).items():
        rows = array.index_select(0, batch["index"])
        batch[name] = rows.permute(0, 3, 1, 2) if rows.dtype == torch.uint8 else rows
    for name in sorted(batch):
        if augment and batch[name].dtype == torch.uint8:
            batch[name] = augment_batch(batch[name])
    return batch

"""Batches of lesions for training and prediction, in both regimes.

A batch is a dict of tensors: ``clinical`` and ``dermoscopic`` (features (B, F), or uint8 images
(B, 3, S, S)), ``metadata`` (B, D), ``target`` (B,) with -1 where there is no label, and ``index``
(B,), the lesion's row. Where modalities are missing there are ``clinical_missing``,
``dermoscopic_missing`` and ``metadata_missing``, bool (B,), too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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


@dataclass(eq=False)
class LesionDataset(Dataset):
    """Some rows of :class:`Inputs`, in order; fetches a whole batch at a time.

    With ``random_view`` one of the cached views of a lesion's features is drawn, else they are the
    image's itself.
    """

    inputs: Inputs
    rows: Sequence[int] | np.ndarray
    random_view: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, items: list[int]) -> dict[str, Tensor]:
        """Return one batch."""
        rows, inputs = np.asarray(self.rows, dtype=np.int64)[items], self.inputs
        arrays = {"metadata": inputs.metadata, "target": inputs.target}
        arrays |= {f"{name}_missing": missing for name, missing in inputs.missing.items()}
        batch = {name: torch.from_numpy(array[rows]) for name, array in arrays.items()}
        batch["index"] = torch.from_numpy(rows)
        for name, array in inputs.streams.items():
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


def augmented(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Augment a batch's pixels where they lie; features are left as they are."""
    batch = dict(batch)
    for name in sorted(batch):
        if batch[name].dtype == torch.uint8:
            batch[name] = augment_batch(batch[name])
    return batch

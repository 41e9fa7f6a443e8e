"""Batches of lesions for training and prediction, in both regimes.

A batch is a dict of tensors: ``clinical`` and ``dermoscopic`` (features (B, F), or uint8 images
(B, 3, S, S)), ``metadata`` (B, D), ``target`` (B,) with -1 where there is no label, and ``index``
(B,), the lesion's row.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.utils.data import Dataset


@dataclass(frozen=True)
class Inputs:
    """What the network sees of N lesions, held in arrays.

    Attributes
    ----------
    streams
        For each image type used, features float32 (N, V, F) or pixels uint8 (N, S, S, 3).
    metadata
        Encoded metadata, float32 (N, D).
    target
        Class index, int64 (N,); -1 where there is no label.
    keys
        Digests of what the arrays were made from.
    """

    streams: Mapping[str, np.ndarray]
    metadata: np.ndarray
    target: np.ndarray
    keys: dict[str, str] = field(default_factory=dict)

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
    transform
        For pixels: change of one uint8 (3, S, S) image, or None.
    random_view
        For features: draw one of the cached views a lesion, else the picture itself.
    """

    def __init__(
        self,
        inputs: Inputs,
        rows: Sequence[int] | np.ndarray,
        transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
        random_view: bool = False,
    ) -> None:
        self.inputs, self.rows = inputs, np.asarray(rows, dtype=np.int64)
        self.transform, self.random_view = transform, random_view

    def __len__(self) -> int:
        """Count the lesions of this part."""
        return len(self.rows)

    def __getitem__(self, item: int) -> dict[str, torch.Tensor]:
        """Return the batch that holds only this lesion."""
        return self.__getitems__([item])

    def __getitems__(self, items: list[int]) -> dict[str, torch.Tensor]:
        """Return one batch."""
        rows = self.rows[items]
        batch = {name: self._stream(array, rows) for name, array in self.inputs.streams.items()}
        batch["metadata"] = torch.from_numpy(self.inputs.metadata[rows])
        batch["target"] = torch.from_numpy(self.inputs.target[rows])
        batch["index"] = torch.from_numpy(rows)
        return batch

    def _stream(self, array: np.ndarray, rows: np.ndarray) -> torch.Tensor:
        if array.dtype != np.uint8:  # features (N, V, F)
            views = np.zeros(len(rows), dtype=np.int64)
            if self.random_view:
                views = torch.randint(array.shape[1], (len(rows),)).numpy()
            return torch.from_numpy(array[rows, views])
        images = torch.from_numpy(array[rows]).permute(0, 3, 1, 2)  # (B, 3, S, S)
        if self.transform is None:
            return images
        return torch.stack([self.transform(image) for image in images])


def whole_batch(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Collate nothing: :class:`LesionDataset` already returns batches."""
    return batch

"""What backbones make of every image, computed once and kept in files.

A file holds one view of N images: float32 features of a whole backbone (N, F), or float16 maps
(N, h, w, C) of its fixed first stages, from which the others train. View 0 is the image itself;
the others are augmented, every image from a seed of its own. The file's name is a digest of all
that it was made from, so it is never stale and all runs share it.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from jiadf.data.augmentation import augment_with_seed, augmentation
from jiadf.data.cache import CachedImages, cached_array, default_cache_dir
from jiadf.models.encoders import ImageEncoder
from jiadf.models.weights import weights_fingerprint

Part = Literal["FirstStages", "OtherStages", "WholeBackbone"]  # is in the names of the files
_BATCH = 32
_SEED = 0  # of the augmented views


@dataclass(frozen=True)
class PixelViews:
    """Views of decoded images: the image itself, then augmented ones."""

    images: CachedImages

    def __len__(self) -> int:
        """Count the images."""
        return len(self.images.pixels)

    def key(self, view: int) -> list:
        """Say what a view is made from."""
        transform = repr(augmentation(self.images.pixels.shape[1]))
        return [self.images.key, *((view, _SEED, transform) if view else ())]

    def batch(self, rows: range, view: int) -> Tensor:
        """Return one view of some images, uint8 (B, 3, S, S)."""
        pixels = np.array(self.images.pixels[rows.start : rows.stop])  # a copy in memory
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)  # channels last in memory
        if view == 0:
            return images
        transform = augmentation(pixels.shape[1])
        seeds = [np.random.SeedSequence([_SEED, view, row]).generate_state(1)[0] for row in rows]
        pairs = zip(images, seeds, strict=True)
        return torch.stack([augment_with_seed(image, transform, int(s)) for image, s in pairs])


@dataclass(frozen=True)
class StoredViews:
    """Views that lie in files, an array (N, ...) a view; indexed like an array (N, V, ...)."""

    arrays: Sequence[np.ndarray]
    keys: Sequence[str]

    def __len__(self) -> int:
        """Count the images."""
        return len(self.arrays[0])

    @property
    def dtype(self) -> np.dtype:
        """Type of the values."""
        return self.arrays[0].dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, V, ...)."""
        return (len(self), len(self.arrays), *self.arrays[0].shape[1:])

    def __getitem__(self, index: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Return view ``views[i]`` of image ``rows[i]`` for each i."""
        rows, views = index
        result = np.empty((len(rows), *self.arrays[0].shape[1:]), self.dtype)
        for view in np.unique(views):
            result[views == view] = self.arrays[view][rows[views == view]]
        return result

    def key(self, view: int) -> list:
        """Say what a view is made from."""
        return [self.keys[view]]

    def batch(self, rows: range, view: int) -> Tensor:
        """Return one view of some images."""
        return torch.from_numpy(np.array(self.arrays[view][rows.start : rows.stop]))


def apply_part(encoder: ImageEncoder, part: Part, batch: Tensor) -> Tensor:
    """Run a part of an encoder over a batch: pixels, maps float16 (B, h, w, C), features (B, F)."""
    if part == "FirstStages":
        return encoder.first_stages(encoder.normalise(batch)).permute(0, 2, 3, 1).half()
    if part == "OtherStages":
        return encoder.other_stages(batch.float().permute(0, 3, 1, 2)).float()
    return encoder(encoder.normalise(batch)).float()


def cached_views(
    source: PixelViews | StoredViews,
    encoder: ImageEncoder,
    part: Part = "WholeBackbone",
    views: int = 1,
    cache_dir: str | Path | None = None,
    *,
    half: bool = False,
    device: str = "cpu",
    progress: bool = True,
    label: str = "features",
) -> StoredViews:
    """Apply a part of an encoder to the first views of images, or read what it gave.

    ``half`` computes in bfloat16; the device is not in the cache's key.
    """
    folder = Path(cache_dir or default_cache_dir()) / "features"
    encoder.to(device).eval()
    applied = nn.ModuleList(encoder.first_modules()) if part == "FirstStages" else encoder
    weights = weights_fingerprint(applied)
    arrays, keys = [], []
    for view in range(views):
        parts = [*source.key(view), part, weights, *(["bf16"] if half else [])]
        keys.append(hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest())
        name = f"{label}, view {view + 1} of {views}" if progress else ""
        rows = partial(_extract, source, view, encoder, part, half, name)
        arrays.append(cached_array(folder / f"{keys[-1]}.npy", len(source), rows))
    return StoredViews(arrays, keys)


@torch.inference_mode()
def _extract(
    source: PixelViews | StoredViews,
    view: int,
    encoder: ImageEncoder,
    part: Part,
    half: bool,
    label: str,
    start: int,
) -> Iterator[np.ndarray]:
    """Apply a part to the images from number ``start`` on, while a thread makes the next batch."""
    device = next(encoder.parameters()).device
    firsts = range(start, len(source), _BATCH)
    batches = [range(first, min(first + _BATCH, len(source))) for first in firsts]
    bar = tqdm(total=len(source), initial=start, desc=label, unit="image", disable=not label)
    with bar, ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        upcoming = None
        for rows, following in zip_longest(batches, batches[1:]):
            batch = (upcoming or pool.submit(source.batch, rows, view)).result()
            upcoming = following and pool.submit(source.batch, following, view)
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                values = apply_part(encoder, part, batch.to(device)).cpu().numpy()
            bar.update(len(rows))
            yield values


class Standardise(nn.Module):
    """Scale features (B, F) to zero mean and unit variance over the training lesions.

    Takes the place of a backbone in the `frozen` regime. No standard deviation counts as less than
    a tenth of their median: a feature that hardly ever fires would be blown up where it does.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("std", torch.ones(num_features))

    def fit(self, features: Tensor) -> "Standardise":
        """Learn both statistics from training features (N, F)."""
        self.mean.copy_(features.mean(0))
        std = features.std(0)
        self.std.copy_(std.clamp_min(max(0.1 * float(std.median()), 1e-6)))
        return self

    def forward(self, features: Tensor) -> Tensor:
        """Scale features."""
        return (features - self.mean) / self.std

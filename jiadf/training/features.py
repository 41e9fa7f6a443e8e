"""What backbones make of every image, computed once and kept in files.

Two things are cached: the features of a whole backbone (the `frozen` regime), and the output of
its fixed first stages (`frozen_stages`), from which the other stages train. Either file holds one
view of N images: float32 features (N, F), or float16 maps (N, h, w, C). View 0 is the image itself;
the others are augmented (:mod:`jiadf.data.augmentation`), every image from a seed of its own. The
file's name is a digest of the images, the weights that were applied, the view, its seed and the
augmentation, so a file is never stale and all runs share it. An interrupted extraction goes on
where it stopped.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from jiadf.data.array_cache import cached_array
from jiadf.data.augmentation import augment_with_seed, augmentation
from jiadf.data.image_cache import CachedImages, default_cache_dir
from jiadf.models.encoders import ImageEncoder, weights_fingerprint


@dataclass(frozen=True)
class PixelViews:
    """Views of decoded images: the image itself, then augmented ones."""

    images: CachedImages
    seed: int = 0

    def __len__(self) -> int:
        """Count the images."""
        return len(self.images)

    def key(self, view: int) -> list[str]:
        """Say what a view is made from."""
        size = self.images.pixels.shape[1]
        return [self.images.key, *((view, self.seed, repr(augmentation(size))) if view else ())]

    def batch(self, rows: range, view: int) -> torch.Tensor:
        """Return one view of some images, uint8 (B, 3, S, S)."""
        return view_of(self.images, rows, view, self.seed)


@dataclass(frozen=True)
class StoredViews:
    """Views that lie in files; indexed by rows and views, like an array (N, V, ...).

    Attributes
    ----------
    arrays
        One memory-mapped array (N, ...) a view.
    keys
        What each was made from.
    """

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

    def __getitem__(self, index: tuple[np.ndarray, np.ndarray | int]) -> np.ndarray:
        """Return view ``views[i]`` of image ``rows[i]`` for each i."""
        rows, views = np.broadcast_arrays(*index)
        result = np.empty((len(rows), *self.arrays[0].shape[1:]), self.dtype)
        for view in np.unique(views):
            mine = views == view
            result[mine] = self.arrays[view][rows[mine]]
        return result

    def key(self, view: int) -> list[str]:
        """Say what a view is made from."""
        return [self.keys[view]]

    def batch(self, rows: range, view: int) -> torch.Tensor:
        """Return one view of some images."""
        return torch.from_numpy(np.array(self.arrays[view][rows.start : rows.stop]))


class FirstStages(nn.Module):
    """The fixed first stages of an encoder, for :func:`cached_views`.

    Maps uint8 (B, 3, S, S) to float16 (B, h, w, C): channels last, as the other stages want them.
    """

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def fingerprint(self) -> str:
        """Digest the weights of these stages alone."""
        return weights_fingerprint(nn.ModuleList(self.encoder.first_modules()))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Run the stages."""
        maps = self.encoder.first_stages(self.encoder.normalise(pixels))
        return maps.permute(0, 2, 3, 1).half()


class OtherStages(nn.Module):
    """What follows on :class:`FirstStages`: float16 (B, h, w, C) to float32 features (B, F)."""

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def fingerprint(self) -> str:
        """Digest the weights."""
        return weights_fingerprint(self.encoder)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Run the stages."""
        return self.encoder.other_stages(maps.float().permute(0, 3, 1, 2)).float()


class WholeBackbone(nn.Module):
    """An encoder from pixels to features: uint8 (B, 3, S, S) to float32 (B, F)."""

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def fingerprint(self) -> str:
        """Digest the weights."""
        pooled = self.encoder.features == "pooled"
        return weights_fingerprint(self.encoder) + ("" if pooled else self.encoder.features)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Run the backbone."""
        return self.encoder(self.encoder.normalise(pixels)).float()


def cached_views(
    source: PixelViews | StoredViews,
    module: FirstStages | OtherStages | WholeBackbone,
    views: int = 1,
    cache_dir: str | Path | None = None,
    *,
    half: bool = False,
    batch_size: int = 32,
    device: str | torch.device = "cpu",
    progress: bool = True,
    label: str = "features",
) -> StoredViews:
    """Apply a module to views of images, or read what it gave from the cache.

    Parameters
    ----------
    source
        What the views are taken from.
    module
        What is applied; it is run in evaluation mode, without gradients.
    views
        Views of each image, the image itself first.
    cache_dir
        Where caches lie; :func:`jiadf.data.image_cache.default_cache_dir` if None.
    half
        Compute in bfloat16.
    batch_size, device
        How the module is run; neither enters the cache's key.
    progress, label
        Show a progress bar, under this name.
    """
    folder = Path(cache_dir or default_cache_dir()) / "features"
    module = module.to(device).eval()
    weights = module.fingerprint()
    arrays, keys = [], []
    for view in range(views):
        parts = [*source.key(view), type(module).__name__, weights, *(["bf16"] if half else [])]
        key = hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()
        name = f"{label}, view {view + 1} of {views}"
        rows = partial(_extract, source, view, module, half, batch_size, name, progress)
        arrays.append(cached_array(folder / f"{key}.npy", len(source), rows))
        keys.append(key)
    return StoredViews(arrays, keys)


def frozen_features(
    images: CachedImages,
    encoder: ImageEncoder,
    views: int = 1,
    seed: int = 0,
    cache_dir: str | Path | None = None,
    **options,
) -> np.ndarray:
    """Return a whole backbone's features of shape (N, ``views``, F), float32.

    ``seed`` is that of the augmented views; ``options`` are :func:`cached_views`'s.
    """
    source = PixelViews(images, seed)
    stored = cached_views(source, WholeBackbone(encoder), views, cache_dir, **options)
    return np.stack(stored.arrays, axis=1)


def view_of(images: CachedImages, rows: range, view: int, seed: int) -> torch.Tensor:
    """Return one view of some images, uint8 (B, 3, S, S)."""
    pixels = np.array(images.pixels[rows.start : rows.stop])  # a copy in memory
    tensors = torch.from_numpy(pixels).permute(0, 3, 1, 2)  # channels last in memory
    if view == 0:
        return tensors
    transform = augmentation(images.pixels.shape[1])
    seeds = [np.random.SeedSequence([seed, view, row]).generate_state(1)[0] for row in rows]
    pairs = zip(tensors, seeds, strict=True)
    return torch.stack([augment_with_seed(image, transform, int(s)) for image, s in pairs])


@torch.inference_mode()
def _extract(
    source: PixelViews | StoredViews,
    view: int,
    module: nn.Module,
    half: bool,
    batch_size: int,
    label: str,
    progress: bool,
    start: int,
) -> Iterator[np.ndarray]:
    """Apply the module to the images from number ``start`` on, a batch at a time."""
    device = next(module.parameters()).device
    bar = tqdm(total=len(source), initial=start, desc=label, unit="image", disable=not progress)
    with bar:
        for rows, batch in _prefetched(source, start, batch_size, view):
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                values = module(batch.to(device)).cpu().numpy()
            bar.update(len(rows))
            yield values


def _prefetched(
    source: PixelViews | StoredViews, start: int, batch_size: int, view: int
) -> Iterator[tuple[range, torch.Tensor]]:
    """Yield batches of a view; the next one is made in a thread while the module has this one.

    That thread has torch to itself on one core: an image is too small a job to be shared out.
    """
    batches = [
        range(first, min(first + batch_size, len(source)))
        for first in range(start, len(source), batch_size)
    ]
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        upcoming = None
        for rows, following in zip(batches, [*batches[1:], None], strict=True):
            current = upcoming or pool.submit(source.batch, rows, view)
            batch = current.result()
            upcoming = following and pool.submit(source.batch, following, view)
            yield rows, batch


class Standardise(nn.Module):
    """Scale features to zero mean and unit variance over the training lesions.

    Takes the place of a backbone in the `frozen` regime, so that the network sees inputs of one
    scale whatever the backbone; the two statistics are buffers and travel with the weights. No
    standard deviation counts as less than a tenth of their median: a feature that hardly ever
    fires over the training lesions would otherwise be blown up where it does.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("std", torch.ones(num_features))

    def fit(self, features: torch.Tensor) -> "Standardise":
        """Learn both statistics from training features of shape (N, F)."""
        self.mean.copy_(features.mean(0))
        std = features.std(0)
        self.std.copy_(std.clamp_min(max(0.1 * float(std.median()), 1e-6)))
        return self

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map (B, F) to (B, F)."""
        return (features - self.mean) / self.std

"""Backbone features of every image, computed once: the `frozen` regime.

A feature file holds one view of N images: float32 features of shape (N, F). View 0 is the picture
itself; the others are augmented (:mod:`jiadf.data.transforms`), every picture from a seed of its
own. The file's name is a digest of the images, the backbone's weights, what is read of it, the
view, its seed and the augmentation, so a file is never stale and all runs share it. An interrupted
extraction goes on where it stopped.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import nn
from tqdm import tqdm

from jiadf.data.images import CachedImages, default_cache_dir
from jiadf.data.transforms import augment_with_seed, augmentation
from jiadf.models.encoders import ImageEncoder, weights_fingerprint

_NOTE_EVERY = 16  # batches between two notes of how far an extraction has come


def frozen_features(
    images: CachedImages,
    encoder: ImageEncoder,
    views: int = 1,
    seed: int = 0,
    cache_dir: str | Path | None = None,
    *,
    batch_size: int = 32,
    device: str | torch.device = "cpu",
    progress: bool = True,
    label: str = "features",
) -> np.ndarray:
    """Return features of shape (N, ``views``, F), float32.

    Parameters
    ----------
    images
        Decoded images, uint8 (N, S, S, 3).
    encoder
        A pretrained encoder; it is run in evaluation mode, without gradients.
    views, seed
        Views of each image, the picture itself first, and the seed of the augmented ones.
    cache_dir
        Where caches lie; :func:`jiadf.data.images.default_cache_dir` if None.
    batch_size, device
        How the backbone is run; neither enters the cache's key.
    progress, label
        Show a progress bar, under this name.
    """
    folder = Path(cache_dir or default_cache_dir()) / "features"
    folder.mkdir(parents=True, exist_ok=True)
    encoder = encoder.to(device).eval()
    weights = weights_fingerprint(encoder)
    arrays = []
    for view in range(views):
        size = images.pixels.shape[1]
        parts = [images.key, weights, *((view, seed, repr(augmentation(size))) if view else ())]
        parts += [encoder.features] if encoder.features != "pooled" else []
        key = hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()
        target = folder / f"{key}.npy"
        with FileLock(folder / f"{key}.lock"):
            if not target.exists():
                name = f"{label}, view {view + 1} of {views}"
                _extract(images, encoder, (view, seed), target, batch_size, name, progress)
        arrays.append(np.load(target, mmap_mode="r"))
    return np.stack(arrays, axis=1)


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
    images: CachedImages,
    encoder: ImageEncoder,
    view_and_seed: tuple[int, int],
    target: Path,
    batch_size: int,
    label: str,
    progress: bool,
) -> None:
    partial, note = target.with_suffix(".partial"), target.with_suffix(".progress")
    done = int(note.read_text()) if note.exists() and partial.exists() else 0
    features = np.lib.format.open_memmap(
        partial,
        mode="r+" if done else "w+",
        dtype=np.float32,
        shape=(len(images), encoder.num_features),
    )
    device = next(encoder.parameters()).device
    bar = tqdm(total=len(images), initial=done, desc=label, unit="image", disable=not progress)
    with bar:
        batches = _prefetched(images, done, batch_size, *view_and_seed)
        for count, (rows, pixels) in enumerate(batches, 1):
            x = encoder.normalise(pixels.to(device))
            features[rows.start : rows.stop] = encoder(x).float().cpu().numpy()
            bar.update(len(rows))
            if count % _NOTE_EVERY == 0:
                features.flush()
                staged = note.with_suffix(".staged")
                staged.write_text(str(rows.stop))
                os.replace(staged, note)
    features.flush()
    os.replace(partial, target)
    note.unlink(missing_ok=True)


def _prefetched(
    images: CachedImages, start: int, batch_size: int, view: int, seed: int
) -> Iterator[tuple[range, torch.Tensor]]:
    """Yield batches of a view; the next one is made in a thread while the backbone has this one.

    That thread has torch to itself on one core: a picture is too small a job to be shared out.
    """
    batches = [
        range(first, min(first + batch_size, len(images)))
        for first in range(start, len(images), batch_size)
    ]
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        upcoming = None
        for rows, following in zip(batches, [*batches[1:], None], strict=True):
            current = upcoming or pool.submit(view_of, images, rows, view, seed)
            pixels = current.result()
            upcoming = following and pool.submit(view_of, images, following, view, seed)
            yield rows, pixels


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

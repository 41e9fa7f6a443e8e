"""From a lesion table to the arrays a network sees, in either regime."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from jiadf.config import Parameters
from jiadf.data.dataset import Inputs
from jiadf.data.encode import MetadataEncoder
from jiadf.data.images import cache_images
from jiadf.data.schema import CLASSES
from jiadf.features import frozen_features
from jiadf.models.encoders import ImageEncoder

Shared = dict[tuple, Any]  # what runs of one process over the same lesions need not read again
STREAMS = {"C": "clinical", "D": "dermoscopic"}


def image_streams(parameters: Parameters) -> tuple[str, ...]:
    """Image types that the run uses, clinical first."""
    return tuple(name for letter, name in STREAMS.items() if letter in parameters.modalities)


def resolve_device(name: str) -> str:
    """Turn ``auto`` into ``cuda`` or ``cpu``; raise ``ValueError`` for a GPU that is not there."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is 'cuda' but no GPU is visible; use device=auto or device=cpu.")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def image_encoder(parameters: Parameters, weights: str | None = None) -> ImageEncoder:
    """Make a run's image encoder, maybe with other ``weights`` than its own."""
    p = parameters
    return ImageEncoder(p.backbone, weights or p.backbone_weights, features=p.backbone_features)


def images_on_device(parameters: Parameters, inputs: Inputs, device: torch.device) -> bool:
    """Say whether a run's images lie on its device, as ``images_on`` asks for.

    ``auto`` is yes on a GPU if they take less than half of its memory.
    """
    if parameters.regime != "finetune" or parameters.images_on == "host":
        return False
    if parameters.images_on == "device":
        return True
    if device.type != "cuda":
        return False
    size = sum(array.nbytes for array in inputs.streams.values())
    return size < torch.cuda.get_device_properties(device).total_memory / 2


def targets(lesions: pd.DataFrame) -> np.ndarray:
    """Class index of each lesion, int64 (N,); -1 where the table has no labels."""
    if "label" not in lesions:
        return np.full(len(lesions), -1, dtype=np.int64)
    return pd.Categorical(lesions["label"], categories=CLASSES).codes.astype(np.int64)


def prepare_inputs(
    lesions: pd.DataFrame,
    encoder: MetadataEncoder,
    parameters: Parameters,
    cache_dir: str | Path | None = None,
    *,
    views: int = 1,
    progress: bool = True,
    shared: Shared | None = None,
) -> Inputs:
    """Decode images, compute features where the regime is `frozen`, encode metadata.

    Parameters
    ----------
    lesions
        A table from :func:`jiadf.data.read.read_lesions`.
    encoder
        Metadata encoder, fitted on training lesions.
    parameters
        The run's parameters.
    cache_dir
        Where image and feature caches lie.
    views
        Cached views an image (`frozen`); prediction needs one.
    progress
        Show progress bars.
    shared
        A dict that keeps what was read, for runs of one process over the same lesions.
    """
    streams, keys = {}, {}
    shared = {} if shared is None else shared
    p = parameters
    for name in image_streams(p):
        source = (p.backbone, p.backbone_weights, p.backbone_features)
        kind = (name, p.regime, *source, p.image_size, views)
        if kind not in shared:
            shared[kind] = _stream(name, lesions, p, cache_dir, views, progress, shared)
        streams[name], keys[f"{name}_images"] = shared[kind]
    return Inputs(streams, encoder.transform(lesions), targets(lesions), keys)


def _stream(
    name: str,
    lesions: pd.DataFrame,
    parameters: Parameters,
    cache_dir: str | Path | None,
    views: int,
    progress: bool,
    shared: Shared,
) -> tuple[np.ndarray, str]:
    p = parameters
    images = cache_images(lesions[f"{name}_path"], p.image_size, cache_dir, progress=progress)
    if p.regime == "finetune":
        return images.pixels, images.key
    backbone = ("backbone", p.backbone, p.backbone_weights, p.backbone_features)
    if backbone not in shared:
        shared[backbone] = image_encoder(p)
    features = frozen_features(
        images,
        shared[backbone],
        views,
        cache_dir=cache_dir,
        device=resolve_device(p.device),
        progress=progress,
        label=f"{name} features",
    )
    return features, images.key


def table_fingerprint(lesions: pd.DataFrame) -> str:
    """Digest a lesion table; where its images lie does not count."""
    table = lesions.drop(columns=[c for c in lesions if c.endswith("_path")])
    return hashlib.blake2b(table.to_csv(float_format="%.9g").encode(), digest_size=16).hexdigest()

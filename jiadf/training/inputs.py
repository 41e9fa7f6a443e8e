"""From a lesion table to the arrays a network sees, in either regime."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from jiadf.config import Parameters
from jiadf.data.batches import Inputs
from jiadf.data.image_cache import cache_images
from jiadf.data.metadata import MetadataEncoder
from jiadf.data.schema import CLASSES
from jiadf.models.encoders import ImageEncoder
from jiadf.training.checkpoint import with_prefix
from jiadf.training.features import (
    FirstStages,
    OtherStages,
    PixelViews,
    StoredViews,
    WholeBackbone,
    cached_views,
)
from jiadf.training.run_folder import Run

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


def resolve_precision(parameters: Parameters, device: str | None = None) -> str:
    """Return the run's autocast precision, or ``"no"`` on a CPU that has no fast kernels for it.

    Without them bfloat16 takes fifteen times the time of float32. ``device`` is the run's own if
    not given.
    """
    kind = resolve_device(device or parameters.device)
    asked = parameters.mixed_precision
    if kind != "cpu" or asked == "no":
        return asked
    # PyTorch has no public question for this; oneDNN's kernels are what autocast runs on a CPU.
    fast = asked == "bf16" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return asked if fast else "no"


def image_encoder(
    parameters: Parameters, image_type: str, weights: str | None = None
) -> ImageEncoder:
    """Make a run's encoder of one image type, maybe with other ``weights`` than its own.

    Raises
    ------
    ValueError
        If ``backbone_weights`` is a run that was trained on lesions which this run is scored on.
    """
    p = parameters
    source = weights or encoder_source(p, image_type)
    if Path(source).is_dir():
        source = trained_encoder(Path(source), image_type, p)
    return ImageEncoder(
        p.backbone,
        source,
        features=p.backbone_features,
        frozen_stages=p.frozen_stages,
        drop_path=p.drop_path,
    )


def encoder_source(parameters: Parameters, image_type: str) -> str:
    """Return ``backbone_weights`` with its placeholders filled in."""
    source = parameters.backbone_weights.replace("{image_type}", image_type)
    return source.replace("{fold}", str(parameters.scored_fold))


def trained_encoder(folder: Path, image_type: str, parameters: Parameters) -> dict[str, Any]:
    """Return the backbone weights that a finished `finetune` run learned for one image type."""
    run = Run(folder)
    theirs, p = run.parameters, parameters
    same_folds = (theirs.n_folds, theirs.split_seed) == (p.n_folds, p.split_seed)
    if not same_folds or p.scored_fold not in (theirs.test_fold, theirs.val_fold):
        raise ValueError(
            f"{folder}: this encoder was trained on lesions of fold {p.scored_fold}, which the run "
            "is scored on; give one that left this fold out, e.g. with {fold} in backbone_weights."
        )
    prefix = f"image_encoders.{image_type}.encoder.backbone."
    weights = with_prefix(run.weights(), prefix)
    if not weights:
        raise ValueError(f"{folder}: this run has no {image_type} encoder; give one that has.")
    return {name: value.float() for name, value in weights.items()}


def images_on_device(parameters: Parameters, inputs: Inputs, device: torch.device) -> bool:
    """Say whether a run's images lie on its device, as ``images_on`` asks for.

    ``auto`` is yes on a GPU if they take less than half of its memory.
    """
    if parameters.regime != "finetune" or parameters.images_on == "host":
        return False
    if any(array.dtype != np.uint8 for array in inputs.streams.values()):
        return False  # views of the fixed stages' output are read from their files
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
    activations: bool = False,
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
    activations
        Give the run's cached views of the fixed stages' output in place of pixels (`finetune`).
    progress
        Show progress bars.
    shared
        A dict that keeps what was read, for runs of one process over the same lesions.
    """
    streams, keys = {}, {}
    shared = {} if shared is None else shared
    p = parameters
    for name in image_streams(p):
        source = (p.backbone, encoder_source(p, name), p.backbone_features, p.frozen_stages)
        cached = p.activation_views if activations and p.regime == "finetune" else 0
        kind = (name, p.regime, *source, p.mixed_precision, p.image_size, views, cached)
        if kind not in shared:
            shared[kind] = _stream(name, lesions, p, cache_dir, views, cached, progress, shared)
        streams[name], keys[f"{name}_images"] = shared[kind]
    return Inputs(streams, encoder.transform(lesions), targets(lesions), keys)


def _stream(
    name: str,
    lesions: pd.DataFrame,
    parameters: Parameters,
    cache_dir: str | Path | None,
    views: int,
    activation_views: int,
    progress: bool,
    shared: Shared,
) -> tuple[np.ndarray | StoredViews, str]:
    p = parameters
    images = cache_images(lesions[f"{name}_path"], p.image_size, cache_dir, progress=progress)
    if p.regime == "finetune" and not activation_views:
        return images.pixels, images.key
    backbone = ("backbone", p.backbone, encoder_source(p, name), p.backbone_features)
    if backbone not in shared:
        shared[backbone] = image_encoder(p, name)
    encoder = shared[backbone]

    def cached(source: Any, module: Any, views: int, label: str) -> StoredViews:
        return cached_views(
            source, module, views, cache_dir, half=resolve_precision(p) == "bf16",
            device=resolve_device(p.device), progress=progress, label=f"{name} {label}",
        )  # fmt: skip

    source, module = PixelViews(images), WholeBackbone(encoder)
    if p.frozen_stages:
        source = cached(source, FirstStages(encoder), activation_views or views, "activations")
        module = OtherStages(encoder)
    if activation_views:
        return source, images.key
    stored = cached(source, module, views, "features")
    return np.stack(stored.arrays, axis=1), images.key


def table_fingerprint(lesions: pd.DataFrame) -> str:
    """Digest a lesion table; where its images lie does not count."""
    table = lesions.drop(columns=[c for c in lesions if c.endswith("_path")])
    return hashlib.blake2b(table.to_csv(float_format="%.9g").encode(), digest_size=16).hexdigest()

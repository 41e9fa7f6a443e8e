"""From a lesion table to the arrays a network sees, in either regime."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from jiadf.config import Parameters
from jiadf.data.batches import Inputs
from jiadf.data.cache import cache_images
from jiadf.data.metadata import MetadataEncoder
from jiadf.data.schema import CLASSES, IMAGE_TYPES
from jiadf.models.encoders import ImageEncoder
from jiadf.training.features import PixelViews, StoredViews, cached_views
from jiadf.training.run_folder import Run, with_prefix

Shared = dict[tuple, Any]  # what runs of one process over the same lesions need not read again


def image_streams(parameters: Parameters) -> tuple[str, ...]:
    """Image types that the run uses, clinical first."""
    return tuple(name for name in IMAGE_TYPES if name[0].upper() in parameters.modalities)


def resolve_device(name: str) -> str:
    """Turn ``auto`` into ``cuda`` or ``cpu``; raise ``ValueError`` for a GPU that is not there."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is 'cuda' but no GPU is visible; use device=auto or device=cpu.")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def resolve_precision(parameters: Parameters, device: str | None = None) -> str:
    """Return the run's autocast precision, or ``"no"`` on a CPU that has no fast kernels for it."""
    asked = parameters.mixed_precision
    if resolve_device(device or parameters.device) != "cpu" or asked == "no":
        return asked
    # PyTorch has no public question for this; oneDNN's kernels are what autocast runs on a CPU.
    fast = asked == "bf16" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return asked if fast else "no"


def image_encoder(
    parameters: Parameters, image_type: str, weights: str | None = None
) -> ImageEncoder:
    """Make a run's encoder of one image type, maybe with other ``weights`` than its own."""
    source = weights or encoder_source(parameters, image_type)
    if Path(source).is_dir():
        source = trained_encoder(Path(source), image_type, parameters)
    options = {"frozen_stages": parameters.frozen_stages, "drop_path": parameters.drop_path}
    return ImageEncoder(parameters.backbone, source, **options)


def encoder_source(parameters: Parameters, image_type: str) -> str:
    """Return ``backbone_weights`` with its placeholders filled in."""
    source = parameters.backbone_weights.replace("{image_type}", image_type)
    return source.replace("{fold}", str(parameters.scored_fold))


def trained_encoder(folder: Path, image_type: str, parameters: Parameters) -> dict[str, Any]:
    """Return the backbone weights that a finished `finetune` run learned for one image type."""
    run, p = Run(folder), parameters
    theirs = run.parameters
    same_folds = (theirs.n_folds, theirs.split_seed) == (p.n_folds, p.split_seed)
    if not same_folds or p.scored_fold not in (theirs.test_fold, theirs.val_fold):
        raise ValueError(
            f"{folder}: this encoder was trained on lesions of fold {p.scored_fold}, which the run "
            "is scored on; give one that left this fold out, e.g. with {fold} in backbone_weights."
        )
    weights = with_prefix(run.weights(), f"image_encoders.{image_type}.encoder.backbone.")
    if not weights:
        raise ValueError(f"{folder}: this run has no {image_type} encoder; give one that has.")
    return {name: value.float() for name, value in weights.items()}


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

    ``views`` are those of an image's features (`frozen`). ``activations`` asks for the run's cached
    views of the fixed stages' output, if any, in place of pixels.
    """
    shared, p = {} if shared is None else shared, parameters
    streams, keys = {}, {}
    for name in image_streams(p):
        stored = p.activation_views if activations else 0
        source = (name, p.backbone, encoder_source(p, name), p.frozen_stages)
        kind = (*source, p.regime, p.mixed_precision, p.image_size, views, stored)
        if kind not in shared:
            paths = lesions[f"{name}_path"]
            images = cache_images(paths, p.image_size, cache_dir, progress=progress)
            array = images.pixels
            if p.regime == "frozen" or stored:
                if source not in shared:
                    shared[source] = image_encoder(p, name)
                options = {"half": resolve_precision(p) == "bf16", "progress": progress}
                options |= {"device": resolve_device(p.device), "cache_dir": cache_dir}
                array = _encoded(name, PixelViews(images), shared[source], views, stored, options)
            shared[kind] = array, images.key
        streams[name], keys[f"{name}_images"] = shared[kind]
    return Inputs(streams, encoder.transform(lesions), targets(lesions), keys)


def _encoded(
    name: str, images: PixelViews, encoder: ImageEncoder, views: int, stored: int, options: dict
) -> np.ndarray | StoredViews:
    """Return ``stored`` views of the fixed stages' output, or features (N, ``views``, F)."""
    source, part = images, "WholeBackbone"
    if encoder.frozen_stages:
        part, named = "OtherStages", options | {"label": f"{name} activations"}
        source = cached_views(images, encoder, "FirstStages", stored or views, **named)
    if stored:
        return source
    features = cached_views(source, encoder, part, views, label=f"{name} features", **options)
    return np.stack(features.arrays, axis=1)


def table_fingerprint(lesions: pd.DataFrame) -> str:
    """Digest a lesion table; where its images lie does not count."""
    table = lesions.drop(columns=[c for c in lesions if c.endswith("_path")])
    return hashlib.blake2b(table.to_csv(float_format="%.9g").encode(), digest_size=16).hexdigest()

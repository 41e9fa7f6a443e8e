"""Why a run's network decides as it does: Grad-CAM on the pictures, contributions of all inputs.

:func:`open_network` puts a finished run together as one differentiable network, from pixels and
metadata to the decision, in either regime: a `frozen` run gets its backbone back in front of what
was trained. The network can be entered at three places, so that nothing is computed twice:

    pixels --maps--> last feature maps --features--> pooled, scaled features --decide--> decision

:func:`grad_cam` is pytorch-grad-cam's at the feature maps, :func:`contributions` is captum's
integrated gradients from the features and the metadata on. What is explained is the log posterior
of a class (``fused``, through the gate) or a branch's logit of it.

Between the maps and the decision there is a mean over cells, so a channel's gradient is the same
in every cell, and Grad-CAM's weights are the gradients themselves: before negative values are cut,
a map is the first-order share of each cell in the score.

Selvaraju et al. (2017), "Grad-CAM"; Sundararajan et al. (2017), "Axiomatic attribution for deep
networks". How far a map may be trusted is :mod:`jiadf.saliency`'s question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from captum.attr import IntegratedGradients
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import scale_cam_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from jiadf.data.batches import Inputs
from jiadf.data.metadata import MetadataEncoder
from jiadf.models.encoders import ImageEncoder
from jiadf.models.network import JIADF, NetworkOutput
from jiadf.training.features import Standardise
from jiadf.training.inputs import image_encoder, image_streams
from jiadf.training.network import PixelEncoder
from jiadf.training.predict import load_network
from jiadf.training.run_folder import Run

FUSED = "fused"
_IMAGES = ("clinical", "dermoscopic")
_BATCH = 32


class ExplanationError(ValueError):
    """There is nothing to explain: the run or the output has no picture behind it."""


class ExplainableNetwork(nn.Module):
    """A run's network from pixels to decision; make one with :func:`open_network`.

    Parameters
    ----------
    network : JIADF
        Fusion, heads and decision; takes the features of each image stream as they are.
    backbones : mapping of stream to ImageEncoder
        One module under several names shares its weights.
    scalers : mapping of stream to Module
        What stands between pooled features and network: the run's `Standardise`, or the identity.
    """

    def __init__(
        self,
        network: JIADF,
        backbones: Mapping[str, ImageEncoder],
        scalers: Mapping[str, nn.Module],
    ) -> None:
        super().__init__()
        self.network = network
        self.backbones = nn.ModuleDict(backbones)
        self.scalers = nn.ModuleDict(scalers)

    @property
    def streams(self) -> tuple[str, ...]:
        """Image streams, clinical first."""
        return tuple(name for name in _IMAGES if name in self.backbones)

    @property
    def outputs(self) -> tuple[str, ...]:
        """What can be explained: the decision, and each branch."""
        return (FUSED, *self.network.config.branch_names)

    @property
    def picture_outputs(self) -> tuple[str, ...]:
        """Those outputs that pictures have a part in."""
        return tuple(name for name in self.outputs if name != "metadata")

    def maps(self, pictures: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return each stream's last feature maps: uint8 (B, 3, S, S) -> (B, F, h, w)."""
        maps = {}
        for name in self.streams:
            encoder = self.backbones[name]
            maps[name] = encoder.backbone.forward_features(encoder.normalise(pictures[name]))
            if maps[name].ndim != 4 or maps[name].shape[1] != encoder.backbone.num_features:
                raise ExplanationError(
                    f"backbone {encoder.backbone_name!r} ends in an array of shape "
                    f"{tuple(maps[name].shape)}, not in feature maps (B, channels, h, w): Grad-CAM "
                    "here needs a convolutional backbone"
                )
        return maps

    def features(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Pool and scale feature maps: (B, F, h, w) -> (B, F)."""
        return {
            name: self.scalers[name](self.backbones[name].backbone.forward_head(maps[name]))
            for name in self.streams
        }

    def decide(self, features: Mapping[str, Tensor], metadata: Tensor) -> NetworkOutput:
        """Fuse and decide from features (B, F) a stream and metadata (B, D)."""
        return self.network({**features, "metadata": metadata})

    def forward(self, batch: Mapping[str, Tensor]) -> NetworkOutput:
        """Run the whole network on uint8 pictures (B, 3, S, S) and metadata (B, D)."""
        return self.decide(self.features(self.maps(batch)), batch["metadata"])


def open_network(run: Run, backbone: ImageEncoder | None = None) -> ExplainableNetwork:
    """Put a finished run's network together, from pixels to decision, on the CPU.

    Parameters
    ----------
    run
        A finished run of either regime that uses at least one picture.
    backbone
        For `frozen` runs, their backbone, if it is loaded already; several runs may share it.

    Raises
    ------
    ExplanationError
        If the run uses no picture, or no backbone's pooled output.
    jiadf.training.run_folder.RunError
        If the run is missing or unfinished.
    """
    parameters = run.parameters
    names = image_streams(parameters)
    if not names:
        raise ExplanationError(
            f"{run.path}: this run sees no picture (modalities {parameters.modalities!r}), so "
            "there is nothing for Grad-CAM to show; explain a run with C or D among its modalities."
        )
    if parameters.backbone_features != "pooled":
        raise ExplanationError(
            f"{run.path}: its image features are those of several stages "
            f"(backbone_features {parameters.backbone_features!r}); heat maps are made of the last "
            "one's maps: explain a run with backbone_features pooled."
        )
    encoder = MetadataEncoder.from_json(run.text("encoder.json"), run.path / "encoder.json")
    frozen = parameters.regime == "frozen"
    if frozen and backbone is None:
        backbones = {name: image_encoder(parameters, name) for name in names}
    else:
        backbones = dict.fromkeys(names, backbone)
    width = next(iter(backbones.values())).num_features if frozen else 0
    shapes = Inputs(
        {name: np.empty((0, 1, width), np.float32) for name in names},
        np.empty((0, len(encoder.columns)), np.float32),
        np.empty(0, np.int64),
    )
    network = load_network(run, shapes)
    trained = dict(network.image_encoders)
    backbones = {
        name: module.encoder if isinstance(module, PixelEncoder) else backbones[name]
        for name, module in trained.items()
    }
    scalers = {name: module if frozen else nn.Identity() for name, module in trained.items()}
    network.image_encoders = nn.ModuleDict({name: nn.Identity() for name in trained})
    return ExplainableNetwork(network, backbones, scalers).eval()


def feature_maps(
    model: ExplainableNetwork, pictures: Mapping[str, np.ndarray]
) -> dict[str, Tensor]:
    """Return all maps of N lesions: uint8 (N, S, S, 3) -> (N, F, h, w), without gradients."""
    parts: dict[str, list[Tensor]] = {name: [] for name in model.streams}
    count = len(next(iter(pictures.values())))
    with torch.no_grad():
        for start in range(0, count, _BATCH):
            batch = {
                name: torch.from_numpy(np.array(pictures[name][start : start + _BATCH])).permute(
                    0, 3, 1, 2
                )
                for name in model.streams
            }
            for name, maps in model.maps(batch).items():
                parts[name].append(maps)
    return {name: torch.cat(batches) for name, batches in parts.items()}


def _scores(output: NetworkOutput, name: str) -> Tensor:
    """Return what is explained, (B, K)."""
    return output.log_posterior if name == FUSED else output.logits[name]


def _check_output(model: ExplainableNetwork, output: str) -> None:
    if output not in model.outputs:
        raise ExplanationError(
            f"output {output!r} does not exist in this network; it has {', '.join(model.outputs)}."
        )


class _FromMaps(nn.Module):
    """The network as pytorch-grad-cam wants it: one stream's maps in, scores (B, K) out."""

    def __init__(self, model: ExplainableNetwork, stream: str, output: str) -> None:
        super().__init__()
        self.model, self.stream, self.output = model, stream, output
        self.seam = nn.Identity()  # the target layer
        self.rest: tuple[dict[str, Tensor], Tensor] = ({}, torch.empty(0))

    def forward(self, maps: Tensor) -> Tensor:
        others, metadata = self.rest
        features = self.model.features({**others, self.stream: self.seam(maps)})
        return _scores(self.model.decide(features, metadata), self.output)


def grad_cam(
    model: ExplainableNetwork,
    maps: Mapping[str, Tensor],
    metadata: np.ndarray,
    classes: Sequence[int] | np.ndarray,
    output: str = FUSED,
    size: int | None = None,
) -> dict[str, np.ndarray]:
    """Compute Grad-CAM on every image stream.

    Parameters
    ----------
    model
        From :func:`open_network`.
    maps
        Each stream's feature maps, (N, F, h, w), from :func:`feature_maps`.
    metadata
        Encoded metadata, float32 (N, D).
    classes
        Class index to explain, (N,).
    output
        ``fused`` for the log posterior, through the gate, or a branch's name for its logit.
    size
        Side in pixels to scale the maps to; their own cells if None.

    Returns
    -------
    dict
        Stream to float32 (N, h, w) or (N, size, size), each map from 0 to 1. A map is all zero
        where no cell speaks for the class.

    Raises
    ------
    ExplanationError
        If the network has no such output, or pictures have no part in it.
    """
    _check_output(model, output)
    if output == "metadata":
        raise ExplanationError("the metadata branch sees no picture: explain another output.")
    result = {}
    for stream in model.streams:
        wrapped = _FromMaps(model, stream, output)
        cam = GradCAM(wrapped, [wrapped.seam])
        cells = []
        for start in range(0, len(metadata), 2 * _BATCH):
            part = slice(start, start + 2 * _BATCH)
            own = maps[stream][part].detach().clone().requires_grad_()
            if output in _IMAGES and output != stream:  # the other picture's own branch
                cells.append(np.zeros((len(own), *own.shape[2:]), np.float32))
                continue
            wrapped.rest = (
                {name: value[part] for name, value in maps.items()},
                torch.from_numpy(np.asarray(metadata[part], np.float32)),
            )
            targets = [ClassifierOutputTarget(int(k)) for k in classes[part]]
            cells.append(cam(own, targets))
        cam.activations_and_grads.release()
        result[stream] = np.concatenate(cells)
        if size is not None:
            result[stream] = upsample(result[stream], size)
    return result


def upsample(cells: np.ndarray, size: int) -> np.ndarray:
    """Scale maps (N, h, w) to (N, size, size), from 0 to 1 each, bilinearly."""
    return scale_cam_image(cells, (size, size))


def contributions(
    model: ExplainableNetwork,
    features: Mapping[str, Tensor],
    metadata: np.ndarray,
    baseline: Mapping[str, Tensor],
    classes: Sequence[int] | np.ndarray,
    output: str = FUSED,
    steps: int = 32,
) -> dict[str, np.ndarray]:
    """Share a score out over the inputs by integrated gradients, against an average lesion.

    Parameters
    ----------
    model
        From :func:`open_network`.
    features
        Each stream's features (N, F), from ``model.features``.
    metadata
        Encoded metadata, float32 (N, D).
    baseline
        What the contributions are measured from: ``metadata`` (1, D) and each stream (1, F).
    classes, output
        As in :func:`grad_cam`; the metadata branch may be explained too.
    steps
        Points on the way from the baseline to the lesion.

    Returns
    -------
    dict
        Each stream's total (N,), ``metadata`` (N, D) a column, and ``gap`` (N,): what is missing
        from the difference between the lesion's score and the baseline's, which the contributions
        add up to but for the numerical integration.
    """
    _check_output(model, output)
    names = model.streams

    def score(*values: Tensor) -> Tensor:
        given = dict(zip(names, values[:-1], strict=True))
        return _scores(model.decide(given, values[-1]), output)

    inputs = (*(features[n].detach() for n in names), torch.from_numpy(np.asarray(metadata)))
    start = tuple(baseline[name].detach() for name in (*names, "metadata"))
    target = torch.as_tensor(np.asarray(classes), dtype=torch.int64)
    # Captum differentiates what it is given; a branch may not depend on all of it.
    touched = lambda *v: score(*v) + 0.0 * sum(x.sum(-1, keepdim=True) for x in v)  # noqa: E731
    values, gap = IntegratedGradients(touched).attribute(
        inputs, start, target, n_steps=steps, return_convergence_delta=True,
        internal_batch_size=2048,
    )  # fmt: skip
    result = {name: value.sum(-1).numpy() for name, value in zip(names, values, strict=False)}
    return result | {"metadata": values[-1].numpy(), "gap": gap.numpy()}


def average_lesion(
    model: ExplainableNetwork, features: Mapping[str, Tensor], metadata: np.ndarray
) -> dict[str, Tensor]:
    """Return the baseline of contributions: mean features and mean training metadata.

    Standardised features have the training lesions' mean at zero; others take the mean of those
    given.
    """
    baseline = {
        name: torch.zeros_like(value[:1])
        if isinstance(model.scalers[name], Standardise)
        else value.mean(0, keepdim=True)
        for name, value in features.items()
    }
    return baseline | {"metadata": torch.from_numpy(metadata.mean(0, keepdims=True))}


def field_of(column: str) -> str:
    """Return the metadata field behind a column of the encoder, in words."""
    name = column.split("=")[0].removesuffix("_missing")
    if "MONET_" in name:
        image, score = name.split("_MONET_")
        return f"{score.split('_')[0]} ({image})"
    return {"skin_tone_class": "skin tone"}.get(name, name)


def by_field(values: np.ndarray, columns: Sequence[str]) -> pd.DataFrame:
    """Add up columns' contributions (N, D) by field: a row a lesion, a column a field."""
    table = pd.DataFrame(np.asarray(values, dtype=float), columns=list(columns))
    return table.T.groupby([field_of(column) for column in columns], sort=False).sum().T

"""Grad-CAM heat maps of a network's decision or of a branch, on every image stream.

    >>> heat = grad_cam(network, maps, inputs.metadata, classes)  # doctest: +SKIP
    >>> upsample(heat["dermoscopic"], 160)  # doctest: +SKIP

Between the last maps and the decision there is a mean over cells, so a channel's gradient is the
same in every cell. Before negative values are cut, a map is then the first-order share of each cell
in the score.

Selvaraju et al. (2017), "Grad-CAM: visual explanations from deep networks via gradient-based
localization". The computation is the library's, pytorch-grad-cam.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import scale_cam_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from jiadf.explanation.network import BATCH, FUSED, ExplainableNetwork, ExplanationError


class _FromMaps(nn.Module):
    """The network as the library wants it: one stream's maps in, scores (B, K) out."""

    def __init__(self, network: ExplainableNetwork, stream: str, output: str) -> None:
        super().__init__()
        self.network, self.stream, self.output = network, stream, output
        self.target_layer = nn.Identity()
        self.others: Mapping[str, Tensor] = {}
        self.metadata = torch.empty(0)

    def forward(self, maps: Tensor) -> Tensor:
        every = {**self.others, self.stream: self.target_layer(maps)}
        return self.network.scores(self.network.features(every), self.metadata, self.output)


def grad_cam(
    network: ExplainableNetwork,
    maps: Mapping[str, Tensor],
    metadata: np.ndarray,
    classes: Sequence[int] | np.ndarray,
    output: str = FUSED,
) -> dict[str, np.ndarray]:
    """Compute Grad-CAM on every image stream that is given, float32 (N, h, w).

    Each map's lowest cell is 0 and its highest 1; all are zero where no cell speaks for the class.

    Parameters
    ----------
    network, maps
        The network to explain, and each stream's feature maps, (N, F, h, w), of `feature_maps`.
    metadata, classes
        Encoded metadata, float32 (N, D), and the class index to explain, (N,).
    output
        ``fused`` for the log posterior, through the gate, or a branch's name for its logit.

    Raises
    ------
    ExplanationError
        If the network has no such output, or images have no part in it.
    """
    if output == "metadata":
        raise ExplanationError("the metadata branch sees no image: explain another output.")
    result = {}
    for stream in maps:
        if output in network.streams and output != stream:  # the other image's own branch
            result[stream] = np.zeros(maps[stream][:, 0].shape, np.float32)
            continue
        wrapped = _FromMaps(network, stream, output)
        parts = []
        with GradCAM(wrapped, [wrapped.target_layer]) as cam:
            for start in range(0, len(metadata), BATCH):
                part = slice(start, start + BATCH)
                wrapped.others = {name: value[part] for name, value in maps.items()}
                wrapped.metadata = torch.from_numpy(np.asarray(metadata[part], np.float32))
                targets = [ClassifierOutputTarget(int(k)) for k in classes[part]]
                parts.append(cam(maps[stream][part].clone().requires_grad_(), targets))
        heat = np.concatenate(parts)
        highest = heat.max((1, 2), keepdims=True)  # below 1 where gradients are tiny
        result[stream] = heat / np.where(highest > 0, highest, 1)
    return result


def upsample(maps: np.ndarray, size: int) -> np.ndarray:
    """Interpolate maps (N, h, w) to (N, size, size) pixels, from 0 to at most 1, bilinearly."""
    return scale_cam_image(maps, (size, size))

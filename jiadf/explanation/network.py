"""JI-ADF opened at its last feature maps, which is where explanations enter it.

    images --feature_maps--> maps (B, F, h, w) --features--> (B, F) --decide--> posterior, logits

    >>> model = jiadf.load_model()  # doctest: +SKIP
    >>> network = ExplainableNetwork(model.network)  # doctest: +SKIP
    >>> inputs = model.inputs(lesions)  # doctest: +SKIP
    >>> maps = feature_maps(network, inputs.streams)  # doctest: +SKIP

What is explained is the log posterior of a class (``fused``, through the gate) or a branch's logit.
Lesions must have all that the network reads: both images, if it reads both.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from jiadf.data.schema import IMAGE_TYPES
from jiadf.models.network import JIADF, NetworkOutput
from jiadf.training.network import PixelEncoder

FUSED = "fused"
BATCH = 32


class ExplanationError(ValueError):
    """There is nothing to explain: the network or the output has no image behind it."""


class ExplainableNetwork(nn.Module):
    """A copy of a network, on the CPU, that can be entered at its last feature maps.

    The network is trained end to end on images, as :func:`jiadf.load_model` loads it. A baseline,
    and what reads no pixels, is an ExplanationError.
    Its own ``network`` reads features where the given one reads images; a stream of which none are
    given is missing.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        if not isinstance(network, JIADF):
            raise ExplanationError(
                f"this is a {type(network).__name__}, whose gradients take other ways: explain a "
                "run with method=ji-adf."
            )
        own = copy.deepcopy(network).cpu().eval().requires_grad_(False)
        encoders = dict(own.image_encoders)
        if not encoders or not all(isinstance(e, PixelEncoder) for e in encoders.values()):
            raise ExplanationError(
                "this network reads no pixels: explain a run with regime=finetune and C or D "
                "among its modalities."
            )
        self.backbones = nn.ModuleDict({name: e.encoder for name, e in encoders.items()})
        own.image_encoders = nn.ModuleDict({name: nn.Identity() for name in encoders})
        self.network = own

    @property
    def streams(self) -> tuple[str, ...]:
        """Image streams, clinical first."""
        return tuple(name for name in IMAGE_TYPES if name in self.backbones)

    @property
    def outputs(self) -> tuple[str, ...]:
        """What can be explained: the decision, and each branch."""
        return (FUSED, *self.network.config.branch_names)

    def maps(self, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the last feature maps of some streams: uint8 (B, 3, S, S) -> (B, F, h, w)."""
        maps = {}
        for name, pixels in images.items():
            encoder = self.backbones[name]
            maps[name] = encoder.backbone.forward_features(encoder.normalise(pixels))
            shape = tuple(maps[name].shape)
            if len(shape) != 4 or shape[1] != encoder.backbone.num_features:
                raise ExplanationError(
                    f"backbone {encoder.backbone_name!r} ends in an array of shape {shape}, not in "
                    "feature maps (B, channels, h, w): Grad-CAM needs a convolutional backbone."
                )
        return maps

    def features(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Pool feature maps: (B, F, h, w) -> (B, F)."""
        return {
            name: self.backbones[name].backbone.forward_head(values)
            for name, values in maps.items()
        }

    @torch.no_grad()
    def encode(self, name: str, pixels: np.ndarray) -> np.ndarray:
        """Map a stream's images, uint8 (N, S, S, 3), to features as inputs have them, (N, 1, F)."""
        return self.features(feature_maps(self, {name: pixels}))[name][:, None].numpy()

    def decide(self, features: Mapping[str, Tensor], metadata: Tensor) -> NetworkOutput:
        """Fuse and decide from features (B, F) of some streams and metadata (B, D)."""
        batch = {**features, "metadata": metadata}
        for name in set(self.streams) - set(features):
            batch[name] = metadata.new_zeros(len(metadata), self.backbones[name].num_features)
        return self.network(batch)

    def scores(self, features: Mapping[str, Tensor], metadata: Tensor, output: str) -> Tensor:
        """Return what is explained, (B, K): the log posterior, or the logits of a branch."""
        if output not in self.outputs:
            known = ", ".join(self.outputs)
            raise ExplanationError(
                f"output {output!r} does not exist in this network; it has {known}."
            )
        result = self.decide(features, metadata)
        return result.log_posterior if output == FUSED else result.logits[output]


@torch.no_grad()
def feature_maps(
    network: ExplainableNetwork, images: Mapping[str, np.ndarray]
) -> dict[str, Tensor]:
    """Return the maps of N lesions' images by stream, uint8 (N, S, S, 3) -> (N, F, h, w)."""
    return {
        name: torch.cat(
            [
                network.maps({name: torch.from_numpy(np.array(part)).permute(0, 3, 1, 2)})[name]
                for part in np.split(pixels, range(BATCH, len(pixels), BATCH))
            ]
        )
        for name, pixels in images.items()
    }

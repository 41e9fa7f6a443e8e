"""Make a network from a run's parameters, the paper's or a baseline; load weights into it."""

from collections.abc import Mapping

import torch
from torch import nn

from jiadf.config import Parameters
from jiadf.data.batches import Inputs
from jiadf.data.metadata import MetadataEncoder
from jiadf.data.schema import CLASSES
from jiadf.models.baselines import BASELINES, CONFIGURED, Baseline
from jiadf.models.configuration import NetworkConfig
from jiadf.models.encoders import ImageEncoder
from jiadf.models.network import JIADF
from jiadf.training.features import Standardise
from jiadf.training.inputs import image_encoder, image_streams
from jiadf.training.run_folder import unshared


class PixelEncoder(nn.Module):
    """An image encoder that takes uint8 pixels (B, 3, S, S) and normalises them itself."""

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.num_features = encoder.num_features

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map pixels, or maps (B, C, h, w) of the fixed stages, to features (B, F)."""
        if pixels.dtype != torch.uint8:
            return self.encoder.other_stages(pixels.float())
        return self.encoder(self.encoder.normalise(pixels))

    def tokens(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map pixels to pooled features (B, F) and a token a location (B, n, F)."""
        return self.encoder.tokens(self.encoder.normalise(pixels))


def build_network(
    parameters: Parameters, inputs: Inputs, *, pretrained: bool = True
) -> JIADF | Baseline:
    """Make a run's network for inputs of these widths; not ``pretrained``, of random weights."""
    p = parameters
    encoders: dict[str, nn.Module] = {}
    for name in image_streams(p):
        if p.regime == "frozen":
            encoders[name] = Standardise(inputs.streams[name].shape[-1])
        elif p.share_backbone and encoders:
            encoders[name] = next(iter(encoders.values()))
        else:
            encoders[name] = PixelEncoder(image_encoder(p, name, None if pretrained else "random"))
    config = NetworkConfig(
        **(p.model_dump() | CONFIGURED.get(p.method, {})),
        image_features=next((e.num_features for e in encoders.values()), 0),
        columns=tuple(MetadataEncoder(p.use_monet, {}, {}).columns),
        num_classes=len(CLASSES),
    )
    return BASELINES.get(config.method, JIADF)(config, encoders)


def fit_statistics(network: JIADF | Baseline, inputs: Inputs, train_rows: torch.Tensor) -> None:
    """Learn the scaling of frozen features, and what a baseline needs, from training lesions."""
    for name, module in network.image_encoders.items():
        if isinstance(module, Standardise):
            module.fit(torch.from_numpy(inputs.streams[name][train_rows, 0]))
    if isinstance(network, Baseline):
        network.fit(inputs, train_rows)


def load_weights(network: nn.Module, weights: Mapping[str, torch.Tensor], source: str) -> None:
    """Load weights as `run_folder.unshared` leaves them, or raise ``ValueError`` and load none."""
    own = unshared(network.state_dict())
    wrong = sorted(own.keys() ^ weights.keys())
    wrong += [n for n in own if n in weights and own[n].shape != weights[n].shape]
    if wrong:
        raise ValueError(
            f"{source}: weights do not fit this network ({', '.join(wrong[:3])}, …); "
            "the run was made with another version of jiadf or was edited."
        )
    network.load_state_dict(weights, strict=False)

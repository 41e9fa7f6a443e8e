"""DualRefNet of Khurshid et al. (2025): features refined in two stages.

First, an auxiliary super-resolution task: a decoder must restore detail of the images from the
encoder's feature map, so that the encoder keeps it. Second, a penalty on the weights of the last
fully connected layer, a class's by its frequency, refines the fused features: a common class may
not win by the size of its weights. Image and metadata features are multiplied.

Source: Khurshid et al., Scientific Reports 15, 2025. Read: its abstract, and abstract and a summary
of its forerunner, arXiv:2402.10454, from which we take the product of the features, the factor two,
and the weights of the losses (0.5 for the classes, 1 for super-resolution). No code was found.

Simplifications:

- In the `frozen` regime the encoder does not learn: the first stage is idle, `finetune` has it.
- The decoder restores the image at an eighth of its side times two, from its mean over blocks;
  the source doubles the full image.
- The penalty (frequency times squared norm of the class's weights) and its weight are ours.
- The weighted cross-entropy of the source is the run's ``class_weighting: balanced``.
- The features of both images are concatenated; the source reads one image.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from jiadf.data.batches import Inputs
from jiadf.models.baselines.base import IMAGES, Baseline
from jiadf.models.configuration import NetworkConfig
from jiadf.models.encoders import MetadataMLP
from jiadf.models.network import NetworkOutput

SUPER_RESOLUTION_WEIGHT = 2.0  # the source's 1 : 0.5 to the classification loss
FREQUENCY_WEIGHT = 0.01


class Detail(nn.Module):
    """The decoder: a feature map to the detail that an image lost when it was halved."""

    def __init__(self, image_features: int, width: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(image_features, width)
        self.paint = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.GELU(), nn.Conv2d(width, 3, 3, padding=1)
        )

    def forward(self, tokens: Tensor, low: Tensor) -> Tensor:
        """Restore (B, 3, 2 s, 2 s) from a map (B, n, F), n a square, and an image (B, 3, s, s)."""
        side = round(tokens.shape[1] ** 0.5)
        grid = self.reduce(tokens[:, -(side**2) :]).mT.unflatten(-1, (side, side))
        size = [2 * length for length in low.shape[-2:]]
        grid = functional.interpolate(grid, size, mode="bilinear", align_corners=False)
        blurred = functional.interpolate(low, size, mode="bilinear", align_corners=False)
        return blurred + self.paint(grid)


class DualRefNet(Baseline):
    """See the module's docstring."""

    def __init__(self, config: NetworkConfig, image_encoders: Mapping[str, nn.Module]) -> None:
        super().__init__(config, image_encoders)
        self.image = nn.Sequential(
            nn.Linear(2 * config.image_features, config.joint_width), nn.GELU()
        )
        self.metadata = nn.Sequential(
            MetadataMLP(len(config.columns), config.metadata_width, config.dropout),
            nn.Linear(config.metadata_width, config.joint_width),
        )
        self.hidden = nn.Sequential(
            nn.Linear(config.joint_width, config.joint_width), nn.GELU(), nn.Dropout(config.dropout)
        )
        self.classifier = nn.Linear(config.joint_width, config.num_classes)
        self.register_buffer("frequency", torch.full((config.num_classes,), 1 / config.num_classes))
        if config.spatial:
            width = config.attention_width // 4 or 1
            self.detail = nn.ModuleDict(
                {name: Detail(config.image_features, width) for name in IMAGES}
            )

    def fit(self, inputs: Inputs, train_rows: Tensor) -> None:
        """Count the classes of the training lesions."""
        labels = torch.from_numpy(inputs.target)[train_rows]
        counts = torch.bincount(labels, minlength=self.config.num_classes).float()
        self.frequency.copy_(counts / counts.sum())

    def frequency_penalty(self) -> Tensor:
        """Return the sum over classes of frequency times squared norm of the weights."""
        return (self.frequency * self.classifier.weight.square().sum(dim=-1)).sum()

    def super_resolution_loss(
        self, batch: Mapping[str, Tensor], maps: Mapping[str, Tensor]
    ) -> Tensor:
        """Return the mean squared error of the restored images, pixels scaled to [0, 1]."""
        losses = []
        for name in IMAGES:
            image = functional.avg_pool2d(batch[name].float() / 255, 4)
            low = functional.avg_pool2d(image, 2)
            restored = self.detail[name](maps[name], low)
            height, width = restored.shape[-2:]
            losses.append(functional.mse_loss(restored, image[..., :height, :width]))
        return torch.stack(losses).mean()

    def forward(self, batch: Mapping[str, Tensor]) -> NetworkOutput:
        """Run the method."""
        pooled, maps = self.encode(batch)
        image = torch.cat(list(pooled.values()), dim=-1)  # (B, 2 F)
        fused = self.image(self.dropout(image)) * self.metadata(batch["metadata"])
        logits = self.classifier(self.hidden(fused))
        if not self.training:
            return self.single_head(logits)
        auxiliary = {"frequency": FREQUENCY_WEIGHT * self.frequency_penalty()}
        if self.config.spatial:
            restored = self.super_resolution_loss(batch, maps)
            auxiliary["super_resolution"] = SUPER_RESOLUTION_WEIGHT * restored
        return self.single_head(logits, auxiliary=auxiliary)

"""CAFFM of Tran-Van and Le (2025): cross-attention between image and metadata features.

Image tokens attend to the metadata's fields, the fields attend to the image tokens; both, with
their residuals, are averaged, concatenated and classified.

Source
------
Tran-Van and Le, *A multimodal skin lesion classification through cross-attention fusion and
collaborative edge computing*, Computerized Medical Imaging and Graphics 124, 102588, 2025. Read:
the abstract only; it names a cross-attention-based feature fusion of dermoscopic image and metadata
and no more. No code was found. The half of the paper on edge computing changes no prediction.

Simplifications
---------------
- The block's details (both directions, pre-normalisation, residuals, a token a field) are ours.
- The source reads one image; here both images' tokens are queries together.
- In the `frozen` regime an image has two tokens made of its pooled features instead of a map.
- Backbone: the run's.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from jiadf.models.baselines.base import IMAGES, Baseline, Block, Design, ImageTokens
from jiadf.models.baselines.fields import FieldTokens
from jiadf.models.network import NetworkOutput


class CAFFM(Baseline):
    """See the module's docstring."""

    def __init__(self, design: Design, image_encoders: Mapping[str, nn.Module]) -> None:
        super().__init__(design, image_encoders)
        self.image_tokens = nn.ModuleDict({name: ImageTokens(design) for name in IMAGES})
        self.fields = FieldTokens(design)
        self.image_to_fields = Block(design.width, design.num_heads, design.dropout)
        self.fields_to_image = Block(design.width, design.num_heads, design.dropout)
        self.classifier = nn.Sequential(
            nn.LayerNorm(2 * design.width),
            nn.Linear(2 * design.width, design.joint_width),
            nn.GELU(),
            nn.Dropout(design.dropout),
            nn.Linear(design.joint_width, design.num_classes),
        )

    def forward(self, batch: Mapping[str, Tensor]) -> NetworkOutput:
        """Run the method; ``attention`` is that of the image tokens over the fields."""
        encoded = self.encode(batch)
        parts = [self.image_tokens[name](self.dropout(encoded[name].tokens)) for name in IMAGES]
        image, fields = torch.cat(parts, dim=1), self.fields(batch["metadata"])
        mixed_image, attention = self.image_to_fields(image, fields)
        mixed_fields, _ = self.fields_to_image(fields, image)
        joint = torch.cat([mixed_image.mean(dim=1), mixed_fields.mean(dim=1)], dim=-1)
        return self.single_head(self.classifier(joint), attention=attention)

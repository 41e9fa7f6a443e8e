"""CAFFM of Tran-Van and Le (2025): cross-attention between image and metadata features.

Image tokens attend to the metadata's fields, the fields attend to the image tokens; both, with
their residuals, are averaged, concatenated and classified.

Source: Tran-Van and Le, Computerized Medical Imaging and Graphics 124, 102588, 2025. Read: the
abstract, which names a cross-attention-based feature fusion and no more. No code was found.

Simplifications:

- The block's details (both directions, pre-normalisation, residuals, a token a field) are ours.
- The source reads one image; here both images' tokens are queries together.
- In the `frozen` regime an image has two tokens made of its pooled features instead of a map.
- Backbone: the run's.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from jiadf.models.baselines.base import IMAGES, Baseline, Block, ImageTokens, classifier
from jiadf.models.baselines.fields import FieldTokens
from jiadf.models.configuration import NetworkConfig
from jiadf.models.network import NetworkOutput


class CAFFM(Baseline):
    """See the module's docstring."""

    def __init__(self, config: NetworkConfig, image_encoders: Mapping[str, nn.Module]) -> None:
        super().__init__(config, image_encoders)
        self.image_tokens = nn.ModuleDict({name: ImageTokens(config) for name in IMAGES})
        self.fields = FieldTokens(config)
        self.image_to_fields = Block(config)
        self.fields_to_image = Block(config)
        self.classifier = classifier(2 * config.attention_width, config)

    def forward(self, batch: Mapping[str, Tensor]) -> NetworkOutput:
        """Run the method."""
        _, tokens = self.encode(batch)
        parts = [self.image_tokens[name](self.dropout(value)) for name, value in tokens.items()]
        image, fields = torch.cat(parts, dim=1), self.fields(batch["metadata"])
        mixed = (self.image_to_fields(image, fields), self.fields_to_image(fields, image))
        return self.single_head(self.classifier(torch.cat([t.mean(dim=1) for t in mixed], dim=-1)))

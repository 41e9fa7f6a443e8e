"""Fine-tuned PanDerm (Yan et al., 2025): its vision transformer on both images, one linear head.

PanDerm is a ViT pretrained on two million skin images; ViT-L/16 in the paper, ViT-B/16 published
later. Here it is a backbone, ``panderm_large`` or ``panderm_base``, and ``backbone_weights`` names
the authors' file, ``panderm_ll_data6_checkpoint-499.pth``, under CC BY-NC-ND 4.0. With ``regime:
frozen`` it is the authors' linear evaluation, with ``finetune`` theirs end to end.

Source: Yan et al., Nature Medicine 31, 2691-2702, 2025. Read: abstract and README; the names of the
checkpoint's tensors and the network's settings from the model file of a public copy of it.

Simplifications:

- The network is timm's ViT with the file's weights: fixed sine-cosine positions, layer scale,
  biases on queries and values but not on keys. Its last ``[CLS]`` is the feature, in both regimes;
  the authors' fine-tuning may average the patches instead.
- Both images' features are concatenated under one head; metadata is not read.
- The run's recipe, not theirs (layer-wise decay, mixup, weighted sampling, warm-up, test-time
  augmentation).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from jiadf.models.baselines.base import Baseline
from jiadf.models.configuration import NetworkConfig
from jiadf.models.network import NetworkOutput


class PanDerm(Baseline):
    """See the module's docstring."""

    def __init__(self, config: NetworkConfig, image_encoders: Mapping[str, nn.Module]) -> None:
        super().__init__(config, image_encoders)
        self.classifier = nn.Linear(2 * config.image_features, config.num_classes)

    def forward(self, batch: Mapping[str, Tensor]) -> NetworkOutput:
        """Run the method."""
        pooled, _ = self.encode(batch)
        joined = torch.cat(list(pooled.values()), dim=-1)  # (B, 2 F)
        return self.single_head(self.classifier(self.dropout(joined)))

"""SkinM2Former of Zhang et al. (2025): tri-modal cross-attention at several levels, label queries.

At each level the clinical tokens, the dermoscopic tokens and the metadata's fields each attend to
the two other modalities. Then a learned query a class gathers evidence from all tokens, and the
queries attend to each other, so that what speaks for one label is heard by the others; a linear map
of its own turns each query into its logit.

Source: Zhang et al., WACV 2025, 3549-3558 (arXiv:2409.12390). Read: abstract and introduction. The
authors published no code.

Simplifications:

- The source fuses at several stages inside a hierarchical (Swin) transformer. Here two levels of
  tri-modal attention stand on the last features of the run's backbone.
- The source predicts eight labels of Derm7pt; MILK10k has one, so the queries are the eleven
  classes, and the source's loss for imbalanced multi-label learning is left out.
- In the `frozen` regime an image has two tokens made of its pooled features instead of a map.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from jiadf.models.baselines.base import IMAGES, Baseline, Block, ImageTokens
from jiadf.models.baselines.fields import FieldTokens
from jiadf.models.configuration import NetworkConfig
from jiadf.models.network import NetworkOutput

LEVELS = 2
MODALITIES = (*IMAGES, "metadata")


class TriModalBlock(nn.Module):
    """Each modality's tokens attend to those of the two others, all at once."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleDict({name: Block(config) for name in MODALITIES})

    def forward(self, tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Map tokens (B, n_m, width) of each modality m to tokens of the same shapes."""
        mixed = {}
        for name, block in self.blocks.items():
            others = torch.cat([value for key, value in tokens.items() if key != name], dim=1)
            mixed[name] = block(tokens[name], others)
        return mixed


class SkinM2Former(Baseline):
    """See the module's docstring."""

    def __init__(self, config: NetworkConfig, image_encoders: Mapping[str, nn.Module]) -> None:
        super().__init__(config, image_encoders)
        self.image_tokens = nn.ModuleDict({name: ImageTokens(config) for name in IMAGES})
        self.fields = FieldTokens(config)
        self.levels = nn.ModuleList(TriModalBlock(config) for _ in range(LEVELS))
        self.queries = nn.Parameter(0.02 * torch.randn(config.num_classes, config.attention_width))
        self.gather = Block(config)
        self.correlate = Block(config)
        self.norm = nn.LayerNorm(config.attention_width)
        shape = (config.num_classes, config.attention_width)
        self.weight = nn.Parameter(torch.randn(shape) / config.attention_width**0.5)
        self.bias = nn.Parameter(torch.zeros(config.num_classes))

    def forward(self, batch: Mapping[str, Tensor]) -> NetworkOutput:
        """Run the method."""
        _, features = self.encode(batch)
        tokens = {n: self.image_tokens[n](self.dropout(value)) for n, value in features.items()}
        tokens["metadata"] = self.fields(batch["metadata"])
        for level in self.levels:
            tokens = level(tokens)
        queries = self.queries.expand(len(batch["metadata"]), -1, -1)  # (B, K, width)
        queries = self.gather(queries, torch.cat(list(tokens.values()), dim=1))
        queries = self.correlate(queries)
        logits = (self.norm(queries) * self.weight).sum(dim=-1) + self.bias  # (B, K)
        return self.single_head(logits)

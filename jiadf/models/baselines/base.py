"""What every baseline shares: its inputs, its place in the training loop, and attention.

A baseline is a module like :class:`jiadf.models.network.JIADF`. What it trains on besides the
classification loss goes into the output's ``auxiliary``, already weighted, while training. Widths
and dropout are the run's: all methods have the same budget of tuning.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from jiadf.data.batches import Inputs
from jiadf.models.configuration import NetworkConfig
from jiadf.models.network import NetworkOutput
from jiadf.models.precision import at_least_float32, full_precision

IMAGES = ("clinical", "dermoscopic")
SLOTS = 2  # tokens made of an image of which only the pooled features are at hand


class Baseline(nn.Module):
    """Base of the published methods; a subclass makes its parts and gives :meth:`forward`."""

    branch_names: tuple[str, ...] = ("joint",)

    def __init__(self, config: NetworkConfig, image_encoders: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.config = config
        self.image_encoders = nn.ModuleDict({name: image_encoders[name] for name in IMAGES})
        self.dropout = nn.Dropout(config.dropout)

    def fit(self, inputs: Inputs, train_rows: Tensor) -> None:
        """Learn statistics of the training lesions before training; most methods need none."""

    def begin_epoch(self, epoch: int, epochs: int) -> bool:
        """Prepare for an epoch, counted from 1; say whether its weights may be kept."""
        return True

    def encode(self, batch: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Encode both images: pooled features (B, F) of each, and tokens (B, n, F) of each."""
        pooled, tokens = {}, {}
        for name, encoder in self.image_encoders.items():
            if self.config.spatial:
                pooled[name], tokens[name] = encoder.tokens(batch[name])
            else:
                pooled[name] = encoder(batch[name])
                tokens[name] = pooled[name].unsqueeze(1)
        return pooled, tokens

    def single_head(self, logits: Tensor, auxiliary: dict | None = None) -> NetworkOutput:
        """Return the output of a method with one classifier."""
        log_posterior = at_least_float32(logits).log_softmax(dim=-1)
        return NetworkOutput(log_posterior, {"joint": logits}, auxiliary=auxiliary)


class Attention(nn.Module):
    """Multi-head attention of tokens (B, n, W) over a context (B, m, W)."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        """Return mixed values (B, n, W)."""
        query = self.query(tokens).unflatten(-1, (self.num_heads, -1))  # (B, n, H, d)
        pair = self.key_value(context).unflatten(-1, (2, self.num_heads, -1))  # (B, m, 2, H, d)
        with full_precision(query):
            query = at_least_float32(query).transpose(1, 2)  # (B, H, n, d)
            key, value = at_least_float32(pair).permute(2, 0, 3, 1, 4)  # (B, H, m, d) each
            mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.out(mixed.transpose(1, 2).flatten(2).to(self.out.weight.dtype))


class Block(nn.Module):
    """A transformer block: attention to a context, or to itself, then a small MLP."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.attention_width
        self.norm = nn.LayerNorm(width)
        self.norm_context = nn.LayerNorm(width)
        self.attention = Attention(width, config.num_heads)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the tokens (B, n, W) after the block."""
        context = self.norm_context(tokens if context is None else context)
        tokens = tokens + self.dropout(self.attention(self.norm(tokens), context))
        return tokens + self.dropout(self.mlp(tokens))


class ImageTokens(nn.Module):
    """Project an image's features (B, n, F) to tokens (B, n * slots, width).

    Pooled features, all that the `frozen` regime has, give `SLOTS` tokens.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.slots = 1 if config.spatial else SLOTS
        self.project = nn.Linear(config.image_features, self.slots * config.attention_width)
        self.kind = nn.Parameter(0.02 * torch.randn(config.attention_width))  # of which image

    def forward(self, features: Tensor) -> Tensor:
        """Project the features."""
        projected = self.project(features).unflatten(-1, (self.slots, -1))
        return projected.flatten(1, 2) + self.kind


def classifier(width: int, config: NetworkConfig) -> nn.Sequential:
    """Make the MLP from features of a fusion, (B, width), to logits (B, K)."""
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, config.joint_width),
        nn.GELU(),
        nn.Dropout(config.dropout),
        nn.Linear(config.joint_width, config.num_classes),
    )

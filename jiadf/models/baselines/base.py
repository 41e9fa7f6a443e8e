"""What every baseline shares: its inputs, its place in the training loop, and attention.

A baseline is a module like :class:`jiadf.models.network.JIADF`: it takes a batch and gives a
:class:`jiadf.models.network.NetworkOutput`, so that the loop, the loss, the metrics and the run
folders are the same for all. What a method trains on besides the classification loss goes into
the output's ``auxiliary``, already weighted, while the module is in training mode. A method with
stages says in :meth:`Baseline.begin_epoch` which one an epoch belongs to.

Widths come from the run's parameters: tokens are ``num_heads * head_dim`` wide, classifiers read
``joint_width`` features. Dropout is the run's. So all methods have the same budget of tuning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from jiadf.models.network import NetworkOutput
from jiadf.models.precision import at_least_float32, full_precision

if TYPE_CHECKING:
    from jiadf.data.batches import Inputs

IMAGES = ("clinical", "dermoscopic")
SLOTS = 2  # tokens made of an image of which only the pooled features are at hand


@dataclass(frozen=True, kw_only=True)
class Design:
    """What a baseline is built from.

    Attributes
    ----------
    image_features : int
        Width F of one image's features.
    columns : tuple of str
        Names of the encoded metadata's entries, :attr:`MetadataEncoder.columns`.
    num_classes, metadata_width, num_heads, head_dim, joint_width : int
        Widths, as in a run's parameters.
    dropout : float
        As in a run's parameters.
    spatial : bool
        Whether the image encoders see pixels and can give a feature map (`finetune`).
    """

    image_features: int
    columns: tuple[str, ...]
    num_classes: int = 11
    metadata_width: int = 128
    num_heads: int = 4
    head_dim: int = 32
    joint_width: int = 256
    dropout: float = 0.2
    spatial: bool = False

    @property
    def width(self) -> int:
        """Width of a token."""
        return self.num_heads * self.head_dim


class Encoded(NamedTuple):
    """One image of a batch: ``pooled`` (B, F) and its ``tokens`` (B, n, F)."""

    pooled: Tensor
    tokens: Tensor


class Baseline(nn.Module):
    """Base of the published methods; a subclass makes its parts and gives :meth:`forward`.

    Parameters
    ----------
    design : Design
        Widths.
    image_encoders : mapping of str to Module
        Under "clinical" and "dermoscopic": in the `frozen` regime modules (B, F) -> (B, F), in
        `finetune` those of :class:`jiadf.training.network.PixelEncoder`, which have a ``tokens``
        method.
    """

    branch_names: tuple[str, ...] = ("joint",)

    def __init__(self, design: Design, image_encoders: Mapping[str, nn.Module]) -> None:
        super().__init__()
        if set(image_encoders) != set(IMAGES):
            raise ValueError(
                f"image encoders are given for {sorted(image_encoders)}: the published methods "
                "read both images; set modalities to CDM"
            )
        self.design = design
        self.image_encoders = nn.ModuleDict({name: image_encoders[name] for name in IMAGES})
        self.dropout = nn.Dropout(design.dropout)

    def fit(self, inputs: Inputs, train_rows: Tensor) -> None:
        """Learn statistics of the training lesions before training; most methods need none."""

    def begin_epoch(self, epoch: int, epochs: int) -> bool:
        """Prepare for an epoch, counted from 1; return whether its weights may be kept.

        The loop neither keeps weights from earlier stages nor lowers the learning rate in them.
        """
        return True

    def encode(self, batch: Mapping[str, Tensor]) -> dict[str, Encoded]:
        """Encode both images of a batch."""
        missing = [name for name in (*IMAGES, "metadata") if name not in batch]
        if missing:
            raise ValueError(f"the batch lacks {', '.join(missing)}: set modalities to CDM")
        return {name: self._encode(self.image_encoders[name], batch[name]) for name in IMAGES}

    def _encode(self, encoder: nn.Module, values: Tensor) -> Encoded:
        if self.design.spatial:
            return Encoded(*encoder.tokens(values))
        pooled = encoder(values)
        return Encoded(pooled, pooled.unsqueeze(1))

    def single_head(self, logits: Tensor, **fields) -> NetworkOutput:
        """Return the output of a method with one classifier."""
        log_posterior = at_least_float32(logits).log_softmax(dim=-1)
        return NetworkOutput(log_posterior, {"joint": logits}, **fields)


class Attention(nn.Module):
    """Multi-head attention of tokens (B, n, W) over a context (B, m, W); gives the weights too."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return mixed values (B, n, W) and weights (B, H, n, m), whose rows sum to one."""
        query = self.query(tokens).unflatten(-1, (self.num_heads, -1))  # (B, n, H, d)
        pair = self.key_value(context).unflatten(-1, (2, self.num_heads, -1))  # (B, m, 2, H, d)
        with full_precision(query):
            query = at_least_float32(query).transpose(1, 2)  # (B, H, n, d)
            key, value = at_least_float32(pair).permute(2, 0, 3, 1, 4)  # (B, H, m, d) each
            weights = (query @ key.mT / math.sqrt(query.shape[-1])).softmax(dim=-1)
            mixed = (weights @ value).transpose(1, 2).flatten(2)  # (B, n, W)
        return self.out(mixed.to(self.out.weight.dtype)), weights


class Block(nn.Module):
    """A transformer block: attention to a context (or to itself), then a small MLP, both residual.

    The tokens, and a context of their own kind, are normalised first.
    """

    def __init__(self, width: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.norm_context = nn.LayerNorm(width)
        self.attention = Attention(width, num_heads)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the tokens (B, n, W) after the block and the attention (B, H, n, m)."""
        own = self.norm_context(tokens if context is None else context)
        mixed, weights = self.attention(self.norm(tokens), own)
        tokens = tokens + self.dropout(mixed)
        return tokens + self.dropout(self.mlp(tokens)), weights


class ImageTokens(nn.Module):
    """Project an image's features to tokens (B, n, width).

    A feature map gives a token a location. Pooled features, all that the `frozen` regime has, give
    `SLOTS` tokens: learned projections of the one vector, in place of the locations it lost.
    """

    def __init__(self, design: Design) -> None:
        super().__init__()
        slots = 1 if design.spatial else SLOTS
        self.project = nn.Linear(design.image_features, slots * design.width)
        self.slots = slots
        self.kind = nn.Parameter(0.02 * torch.randn(design.width))  # which image a token is of

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, n, F) to (B, n * slots, width)."""
        projected = self.project(tokens).unflatten(-1, (self.slots, -1))
        return projected.flatten(1, 2) + self.kind

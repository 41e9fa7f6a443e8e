"""Multi-Modal Fusion Attention (MMFA): modalities attend to each other, beside a skip path.

Implements equations (8) to (11) of the paper for n >= 2 tokens f_1 ... f_n, one a modality, with
H heads of width d_h::

    q_i = W_q,i f_i    k_i = W_k,i f_i    v_i = W_v,i f_i       per head and modality    (8)
    A = softmax(Q K^T / sqrt(d_h))                              n x n                    (9)
    a = [A V of every head, its n rows concatenated]            H * n * d_h             (10)
    f_joint = gelu(W_o a) + gelu(W_s [f_1; ...; f_n])                                   (11)

The tokens keep their own width: each modality has its own maps to the heads, without bias; W_o and
W_s are full linear layers. ``paths`` chooses the attention path, the skip path, or both (Table 3).
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from jiadf.models.precision import at_least_float32, full_precision

PATHS = ("both", "attention", "skip")


class MMFA(nn.Module):
    """Fuse one feature vector a modality into a joint representation.

    `token_dims` are the widths d_i of the modalities' features, two or more; `num_heads` is H,
    `head_dim` d_h, `out_dim` the width of f_joint. `paths` are the terms of equation (11) that are
    kept; parameters of the other term do not exist.
    """

    def __init__(
        self,
        token_dims: Sequence[int],
        num_heads: int = 4,
        head_dim: int = 32,
        out_dim: int = 256,
        paths: Literal["both", "attention", "skip"] = "both",
    ) -> None:
        super().__init__()
        if len(token_dims) < 2:
            raise ValueError(
                f"token_dims has {len(token_dims)} entry: MMFA relates two or more modalities; "
                "with a single one use its features directly"
            )
        if paths not in PATHS:
            raise ValueError(f"paths is {paths!r}: choose one of {', '.join(PATHS)}")
        self.token_dims, self.num_heads, self.head_dim = tuple(token_dims), num_heads, head_dim
        self.out_dim, self.paths = out_dim, paths

        if paths != "skip":
            # One matrix a modality holds W_q, W_k and W_v of all heads, in this order.
            self.qkv = nn.ModuleList(
                nn.Linear(width, 3 * num_heads * head_dim, bias=False) for width in token_dims
            )
            self.attention_out = nn.Linear(len(token_dims) * num_heads * head_dim, out_dim)
        if paths != "attention":
            self.skip_out = nn.Linear(sum(token_dims), out_dim)

    def attend(self, tokens: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the mixed values of (10), (B, H * n * d_h), and A of (9), (B, H, n, n)."""
        heads = (3, self.num_heads, self.head_dim)
        projected = [
            project(token).unflatten(-1, heads)
            for project, token in zip(self.qkv, tokens, strict=True)
        ]
        query, key, value = torch.stack(projected, dim=1).unbind(2)  # each (B, n, H, d_h)
        with full_precision(query):
            query, key, value = map(at_least_float32, (query, key, value))
            scores = torch.einsum("bihd,bjhd->bhij", query / math.sqrt(self.head_dim), key)
            attention = scores.softmax(dim=-1)  # (B, H, n, n), a row sums to one
            mixed = torch.einsum("bhij,bjhd->bhid", attention, value)  # (B, H, n, d_h)
        return mixed.flatten(1), attention

    def forward(
        self, tokens: Sequence[Tensor], return_attention: bool = False
    ) -> Tensor | tuple[Tensor, Tensor | None]:
        """Fuse tokens (B, d_i), in the order of `token_dims`, into f_joint (B, out_dim).

        With `return_attention` also A of (9), (B, H, n, n), or None where the skip path is alone.
        """
        attention, terms = None, []
        if self.paths != "skip":
            mixed, attention = self.attend(tokens)
            mixed = mixed.to(self.attention_out.weight.dtype)
            terms.append(functional.gelu(self.attention_out(mixed)))  # (B, out_dim)
        if self.paths != "attention":
            joined = torch.cat(list(tokens), dim=-1)  # (B, sum of d_i)
            terms.append(functional.gelu(self.skip_out(joined)))  # (B, out_dim)
        joint = sum(terms[1:], start=terms[0])
        return (joint, attention) if return_attention else joint

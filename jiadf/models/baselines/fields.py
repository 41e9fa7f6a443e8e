"""The encoded metadata vector as tokens: a number of fields, or words of a sentence.

``FieldTokens`` gives a learned token a field. ``MetadataText`` renders the vector as a sentence of
a closed vocabulary (``age: high, sex: female, site: trunk, ...``), for methods that read
metadata as text; numbers, which the encoder has standardised, become one of five words. No
pretrained language model is among the project's dependencies: ``FrozenTextEmbedding`` stands in
for one with a fixed random vector a word, ``TextEncoder`` is a small transformer that is trained.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from jiadf.models.baselines.base import Block, Design

LEVELS = ("lowest", "low", "average", "high", "highest")
EDGES = (-1.5, -0.5, 0.5, 1.5)  # in standard deviations of the training lesions
CLS, UNKNOWN = "[CLS]", "unknown"


def fields_of(columns: tuple[str, ...]) -> dict[str, list[int]]:
    """Group the columns of the encoded metadata by field, in order.

    ``sex=female`` belongs to ``sex``, ``age_missing`` to ``age``; each MONET score is a field.
    """
    fields: dict[str, list[int]] = {}
    for index, column in enumerate(columns):
        fields.setdefault(column.split("=")[0].removesuffix("_missing"), []).append(index)
    return fields


class FieldTokens(nn.Module):
    """Give each field of the metadata a token: its own linear map of its own columns.

    The MONET scores of an image are one field here.
    """

    def __init__(self, design: Design) -> None:
        super().__init__()
        groups: dict[str, list[int]] = {}
        for field, indices in fields_of(design.columns).items():
            groups.setdefault(field.partition("MONET")[0] or field, []).extend(indices)
        self.indices = list(groups.values())
        self.maps = nn.ModuleList(nn.Linear(len(part), design.width) for part in self.indices)

    def forward(self, metadata: Tensor) -> Tensor:
        """Map (B, D) to (B, fields, width)."""
        parts = zip(self.maps, self.indices, strict=True)
        return torch.stack([project(metadata[:, index]) for project, index in parts], dim=1)


class MetadataText(nn.Module):
    """Render encoded metadata as word numbers, (B, D) -> (B, L) int64, L = 1 + fields.

    ``[CLS]``, then for each field the word of its value. A field's name is a constant that its
    place says already: it is spelled by `sentence`, and is no token. Equal sentences mean equal
    words; nothing of it is learned.
    """

    def __init__(self, columns: tuple[str, ...]) -> None:
        super().__init__()
        self.columns = columns
        self.fields = fields_of(columns)
        self.length = 1 + len(self.fields)
        words = [CLS, UNKNOWN, *LEVELS]
        words += [column.split("=")[1] for column in columns if "=" in column]
        self.words = list(dict.fromkeys(words))
        self.number = {word: place for place, word in enumerate(self.words)}
        self.register_buffer("levels", self._numbers(LEVELS), persistent=False)
        self.register_buffer("edges", torch.tensor(EDGES), persistent=False)

    def _numbers(self, words: Sequence[str]) -> Tensor:
        return torch.tensor([self.number[word] for word in words])

    def forward(self, metadata: Tensor) -> Tensor:
        """Return the word numbers."""
        first = torch.full((len(metadata),), self.number[CLS], device=metadata.device)
        values = (self._value(metadata, indices) for indices in self.fields.values())
        return torch.stack([first, *values], dim=1)

    def _value(self, metadata: Tensor, indices: list[int]) -> Tensor:
        """Return the number of the word of a field's value, (B,)."""
        missing = [i for i in indices if self.columns[i].endswith("_missing")]
        known = [i for i in indices if i not in missing]
        if "=" in self.columns[known[0]]:
            words = self._numbers([self.columns[i].split("=")[1] for i in known])
            one_hot = metadata[:, known]  # all zeros where unknown
            value = words.to(metadata.device)[one_hot.argmax(dim=1)]
            absent = one_hot.amax(dim=1) < 0.5
        else:
            value = self.levels[torch.bucketize(metadata[:, known[0]].contiguous(), self.edges)]
            absent = torch.zeros_like(value, dtype=torch.bool)
        if missing:
            absent = absent | (metadata[:, missing[0]] > 0.5)
        return value.masked_fill(absent, self.number[UNKNOWN])

    def sentence(self, numbers: Tensor) -> str:
        """Spell one lesion's word numbers, (L,)."""
        words = (self.words[n] for n in numbers.tolist()[1:])
        return ", ".join(f"{n}: {v}" for n, v in zip(self.fields, words, strict=True))


class FrozenTextEmbedding(nn.Module):
    """A fixed embedding of a sentence: the mean of one random vector a (position, word) pair.

    Seeded by itself, so that it is the same in every run, as a frozen language model would be.
    """

    def __init__(self, vocabulary: int, length: int, width: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        table = torch.randn(length, vocabulary, width, generator=generator)
        self.register_buffer("table", table, persistent=False)

    def forward(self, numbers: Tensor) -> Tensor:
        """Map (B, L) to (B, width)."""
        places = torch.arange(numbers.shape[1], device=numbers.device)
        return self.table[places, numbers].mean(dim=1)


class TextEncoder(nn.Module):
    """A small transformer over word numbers, (B, L) -> (B, L, width); position 0 is ``[CLS]``."""

    def __init__(self, vocabulary: int, length: int, design: Design, layers: int = 1) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, design.width)
        self.places = nn.Parameter(0.02 * torch.randn(length, design.width))
        self.blocks = nn.ModuleList(
            Block(design.width, design.num_heads, design.dropout) for _ in range(layers)
        )

    def forward(self, numbers: Tensor) -> Tensor:
        """Encode sentences."""
        tokens = self.words(numbers) + self.places
        for block in self.blocks:
            tokens, _ = block(tokens)
        return tokens

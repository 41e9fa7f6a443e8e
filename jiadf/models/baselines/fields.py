"""The encoded metadata vector as tokens: a number of fields, or words of a sentence.

``FieldTokens`` gives a learned token a field. ``MetadataText`` renders the vector as a sentence of
a closed vocabulary (``sex is female , site is trunk , age is high , ...``), for methods that read
metadata as text; numbers, which the encoder has standardised, become one of five words. No
pretrained language model is among the project's dependencies: ``FrozenTextEmbedding`` stands in
for one with a fixed random vector a word, ``TextEncoder`` is a small transformer that is trained.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jiadf.models.baselines.base import Block, Design

LEVELS = ("very low", "low", "average", "high", "very high")
EDGES = (-1.5, -0.5, 0.5, 1.5)  # in standard deviations of the training lesions
PAD, CLS, UNKNOWN = "[PAD]", "[CLS]", "unknown"


def fields_of(columns: tuple[str, ...]) -> dict[str, list[int]]:
    """Group the columns of the encoded metadata by field, in order.

    ``sex=female`` belongs to ``sex``, ``age_missing`` to ``age``; each MONET score is a field.
    """
    fields: dict[str, list[int]] = {}
    for index, column in enumerate(columns):
        fields.setdefault(column.split("=")[0].removesuffix("_missing"), []).append(index)
    return fields


class FieldTokens(nn.Module):
    """Give each field of the metadata a token: its own linear map of its own columns."""

    def __init__(self, design: Design) -> None:
        super().__init__()
        self.indices = list(fields_of(design.columns).values())
        self.maps = nn.ModuleList(nn.Linear(len(part), design.width) for part in self.indices)

    def forward(self, metadata: Tensor) -> Tensor:
        """Map (B, D) to (B, fields, width)."""
        parts = zip(self.maps, self.indices, strict=True)
        return torch.stack([project(metadata[:, index]) for project, index in parts], dim=1)


class MetadataText(nn.Module):
    """Render encoded metadata as word numbers, (B, D) -> (B, L) int64.

    A field gives its name, ``is``, two words of its value, and a comma; the sentence starts with
    ``[CLS]``. Equal vectors give equal sentences, and nothing of it is learned.
    """

    def __init__(self, columns: tuple[str, ...]) -> None:
        super().__init__()
        self.columns = columns
        self.fields = fields_of(columns)
        words = [PAD, CLS, "is", ",", UNKNOWN, *dict.fromkeys(" ".join(LEVELS).split())]
        words += [*self.fields, *(c.split("=")[1] for c in columns if "=" in c)]
        self.words = list(dict.fromkeys(words))
        self.number = {word: place for place, word in enumerate(self.words)}
        level = [(["very"] if "very" in text else []) + [text.split()[-1]] for text in LEVELS]
        self.register_buffer("levels", self._pairs(level), persistent=False)
        self.register_buffer("edges", torch.tensor(EDGES), persistent=False)

    def _pairs(self, phrases: list[list[str]]) -> Tensor:
        """Word numbers of phrases of one or two words, (len, 2), padded."""
        return torch.tensor([[self.number[w] for w in (*p, PAD)][:2] for p in phrases])

    def forward(self, metadata: Tensor) -> Tensor:
        """Return the word numbers, L = 1 + 5 * fields."""
        size = len(metadata)
        device = metadata.device

        def word(name: str) -> Tensor:
            return torch.full((size, 1), self.number[name], device=device)

        parts = [word(CLS)]
        for name, indices in self.fields.items():
            value = self._value(metadata, indices)
            parts += [word(name), word("is"), value, word(",")]
        return torch.cat(parts, dim=1)

    def _value(self, metadata: Tensor, indices: list[int]) -> Tensor:
        names = [self.columns[i] for i in indices]
        unknown = self._pairs([[UNKNOWN]]).to(metadata.device)  # (1, 2)
        missing = [i for i, n in zip(indices, names, strict=True) if n.endswith("_missing")]
        known = [i for i in indices if i not in missing]
        if "=" in names[0]:
            phrases = self._pairs([[self.columns[i].split("=")[1]] for i in known])
            picked = metadata[:, known]  # one-hot; all zeros where unknown
            value = phrases.to(metadata.device)[picked.argmax(dim=1)]
            absent = picked.amax(dim=1) < 0.5
        else:
            value = self.levels[torch.bucketize(metadata[:, known[0]].contiguous(), self.edges)]
            absent = torch.zeros(len(metadata), dtype=torch.bool, device=metadata.device)
        if missing:
            absent = absent | (metadata[:, missing[0]] > 0.5)
        return torch.where(absent.unsqueeze(1), unknown, value)

    def sentence(self, numbers: Tensor) -> str:
        """Spell one lesion's word numbers, (L,)."""
        words = [self.words[n] for n in numbers.tolist()]
        return " ".join(word for word in words if word not in (PAD, CLS))


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

    def __init__(self, vocabulary: int, length: int, design: Design, layers: int = 2) -> None:
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

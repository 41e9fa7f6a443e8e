"""The encoded metadata vector as tokens: a number of fields, or words of a sentence.

The sentence is of a closed vocabulary (``age: high, sex: female, site: trunk, ...``), as no
pretrained language model is among the project's dependencies.
"""

import torch
from torch import Tensor, nn

from jiadf.models.configuration import NetworkConfig

LEVELS = ("lowest", "low", "average", "high", "highest")
EDGES = (-1.5, -0.5, 0.5, 1.5)  # in standard deviations of the training lesions
CLS, UNKNOWN = "[CLS]", "unknown"


def fields_of(columns: tuple[str, ...]) -> dict[str, list[int]]:
    """Group columns by field: ``sex=female`` under ``sex``, ``age_missing`` under ``age``."""
    fields: dict[str, list[int]] = {}
    for index, column in enumerate(columns):
        fields.setdefault(column.split("=")[0].removesuffix("_missing"), []).append(index)
    return fields


class FieldTokens(nn.Module):
    """Give each field a token, its own linear map; the MONET scores of an image are one field."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        groups: dict[str, list[int]] = {}
        for field, indices in fields_of(config.columns).items():
            groups.setdefault(field.partition("MONET")[0] or field, []).extend(indices)
        self.indices = list(groups.values())
        self.maps = nn.ModuleList(
            nn.Linear(len(part), config.attention_width) for part in self.indices
        )

    def forward(self, metadata: Tensor) -> Tensor:
        """Map (B, D) to (B, fields, width)."""
        parts = zip(self.maps, self.indices, strict=True)
        return torch.stack([project(metadata[:, index]) for project, index in parts], dim=1)


class MetadataText(nn.Module):
    """Render encoded metadata as numbers, (B, D) -> (B, L): ``[CLS]``, then a word a field."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        super().__init__()
        self.columns = columns
        self.fields = fields_of(columns)
        self.length = 1 + len(self.fields)
        values = [column.split("=")[1] for column in columns if "=" in column]
        self.words = list(dict.fromkeys([CLS, UNKNOWN, *LEVELS, *values]))
        self.register_buffer("edges", torch.tensor(EDGES), persistent=False)

    def forward(self, metadata: Tensor) -> Tensor:
        """Return the word numbers."""
        values = [self._value(metadata, indices) for indices in self.fields.values()]
        first = torch.full_like(values[0], self.words.index(CLS))
        return torch.stack([first, *values], dim=1)

    def _value(self, metadata: Tensor, indices: list[int]) -> Tensor:
        """Return the number of the word of a field's value, (B,)."""
        missing = [i for i in indices if self.columns[i].endswith("_missing")]
        known = [i for i in indices if i not in missing]
        if "=" in self.columns[known[0]]:
            words = [self.words.index(self.columns[i].split("=")[1]) for i in known]
            one_hot = metadata[:, known]  # all zeros where unknown
            value = torch.tensor(words, device=metadata.device)[one_hot.argmax(dim=1)]
            absent = one_hot.amax(dim=1) < 0.5
        else:
            level = torch.bucketize(metadata[:, known[0]].contiguous(), self.edges)
            value = level + self.words.index(LEVELS[0])
            absent = torch.zeros_like(value, dtype=torch.bool)
        if missing:
            absent = absent | (metadata[:, missing[0]] > 0.5)
        return value.masked_fill(absent, self.words.index(UNKNOWN))

"""Turn a lesion's metadata into a vector, with everything learned from the training part only.

The vector is, in order: age; a flag for missing age; one-hot sex, site and skin tone over the
categories of the schema; a flag for missing site; and, unless switched off, the seven MONET scores
of the clinical and of the dermoscopic image. Numbers are standardised by the training part's mean
and deviation; a missing one is put at the mean. A category outside the schema, or missing where a
flag stands for it, is all zeros in its one-hot block.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from jiadf.data.schema import IMAGE_TYPES, MONET, SEXES, SITES, SKIN_TONES

CATEGORIES = {"sex": SEXES, "site": SITES, "skin_tone_class": SKIN_TONES}
MONET_COLUMNS = tuple(f"{image_type}_{score}" for image_type in IMAGE_TYPES for score in MONET)


@dataclass(frozen=True)
class MetadataEncoder:
    """A fitted metadata encoder; make one with :meth:`fit`.

    ``mean`` and ``std`` are the training part's, of age (years) and MONET scores (0 to 1).
    """

    use_monet: bool
    mean: dict[str, float]
    std: dict[str, float]

    @classmethod
    def fit(cls, lesions: pd.DataFrame, use_monet: bool = True) -> "MetadataEncoder":
        """Learn the scaling from ``lesions``, which must be the training part.

        A ValueError if none of them has an age.
        """
        numeric = ["age_approx", *(MONET_COLUMNS if use_monet else ())]
        table = lesions[numeric].astype(float)
        if table["age_approx"].notna().sum() == 0:
            raise ValueError("no training lesion has an age: age_approx cannot be scaled.")
        std = table.std(ddof=0)
        std[std == 0] = 1.0  # a constant column stays constant instead of dividing by zero
        return cls(use_monet, table.mean().to_dict(), std.to_dict())

    @property
    def columns(self) -> list[str]:
        """Names of the vector's entries, in order."""
        one_hot = [f"{name}={value}" for name, values in CATEGORIES.items() for value in values]
        monet = list(MONET_COLUMNS) if self.use_monet else []
        return ["age", "age_missing", *one_hot, "site_missing", *monet]

    def transform(self, lesions: pd.DataFrame) -> np.ndarray:
        """Encode lesions as a float32 array of shape (N, ``len(self.columns)``)."""
        age = self._scaled(lesions, "age_approx")
        blocks = [age.fillna(0.0), lesions["age_approx"].isna()]
        for name, values in CATEGORIES.items():
            blocks += [lesions[name].eq(value).fillna(False) for value in values]
        blocks.append(lesions["site"].isna())
        if self.use_monet:
            blocks += [self._scaled(lesions, column).fillna(0.0) for column in MONET_COLUMNS]
        return np.stack([block.to_numpy(np.float32) for block in blocks], axis=1)

    def _scaled(self, lesions: pd.DataFrame, column: str) -> pd.Series:
        return (lesions[column].astype(float) - self.mean[column]) / self.std[column]

    def to_json(self) -> str:
        """Serialise, with the column names for the reader's sake."""
        return json.dumps(asdict(self) | {"columns": self.columns}, indent=2)

    @classmethod
    def from_json(cls, text: str, source: str | Path = "encoder.json") -> "MetadataEncoder":
        """Read what :meth:`to_json` wrote.

        A ValueError if the columns named in the file are not those that this version produces.
        """
        fields = json.loads(text)
        columns = fields.pop("columns")
        encoder = cls(**fields)
        if encoder.columns != columns:
            raise ValueError(
                f"{source}: its columns differ from those of this version of jiadf; "
                "train the run again or use the version named in its environment.json."
            )
        return encoder

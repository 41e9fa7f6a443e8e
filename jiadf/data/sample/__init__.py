"""A sample of 240 real lesions of MILK10k that comes with the package, in the official layout.

Images and tables are MILK10k's, by the MILK study team, under CC BY-NC 4.0; README.md in this
folder says how they were drawn.
"""

from pathlib import Path

import pandas as pd

from jiadf.data.read import read_lesions


def sample_dir() -> Path:
    """Return the folder of the sample, as :func:`jiadf.data.read.read_lesions` takes it."""
    return Path(__file__).resolve().parent


def read_sample() -> pd.DataFrame:
    """Read the sample's table, labelled, as :func:`jiadf.data.read.read_lesions` does."""
    return read_lesions(sample_dir(), "training")

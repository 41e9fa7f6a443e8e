"""A sample of 240 real lesions of MILK10k that comes with the package, in the official layout.

``sample_dir()`` is its folder, ``read_sample()`` its table. Images and tables are MILK10k's, by the
MILK study team, under CC BY-NC 4.0; README.md in this folder says how they were drawn.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_sample", "sample_dir"]


def sample_dir() -> Path:
    """Return the folder of the sample, as :func:`jiadf.data.read.read_lesions` takes it.

    Returns
    -------
    Path
        The folder with ``MILK10k_Training_Input`` and the three tables.

    Raises
    ------
    FileNotFoundError
        If a table or the folder of images is missing, as after an installation without data.
    """
    from jiadf.data.layout import Layout

    folder = Path(__file__).resolve().parent
    layout = Layout(folder, "training")
    paths = (
        layout.input_dir,
        layout.metadata_csv,
        layout.ground_truth_csv,
        layout.supplement_csv,
    )
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        message = f"the sample in {folder} lacks {', '.join(missing)}: install jiadf again"
        raise FileNotFoundError(f"{message}, or restore the folder with git")
    return folder


def read_sample() -> pd.DataFrame:
    """Read the sample's table: one row a lesion, 240 rows.

    Returns
    -------
    DataFrame
        As :func:`jiadf.data.read.read_lesions` returns it, with labels and image paths.

    Raises
    ------
    FileNotFoundError
        As in :func:`sample_dir`.
    DataError
        If a table is damaged or an image file is missing.
    """
    from jiadf.data.read import read_lesions

    return read_lesions(sample_dir(), "training")

"""Read a MILK10k folder into one tidy table with a row a lesion.

The official metadata have two rows a lesion, one for its clinical close-up and one for its
dermoscopic image. :func:`read_lesions` puts them side by side with the class and the paths of the
two images; every later step starts from this table.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from jiadf.data.check import check_image_files, examine_tables
from jiadf.data.faults import DataError
from jiadf.data.layout import Layout
from jiadf.data.schema import CLASSES, IMAGE_TYPES, LESION_COLUMNS, MONET

__all__ = ["Layout", "read_lesions"]


def read_lesions(
    root: str | Path, part: str | None = None, *, image_files: bool = True
) -> pd.DataFrame:
    """Read the tables of a data folder, checked.

    Parameters
    ----------
    root : path
        A folder in the official layout (see ``jiadf.data.layout``).
    part : {"training", "test"}, optional
        Training where the folder has a training metadata table, else test, when not given.
    image_files : bool
        Whether the image files must be there. They are not decoded; ``jiadf.data.check.check``
        does that.

    Returns
    -------
    DataFrame
        One row a lesion under its ``lesion_id``, in the order of the metadata table. Columns:
        ``age_approx`` (years, NaN if missing), ``sex``, ``skin_tone_class`` (0 very dark to 5
        very light), ``site`` (NaN if missing), ``label`` (the class's code; training only), and
        for ``clinical`` and ``dermoscopic`` each: ``_isic_id``, ``_path`` (absolute),
        ``_image_manipulation`` and the seven ``_MONET_*`` scores with that prefix.

    Raises
    ------
    DataError
        If anything is wrong with the tables, or an image file is missing; it lists all of it. A
        supplement is checked where there is one, but not asked for, as nothing is read from it.
    """
    layout = Layout.detect(root, part)
    tables, faults = examine_tables(layout, require_supplement=False)
    if image_files:
        faults = faults + check_image_files(layout, tables.get("metadata"))
    if faults:
        raise DataError(faults)
    lesions = _one_row_a_lesion(tables["metadata"], layout)
    if "ground_truth" in tables:
        codes = np.array(CLASSES, dtype=object)
        truth = tables["ground_truth"].set_index("lesion_id")[list(CLASSES)]
        labels = pd.Series(codes[truth.to_numpy().argmax(axis=1)], index=truth.index)
        lesions.insert(len(LESION_COLUMNS), "label", labels.reindex(lesions.index).astype(str))
    return lesions


def _one_row_a_lesion(metadata: pd.DataFrame, layout: Layout) -> pd.DataFrame:
    order = pd.Index(metadata["lesion_id"].unique(), name="lesion_id")
    by_lesion = metadata.drop_duplicates("lesion_id").set_index("lesion_id")
    lesions = by_lesion.loc[order, list(LESION_COLUMNS)]
    lesions["skin_tone_class"] = lesions["skin_tone_class"].astype("int64")
    blocks = [lesions.astype({"sex": str})]
    for name, official in IMAGE_TYPES.items():
        rows = metadata[metadata["image_type"] == official].set_index("lesion_id").loc[order]
        paths = [str(layout.image_path(lesion, image)) for lesion, image in rows["isic_id"].items()]
        block = rows[["isic_id", "image_manipulation", *MONET]].astype(
            {"isic_id": str, "image_manipulation": str}
        )
        block.insert(1, "path", paths)
        blocks.append(block.add_prefix(f"{name}_"))
    table = pd.concat(blocks, axis=1)
    table["site"] = table["site"].astype(pd.Series(["a"]).dtype)
    return table

"""Read a MILK10k folder into one tidy table with a row a lesion.

The official metadata have two rows a lesion, one for its clinical close-up and one for its
dermoscopic image. :func:`read_lesions` puts them side by side with the class and the paths of the
two images; every later step starts from this table.
"""

from pathlib import Path

import pandas as pd

from jiadf.data.check import check_images, check_tables
from jiadf.data.faults import DataError
from jiadf.data.layout import Layout
from jiadf.data.schema import CLASSES, IMAGE_TYPES, LESION_COLUMNS, MONET


def read_lesions(
    root: str | Path, part: str | None = None, *, image_files: bool = True
) -> pd.DataFrame:
    """Read the tables of a data folder, checked.

    ``part``, ``training`` or ``test``, is found out from the files when not given. The images are
    not decoded (:func:`jiadf.data.check.check` does that); without ``image_files`` they may be
    missing.

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
        With all that is wrong with the tables, and every image file that is missing.
    """
    layout = Layout.detect(root, part)
    tables, faults = check_tables(layout)
    if image_files:
        faults += check_images(layout, tables.get("metadata"))
    if faults:
        raise DataError(faults)
    metadata = tables["metadata"]
    lesions = metadata.drop_duplicates("lesion_id").set_index("lesion_id")[list(LESION_COLUMNS)]
    lesions = lesions.astype({"skin_tone_class": "int64", "sex": str})
    if "ground_truth" in tables:
        truth = tables["ground_truth"].set_index("lesion_id")[list(CLASSES)]
        lesions["label"] = truth.idxmax(axis=1).reindex(lesions.index).astype(str)
    blocks = [lesions]
    for name, official in IMAGE_TYPES.items():
        rows = metadata[metadata["image_type"] == official].set_index("lesion_id")
        block = rows.loc[lesions.index, ["isic_id", "image_manipulation", *MONET]]
        block = block.astype({"isic_id": str, "image_manipulation": str})
        paths = [layout.image_path(lesion, image) for lesion, image in block["isic_id"].items()]
        block.insert(1, "path", [str(path) for path in paths])
        blocks.append(block.add_prefix(f"{name}_"))
    table = pd.concat(blocks, axis=1)
    table["site"] = table["site"].astype(pd.Series(["a"]).dtype)
    return table

"""Where the files of MILK10k lie in a data folder.

The official layout, for the part ``Training`` or ``Test``::

    MILK10k_Training_Input/<lesion_id>/<isic_id>.jpg
    MILK10k_Training_Metadata.csv
    MILK10k_Training_GroundTruth.csv      (training only)
    MILK10k_Training_Supplement.csv       (training only; may be missing)
"""

from pathlib import Path

from jiadf.data.faults import MISSING_CSV, MISSING_FOLDER, DataError, Fault

PARTS = {"training": "Training", "test": "Test"}
IMAGE_SUFFIX = ".jpg"


class Layout:
    """The paths of one part of MILK10k, ``training`` or ``test``, below a data folder ``root``.

    ``input_dir`` holds a folder of images for each lesion, ``metadata_csv`` has a row an image. The
    one-hot classes, ``ground_truth_csv``, and the detailed diagnoses of each image,
    ``supplement_csv``, are None for the test part.
    """

    def __init__(self, root: str | Path, part: str = "training") -> None:
        if part not in PARTS:
            raise ValueError(f"part is {part!r}; it must be one of {', '.join(PARTS)}")
        self.root, self.part = Path(root).expanduser().absolute(), part
        self.input_dir = self._named("Input")
        self.metadata_csv = self._named("Metadata.csv")
        labelled = part == "training"
        self.ground_truth_csv = self._named("GroundTruth.csv") if labelled else None
        self.supplement_csv = self._named("Supplement.csv") if labelled else None

    def _named(self, name: str) -> Path:
        return self.root / f"MILK10k_{PARTS[self.part]}_{name}"

    @classmethod
    def detect(cls, root: str | Path, part: str | None = None) -> "Layout":
        """Find out which part a folder holds, unless told: training if it has both.

        A DataError if there is no such folder, or no metadata table in it and no `part` is given.
        """
        folder = Path(root).expanduser().absolute()
        if not folder.is_dir():
            found = "is a file, not a folder" if folder.exists() else "does not exist"
            remedy = "give the folder that holds the MILK10k tables; `jiadf download DIR` gets one"
            raise DataError([Fault(MISSING_FOLDER, str(folder), None, found, remedy)])
        if part is not None:
            return cls(folder, part)
        layouts = [cls(folder, name) for name in PARTS]
        for layout in layouts:
            if layout.metadata_csv.is_file():
                return layout
        names = " nor ".join(layout.metadata_csv.name for layout in layouts)
        message = f"the folder has neither {names}"
        remedy = "give the folder that holds these tables, not one above or below it"
        for layout in layouts:
            if inner := sorted(folder.glob(f"*/{layout.metadata_csv.name}")):
                remedy = f"give the folder {inner[0].parent}, which holds these tables"
        raise DataError([Fault(MISSING_CSV, str(folder), None, message, remedy)])

    def image_path(self, lesion_id: str, isic_id: str) -> Path:
        """Where an image lies. Only for ids that ``jiadf.data.schema.is_safe_id`` accepts."""
        return self.input_dir / lesion_id / f"{isic_id}{IMAGE_SUFFIX}"

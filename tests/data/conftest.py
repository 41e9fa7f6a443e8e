"""A tiny, valid MILK10k folder that a test can damage before it is written."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jiadf.data.layout import Layout
from jiadf.data.schema import CLASSES, IMAGE_TYPES, MONET, SITES


class MilkFolder:
    """The tables of a folder as lists of dicts, and the images they name."""

    def __init__(self, root: Path, part: str = "training", lesions: int = 6):
        self.layout = Layout(root, part)
        self.root = self.layout.root
        self.metadata, self.truth, self.supplement = [], [], []
        for number in range(lesions):
            self._add_lesion(number)

    def _add_lesion(self, number: int) -> None:
        lesion = f"IL_{9 - number:07d}"  # not in alphabetical order
        truth = {code: "0.0" for code in CLASSES}
        truth[CLASSES[number % len(CLASSES)]] = "1.0"
        self.truth.append({"lesion_id": lesion, **truth})
        for kind, image_type in enumerate(IMAGE_TYPES.values()):
            image = f"ISIC_{100 * kind + number:07d}"
            row = {
                "lesion_id": lesion,
                "image_type": image_type,
                "isic_id": image,
                "attribution": "nobody",
                "copyright_license": "CC-0",
                "image_manipulation": "instrument only",
                "age_approx": "" if number == 1 else str(30 + 5 * number),
                "sex": "female" if number % 2 else "male",
                "skin_tone_class": str(number % 6),
                "site": "" if number == 2 else SITES[number % len(SITES)],
            }
            row |= {score: str(0.125 * (number % 8)) for score in MONET}
            self.metadata.append(row)
            self.supplement.append(
                {
                    "isic_id": image,
                    "diagnosis_full": "Nevus, Acral",
                    "diagnosis_confirm_type": "histopathology",
                    "invasion_thickness_interval": "",
                }
            )

    def image(self, row: int) -> Path:
        """Where the image of a metadata row (counted from 0) is written."""
        record = self.metadata[row]
        return self.layout.image_path(record["lesion_id"], record["isic_id"])

    def write_tables(self) -> Path:
        self.root.mkdir(parents=True, exist_ok=True)
        write_csv(self.layout.metadata_csv, self.metadata)
        if self.layout.ground_truth_csv is not None:
            write_csv(self.layout.ground_truth_csv, self.truth)
            write_csv(self.layout.supplement_csv, self.supplement)
        return self.root

    def write_images(self) -> None:
        for row in range(len(self.metadata)):
            path = self.image(row)
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(row).integers(0, 255, (24, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path, quality=90)

    def write(self) -> Path:
        self.write_images()
        return self.write_tables()


def write_csv(path: Path, rows: list[dict]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def milk(tmp_path) -> MilkFolder:
    """A training folder of six lesions, in memory until ``write()``."""
    return MilkFolder(tmp_path / "milk")


@pytest.fixture
def milk_test_part(tmp_path) -> MilkFolder:
    """A test folder of six lesions, in memory until ``write()``."""
    return MilkFolder(tmp_path / "milk", part="test")

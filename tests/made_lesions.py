"""Small folders in MILK10k's official layout: coloured blobs, for tests that read, train or submit.

A lesion's class moves the colour and size of its blob, its patient's age and site, and its scores,
all with noise, so that a network learns something and makes mistakes.
"""

import colorsys
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from jiadf.data.layout import PARTS, Layout
from jiadf.data.schema import CLASSES, IMAGE_TYPES, MONET, PAPER_FULL_COUNTS, SITES

SHARES = np.array([PAPER_FULL_COUNTS[code] for code in CLASSES]) / sum(PAPER_FULL_COUNTS.values())


def make_lesions(
    folder: Path,
    lesions: int = 110,
    seed: int = 0,
    image_size: tuple[int, int] = (96, 72),
    part: str = "training",
) -> Path:
    """Write a folder of lesions, the same bytes for the same arguments.

    Half of the lesions, and never fewer than eleven, run through the classes in turn; the others
    follow MILK10k's prevalence. Some ages and sites are missing.
    """
    rng = np.random.default_rng([seed, list(PARTS).index(part)])
    labels = np.resize(np.arange(len(CLASSES)), lesions)
    rare = max(len(CLASSES), lesions // 2)
    labels[rare:] = rng.choice(len(CLASSES), len(labels[rare:]), p=SHARES)
    layout = Layout(folder, part)
    metadata, truth, supplement = [], [], []
    for number, label in enumerate(rng.permutation(labels)):
        lesion_id = f"IL_{list(PARTS).index(part)}{seed:02d}{number:04d}"
        patient = _patient(rng, label, number)
        truth.append({"lesion_id": lesion_id} | {c: float(c == CLASSES[label]) for c in CLASSES})
        layout.image_path(lesion_id, "").parent.mkdir(parents=True)
        for view, image_type in enumerate(IMAGE_TYPES.values()):
            isic_id = f"ISIC_{view}{lesion_id[3:]}"
            scores = rng.beta(2, 6, len(MONET)) * (1 + (label + np.arange(len(MONET))) % 3) / 3
            metadata.append(
                {
                    "lesion_id": lesion_id,
                    "image_type": image_type,
                    "isic_id": isic_id,
                    "attribution": "nobody",
                    "copyright_license": "CC-0",
                    "image_manipulation": "altered" if number % 10 == 0 else "instrument only",
                    **patient,
                    **dict(zip(MONET, scores.round(6), strict=True)),
                }
            )
            supplement.append(
                {
                    "isic_id": isic_id,
                    "diagnosis_full": f"{CLASSES[label]}, drawn",
                    "diagnosis_confirm_type": "histopathology",
                    "invasion_thickness_interval": "<0.8" if CLASSES[label] == "MEL" else "",
                }
            )
            image = _draw(rng, label, patient["skin_tone_class"], view, image_size)
            image.save(layout.image_path(lesion_id, isic_id), quality=88)
    tables = {layout.metadata_csv: metadata}
    if part == "training":
        tables |= {layout.ground_truth_csv: truth, layout.supplement_csv: supplement}
    for path, rows in tables.items():
        pd.DataFrame(rows).to_csv(path, index=False, lineterminator="\n")
    return layout.root


def _patient(rng: np.random.Generator, label: int, number: int) -> dict:
    age = 5 * int(np.clip(rng.normal(6 + label, 2), 1, 17))
    site = SITES[label % len(SITES)] if rng.random() < 0.5 else str(rng.choice(SITES))
    return {
        "age_approx": "" if number % 25 == 3 else age,
        "sex": "female" if rng.random() < 0.5 else "male",
        "skin_tone_class": int(rng.integers(6)),
        "site": "" if number % 25 == 7 else site,
    }


def _draw(rng, label: int, skin_tone: int, view: int, size: tuple[int, int]) -> Image.Image:
    """Draw an ellipse on blotchy skin; the dermoscopic view (1) is nearer."""
    height = size[1]
    blotches = rng.normal(np.array((200, 160, 140)) * (0.5 + 0.1 * skin_tone), 15, (5, 6, 3))
    image = Image.fromarray(blotches.clip(0, 255).astype(np.uint8)).resize(size)
    hue, radius = rng.normal((label / len(CLASSES), 0.15 + 0.02 * (label % 4)), (0.04, 0.02))
    colour = colorsys.hsv_to_rgb(hue % 1, 0.7, 0.6)
    x, y = rng.uniform(0.4, 0.6, 2) * size
    reach = np.clip(radius, 0.1, 0.3) * height * (1 + 0.6 * view) * rng.uniform(0.8, 1.2, 2)
    box = (x - reach[0], y - reach[1], x + reach[0], y + reach[1])
    ImageDraw.Draw(image).ellipse(box, fill=tuple(round(255 * c) for c in colour))
    return image

"""The columns of MILK10k's tables: names, types, ranges and categories.

Everything that the other modules need to know about the official tables stands here once. Four
`pandera <https://pandera.readthedocs.io>`_ schemas say it all, and ``jiadf.data.tables`` holds a
file against one. The data set is described in its dataset paper, doi:10.1016/j.jid.2025.06.1594.
"""

import re

import pandas as pd
import pandera.pandas as pa

# In the order of a challenge submission, named as in the paper's Table 4.
CLASS_NAMES = {
    "AKIEC": "Actinic keratosis/intraepidermal carcinoma",
    "BCC": "Basal cell carcinoma",
    "BEN_OTH": "Other benign proliferations including collisions",
    "BKL": "Benign keratinocytic lesion",
    "DF": "Dermatofibroma",
    "INF": "Inflammatory and infectious",
    "MAL_OTH": "Other malignant proliferations including collisions",
    "MEL": "Melanoma",
    "NV": "Melanocytic nevus, any type",
    "SCCKA": "Squamous cell carcinoma/keratoacanthoma",
    "VASC": "Vascular lesions and hemorrhage",
}
CLASSES = tuple(CLASS_NAMES)
MALIGNANT = ("BCC", "SCCKA", "MEL", "AKIEC", "MAL_OTH")

# Lesions of each class: in the paper's training part (its Table 4), and in all 5,240 of MILK10k.
PAPER_TABLE4 = dict(zip(CLASSES, (242, 2017, 35, 435, 42, 40, 7, 360, 597, 379, 38), strict=True))
PAPER_FULL_COUNTS = dict(
    zip(CLASSES, (303, 2522, 44, 544, 52, 50, 9, 450, 746, 473, 47), strict=True)
)

IMAGE_TYPES = {"clinical": "clinical: close-up", "dermoscopic": "dermoscopic"}
IMAGE_MANIPULATIONS = ("instrument only", "altered")
SEXES = ("female", "male")
SITES = (
    *("trunk", "head_neck_face", "lower_extremity", "upper_extremity"),
    *("hand", "foot", "genital"),
)
SKIN_TONES = (0, 1, 2, 3, 4, 5)  # 0 very dark ... 5 very light
AGE_RANGE = (0, 120)  # years
MONET = (
    "MONET_ulceration_crust",
    "MONET_hair",
    "MONET_vasculature_vessels",
    "MONET_erythema",
    "MONET_pigmented",
    "MONET_gel_water_drop_fluid_dermoscopy_liquid",
    "MONET_skin_markings_pen_ink_purple_pen",
)

# What the two rows of a lesion must agree on: these describe the patient and the place.
LESION_COLUMNS = ("age_approx", "sex", "skin_tone_class", "site")

SAFE_ID = r"[A-Za-z0-9_-]{1,100}"


def is_safe_id(identifier: str) -> bool:
    """Whether an id names one file or folder and cannot lead out of the folder it is put in."""
    return re.fullmatch(SAFE_ID, identifier) is not None


def _one_hot(table: pd.DataFrame) -> pd.Series:
    if not set(CLASSES) <= set(table.columns):
        return pd.Series(True, index=table.index)  # the missing column is its own fault
    return (table[list(CLASSES)] == 1).sum(axis=1) == 1


def _identifier(unique: bool) -> pa.Column:
    check = pa.Check.str_matches(rf"^{SAFE_ID}\Z", name="safe_id")
    return pa.Column(str, check, unique=unique, report_duplicates="exclude_first", coerce=True)


def _category(values: tuple, nullable: bool = False) -> pa.Column:
    return pa.Column(str, pa.Check.isin(values), nullable=nullable, coerce=True)


def _number(low: float, high: float, nullable: bool = False) -> pa.Column:
    return pa.Column(float, pa.Check.in_range(low, high), nullable=nullable, coerce=True)


_FREE_TEXT = pa.Column(str, nullable=True, coerce=True)

metadata_schema = pa.DataFrameSchema(
    {
        "lesion_id": _identifier(unique=False),
        "image_type": _category(tuple(IMAGE_TYPES.values())),
        "isic_id": _identifier(unique=True),
        "attribution": _FREE_TEXT,
        "copyright_license": _FREE_TEXT,
        "image_manipulation": _category(IMAGE_MANIPULATIONS),
        "age_approx": _number(*AGE_RANGE, nullable=True),
        "sex": _category(SEXES),
        "skin_tone_class": pa.Column(float, pa.Check.isin(SKIN_TONES), coerce=True),
        "site": _category(SITES, nullable=True),
        **{score: _number(0, 1) for score in MONET},
    },
    name="MILK10k metadata",
)

ground_truth_schema = pa.DataFrameSchema(
    {
        "lesion_id": _identifier(unique=True),
        **{code: pa.Column(float, pa.Check.isin((0, 1)), coerce=True) for code in CLASSES},
    },
    checks=pa.Check(_one_hot, name="one_hot"),
    name="MILK10k ground truth",
)

supplement_schema = pa.DataFrameSchema(
    {
        "isic_id": _identifier(unique=True),
        "diagnosis_full": _FREE_TEXT,
        "diagnosis_confirm_type": _FREE_TEXT,
        "invasion_thickness_interval": _FREE_TEXT,
    },
    name="MILK10k supplement",
)

# What anybody may tell of lesions of their own, all but the images (jiadf.submission.own_images).
own_schema = pa.DataFrameSchema(
    {
        "lesion_id": _identifier(unique=True),
        "age": _number(*AGE_RANGE, nullable=True),
        "sex": _category(SEXES, nullable=True),
        "skin_tone": pa.Column(float, pa.Check.isin(SKIN_TONES), nullable=True, coerce=True),
        "site": _category(SITES, nullable=True),
        **{f"{kind}_{s}": _number(0, 1, nullable=True) for kind in IMAGE_TYPES for s in MONET},
    },
    name="lesions of one's own",
)

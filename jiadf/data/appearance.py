"""What a synthetic lesion of each class looks like, and whom it is found on.

:data:`VARIANTS` says for every class which kinds there are, how often, and between which bounds
each trait of a :class:`Look` lies; :data:`PATIENTS` says at what age, sex, site and skin tone the
class is found. Many classes share traits on purpose: a flat pink patch may be BCC, AKIEC or INF, a
brown spot NV, MEL or BKL, so that no single kind of evidence settles the class.
:func:`sample_lesion` draws one lesion, :func:`monet_scores` its seven noisy MONET scores.

The bounds are ours, chosen by eye after descriptions in textbooks of dermoscopy; they imitate no
patient and no picture.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from jiadf.data.schema import MONET, SITES


@dataclass(frozen=True)
class Look:
    """Traits of one lesion; 0 means that a trait is absent, 1 that it is marked."""

    radius: float = 0.55  # of half the dermoscopic picture's height
    elongation: float = 1.2
    irregularity: float = 0.08
    edge: float = 0.2  # width of the border zone, of the radius
    asymmetry: float = 0.15
    mottle: float = 0.25
    elevation: float = 0.1
    gloss: float = 0.1
    melanin: float = 0.0
    blood: float = 0.0
    blue: float = 0.0
    yellow: float = 0.0
    halo: float = 0.1  # redness around it
    network: float = 0.0
    globules: float = 0.0
    streaks: float = 0.0
    ridges: float = 0.0
    nests: float = 0.0
    arborising: float = 0.0
    dotted: float = 0.0
    hairpins: float = 0.0
    lacunae: float = 0.0
    thrombosed: float = 0.0
    scale: float = 0.0
    crust: float = 0.0
    ulcer: float = 0.0
    keratin: float = 0.0
    scar: float = 0.0
    regression: float = 0.0
    milia: float = 0.0
    comedones: float = 0.0
    fissures: float = 0.0
    follicles: float = 0.0
    white_lines: float = 0.0
    collarette: float = 0.0
    satellites: float = 0.0


PIGMENTS = ("melanin", "blood", "yellow")
STRUCTURES = tuple(field.name for field in fields(Look)[13:])


@dataclass(frozen=True)
class Patient:
    """Whom a lesion is found on; nothing is missing here, only in the tables."""

    age: int
    sex: str
    site: str
    skin_tone: int


@dataclass(frozen=True)
class Scene:
    """How the two pictures of a lesion were taken: amounts from 0 to 1, and flags."""

    zoom: float  # size in the clinical picture over size in the dermoscopic one
    turn: float  # degrees between the two pictures
    hair_clinical: float
    hair_dermoscopic: float
    bubbles: float
    vignette: bool
    ruler: bool
    pen: bool
    blur_clinical: float
    blur_dermoscopic: float
    haze_clinical: float  # loss of contrast
    haze_dermoscopic: float


@dataclass(frozen=True)
class Lesion:
    """Everything that decides one lesion's pictures and scores."""

    label: str
    diagnosis: str
    looks: tuple[Look, ...]  # one, or two in a collision
    patient: Patient
    scene: Scene
    entropy: tuple[int, ...]  # seeds all random draws of this lesion

    def rng(self, stream: int) -> np.random.Generator:
        """Return the generator of one purpose; the same numbers at every call."""
        return np.random.default_rng([*self.entropy, stream])


Bounds = tuple[float, float]


def _kind(share: float, diagnosis: str, **traits: Bounds) -> tuple[float, str, dict[str, Bounds]]:
    return share, diagnosis, traits


VARIANTS: dict[str, tuple[tuple[float, str, dict[str, Bounds]], ...]] = {
    "AKIEC": (
        _kind(0.5, "Solar or actinic keratosis", edge=(0.25, 0.6), blood=(0.35, 0.7),
              mottle=(0.3, 0.6), irregularity=(0.12, 0.25), follicles=(0.3, 0.9), scale=(0.3, 0.9),
              elevation=(0.0, 0.3), crust=(0.0, 0.4), melanin=(0.0, 0.35), halo=(0.1, 0.4)),
        _kind(0.5, "Squamous cell carcinoma in situ, Bowens disease", edge=(0.15, 0.4),
              blood=(0.35, 0.75), irregularity=(0.1, 0.25), dotted=(0.4, 1.0), scale=(0.2, 0.8),
              crust=(0.0, 0.5), elevation=(0.0, 0.35), melanin=(0.0, 0.4), mottle=(0.3, 0.6)),
    ),
    "BCC": (
        _kind(0.45, "Basal cell carcinoma", edge=(0.2, 0.4), blood=(0.2, 0.5), gloss=(0.5, 1.0),
              elevation=(0.4, 0.8), arborising=(0.5, 1.0), nests=(0.0, 0.5), ulcer=(0.0, 0.6),
              white_lines=(0.0, 0.5), irregularity=(0.05, 0.18), blue=(0.0, 0.15)),
        _kind(0.35, "Basal cell carcinoma", edge=(0.3, 0.6), blood=(0.35, 0.65), ulcer=(0.0, 0.5),
              arborising=(0.1, 0.5), white_lines=(0.2, 0.8), scale=(0.0, 0.4), nests=(0.0, 0.3),
              irregularity=(0.1, 0.25), elevation=(0.0, 0.25), mottle=(0.3, 0.5)),
        _kind(0.2, "Basal cell carcinoma", edge=(0.12, 0.3), blood=(0.15, 0.35), nests=(0.6, 1.0),
              blue=(0.1, 0.4), melanin=(0.2, 0.6), arborising=(0.3, 0.8), elevation=(0.2, 0.6),
              gloss=(0.3, 0.7), irregularity=(0.1, 0.2), asymmetry=(0.2, 0.6), mottle=(0.3, 0.6)),
    ),
    "BEN_OTH": (
        _kind(0.3, "Juvenile xanthogranuloma", edge=(0.12, 0.25), yellow=(0.6, 1.0),
              blood=(0.2, 0.4), elevation=(0.6, 1.0), arborising=(0.0, 0.4), halo=(0.3, 0.6)),
        _kind(0.3, "Mucosal melanotic macule", edge=(0.15, 0.3), melanin=(0.6, 1.2),
              ridges=(0.6, 1.0), irregularity=(0.12, 0.25), elevation=(0.0, 0.05)),
        _kind(0.2, "Exogenous", edge=(0.06, 0.15), blue=(1.0, 1.8), irregularity=(0.1, 0.3),
              elevation=(0.0, 0.1), radius=(0.2, 0.4), mottle=(0.2, 0.5)),
        _kind(0.2, "Trichoblastoma", edge=(0.25, 0.45), elevation=(0.6, 0.9), gloss=(0.2, 0.6),
              blood=(0.05, 0.2), arborising=(0.2, 0.6), milia=(0.2, 0.6), melanin=(0.0, 0.3)),
    ),
    "BKL": (
        _kind(0.5, "Seborrheic keratosis", edge=(0.04, 0.12), melanin=(0.5, 1.7), milia=(0.3, 1.0),
              comedones=(0.2, 1.0), fissures=(0.2, 0.9), elevation=(0.4, 0.9), yellow=(0.1, 0.6),
              mottle=(0.2, 0.5), scale=(0.0, 0.3), irregularity=(0.05, 0.18), gloss=(0.0, 0.2)),
        _kind(0.25, "Solar lentigo", edge=(0.06, 0.16), melanin=(0.35, 0.9), ridges=(0.1, 0.5),
              network=(0.0, 0.4), irregularity=(0.18, 0.32), elevation=(0.0, 0.08),
              mottle=(0.2, 0.5), follicles=(0.0, 0.4)),
        _kind(0.25, "Lichen planus like keratosis", edge=(0.15, 0.4), melanin=(0.15, 0.6),
              blood=(0.2, 0.5), blue=(0.0, 0.3), globules=(0.2, 0.6), scale=(0.0, 0.6),
              irregularity=(0.1, 0.22), elevation=(0.05, 0.3), mottle=(0.4, 0.7)),
    ),
    "DF": (
        _kind(1.0, "Dermatofibroma", edge=(0.35, 0.7), melanin=(0.3, 0.85), scar=(0.5, 1.0),
              network=(0.4, 0.9), blood=(0.1, 0.4), elevation=(0.3, 0.7), radius=(0.4, 0.65),
              white_lines=(0.0, 0.5), irregularity=(0.02, 0.08), asymmetry=(0.0, 0.15),
              elongation=(1.0, 1.25)),
    ),
    "INF": (
        _kind(1.0, "Inflammatory or infectious diseases", edge=(0.5, 0.9), blood=(0.45, 0.95),
              dotted=(0.3, 0.9), scale=(0.0, 0.7), satellites=(0.3, 1.0), halo=(0.4, 1.0),
              irregularity=(0.1, 0.25), elevation=(0.05, 0.4), mottle=(0.2, 0.5)),
    ),
    "MAL_OTH": (
        _kind(1.0, "Collision - At least one malignant proliferation", edge=(0.1, 0.25),
              melanin=(0.8, 1.5), network=(0.1, 0.5), globules=(0.1, 0.5), fissures=(0.0, 0.4),
              irregularity=(0.1, 0.2), asymmetry=(0.2, 0.5), elevation=(0.2, 0.5)),
    ),
    "MEL": (
        _kind(0.5, "Melanoma Invasive", edge=(0.06, 0.2), melanin=(1.1, 2.4), asymmetry=(0.4, 0.9),
              irregularity=(0.15, 0.32), mottle=(0.45, 0.8), network=(0.2, 0.6), blue=(0.2, 1.0),
              globules=(0.2, 0.8), streaks=(0.1, 0.9), regression=(0.0, 0.7), blood=(0.0, 0.4),
              elevation=(0.1, 0.6), radius=(0.5, 0.8), white_lines=(0.0, 0.3)),
        _kind(0.35, "Melanoma in situ", edge=(0.1, 0.3), melanin=(0.7, 1.5), asymmetry=(0.3, 0.7),
              irregularity=(0.12, 0.26), mottle=(0.35, 0.6), network=(0.4, 0.9), blue=(0.0, 0.3),
              globules=(0.1, 0.4), regression=(0.0, 0.5), elevation=(0.0, 0.15)),
        _kind(0.15, "Melanoma metastasis", edge=(0.12, 0.3), blood=(0.3, 0.6), melanin=(0.0, 0.4),
              blue=(0.1, 0.6), elevation=(0.5, 0.9), dotted=(0.1, 0.6), hairpins=(0.1, 0.5),
              asymmetry=(0.2, 0.6), ulcer=(0.0, 0.5), mottle=(0.3, 0.6)),
    ),
    "NV": (
        _kind(0.4, "Nevus, NOS, Junctional", edge=(0.2, 0.4), melanin=(0.7, 1.6),
              network=(0.6, 1.0), irregularity=(0.02, 0.1), asymmetry=(0.0, 0.2), mottle=(0.1, 0.3),
              elevation=(0.0, 0.1)),
        _kind(0.3, "Nevus, NOS, Compound", edge=(0.12, 0.28), melanin=(0.8, 1.9),
              globules=(0.4, 1.0), network=(0.0, 0.5), irregularity=(0.02, 0.1), mottle=(0.1, 0.35),
              elevation=(0.3, 0.6), blood=(0.0, 0.2)),
        _kind(0.18, "Nevus, NOS, Dermal", edge=(0.12, 0.25), melanin=(0.15, 0.6), blood=(0.15, 0.4),
              elevation=(0.7, 1.0), hairpins=(0.1, 0.5), globules=(0.0, 0.4), gloss=(0.1, 0.5),
              irregularity=(0.03, 0.1), radius=(0.4, 0.65)),
        _kind(0.12, "Nevus", edge=(0.1, 0.25), melanin=(0.8, 1.7), asymmetry=(0.2, 0.6),
              irregularity=(0.1, 0.2), mottle=(0.3, 0.6), network=(0.4, 0.9), globules=(0.1, 0.5),
              streaks=(0.0, 0.4)),
    ),
    "SCCKA": (
        _kind(0.6, "Squamous cell carcinoma, Invasive", edge=(0.15, 0.4), blood=(0.35, 0.7),
              keratin=(0.3, 1.0), crust=(0.2, 1.0), ulcer=(0.0, 0.8), hairpins=(0.2, 0.8),
              scale=(0.3, 0.9), elevation=(0.5, 1.0), irregularity=(0.1, 0.22), halo=(0.2, 0.7)),
        _kind(0.4, "Keratoacanthoma", edge=(0.15, 0.3), blood=(0.25, 0.55), keratin=(0.7, 1.0),
              hairpins=(0.3, 0.9), elevation=(0.8, 1.0), gloss=(0.2, 0.6), crust=(0.1, 0.6),
              irregularity=(0.03, 0.12), elongation=(1.0, 1.25)),
    ),
    "VASC": (
        _kind(0.55, "Hemangioma", edge=(0.06, 0.15), blood=(0.3, 0.7), lacunae=(0.6, 1.0),
              elevation=(0.2, 0.6), irregularity=(0.05, 0.15), radius=(0.35, 0.65)),
        _kind(0.25, "Angiokeratoma", edge=(0.06, 0.15), blood=(0.4, 0.8), lacunae=(0.5, 0.9),
              thrombosed=(0.4, 1.0), scale=(0.1, 0.6), elevation=(0.3, 0.6), blue=(0.1, 0.4),
              irregularity=(0.06, 0.18)),
        _kind(0.2, "Pyogenic granuloma", edge=(0.06, 0.12), blood=(1.0, 1.6), collarette=(0.4, 1.0),
              crust=(0.0, 0.5), elevation=(0.8, 1.0), gloss=(0.5, 1.0), irregularity=(0.02, 0.1),
              elongation=(1.0, 1.2)),
    ),
}  # fmt: skip

# Mean and spread of the age, share of men, weights of SITES, weights of skin tones 0 to 5, and how
# far into old age the surrounding skin looks sun-damaged.
PATIENTS: dict[str, tuple[float, float, float, tuple[float, ...], tuple[float, ...]]] = {
    "AKIEC": (68, 9, 0.68, (10, 55, 10, 16, 7, 1, 1), (0, 2, 6, 55, 27, 10)),
    "BCC": (66, 11, 0.58, (34, 40, 12, 12, 1, 1, 0), (0, 2, 6, 58, 24, 10)),
    "BEN_OTH": (48, 18, 0.55, (28, 44, 12, 6, 3, 3, 4), (1, 6, 22, 46, 17, 8)),
    "BKL": (63, 11, 0.55, (42, 30, 16, 10, 1, 1, 0), (1, 5, 13, 58, 18, 5)),
    "DF": (46, 12, 0.35, (14, 1, 64, 20, 0.5, 0.5, 0), (1, 8, 18, 48, 18, 7)),
    "INF": (50, 16, 0.52, (34, 28, 18, 12, 4, 3, 1), (3, 6, 14, 36, 22, 19)),
    "MAL_OTH": (67, 10, 0.75, (58, 20, 14, 8, 0, 0, 0), (0, 4, 18, 58, 15, 5)),
    "MEL": (60, 12, 0.62, (48, 20, 19, 10, 1, 2, 0), (0, 2, 18, 50, 23, 7)),
    "NV": (38, 13, 0.48, (56, 11, 20, 9, 1, 3, 0), (1, 4, 24, 44, 20, 7)),
    "SCCKA": (72, 9, 0.74, (9, 42, 20, 17, 11, 1, 0), (0, 1, 3, 58, 30, 8)),
    "VASC": (48, 16, 0.45, (50, 14, 16, 14, 3, 2, 1), (1, 3, 18, 48, 18, 12)),
}

# Logit of each score = offset (clinical, dermoscopic) + weights of what was drawn + noise.
_SCORES: dict[str, tuple[float, float, dict[str, float]]] = {
    "MONET_ulceration_crust": (
        -1.1, -1.2, {"ulcer": 1.6, "crust": 1.4, "keratin": 1.0, "scale": 0.6, "thrombosed": 0.5},
    ),
    "MONET_hair": (-2.2, -1.2, {"hair": 2.2}),
    "MONET_vasculature_vessels": (
        -4.6, -2.6, {"arborising": 1.8, "hairpins": 1.0, "dotted": 0.9, "lacunae": 1.6},
    ),
    "MONET_erythema": (-1.5, -1.6, {"blood": 2.0, "halo": 1.0, "melanin": -0.4}),
    "MONET_pigmented": (-1.9, -1.5, {"melanin": 1.6, "blue": 0.9, "nests": 0.5, "blood": -0.6}),
    "MONET_gel_water_drop_fluid_dermoscopy_liquid": (-1.9, -1.1, {"bubbles": 1.6, "gloss": 0.3}),
    "MONET_skin_markings_pen_ink_purple_pen": (-1.9, -1.0, {"pen": 2.2, "melanin": 0.25}),
}  # fmt: skip


def _look(label: str, rng: np.random.Generator) -> tuple[str, Look]:
    kinds = VARIANTS[label]
    shares = np.array([kind[0] for kind in kinds])
    _, diagnosis, bounds = kinds[rng.choice(len(kinds), p=shares / shares.sum())]
    traits = {
        "radius": rng.uniform(0.42, 0.72),
        "elongation": rng.uniform(1.0, 1.5),
        "asymmetry": rng.uniform(0.05, 0.3),
    }
    traits |= {name: rng.uniform(*limits) for name, limits in bounds.items()}
    # One lesion in five shows hardly any of its tell-tale structures; colours are deep or pale.
    shown = rng.uniform(0.1, 0.35) if rng.random() < 0.2 else rng.uniform(0.7, 1.0)
    traits |= {name: traits[name] * rng.lognormal(0, 0.3) for name in PIGMENTS if name in traits}
    traits |= {name: traits[name] * shown for name in STRUCTURES if name in traits}
    return diagnosis, Look(**traits)


def sample_lesion(label: str, entropy: tuple[int, ...]) -> Lesion:
    """Draw the traits of one lesion.

    Parameters
    ----------
    label : str
        Class code, one of :data:`jiadf.data.schema.CLASSES`.
    entropy : tuple of int
        Seeds; the same label and seeds give the same lesion.
    """
    rng = np.random.default_rng([*entropy, 0])
    diagnosis, look = _look(label, rng)
    looks = (look,)
    if label == "MAL_OTH":
        looks = (replace(look, radius=0.42), replace(_look("BCC", rng)[1], radius=0.42))
    mean, spread, men, sites, tones = PATIENTS[label]
    age = int(np.clip(5 * round(rng.normal(mean, spread) / 5), 5, 85))
    sex = "male" if rng.random() < men else "female"
    site = str(rng.choice(SITES, p=np.array(sites) / sum(sites)))
    tone = int(rng.choice(6, p=np.array(tones) / sum(tones)))
    hairy = (0.75 if sex == "male" else 0.35) * (0.2 if site in ("hand", "foot") else 1.0)
    scene = Scene(
        zoom=rng.uniform(0.3, 0.5),
        turn=rng.uniform(-20, 20),
        hair_clinical=hairy * rng.beta(1, 2),
        hair_dermoscopic=hairy * rng.beta(1, 2),
        bubbles=rng.beta(0.6, 1.6),
        vignette=bool(rng.random() < 0.3),
        ruler=bool(rng.random() < 0.15),
        pen=bool(rng.random() < 0.08),
        blur_clinical=rng.beta(0.6, 3),
        blur_dermoscopic=rng.beta(0.6, 2.5),
        haze_clinical=0.5 * rng.beta(0.6, 2.5),
        haze_dermoscopic=0.75 * rng.beta(0.7, 1.8),
    )
    return Lesion(label, diagnosis, looks, Patient(age, sex, site, tone), scene, tuple(entropy))


def monet_scores(lesion: Lesion, image_type: str) -> dict[str, float]:
    """Return the seven MONET scores (0..1) of one picture, noisy functions of what it shows.

    Parameters
    ----------
    lesion : Lesion
        The lesion.
    image_type : str
        ``"clinical"`` or ``"dermoscopic"``.
    """
    dermoscopic = image_type == "dermoscopic"
    rng = lesion.rng(11 if dermoscopic else 10)
    scene = lesion.scene
    shown = {
        name: sum(getattr(look, name) for look in lesion.looks) / len(lesion.looks)
        for name in (field.name for field in fields(Look))
    }
    shown |= {
        "hair": 2 * (scene.hair_dermoscopic if dermoscopic else scene.hair_clinical),
        "bubbles": 2 * scene.bubbles if dermoscopic else 0.0,
        "pen": float(scene.pen),
    }
    scores = {}
    for name in MONET:
        clinical_offset, dermoscopic_offset, weights = _SCORES[name]
        logit = dermoscopic_offset if dermoscopic else clinical_offset
        logit += sum(weight * shown[trait] for trait, weight in weights.items())
        logit += rng.normal(0, 0.75)
        scores[name] = round(float(1 / (1 + np.exp(-logit))), 6)
    return scores

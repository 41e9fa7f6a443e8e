"""Is it as good for everybody? Metrics in slices of the lesions, and gaps with their tests.

A slice is the lesions that share a skin tone, sex, age band, site or way in which the image was
made. Three things make slices hard to compare, and this is what is done about each:

* *Classes differ between slices.* A score over all classes then compares different questions. The
  malignant classes' summed probability against the benign is one question everywhere; and the
  scores over classes (`macro AUC`, `balanced accuracy`) take only classes with at least
  :data:`MIN_OF_CLASS` lesions both in the slice and in the rest.
* *Class sizes differ.* The scores above do not depend on how many lesions of each class there are,
  and the test of a gap exchanges lesions between slice and rest within their class.
* *Small slices.* A slice, or its rest, with fewer than :data:`MIN_LESIONS` malignant or fewer than
  that many benign lesions is *too small to tell*: its numbers are shown, its gap is not tested.

Gaps are differences between a slice and all other lesions. They are adjusted for their number
(Holm) within a metric. No gap seen is not fairness shown: read the interval.
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import norm

from jiadf.data.schema import CLASSES, MALIGNANT
from jiadf.evaluation import weighted
from jiadf.evaluation.metrics import check_predictions
from jiadf.evaluation.paired_tests import holm

MIN_LESIONS = 20
MIN_OF_CLASS = 10
AGE_BANDS = (0, 40, 60, 80, 121)
MEASURES = (
    "malignant AUC", "malignant sensitivity", "malignant specificity", "macro AUC",
    "balanced accuracy",
)  # fmt: skip
_MALIGNANT = [CLASSES.index(code) for code in MALIGNANT]


def slices_of(lesions: pd.DataFrame) -> dict[tuple[str, str], np.ndarray]:
    """Return the lesions of every slice, bool (N,), by attribute and value.

    A missing age or site is a slice of its own; an attribute with one value has none.
    """
    edges = list(itertools.pairwise(AGE_BANDS))
    age = pd.cut(lesions["age_approx"], AGE_BANDS, right=False, labels=False)
    bands = age.map({i: f"{low} to {high - 1}" for i, (low, high) in enumerate(edges[:-1])})
    bands = bands.mask(age == len(edges) - 1, f"{edges[-1][0]} and older")
    columns = {
        "skin tone": lesions["skin_tone_class"].astype(str),
        "sex": lesions["sex"],
        "age": bands,
        "site": lesions["site"].astype(object),
        "clinical image": lesions["clinical_image_manipulation"],
        "dermoscopic image": lesions["dermoscopic_image_manipulation"],
    }
    orders = {"skin tone": [str(tone) for tone in range(6)]}
    result = {}
    for attribute, column in columns.items():
        column = column.astype(object).where(column.notna(), "missing")
        values = orders.get(attribute, sorted(set(column) - {"missing"}))
        values = [value for value in (*values, "missing") if (column == value).any()]
        for value in values if len(values) > 1 else []:
            result[attribute, value] = (column == value).to_numpy()
    return result


def measures(
    truth: np.ndarray, prob: np.ndarray, weights: np.ndarray, classes: Sequence[int]
) -> dict[str, np.ndarray]:
    """Compute :data:`MEASURES` under many weightings of the lesions.

    Parameters
    ----------
    truth : (N,) int array
    prob : (N, 11) float array
    weights : (R, N) float array
    classes : sequence of int
        Those that `macro AUC` (each against all other lesions) and `balanced accuracy` average.

    Returns
    -------
    dict of (R,) float arrays
        NaN where a measure does not exist. A lesion is called malignant above 0.5.
    """
    malignant = np.isin(truth, _MALIGNANT)
    score = np.clip(prob[:, _MALIGNANT].sum(1), 0, 1)
    sides = weighted.per_class(malignant.astype(int), np.stack([1 - score, score], 1), weights)
    both = (weights @ malignant > 0) & (weights @ ~malignant > 0)
    result = {
        f"malignant {name}": np.where(both, sides[metric][:, 1], np.nan)
        for name, metric in (
            ("AUC", "AUC"),
            ("sensitivity", "sensitivity"),
            ("specificity", "specificity"),
        )
    }
    classes = list(classes)
    if len(classes) < 2:
        nothing = np.full(len(weights), np.nan)
        return result | {"macro AUC": nothing, "balanced accuracy": nothing}
    place = np.full(prob.shape[1], -1)
    place[classes] = np.arange(len(classes))
    by_class = weighted.per_class(place[truth], prob[:, classes], weights)["AUC"]
    present = truth[:, None] == np.array(classes)
    right = present & (prob.argmax(1) == truth)[:, None]
    recall = weighted.ratio(weights @ right, weights @ present, np.nan)
    means = {"macro AUC": by_class, "balanced accuracy": recall}
    return result | {name: weighted.mean_defined(values) for name, values in means.items()}


def _over_seeds(truth, seeds, weights, classes) -> dict[str, np.ndarray]:
    each = [measures(truth, prob, weights, classes) for prob in seeds]
    return {name: np.mean([one[name] for one in each], axis=0) for name in MEASURES}


def compare_slices(
    truth, seeds: Sequence[np.ndarray], slices: Mapping[tuple[str, str], np.ndarray],
    n: int = 100, seed: int = 0, level: float = 0.95,
) -> pd.DataFrame:  # fmt: skip
    """Score every slice and its gap to all other lesions.

    Parameters
    ----------
    truth : (N,) int array
    seeds : sequence of (N, 11) float arrays
        Probabilities, one array a training seed; a figure is the mean over them.
    slices : mapping of (attribute, value) to (N,) bool array
        As :func:`slices_of` returns them.
    n : int
        Resamples within each class for the intervals, and exchanges for the tests.
    seed : int
        The same seed gives the same figures.
    level : float
        Of the intervals, which come from the standard error over the resamples.

    Returns
    -------
    DataFrame
        A row a slice and measure: `attribute`, `value`, `lesions`, `malignant`, `benign`,
        `classes` (averaged), `large_enough`, `metric`, `score`, `low`, `high`; `gap` to the rest,
        `gap_low`, `gap_high`, `p` and `p_holm`, NaN where the slice is too small to tell. The
        p-value takes the exchanged gaps as normal, so that it can be small without many thousand
        of them. Where an attribute has two values, the second one's gap is the first one's with
        the sign turned, and is not tested again.
    """
    truth, seeds = np.asarray(truth), [check_predictions(truth, prob)[1] for prob in seeds]
    malignant = np.isin(truth, _MALIGNANT)
    tables, done = [], set()
    for (attribute, value), inside in slices.items():
        sides = (inside, ~inside)
        counts = [np.bincount(truth[side], minlength=len(CLASSES)) for side in sides]
        classes = np.flatnonzero(np.minimum(*counts) >= MIN_OF_CLASS)
        kinds = [(malignant & side).sum() for side in sides]
        kinds += [(~malignant & side).sum() for side in sides]
        tells = min(kinds) >= MIN_LESIONS
        drawn = []
        for side in sides:
            resamples = weighted.stratified_weights(truth[side], n, seed)
            weights = np.vstack([np.ones(side.sum()), resamples])
            drawn.append(_over_seeds(truth[side], [p[side] for p in seeds], weights, classes))
        mirrored = (~inside).tobytes() in done
        done.add(inside.tobytes())
        tested = tells and not mirrored
        null = _exchanged(truth, seeds, inside, classes, n, seed) if tested else None
        for name in MEASURES:
            own, rest = (side[name] for side in drawn)
            row = {"metric": name, "score": own[0]}
            row |= dict(zip(("low", "high"), _interval(own, level, 0.0), strict=True))
            if tells:
                row["gap"] = own[0] - rest[0]
                bounds = _interval(own - rest, level)
                row |= dict(zip(("gap_low", "gap_high"), bounds, strict=True))
            if tested:
                z = (row["gap"] - null[name].mean()) / max(null[name].std(ddof=1), 1e-12)
                row["p"] = 2 * norm.sf(abs(z))
            row |= {"attribute": attribute, "value": value, "lesions": int(inside.sum())}
            row |= {"malignant": kinds[0], "benign": kinds[2], "classes": len(classes)}
            tables.append(row | {"large_enough": tells})
    columns = ["attribute", "value", "lesions", "malignant", "benign", "classes", "large_enough"]
    columns += ["metric", "score", "low", "high", "gap", "gap_low", "gap_high", "p"]
    table = pd.DataFrame(tables).reindex(columns=columns)
    table["p_holm"] = table.groupby("metric")["p"].transform(holm)
    return table


def _interval(values: np.ndarray, level: float, least: float = -1.0) -> tuple[float, float]:
    """Return the first value -/+ its standard error over the others, within `least` to 1."""
    half = norm.ppf((1 + level) / 2) * values[1:].std(ddof=1)  # NaN where a resample has none
    return tuple(np.clip([values[0] - half, values[0] + half], least, 1.0))


def _exchanged(truth, seeds, inside, classes, n, seed) -> dict[str, np.ndarray]:
    """Gaps after dealing each class's lesions anew to slice and rest, as many as there were."""
    rng = np.random.default_rng([seed, 1])
    member = np.tile(inside.astype(float), (n, 1))
    for label in np.unique(truth):
        rows = np.flatnonzero(truth == label)
        member[:, rows] = rng.permuted(member[:, rows], axis=1)
    own = _over_seeds(truth, seeds, member, classes)
    rest = _over_seeds(truth, seeds, 1 - member, classes)
    return {name: own[name] - rest[name] for name in MEASURES}

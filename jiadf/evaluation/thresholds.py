"""Move each class's best cut to 0.5, where the live benchmark cuts, without reordering a class.

The benchmark calls a class present where its probability is larger than 0.5, and ranks by the mean
F1 of these calls. A probability that is best cut at ``t`` is therefore mapped by

    p' = sigmoid(logit(p) - logit(t)) = p (1 - t) / (p (1 - t) + t (1 - p))

which is 0.5 at ``t``, 0 at 0, 1 at 1 and rises strictly between, so that AUC and average precision
of the class stay as they are. It multiplies the odds of the class by (1 - t) / t, as a change of
its prevalence would (Saerens et al. 2002). The mapped numbers of a lesion need not sum to one: the
benchmark asks for numbers in [0, 1] and cuts them class by class.

The F1 that a cut reaches on a few lesions is mostly luck where a class is rare. Hence the cuts are
*shrunk*: on the scale of the logit, a class with n lesions has the weighted mean of its own best
cut (weight n) and the cut that is best for all classes together (weight `strength`, a number of
lesions). Strength 0 leaves each class its own cut; infinity gives all classes the common one.
:func:`choose_strength` chooses it by cross-validation.

    >>> cuts = fit_thresholds(y_true, y_prob, strength=50)  # doctest: +SKIP
    >>> mapped = cuts.apply(y_prob)  # doctest: +SKIP
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit, logit
from sklearn.metrics import f1_score

from jiadf.data.schema import CLASSES
from jiadf.evaluation.metrics import check_predictions
from jiadf.files import atomic

FLOOR = 1e-6  # cuts stay within [FLOOR, 1 - FLOOR]: beyond, the mapping is a step, not a scale
STRENGTHS = (0.0, 10.0, 50.0, 250.0, np.inf)  # lesions; what choose_strength tries


class ThresholdError(ValueError):
    """A file of thresholds cannot be used; says what is wrong with it."""


@dataclass(frozen=True)
class Thresholds:
    """A cut for each class, and where the cuts come from.

    Attributes
    ----------
    values
        The cuts, in the order of the classes, each strictly between 0 and 1.
    strength
        Of the shrinkage, in lesions; None where it was not fitted.
    lesions
        Number of lesions of each class that they were fitted on.
    source
        What was fitted on, in words or names.
    """

    values: tuple[float, ...]
    strength: float | None = None
    lesions: tuple[int, ...] = ()
    source: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not all(0 < value < 1 for value in self.values):
            raise ThresholdError(f"thresholds are {self.values}; each must lie between 0 and 1.")

    def apply(self, y_prob) -> np.ndarray:
        """Map probabilities (N, K) so that each class's cut comes to lie at 0.5.

        Raises
        ------
        ThresholdError
            If there are not as many classes as cuts.
        """
        y_prob = np.clip(np.asarray(y_prob, dtype=float), 0, 1)
        cuts = np.asarray(self.values)
        if y_prob.ndim != 2 or y_prob.shape[1] != len(cuts):
            raise ThresholdError(
                f"y_prob has shape {y_prob.shape}; there are {len(cuts)} thresholds."
            )
        up, down = y_prob * (1 - cuts), cuts * (1 - y_prob)
        return up / (up + down)

    def save(self, path: str | Path, classes: Sequence[str] = CLASSES) -> Path:
        """Write the cuts as JSON, whole or not at all."""
        told = asdict(self) | {"values": dict(zip(classes, self.values, strict=True))}
        told["lesions"] = dict(zip(classes, self.lesions, strict=False))
        if self.strength is not None and np.isinf(self.strength):
            told["strength"] = "inf"  # JSON has no infinity
        with atomic(Path(path)) as staged:
            staged.write_text(json.dumps(told, indent=2) + "\n")
        return Path(path)


def load_thresholds(path: str | Path, classes: Sequence[str] = CLASSES) -> Thresholds:
    """Read what :meth:`Thresholds.save` wrote, or a file with ``values`` alone.

    Raises
    ------
    ThresholdError
        If the file cannot be read or lacks a class; names everything wrong.
    """
    path = Path(path)
    remedy = "`jiadf thresholds` writes such a file"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        values = told["values"]
        given = {str(name): value for name, value in values.items()}
    except FileNotFoundError:
        raise ThresholdError(f"{path}: there is no such file; {remedy}.") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ThresholdError(f"{path}: not readable as JSON ({error}); {remedy}.") from None
    except (KeyError, TypeError, AttributeError):
        raise ThresholdError(f"{path}: no threshold a class under 'values'; {remedy}.") from None
    wrong = [f"no threshold for {name}" for name in classes if name not in given]
    wrong += [f"unknown class {name!r}" for name in given if name not in classes]
    for name in classes:
        value = given.get(name, 0.5)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (number and 0 < value < 1):
            wrong.append(f"{name} is {value!r}, not a number between 0 and 1")
    if wrong:
        raise ThresholdError(f"{path}: {'; '.join(wrong)}. Correct it: {remedy}.")
    strength = told.get("strength")
    lesions = told.get("lesions") or {}
    return Thresholds(
        tuple(float(given[name]) for name in classes),
        None if strength is None else float(strength),
        tuple(int(lesions[name]) for name in classes) if set(classes) <= set(lesions) else (),
        told.get("source") or {},
    )


def f1_curve(positive, scores) -> tuple[np.ndarray, np.ndarray]:
    """Return every cut of a class that calls another set of lesions, and the F1 there.

    Parameters
    ----------
    positive : (N,) bool array
    scores : (N,) float array

    Returns
    -------
    cuts, f1 : float arrays of equal length
        Falling cuts, a lesion being called where its score is larger; the first calls none, the
        last all. A cut lies midway, on the scale of the logit, between two scores that occur, so
        that rounding moves no lesion across it; cuts outside [FLOOR, 1 - FLOOR] are left out. F1
        is 0 where nothing is called and something is there, and 1 where neither.
    """
    positive, scores = np.asarray(positive, dtype=bool), np.asarray(scores, dtype=float)
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # of ties
    tp = np.concatenate([[0], np.cumsum(positive[order])[ends]])
    called = np.concatenate([[0], ends + 1])
    total = called + positive.sum()
    f1 = np.where(total == 0, 1.0, 2 * tp / np.maximum(total, 1))
    steps = logit(np.clip(scores[order][ends], FLOOR, 1 - FLOOR))
    bounds = np.concatenate([[logit(1 - FLOOR)], steps, [logit(FLOOR)]])
    apart = bounds[:-1] > bounds[1:]
    return expit((bounds[:-1] + bounds[1:]) / 2)[apart], f1[apart]


def best_cut(positive, scores, fallback: float) -> float:
    """Return the cut with the highest F1; among equals the one nearest `fallback` in the logit.

    A class that never occurs has no best cut: `fallback`.
    """
    positive = np.asarray(positive, dtype=bool)
    if not positive.any():
        return fallback
    cuts, f1 = f1_curve(positive, scores)
    equal = np.flatnonzero(f1 >= f1.max() - 1e-12)
    distance = np.abs(logit(cuts[equal]) - logit(fallback))
    return float(cuts[equal[np.argmin(distance)]])


def common_cut(y_true, y_prob) -> float:
    """Return the one cut for all classes with the highest mean F1 over the classes that occur."""
    y_true, y_prob = check_predictions(y_true, y_prob)
    grid = expit(np.linspace(-5, 3, 161))  # 0.5 among them
    present = y_true[:, None] == np.arange(y_prob.shape[1])
    occur = present.any(0)
    score = np.zeros(len(grid))
    for place, cut in enumerate(grid):
        called = y_prob > cut
        tp = (present & called).sum(0)
        f1 = 2 * tp / np.maximum(present.sum(0) + called.sum(0), 1)
        score[place] = f1[occur].mean()
    best = np.flatnonzero(score >= score.max() - 1e-12)
    return float(grid[best[np.argmin(np.abs(logit(grid[best])))]])


def fit_thresholds(
    y_true, y_prob, strength: float, source: dict[str, Any] | None = None
) -> Thresholds:
    """Fit a cut for each class on predictions of lesions that the networks did not train on.

    Parameters
    ----------
    y_true : (N,) int array
        True class index of each lesion.
    y_prob : (N, K) float array
        Predicted probabilities.
    strength : float
        Weight of the common cut, in lesions: 0 own cuts, infinity the common one.
    source : dict, optional
        What is fitted on, kept with the cuts.

    Raises
    ------
    ValueError
        On predictions that cannot be scored, or a negative strength.
    """
    y_true, y_prob = check_predictions(y_true, y_prob)
    if not strength >= 0:
        raise ValueError(f"strength is {strength}; it must be 0 or more (a number of lesions).")
    return _shrunk(*_own_and_common(y_true, y_prob), strength, source)


def _own_and_common(y_true: np.ndarray, y_prob: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Return each class's own best cut (K,), the common one, and the classes' lesions (K,)."""
    common = common_cut(y_true, y_prob)
    own = [best_cut(y_true == k, y_prob[:, k], common) for k in range(y_prob.shape[1])]
    return np.array(own), common, np.bincount(y_true, minlength=y_prob.shape[1])


def _shrunk(
    own: np.ndarray, common: float, counts: np.ndarray, strength: float, source: Any = None
) -> Thresholds:
    weight = np.zeros(len(counts))  # also where a class has no lesion
    if not np.isinf(strength):
        weight = np.divide(counts, counts + strength, out=weight, where=counts > 0)
    cuts = np.clip(expit(weight * logit(own) + (1 - weight) * logit(common)), FLOOR, 1 - FLOOR)
    return Thresholds(
        tuple(map(float, cuts)), float(strength), tuple(map(int, counts)), dict(source or {})
    )


def macro_f1_at_half(y_true, y_prob) -> float:
    """Return the mean F1 over all K classes, each cut at 0.5: `metrics.summary`'s."""
    y_true, y_prob = np.asarray(y_true), np.asarray(y_prob)
    present = y_true[:, None] == np.arange(y_prob.shape[1])
    return float(f1_score(present, y_prob > 0.5, average="macro", zero_division=1.0))


def crossfitted(y_true, y_prob, folds, strength: float) -> np.ndarray:
    """Map each fold's lesions with cuts fitted on the other folds.

    Parameters
    ----------
    y_true, y_prob
        As in :func:`fit_thresholds`.
    folds : (N,) array
        The fold of each lesion.
    strength : float
        Of the shrinkage.

    Returns
    -------
    (N, K) float array
    """
    return _crossfitted(y_true, y_prob, folds, [strength])[0]


def _crossfitted(y_true, y_prob, folds, strengths: Sequence[float]) -> np.ndarray:
    """Return :func:`crossfitted` for each strength, (len(strengths), N, K)."""
    y_true, y_prob = check_predictions(y_true, y_prob)
    folds = np.asarray(folds)
    if len(np.unique(folds)) < 2:
        raise ValueError("cross-fitting needs at least two folds of lesions.")
    mapped = np.empty((len(strengths), *y_prob.shape))
    for fold in np.unique(folds):
        inside = folds == fold
        fitted = _own_and_common(y_true[~inside], y_prob[~inside])
        for place, strength in enumerate(strengths):
            mapped[place, inside] = _shrunk(*fitted, strength).apply(y_prob[inside])
    return mapped


def choose_strength(y_true, y_prob, folds, strengths: Sequence[float] = STRENGTHS) -> float:
    """Return the strength whose cross-fitted cuts have the highest macro-F1 at 0.5.

    Among equals the largest, which asks the least of rare classes. Other parameters are those of
    :func:`crossfitted`.
    """
    mapped = _crossfitted(y_true, y_prob, folds, strengths)
    scores = [macro_f1_at_half(y_true, each) for each in mapped]
    return max(zip(scores, strengths, strict=True))[1]

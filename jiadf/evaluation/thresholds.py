"""Move each class's best threshold to 0.5, where the live benchmark cuts, without reordering it.

The benchmark calls a class present where its probability is larger than 0.5, and ranks by the mean
F1 of these calls. A probability whose best threshold is ``t`` is therefore mapped by

    p' = sigmoid(logit(p) - logit(t)) = p (1 - t) / (p (1 - t) + t (1 - p))

which is 0.5 at ``t``, 0 at 0, 1 at 1 and rises strictly between, so that AUC and average precision
of the class stay as they are. The mapped numbers of a lesion need not sum to one: the benchmark
asks for numbers in [0, 1] and cuts them class by class.

The F1 that a threshold reaches on a few lesions is mostly luck where a class is rare. Hence they
are *shrunk*: on the scale of the logit, a class with n lesions has the weighted mean of its own
best threshold (weight n) and the one that is best for all classes together (weight `strength`, a
number of lesions). Strength 0 leaves each class its own; infinity gives all classes the common one.
:func:`choose_strength` chooses it by cross-validation::

    thresholds = fit_thresholds(y_true, y_prob, strength=50)
    mapped = thresholds.apply(y_prob)
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit, logit

from jiadf.data.schema import CLASSES
from jiadf.evaluation.metrics import check_predictions, summary
from jiadf.files import atomic

FLOOR = 1e-6  # thresholds stay within [FLOOR, 1 - FLOOR]: beyond, the mapping is a step
STRENGTHS = (0.0, 10.0, 50.0, 250.0, np.inf)  # lesions; what choose_strength tries


class ThresholdError(ValueError):
    """A file of thresholds cannot be used; says what is wrong with it."""


@dataclass(frozen=True)
class Thresholds:
    """A threshold for each class, strictly between 0 and 1, and where they come from.

    ``strength`` is that of the shrinkage, in lesions, None where it was not fitted; ``lesions`` the
    number of each class that they were fitted on; ``source`` what was fitted on, in names.
    """

    values: tuple[float, ...]
    strength: float | None = None
    lesions: tuple[int, ...] = ()
    source: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not all(0 < value < 1 for value in self.values):
            raise ThresholdError(f"thresholds are {self.values}; each must lie between 0 and 1.")

    def apply(self, y_prob) -> np.ndarray:
        """Map probabilities (N, K) so that each class's threshold comes to lie at 0.5."""
        y_prob = np.clip(np.asarray(y_prob, dtype=float), 0, 1)
        thresholds = np.asarray(self.values)
        if y_prob.ndim != 2 or y_prob.shape[1] != len(thresholds):
            raise ThresholdError(
                f"y_prob has shape {y_prob.shape}; there are {len(thresholds)} thresholds."
            )
        up, down = y_prob * (1 - thresholds), thresholds * (1 - y_prob)
        return up / (up + down)

    def save(self, path: str | Path) -> Path:
        """Write them as JSON, whole or not at all."""
        content = asdict(self) | {"values": dict(zip(CLASSES, self.values, strict=True))}
        content["lesions"] = dict(zip(CLASSES, self.lesions, strict=False))
        if self.strength is not None and np.isinf(self.strength):
            content["strength"] = "inf"  # JSON has no infinity
        with atomic(Path(path)) as staged:
            staged.write_text(json.dumps(content, indent=2) + "\n")
        return Path(path)


def load_thresholds(path: str | Path) -> Thresholds:
    """Read what :meth:`Thresholds.save` wrote, or a file with ``values`` alone.

    Raises :class:`ThresholdError`, naming everything wrong, if the file cannot be used.
    """
    remedy = "`jiadf thresholds` writes such a file"
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        given = dict(content["values"].items())
    except FileNotFoundError:
        raise ThresholdError(f"{path}: there is no such file; {remedy}.") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ThresholdError(f"{path}: not readable as JSON ({error}); {remedy}.") from None
    except (KeyError, TypeError, AttributeError):
        raise ThresholdError(f"{path}: no threshold a class under 'values'; {remedy}.") from None
    wrong = [f"no threshold for {name}" for name in CLASSES if name not in given]
    wrong += [f"unknown class {name!r}" for name in given if name not in CLASSES]
    wrong += [
        f"{name} is {value!r}, not a number between 0 and 1"
        for name, value in given.items()
        if name in CLASSES and not (type(value) in (int, float) and 0 < value < 1)
    ]
    if wrong:
        raise ThresholdError(f"{path}: {'; '.join(wrong)}. Correct it: {remedy}.")
    strength, lesions = content.get("strength"), content.get("lesions") or {}
    return Thresholds(
        tuple(float(given[name]) for name in CLASSES),
        None if strength is None else float(strength),
        tuple(int(lesions[name]) for name in CLASSES) if set(CLASSES) <= set(lesions) else (),
        content.get("source") or {},
    )


def f1_curve(positive, scores) -> tuple[np.ndarray, np.ndarray]:
    """Return every threshold of a class that calls another set of lesions, and the F1 there.

    Thresholds fall; a lesion is called where its score is larger, so the first calls none and the
    last all. They lie midway, on the scale of the logit, between two scores that occur, so that
    rounding moves no lesion across; those outside [FLOOR, 1 - FLOOR] are left out. At least one
    lesion must be `positive`, (N,).
    """
    positive, scores = np.asarray(positive, dtype=bool), np.asarray(scores, dtype=float)
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # of ties
    tp = np.concatenate([[0], np.cumsum(positive[order])[ends]])
    f1 = 2 * tp / (np.concatenate([[0], ends + 1]) + positive.sum())
    steps = logit(np.clip(scores[order][ends], FLOOR, 1 - FLOOR))
    bounds = np.concatenate([[logit(1 - FLOOR)], steps, [logit(FLOOR)]])
    apart = bounds[:-1] > bounds[1:]
    return expit((bounds[:-1] + bounds[1:]) / 2)[apart], f1[apart]


def best_threshold(positive, scores, fallback: float) -> float:
    """Return that of the highest F1; among equals the one nearest `fallback` in the logit.

    A class that never occurs has no best threshold: `fallback`.
    """
    if not np.any(positive):
        return fallback
    thresholds, f1 = f1_curve(positive, scores)
    equal = thresholds[f1 >= f1.max() - 1e-12]
    return float(equal[np.argmin(np.abs(logit(equal) - logit(fallback)))])


def common_threshold(y_true: np.ndarray, y_prob: np.ndarray) -> float:
    """Return the one with the highest mean F1 over the classes that occur, of a grid."""
    grid = expit(np.linspace(-5, 3, 161))  # 0.5 among them
    present = y_true[:, None] == np.arange(y_prob.shape[1])
    occur = present.any(0)
    score = np.zeros(len(grid))
    for place, threshold in enumerate(grid):
        called = y_prob > threshold
        tp = (present & called).sum(0)
        f1 = 2 * tp / np.maximum(present.sum(0) + called.sum(0), 1)
        score[place] = f1[occur].mean()
    best = grid[score >= score.max() - 1e-12]
    return float(best[np.argmin(np.abs(logit(best)))])


def fit_thresholds(
    y_true, y_prob, strength: float, source: dict[str, Any] | None = None
) -> Thresholds:
    """Fit thresholds on predictions (N, K) of lesions that the networks did not train on.

    ``strength`` is the weight of the common threshold, in lesions: 0 gives each class its own,
    infinity all of them the common one.
    """
    y_true, y_prob = check_predictions(y_true, y_prob)
    if not strength >= 0:
        raise ValueError(f"strength is {strength}; it must be 0 or more (a number of lesions).")
    return _shrunk(*_own_and_common(y_true, y_prob), strength, source)


def _own_and_common(y_true: np.ndarray, y_prob: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Return each class's own best threshold (K,), the common one, the classes' lesions (K,)."""
    common = common_threshold(y_true, y_prob)
    own = [best_threshold(y_true == k, p, common) for k, p in enumerate(y_prob.T)]
    return np.array(own), common, np.bincount(y_true, minlength=y_prob.shape[1])


def _shrunk(own, common: float, counts, strength: float, source: Any = None) -> Thresholds:
    weight = np.zeros(len(counts))  # also where a class has no lesion
    if not np.isinf(strength):
        weight = np.divide(counts, counts + strength, out=weight, where=counts > 0)
    values = np.clip(expit(weight * logit(own) + (1 - weight) * logit(common)), FLOOR, 1 - FLOOR)
    return Thresholds(
        tuple(map(float, values)), float(strength), tuple(map(int, counts)), dict(source or {})
    )


def crossfitted(y_true, y_prob, folds, strengths: Sequence[float]) -> np.ndarray:
    """Map each fold's lesions with thresholds fitted on the other folds, (len(strengths), N, K).

    `folds`, (N,), is the fold of each lesion; the rest is as in :func:`fit_thresholds`.
    """
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
    """Return the strength whose :func:`crossfitted` numbers have the highest macro-F1 at 0.5.

    Among equals the largest, which asks the least of rare classes.
    """
    mapped = crossfitted(y_true, y_prob, folds, strengths)
    scores = [summary(y_true, each, curves=False)["macro_f1_at_half"] for each in mapped]
    return max(zip(scores, strengths, strict=True))[1]

"""Make probabilities mean what they say, with a map fitted on lesions that are not scored.

    recalibrate = fit_recalibration("temperature", y_prob[val_rows], y_true[val_rows])
    better = recalibrate(y_prob[test_rows])

Every method starts from the logarithm of the posterior, which for one softmax are its logits up to
a constant, and which exists for a mixture of softmaxes too.

``temperature``
    ``softmax(log p / T)`` (Guo et al. 2017). One number; the most probable class stays what it was.
``vector``
    A scale and an offset for each class: it can undo what class weights did to the prior.
``dirichlet``
    A full matrix and offsets (Kull et al. 2019).
``isotonic``
    For each class a step function of its own probability (Zadrozny and Elkan 2002; scikit-learn),
    then normalised.

``vector`` and ``dirichlet`` are fitted on top of the temperature, with an L2 penalty on what they
change: a strong one gives temperature scaling back. Kull et al. penalise only the off-diagonal part
and the offsets; with ten lesions of a class the diagonal needs it too. The strength is chosen by
cross-validation within the lesions given. Classes that these lesions lack keep their place.
"""

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax
from sklearn.isotonic import IsotonicRegression

from jiadf.evaluation.metrics import check_predictions

METHODS = ("temperature", "vector", "dirichlet", "isotonic")
STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3)  # from the strongest
_FLOOR = 1e-12  # of a probability whose logarithm is taken
_SPLITS = 4


def fit_recalibration(method: str, y_prob, y_true) -> Callable[[np.ndarray], np.ndarray]:
    """Fit one of :data:`METHODS` on lesions that will not be scored.

    What is returned maps (M, K) probabilities to (M, K) probabilities, each row summing to one.
    """
    if method not in METHODS:
        raise ValueError(f"no method {method!r}; there are {', '.join(METHODS)}")
    y_true, y_prob = check_predictions(y_true, y_prob)
    if method == "isotonic":
        return _fit_isotonic(y_prob, y_true)
    temperature = fit_temperature(y_prob, y_true)

    def cooled(given: np.ndarray) -> np.ndarray:
        return log_softmax(np.log(np.maximum(given, _FLOOR)) / temperature, axis=1)

    if method == "temperature":
        return lambda given: np.exp(cooled(given))
    scores, diagonal = cooled(y_prob), method == "vector"
    strength = choose_strength(scores, y_true, diagonal)
    matrix, offsets = fit_affine(scores, y_true, strength, diagonal)
    return lambda given: np.exp(log_softmax(cooled(given) @ matrix.T + offsets, axis=1))


def mean_nll(log_prob: np.ndarray, y_true: np.ndarray) -> float:
    """Mean negative log-probability of the true classes."""
    return float(-log_prob[np.arange(len(y_true)), y_true].mean())


def fit_temperature(y_prob, y_true) -> float:
    """Return the T, within 0.05 to 20, that minimises the NLL of ``softmax(log p / T)``."""
    y_true, y_prob = check_predictions(y_true, y_prob)
    scores = np.log(np.maximum(y_prob, _FLOOR))

    def loss(log_t: float) -> float:
        return mean_nll(log_softmax(scores / np.exp(log_t), axis=1), y_true)

    bounds = np.log([0.05, 20.0])
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def fit_affine(
    scores: np.ndarray, y_true: np.ndarray, strength: float, diagonal: bool,
    start: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Return the matrix (K, K) and offsets (K,) of ``log_softmax(scores @ matrix.T + offsets)``.

    They minimise the mean NLL plus ``strength`` times the squares of the matrix less identity and
    of the offsets. `scores` are log-probabilities (N, K); `diagonal` scales each class alone
    (``vector``) and does not mix them (``dirichlet``); the minimum is the same wherever it is
    started, the loss being convex.
    """
    n, k = scores.shape
    identity = np.eye(k)
    free = identity.astype(bool) if diagonal else np.ones((k, k), dtype=bool)
    present = identity[y_true]

    def unpack(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        matrix = identity.copy()
        matrix[free] += flat[:-k]
        return matrix, flat[-k:]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        matrix, offsets = unpack(flat)
        log_prob = log_softmax(scores @ matrix.T + offsets, axis=1)
        value = mean_nll(log_prob, y_true) + strength * (flat @ flat)
        residual = (np.exp(log_prob) - present) / n
        gradient = np.append((residual.T @ scores)[free], residual.sum(0))
        return value, gradient + 2 * strength * flat

    matrix, offsets = start or (identity, np.zeros(k))
    first = np.append((matrix - identity)[free], offsets)
    return unpack(minimize(loss, first, jac=True, method="L-BFGS-B").x)


def choose_strength(scores: np.ndarray, y_true: np.ndarray, diagonal: bool) -> float:
    """Return the one of :data:`STRENGTHS` with the smallest cross-validated NLL."""
    if len(y_true) < 2 * _SPLITS:
        return STRENGTHS[0]
    # Deal shuffled lesions class by class, so that every fold has its share of each.
    order = np.lexsort([np.random.default_rng(0).random(len(y_true)), y_true])
    fold = np.empty(len(y_true), dtype=int)
    fold[order] = np.arange(len(y_true)) % _SPLITS
    losses = np.zeros(len(STRENGTHS))
    for part in range(_SPLITS):
        held, found = fold == part, None
        for number, strength in enumerate(STRENGTHS):
            found = fit_affine(scores[~held], y_true[~held], strength, diagonal, found)
            log_prob = log_softmax(scores[held] @ found[0].T + found[1], axis=1)
            losses[number] += mean_nll(log_prob, y_true[held]) * held.sum()
    return STRENGTHS[int(np.argmin(losses))]


def _fit_isotonic(y_prob: np.ndarray, y_true: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    n = len(y_true)  # no step at 0 or 1: n lesions cannot show that something never happens
    steps = [
        IsotonicRegression(y_min=1 / (n + 2), y_max=(n + 1) / (n + 2), out_of_bounds="clip").fit(
            column, y_true == k
        )
        for k, column in enumerate(y_prob.T)
    ]

    def recalibrate(given: np.ndarray) -> np.ndarray:
        raised = np.stack([step.predict(p) for step, p in zip(steps, given.T, strict=True)], 1)
        return raised / raised.sum(1, keepdims=True)

    return recalibrate


def adjust_prior(y_prob, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Move probabilities (N, K) to another prevalence by Bayes' rule (Saerens et al. 2002).

    `old` and `new`, both (K,), are how frequent the classes are where the probabilities are
    calibrated, and where they are to be used.
    """
    moved = np.asarray(y_prob) * np.asarray(new) / np.maximum(old, _FLOOR)
    return moved / moved.sum(1, keepdims=True)

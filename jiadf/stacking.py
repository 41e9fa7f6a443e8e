"""Mix trained branches anew, with weights fitted on lesions that are not scored.

A gate that is trained with its heads sees them on the lesions that they are fitted to. Here the
heads are finished, and what mixes them is fitted on other lesions (stacked generalisation,
Wolpert 1992)::

    mix = fit_mixture("gate", logits[val_rows], truth[val_rows])
    better = mix(logits[test_rows])

The posterior is that of equations (5) and (6), ``sum_b w_b softmax(a_b z_b)``, and minimises the
negative log-likelihood. The :data:`METHODS` differ in what is fitted:

``average``
    Nothing: equal weights.
``weights``
    One weight a branch, the same for all lesions.
``gate``
    Weights that depend on the lesion: a softmax of linear scores of the branches' log-posteriors
    and of each branch's confidence. An L2 penalty draws it towards ``weights``; its strength is
    chosen by cross-validation within the lesions given.
``… + temperatures``
    The same, with the logits of each branch times a fitted `a_b` (Guo et al. 2017).
``joint``
    The joint branch alone.

:func:`oracle` is a bound for those without temperatures: for each lesion the branch that gives its
true class most.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp, softmax

from jiadf.evaluation.recalibration import STRENGTHS, mean_nll, spread_folds

METHODS = (
    "average", "weights", "weights + temperatures", "gate", "gate + temperatures", "joint",
)  # fmt: skip
_SPLITS = 4
_LOOSE = 1e-6  # penalty of what is free, so that a softmax's scores have one minimum
_STEPS = 100
_LOG_SCALES = np.log([0.05, 20.0])  # a branch without weight has no temperature to find


def evidence(logits: np.ndarray) -> np.ndarray:
    """Return what a gate reads of logits (N, b, K): log-posteriors and their largest, (N, bK+b)."""
    scores = log_softmax(logits.astype(np.float64), axis=-1)
    return np.hstack([scores.reshape(len(scores), -1), scores.max(axis=-1)])


@dataclass(frozen=True)
class Mixture:
    """Branch weights and temperatures, fitted; call it with logits (N, b, K).

    Attributes
    ----------
    offsets : (b,) float array
        Scores of the branches, before a softmax makes them weights.
    slopes : (F, b) float array
        What the standardised evidence adds to them.
    log_scales : (b,) float array
        Logarithm of what each branch's logits are multiplied by.
    centre, spread : (F,) float arrays
        Of the evidence.
    """

    offsets: np.ndarray
    slopes: np.ndarray
    log_scales: np.ndarray
    centre: np.ndarray
    spread: np.ndarray

    def weights(self, logits: np.ndarray) -> np.ndarray:
        """Return the branch weights, (N, b)."""
        read = (evidence(logits) - self.centre) / self.spread
        return softmax(self.offsets + read @ self.slopes, axis=1)

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """Return the posterior, (N, K)."""
        scaled = logits * np.exp(self.log_scales)[:, None]
        return (self.weights(logits)[..., None] * softmax(scaled, axis=-1)).sum(axis=1)


def _fit(
    logits: np.ndarray, truth: np.ndarray, gate: bool, temperatures: bool, strength: float,
    start: Mixture | None = None,
) -> Mixture:  # fmt: skip
    """Minimise NLL plus `strength` times the squared slopes."""
    n, b, _ = logits.shape
    read = evidence(logits)
    centre, spread = read.mean(axis=0), np.maximum(read.std(axis=0), 1e-6)
    read = (read - centre) / spread
    slopes = start.slopes if start else np.zeros((read.shape[1], b))
    parts = [start.offsets if start else np.zeros(b), start.log_scales if start else np.zeros(b)]
    first = np.concatenate([*parts, slopes.ravel()])
    free = np.repeat([True, temperatures, gate], [b, b, slopes.size])
    penalty = np.repeat([_LOOSE, _LOOSE, strength], [b, b, slopes.size])
    rows = np.arange(n)

    def unpack(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        whole = first.copy()
        whole[free] = flat
        return whole[:b], whole[b : 2 * b], whole[2 * b :].reshape(slopes.shape)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        offsets, log_scales, slope = unpack(flat)
        log_weights = log_softmax(offsets + read @ slope, axis=1)  # (N, b)
        scales = np.exp(log_scales)
        log_posteriors = log_softmax(logits * scales[:, None], axis=-1)  # (N, b, K)
        each = log_weights + log_posteriors[rows, :, truth]  # (N, b)
        total = logsumexp(each, axis=1, keepdims=True)
        shares = np.exp(each - total)  # of the true class's probability, (N, b)
        scores = (np.exp(log_weights) - shares) / n
        expected = (np.exp(log_posteriors) * logits).sum(axis=-1)
        hotter = -(shares * scales * (logits[rows, :, truth] - expected)).mean(axis=0)
        gradient = np.concatenate([scores.sum(axis=0), hotter, (read.T @ scores).ravel()])[free]
        value = -total.mean() + penalty[free] @ flat**2
        return value, gradient + 2 * penalty[free] * flat

    bounds = np.repeat([[-np.inf, np.inf], _LOG_SCALES, [-np.inf, np.inf]], [b, b, slopes.size], 0)
    found = minimize(
        loss, first[free], jac=True, method="L-BFGS-B", bounds=bounds[free],
        options={"maxiter": _STEPS},
    ).x  # fmt: skip
    offsets, log_scales, slopes = unpack(found)
    return Mixture(offsets, slopes, log_scales, centre, spread)


def choose_strength(
    logits: np.ndarray, truth: np.ndarray, temperatures: bool = False, seed: int = 0
) -> float:
    """Return the strength of a gate's penalty with the smallest cross-validated NLL."""
    if len(truth) < 2 * _SPLITS:
        return STRENGTHS[0]
    fold, losses = spread_folds(truth, _SPLITS, seed), np.zeros(len(STRENGTHS))
    for part in range(_SPLITS):
        held, found = fold == part, None
        for number, strength in enumerate(STRENGTHS):
            found = _fit(logits[~held], truth[~held], True, temperatures, strength, found)
            log_prob = np.log(np.maximum(found(logits[held]), 1e-300))
            losses[number] += mean_nll(log_prob, truth[held]) * held.sum()
    return STRENGTHS[int(np.argmin(losses))]


def fit_mixture(method: str, logits: np.ndarray, truth: np.ndarray, seed: int = 0) -> Mixture:
    """Fit one of :data:`METHODS`.

    Parameters
    ----------
    method : str
        One of :data:`METHODS`.
    logits : (N, b, K) float array
        Of lesions that will not be scored, the joint branch last.
    truth : (N,) int array
    seed : int
        Deals the lesions to the folds that choose a penalty.

    Raises
    ------
    ValueError
        On an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"no method {method!r}; there are {', '.join(METHODS)}")
    logits = logits.astype(np.float64)
    kind, temperatures = method.split(" + ")[0], method.endswith("temperatures")
    b, width = logits.shape[1], evidence(logits[:1]).shape[1]
    if kind in ("average", "joint"):
        offsets = np.zeros(b)
        if kind == "joint":
            offsets[:-1] = -np.inf
        flat = np.zeros(width), np.ones(width)
        return Mixture(offsets, np.zeros((width, b)), np.zeros(b), *flat)
    if kind == "weights":
        return _fit(logits, truth, False, temperatures, 0.0)
    strength = choose_strength(logits, truth, temperatures, seed)
    return _fit(logits, truth, True, temperatures, strength)


def oracle(logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return, for each lesion, the posterior of the branch that gives its true class most, (N, K).

    No mixture of these branches, as they are, has a smaller negative log-likelihood.
    """
    posteriors = softmax(logits.astype(np.float64), axis=-1)
    rows = np.arange(len(truth))
    return posteriors[rows, posteriors[rows, :, truth].argmax(axis=1)]

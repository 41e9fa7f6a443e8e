"""Make probabilities mean what they say: a temperature, and another prevalence.

    T = fit_temperature(y_prob[val_rows], y_true[val_rows])
    better = with_temperature(y_prob[test_rows], T)

Both start from the posterior, whose logarithms are, for one softmax, its logits up to a constant,
and which exists for a mixture of softmaxes too. The lesions that a temperature was fitted on are
not scored with it.
"""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from jiadf.evaluation.metrics import check_predictions

FLOOR = 1e-12  # of a probability whose logarithm is taken


def fit_temperature(y_prob, y_true) -> float:
    """Return the T, within 0.05 to 20, that minimises the NLL of :func:`with_temperature`."""
    y_true, y_prob = check_predictions(y_true, y_prob)
    scores, rows = np.log(np.maximum(y_prob, FLOOR)), np.arange(len(y_true))

    def loss(log_t: float) -> float:
        return -log_softmax(scores / np.exp(log_t), axis=1)[rows, y_true].mean()

    bounds = np.log([0.05, 20.0])
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def with_temperature(y_prob, temperature: float) -> np.ndarray:
    """Return ``softmax(log p / T)``, (N, K): no class changes its rank (Guo et al. 2017)."""
    return softmax(np.log(np.maximum(y_prob, FLOOR)) / temperature, axis=1)


def adjust_prior(y_prob, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Move probabilities (N, K) to another prevalence by Bayes' rule (Saerens et al. 2002).

    `old` and `new`, both (K,), are how frequent the classes are where the probabilities are
    calibrated, and where they are to be used.
    """
    moved = np.asarray(y_prob) * np.asarray(new) / np.maximum(old, FLOOR)
    return moved / moved.sum(1, keepdims=True)

"""Greedy ensemble selection: which systems' posteriors to average, and how often each.

Caruana, Niculescu-Mizil, Crew and Ksikes, *Ensemble selection from libraries of models*, ICML 2004:
start with nothing, add again and again the member that makes the mean best on lesions kept for the
purpose, the same one as often as it helps. The counts are weights, and with few rounds they cannot
fit those lesions very closely.
"""

import numpy as np

from jiadf.evaluation.recalibration import log_posterior, mean_nll

ROUNDS = 20


def select_members(posteriors, truth, rounds: int = ROUNDS) -> np.ndarray:
    """Return how much of the mean each member gets.

    Parameters
    ----------
    posteriors : (M, N, K) float array
        Of M members, on lesions that none of them trained on.
    truth : (N,) int array
    rounds : int
        Members added, with replacement.

    Returns
    -------
    (M,) float array
        Shares that sum to one: those of the round with the lowest negative log-likelihood.

    Raises
    ------
    ValueError
        If there is no member, or no round.
    """
    posteriors, truth = np.asarray(posteriors, dtype=float), np.asarray(truth)
    if posteriors.ndim != 3 or not len(posteriors) or rounds < 1:
        raise ValueError(
            f"posteriors are of shape {posteriors.shape}, rounds {rounds}: give at least one "
            "member's (N, K) and one round"
        )
    counts, total = np.zeros(len(posteriors)), np.zeros(posteriors.shape[1:])
    best, shares = np.inf, counts
    for size in range(1, rounds + 1):
        losses = [mean_nll(log_posterior((total + each) / size), truth) for each in posteriors]
        chosen = int(np.argmin(losses))
        counts[chosen] += 1
        total += posteriors[chosen]
        if losses[chosen] < best:
            best, shares = losses[chosen], counts / size
    return shares


def mix(posteriors, shares) -> np.ndarray:
    """Average posteriors (M, N, K) by shares (M,) into (N, K)."""
    return np.tensordot(np.asarray(shares), np.asarray(posteriors), axes=1)

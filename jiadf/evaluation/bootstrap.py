"""The bootstrap over lesions: resamples as weights, and a difference of scores set against them.

Efron and Tibshirani (1993), "An Introduction to the Bootstrap".
"""

import numpy as np


def stratified_weights(y_true: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Draw `n` resamples within each class: how often each lesion is in each of them, (n, N)."""
    y_true = np.asarray(y_true)
    rng = np.random.default_rng(seed)
    weights = np.empty((n, len(y_true)))
    for label in np.unique(y_true):
        members = np.flatnonzero(y_true == label)
        chances = np.full(len(members), 1 / len(members))
        weights[:, members] = rng.multinomial(len(members), chances, size=n)
    return weights


def paired_bootstrap(difference: float, draws: np.ndarray) -> dict[str, float]:
    """Give a difference of two scores its 95 % interval and its p-value.

    Parameters
    ----------
    difference
        On all lesions.
    draws : (n,) float array
        On each resample, the same one for both scores.

    Returns
    -------
    dict
        `difference`; `low` and `high`, between which 95 % of the draws lie; and `p`, two-sided: how
        often the draws, shifted to a mean of zero, are at least as large. NaN if there is none.
    """
    low, high = np.quantile(draws, [0.025, 0.975])
    as_large = np.abs(draws - draws.mean()) >= abs(difference)
    p = (1 + as_large.sum()) / (1 + len(draws)) if np.isfinite(difference) else np.nan
    return {"difference": difference, "low": low, "high": high, "p": p}

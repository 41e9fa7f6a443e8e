"""Bootstrap resamples of lesions, as weights (Efron and Tibshirani 1993)."""

import numpy as np


def stratified_weights(y_true: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Draw `n` bootstrap resamples within each class, as weights.

    Parameters
    ----------
    y_true : (N,) int array
        Class index of each lesion.
    n : int
        Number of resamples.
    seed : int
        Seed of NumPy's generator; the same seed gives the same resamples.

    Returns
    -------
    (n, N) float array
        How often each lesion is drawn; every class keeps its number of lesions in every resample.
    """
    y_true = np.asarray(y_true)
    rng = np.random.default_rng(seed)
    weights = np.empty((n, len(y_true)))
    for label in np.unique(y_true):
        members = np.flatnonzero(y_true == label)
        weights[:, members] = rng.multinomial(
            len(members), np.full(len(members), 1 / len(members)), size=n
        )
    return weights

"""The floor: what simple linear classifiers make of the same inputs.

Class-weighted logistic regressions on standardised frozen features and encoded metadata, with the
regularisation chosen on the validation lesions. A fusion network that is not better than this has
learned nothing from fusing.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from jiadf.data.batches import Inputs
from jiadf.data.schema import CLASSES
from jiadf.evaluation.metrics import summary
from jiadf.training.features import Standardise
from jiadf.training.inputs import STREAMS

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)  # inverse regularisation, scikit-learn's C


def linear_predictions(
    inputs: Inputs,
    parts: np.ndarray,
    modalities: str = "CDM",
    strengths: Sequence[float] = STRENGTHS,
) -> tuple[np.ndarray, float]:
    """Fit on the training lesions, choose on the validation lesions, predict all.

    Parameters
    ----------
    inputs
        Arrays of all lesions, with features (`frozen` regime).
    parts
        ``"train"``, ``"val"`` or ``"test"`` for each lesion.
    modalities
        Letters of C, D and M; their inputs are concatenated.
    strengths
        Inverse regularisations to choose from.

    Returns
    -------
    probabilities : numpy.ndarray
        (N, 11); a class without training lesions gets 0.
    strength : float
        The inverse regularisation with the best validation macro-F1.
    """
    train, val = parts == "train", parts == "val"
    blocks = [
        _standardised(inputs.streams[name][:, 0], train)
        for key, name in STREAMS.items()
        if key in modalities
    ]
    if "M" in modalities:
        blocks.append(inputs.metadata)
    x = np.concatenate(blocks, axis=1)
    best: tuple[float, np.ndarray, float] | None = None
    for strength in strengths:
        model = LogisticRegression(C=strength, class_weight="balanced", max_iter=300)
        with warnings.catch_warnings():
            # 300 steps are enough for the metrics; the last digits of the weights do not matter.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x[train], inputs.target[train])
        probabilities = np.zeros((len(x), len(CLASSES)))
        probabilities[:, model.classes_] = model.predict_proba(x)
        score = summary(inputs.target[val], probabilities[val])["macro_f1"]
        if best is None or score > best[0]:
            best = score, probabilities, strength
    return best[1], best[2]


def _standardised(features: np.ndarray, train: np.ndarray) -> np.ndarray:
    scale = Standardise(features.shape[1]).fit(torch.from_numpy(features[train]))
    return scale(torch.from_numpy(features)).numpy()

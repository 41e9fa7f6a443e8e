"""Scores of recorded predictions, at two prevalences: the lesions' own and the hidden test set's.

What each score is stands in :mod:`jiadf.evaluation.metrics`; weights of lesions and nothing else
tell the two prevalences apart (:mod:`jiadf.evaluation.prevalence`).
"""

from pathlib import Path

import numpy as np
import pandas as pd

from jiadf.evaluation.metrics import METRIC_NAMES, summary
from jiadf.evaluation.predictions import load_predictions, models
from jiadf.evaluation.prevalence import hidden_test_weights

SCORES = (
    "macro_auc", "macro_ap", "macro_f1", "macro_f1_at_half", "top1_accuracy", "balanced_accuracy",
    "nll", "ece",
)  # fmt: skip
PREVALENCES = ("own", "hidden test")


def score_table(name: str, folder: str | Path | None = None) -> pd.DataFrame:
    """Score each system of a record under each of its seeds, at both prevalences.

    Columns are :data:`SCORES`, rows are indexed by ``prevalence``, ``system`` and ``seed``. Raises
    as :func:`jiadf.evaluation.predictions.load_predictions`.
    """
    tables = []
    for system in models(name, folder):
        predictions = load_predictions(name, system, folder)
        y_true = predictions.y_true
        weights = np.stack([np.ones(len(y_true)), hidden_test_weights(y_true)])  # (2, N)
        for seed, y_prob in zip(predictions.seeds, predictions.by_seed, strict=True):
            scores = pd.DataFrame(summary(y_true, y_prob, weights))[list(SCORES)]
            tables.append(scores.assign(prevalence=PREVALENCES, system=system, seed=seed))
    return pd.concat(tables).set_index(["prevalence", "system", "seed"])


def format_scores(table: pd.DataFrame) -> str:
    """Lay out :func:`score_table` for a terminal: a block a prevalence, mean ± sd over seeds."""
    blocks = []
    for prevalence in PREVALENCES:
        systems = table.loc[prevalence].groupby("system", sort=False)
        spread = systems.std().map(lambda sd: "" if np.isnan(sd) else f" ± {sd:.3f}")
        shown = (systems.mean().map("{:.3f}".format) + spread).rename(columns=METRIC_NAMES)
        blocks.append(f"{prevalence} prevalence\n{shown.rename_axis(None).to_string()}")
    return "\n\n".join(blocks)

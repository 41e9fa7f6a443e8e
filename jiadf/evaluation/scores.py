"""Scores of recorded predictions, at two prevalences: the lesions' own and the hidden test set's.

What each score is stands in :mod:`jiadf.evaluation.metrics`; weights of lesions and nothing else
tell the two prevalences apart (:mod:`jiadf.evaluation.prevalence`).
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from jiadf.evaluation.metrics import METRIC_NAMES, summary
from jiadf.evaluation.predictions import Predictions, load_predictions, models
from jiadf.evaluation.prevalence import hidden_test_weights

_SHOWN = (
    "macro_auc", "macro_ap", "macro_f1", "macro_f1_at_half", "top1_accuracy", "balanced_accuracy",
    "nll", "ece",
)  # fmt: skip
SCORES = {metric: METRIC_NAMES[metric] for metric in _SHOWN}
PREVALENCES = ("own", "hidden test")


def score_table(
    predictions: str | Mapping[str, Predictions], folder: str | Path | None = None
) -> pd.DataFrame:
    """Score each system under each of its seeds, at both prevalences.

    Parameters
    ----------
    predictions
        Name of a record, or predictions by the name of their system.
    folder
        Where the record lies; the repository's ``book/results`` if None.

    Returns
    -------
    pandas.DataFrame
        A row a system, prevalence (:data:`PREVALENCES`) and metric (:data:`SCORES`), with
        ``mean`` and ``sd`` over seeds (NaN for a single one) and the number of ``seeds``.

    Raises
    ------
    jiadf.evaluation.schema.RecordError
        As :func:`jiadf.evaluation.predictions.load_predictions`.
    """
    if isinstance(predictions, str):
        names = models(predictions, folder)
        predictions = {name: load_predictions(predictions, name, folder) for name in names}
    rows = []
    for system, of_system in predictions.items():
        y_true = of_system.y_true
        weights = np.stack([np.ones(len(y_true)), hidden_test_weights(y_true)])  # (2, N)
        by_seed = [summary(y_true, y_prob, weights) for y_prob in of_system.by_seed]
        for metric in SCORES:
            values = np.stack([scores[metric] for scores in by_seed])  # (S, 2)
            spread = values.std(0, ddof=1) if len(values) > 1 else [np.nan, np.nan]
            columns = zip(PREVALENCES, values.mean(0), spread, strict=True)
            rows += [(system, name, metric, m, sd, len(values)) for name, m, sd in columns]
    table = pd.DataFrame(rows, columns=["system", "prevalence", "metric", "mean", "sd", "seeds"])
    return table.sort_values("prevalence", key=lambda p: p.map(PREVALENCES.index), kind="stable")


def format_scores(table: pd.DataFrame) -> str:
    """Lay out a table of :func:`score_table` for a terminal: a block a prevalence, mean ± sd."""
    blocks = []
    for prevalence, rows in table.groupby("prevalence", sort=False):
        cells = rows.assign(
            score=[
                f"{row.mean:.3f}" + ("" if np.isnan(row.sd) else f" ± {row.sd:.3f}")
                for row in rows[["mean", "sd"]].itertuples(index=False)
            ]
        )
        wide = cells.pivot(index="system", columns="metric", values="score")
        wide = wide.loc[rows["system"].unique(), list(SCORES)].rename(columns=SCORES)
        shown = wide.rename_axis(index=None, columns=None).to_string()
        blocks.append(f"{prevalence} prevalence\n{shown}")
    return "\n\n".join(blocks)

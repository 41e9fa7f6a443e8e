"""How open a gate is: its weights over lesions, their course in training, and what pulls at them.

A gate is *closed*, or has collapsed, where one branch has nearly all the weight of nearly every
lesion. It is called *open* where the mean entropy of its weights is at least :data:`OPEN` of the
largest possible one. Everything is read from run folders, no network is run.

:func:`pull` is the reason for a collapse. With the posterior ``p = sum_b w_b p_b`` and the weights
a softmax of scores, the loss ``-log p(y)`` pulls at a score by ``share_b - w_b``, where ``share_b =
w_b p_b(y) / p(y)`` is the branch's part in the true class's probability (Jacobs et al. 1991).
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import log_softmax, softmax

from jiadf.training.grid import FoldPrediction, Grid, pooled_predictions
from jiadf.training.run_folder import Run

OPEN = 0.5  # of the largest possible entropy
COLLAPSED = (0.9, 0.99)  # weight of the joint branch that counts as a collapse
_WEIGHT = "weight_"


def entropy_share(weights: np.ndarray) -> np.ndarray:
    """Entropy of weights (N, b), as a share of the largest possible one, log b; (N,)."""
    weights = np.asarray(weights, dtype=float)
    logs = np.log(np.where(weights > 0, weights, 1.0))
    return -(weights * logs).sum(axis=-1) / np.log(weights.shape[-1])


def gates(grid: Grid) -> list[str]:
    """Names of a grid's systems whose weights are learned."""
    first = {run.system: run.parameters for run in grid.runs(Path())}
    return [name for name, p in first.items() if p.method == "ji-adf" and p.decision == "adf"]


def summarise_weights(weights: pd.DataFrame) -> dict[str, float]:
    """Measure one network's weights, a row a lesion, a column a branch.

    Returns
    -------
    dict
        ``weight BRANCH`` and ``sd BRANCH``, mean and standard deviation over lesions; ``entropy``,
        the mean of :func:`entropy_share`; ``above T``, the share of lesions whose joint weight is
        above each T of :data:`COLLAPSED`.
    """
    found = {f"weight {name}": column.mean() for name, column in weights.items()}
    found |= {f"sd {name}": column.std(ddof=0) for name, column in weights.items()}
    found["entropy"] = entropy_share(weights.to_numpy()).mean()
    found |= {f"above {limit:g}": (weights["joint"] > limit).mean() for limit in COLLAPSED}
    return {name: float(value) for name, value in found.items()}


def openness_table(grid: Grid, folder: str | Path) -> pd.DataFrame:
    """Measure every system's weights on its scored lesions, a seed's folds put together.

    Returns
    -------
    DataFrame
        `system`; `measure`, of :func:`summarise_weights`; `value`, `low`, `high`, the mean, the
        least and the greatest over `seeds`; `gate`, whether the weights are learned.
    """
    rows = []
    for system, seeds in pooled_predictions(grid, folder).items():
        for table in seeds:
            weights = table.filter(like=_WEIGHT).rename(columns=lambda c: c.removeprefix(_WEIGHT))
            if "joint" in weights:
                measured = summarise_weights(weights).items()
                rows += [(system, measure, value) for measure, value in measured]
    table = pd.DataFrame(rows, columns=["system", "measure", "value"])
    result = _over(table, ["system", "measure"], "seeds")
    return result.assign(gate=result["system"].isin(gates(grid)))


def collapse_table(grid: Grid, folder: str | Path) -> pd.DataFrame:
    """Count the runs whose joint branch has a mean weight above each of :data:`COLLAPSED`.

    Returns
    -------
    DataFrame
        `system` (those with a gate), `runs`, the mean joint weight's `least` and `greatest` over
        runs on their scored lesions, and `above T` for each T.
    """
    rows = []
    for run in grid.runs(Path(folder)):
        if run.system in gates(grid):
            table = Run(run.path).predictions
            weight = table.loc[table["split"] == grid.scored_part, f"{_WEIGHT}joint"].mean()
            rows.append((run.system, weight))
    groups = pd.DataFrame(rows, columns=["system", "joint"]).groupby("system", sort=False)["joint"]
    counts = {
        f"above {limit:g}": groups.agg(lambda w, limit=limit: int((w > limit).sum()))
        for limit in COLLAPSED
    }
    table = pd.DataFrame({"runs": groups.size(), "least": groups.min(), "greatest": groups.max()})
    return table.assign(**counts).reset_index()


def course_table(grid: Grid, folder: str | Path) -> pd.DataFrame:
    """Follow the mean weights on the validation lesions, where a run's history has them.

    Returns
    -------
    DataFrame
        `system` (those with a gate), `epoch`, `branch`, `value`, `low`, `high`: mean, least and
        greatest over `runs`.
    """
    parts = []
    for run in grid.runs(Path(folder)):
        history = Run(run.path).history.set_index("epoch")
        weights = history.filter(like=f"val_{_WEIGHT}")
        if run.system in gates(grid) and weights.size:
            weights = weights.rename(columns=lambda c: c.removeprefix(f"val_{_WEIGHT}"))
            long = weights.melt(ignore_index=False, var_name="branch").reset_index()
            parts.append(long.assign(system=run.system))
    keys = ["system", "epoch", "branch"]
    table = pd.concat(parts) if parts else pd.DataFrame(columns=[*keys, "value"], dtype=float)
    return _over(table, keys, "runs")


def _over(table: pd.DataFrame, keys: list[str], counted: str) -> pd.DataFrame:
    groups = table.groupby(keys, sort=False)["value"]
    found = groups.agg(value="mean", low="min", high="max")
    return found.assign(**{counted: groups.size()}).reset_index()


def choice_table(grid: Grid, folder: str | Path) -> pd.DataFrame:
    """Compare the gates on the validation lesions alone, for the choice of one of them.

    Returns
    -------
    DataFrame
        `system`, `gate`, `fold` (of the test lesions, or ``all``), `nll` and `macro_f1` on the
        validation lesions, means over runs, and `chosen`: the gate with the smallest `nll`.
    """
    rows = []
    for run in grid.runs(Path(folder)):
        found = Run(run.path).metrics["val"]
        rows.append((run.system, str(run.fold), found["nll"], found["macro_f1"]))
    table = pd.DataFrame(rows, columns=["system", "fold", "nll", "macro_f1"])
    table = pd.concat([table, table.assign(fold="all")])
    table = table.groupby(["fold", "system"], sort=False).mean().reset_index()
    table["gate"] = table["system"].isin(gates(grid))
    best = table[table["gate"]].groupby("fold")["nll"].idxmin()
    return table.assign(chosen=table.index.isin(best))


def pull(logits: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> pd.DataFrame:
    """Measure what the loss does to a gate's scores, on average over lesions.

    Parameters
    ----------
    logits : (N, b, K) float array
    truth : (N,) int array
    weights : (N, b) float array
        The gate's; equal ones tell where a fresh gate is pulled to.

    Returns
    -------
    DataFrame
        A row a branch: its own `nll`; its `share` in the true class's probability; the `pull`,
        share less weight, and minus the derivative of the loss with respect to its score.
    """
    rows = np.arange(len(truth))
    of_truth = log_softmax(logits.astype(np.float64), axis=-1)[rows, :, truth]  # (N, b)
    shares = softmax(np.log(np.maximum(weights, 1e-300)) + of_truth, axis=1)
    columns = {"nll": -of_truth.mean(axis=0), "share": shares.mean(axis=0)}
    return pd.DataFrame(columns | {"pull": (shares - weights).mean(axis=0)})


def pull_table(folds: list[FoldPrediction], truth: np.ndarray) -> pd.DataFrame:
    """Measure :func:`pull` at equal weights on each run's training lesions, and on its test ones.

    Returns
    -------
    DataFrame
        `system`, `part` (``training`` or ``new``), `branch`, `nll`, `share`, `pull`: means over
        runs, with the least and the greatest `pull`, `low` and `high`.
    """
    tables = []
    for fold, part in itertools.product(folds, ("training", "new")):
        rows = fold.test_rows
        if part == "training":
            rows = np.setdiff1d(np.arange(len(truth)), np.append(rows, fold.val_rows))
        logits = np.stack(list(fold.prediction.logits.values()), axis=1)[rows]
        even = np.full(logits.shape[:2], 1 / logits.shape[1])
        table = pull(logits, truth[rows], even).assign(branch=list(fold.prediction.logits))
        tables.append(table.assign(system=fold.run.system, part=part))
    groups = pd.concat(tables).groupby(["system", "part", "branch"], sort=False)
    found = groups[["nll", "share", "pull"]].mean()
    return found.assign(low=groups["pull"].min(), high=groups["pull"].max()).reset_index()

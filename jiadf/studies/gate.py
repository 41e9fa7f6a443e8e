"""The adaptive gate: is it open, what keeps it so, and is an open gate worth anything.

The systems of a grid differ in one thing that may keep the gate open (``params/grids/gate.yaml``).
Every grid has the tables

``openness``, ``collapse``, ``course``
    The weights over lesions, the runs that collapsed, the weights by epoch (:mod:`jiadf.openness`).
``choice``
    Scores on validation lesions, by which one gate is chosen.
``scores``, ``differences``
    Scores with intervals; paired differences from the paper's gate and from the fixed average.

and one whose protocol keeps test lesions from every choice also

``pull``
    What the loss does to a fresh gate, on training lesions and on new ones.
``reaction``, ``damage``, ``comparisons``, ``reliability``
    Weights and scores when a modality is missing or swapped (:mod:`jiadf.reaction`).
``posthoc``, ``gains``, ``mixtures``
    What there is to gain: weights fitted afterwards on the validation fold
    (:mod:`jiadf.stacking`), judged on the test fold.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from jiadf import openness, stacking
from jiadf.ablations import Predictions
from jiadf.evaluation.paired_tests import compare_pairs, holm, score_all
from jiadf.reaction import HELD, Damage, gate_reaction, reliability, score_changes
from jiadf.studies.robustness import Change, ask, table_damages
from jiadf.training.grid import FoldPrediction, Grid, fold_predictions, pooled_predictions
from jiadf.training.inputs import targets
from jiadf.training.run_folder import Run

GATE, AVERAGE = "ji-adf", "ji-mmfa"
CHOSEN = "ji-adf+ by fold"  # each fold scored by the gate that its own validation lesions choose
PLAIN = ("macro_f1", "mean_dice", "nll", "ece")
CURVES = ("macro_auc", "macro_ap")  # their resamples take nearly all of the time
POSTHOC = ("macro_f1", "nll", "ece", "top1_accuracy")
KINDS = ("missing", "swapped")  # of damage


def study(
    grid: Grid, folder: str | Path, lesions: pd.DataFrame, cache_dir: str | Path | None = None,
    *, seed: int = 0, n: int = 1000, n_curves: int = 250, n_damage: int = 200,
) -> dict[str, pd.DataFrame]:  # fmt: skip
    """Measure everything of this module; see its list of tables.

    Parameters
    ----------
    grid, folder
        A grid with ji-adf and ji-mmfa, and its runs.
    lesions, cache_dir
        The table that the runs were trained on, and where caches lie.
    seed
        Of damage, resamples and folds within folds.
    n, n_curves, n_damage
        Resamples: of most scores, of areas under curves, and of scores under damage.
    """
    grid.require([GATE, AVERAGE])
    choice = openness.choice_table(grid, folder)
    pooled = pooled_predictions(grid, folder)
    if grid.protocol == "out-of-fold":
        pooled[CHOSEN] = chosen_by_fold(grid, folder, choice)
    predictions = Predictions(grid.protocol, pooled)
    tables = {
        "openness": openness.openness_table(grid, folder),
        "collapse": openness.collapse_table(grid, folder),
        "course": openness.course_table(grid, folder),
        "choice": choice,
        **compared(predictions.truth, predictions.systems, n, n_curves, seed),
    }
    if grid.protocol != "out-of-fold":
        return tables
    folds = fold_predictions(grid, folder, lesions, cache_dir, systems=(GATE, AVERAGE))
    truth = targets(lesions)
    tables["pull"] = openness.pull_table(folds, truth)
    tables |= posthoc_tables(folds, truth, n, seed)
    return tables | damage_tables(grid, folder, lesions, cache_dir, n_damage, seed)


def chosen_by_fold(grid: Grid, folder: str | Path, choice: pd.DataFrame) -> list[pd.DataFrame]:
    """Put together, fold by fold, the predictions of the gate that the fold's choice names.

    Every lesion is some run's validation lesion, so one choice for all folds has seen the lesions
    that it is scored on; this one has not.
    """
    by_fold = choice[choice["chosen"]].set_index("fold")["system"]
    parts: dict[int, list[pd.DataFrame]] = {}
    for run in grid.runs(Path(folder)):
        if run.system == by_fold[str(run.fold)]:
            table = Run(run.path).predictions
            parts.setdefault(run.seed, []).append(table[table["split"] == grid.scored_part])
    return [pd.concat(tables).sort_index() for _, tables in sorted(parts.items())]


def compared(
    truth: np.ndarray, systems: dict, n: int, n_curves: int, seed: int
) -> dict[str, pd.DataFrame]:
    """Score all systems, and compare them with the paper's gate and with the fixed average."""
    pairs = [(name, to) for to in (GATE, AVERAGE) for name in systems if name != to]
    scores, differences = [], []
    for names, count in ((PLAIN, n), (CURVES, n_curves)):
        scores.append(score_all(truth, systems, names, count, seed))
        differences.append(compare_pairs(truth, systems, pairs, names, count, seed))
    compared = pd.concat(differences, ignore_index=True)
    compared["p_holm"] = compared.groupby(["reference", "metric"])["p"].transform(holm)
    return {"scores": pd.concat(scores, ignore_index=True), "differences": compared}


def posthoc_tables(
    folds: Sequence[FoldPrediction], truth: np.ndarray, n: int, seed: int
) -> dict[str, pd.DataFrame]:
    """Mix each run's branches anew, as fitted on its validation fold, and score its test fold.

    Returns
    -------
    dict of DataFrame
        ``posthoc``: scores by `system`, whose branches are mixed, and `method`: those of
        :mod:`jiadf.stacking`, ``as trained`` where the system has a gate, and ``oracle``.
        ``gains``: paired differences of each method from the fixed average of the same branches,
        and of weights that depend on the lesion from those that do not.
        ``mixtures``: mean `weight` of each branch on test lesions and their mean `entropy`, means
        over runs; `scale` of the branch's logits, the median over runs.
    """
    mixed: dict[str, dict] = {}
    rows = []
    for fold in folds:
        system, test, val = fold.run.system, fold.test_rows, fold.val_rows
        logits = np.stack(list(fold.prediction.logits.values()), axis=1)
        said = {"oracle": stacking.oracle(logits[test], truth[test])}
        if fold.run.parameters.decision == "adf":
            said["as trained"] = fold.prediction.posterior[test]
        for method in stacking.METHODS:
            mix = stacking.fit_mixture(method, logits[val], truth[val], seed)
            said[method] = mix(logits[test])
            weights, scales = mix.weights(logits[test]), np.exp(mix.log_scales)
            entropy = openness.entropy_share(weights).mean()
            for b, branch in enumerate(fold.prediction.logits):
                rows.append((system, method, branch, weights[:, b].mean(), entropy, scales[b]))
        for method, prob in said.items():
            seeds = mixed.setdefault(system, {}).setdefault(method, {})
            whole = seeds.setdefault(fold.run.seed, np.full((len(truth), prob.shape[1]), np.nan))
            whole[test] = prob
    scores, gains = [], []
    for system, methods in mixed.items():
        order = ["average", "as trained", *stacking.METHODS[1:], "oracle"]
        given = {name: list(methods[name].values()) for name in order if name in methods}
        table = score_all(truth, given, POSTHOC, n, seed).rename(columns={"system": "method"})
        scores.append(table.assign(system=system))
        pairs = [(name, "average") for name in given if name != "average"]
        pairs += [("gate", "weights"), ("gate + temperatures", "weights + temperatures")]
        table = compare_pairs(truth, given, pairs, POSTHOC, n, seed)
        gains.append(table.rename(columns={"system": "method"}).assign(system=system))
    columns = ["system", "method", "branch", "weight", "entropy", "scale"]
    mixtures = pd.DataFrame(rows, columns=columns).groupby(columns[:3], sort=False)
    means = mixtures[["weight", "entropy"]].mean().assign(scale=mixtures["scale"].median())
    return {
        "posthoc": pd.concat(scores, ignore_index=True),
        "gains": pd.concat(gains, ignore_index=True),
        "mixtures": means.reset_index(),
    }


def damages(seed: int) -> dict[Damage, Change]:
    """Return the damages that leave no doubt which modality is wrong: missing, or another's."""
    return {what: change for what, change in table_damages(seed).items() if what.kind in KINDS}


def damage_tables(
    grid: Grid, folder: str | Path, lesions: pd.DataFrame, cache_dir, n: int, seed: int
) -> dict[str, pd.DataFrame]:
    """Ask every system about damaged lesions: the gate's reaction, and what the damage costs."""
    answers, _ = ask(grid, folder, lesions, cache_dir, list(grid.overrides()), damages(seed))
    truth = targets(lesions)
    reaction = gate_reaction(answers, truth, "all", n, seed)
    reaction["p_holm"] = reaction.groupby(["system", "branch"])["p"].transform(holm)
    pairs = [(name, AVERAGE) for name in answers if name != AVERAGE]
    # A calibrated gate mixes other logits than its branches': nothing to hold.
    held = {run.system for run in grid.runs(Path()) if not run.parameters.gate_calibration}
    pairs += [(name, f"{name}{HELD}") for name in openness.gates(grid) if name in held]
    scores, comparisons = score_changes(
        answers, truth, "all", n, seed, pairs=pairs, metrics=("nll", "macro_f1")
    )
    scores["p_holm"] = scores.groupby(["system", "metric"])["p"].transform(holm)
    by_pair = comparisons.groupby(["system", "reference", "metric"])
    comparisons["p_holm"] = by_pair["p"].transform(holm)
    return {
        "reaction": reaction,
        "damage": scores,
        "comparisons": comparisons,
        "reliability": reliability(answers, truth),
    }

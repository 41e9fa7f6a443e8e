"""As good as it gets: candidates, the choice among them, and what each further step adds.

Every choice is made for a test fold on its validation fold, by networks that trained on neither:
which candidate, which candidates to average (:mod:`jiadf.selection`), and how to recalibrate
(:mod:`jiadf.evaluation.recalibration`). So the figures are those of lesions that no choice has
seen, and the choice may differ from fold to fold.

The steps, each on top of the one before:

======================  =========================================================================
``reference``           the grid's first system, one network
``chosen``              the candidate with the lowest validation NLL, one network
``seeds, views``        mean over its seeds, and over the views of a lesion where it has several
``ensemble``            a mean over candidates, each with its seeds and views
``recalibrated``        vector scaling
``cuts by validation``  classes' cuts moved to 0.5 (:mod:`jiadf.evaluation.thresholds`), fitted on
the
                        validation fold; of these numbers calls at 0.5 and ranks alone mean anything
``cuts by other folds`` the same, in place of it, by nested cross-validation over the other folds:
                        four times the lesions. Networks and choices of those folds have seen this
                        fold's lesions, though no prediction of these is used
======================  =========================================================================
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from jiadf.evaluation.metrics import bootstrap_intervals
from jiadf.evaluation.paired_tests import compare_pairs
from jiadf.evaluation.recalibration import fit_recalibration, log_posterior, mean_nll
from jiadf.evaluation.thresholds import fit_thresholds, nested_thresholds
from jiadf.selection import mix, select_members
from jiadf.training.grid import Grid, collect
from jiadf.training.inputs import targets
from jiadf.variants import FIXED_STRENGTH, Scored, collect_variants
from jiadf.verdicts import LOWER_IS_BETTER, METRIC_NAMES, listed, sentence

# What the strongest model should reach on lesions that no choice has seen; of ECE, at most. The
# macro-F1 at 0.5 is the mean Dice coefficient.
TARGETS = {"macro_auc": 0.90, "macro_ap": 0.60, "ece": 0.03, "macro_f1_at_half": 0.58}
METRICS = (*TARGETS, "macro_f1", "mean_sensitivity", "nll")
MOVED = ("cuts by validation", "cuts by other folds")
AFTER_MOVING = ("macro_auc", "macro_ap", "macro_f1_at_half", "mean_sensitivity")
METHOD = (
    "vector"  # of recalibration; the best on pooled validation lesions in the calibration study
)


def study(
    grid: Grid,
    folder: str | Path,
    lesions: pd.DataFrame,
    cache_dir: str | Path | None = None,
    *,
    seed: int = 0,
    n: int = 500,
) -> dict[str, pd.DataFrame]:
    """Choose, ensemble, recalibrate, move the cuts; all nested.

    Parameters
    ----------
    grid, folder, lesions, cache_dir
        A finished out-of-fold grid of candidates, the first being the reference; its run folders,
        the table it was trained on, and the caches.
    seed
        Of the resamples.
    n
        Resamples of an interval, and exchanges of a test.

    Returns
    -------
    dict of DataFrames
        ``steps``: a row a step (`system`) and metric, with `target` where there is one;
        ``differences`` of each step from the one before; ``candidates``: mean validation figures
        over all runs, and in how many folds each was chosen; ``members``: a row a fold and
        candidate with its share.
    """
    truth = targets(lesions)
    candidates = collect_variants(grid, folder, lesions, cache_dir)
    made, members = build_steps(candidates, truth, seed)
    return {
        "steps": step_table(truth, made, n, seed),
        "differences": step_differences(truth, made, n, seed),
        "candidates": candidate_table(grid, folder, members),
        "members": members,
    }


def best_variant(scored: Scored) -> str:
    """Name a candidate's own ensemble: seeds and views, as far as it has them."""
    names = ("seeds + views", "seeds", "single + views", "single")
    return next(name for name in names if name in scored.variants)


def build_steps(
    candidates: Mapping[str, Scored], truth: np.ndarray, seed: int = 0
) -> tuple[dict[str, list[np.ndarray]], pd.DataFrame]:
    """Return every step's predictions, (N, K) a seed or one, and the members of each fold.

    Parameters
    ----------
    candidates
        By system, from :func:`jiadf.variants.collect_variants`; the first is the reference.
    truth : (N,) int array
    seed
        Of the folds that choose the strength of the recalibration.
    """
    names = list(candidates)
    first = candidates[names[0]]
    folds = first.folds
    variant = {name: best_variant(candidates[name]) for name in names}
    shape = first.variants["single"][0].shape
    singles = [np.zeros(shape) for _ in first.variants["single"]]
    own, mixed, calibrated, moved = (np.zeros(shape) for _ in range(4))
    rows = []
    for fold in np.unique(folds):
        inside = folds == fold
        seen = {name: candidates[name].validation[variant[name]][0][fold] for name in names}
        val_rows = seen[names[0]][0]
        said = np.stack([seen[name][1] for name in names])  # (M, V, K)
        losses = [mean_nll(log_posterior(each), truth[val_rows]) for each in said]
        chosen = names[int(np.argmin(losses))]
        shares = select_members(said, truth[val_rows])
        held = mix(said, shares)
        recalibrate = fit_recalibration(METHOD, held, truth[val_rows], seed)
        cuts = fit_thresholds(truth[val_rows], recalibrate(held), FIXED_STRENGTH)
        for single, prob in zip(singles, candidates[chosen].variants["single"], strict=True):
            single[inside] = prob[inside]
        own[inside] = candidates[chosen].variants[variant[chosen]][0][inside]
        test = [candidates[name].variants[variant[name]][0][inside] for name in names]
        mixed[inside] = mix(test, shares)
        calibrated[inside] = recalibrate(mixed[inside])
        moved[inside] = cuts.apply(calibrated[inside])
        rows += [
            {"fold": int(fold), "system": name, "share": share, "chosen": name == chosen,
             "val_nll": loss}
            for name, share, loss in zip(names, shares, losses, strict=True)
        ]  # fmt: skip
    steps = {
        "reference": first.variants["single"],
        "chosen": singles,
        "seeds, views": [own],
        "ensemble": [mixed],
        "recalibrated": [calibrated],
        MOVED[0]: [moved],
        MOVED[1]: [nested_thresholds(truth, calibrated, folds)[0]],
    }
    return steps, pd.DataFrame(rows)


def step_table(
    truth: np.ndarray, steps: Mapping[str, Sequence[np.ndarray]], n: int, seed: int
) -> pd.DataFrame:
    """Score each step: `system`, `metric`, `value`, `low`, `high`, `target`, `lesions`."""
    tables = []
    for step, arrays in steps.items():
        stacked = pd.concat([bootstrap_intervals(truth, prob, n, seed) for prob in arrays])
        names = AFTER_MOVING if step in MOVED else METRICS
        means = stacked.groupby("metric")[["value", "low", "high"]].mean().loc[list(names)]
        tables.append(means.reset_index().assign(system=step))
    table = pd.concat(tables, ignore_index=True)
    table["target"] = table["metric"].map(TARGETS)
    return table.assign(lesions=len(truth))


def step_differences(
    truth: np.ndarray, steps: Mapping[str, Sequence[np.ndarray]], n: int, seed: int
) -> pd.DataFrame:
    """Compare each step with the one before: the columns of `paired_tests.compare_pairs`."""
    count = max(map(len, steps.values()))
    systems = {k: list(v) if len(v) == count else [v[0]] * count for k, v in steps.items()}
    names = list(steps)
    before = [name for name in names if name not in MOVED]
    pairs = list(zip(before[1:], before, strict=False))
    metrics = ["macro_auc", "macro_ap", "macro_f1_at_half", "macro_f1", "nll", "ece"]
    table = compare_pairs(truth, systems, pairs, metrics, n, seed)
    pairs = [(name, before[-1]) for name in MOVED]
    moved = compare_pairs(truth, systems, pairs, ["macro_f1_at_half"], n, seed)
    return pd.concat([table, moved], ignore_index=True)


def candidate_table(grid: Grid, folder: str | Path, members: pd.DataFrame) -> pd.DataFrame:
    """Tell each candidate's validation figures, over its runs, and what became of it."""
    val = collect(grid, folder, part="val").groupby("system", sort=False)
    table = val[["nll", "macro_f1", "macro_auc", "macro_ap", "ece", "seconds"]].mean()
    by_system = members.groupby("system")
    table["folds_chosen"] = by_system["chosen"].sum()
    table["mean_share"] = by_system["share"].mean()
    return table.reset_index()


def tell(tables: Mapping[str, pd.DataFrame], where: str) -> list[str]:
    """Say in sentences what the tables of :func:`study` show, `where` being e.g. "on MILK10k"."""
    place = where[0].upper() + where[1:]
    steps = tables["steps"].set_index(["system", "metric"])
    last = {metric: ("recalibrated", metric) for metric in TARGETS}
    last["macro_f1_at_half"] = (MOVED[1], "macro_f1_at_half")
    reached, met, short = [], [], []
    for metric, key in last.items():
        row, name = steps.loc[key], METRIC_NAMES.get(metric, metric)
        # Resamples of an ECE lie above it (jiadf.evaluation.calibration): no interval for it in a
        # sentence.
        interval = "" if metric == "ece" else f" ({row.low:.3f} to {row.high:.3f})"
        reached.append(f"{name} {row.value:.3f}{interval}")
        above = row.value >= row.target
        fine = not above if metric in LOWER_IS_BETTER else above
        (met if fine else short).append(f"{name} ({row.target:.2f})")
    told = [f"{place}, the last steps reach {listed(reached)}, with 95 % intervals over lesions."]
    told.append(
        f"{place}, of {len(last)} targets {len(met)} are met"
        + (f": {listed(met)}." if met else ".")
        + (f" Missed: {listed(short)}." if short else "")
    )
    told += [
        f"{place}. {sentence(tables['differences'], metric)}"
        for metric in ("macro_ap", "nll", "macro_f1_at_half")
    ]
    shares = tables["candidates"].sort_values("mean_share", ascending=False)
    most = [f"{r.system} ({r.mean_share:.0%})" for r in shares.head(3).itertuples()]
    told.append(f"{place}, the ensemble is made of {listed(most)} and others, chosen fold by fold.")
    return told

"""Whether probabilities can be taken at their word, and what can be decided with them.

Everything is out of fold: what is fitted is fitted on a run's validation fold and judged on its
test fold, and the folds are put together. The tables on calibration are made here, those on
decisions in :mod:`jiadf.studies.decisions`; the record holds both.

``errors``, ``differences``
    Every error of :mod:`jiadf.evaluation.calibration` for the fused decision, each branch, and the
    plain average of the branches, before and after recalibration; and paired differences.
``reliability``, ``classes``
    What a reliability diagram shows; and each class's mean probability beside its frequency.
``binning``, ``plausible``
    How the ECE of samples of the paper's size moves with the bins; and which measured ECE is
    likely for which true one.
``optimism``
    The same lesions as validation fold and as test fold: what choosing the epoch did to them.
``shift``
    The same predictions under the class mix of the hidden test set.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import softmax

from jiadf.data.schema import CLASSES
from jiadf.evaluation.calibration import (
    ERRORS,
    binned_gap,
    class_calibration,
    error_draws,
    error_intervals,
    paired_differences,
    reliability_bands,
    simulated_ece,
    weighted_errors,
)
from jiadf.evaluation.recalibration import METHODS, adjust_prior, fit_recalibration
from jiadf.evaluation.weighted import stratified_weights
from jiadf.results import RESULTS_DIR, truth_codes
from jiadf.studies import decisions
from jiadf.training.grid import FoldPrediction, Grid, fold_predictions

SYSTEMS = decisions.SYSTEMS
PAPER_ECE = 0.032
# The hidden test set, and the fifth of the training set that the paper validates on: it does not
# say which of them its ECE is of.
SIZES = (479, 1048)
BINS = (5, 10, 15, 20, 30, 50)
OVERCONFIDENCE = tuple(np.arange(0, 0.125, 0.0125).round(4))
Key = tuple[str, str, str]  # system, source, method


def study(
    grid: Grid, folder: str | Path, lesions: pd.DataFrame, cache_dir: str | Path | None, *,
    seed: int = 0, n: int = 1000,
) -> dict[str, pd.DataFrame]:  # fmt: skip
    """Measure calibration and decisions; ``n`` is the number of bootstrap resamples."""
    folds = fold_predictions(grid, folder, lesions, cache_dir, systems=SYSTEMS)
    truth = truth_codes(lesions["label"])
    pooled = pool(folds, truth, seed)
    as_validation = {("ji-adf", "fused", "none"): validation_view(folds, truth)}
    weights = stratified_weights(truth, n, seed)
    draws = {key: error_draws(truth, seeds, weights) for key, seeds in pooled.items()}
    chosen = error_draws(truth, as_validation["ji-adf", "fused", "none"], weights)
    optimism = paired_differences(chosen, draws["ji-adf", "fused", "none"])
    tables = {
        "errors": error_table(truth, pooled, draws, seed),
        "differences": difference_table(draws),
        "reliability": reliability_table(truth, pooled, weights),
        "classes": _labelled(
            (key, class_calibration(truth, seeds)) for key, seeds in _shown(pooled)
        ),
        "binning": binning_table(truth, pooled, seed),
        "plausible": plausible_table(pooled["ji-adf", "fused", "temperature"][0], seed),
        "optimism": optimism,
        "shift": shift_table(truth, pooled, weights),
    }
    return tables | decisions.tables(folds, truth, pooled, weights, seed)


def pool(folds: Sequence[FoldPrediction], truth: np.ndarray, seed: int = 0) -> dict:
    """Return {(system, source, method): [(N, K) a seed]}, every lesion predicted as a test lesion.

    Sources are ``fused``, the branches, and ``average``, their mean; ``fused`` alone is
    recalibrated.
    """
    pooled: dict[Key, dict[int, np.ndarray]] = {}

    def put(key: Key, fold: FoldPrediction, prob: np.ndarray) -> None:
        whole = pooled.setdefault(key, {}).setdefault(fold.run.seed, np.full_like(prob, np.nan))
        whole[fold.test_rows] = prob[fold.test_rows]

    for fold in folds:
        system, prob = fold.run.system, fold.prediction.posterior
        branches = {
            name: softmax(logits.astype(np.float64), axis=1)
            for name, logits in fold.prediction.logits.items()
        }
        sources = {"fused": prob} | branches | {"average": np.mean(list(branches.values()), 0)}
        for source, given in sources.items():
            put((system, source, "none"), fold, given)
        for method in METHODS:
            own = prob[fold.val_rows], truth[fold.val_rows]
            put((system, "fused", method), fold, fit_recalibration(method, *own, seed)(prob))
    return {key: list(seeds.values()) for key, seeds in pooled.items()}


def validation_view(folds: Sequence[FoldPrediction], truth: np.ndarray) -> list[np.ndarray]:
    """Return ji-adf's predictions of every lesion by the run that it chose the epoch of."""
    seeds: dict[int, np.ndarray] = {}
    for fold in folds:
        if fold.run.system == "ji-adf":
            prob = fold.prediction.posterior
            whole = seeds.setdefault(fold.run.seed, np.full_like(prob, np.nan))
            whole[fold.val_rows] = prob[fold.val_rows]
    return list(seeds.values())


def _labelled(parts: Iterator[tuple[Key, pd.DataFrame]]) -> pd.DataFrame:
    tables = []
    for (system, source, method), table in parts:
        table = table.copy()
        for place, (name, value) in enumerate(
            {"system": system, "source": source, "method": method}.items()
        ):
            table.insert(place, name, value)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _shown(pooled: dict) -> list:
    """Pick what has a diagram of its own: sources of ji-adf, methods, and every fused decision."""
    return [
        (key, seeds) for key, seeds in pooled.items() if key[0] == "ji-adf" or key[1] == "fused"
    ]


def error_table(truth: np.ndarray, pooled: dict, draws: dict, seed: int = 0) -> pd.DataFrame:
    """Every error with its interval; beside an ECE, what perfect calibration would score."""
    tables = []
    for key, seeds in pooled.items():
        table = error_intervals(draws[key])
        table[["perfect_low", "perfect_high"]] = np.nan
        confidence = seeds[0].max(1)
        for metric, scheme in {"ece": "width", "ece_mass": "mass"}.items():
            _, measured = simulated_ece(confidence, len(truth), scheme=scheme, n=200, seed=seed)
            at = table["metric"] == metric
            table.loc[at, ["perfect_low", "perfect_high"]] = np.quantile(measured, [0.025, 0.975])
        tables.append((key, table.assign(lesions=len(truth), seeds=len(seeds))))
    return _labelled(iter(tables))


def comparisons() -> list[tuple[str, Key, Key]]:
    """Return the pairs that the page asks about: the question, the one, and its reference."""
    ours = ("ji-adf", "fused", "none")
    pairs = [
        ("recalibration", (system, "fused", method), (system, "fused", "none"))
        for system in SYSTEMS
        for method in METHODS
    ]
    pairs += [
        ("gate", ours, ("ji-adf", source, "none"))
        for source in ("image", "metadata", "joint", "average")
    ]
    for method in ("none", "temperature", "vector"):
        fused = ("ji-adf", "fused", method)
        pairs.append(("gate", fused, ("ji-mmfa", "fused", method)))
        pairs.append(("weighting", fused, ("unweighted", "fused", method)))
    return pairs


def difference_table(draws: dict) -> pd.DataFrame:
    """Paired differences of the :func:`comparisons`."""
    tables = []
    for question, key, reference in comparisons():
        if key not in draws or reference not in draws:
            continue  # a branch that this grid's modalities do not have
        table = paired_differences(draws[key], draws[reference])
        names = ("system", "source", "method")
        columns = dict(zip(names, key, strict=True))
        columns |= {f"reference_{n}": v for n, v in zip(names, reference, strict=True)}
        tables.append(pd.DataFrame({"question": question, **columns, **table}))
    return pd.concat(tables, ignore_index=True)


def reliability_table(truth: np.ndarray, pooled: dict, weights: np.ndarray) -> pd.DataFrame:
    """Reliability diagrams, in bins of equal width, and of equal mass where nothing is fitted."""
    parts = []
    for key, seeds in _shown(pooled):
        for scheme in ("width", "mass"):
            if scheme == "width" or key[2] == "none":
                table = reliability_bands(truth, seeds, weights, scheme=scheme)
                parts.append((key, table.assign(scheme=scheme)))
    return _labelled(iter(parts))


def binning_table(
    truth: np.ndarray, pooled: dict, seed: int = 0, samples: int = 200
) -> pd.DataFrame:
    """ECE of random samples of the paper's sizes, by bins and scheme; of the first seed."""
    rng = np.random.default_rng(seed)
    rows = []
    for method in ("none", "temperature"):
        prob = pooled["ji-adf", "fused", method][0]
        confidence, right = prob.max(1), prob.argmax(1) == truth
        for size in SIZES:
            replace = len(truth) < size
            picks = [rng.choice(len(truth), size, replace=replace) for _ in range(samples)]
            for scheme, bins in itertools.product(("width", "mass"), BINS):
                values = [binned_gap(confidence[p], right[p], bins, scheme) for p in picks]
                spread = np.quantile(values, [0.025, 0.5, 0.975])
                whole = binned_gap(confidence, right, bins, scheme)
                rows.append((method, size, scheme, bins, whole, *spread))
    columns = ["method", "size", "scheme", "bins", "all_lesions", "low", "median", "high"]
    return pd.DataFrame(rows, columns=columns)


def plausible_table(prob: np.ndarray, seed: int = 0, n: int = 400) -> pd.DataFrame:
    """Which ECE is measured, for which true error; with the confidences of `prob` (N, K)."""
    rows = []
    for size in SIZES:
        for bins in (5, 10, 15):
            for shift in OVERCONFIDENCE:
                true_error, measured = simulated_ece(
                    prob.max(1), size, overconfidence=shift, bins=bins, n=n, seed=seed
                )
                spread = np.quantile(measured, [0.025, 0.5, 0.975])
                rows.append((size, bins, true_error, *spread, (measured <= PAPER_ECE).mean()))
    columns = ["size", "bins", "true_error", "low", "median", "high", "at_most_paper"]
    return pd.DataFrame(rows, columns=columns)


def hidden_mix() -> np.ndarray:
    """Class frequencies of the hidden test set, (11,), recovered from the paper's Table 5."""
    counts = pd.read_csv(RESULTS_DIR / "hidden_test_counts.csv", index_col="Class")
    counts = counts["Test positives"].reindex(list(CLASSES))
    return (counts / counts.sum()).to_numpy()


def shift_table(truth: np.ndarray, pooled: dict, weights: np.ndarray) -> pd.DataFrame:
    """Errors if each class were as frequent as in the hidden test set, by weighting lesions.

    Method ``vector + prior`` moves the recalibrated probabilities to that mix by Bayes' rule. A
    class that these lesions lack is left out of the mix.
    """
    own = np.bincount(truth, minlength=len(CLASSES)) / len(truth)
    new = np.where(own > 0, hidden_mix(), 0.0)
    new = new / new.sum()
    importance = (new / np.where(own > 0, own, 1))[truth]
    mixes = {"these lesions": np.ones(len(truth)), "hidden test set": importance}
    tables = []
    for system in ("ji-adf", "unweighted"):
        methods = {m: pooled[system, "fused", m] for m in ("none", "temperature", "vector")}
        methods["vector + prior"] = [adjust_prior(p, own, new) for p in methods["vector"]]
        for method, seeds in methods.items():
            for mix, factor in mixes.items():
                stacked = np.vstack([factor, weights * factor])
                parts = [weighted_errors(truth, p, stacked, classwise=False) for p in seeds]
                kept = [name for name in ERRORS if name in parts[0]]
                draws = {name: np.stack([part[name] for part in parts]) for name in kept}
                columns = {"system": system, "method": method, "mix": mix}
                tables.append(error_intervals(draws).assign(**columns))
    return pd.concat(tables, ignore_index=True)

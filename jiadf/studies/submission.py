"""What an entrant would gain: ensembles, test-time views, and cuts moved to 0.5.

The variants, what is honest about them, and how cuts are fitted, are those of
:mod:`jiadf.variants`; all figures are out of fold.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from jiadf.data.schema import CLASSES
from jiadf.evaluation.metrics import bootstrap_intervals, bootstrap_per_class
from jiadf.evaluation.paired_tests import compare_pairs
from jiadf.evaluation.thresholds import choose_strength, fit_thresholds, renormalised
from jiadf.training.grid import Grid
from jiadf.variants import FIXED_STRENGTH, Mapped, Scored, collect_variants, map_variant
from jiadf.verdicts import sentence

METRICS = ("macro_f1_at_half", "macro_f1", "macro_auc", "macro_ap", "nll", "brier", "ece")
VARIANT_METRICS = ("macro_f1_at_half", "macro_auc", "nll", "ece")


def study(
    grid: Grid,
    folder: str | Path,
    lesions: pd.DataFrame,
    cache_dir: str | Path | None = None,
    *,
    seed: int = 0,
    n: int = 500,
) -> dict[str, pd.DataFrame]:
    """Measure every system of a finished out-of-fold grid.

    Parameters
    ----------
    grid, folder, lesions, cache_dir
        The grid, its run folders, the table it was trained on, and the caches.
    seed
        Of the resamples.
    n
        Resamples of an interval, and exchanges of a test.

    Returns
    -------
    dict of DataFrames
        ``scores``, ``differences``, ``mapping``, ``thresholds``, ``calibration`` and ``benchmark``;
        see the functions that make them.
    """
    tables: dict[str, list[pd.DataFrame]] = {}
    for system, scored in collect_variants(grid, folder, lesions, cache_dir).items():
        mapped = {name: map_variant(scored, name) for name in scored.variants}
        made = {
            "scores": score_table(scored, mapped, n, seed),
            "differences": difference_table(scored, mapped, n, seed),
            "mapping": mapping_table(scored, mapped, n, seed),
            "thresholds": threshold_table(scored),
            "calibration": calibration_table(scored, mapped, n, seed),
            "benchmark": benchmark_table(scored, mapped, n, seed),
        }
        for name, table in made.items():
            table.insert(0, "system", system)  # of the grid
            tables.setdefault(name, []).append(table)
    return {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}


def _intervals(
    truth: np.ndarray, seeds: Sequence[np.ndarray], names: Sequence[str], n: int, seed: int
) -> pd.DataFrame:
    """Means over seeds of the values and of the ends of their 95 % intervals, a row a metric."""
    stacked = pd.concat([bootstrap_intervals(truth, prob, n, seed) for prob in seeds])
    grouped = stacked.groupby("metric")
    table = grouped[["value", "low", "high"]].mean().loc[list(names)]
    table["sd"] = grouped["value"].std(ddof=1) if len(seeds) > 1 else np.nan
    return table.reset_index().assign(seeds=len(seeds), lesions=len(truth))


def score_table(scored: Scored, mapped: Mapping[str, Mapped], n: int, seed: int) -> pd.DataFrame:
    """Score each variant as it is and with its cuts moved: a row a variant, mapping and metric.

    Moved numbers have their F1 alone: their ranking is that of the posterior within a fold, and
    they do not sum to one.
    """
    tables = []
    for variant, seeds in scored.variants.items():
        for name, arrays in (("none", seeds), ("chosen", mapped[variant].numbers["chosen"])):
            metrics = METRICS if name == "none" else METRICS[:2]
            made = _intervals(scored.truth, arrays, metrics, n, seed)
            tables.append(made.assign(variant=variant, mapping=name))
    return pd.concat(tables, ignore_index=True)


def difference_table(
    scored: Scored, mapped: Mapping[str, Mapped], n: int, seed: int
) -> pd.DataFrame:
    """Compare variants in pairs, and each variant with itself after its cuts moved.

    The columns of :func:`jiadf.evaluation.paired_tests.compare_pairs`, with the system compared
    called `variant`, and `question`: ``variant`` or ``mapping``.
    """
    count = max(map(len, scored.variants.values()))

    def repeated(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return list(arrays) if len(arrays) == count else [arrays[0]] * count

    systems = {name: repeated(seeds) for name, seeds in scored.variants.items()}
    pairs = [(name, "single") for name in systems if name != "single"]
    if {"seeds", "seeds + views"} <= systems.keys():
        pairs.append(("seeds + views", "seeds"))
    tables = []
    if pairs:
        table = compare_pairs(scored.truth, systems, pairs, VARIANT_METRICS, n, seed)
        tables.append(table.assign(question="variant"))
    moved = {f"{name}, moved": repeated(mapped[name].numbers["chosen"]) for name in scored.variants}
    pairs = [(f"{name}, moved", name) for name in scored.variants]
    table = compare_pairs(scored.truth, systems | moved, pairs, METRICS[:1], n, seed)
    tables.append(table.assign(question="mapping"))
    return pd.concat(tables, ignore_index=True).rename(columns={"system": "variant"})


def mapping_table(scored: Scored, mapped: Mapping[str, Mapped], n: int, seed: int) -> pd.DataFrame:
    """Macro-F1 at 0.5 by how the cuts were fitted, of the single network and of the seeds."""
    tables = []
    for variant in dict.fromkeys(["single", scored.judged]):
        ways = {"none": scored.variants[variant], **mapped[variant].numbers}
        for way, arrays in ways.items():
            made = _intervals(scored.truth, arrays, METRICS[:1], n, seed)
            tables.append(made.assign(variant=variant, fitted=way))
    return pd.concat(tables, ignore_index=True)


def threshold_table(scored: Scored) -> pd.DataFrame:
    """Cuts of each class on all out-of-fold predictions, and how far folds move them.

    Columns `label`, `lesions`, `own`, `common`, `chosen` (strength by cross-validation), `strength`
    and the `low`est and `high`est chosen cut when each fold in turn is left out.
    """
    truth, folds = scored.truth, scored.folds
    prob = scored.variants[scored.judged][0]
    strength = FIXED_STRENGTH
    if len(np.unique(folds)) > 2:
        strength = choose_strength(truth, prob, folds)
    fits = {s: fit_thresholds(truth, prob, s) for s in (0.0, np.inf, strength)}
    without = [
        fit_thresholds(truth[folds != fold], prob[folds != fold], strength).values
        for fold in np.unique(folds)
    ]
    return pd.DataFrame(
        {
            "label": CLASSES,
            "lesions": fits[0.0].lesions,
            "own": fits[0.0].values,
            "common": fits[np.inf].values,
            "chosen": fits[strength].values,
            "strength": strength,
            "low": np.min(without, axis=0),
            "high": np.max(without, axis=0),
        }
    )


def calibration_table(
    scored: Scored, mapped: Mapping[str, Mapped], n: int, seed: int
) -> pd.DataFrame:
    """Show what moving the cuts costs: calibration of the numbers, moved, and made to sum to one.

    Columns `numbers` (``posterior``, ``moved``, ``moved, renormalised``), `metric`, `value`, `low`,
    `high`. Of numbers that do not sum to one, `nll` means nothing and is left out; `binary_nll`,
    the sum over classes of the NLL of the question "this class or not", exists for all three, and
    so does `brier`. `mean_sum` is the mean over lesions of the sum of the eleven numbers.
    """
    variant = scored.judged
    moved = mapped[variant].numbers["chosen"]
    kinds = {
        "posterior": scored.variants[variant],
        "moved": moved,
        "moved, renormalised": [renormalised(prob) for prob in moved],
    }
    names = ["ece", "brier", "macro_f1_at_half", "top1_accuracy", "nll"]
    tables = []
    for kind, arrays in kinds.items():
        shown = names[:-1] if kind == "moved" else names
        means = {
            "mean_sum": [prob.sum(1).mean() for prob in arrays],
            "binary_nll": [binary_nll(scored.truth, prob) for prob in arrays],
        }
        extra = pd.DataFrame({"metric": means.keys(), "value": map(np.mean, means.values())})
        made = pd.concat([_intervals(scored.truth, arrays, shown, n, seed), extra])
        tables.append(made.assign(variant=variant, numbers=kind))
    columns = ["variant", "numbers", "metric", "value", "low", "high"]
    return pd.concat(tables, ignore_index=True)[columns]


def binary_nll(truth: np.ndarray, prob: np.ndarray) -> float:
    """Mean over lesions of the NLL of each class against the rest, summed over classes."""
    present = truth[:, None] == np.arange(prob.shape[1])
    of_truth = np.maximum(np.where(present, prob, 1 - prob), np.finfo(float).eps)
    return float(-np.log(of_truth).sum(1).mean())


def benchmark_table(
    scored: Scored, mapped: Mapping[str, Mapped], n: int, seed: int
) -> pd.DataFrame:
    """Score each class by the live benchmark's nine metrics, before and after moving the cuts."""
    variant = scored.judged
    tables = []
    for name, arrays in (
        ("none", scored.variants[variant]), ("chosen", mapped[variant].numbers["chosen"])
    ):  # fmt: skip
        made = bootstrap_per_class(scored.truth, arrays[0], n, seed)
        tables.append(made.assign(variant=variant, mapping=name))
    return pd.concat(tables, ignore_index=True)


def benchmark_layout(table: pd.DataFrame) -> pd.DataFrame:
    """Lay out one system's rows of `benchmark` as the paper's Table 5: metrics by classes.

    Parameters
    ----------
    table
        Rows of one system and mapping.

    Returns
    -------
    DataFrame
        Rows the nine metrics, columns ``mean`` and the classes. The mean leaves out what does not
        exist, as :func:`jiadf.evaluation.metrics.per_class_metrics` does.
    """
    if table.duplicated(["metric", "label"]).any():
        raise ValueError("a class has several rows for a metric: choose one system and mapping.")
    order = list(dict.fromkeys(table["metric"]))
    wide = table.pivot(index="metric", columns="label", values="value").loc[order, list(CLASSES)]
    wide.insert(0, "mean", wide.mean(axis=1))
    return wide


def tell(tables: Mapping[str, pd.DataFrame], where: str, alpha: float = 0.05) -> list[str]:
    """Say in sentences what the tables of :func:`study` show, `where` being e.g. "on MILK10k"."""
    differences = tables["differences"]
    system = differences["system"].iloc[0]
    own = differences[(differences["system"] == system) & (differences["question"] == "variant")]
    own = own[own["variant"] != "two folds"]  # flattered by the choice of the epoch
    own = own.drop(columns="system").rename(columns={"variant": "system"})
    told = [
        f"{where[0].upper()}{where[1:]}, {system}. {sentence(own, metric, alpha)}"
        for metric in ("macro_f1_at_half", "nll")
        if len(own)
    ]
    for name, rows in tables["mapping"].groupby("system", sort=False):
        told.append(_gain(name, rows, differences, where, alpha))
    cost = tables["calibration"].query("system == @system").set_index(["numbers", "metric"])
    value = cost["value"]
    told.append(
        f"{where[0].upper()}{where[1:]}, the moved numbers of a lesion of {system} sum to "
        f"{value['moved', 'mean_sum']:.1f} on average and are no probabilities: their ECE is "
        f"{value['moved', 'ece']:.2f}, and that of the posterior {value['posterior', 'ece']:.2f}. "
        f"Divided by their sum they have an ECE of {value['moved, renormalised', 'ece']:.2f}, but "
        f"a macro-F1 at 0.5 of {value['moved, renormalised', 'macro_f1_at_half']:.2f} only: submit "
        "the moved numbers; where a probability is wanted, take the posterior, or recalibrate it."
    )
    return told


def _gain(
    system: str, rows: pd.DataFrame, differences: pd.DataFrame, where: str, alpha: float
) -> str:
    variant = rows["variant"].iloc[-1]
    value = rows[rows["variant"] == variant].set_index("fitted")["value"]
    pair = (differences["system"] == system) & (differences["reference"] == variant)
    row = differences[pair & (differences["question"] == "mapping")].iloc[0]
    stands = "stands" if row["p_holm"] < alpha else "could be chance"
    return (
        f"{where[0].upper()}{where[1:]}, moving the cuts takes the macro-F1 at 0.5 of {system} "
        f"({variant}) from {value['none']:.2f} to {value['chosen']:.2f} in nested "
        f"cross-validation; the difference of {row['difference']:+.2f} (95 % interval "
        f"{row['low']:+.2f} to {row['high']:+.2f}) {stands}. Judged on the lesions they were "
        f"fitted on, the classes' own cuts would have seemed to reach {value['in sample']:.2f}."
    )

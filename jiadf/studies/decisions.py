"""What a clinic would do with the probabilities: leave cases, ask for sets, screen for malignancy.

Thresholds are set on a run's validation fold and judged on its test fold. That fold also chose the
run's epoch, which conformal prediction's promise does not allow for: ``halves`` sets the threshold
on one half of the test fold instead and judges both thresholds on the other half.

``risk``, ``selective``
    Risk-coverage curves, and the area under them.
``coverage``, ``coverage_by_class``, ``coverage_summary``, ``halves``
    Conformal sets, a row a run; by class; all runs together; and the check described above.
``operating``
    Sensitivity and specificity for malignancy.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score

from jiadf.data.schema import CLASSES, MALIGNANT
from jiadf.evaluation.decisions import (
    MALIGNANT_WITHOUT_AKIEC,
    aurc,
    class_sum,
    conformal_sets,
    coverage_interval,
    fit_conformal,
    risk_coverage,
    sensitivity_threshold,
    summed_coverage_interval,
    weighted_risk,
)
from jiadf.evaluation.weighted import ratio, stratified_weights
from jiadf.results import truth_codes
from jiadf.training.grid import FoldPrediction, Grid, fold_predictions

SYSTEMS = ("ji-adf", "ji-mmfa", "unweighted")
ALPHAS = (0.05, 0.1, 0.2)
KINDS = {  # of conformal sets: arguments of fit_conformal
    "marginal": {},
    "marginal, cumulative": {"score": "cumulative"},
    "by class": {"by_class": True},
    "by class, few pooled": {"by_class": True, "few": "pool"},
}
DEFINITIONS = {"without AKIEC": MALIGNANT_WITHOUT_AKIEC, "with AKIEC": MALIGNANT}
SENSITIVITY, ASSURANCE = 0.95, 0.95
_GRID = np.linspace(0.05, 1, 20)


def study(
    grid: Grid, folder: str | Path, lesions: pd.DataFrame, cache_dir: str | Path | None, *,
    seed: int = 0, n: int = 1000,
) -> dict[str, pd.DataFrame]:  # fmt: skip
    """Measure the decisions alone; :mod:`jiadf.studies.calibration` has them too."""
    from jiadf.studies.calibration import pool  # that module imports this one

    folds = fold_predictions(grid, folder, lesions, cache_dir, systems=SYSTEMS)
    truth = truth_codes(lesions["label"])
    pooled = pool(folds, truth, seed)
    return tables(folds, truth, pooled, stratified_weights(truth, n, seed), seed)


def tables(
    folds: Sequence[FoldPrediction], truth: np.ndarray, pooled: dict, weights: np.ndarray,
    seed: int = 0,
) -> dict[str, pd.DataFrame]:  # fmt: skip
    """Return all tables; ``pooled`` is that of :func:`jiadf.studies.calibration.pool`."""
    risk, selective = selective_tables(truth, pooled, weights)
    coverage = coverage_table(folds, truth)
    return {
        "risk": risk,
        "selective": selective,
        "coverage": coverage,
        "coverage_summary": summarise_coverage(coverage),
        "coverage_by_class": class_coverage_table(folds, truth),
        "halves": halves_table(folds, truth, seed),
        "operating": operating_table(folds, truth, weights),
    }


def selective_tables(
    truth: np.ndarray, pooled: dict, weights: np.ndarray
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return risk at 20 coverages, and AURC beside its best for this accuracy and its random."""
    curves, areas = [], []
    for (system, source, method), seeds in pooled.items():
        if source != "fused" or method not in ("none", "temperature", "vector"):
            continue
        columns = {"system": system, "method": method}
        values, drawn, drawn_areas, bounds = [], [], [], []
        for prob in seeds:
            wrong, confidence = prob.argmax(1) != truth, prob.max(1)
            curve = risk_coverage(wrong, confidence)
            values.append(np.interp(_GRID * len(truth), np.arange(1, len(truth) + 1), curve))
            at, area = weighted_risk(wrong, confidence, weights, _GRID)
            drawn.append(at)
            drawn_areas.append(area)
            bounds.append((aurc(wrong, confidence), aurc(wrong, ~wrong), wrong.mean()))
        low, high = np.quantile(np.mean(drawn, 0), [0.025, 0.975], axis=0)
        table = {"coverage": _GRID, "risk": np.mean(values, 0), "low": low, "high": high}
        curves.append(pd.DataFrame(columns | table))
        value, best, random = np.mean(bounds, 0)
        low, high = np.quantile(np.mean(drawn_areas, 0), [0.025, 0.975])
        row = {"aurc": value, "low": low, "high": high, "best": best, "random": random}
        areas.append(columns | row)
    return pd.concat(curves, ignore_index=True), pd.DataFrame(areas)


def coverage_table(folds: Sequence[FoldPrediction], truth: np.ndarray) -> pd.DataFrame:
    """Judge conformal sets run by run, with the binomial and the beta-binomial interval."""
    rows = []
    for fold in folds:
        prob, val, test = fold.prediction.posterior, fold.val_rows, fold.test_rows
        for alpha in ALPHAS:
            exact = coverage_interval(len(val), len(test), alpha)
            plain = coverage_interval(len(val), len(test), alpha, exact=False)
            for kind, arguments in KINDS.items():
                thresholds = fit_conformal(prob[val], truth[val], alpha, **arguments)
                sets = conformal_sets(prob[test], thresholds, arguments.get("score", "threshold"))
                covered, sizes = sets[np.arange(len(test)), truth[test]], sets.sum(1)
                rows.append(
                    {
                        "system": fold.run.system, "seed": fold.run.seed, "fold": fold.run.fold,
                        "kind": kind, "alpha": alpha, "calibration": len(val),
                        "lesions": len(test), "coverage": covered.mean(),
                        "low": exact[0], "high": exact[1],
                        "binomial_low": plain[0], "binomial_high": plain[1],
                        "mean_size": sizes.mean(), "single": (sizes == 1).mean(),
                        "empty": (sizes == 0).mean(),
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def summarise_coverage(coverage: pd.DataFrame) -> pd.DataFrame:
    """Put the runs of :func:`coverage_table` together: a row a system, kind and alpha.

    `low` and `high` bound the coverage of one seed's folds together if the promise holds.
    """
    rows = []
    for (system, kind, alpha), runs in coverage.groupby(["system", "kind", "alpha"], sort=False):
        of_seed = runs[runs["seed"] == runs["seed"].iloc[0]]
        counts = list(zip(of_seed["calibration"], of_seed["lesions"], strict=True))
        low, high = summed_coverage_interval(counts, alpha)
        inside = runs["coverage"].between(runs["low"], runs["high"])
        plain = runs["coverage"].between(runs["binomial_low"], runs["binomial_high"])
        means = np.average(
            runs[["coverage", "mean_size", "single", "empty"]], 0, weights=runs["lesions"]
        )
        rows.append(
            {
                "system": system, "kind": kind, "alpha": alpha, "coverage": means[0],
                "low": low, "high": high, "runs": len(runs), "inside": inside.sum(),
                "inside_binomial": plain.sum(), "mean_size": means[1], "single": means[2],
                "empty": means[3],
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def class_coverage_table(
    folds: Sequence[FoldPrediction], truth: np.ndarray, alpha: float = 0.1
) -> pd.DataFrame:
    """Coverage within each class, of ji-adf's sets.

    ``bounded`` is the share of runs with a finite threshold of the class's own; the interval, of
    the promise within the class, stands where it is made.
    """
    chosen = [fold for fold in folds if fold.run.system == "ji-adf"]
    rows = []
    for kind in ("marginal", "by class", "by class, few pooled"):
        covered = np.zeros(len(CLASSES))
        sizes, seen, bounded = covered.copy(), covered.copy(), covered.copy()
        for fold in chosen:
            prob, val, test = fold.prediction.posterior, fold.val_rows, fold.test_rows
            sets = conformal_sets(
                prob[test], fit_conformal(prob[val], truth[val], alpha, **KINDS[kind])
            )
            of = truth[test]
            seen += np.bincount(of, minlength=len(CLASSES))
            covered += np.bincount(of, sets[np.arange(len(test)), of], len(CLASSES))
            sizes += np.bincount(of, sets.sum(1), len(CLASSES))
            bounded += np.isfinite(fit_conformal(prob[val], truth[val], alpha, by_class=True))
        first = [fold for fold in chosen if fold.run.seed == chosen[0].run.seed]
        for k, label in enumerate(CLASSES):
            counts = [
                ((truth[f.val_rows] == k).sum(), (truth[f.test_rows] == k).sum()) for f in first
            ]
            promised = kind == "by class"
            low, high = summed_coverage_interval(counts, alpha) if promised else (np.nan, np.nan)
            rows.append(
                {
                    "kind": kind, "alpha": alpha, "label": label,
                    "lesions": int((truth == k).sum()),
                    "coverage": float(ratio(covered[k], seen[k], np.nan)),
                    "low": low, "high": high,
                    "mean_size": float(ratio(sizes[k], seen[k], np.nan)),
                    "bounded": bounded[k] / len(chosen),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def halves_table(
    folds: Sequence[FoldPrediction], truth: np.ndarray, seed: int = 0, alpha: float = 0.1,
    splits: int = 20,
) -> pd.DataFrame:  # fmt: skip
    """Coverage of ji-adf's marginal sets, threshold from the validation fold or from half the test.

    Both are judged on the other half of the test fold, over random halves. A row a fold, mean over
    seeds, and a last row ``all`` with the difference's t interval over folds.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for fold in (fold for fold in folds if fold.run.system == "ji-adf"):
        prob, val = fold.prediction.posterior, fold.val_rows
        from_validation = fit_conformal(prob[val], truth[val], alpha)
        for _ in range(splits):
            shuffled = rng.permutation(fold.test_rows)
            half, other = np.array_split(shuffled, 2)
            from_half = fit_conformal(prob[half], truth[half], alpha)
            judged = (
                conformal_sets(prob[other], thresholds)[np.arange(len(other)), truth[other]].mean()
                for thresholds in (from_validation, from_half)
            )
            rows.append((str(fold.run.fold), *judged))
    table = pd.DataFrame(rows, columns=["fold", "validation", "half"])
    table = table.groupby("fold", as_index=False).mean()
    table["difference"] = table["validation"] - table["half"]
    mean, count = table.drop(columns="fold").mean(), len(table)
    spread = table["difference"].std(ddof=1) / np.sqrt(count) * student.ppf(0.975, count - 1)
    last = {"fold": "all", **mean, "low": mean["difference"] - spread}
    last["high"] = mean["difference"] + spread
    return pd.concat([table, pd.DataFrame([last])], ignore_index=True)


def operating_table(
    folds: Sequence[FoldPrediction], truth: np.ndarray, weights: np.ndarray
) -> pd.DataFrame:
    """Screen for malignancy: thresholds from the validation folds, judged on the test folds.

    Rules: ``half`` calls at 0.5; ``reached`` has the wanted sensitivity on the validation lesions;
    ``assured`` is lowered until other lesions have it in 95 of 100 draws.
    """
    rows = []
    for definition, members in DEFINITIONS.items():
        positive = np.isin(truth, [CLASSES.index(name) for name in members])
        for system in SYSTEMS:
            runs = [fold for fold in folds if fold.run.system == system]
            scores, thresholds = _malignancy(runs, truth, positive, members)
            if positive.any() and not positive.all():
                for rule, by_seed in thresholds.items():
                    called = [scores[s] >= by_seed[s] for s in scores]
                    rows.append(
                        {"malignant": definition, "system": system, "rule": rule}
                        | _shares(positive, called, weights)
                        | {
                            "auc": np.mean([roc_auc_score(positive, s) for s in scores.values()]),
                            "akiec_called": np.mean(
                                [c[truth == CLASSES.index("AKIEC")].mean() for c in called]
                            ),
                            "threshold": np.mean(list(by_seed.values())),
                            "positives": int(positive.sum()),
                            "negatives": int((~positive).sum()),
                        }
                    )
    return pd.DataFrame(rows)


def _malignancy(runs, truth, positive, members):
    """Return the pooled scores of each seed, and each rule's threshold for each lesion."""
    scores: dict[int, np.ndarray] = {}
    rules: dict[str, dict[int, np.ndarray]] = {"half": {}, "reached": {}, "assured": {}}
    for fold in runs:
        val, test, seed = fold.val_rows, fold.test_rows, fold.run.seed
        score = class_sum(fold.prediction.posterior, members)
        found = score[val][positive[val]]
        chosen = {
            "half": 0.5,
            "reached": sensitivity_threshold(found, SENSITIVITY),
            "assured": max(sensitivity_threshold(found, SENSITIVITY, ASSURANCE), 0.0),
        }
        scores.setdefault(seed, np.empty(len(truth)))[test] = score[test]
        for rule, threshold in chosen.items():
            rules[rule].setdefault(seed, np.empty(len(truth)))[test] = threshold
    return scores, rules


def _shares(positive: np.ndarray, called: list[np.ndarray], weights: np.ndarray) -> dict:
    """Sensitivity and specificity, mean over seeds, with percentile intervals over lesions."""
    result = {}
    mean_called = np.mean(called, 0)
    for name, rows, right in (
        ("sensitivity", positive, mean_called),
        ("specificity", ~positive, 1 - mean_called),
    ):
        drawn = weights[:, rows] @ right[rows] / np.maximum(weights[:, rows].sum(1), 1)
        low, high = np.quantile(drawn, [0.025, 0.975])
        result |= {name: right[rows].mean(), f"{name}_low": low, f"{name}_high": high}
    return result

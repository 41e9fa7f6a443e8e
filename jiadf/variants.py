"""Honest ensembles of a grid's networks, and their predictions after moving the cuts to 0.5.

Every figure is out of fold. For a lesion, only networks count that did not train on it:

==================  =============================================================================
``single``          one network
``single + views``  one network, mean over the views of a lesion (:mod:`jiadf.submission.ensemble`)
``seeds``           mean over the seeds of the lesion's test fold
``seeds + views``   both
``two folds``       one network of the test fold, and the one that chose its epoch on the lesion: a
                    hint of what folds add, and optimistic
==================  =============================================================================

An ensemble of all folds, which an entrant would submit, cannot be judged here: most of its
networks trained on the lesion.

The cuts (:mod:`jiadf.evaluation.thresholds`) of a fold are fitted on the out-of-fold predictions
of the other folds. Those networks did see this fold's lesions in training, though none of their
own predictions is used; the row ``validation`` of the table `mapping` is free even of that, at the
price of a fifth of the lesions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from jiadf.config import Parameters
from jiadf.data.schema import CLASSES
from jiadf.evaluation.thresholds import Thresholds, crossfitted, fit_thresholds, nested_thresholds
from jiadf.submission.ensemble import mean_posterior, predict_views, useful_views
from jiadf.training.grid import Grid, fold_predictions
from jiadf.training.inputs import targets
from jiadf.training.predict import run_inputs
from jiadf.training.run_folder import Run

FIXED_STRENGTH = 50.0  # lesions; of the row `validation`, which has no folds to choose on
TURNED = 4  # views of a finetune run


@dataclass
class Scored:
    """One system's out-of-fold predictions, a (N, K) array a seed, by variant."""

    truth: np.ndarray
    folds: np.ndarray
    variants: dict[str, list[np.ndarray]] = field(default_factory=dict)
    validation: dict[str, list[dict[int, tuple[np.ndarray, np.ndarray]]]] = field(
        default_factory=dict
    )

    @property
    def judged(self) -> str:
        """The variant that the tables on cuts are about: the seeds, where there are several."""
        return "seeds" if "seeds" in self.variants else "single"


def collect_variants(
    grid: Grid,
    folder: str | Path,
    lesions: pd.DataFrame,
    cache_dir: str | Path | None = None,
    systems: Sequence[str] | None = None,
) -> dict[str, Scored]:
    """Predict all lesions with all networks, and put the honest ones of each lesion together."""
    truth, size = targets(lesions), (len(lesions), len(CLASSES))
    shared: dict = {}
    made: dict[str, Scored] = {}
    for system in grid.overrides() if systems is None else systems:
        scored = made[system] = Scored(truth, np.full(len(truth), -1))
        seeds = len(grid.seeds)
        pooled: dict[str, list[np.ndarray]] = {}
        held: dict[str, list[dict]] = {}
        for told in fold_predictions(
            grid, folder, lesions, cache_dir, systems=[system], shared=shared
        ):
            number = grid.seeds.index(told.run.seed)
            scored.folds[told.test_rows] = told.run.fold
            variants = {"single": told.prediction.posterior}
            views = _views(told.run.parameters)
            if views > 1:
                run = Run(told.run.path)
                inputs = run_inputs(
                    run, lesions, cache_dir, views=views, progress=False, shared=shared
                )
                variants["single + views"] = mean_posterior(predict_views(run, inputs, views))
            for name, prob in variants.items():
                pooled.setdefault(name, [np.zeros(size) for _ in range(seeds)])
                held.setdefault(name, [{} for _ in range(seeds)])
                pooled[name][number][told.test_rows] = prob[told.test_rows]
                held[name][number][told.run.fold] = (told.val_rows, prob[told.val_rows])
        scored.variants, scored.validation = _with_ensembles(pooled, held)
    return made


def _views(parameters: Parameters) -> int:
    frozen = parameters.regime == "frozen"
    wanted = (parameters.feature_views if parameters.augment else 1) if frozen else TURNED
    return useful_views(parameters, wanted)


def _with_ensembles(pooled: Mapping, held: Mapping) -> tuple[dict, dict]:
    """Add the ensembles to each seed's predictions of the test and of the validation folds."""
    variants, validation = dict(pooled), dict(held)
    for name in list(pooled):
        if len(pooled[name]) > 1:
            together = name.replace("single", "seeds")
            variants[together] = [np.mean(pooled[name], axis=0)]
            folds = held[name][0]
            means = {
                f: (rows, np.mean([s[f][1] for s in held[name]], axis=0))
                for f, (rows, _) in folds.items()
            }
            validation[together] = [means]
    if len(held["single"][0]) > 1:  # else the folds are one
        variants["two folds"] = []
        for own, by_fold in zip(pooled["single"], held["single"], strict=True):
            other = np.empty_like(own)
            for rows, prob in by_fold.values():
                other[rows] = prob
            variants["two folds"].append((own + other) / 2)
        validation["two folds"] = []
    return variants, validation


@dataclass
class Mapped:
    """One variant's predictions after its cuts moved to 0.5, by how the cuts were fitted."""

    numbers: dict[str, list[np.ndarray]]
    cuts: list[dict[int, Thresholds]]


def map_variant(scored: Scored, variant: str) -> Mapped:
    """Fit cuts in each of the ways that the table `mapping` compares, seed by seed.

    ``chosen`` is the one to use: strength and cuts from the other folds (nested cross-validation).
    ``own`` and ``common`` have a fixed strength, 0 and infinity; ``validation`` is fitted on the
    validation folds of the same networks; ``in sample`` on the very lesions that it is judged on,
    to show how much that flatters.
    """
    truth, folds = scored.truth, scored.folds
    numbers: dict[str, list[np.ndarray]] = {}
    all_cuts = []
    held = scored.validation[variant]
    for place, prob in enumerate(scored.variants[variant]):
        if len(np.unique(folds)) > 2:
            chosen, cuts = nested_thresholds(truth, prob, folds)
        else:
            chosen, cuts = crossfitted(truth, prob, folds, FIXED_STRENGTH), {}
        all_cuts.append(cuts)
        ways = {"chosen": chosen}
        ways["own"] = crossfitted(truth, prob, folds, 0)
        ways["common"] = crossfitted(truth, prob, folds, np.inf)
        if held:
            ways["validation"] = np.empty_like(prob)
            for fold, (rows, val) in held[place].items():
                fitted = fit_thresholds(truth[rows], val, FIXED_STRENGTH)
                ways["validation"][folds == fold] = fitted.apply(prob[folds == fold])
        ways["in sample"] = fit_thresholds(truth, prob, 0).apply(prob)
        for way, mapped in ways.items():
            numbers.setdefault(way, []).append(mapped)
    return Mapped(numbers, all_cuts)

"""The study of the strongest model: nested choices, and steps that build on one another."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiadf.data.schema import CLASSES
from jiadf.evaluation.metrics import summary
from jiadf.evaluation.recalibration import fit_recalibration
from jiadf.selection import mix, select_members
from jiadf.studies.best import MOVED, TARGETS, build_steps, study, tell
from jiadf.training.grid import Grid, collect, fold_predictions, pooled_predictions
from jiadf.variants import Scored, collect_variants
from tests.conftest import TINY

STEPS = ["reference", "chosen", "seeds, views", "ensemble", "recalibrated", *MOVED]


def nll(prob, truth) -> float:
    return float(-np.log(np.maximum(prob[np.arange(len(truth)), truth], 1e-12)).mean())


def draw(members: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(4), size=(members, 30)), rng.integers(4, size=30)


@given(seed=st.integers(0, 50), members=st.integers(1, 5))
def test_selection_is_never_worse_than_its_best_member(seed, members):
    prob, truth = draw(members, seed)
    shares = select_members(prob, truth)
    assert shares.sum() == pytest.approx(1)
    assert nll(mix(prob, shares), truth) <= min(nll(p, truth) for p in prob) + 1e-12


def test_selection_follows_its_description():
    prob, truth = draw(3)
    counts, losses = np.zeros(3), []
    for _ in range(5):
        tried = []
        for member in range(3):
            more = counts + np.eye(3)[member]
            tried.append(nll(np.einsum("m,mnk->nk", more / more.sum(), prob), truth))
        counts[np.argmin(tried)] += 1
        losses.append((min(tried), counts / counts.sum()))
    best = min(losses, key=lambda pair: pair[0])[1]
    np.testing.assert_allclose(select_members(prob, truth, rounds=5), best)


def test_a_useless_member_gets_nothing_and_no_member_is_an_error():
    prob, truth = draw(2)
    prob[1] = 0.97 * np.eye(4)[truth] + 0.0075
    prob[0] = np.full((30, 4), 0.25)
    assert select_members(prob, truth).tolist() == [0, 1]
    with pytest.raises(ValueError, match="at least one member"):
        select_members(prob[:0], truth)


@pytest.fixture(scope="module")
def grid():
    systems = {"reference": {}, "average": {"decision": "average"}, "one view": {"augment": False}}
    base = TINY | {"feature_views": 2, "epochs": 2, "n_folds": 3}
    return Grid(base=base, protocol="out-of-fold", seeds=[0, 1], systems=systems)


@pytest.fixture(scope="module")
def made(grid, folder):
    return grid, folder


@pytest.fixture(scope="module")
def tables(made, lesions, cache_dir):
    return study(*made, lesions, cache_dir, n=30)


def test_the_reference_is_the_first_system_as_its_runs_say(made, tables, lesions):
    scored = pooled_predictions(*made)["reference"]
    expected = []
    for table in scored:
        truth = pd.Categorical(table["label"], categories=CLASSES).codes
        expected.append(summary(truth, table[list(CLASSES)].to_numpy())["macro_auc"])
    steps = tables["steps"].set_index(["system", "metric"])
    assert steps["value"]["reference", "macro_auc"] == pytest.approx(np.mean(expected), abs=1e-4)
    assert list(dict.fromkeys(tables["steps"]["system"])) == STEPS
    assert steps["target"]["ensemble", "ece"] == TARGETS["ece"]
    assert (tables["steps"]["low"] <= tables["steps"]["high"]).all()
    assert (MOVED[0], "nll") not in steps.index


def test_sentences_say_which_targets_are_met(tables):
    steps = tables["steps"].copy()
    steps["target"] = np.where(steps["metric"] == "ece", 1.0, 0.999)
    told = tell(tables | {"steps": steps}, "on made lesions")
    auc = steps.set_index(["system", "metric"])["value"]["recalibrated", "macro_auc"]
    assert told[0].startswith("On made lesions, the last steps reach macro AUC")
    assert f"{auc:.3f}" in told[0]
    assert "of 4 targets 1 are met: calibration error (1.00). Missed: macro AUC (1.00)," in told[1]


def test_each_fold_chooses_by_its_validation_lesions(made, tables, lesions, cache_dir):
    truth = pd.Categorical(lesions["label"], categories=CLASSES).codes
    folds = [f for f in fold_predictions(*made, lesions, cache_dir) if f.run.system == "average"]
    for fold, rows in tables["members"].groupby("fold"):
        assert rows["share"].sum() == pytest.approx(1)
        assert rows.loc[rows["chosen"], "val_nll"].item() == rows["val_nll"].min()
        here = [f for f in folds if f.run.fold == fold]
        assert len(here) == 2
    told = tables["candidates"].set_index("system")
    assert told["folds_chosen"].sum() == 3
    assert told["mean_share"].sum() == pytest.approx(1)
    val = collect(*made, part="val").groupby("system")["nll"].mean()
    pd.testing.assert_series_equal(told["nll"].sort_index(), val, check_names=False)
    assert (truth >= 0).all()


def test_steps_are_put_together_fold_by_fold(made, lesions, cache_dir):
    truth = pd.Categorical(lesions["label"], categories=CLASSES).codes
    candidates = collect_variants(*made, lesions, cache_dir)
    steps, members = build_steps(candidates, truth)
    folds = candidates["reference"].folds
    variant = {n: "seeds" if n == "one view" else "seeds + views" for n in candidates}
    for fold in range(3):
        shares = members[members["fold"] == fold].set_index("system")["share"]
        inside, mixed, held = folds == fold, 0.0, 0.0
        for name, scored in candidates.items():
            mixed = mixed + shares[name] * scored.variants[variant[name]][0][inside]
            val_rows, prob = scored.validation[variant[name]][0][fold]
            held = held + shares[name] * prob
        np.testing.assert_allclose(steps["ensemble"][0][inside], mixed)
        recalibrated = fit_recalibration("vector", held, truth[val_rows])(mixed)
        np.testing.assert_allclose(steps["recalibrated"][0][inside], recalibrated, atol=1e-8)


def test_no_choice_sees_the_fold_that_it_is_for():
    """Garbling a test fold's truth and predictions changes nothing of the other folds' choices."""
    rng = np.random.default_rng(0)
    truth = np.tile(np.arange(4), 30)
    folds = np.repeat(np.arange(3), 40)
    candidates = {}
    for name in "ab":
        prob = rng.dirichlet(np.ones(4), size=120)
        val = {f: (np.flatnonzero(folds == (f + 1) % 3), prob[folds == (f + 1) % 3]) for f in
               range(3)}  # fmt: skip
        candidates[name] = Scored(truth, folds, {"single": [prob]}, {"single": [val]})
    before, members = build_steps(candidates, truth)
    garbled = truth.copy()
    garbled[folds == 0] = rng.permutation(truth[folds == 0])
    after, others = build_steps(candidates, garbled)
    own = members["fold"] == 0
    pd.testing.assert_frame_equal(members[own], others[own])
    for step in STEPS[:-1]:
        np.testing.assert_array_equal(before[step][0][folds == 0], after[step][0][folds == 0])
    assert not members[~own].equals(others[~own])  # fold 2 validates on fold 0

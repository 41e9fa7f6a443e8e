import numpy as np
import pandas as pd
import pytest

from jiadf.evaluation.paired_tests import holm
from jiadf.reaction import (
    HARMLESS,
    INTACT,
    Answers,
    Damage,
    gate_reaction,
    judge_gate,
    reliability,
    say_comparison,
    say_gate,
    say_others,
    score_changes,
)
from jiadf.verdicts import FAILS, HOLDS, UNDECIDED

RNG = np.random.default_rng(0)
TRUTH = RNG.integers(0, 4, 120)
BLIND = Damage("images missing", "images", "missing")
MUTE = Damage("metadata missing", "metadata", "missing")


def branch(strength, seed=0):
    logits = strength * np.eye(11)[TRUTH] + np.random.default_rng(seed).normal(0, 0.6, (120, 11))
    prob = np.exp(logits)
    return prob / prob.sum(1, keepdims=True)


def answers(image=2.0, metadata=1.0, weights=(0.5, 0.2, 0.3), seeds=2):
    """Branches of given strengths under weights that scatter a little from lesion to lesion."""
    branches = np.stack([branch(image), branch(metadata, 1), branch(1.5, 2)], axis=1)
    noise = np.random.default_rng(int(100 * weights[0])).dirichlet(np.ones(3) * 400, 120) - 1 / 3
    mixed = np.clip(np.array(weights) + noise, 1e-6, None)
    mixed /= mixed.sum(1, keepdims=True)
    posterior = (mixed[..., None] * branches).sum(1)
    return Answers(*(np.stack([array] * seeds) for array in (posterior, branches, mixed)))


@pytest.fixture(scope="module")
def both():
    adaptive = {
        INTACT: answers(),
        BLIND: answers(image=0.0, weights=(0.1, 0.4, 0.5)),
        MUTE: answers(metadata=0.0),
    }
    fixed = {what: answers(weights=(1 / 3,) * 3) for what in adaptive}
    for said in fixed.values():
        said.weights[:] = 1 / 3
    return {"ji-adf": adaptive, "ji-mmfa": fixed}


def judged(both):
    gate = gate_reaction(both, TRUTH, "all", n=50)
    gate["p_holm"] = gate.groupby(["system", "branch"])["p"].transform(holm)
    return judge_gate(gate)


def test_changes_are_differences_of_mean_weights_and_cancel(both):
    gate = gate_reaction(both, TRUTH, "all", n=50)
    assert set(gate["system"]) == {"ji-adf"}  # a fixed average has no reaction
    row = gate[(gate["name"] == BLIND.name) & (gate["branch"] == "image")].iloc[0]
    adaptive = both["ji-adf"]
    expected = adaptive[BLIND].weights[..., 0].mean() - adaptive[INTACT].weights[..., 0].mean()
    assert row["change"] == pytest.approx(expected)
    assert row["after"] - row["before"] == pytest.approx(expected)
    assert row["low"] < expected < row["high"]
    truth_of = np.arange(len(TRUTH)), TRUTH
    nll = [-np.log(adaptive[w].branches[0, :, 0][truth_of]).mean() for w in (BLIND, INTACT)]
    assert row["harm"] == pytest.approx(nll[0] - nll[1])
    np.testing.assert_allclose(gate.groupby("name")["change"].sum(), 0, atol=1e-12)


def test_a_gate_that_turns_away_holds_and_one_that_sleeps_does_not(both):
    verdicts = judged(both).set_index("name")["verdict"]
    assert verdicts[BLIND.name] == HOLDS
    assert verdicts[MUTE.name] == FAILS
    assert "holds in part" in say_gate(judged(both))
    assert "1 of 1 in the image branch, 0 of 1 in the metadata branch" in say_gate(judged(both))


def test_the_weaker_sense_is_told_from_the_branches_that_are_not_damaged(both):
    gate = gate_reaction(both, TRUTH, "all", n=50)
    gate["p_holm"] = gate["p"]
    told = say_others(gate)
    # Metadata gain where the images are gone; the image branch gains nothing from mute metadata.
    assert "under 1 of these 2 the branch that reads nothing" in told
    assert "under 0 the joint branch" in told
    assert "no gate" in say_others(gate, "ji-mmfa")


def test_no_harm_asks_for_no_reaction_and_noise_decides_nothing():
    rows = {
        "system": "ji-adf", "branch": "image", "damaged": "image", "before": 0.5, "after": 0.5,
        "name": list("abcd"), "harm": [0.01, 0.5, 0.5, 0.5], "change": [-0.3, -0.02, -0.005, 0.2],
        "low": [-0.4, -0.06, -0.008, 0.1], "high": [-0.2, 0.02, -0.002, 0.3],
        "p_holm": [0.0, 0.4, 0.0, 0.0],
    }  # fmt: skip
    table = judge_gate(pd.DataFrame(rows))
    assert table["verdict"].tolist() == [HARMLESS, UNDECIDED, FAILS, FAILS]
    assert "does not hold for ji-adf. 3 of 4 kinds" in say_gate(table)
    assert "no gate" in say_gate(table, "ji-mmfa")


def test_scores_are_paired_and_the_held_gate_keeps_the_intact_weights(both):
    scores, comparisons = score_changes(both, TRUTH, "all", n=50)
    nll = scores[scores["metric"] == "nll"].set_index(["system", "name"])
    row = nll.loc["ji-adf", BLIND.name]
    truth_of = np.arange(len(TRUTH)), TRUTH
    assert row["value"] == pytest.approx(
        -np.log(both["ji-adf"][BLIND].posterior[0][truth_of]).mean()
    )
    assert row["difference"] == pytest.approx(row["value"] - nll.loc["ji-adf", INTACT]["value"])
    assert row["low"] < row["difference"] < row["high"]
    held = comparisons[comparisons["reference"] == "ji-adf, gate held"]
    assert INTACT not in set(held["name"])
    held = held[held["metric"] == "nll"].set_index("name")
    assert held.loc[BLIND.name, "difference"] < 0  # turning away from noise helps
    weights = both["ji-adf"][INTACT].weights[0][..., None]
    mixed = (weights * both["ji-adf"][BLIND].branches[0]).sum(1)
    value = nll.loc["ji-adf, gate held", BLIND.name]["value"]
    assert value == pytest.approx(-np.log(mixed[truth_of]).mean())


def test_comparisons_are_counted_by_side(both):
    _, comparisons = score_changes(both, TRUTH, "all", n=50)
    comparisons["p_holm"] = comparisons["p"]
    told = say_comparison(comparisons, "ji-adf", "ji-adf, gate held", "nll")
    assert "Under 2 kinds of damage" in told
    assert "under 1 and the worse under 0" in told
    assert "not compared" in say_comparison(comparisons, "ji-adf", "nobody", "nll")


def test_a_gate_that_knows_the_better_branch_correlates_with_it():
    said = answers()
    of_truth = said.branches[:, np.arange(120), :, TRUTH].swapaxes(0, 1)  # (S, N, b)
    knows = of_truth / of_truth.sum(-1, keepdims=True)
    said.weights[:] = knows
    assert reliability({"ji-adf": {INTACT: said}}, TRUTH)["rho"].item() > 0.8
    said.weights[:] = 1 / 3
    assert reliability({"ji-mmfa": {INTACT: said}}, TRUTH).empty


def test_pairs_and_metrics_are_the_callers(both):
    pairs = [("ji-mmfa", "ji-adf"), ("ji-mmfa", "ji-mmfa, gate held"), ("ji-adf", "nobody")]
    scores, comparisons = score_changes(both, TRUTH, "all", n=20, pairs=pairs, metrics=["nll"])
    assert set(scores["metric"]) == {"nll"}
    asked = comparisons[["system", "reference"]].drop_duplicates()
    assert [tuple(pair) for pair in asked.to_numpy()] == pairs[:2]
    held = comparisons[comparisons["reference"] == "ji-mmfa, gate held"]
    np.testing.assert_allclose(held["difference"], 0, atol=0.02)  # fixed weights: nothing to hold

"""Weights fitted afterwards: against brute force, and where the answer is known."""

import itertools

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from jiadf.evaluation.recalibration import STRENGTHS, mean_nll
from jiadf.stacking import METHODS, choose_strength, evidence, fit_mixture, oracle

K = 4


def branches(n=300, strengths=(1.5, 1.2, 1.8), seed=0):
    """Logits (n, 3, K) of branches that know the class more or less well, and the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, K, n)
    noise = rng.normal(0, 1, (n, len(strengths), K))
    return noise + np.array(strengths)[:, None] * np.eye(K)[truth][:, None], truth


def nll(prob, truth):
    return mean_nll(np.log(prob), truth)


def test_fixed_weights_are_the_best_on_a_grid_of_the_simplex():
    logits, truth = branches()
    mix = fit_mixture("weights", logits, truth)
    posteriors = softmax(logits, axis=-1)
    steps = np.arange(0, 1.0001, 0.02)
    best = min(
        (nll((np.array([a, b, 1 - a - b])[:, None] * posteriors).sum(1), truth), a, b)
        for a, b in itertools.product(steps, steps)
        if a + b <= 1
    )
    assert nll(mix(logits), truth) <= best[0] + 1e-6
    weights = mix.weights(logits)
    np.testing.assert_allclose(weights, weights[:1].repeat(len(truth), 0))
    np.testing.assert_allclose(weights[0, :2], best[1:], atol=0.03)


def test_temperatures_are_the_best_on_a_grid_and_find_what_was_done():
    logits, truth = branches(strengths=(2.0, 2.0))
    hot = logits * np.array([3.0, 0.5])[:, None]
    mix = fit_mixture("weights + temperatures", hot, truth)
    fitted = nll(mix(hot), truth)
    for change in itertools.product((-0.2, 0.0, 0.2), repeat=3):
        scores = mix.offsets + np.array([change[0], 0.0])
        scales = np.exp(mix.log_scales + change[1:])
        prob = (softmax(scores)[:, None] * softmax(hot * scales[:, None], axis=-1)).sum(1)
        assert nll(prob, truth) >= fitted - 1e-6, change
    undone = mix.log_scales[1] - mix.log_scales[0]  # equally good branches, six times apart
    assert undone == pytest.approx(np.log(6), abs=0.4)


def test_a_gate_finds_which_branch_to_trust_on_new_lesions():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, K, 1200)
    confused = rng.random(1200) < 0.5  # this half of the lesions, the first branch says a flat zero
    logits = rng.normal(0, 0.3, (1200, 2, K))
    logits[~confused, 0] += 4 * np.eye(K)[truth[~confused]]
    logits[confused, 1] += 4 * np.eye(K)[truth[confused]]
    fixed, gate = (fit_mixture(m, logits[:600], truth[:600]) for m in ("weights", "gate"))
    weights = gate.weights(logits[600:])
    assert weights[confused[600:], 0].mean() < 0.2 < 0.8 < weights[~confused[600:], 0].mean()
    assert nll(gate(logits[600:]), truth[600:]) < nll(fixed(logits[600:]), truth[600:]) - 0.2


def test_where_nothing_depends_on_the_lesion_the_penalty_keeps_the_gate_from_harm():
    logits, truth = branches(600, strengths=(1.0, 1.0, 1.0))
    fixed, gate = (fit_mixture(m, logits[:200], truth[:200]) for m in ("weights", "gate"))
    assert choose_strength(logits[:200], truth[:200]) >= 1e-2
    assert nll(gate(logits[200:]), truth[200:]) < nll(fixed(logits[200:]), truth[200:]) + 0.01
    assert choose_strength(logits[:7], truth[:7]) == STRENGTHS[0]  # too few to split


def test_average_and_joint_are_what_they_say_and_every_posterior_sums_to_one():
    logits, truth = branches(60)
    posteriors = softmax(logits, axis=-1)
    expected = {"average": posteriors.mean(1), "joint": posteriors[:, -1]}
    for method in METHODS:
        mix = fit_mixture(method, logits.astype(np.float32), truth)
        np.testing.assert_allclose(mix(logits).sum(1), 1)
        if method in expected:
            np.testing.assert_allclose(mix(logits), expected[method])
    with pytest.raises(ValueError, match="no method 'stack'; there are average"):
        fit_mixture("stack", logits, truth)


def test_no_mixture_of_the_branches_as_they_are_beats_the_oracle():
    logits, truth = branches(60)
    bound = oracle(logits, truth)
    of_truth = softmax(logits, axis=-1)[np.arange(60), :, truth]
    np.testing.assert_allclose(bound[np.arange(60), truth], of_truth.max(1))
    for method in ("average", "weights", "gate", "joint"):
        assert nll(fit_mixture(method, logits, truth)(logits), truth) > nll(bound, truth)


def test_a_gate_reads_log_posteriors_and_their_largest():
    logits, _ = branches(5)
    scores = log_softmax(logits, axis=-1)
    read = evidence(logits)
    assert read.shape == (5, 3 * K + 3)
    np.testing.assert_allclose(read[:, : 3 * K].reshape(5, 3, K), scores)
    np.testing.assert_allclose(read[:, 3 * K :], scores.max(-1))

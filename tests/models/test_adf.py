"""Adaptive decision fusion against a transcription of equations (5) and (6)."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jiadf.models.adf import AdaptiveDecisionFusion, fuse_log_posteriors

BRANCHES, CLASSES = 3, 5

extreme_logits = arrays(
    "float32",
    st.tuples(st.integers(1, 4), st.just(BRANCHES), st.just(CLASSES)),
    elements=st.one_of(
        st.floats(-1e4, 1e4, width=32),
        st.sampled_from([-1e4, 0.0, 1e4]),
        st.floats(-5, 5, width=32),
    ),
).map(torch.from_numpy)


def gate(**options) -> AdaptiveDecisionFusion:
    torch.manual_seed(0)
    return AdaptiveDecisionFusion(BRANCHES, CLASSES, **options)


def softmax(values: list[float]) -> list[float]:
    exponentials = [math.exp(value - max(values)) for value in values]
    return [value / sum(exponentials) for value in exponentials]


def gelu(value: float) -> float:
    return 0.5 * value * (1 + math.erf(value / math.sqrt(2)))


def affine(layer: torch.nn.Linear, values: list[float]) -> list[float]:
    weight, bias = layer.weight.tolist(), layer.bias.tolist()
    return [
        sum(w * v for w, v in zip(row, values, strict=True)) + b
        for row, b in zip(weight, bias, strict=True)
    ]


def transcription(module: AdaptiveDecisionFusion, logits: torch.Tensor) -> tuple[list, list]:
    """Equations (5) and (6), a sample, a branch, a class at a time, on probabilities."""
    posteriors, weights = [], []
    for sample in logits.tolist():
        joined = [value for branch in sample for value in branch]
        hidden = [gelu(value) for value in affine(module.gate[0], joined)]
        w = softmax(affine(module.gate[2], hidden))
        branch_posteriors = [softmax(branch) for branch in sample]
        weights.append(w)
        posteriors.append(
            [sum(w[b] * branch_posteriors[b][k] for b in range(BRANCHES)) for k in range(CLASSES)]
        )
    return posteriors, weights


def test_equals_the_transcription_of_equations_5_and_6():
    module = gate(hidden=7)
    logits = torch.randn(6, BRANCHES, CLASSES) * 3
    log_posterior, weights = module(logits)
    expected_posterior, expected_weights = transcription(module, logits)
    torch.testing.assert_close(weights, torch.tensor(expected_weights), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        log_posterior.exp(), torch.tensor(expected_posterior), atol=1e-5, rtol=1e-4
    )


@settings(deadline=None, max_examples=40)
@given(logits=extreme_logits)
def test_weights_and_posterior_are_on_the_simplex_and_finite_both_ways(logits):
    module = gate()
    logits = logits.clone().requires_grad_()
    log_posterior, weights = module(logits)
    ones = torch.ones(len(logits))
    assert torch.isfinite(log_posterior).all()
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(-1), ones, atol=1e-5, rtol=0)
    torch.testing.assert_close(log_posterior.exp().sum(-1), ones, atol=1e-5, rtol=0)
    log_posterior.sum().backward()
    gradients = [logits.grad, *(parameter.grad for parameter in module.parameters())]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@settings(deadline=None, max_examples=20)
@given(order=st.permutations(range(6)))
def test_permuting_samples_permutes_outputs(order):
    module = gate()
    logits = torch.randn(6, BRANCHES, CLASSES)
    log_posterior, weights = module(logits)
    moved_posterior, moved_weights = module(logits[order])
    torch.testing.assert_close(moved_posterior, log_posterior[order])
    torch.testing.assert_close(moved_weights, weights[order])


def test_all_weight_on_one_branch_returns_that_branch():
    logits = torch.randn(4, BRANCHES, CLASSES)
    log_weights = torch.tensor([0.0, -1e8, -1e8]).expand(4, -1)
    torch.testing.assert_close(
        fuse_log_posteriors(log_weights, logits), logits[:, 0].log_softmax(-1)
    )


def test_fusion_ignores_a_constant_added_to_a_branch():
    logits, log_weights = (
        torch.randn(4, BRANCHES, CLASSES),
        torch.randn(4, BRANCHES).log_softmax(-1),
    )
    shifted = logits + torch.tensor([3.0, -7.0, 100.0]).view(1, -1, 1)
    torch.testing.assert_close(
        fuse_log_posteriors(log_weights, shifted),
        fuse_log_posteriors(log_weights, logits),
        atol=1e-4,
        rtol=1e-4,
    )


def test_gradients_are_those_of_finite_differences():
    module = gate(hidden=4).double()
    logits = torch.randn(2, BRANCHES, CLASSES, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, (logits,))


def test_gradient_reaches_every_branch_and_the_gate():
    module = gate()
    logits = torch.randn(4, BRANCHES, CLASSES, requires_grad=True)
    log_posterior, _ = module(logits)
    log_posterior[:, 0].sum().backward()
    assert (logits.grad.abs().sum(dim=(0, 2)) > 0).all()
    assert all(parameter.grad.abs().sum() > 0 for parameter in module.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_does_not_lower_the_precision(dtype):
    module = gate()
    logits = torch.randn(4, BRANCHES, CLASSES) * 50
    with torch.autocast("cpu", dtype=dtype):
        log_posterior, weights = module(logits)
    expected_posterior, expected_weights = module(logits)
    assert log_posterior.dtype == weights.dtype == torch.float32
    assert torch.equal(log_posterior, expected_posterior)
    assert torch.equal(weights, expected_weights)


def test_a_gate_on_other_evidence_weighs_by_it_and_mixes_the_same_way():
    module = gate(hidden=7, in_features=9)
    logits, evidence = torch.randn(4, BRANCHES, CLASSES), torch.randn(4, 9)
    log_posterior, weights = module(logits, evidence)
    for sample in range(4):
        hidden = [gelu(value) for value in affine(module.gate[0], evidence[sample].tolist())]
        expected = torch.tensor(softmax(affine(module.gate[2], hidden)))
        torch.testing.assert_close(weights[sample], expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(log_posterior, fuse_log_posteriors(weights.log(), logits))
    assert torch.equal(module(logits + 1.0, evidence)[1], weights)


def test_one_branch_is_refused():
    with pytest.raises(ValueError, match="num_branches is 1"):
        AdaptiveDecisionFusion(num_branches=1)

"""The objective of equation (7) against a transcription, and the class-weighting choices."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from jiadf.models.configuration import NetworkConfig
from jiadf.models.losses import (
    JointIndividualLoss,
    branch_lambdas,
    class_weights,
)
from jiadf.models.network import JIADF, NetworkOutput

CLASS_WEIGHTINGS = ("none", "balanced", "effective-number")
CLASSES = 4
LABELS = np.array([0] * 10 + [1] * 5 + [2])  # class 3 is absent
NAMES = ("image", "metadata", "joint")
LAMBDAS = {"image": 0.2, "metadata": 0.1, "joint": 0.5}


def output_of(logits: torch.Tensor, decision: str = "adf") -> NetworkOutput:
    """Stack of (B, 3, K) logits -> what a network with these branches returns."""
    branches = dict(zip(NAMES, logits.unbind(1), strict=True))
    if decision == "joint":
        return NetworkOutput(branches["joint"].log_softmax(-1), branches)
    log_weights = torch.tensor([0.5, 0.2, 0.3]).log().expand(len(logits), -1)
    log_posterior = (log_weights[..., None] + logits.log_softmax(-1)).logsumexp(1)
    return NetworkOutput(log_posterior, branches, log_weights.exp(), None, log_weights)


def softmax(values: list[float]) -> list[float]:
    exponentials = [math.exp(value - max(values)) for value in values]
    return [value / sum(exponentials) for value in exponentials]


def transcription(output, target, weights) -> float:
    """Equation (7), a sample at a time, on probabilities."""
    total = 0.0
    for i, y in enumerate(target.tolist()):
        posteriors = {n: softmax(logits[i].tolist()) for n, logits in output.logits.items()}
        if output.weights is None:
            final, counted = posteriors["joint"][y], ("image", "metadata")
        else:
            mix = zip(output.weights[i].tolist(), posteriors.values(), strict=True)
            final, counted = sum(w * posterior[y] for w, posterior in mix), NAMES
        loss = -math.log(final)
        loss += sum(LAMBDAS[name] * -math.log(posteriors[name][y]) for name in counted)
        total += weights[y] * loss
    return total / len(target)


@pytest.mark.parametrize("decision", ["adf", "joint"])
@pytest.mark.parametrize("weighting", CLASS_WEIGHTINGS)
def test_equals_the_transcription_of_equation_7(weighting, decision):
    torch.manual_seed(0)
    output = output_of(torch.randn(8, 3, CLASSES) * 2, decision)
    target = torch.randint(CLASSES, (8,))
    counts = [10, 5, 1, 1]  # the absent class as if seen once
    weights = [1.0] * CLASSES
    if weighting == "balanced":
        weights = [16 / (3 * count) for count in counts]
    elif weighting == "effective-number":
        raw = [(1 - 0.999) / (1 - 0.999**count) for count in counts]
        mean = (10 * raw[0] + 5 * raw[1] + raw[2]) / 16
        weights = [value / mean for value in raw]
    criterion = JointIndividualLoss(LAMBDAS, weighting, LABELS, CLASSES)
    total, _ = criterion(output, target)
    assert total.item() == pytest.approx(transcription(output, target, weights), rel=1e-5)


@pytest.mark.parametrize("decision", ["adf", "joint"])
def test_smoothed_labels_are_a_mean_over_all_classes_labels(decision):
    logits, target = torch.randn(5, 3, 11), torch.randint(11, (5,))
    output = output_of(logits, decision)
    plain = JointIndividualLoss(LAMBDAS)
    smooth, _ = JointIndividualLoss(LAMBDAS, label_smoothing=0.2)(output, target)
    every = [plain(output, torch.full_like(target, k))[0] for k in range(11)]
    expected = 0.8 * plain(output, target)[0] + 0.2 * sum(every) / 11
    torch.testing.assert_close(smooth, expected)


def test_terms_are_the_unweighted_parts_of_the_total():
    output, target = output_of(torch.randn(6, 3, CLASSES)), torch.tensor([0, 1, 2, 3, 0, 1])
    total, terms = JointIndividualLoss(LAMBDAS, num_classes=CLASSES)(output, target)
    assert list(terms) == ["final", *NAMES]
    parts = terms["final"] + sum(LAMBDAS[name] * terms[name] for name in NAMES)
    torch.testing.assert_close(total, parts)
    assert not any(term.requires_grad for term in terms.values())
    for name in NAMES:
        torch.testing.assert_close(
            terms[name], functional.cross_entropy(output.logits[name], target)
        )


def test_a_deciding_joint_head_is_counted_once():
    output, target = (
        output_of(torch.randn(6, 3, CLASSES), "joint"),
        torch.zeros(6, dtype=torch.long),
    )
    total, terms = JointIndividualLoss(LAMBDAS, num_classes=CLASSES)(output, target)
    torch.testing.assert_close(terms["final"], terms["joint"])
    torch.testing.assert_close(
        total, terms["joint"] + 0.2 * terms["image"] + 0.1 * terms["metadata"]
    )


@settings(deadline=None, max_examples=40)
@given(
    labels=st.lists(st.integers(0, 10), min_size=1, max_size=60),
    scheme=st.sampled_from(["balanced", "effective-number"]),
)
def test_weights_are_finite_positive_and_average_one_over_the_samples(labels, scheme):
    weights = class_weights(np.array(labels), scheme)
    assert weights.shape == (11,)
    assert weights.dtype == torch.float32
    assert torch.isfinite(weights).all()
    assert (weights > 0).all()
    assert weights[labels].mean().item() == pytest.approx(1.0, rel=1e-4)
    counts = np.bincount(labels, minlength=11)
    present = [c for c in np.argsort(counts) if counts[c]]
    assert (np.diff(weights[present].numpy()) <= 1e-5).all()  # the rarer, the heavier


@pytest.mark.parametrize("weighting", CLASS_WEIGHTINGS)
def test_extreme_logits_and_absent_classes_stay_finite_both_ways(weighting):
    logits = torch.tensor([1e4, -1e4, 0.0, -1e4]).repeat(4, 3, 1).requires_grad_()
    criterion = JointIndividualLoss(LAMBDAS, weighting, LABELS, CLASSES)
    total, terms = criterion(output_of(logits), torch.arange(4))
    total.backward()
    assert torch.isfinite(total)
    assert all(torch.isfinite(term) for term in terms.values())
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("modalities", ["CDM", "CD", "DM", "M"])
def test_one_step_down_the_gradient_lowers_the_loss_of_a_network(modalities):
    torch.manual_seed(0)
    config = NetworkConfig(
        modalities=modalities,
        image_features=6,
        columns=tuple("abcde"),
        num_classes=CLASSES,
        dropout=0.0,
    )
    model = JIADF(config)
    criterion = JointIndividualLoss(
        branch_lambdas(config.branch_names), "balanced", LABELS, CLASSES
    )
    batch = {"clinical": torch.randn(8, 6), "dermoscopic": torch.randn(8, 6)}
    batch["metadata"] = torch.randn(8, 5)
    target = torch.randint(CLASSES, (8,))
    before, _ = criterion(model(batch), target)
    before.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 1e-2 * parameter.grad
    after, _ = criterion(model(batch), target)
    assert after < before


def test_half_precision_logits_give_a_float32_loss():
    logits = torch.randn(4, 3, CLASSES, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, _ = JointIndividualLoss(LAMBDAS, num_classes=CLASSES)(
            output_of(logits, "joint"), torch.arange(4)
        )
    assert total.dtype == torch.float32


@given(weights=st.tuples(*[st.floats(0, 1 / 3) for _ in range(3)]))
def test_the_auxiliary_total_is_the_same_with_and_without_metadata(weights):
    full = branch_lambdas(("image", "metadata", "joint"), *weights)
    images = branch_lambdas(("clinical", "dermoscopic", "joint"), *weights)
    assert sum(full.values()) == pytest.approx(sum(weights))
    assert sum(images.values()) == pytest.approx(sum(weights))
    assert branch_lambdas(("joint",), *weights) == {"joint": weights[0]}

import math

import numpy as np
import pandas as pd
import pytest
import torch

from jiadf.models.adf import fuse_log_posteriors
from jiadf.openness import entropy_share, pull, summarise_weights


def test_entropy_is_a_share_of_the_largest():
    weights = np.array([[1 / 3, 1 / 3, 1 / 3], [1, 0, 0], [0.5, 0.5, 0]])
    expected = [1, 0, math.log(2) / math.log(3)]
    np.testing.assert_allclose(entropy_share(weights), expected, atol=1e-12)


def test_weights_are_summarised_lesion_by_lesion():
    weights = pd.DataFrame({"image": [0.0, 0.3], "joint": [1.0, 0.7]})
    found = summarise_weights(weights)
    entropy = -(0.3 * math.log(0.3) + 0.7 * math.log(0.7)) / math.log(2) / 2
    expected = {
        "weight image": 0.15, "weight joint": 0.85, "sd image": 0.15, "sd joint": 0.15,
        "entropy": entropy, "above 0.9": 0.5, "above 0.99": 0.5,
    }  # fmt: skip
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("even", [True, False])
def test_the_pull_is_minus_the_derivative_of_the_loss(even):
    torch.manual_seed(0)
    logits, truth = torch.randn(7, 3, 5, dtype=torch.float64), torch.arange(7) % 5
    scores = torch.zeros(7, 3) if even else torch.randn(7, 3)
    scores = scores.double().requires_grad_()
    log_weights = scores.log_softmax(-1)
    posterior = fuse_log_posteriors(log_weights, logits)
    (-posterior[torch.arange(7), truth].mean()).backward()
    found = pull(logits.numpy(), truth.numpy(), log_weights.exp().detach().numpy())
    np.testing.assert_allclose(found["pull"], -scores.grad.sum(0), atol=1e-9)
    nll = -logits.log_softmax(-1)[torch.arange(7), :, truth].mean(0)
    np.testing.assert_allclose(found["nll"], nll)
    assert found["share"].sum() == pytest.approx(1)

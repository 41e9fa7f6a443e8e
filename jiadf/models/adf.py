"""Adaptive Decision Fusion (ADF): one learned, per-sample weighting of the branch posteriors.

Implements equations (5) and (6) of the paper in log space::

    w = softmax(W2 gelu(W1 [z_1; ...; z_b]))        weights on the simplex, one vector a sample
    p = sum_b w_b softmax(z_b)                      the fused posterior

No logarithm of a probability is ever taken, so logits of any finite size give finite values and
gradients.

The paper's gate tends to give all weight to one branch. What may prevent that is not the paper's:
other evidence, a temperature, calibrated branches (Guo et al., *On calibration of modern neural
networks*, ICML 2017), an ``entropy_regulariser``, a ``load_balancing_loss`` (after Shazeer et al.,
*Outrageously large neural networks*, ICLR 2017).
"""

import math

import torch
from torch import Tensor, nn

from jiadf.models.precision import at_least_float32, full_precision


def fuse_log_posteriors(log_weights: Tensor, logits: Tensor) -> Tensor:
    """Mix the branches' softmax posteriors, equation (6), in log space.

    Log weights (B, b), logits (B, b, K) -> log posterior (B, K), at least float32.
    """
    with full_precision(logits):
        log_posteriors = at_least_float32(logits).log_softmax(dim=-1)  # (B, b, K)
        mixture = at_least_float32(log_weights).unsqueeze(-1) + log_posteriors  # (B, b, K)
        return mixture.logsumexp(dim=-2)  # (B, K)


def entropy_regulariser(log_weights: Tensor) -> Tensor:
    """Return log b minus the mean entropy of the rows of (B, b): 0 where each row is even."""
    entropy = -(log_weights.exp() * log_weights).sum(dim=-1)  # (B,)
    return math.log(log_weights.shape[-1]) - entropy.mean()


def load_balancing_loss(log_weights: Tensor) -> Tensor:
    """Return log b minus the entropy of the mean row of (B, b): 0 where the mean is even."""
    log_mean = log_weights.logsumexp(dim=0) - math.log(len(log_weights))  # (b,)
    return math.log(log_weights.shape[-1]) + (log_mean.exp() * log_mean).sum()


class AdaptiveDecisionFusion(nn.Module):
    """Gate and mixture of equations (5) and (6).

    `num_branches` is b, at least 2, and `num_classes` K; `hidden` the width of the gate's hidden
    layer, for which the paper gives no number. The gate reads evidence of `in_features`, the logits
    themselves if None; its scores are divided by `temperature`, the branches' logits by learned
    ones if `calibrated`.
    """

    def __init__(
        self,
        num_branches: int = 3,
        num_classes: int = 11,
        hidden: int = 32,
        in_features: int | None = None,
        temperature: float = 1.0,
        calibrated: bool = False,
    ) -> None:
        super().__init__()
        if num_branches < 2:
            raise ValueError(
                f"num_branches is {num_branches}: fusing decisions needs at least 2 branches; "
                "with one head use its softmax directly (decision: joint)"
            )
        self.temperature = temperature
        self.log_scale = nn.Parameter(torch.zeros(num_branches)) if calibrated else None
        self.gate = nn.Sequential(
            nn.Linear(in_features or num_branches * num_classes, hidden),
            nn.GELU(),
            nn.Linear(hidden, num_branches),
        )

    def scaled(self, logits: Tensor) -> Tensor:
        """Return logits (B, b, K) as they are read and mixed: over their branch's temperature."""
        if self.log_scale is None:
            return logits
        with full_precision(logits):
            return at_least_float32(logits) * self.log_scale.exp().unsqueeze(-1)

    def log_weights(self, logits: Tensor, evidence: Tensor | None = None) -> Tensor:
        """Return the logarithm of the gate's weights, equation (5), (B, b).

        It reads `logits` (B, b, K) as `scaled` gives them, or `evidence` (B, in_features) where
        it was made for that.
        """
        if evidence is None:
            evidence = logits.flatten(-2)  # (B, b * K)
        with full_precision(evidence):
            scores = self.gate(evidence.to(self.gate[0].weight.dtype))
            return (at_least_float32(scores) / self.temperature).log_softmax(dim=-1)  # (B, b)

    def forward(self, logits: Tensor, evidence: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Fuse branch logits (B, b, K): log posterior (B, K) and weights (B, b) on the simplex."""
        logits = self.scaled(logits)
        log_weights = self.log_weights(logits, evidence)
        return fuse_log_posteriors(log_weights, logits), log_weights.exp()

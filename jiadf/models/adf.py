"""Adaptive Decision Fusion (ADF): one learned, per-sample weighting of the branch posteriors.

Implements equations (5) and (6) of the paper in log space::

    w = softmax(W2 gelu(W1 [z_1; ...; z_b]))        weights on the simplex, one vector a sample
    p = sum_b w_b softmax(z_b)                      the fused posterior

Use ``AdaptiveDecisionFusion`` on stacked logits, or ``fuse_log_posteriors`` with weights of your
own (a fixed average, say). No logarithm of a probability is ever taken, so logits of any finite
size give finite values and gradients.
"""

from __future__ import annotations

from torch import Tensor, nn

from jiadf.models.precision import at_least_float32, full_precision


def fuse_log_posteriors(log_weights: Tensor, logits: Tensor) -> Tensor:
    """Mix the branches' softmax posteriors, equation (6), in log space.

    Parameters
    ----------
    log_weights : Tensor
        Logarithm of the branch weights, shape (B, b); each row's exponentials sum to one.
    logits : Tensor
        Branch logits, shape (B, b, K).

    Returns
    -------
    Tensor
        Log posterior, shape (B, K), at least float32; each row's exponentials sum to one.
    """
    with full_precision(logits):
        log_posteriors = at_least_float32(logits).log_softmax(dim=-1)  # (B, b, K)
        mixture = at_least_float32(log_weights).unsqueeze(-1) + log_posteriors  # (B, b, K)
        return mixture.logsumexp(dim=-2)  # (B, K)


class AdaptiveDecisionFusion(nn.Module):
    """Gate and mixture of equations (5) and (6).

    Parameters
    ----------
    num_branches : int
        Branches b that are fused, at least 2.
    num_classes : int
        Classes K.
    hidden : int
        Width of the gate's hidden layer; the paper calls the gate lightweight and gives no number.
    """

    def __init__(self, num_branches: int = 3, num_classes: int = 11, hidden: int = 32) -> None:
        super().__init__()
        if num_branches < 2:
            raise ValueError(
                f"num_branches is {num_branches}: fusing decisions needs at least 2 branches; "
                "with one head use its softmax directly (decision: joint)"
            )
        if hidden < 1:
            raise ValueError(f"gate_hidden is {hidden}: give the gate at least one hidden unit")
        self.num_branches = num_branches
        self.num_classes = num_classes
        self.gate = nn.Sequential(
            nn.Linear(num_branches * num_classes, hidden),
            nn.GELU(),
            nn.Linear(hidden, num_branches),
        )

    def log_weights(self, logits: Tensor) -> Tensor:
        """Return the logarithm of the gate's weights, (B, b, K) -> (B, b), equation (5)."""
        with full_precision(logits):
            evidence = logits.flatten(-2).to(self.gate[0].weight.dtype)  # (B, b * K)
            return at_least_float32(self.gate(evidence)).log_softmax(dim=-1)  # (B, b)

    def forward(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse the branches.

        Parameters
        ----------
        logits : Tensor
            Branch logits, shape (B, b, K).

        Returns
        -------
        log_posterior : Tensor
            Shape (B, K), equation (6).
        weights : Tensor
            Shape (B, b), on the simplex, equation (5).
        """
        log_weights = self.log_weights(logits)
        return fuse_log_posteriors(log_weights, logits), log_weights.exp()

"""The training objective, equation (7), and the choices of class weighting.

``JointIndividualLoss`` is ``NLL(p, y) + sum over branches of lambda_b CE(z_b, y)``. The paper's
"class-aware optimisation" is not specified; three readings are offered:

- ``none``;
- ``balanced``: weights inversely proportional to the class counts;
- ``effective-number``: weights ``(1 - beta) / (1 - beta^n)`` of Cui et al., *Class-balanced loss
  based on effective number of samples*, CVPR 2019.

A class without a training sample is treated as if it had one.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from jiadf.models.network import NetworkOutput
from jiadf.models.precision import at_least_float32, full_precision

BETA = 0.999  # of "effective-number"


def class_weights(labels: np.ndarray, scheme: str, num_classes: int = 11) -> Tensor:
    """Return the loss weight of each class, (K,) float32, with mean 1 over the training samples."""
    counts = np.bincount(labels, minlength=num_classes)
    seen = np.maximum(counts, 1)
    weights = 1.0 / seen if scheme == "balanced" else (1.0 - BETA) / (1.0 - BETA**seen)
    return torch.from_numpy(weights * counts.sum() / (weights * counts).sum()).float()


def branch_lambdas(
    branch_names: Iterable[str],
    lambda_joint: float = 0.5,
    lambda_image: float = 0.25,
    lambda_metadata: float = 0.25,
) -> dict[str, float]:
    """Return the auxiliary weight of each branch of a network.

    Without metadata the two images share lambda_image + lambda_metadata evenly.
    """
    known = {"joint": lambda_joint, "image": lambda_image, "metadata": lambda_metadata}
    known |= dict.fromkeys(("clinical", "dermoscopic"), (lambda_image + lambda_metadata) / 2)
    return {name: known[name] for name in branch_names}


class JointIndividualLoss(nn.Module):
    """Equation (7) with class weighting, applied to the fused term and to the auxiliary ones.

    `lambdas` are those of `branch_lambdas`; where the joint head itself decides, its cross-entropy
    is the final term already, and its lambda is unused. `labels` (N,), the training samples'
    classes, are needed for weights. `label_smoothing` acts in every term (Szegedy et al.,
    *Rethinking the Inception architecture*, CVPR 2016).

    Weighted losses are averaged over the batch, not divided by its sum of weights: the gradient is
    that of the weighted empirical risk whatever the batch happens to hold.
    """

    def __init__(
        self,
        lambdas: Mapping[str, float],
        class_weighting: str = "none",
        labels: np.ndarray | None = None,
        num_classes: int = 11,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.lambdas = dict(lambdas)
        self.label_smoothing = label_smoothing
        weight = None
        if class_weighting != "none":
            weight = class_weights(labels, class_weighting, num_classes)
        self.register_buffer("weight", weight, persistent=False)

    def negative_log_likelihood(
        self, log_posterior: Tensor, target: Tensor, rows: Tensor | None = None
    ) -> Tensor:
        """Return the class-weighted mean of -log p(y), of the `rows` (B,) alone if given."""
        losses = -log_posterior.gather(-1, target.unsqueeze(-1)).squeeze(-1)  # (B,)
        if self.label_smoothing:
            losses = torch.lerp(losses, -log_posterior.mean(-1), self.label_smoothing)
        losses = losses if self.weight is None else self.weight[target] * losses
        return losses.mean() if rows is None else (losses * rows).sum() / rows.sum().clamp_min(1)

    def forward(self, output: NetworkOutput, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the objective of a batch, a scalar, and its parts, detached.

        The parts are "final", the NLL of the decision, every branch's cross-entropy before its
        lambda, and the output's `auxiliary` terms.
        """
        with full_precision(output.log_posterior):
            apart = output.held_out
            of_heads = None if apart is None else ~apart
            terms = {}
            for name, logits in output.logits.items():
                log_posterior = at_least_float32(logits).log_softmax(dim=-1)
                terms[name] = self.negative_log_likelihood(log_posterior, target, of_heads)
            final = terms["joint"]
            if output.log_weights is not None:
                final = self.negative_log_likelihood(output.log_posterior, target, apart)
            total = final
            for name, term in terms.items():
                if name != "joint" or output.log_weights is not None:
                    total = total + self.lambdas[name] * term
            auxiliary = output.auxiliary or {}
            total = sum(auxiliary.values(), start=total)
        parts = {"final": final, **terms, **auxiliary}
        return total, {name: term.detach() for name, term in parts.items()}

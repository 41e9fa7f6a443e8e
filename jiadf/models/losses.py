"""The training objective, equation (7), and the choices of class weighting.

``JointIndividualLoss`` is ``NLL(p, y) + sum over branches of lambda_b CE(z_b, y)``. The paper's
"class-aware optimisation" is not specified; four readings are offered:

- ``none``;
- ``balanced``: weights inversely proportional to the class counts;
- ``effective-number``: weights ``(1 - beta) / (1 - beta^n)`` of Cui et al., *Class-balanced loss
  based on effective number of samples*, CVPR 2019;
- ``logit-adjusted``: while training, ``tau`` times the log class prior is added to the logits
  (Menon et al., *Long-tail learning via logit adjustment*, ICLR 2021). The network's own posterior
  stays unadjusted, and that is what predicts.

A class without a training sample is treated as if it had one, so weights and priors stay finite
and a validation lesion of that class still counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from jiadf.models.adf import fuse_log_posteriors
from jiadf.models.network import NetworkOutput
from jiadf.models.precision import at_least_float32, full_precision

WEIGHT_SCHEMES = ("none", "balanced", "effective-number")
CLASS_WEIGHTINGS = (*WEIGHT_SCHEMES, "logit-adjusted")


def _class_counts(labels: np.ndarray | Tensor, num_classes: int) -> np.ndarray:
    """Count the samples of each class, checking the labels."""
    labels = np.asarray(labels)
    if labels.size == 0 or labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels are {labels.dtype} of shape {labels.shape}: give the training lesions' class "
            "numbers, a non-empty 1-d integer array"
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"labels run from {labels.min()} to {labels.max()}: num_classes is {num_classes}, so "
            f"give numbers from 0 to {num_classes - 1}"
        )
    return np.bincount(labels, minlength=num_classes)


def class_weights(
    labels: np.ndarray | Tensor,
    scheme: str = "balanced",
    num_classes: int = 11,
    beta: float = 0.999,
) -> Tensor:
    """Return the loss weight of each class.

    Parameters
    ----------
    labels : (N,) int array
        Classes of the training samples.
    scheme : {"none", "balanced", "effective-number"}
        See the module's docstring.
    num_classes : int
        Classes K.
    beta : float
        Of "effective-number", in [0, 1): 0 gives equal weights, values near 1 give "balanced".

    Returns
    -------
    Tensor
        (K,) float32. The mean over the training samples is 1, so the learning rate keeps its
        meaning from scheme to scheme; an absent class weighs as much as one with one sample.
    """
    if scheme not in WEIGHT_SCHEMES:
        raise ValueError(
            f"class_weighting {scheme!r} has no class weights: choose one of "
            f"{', '.join(WEIGHT_SCHEMES)}"
        )
    if not 0.0 <= beta < 1.0:
        raise ValueError(f"beta is {beta}: give a number from 0 to below 1")
    counts = _class_counts(labels, num_classes)
    at_least_one = np.maximum(counts, 1).astype(np.float64)
    if scheme == "none":
        weights = np.ones(num_classes)
    elif scheme == "balanced":
        weights = 1.0 / at_least_one
    else:
        weights = (1.0 - beta) / (1.0 - beta**at_least_one)
    weights *= counts.sum() / (weights * counts).sum()
    return torch.from_numpy(weights).float()


def log_class_prior(labels: np.ndarray | Tensor, num_classes: int = 11) -> Tensor:
    """Return the logarithm of the class frequencies, (K,) float32, absent classes counted once."""
    counts = np.maximum(_class_counts(labels, num_classes), 1)
    return torch.from_numpy(np.log(counts / counts.sum())).float()


def branch_lambdas(
    branch_names: Iterable[str],
    lambda_joint: float = 0.5,
    lambda_image: float = 0.25,
    lambda_metadata: float = 0.25,
) -> dict[str, float]:
    """Return the auxiliary weight of each branch of a network.

    Without metadata the two individual branches are the clinical and the dermoscopic image; they
    share lambda_image + lambda_metadata evenly, so the auxiliary total is the same for every
    subset of modalities.
    """
    shared = (lambda_image + lambda_metadata) / 2
    known = {
        "joint": lambda_joint,
        "image": lambda_image,
        "metadata": lambda_metadata,
        "clinical": shared,
        "dermoscopic": shared,
    }
    return {name: float(known[name]) for name in branch_names}


class JointIndividualLoss(nn.Module):
    """Equation (7) with class weighting, applied to the fused term and to the auxiliary ones.

    Parameters
    ----------
    lambdas : mapping of str to float
        Auxiliary weight of each branch, see `branch_lambdas`. Where the joint head itself decides,
        its cross-entropy is the final term already; its lambda is then unused, so that the final
        loss keeps the unit weight that the paper gives it.
    class_weighting : {"none", "balanced", "effective-number", "logit-adjusted"}
        See the module's docstring.
    labels : (N,) int array, optional
        Classes of the training samples; needed unless `class_weighting` is "none".
    num_classes : int
        Classes K.
    beta : float
        Of "effective-number".
    tau : float
        Of "logit-adjusted".
    label_smoothing : float
        Share of the target that is spread evenly over the classes, in every term (Szegedy et al.,
        *Rethinking the Inception architecture*, CVPR 2016).

    Notes
    -----
    Weighted losses are averaged over the batch, not divided by the batch's sum of weights: with
    weights of mean 1 over the training set, the gradient is that of the weighted empirical risk
    whatever the batch happens to hold. Under "logit-adjusted" each branch's logits are adjusted,
    and the final term mixes the adjusted branch posteriors with the network's own weights.
    """

    def __init__(
        self,
        lambdas: Mapping[str, float],
        class_weighting: str = "none",
        labels: np.ndarray | Tensor | None = None,
        num_classes: int = 11,
        beta: float = 0.999,
        tau: float = 1.0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if class_weighting not in CLASS_WEIGHTINGS:
            raise ValueError(
                f"class_weighting is {class_weighting!r}: choose one of "
                f"{', '.join(CLASS_WEIGHTINGS)}"
            )
        if labels is None and class_weighting != "none":
            raise ValueError(
                f"class_weighting {class_weighting!r} needs the training labels: pass labels=, or "
                "set class_weighting to 'none'"
            )
        negative = [name for name, value in lambdas.items() if not value >= 0]
        if negative:
            raise ValueError(
                f"lambda_{negative[0]} is {lambdas[negative[0]]}: give 0 (no such term) or more"
            )
        self.lambdas = dict(lambdas)
        self.class_weighting = class_weighting
        self.label_smoothing = label_smoothing
        weight = adjustment = None
        if class_weighting == "logit-adjusted":
            adjustment = tau * log_class_prior(labels, num_classes)
        elif class_weighting != "none":
            weight = class_weights(labels, class_weighting, num_classes, beta)
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("adjustment", adjustment, persistent=False)

    def negative_log_likelihood(
        self, log_posterior: Tensor, target: Tensor, rows: Tensor | None = None
    ) -> Tensor:
        """Return the class-weighted mean of -log p(y), (B, K) and (B,) -> scalar.

        Of the `rows`, (B,) bool, alone, if given; 0 if they are none.
        """
        losses = -log_posterior.gather(-1, target.unsqueeze(-1)).squeeze(-1)  # (B,)
        if self.label_smoothing:
            losses = torch.lerp(losses, -log_posterior.mean(-1), self.label_smoothing)
        losses = losses if self.weight is None else self.weight[target] * losses
        return losses.mean() if rows is None else (losses * rows).sum() / rows.sum().clamp_min(1)

    def forward(self, output: NetworkOutput, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the objective and its parts.

        Parameters
        ----------
        output : NetworkOutput
            Of a batch of B samples.
        target : Tensor
            (B,) int64 class numbers.

        Returns
        -------
        total : Tensor
            Scalar, to be minimised.
        terms : dict of str to Tensor
            Detached: "final", the NLL of the decision, every branch's cross-entropy under its
            name, before its lambda, and the output's `auxiliary` terms, which are added as they
            are.
        """
        missing = [name for name in output.logits if name not in self.lambdas]
        if missing:
            raise ValueError(
                f"no lambda for branch {missing[0]!r}: give each branch one, 0 for no auxiliary "
                "term (branch_lambdas does)"
            )
        with full_precision(output.log_posterior):
            logits = {name: at_least_float32(value) for name, value in output.logits.items()}
            if self.adjustment is not None:
                logits = {name: value + self.adjustment for name, value in logits.items()}
            apart = output.held_out
            of_heads = None if apart is None else ~apart
            terms = {
                name: self.negative_log_likelihood(value.log_softmax(dim=-1), target, of_heads)
                for name, value in logits.items()
            }
            if output.log_weights is None:
                final = terms["joint"]
            elif self.adjustment is None:
                final = self.negative_log_likelihood(output.log_posterior, target, apart)
            else:
                mixed = output.mixed  # (B, b, K)
                if mixed is None:
                    mixed = torch.stack(list(output.logits.values()), dim=-2)
                adjusted = at_least_float32(mixed) + self.adjustment
                adjusted = fuse_log_posteriors(output.log_weights, adjusted)
                final = self.negative_log_likelihood(adjusted, target, apart)
            total = final
            for name, term in terms.items():
                if name != "joint" or output.log_weights is not None:
                    total = total + self.lambdas[name] * term
            auxiliary = output.auxiliary or {}
            total = sum(auxiliary.values(), start=total)
        parts = {"final": final, **terms, **auxiliary}
        return total, {name: term.detach() for name, term in parts.items()}

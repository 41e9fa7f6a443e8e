"""CoscatNet-UFS of Zuo et al. (2025): cosine and concatenation, then fusion by uncertainty.

First stage: a branch for the clinical image, one for the dermoscopic image and one for their
concatenation, each with a classifier. A cosine loss draws the two images' features together (what
they share); the concatenation keeps what each adds. Second stage, on the first one as it is: a
network reads the metadata and the image branch's posterior, and both decisions get an estimate of
their own error. The posterior is the mean of the image branch's and the metadata network's, each
weighted by how little error is expected of it.

Source: Zuo, Wang and Wang, Artificial Intelligence in Medicine 162, 103091, 2025. Read: abstract,
highlights and public code (Zuo-Lihan/CosCatNet-Adaptive_Fusion_Algorithm: README, ``model.py``,
parts of the second stage). The name is *cos*ine and con*cat*enation, not co-attention.

Simplifications:

- The cosine loss is on the branches' hidden features, so that it has something to train in the
  `frozen` regime; the source puts it on the pooled features of two ResNet-50. Its weight is ours.
- The source has eight labels; its uncertainty is regressed on the share of labels that were wrong.
  With one label, it is the probability of an error. Errors are those on training lesions, under
  dropout: few, late in training.
- The second stage's network is an MLP; the source runs a one-dimensional ResNet-50.
- Half of the epochs are the first stage. No test-time augmentation.
- The branches' losses are weighted by the run's lambdas.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from jiadf.models.adf import fuse_log_posteriors
from jiadf.models.baselines.base import IMAGES, Baseline
from jiadf.models.configuration import NetworkConfig
from jiadf.models.network import NetworkOutput
from jiadf.models.precision import at_least_float32

COSINE_WEIGHT = 0.1
MIXED = ("metadata", "joint")  # the decisions that are fused


def branch(in_features: int, config: NetworkConfig) -> nn.Sequential:
    """Make the MLP under a classifier, to features of `metadata_width`."""
    return nn.Sequential(
        nn.Linear(in_features, config.joint_width),
        nn.SiLU(),
        nn.Dropout(config.dropout),
        nn.Linear(config.joint_width, config.metadata_width),
        nn.SiLU(),
        nn.Dropout(config.dropout),
    )


class CoscatNet(Baseline):
    """See the module's docstring. The branch ``joint`` is that of the concatenated images."""

    branch_names = (*IMAGES, "metadata", "joint")

    def __init__(self, config: NetworkConfig, image_encoders: Mapping[str, nn.Module]) -> None:
        super().__init__(config, image_encoders)
        read = {
            **dict.fromkeys(IMAGES, config.image_features),
            "metadata": len(config.columns) + config.num_classes,
            "joint": 2 * config.image_features,
        }
        self.branches = nn.ModuleDict({name: branch(size, config) for name, size in read.items()})
        self.heads = nn.ModuleDict(
            {name: nn.Linear(config.metadata_width, config.num_classes) for name in read}
        )
        self.error = nn.ModuleDict({name: nn.Linear(config.metadata_width, 1) for name in MIXED})
        self.first_stage = False

    def begin_epoch(self, epoch: int, epochs: int) -> bool:
        """Train the images in the first half of the epochs, then what stands on them."""
        self.first_stage = epoch <= min(math.ceil(epochs / 2), epochs - 1)
        return not self.first_stage

    def log_weights(self, errors: Mapping[str, Tensor]) -> Tensor:
        """Return log weights (B, b) from the logits of errors, (B,): the less, the more weight."""
        scores = torch.stack([-at_least_float32(errors[name]) for name in MIXED], dim=-1)
        shares = dict(zip(MIXED, scores.log_softmax(dim=-1).unbind(-1), strict=True))
        none = torch.full_like(shares["joint"], -torch.inf)
        return torch.stack([shares.get(name, none) for name in self.branch_names], dim=-1)

    def forward(self, batch: Mapping[str, Tensor]) -> NetworkOutput:
        """Run the method."""
        first = self.training and self.first_stage
        second = self.training and not self.first_stage
        pooled, _ = self.encode(batch)
        pooled = {name: self.dropout(value) for name, value in pooled.items()}
        pooled["joint"] = torch.cat(list(pooled.values()), dim=-1)
        hidden = {name: self.branches[name](value) for name, value in pooled.items()}
        logits = {name: self.heads[name](value) for name, value in hidden.items()}
        auxiliary = {}
        if first:
            cosine = functional.cosine_similarity(*(hidden[name] for name in IMAGES))
            auxiliary["cosine"] = COSINE_WEIGHT * (1 - cosine).mean()
        elif second:
            logits = {name: value.detach() for name, value in logits.items()}
        posterior = logits["joint"].detach().softmax(dim=-1)
        read = torch.cat([batch["metadata"], posterior.to(batch["metadata"].dtype)], dim=-1)
        hidden["metadata"] = self.branches["metadata"](read)
        logits["metadata"] = self.heads["metadata"](hidden["metadata"])
        errors = {name: self.error[name](hidden[name].detach()).squeeze(-1) for name in MIXED}
        if first:
            logits["metadata"] = logits["metadata"].detach()
            errors["metadata"] = torch.full_like(errors["joint"], torch.inf)
        elif second:
            auxiliary["uncertainty"] = self.uncertainty_loss(errors, logits, batch["target"])
        logits = {name: logits[name] for name in self.branch_names}
        # Detached: the weights are what is known of the errors, not a gate that is trained.
        log_weights = self.log_weights({name: value.detach() for name, value in errors.items()})
        log_posterior = fuse_log_posteriors(log_weights, torch.stack(list(logits.values()), -2))
        return NetworkOutput(
            log_posterior, logits, log_weights.exp(), None, log_weights, auxiliary or None
        )

    def uncertainty_loss(
        self, errors: Mapping[str, Tensor], logits: Mapping[str, Tensor], target: Tensor
    ) -> Tensor:
        """Return the mean squared difference of expected and actual errors of the decisions."""
        losses = [
            ((logits[name].argmax(dim=-1) != target).float() - errors[name].float().sigmoid()) ** 2
            for name in MIXED
        ]
        return torch.stack(losses).mean()

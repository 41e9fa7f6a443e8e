"""The whole network of JI-ADF, and every variant of it as configuration.

``JIADF`` puts the encoders of equation (1), the fusion of (2), the heads of (3) and the decision
of (5) and (6) together. One class serves every design that
:class:`jiadf.models.configuration.NetworkConfig` can say.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from jiadf.models.adf import (
    AdaptiveDecisionFusion,
    entropy_regulariser,
    fuse_log_posteriors,
    load_balancing_loss,
)
from jiadf.models.configuration import NetworkConfig
from jiadf.models.encoders import MetadataMLP
from jiadf.models.mmfa import MMFA
from jiadf.models.precision import at_least_float32

GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


class NetworkOutput(NamedTuple):
    """What `JIADF` returns, and every baseline: of B samples, b branches and K classes."""

    log_posterior: Tensor
    """(B, K), the decision of equation (6)."""
    logits: dict[str, Tensor]
    """(B, K) of each branch, in the order of the network's `branch_names`."""
    weights: Tensor | None = None
    """(B, b), constant for the fixed average; None where the joint head decides."""
    attention: Tensor | None = None
    """(B, H, n, n) of MMFA, if it has an attention path."""
    log_weights: Tensor | None = None
    """Logarithm of `weights`, for losses that mix posteriors anew."""
    auxiliary: dict[str, Tensor] | None = None
    """Further terms of the loss, weighted, of a baseline or a gate; while training only."""
    mixed: Tensor | None = None
    """(B, b, K), what `weights` mix: `logits`, maybe scaled or detached. None: exactly those."""
    held_out: Tensor | None = None
    """(B,) bool, samples that train the gate alone, the others all but it; while training only."""


def held_out(index: Tensor, share: float) -> Tensor:
    """Say of samples, by number (B,), which belong to a share of them, spread evenly over numbers.

    Multiples of the golden ratio modulo one have low discrepancy (Knuth, *The art of computer
    programming* 3, 6.4).
    """
    return (index.double() * GOLDEN_RATIO) % 1.0 < share


def _without(values: Tensor, missing: Tensor | None) -> Tensor:
    """Put zeros in the rows of (B, width) values that `missing`, (B,) bool, names."""
    return values if missing is None else values.masked_fill(missing[:, None], 0.0)


class JIADF(nn.Module):
    """Joint-individual network with adaptive decision fusion, or a variant of it.

    `image_encoders`, under "clinical" and "dermoscopic", map the batch's images to
    (B, image_features); the same module under both names shares its weights. None: the batch holds
    features already.
    """

    def __init__(
        self, config: NetworkConfig, image_encoders: Mapping[str, nn.Module] | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.branch_names = config.branch_names
        encoders = image_encoders or {name: nn.Identity() for name in config.image_streams}
        self.image_encoders = nn.ModuleDict({name: encoders[name] for name in config.image_streams})
        if "M" in config.modalities:
            self.metadata_encoder = MetadataMLP(
                len(config.columns), config.metadata_width, config.dropout
            )
        self.dropout = nn.Dropout(config.dropout)

        widths = config.stream_widths
        joint_width = sum(widths.values())
        if len(widths) > 1 and config.fusion == "mmfa":
            joint_width = config.joint_width
            self.fusion = MMFA(
                tuple(widths.values()),
                config.num_heads,
                config.head_dim,
                joint_width,
                config.fusion_paths,
            )
        widths = widths | {"joint": joint_width}
        self.heads = nn.ModuleDict(
            {name: nn.Linear(widths[name], config.num_classes) for name in self.branch_names}
        )
        if config.effective_decision == "adf":
            self.adf = AdaptiveDecisionFusion(
                len(self.branch_names),
                config.num_classes,
                config.gate_hidden,
                sum(widths.values()) if config.gate_input == "features" else None,
                config.gate_temperature,
                config.gate_calibration,
            )
        self.warming_up = False

    def begin_epoch(self, epoch: int, epochs: int) -> bool:
        """Prepare for an epoch, counted from 1; say whether its weights may be kept.

        While the gate warms up they may not.
        """
        self.warming_up = epoch <= min(math.ceil(self.config.gate_warmup * epochs), epochs - 1)
        return not self.warming_up

    def streams(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Encode a batch, equation (1): the features of each stream, name -> (B, width).

        Of a missing modality, an image's features are zeros, their training mean where a
        `Standardise` stands before them; the metadata vector is zeros before its MLP.
        """
        config, missing = self.config, self._missing(batch)
        encoded = {
            name: _without(self.image_encoders[name](batch[name]), missing.get(name))
            for name in config.image_streams
        }
        if "M" in config.modalities:
            if encoded:
                encoded = {"image": torch.cat(list(encoded.values()), dim=-1)}
            metadata = self._drop_scores(batch["metadata"])
            metadata = _without(metadata, missing.get("metadata"))
            encoded["metadata"] = self.metadata_encoder(metadata)
        return {name: encoded[name] for name in config.stream_widths}

    def _missing(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return which samples lack a modality, name -> (B,) bool; only those that some lack.

        While training, `modality_dropout` takes more, but never all of a sample's.
        """
        names, share = self.config.inputs, self.config.modality_dropout
        known = {n: batch[f"{n}_missing"].bool() for n in names if f"{n}_missing" in batch}
        if not (self.training and share):
            return known
        first = batch[names[0]]
        none = torch.zeros(len(first), dtype=torch.bool, device=first.device)
        lacking = torch.stack([known.get(name, none) for name in names], dim=1)  # (B, m)
        drop = torch.rand(lacking.shape, device=first.device) < share
        drop &= ~(drop | lacking).all(dim=1, keepdim=True)
        return dict(zip(names, (drop | lacking).unbind(1), strict=True))

    def _drop_scores(self, metadata: Tensor) -> Tensor:
        """Put the MONET scores of an image at their mean, zero, for some training samples."""
        share, scores = self.config.modality_dropout, self.config.monet_features
        if not (self.training and share and scores):
            return metadata
        keep = torch.rand(len(metadata), 2, device=metadata.device) >= share
        kept = metadata[:, -scores:] * keep.repeat_interleave(scores // 2, dim=1)  # (B, scores)
        return torch.cat([metadata[:, :-scores], kept], dim=1)

    def fuse(self, streams: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """Return the joint features, equation (2), (B, joint width), and MMFA's attention."""
        if not hasattr(self, "fusion"):
            return torch.cat(list(streams.values()), dim=-1), None
        joint, attention = self.fusion(list(streams.values()), return_attention=True)
        return self.dropout(joint), attention

    def decide(
        self, logits: Mapping[str, Tensor], features: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return the log posterior (B, K), log branch weights (B, b) and mixed logits (B, b, K).

        The latter two are None where one head decides.
        """
        decision, detach = self.config.effective_decision, self.config.gate_detach
        if decision == "joint":
            return at_least_float32(logits["joint"]).log_softmax(dim=-1), None, None
        stacked = torch.stack(list(logits.values()), dim=-2)  # (B, b, K)
        if decision == "average" or self.warming_up:
            even = -math.log(stacked.shape[-2])
            log_weights = torch.full_like(at_least_float32(stacked[..., 0]), even)  # (B, b)
            return fuse_log_posteriors(log_weights, stacked), log_weights, stacked
        evidence = None
        if self.config.gate_input == "features":
            evidence = torch.cat([features[name] for name in logits], dim=-1)
        mixed = self.adf.scaled(stacked.detach() if detach == "decision" else stacked)
        read = mixed
        if detach != "nothing":
            read = self.adf.scaled(stacked.detach())
            evidence = None if evidence is None else evidence.detach()
        log_weights = self.adf.log_weights(read, evidence)  # (B, b)
        return fuse_log_posteriors(log_weights, mixed), log_weights, mixed

    def forward(self, batch: Mapping[str, Tensor]) -> NetworkOutput:
        """Run the network on a batch as :mod:`jiadf.data.batches` describes it."""
        config = self.config
        streams = {name: self.dropout(value) for name, value in self.streams(batch).items()}
        joint, attention = self.fuse(streams)
        features = {**streams, "joint": joint}
        logits = {name: head(features[name]) for name, head in self.heads.items()}  # (B, K) each
        log_posterior, log_weights, mixed = self.decide(logits, features)
        weights = None if log_weights is None else log_weights.exp()
        output = NetworkOutput(log_posterior, logits, weights, attention, log_weights, mixed=mixed)
        if not self.training or config.effective_decision != "adf":
            return output
        auxiliary = {}
        if config.gate_entropy and not self.warming_up:
            auxiliary["entropy"] = config.gate_entropy * entropy_regulariser(log_weights)
        if config.gate_balance and not self.warming_up:
            auxiliary["balance"] = config.gate_balance * load_balancing_loss(log_weights)
        apart = held_out(batch["index"], config.gate_holdout) if config.gate_holdout else None
        return output._replace(auxiliary=auxiliary or None, held_out=apart)

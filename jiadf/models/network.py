"""The whole network of JI-ADF, and every variant of it as configuration.

``JIADF`` puts the encoders of equation (1), the fusion of (2), the heads of (3) and the decision
of (5) and (6) together. One class serves every design that
:class:`jiadf.models.configuration.NetworkConfig` can say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from jiadf.models.adf import AdaptiveDecisionFusion, closedness, fuse_log_posteriors, imbalance
from jiadf.models.configuration import NetworkConfig
from jiadf.models.encoders import MetadataMLP
from jiadf.models.mmfa import MMFA
from jiadf.models.precision import at_least_float32


class NetworkOutput(NamedTuple):
    """What `JIADF` returns, and every baseline.

    Attributes
    ----------
    log_posterior : Tensor
        (B, K), the decision of equation (6).
    logits : dict of str to Tensor
        (B, K) of each branch, in the order of `NetworkConfig.branch_names`.
    weights : Tensor or None
        (B, b) branch weights, constant for the fixed average; None where the joint head decides.
    attention : Tensor or None
        (B, H, n, n) of MMFA, if it has an attention path.
    log_weights : Tensor or None
        Logarithm of `weights`, for losses that mix posteriors anew.
    auxiliary : dict of str to Tensor, or None
        Further terms of the loss, weighted, of a baseline or a gate; while training only.
    mixed : Tensor or None
        (B, b, K), the logits that `weights` mix: those of `logits`, maybe scaled or detached. None:
        exactly those.
    held_out : Tensor or None
        (B,) bool, samples that train the gate alone, the others training all but it; while
        training only.
    """

    log_posterior: Tensor
    logits: dict[str, Tensor]
    weights: Tensor | None = None
    attention: Tensor | None = None
    log_weights: Tensor | None = None
    auxiliary: dict[str, Tensor] | None = None
    mixed: Tensor | None = None
    held_out: Tensor | None = None


def _without(values: Tensor, missing: Tensor | None) -> Tensor:
    """Return (B, width) values with zeros in the rows that `missing`, (B,) bool, names."""
    return values if missing is None else values.masked_fill(missing[:, None], 0.0)


GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


def held_out(index: Tensor, share: float) -> Tensor:
    """Say of samples, by number (B,), which belong to a share of them, spread evenly over numbers.

    The multiples of the golden ratio modulo one have low discrepancy (Knuth, *The art of computer
    programming* 3, 6.4): the same samples in every epoch and run, without a list of them.
    """
    return (index.double() * GOLDEN_RATIO) % 1.0 < share


class JIADF(nn.Module):
    """Joint-individual network with adaptive decision fusion, or a variant of it.

    Parameters
    ----------
    config : NetworkConfig
        The design.
    image_encoders : dict of str to Module, optional
        Under "clinical" and "dermoscopic", as far as they are among the modalities, modules that
        map the batch's images to (B, image_features). The same module under both names shares
        its weights. None: the batch holds features already (the frozen regime).
    """

    def __init__(
        self, config: NetworkConfig, image_encoders: Mapping[str, nn.Module] | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.image_encoders = nn.ModuleDict(self._checked(image_encoders))
        if "M" in config.modalities:
            self.metadata_encoder = MetadataMLP(
                config.metadata_features, config.metadata_width, config.dropout
            )
        self.dropout = nn.Dropout(config.dropout)

        widths = config.stream_widths
        joint_width = sum(widths.values())
        if len(widths) > 1 and config.fusion == "mmfa":
            joint_width = config.joint_width
            self.fusion = MMFA(
                tuple(config.token_widths.values()),
                config.num_heads,
                config.head_dim,
                joint_width,
                config.paths,
            )
        head_widths = widths | {"joint": joint_width}
        self.heads = nn.ModuleDict(
            {name: nn.Linear(head_widths[name], config.num_classes) for name in config.branch_names}
        )
        self.branch_names = config.branch_names
        if config.effective_decision == "adf":
            read = sum(head_widths.values()) if config.gate_input == "features" else None
            self.adf = AdaptiveDecisionFusion(
                len(config.branch_names),
                config.num_classes,
                config.gate_hidden,
                read,
                config.gate_temperature,
                config.gate_calibration,
            )
        self.warming_up = False

    def begin_epoch(self, epoch: int, epochs: int) -> bool:
        """Prepare for an epoch, counted from 1; return whether its weights may be kept.

        While the gate warms up they may not: the posterior is then that of another decision.
        """
        self.warming_up = epoch <= min(math.ceil(self.config.gate_warmup * epochs), epochs - 1)
        return not self.warming_up

    def _checked(self, encoders: Mapping[str, nn.Module] | None) -> dict[str, nn.Module]:
        """Return an encoder for each image stream; the identity where features come in."""
        streams = self.config.image_streams
        if encoders is None:
            return {name: nn.Identity() for name in streams}
        if set(encoders) != set(streams):
            raise ValueError(
                f"image_encoders are given for {sorted(encoders)}, modalities "
                f"{self.config.modalities!r} needs {sorted(streams)}: give exactly these"
            )
        for name, encoder in encoders.items():
            width = getattr(encoder, "num_features", self.config.image_features)
            if width != self.config.image_features:
                raise ValueError(
                    f"image_features is {self.config.image_features} but the {name} encoder gives "
                    f"{width}: set image_features to {width}"
                )
        return {name: encoders[name] for name in streams}

    def streams(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Encode a batch, equation (1): the features of each stream, name -> (B, width).

        A missing modality, whether the batch says so or `modality_dropout` does while training, is
        the same thing: an image's features are zeros, which is their training mean where a
        `Standardise` stands before them; the metadata vector is zeros before its MLP, hence a
        mean age and mean scores, no category, and no flag.
        """
        config = self.config
        wanted = config.inputs
        missing = [name for name in wanted if name not in batch]
        if missing:
            raise ValueError(
                f"the batch lacks {', '.join(missing)}, which modalities {config.modalities!r} "
                "needs: add it, or take its letter out of modalities"
            )
        missing = self._missing(batch)
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
        """Return which samples lack a modality, name -> (B,) bool; only those that some lack."""
        names = self.config.inputs
        told = {n: batch[f"{n}_missing"].bool() for n in names if f"{n}_missing" in batch}
        if not (self.training and self.config.modality_dropout > 0):
            return told
        first = batch[names[0]]
        none = torch.zeros(len(first), dtype=torch.bool, device=first.device)
        lacking = torch.stack([told.get(name, none) for name in names], dim=1)  # (B, m)
        drop = torch.rand(lacking.shape, device=first.device) < self.config.modality_dropout
        drop &= ~(drop | lacking).all(dim=1, keepdim=True)
        return dict(zip(names, (drop | lacking).unbind(1), strict=True))

    def _drop_scores(self, metadata: Tensor) -> Tensor:
        """Put the MONET scores of an image at their mean, zero, for some training samples."""
        config = self.config
        if not (self.training and config.modality_dropout > 0 and config.monet_features):
            return metadata
        keep = torch.rand(len(metadata), 2, device=metadata.device) >= config.modality_dropout
        keep = keep.repeat_interleave(config.monet_features // 2, dim=1)  # (B, scores)
        scores = metadata[:, -config.monet_features :] * keep
        return torch.cat([metadata[:, : -config.monet_features], scores], dim=1)

    def tokens(self, streams: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what MMFA relates, by the names and in the order of `token_widths`."""
        tokens = dict(streams)
        if "image" in tokens and "image" not in self.config.token_widths:
            # As `streams` put them together: (B, 2 F) -> two of (B, F).
            parts = tokens["image"].chunk(2, dim=-1)
            tokens |= dict(zip(self.config.image_streams, parts, strict=True))
        return {name: tokens[name] for name in self.config.token_widths}

    def fuse(self, streams: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """Return the joint features, equation (2), (B, joint width), and MMFA's attention."""
        if hasattr(self, "fusion"):
            tokens = list(self.tokens(streams).values())
            joint, attention = self.fusion(tokens, return_attention=True)
            return self.dropout(joint), attention
        return torch.cat(list(streams.values()), dim=-1), None

    def decide(
        self, logits: Mapping[str, Tensor], features: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return the log posterior (B, K), and what it mixes; None, None where one head decides.

        The log branch weights are (B, b), the logits that are mixed (B, b, K). `features` by
        branch, (B, width) each, are needed where the gate reads them.
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
        if self.config.gate_input == "features" and features is not None:
            evidence = torch.cat([features[name] for name in logits], dim=-1)
        mixed = self.adf.scaled(stacked.detach() if detach == "decision" else stacked)
        read = mixed
        if detach != "nothing":
            read = self.adf.scaled(stacked.detach())
            evidence = None if evidence is None else evidence.detach()
        log_weights = self.adf.log_weights(read, evidence)  # (B, b)
        return fuse_log_posteriors(log_weights, mixed), log_weights, mixed

    def gate_losses(self, log_weights: Tensor) -> dict[str, Tensor]:
        """Return the weighted losses that keep the gate open, as far as they are configured."""
        terms = {
            "entropy": (self.config.gate_entropy, closedness),
            "balance": (self.config.gate_balance, imbalance),
        }
        return {
            name: weight * loss(log_weights) for name, (weight, loss) in terms.items() if weight
        }

    def forward(self, batch: Mapping[str, Tensor]) -> NetworkOutput:
        """Run the network.

        Parameters
        ----------
        batch : mapping
            "clinical" and "dermoscopic", what the image encoders take, (B, 3, H, W), or (B, F)
            without encoders; "metadata" (B, D). Modalities that are not configured are ignored.
            Optionally "clinical_missing", "dermoscopic_missing" and "metadata_missing", (B,) bool:
            samples without that modality, whose values are not used. "index", (B,), the samples'
            numbers, is needed to train with `gate_holdout`.
        """
        streams = {name: self.dropout(value) for name, value in self.streams(batch).items()}
        joint, attention = self.fuse(streams)
        features = {**streams, "joint": joint}
        logits = {name: head(features[name]) for name, head in self.heads.items()}  # (B, K) each
        log_posterior, log_weights, mixed = self.decide(logits, features)
        weights = None if log_weights is None else log_weights.exp()
        output = NetworkOutput(log_posterior, logits, weights, attention, log_weights, mixed=mixed)
        if not self.training or self.config.effective_decision != "adf":
            return output
        apart = self.config.gate_holdout
        return output._replace(
            auxiliary=None if self.warming_up else self.gate_losses(log_weights) or None,
            held_out=held_out(batch["index"], apart) if apart else None,
        )

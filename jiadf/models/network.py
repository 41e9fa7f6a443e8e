"""The whole network of JI-ADF, and every variant of it as configuration.

``JIADF`` puts the encoders of equation (1), the fusion of (2), the heads of (3) and the decision
of (5) and (6) together. ``NetworkConfig`` says which modalities come in, how they are fused, which
heads exist and how their decisions become one posterior; ``variant_settings`` names the
settings of the designs that Figure 3 of the paper compares. One class serves them all.

Streams: with metadata and images, ``image`` (dermoscopic and clinical features concatenated) and
``metadata``; with the two images alone, ``clinical`` and ``dermoscopic``; with a single modality
there is nothing to fuse, hence one head, called ``joint``, whatever the fusion settings say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from jiadf.models.adf import AdaptiveDecisionFusion, fuse_log_posteriors
from jiadf.models.encoders import MetadataMLP
from jiadf.models.mmfa import MMFA, PATHS
from jiadf.models.precision import at_least_float32

MODALITIES = {"C": "clinical", "D": "dermoscopic", "M": "metadata"}
FUSIONS = ("mmfa", "concat")
BRANCHES = ("all", "joint")
DECISIONS = ("adf", "average", "joint")
GATE_INPUTS = ("logits", "features")
MMFA_TOKENS = (2, 3)

# What each design of Figure 3 changes with respect to ji-adf, in names of the run configuration.
VARIANTS: dict[str, dict[str, Any]] = {
    "late-concat": {"fusion": "concat", "branches": "joint", "decision": "joint"},
    "jf-concat": {"fusion": "concat", "decision": "joint"},
    "jf-mmfa": {"branches": "joint", "decision": "joint"},
    "ji-mmfa": {"decision": "average"},
    "ji-adf-noaux": {"lambda_joint": 0.0, "lambda_image": 0.0, "lambda_metadata": 0.0},
    "ji-adf": {},
}


def variant_settings(name: str) -> dict[str, Any]:
    """Return the parameter overrides that turn ji-adf into a design of Figure 3.

    Parameters
    ----------
    name : str
        A key of `VARIANTS`. "late-concat" and "jf-mmfa" have the joint head alone; "jf-concat" has
        three heads, trained with auxiliary losses, and predicts from the joint one; "ji-mmfa"
        averages three heads; "ji-adf-noaux" has the gate but no auxiliary loss.
    """
    if name not in VARIANTS:
        raise ValueError(f"variant {name!r} is unknown: choose one of {', '.join(VARIANTS)}")
    return dict(VARIANTS[name])


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """What the network is made of.

    Attributes
    ----------
    modalities : str
        Letters of C (clinical), D (dermoscopic) and M (metadata), in any order, each once.
    image_features, metadata_features : int
        Width of one image's features after its encoder, and of the encoded metadata; needed
        only where the modality is present.
    num_classes, metadata_width, num_heads, head_dim, joint_width, gate_hidden : int
        Widths; `metadata_width` is that of the metadata MLP.
    fusion : {"mmfa", "concat"}
        Equation (11), or the plain concatenation of the streams' features.
    paths : {"both", "attention", "skip"}
        Terms of equation (11); ``fusion_paths`` in a run's parameters.
    mmfa_tokens : {2, 3}
        Tokens of MMFA where both images and metadata come in: image and metadata, or clinical,
        dermoscopic and metadata. The branches are image, metadata and joint in either case. Without
        one of the three modalities there are fewer tokens anyway, and it makes no difference.
    dropout : float
        On the features of each stream, in the metadata MLP and on MMFA's output.
    modality_dropout : float
        While training, each modality of each sample is missing with this probability, never all of
        them: a sample that would lose all keeps all. Missing is what it is at test time, see
        `JIADF.streams`.
    branches : {"all", "joint"}
        A head for each stream and the joint features, or for the joint features alone.
    decision : {"adf", "average", "joint"}
        Equations (5) and (6), their fixed average, or the joint head.
    gate_input : {"logits", "features"}
        What the gate of (5) reads: all branches' logits, or the features under their heads.

    Raises
    ------
    ValueError
        Naming the parameter and what to set instead.
    """

    modalities: str = "CDM"
    image_features: int = 0
    metadata_features: int = 0
    num_classes: int = 11
    metadata_width: int = 128
    fusion: str = "mmfa"
    paths: str = "both"
    mmfa_tokens: int = 2
    num_heads: int = 4
    head_dim: int = 32
    joint_width: int = 256
    dropout: float = 0.2
    modality_dropout: float = 0.0
    branches: str = "all"
    decision: str = "adf"
    gate_hidden: int = 32
    gate_input: str = "logits"

    def __post_init__(self) -> None:
        letters = self.modalities
        if not letters or set(letters) - set(MODALITIES) or len(set(letters)) != len(letters):
            raise ValueError(
                f"modalities is {letters!r}: give one or more of the letters C, D and M, each once"
            )
        object.__setattr__(self, "modalities", "".join(sorted(letters)))
        for name, allowed in (
            ("fusion", FUSIONS),
            ("paths", PATHS),
            ("branches", BRANCHES),
            ("decision", DECISIONS),
            ("gate_input", GATE_INPUTS),
            ("mmfa_tokens", MMFA_TOKENS),
        ):
            value = getattr(self, name)
            if value not in allowed:
                shown = "fusion_paths" if name == "paths" else name
                raise ValueError(
                    f"{shown} is {value!r}: choose one of {', '.join(map(str, allowed))}"
                )
        needed = {
            "num_classes": 2,
            "image_features": int(bool(set("CD") & set(self.modalities))),
            "metadata_features": int("M" in self.modalities),
        }
        for name in ("metadata_width", "num_heads", "head_dim", "joint_width", "gate_hidden"):
            needed[name] = 1
        for name, least in needed.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}: give at least {least}")
        for name in ("dropout", "modality_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}: give a share from 0 to below 1")
        if len(self.modalities) == 1:
            return
        if self.branches == "joint" and self.decision != "joint":
            raise ValueError(
                f"decision is {self.decision!r} with branches 'joint': one head leaves nothing to "
                "combine; set decision to 'joint', or branches to 'all'"
            )
        if self.fusion == "concat" and self.paths != "both":
            raise ValueError(
                f"fusion_paths is {self.paths!r} with fusion 'concat', which has no paths: set "
                "fusion to 'mmfa', or leave fusion_paths at 'both'"
            )
        if self.fusion == "concat" and self.mmfa_tokens != 2:
            raise ValueError(
                f"mmfa_tokens is {self.mmfa_tokens} with fusion 'concat', which has no tokens: set "
                "fusion to 'mmfa', or leave mmfa_tokens at 2"
            )
        if self.decision != "adf" and self.gate_input != "logits":
            raise ValueError(
                f"gate_input is {self.gate_input!r} with decision {self.decision!r}, which has no "
                "gate: set decision to 'adf', or leave gate_input at 'logits'"
            )

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any], **sizes: int) -> NetworkConfig:
        """Build from a run's flat parameters; names that are not the network's are ignored.

        `sizes` are what the data and the backbone tell: image_features, metadata_features,
        num_classes.
        """
        names = {field.name: field.name for field in fields(cls)} | {"paths": "fusion_paths"}
        chosen = {field: parameters[name] for field, name in names.items() if name in parameters}
        return cls(**(chosen | sizes))

    @property
    def image_streams(self) -> tuple[str, ...]:
        """Images that come in; dermoscopic first, as in f_img = [E_d(x_d); E_c(x_c)]."""
        return tuple(MODALITIES[letter] for letter in "DC" if letter in self.modalities)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Modalities that come in, as a batch names them."""
        return (*self.image_streams, *(("metadata",) if "M" in self.modalities else ()))

    @property
    def stream_widths(self) -> dict[str, int]:
        """Feature width of each stream, in the order of the branches."""
        if "M" not in self.modalities:
            return {name: self.image_features for name in sorted(self.image_streams)}
        image = len(self.image_streams) * self.image_features
        return ({"image": image} if image else {}) | {"metadata": self.metadata_width}

    @property
    def token_widths(self) -> dict[str, int]:
        """Feature width of each token of MMFA, in order: the streams, or the three modalities."""
        if self.mmfa_tokens == 3 and self.modalities == "CDM":
            images = {name: self.image_features for name in sorted(self.image_streams)}
            return images | {"metadata": self.metadata_width}
        return self.stream_widths

    @property
    def branch_names(self) -> tuple[str, ...]:
        """Names of the heads; the joint one is last."""
        streams = tuple(self.stream_widths)
        individual = self.branches == "all" and len(streams) > 1
        return (*streams, "joint") if individual else ("joint",)

    @property
    def effective_decision(self) -> str:
        """The decision in force: with a single modality that of its only head."""
        return self.decision if len(self.stream_widths) > 1 else "joint"


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
        Further terms of the loss, weighted, that a baseline trains on; while training only.
    """

    log_posterior: Tensor
    logits: dict[str, Tensor]
    weights: Tensor | None = None
    attention: Tensor | None = None
    log_weights: Tensor | None = None
    auxiliary: dict[str, Tensor] | None = None


def _without(values: Tensor, missing: Tensor | None) -> Tensor:
    """Return (B, width) values with zeros in the rows that `missing`, (B,) bool, names."""
    return values if missing is None else values.masked_fill(missing[:, None], 0.0)


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
                len(config.branch_names), config.num_classes, config.gate_hidden, read
            )

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
            metadata = _without(batch["metadata"], missing.get("metadata"))
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
    ) -> tuple[Tensor, Tensor | None]:
        """Return the log posterior (B, K) and the log branch weights (B, b) or None.

        `features` by branch, (B, width) each, are needed where the gate reads them.
        """
        decision = self.config.effective_decision
        if decision == "joint":
            return at_least_float32(logits["joint"]).log_softmax(dim=-1), None
        stacked = torch.stack(list(logits.values()), dim=-2)  # (B, b, K)
        if decision == "adf":
            evidence = None
            if self.config.gate_input == "features" and features is not None:
                evidence = torch.cat([features[name] for name in logits], dim=-1)
            log_weights = self.adf.log_weights(stacked, evidence)  # (B, b)
        else:
            even = -math.log(stacked.shape[-2])
            log_weights = torch.full_like(at_least_float32(stacked[..., 0]), even)  # (B, b)
        return fuse_log_posteriors(log_weights, stacked), log_weights

    def forward(self, batch: Mapping[str, Tensor]) -> NetworkOutput:
        """Run the network.

        Parameters
        ----------
        batch : mapping
            "clinical" and "dermoscopic", what the image encoders take, (B, 3, H, W), or (B, F)
            without encoders; "metadata" (B, D). Modalities that are not configured are ignored.
            Optionally "clinical_missing", "dermoscopic_missing" and "metadata_missing", (B,) bool:
            samples without that modality, whose values are not used.
        """
        streams = {name: self.dropout(value) for name, value in self.streams(batch).items()}
        joint, attention = self.fuse(streams)
        features = {**streams, "joint": joint}
        logits = {name: head(features[name]) for name, head in self.heads.items()}  # (B, K) each
        log_posterior, log_weights = self.decide(logits, features)
        weights = None if log_weights is None else log_weights.exp()
        return NetworkOutput(log_posterior, logits, weights, attention, log_weights)

"""What the network of JI-ADF is made of, and the designs of Figure 3, as configuration.

``NetworkConfig`` says which modalities come in, how they are fused, which heads exist and how
their decisions become one posterior; ``variant_settings`` names the settings of the designs that
Figure 3 of the paper compares.

Streams: with metadata and images, ``image`` (dermoscopic and clinical features concatenated) and
``metadata``; with the two images alone, ``clinical`` and ``dermoscopic``; with a single modality
there is nothing to fuse, hence one head, called ``joint``, whatever the fusion settings say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from jiadf.models.mmfa import PATHS

MODALITIES = {"C": "clinical", "D": "dermoscopic", "M": "metadata"}
FUSIONS = ("mmfa", "concat")
BRANCHES = ("all", "joint")
DECISIONS = ("adf", "average", "joint")
GATE_INPUTS = ("logits", "features")
GATE_DETACH = ("nothing", "reading", "decision")
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
    monet_features : int
        Last columns of the metadata that are MONET scores, half of them of each image.
    modality_dropout : float
        While training, each modality of each sample is missing with this probability, never all of
        them: a sample that would lose all keeps all. Missing is what it is at test time, see
        `JIADF.streams`. With the same probability the MONET scores of either image are.
    branches : {"all", "joint"}
        A head for each stream and the joint features, or for the joint features alone.
    decision : {"adf", "average", "joint"}
        Equations (5) and (6), their fixed average, or the joint head.
    gate_input : {"logits", "features"}
        What the gate of (5) reads: all branches' logits, or the features under their heads.
    gate_temperature : float
        What the gate's scores are divided by.
    gate_calibration : bool
        The gate reads and mixes each branch's logits over a temperature learned with it.
    gate_detach : {"nothing", "reading", "decision"}
        What of the fused decision's gradient is kept from the heads: nothing; what comes through
        the gate's reading of them; or all, so that the decision's loss trains the gate alone.
    gate_holdout : float
        Share of the training samples that train the gate alone while the others train the heads.
        Needs `gate_detach` "decision".
    gate_warmup : float
        Share of the epochs, at the start, in which all weights are even.
    gate_entropy, gate_balance : float
        Weights of the losses `closedness` and `imbalance` of :mod:`jiadf.models.adf`.

    Raises
    ------
    ValueError
        Naming the parameter and what to set instead.
    """

    modalities: str = "CDM"
    image_features: int = 0
    metadata_features: int = 0
    monet_features: int = 0
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
    gate_temperature: float = 1.0
    gate_calibration: bool = False
    gate_detach: str = "nothing"
    gate_holdout: float = 0.0
    gate_warmup: float = 0.0
    gate_entropy: float = 0.0
    gate_balance: float = 0.0

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
            ("gate_detach", GATE_DETACH),
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
        for name in ("dropout", "modality_dropout", "gate_holdout", "gate_warmup"):
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
        defaults = {field.name: field.default for field in fields(self)}
        of_gate = [n for n in defaults if n.startswith("gate_") and n != "gate_hidden"]
        for name in of_gate:
            if self.decision != "adf" and getattr(self, name) != defaults[name]:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r} with decision {self.decision!r}, which has "
                    f"no gate: set decision to 'adf', or leave {name} at {defaults[name]!r}"
                )
        if self.gate_holdout and self.gate_detach != "decision":
            raise ValueError(
                f"gate_holdout is {self.gate_holdout} with gate_detach {self.gate_detach!r}: "
                "samples kept from the heads must not reach them through the decision; set "
                "gate_detach to 'decision'"
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

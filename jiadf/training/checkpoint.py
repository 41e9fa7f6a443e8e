"""Checkpoints: the tensors and the JSON state that a killed run goes on from, in one file.

The file is safetensors, so that nothing is ever unpickled; nested dicts and lists that hold
tensors, such as an optimiser's state, are taken apart by :func:`split_tensors`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from jiadf.files import atomic
from jiadf.training.run_folder import RunError, unshared


def save_checkpoint(path: Path, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
    """Write tensors and a JSON state into one file, whole or not at all."""
    with atomic(path) as staged:
        staged.write_bytes(save(unshared(tensors), {"state": json.dumps(state)}))


def load_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """Return what was saved, None if nothing was, or raise `RunError` if the file is damaged."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return tensors, json.loads(file.metadata()["state"])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path}: damaged ({error}). Delete this file; the run then starts from its beginning."
        ) from None


def clones(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copy weights where they lie; tensors shared between modules stay shared."""
    copies: dict[int, torch.Tensor] = {}
    return {k: copies.setdefault(v.data_ptr(), v.detach().clone()) for k, v in state.items()}


def with_prefix(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Take the tensors whose names start with ``prefix``, and the prefix off."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def split_tensors(state: Any, key: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Move the tensors of nested dicts and lists to ``tensors``; each leaves its key behind."""
    if isinstance(state, torch.Tensor):
        tensors[key] = state
        return {"tensor": key}
    if isinstance(state, dict):
        return {"items": [[k, split_tensors(v, f"{key}.{k}", tensors)] for k, v in state.items()]}
    if isinstance(state, (list, tuple)):
        return [split_tensors(value, f"{key}.{i}", tensors) for i, value in enumerate(state)]
    return state


def join_tensors(state: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Undo :func:`split_tensors`."""
    if isinstance(state, dict) and "tensor" in state:
        return tensors[state["tensor"]]
    if isinstance(state, dict):
        return {k: join_tensors(v, tensors) for k, v in state["items"]}
    if isinstance(state, list):
        return [join_tensors(value, tensors) for value in state]
    return state

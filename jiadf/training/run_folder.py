"""Run folders: everything a training run leaves behind, and nothing that must be unpickled.

============================ ====================================================================
``config.yaml``              every parameter
``encoder.json``             the fitted metadata encoder
``history.csv``              a row an epoch, ``train_`` and ``val_`` columns
``model.safetensors``        the weights that are kept
``predictions.csv``          split, lesion, label, eleven probabilities, branch weights, and every
                             branch's own probabilities
``metrics.json``             metrics of each part, the best epoch; its presence says "finished"
``environment.json``         versions, device, data fingerprint, git commit, seconds
``checkpoint.safetensors``   the state to resume from; gone when the run is finished
============================ ====================================================================

Every file is written under another name and renamed, so a killed run leaves whole files only.
"""

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from filelock import FileLock, Timeout
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from jiadf.config import Parameters, make_parameters, read_yaml, to_yaml
from jiadf.files import atomic

PACKAGES = (
    "jiadf",
    "torch",
    "torchvision",
    "timm",
    "accelerate",
    "numpy",
    "pandas",
    "scikit-learn",
)


class RunError(ValueError):
    """A run folder is missing, incomplete, or belongs to another configuration."""


class BusyError(RunError):
    """Another process trains this run now."""


@dataclass(frozen=True)
class Run:
    """A run folder at ``path``; reading methods raise :class:`RunError` naming what is missing."""

    path: Path

    @property
    def finished(self) -> bool:
        """Whether training ended and everything was written."""
        return (self.path / "metrics.json").exists()

    @property
    def parameters(self) -> Parameters:
        """The run's parameters."""
        return make_parameters(read_yaml(self._existing("config.yaml")), str(self.path))

    @property
    def history(self) -> pd.DataFrame:
        """A row an epoch."""
        return pd.read_csv(self._existing("history.csv"))

    @property
    def predictions(self) -> pd.DataFrame:
        """Indexed by ``lesion_id``; see the module's table."""
        return pd.read_csv(self._existing("predictions.csv"), index_col="lesion_id")

    @property
    def metrics(self) -> dict[str, Any]:
        """Metrics by part (``val``, ``test``), with ``best_epoch``."""
        return json.loads(self._existing("metrics.json").read_text())

    @property
    def environment(self) -> dict[str, Any]:
        """Versions, device, data fingerprint, commit, seconds."""
        return json.loads(self._existing("environment.json").read_text())

    def text(self, name: str) -> str:
        """Read a text file of the folder."""
        return self._existing(name).read_text()

    def weights(self) -> dict[str, torch.Tensor]:
        """Weights of the best epoch."""
        return load_file(self._existing("model.safetensors"))

    def write_text(self, name: str, text: str) -> None:
        """Write a text file whole."""
        with atomic(self.path / name) as staged:
            staged.write_text(text)

    def write_json(self, name: str, value: Any) -> None:
        """Write JSON whole."""
        self.write_text(name, json.dumps(value, indent=2) + "\n")

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """Write a CSV whole, with the index if it is named."""
        with atomic(self.path / name) as staged:
            table.to_csv(staged, index=table.index.name is not None, float_format="%.8g")

    def write_weights(self, state: Mapping[str, torch.Tensor]) -> None:
        """Write the best epoch's weights whole; tensors shared between modules are stored once."""
        with atomic(self.path / "model.safetensors") as staged:
            save_file(unshared(state), staged)

    def save_checkpoint(self, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        """Write tensors and a JSON state into one file, whole or not at all."""
        with atomic(self.path / "checkpoint.safetensors") as staged:
            save_file(unshared(tensors), staged, metadata={"state": json.dumps(state)})

    def load_checkpoint(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """Return what :meth:`save_checkpoint` wrote, or None."""
        path = self.path / "checkpoint.safetensors"
        if not path.exists():
            return None
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return tensors, json.loads(file.metadata()["state"])

    def drop_checkpoint(self) -> None:
        """Delete the checkpoint of a finished run."""
        (self.path / "checkpoint.safetensors").unlink(missing_ok=True)

    @contextmanager
    def trained_here(self, wait: bool = True) -> Iterator[None]:
        """Let one process at a time train; the others wait for it, or raise `BusyError`.

        The lock lies beside the folder and ends with its process, however that ends. Of the
        processes that one launcher started for one run, the first one holds it for all.
        """
        if int(os.environ.get("RANK", "0")):
            yield
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
        try:
            held = lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            raise BusyError(f"{self.path}: another process trains this run.") from None
        with held:
            yield

    def claim(self, parameters: Parameters) -> None:
        """Write ``config.yaml``, or check that the folder already belongs to ``parameters``."""
        if not (self.path / "config.yaml").exists():
            self.write_text("config.yaml", to_yaml(parameters))
            return
        old, new = self.parameters.model_dump(), parameters.model_dump()
        changed = [
            f"{name}: {old[name]} there, {new[name]} now" for name in old if old[name] != new[name]
        ]
        if changed:
            raise RunError(
                f"{self.path}: holds a run with other parameters ({'; '.join(changed)}). "
                "Give another --run, or delete the folder to train anew."
            )

    def _existing(self, name: str) -> Path:
        path = self.path / name
        if not path.exists():
            raise RunError(
                f"{path}: not there. Give a finished run folder, or finish this one with "
                f"`jiadf train --run {self.path}` and the parameters it was begun with."
            )
        return path


def unshared(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Keep one name of each storage, in order; loading fills the others through the module."""
    kept: dict[int, str] = {}
    for name, tensor in state.items():
        kept.setdefault(tensor.data_ptr() if tensor.numel() else id(tensor), name)
    return {name: state[name].detach().cpu().contiguous() for name in kept.values()}


def clones(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copy weights where they lie; tensors shared between modules stay shared."""
    copies: dict[int, torch.Tensor] = {}
    return {k: copies.setdefault(v.data_ptr(), v.detach().clone()) for k, v in state.items()}


def with_prefix(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Take the tensors whose names start with ``prefix``, and the prefix off."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def environment(
    device: str, precision: str, fingerprint: dict[str, str], seconds: float
) -> dict[str, Any]:
    """Describe where a run was made; ``seconds`` is its wall time over all its sessions."""
    return {
        "packages": package_versions(PACKAGES),
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "CPU",
        "precision": precision,
        "threads": torch.get_num_threads(),
        "data": fingerprint,
        "git_commit": git_commit(),
        "seconds": round(seconds, 1),
    }


def package_versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Version of each installed package, None for those that are not there."""
    versions: dict[str, str | None] = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return versions


def git_commit() -> str | None:
    """Commit of the code in use, with ``+changes`` if the tree differs; None outside a checkout."""
    folder = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + (
            "+changes" if git("status", "--porcelain", "-uno") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return None


def split_tensors(state: Any, prefix: str) -> tuple[Any, dict[str, torch.Tensor]]:
    """Take the tensors out of nested dicts and lists; each leaves its key behind."""
    tensors: dict[str, torch.Tensor] = {}

    def walk(value: Any, key: str) -> Any:
        if isinstance(value, torch.Tensor):
            tensors[key] = value
            return {"tensor": key}
        if isinstance(value, dict):
            return {"items": [[k, walk(v, f"{key}.{k}")] for k, v in value.items()]}
        if isinstance(value, (list, tuple)):
            return [walk(v, f"{key}.{i}") for i, v in enumerate(value)]
        return value

    return walk(state, prefix), tensors


def join_tensors(state: Any, tensors: dict[str, torch.Tensor], prefix: str) -> Any:
    """Undo :func:`split_tensors`."""
    if isinstance(state, dict) and "tensor" in state:
        return tensors[state["tensor"]]
    if isinstance(state, dict):
        return {k: join_tensors(v, tensors, prefix) for k, v in state["items"]}
    if isinstance(state, list):
        return [join_tensors(v, tensors, prefix) for v in state]
    return state

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
``digests.json``             a digest of each file above, of a finished run
``checkpoint.safetensors``   the state to resume from; gone when the run is finished
============================ ====================================================================

Every file is written whole or not at all. What is read of a finished run is held against its digest
first: a flipped bit in the weights would go on predicting, with other probabilities.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from jiadf.config import Parameters, make_parameters, read_yaml, to_yaml
from jiadf.data.metadata import MetadataEncoder
from jiadf.data.tables import read_written
from jiadf.files import atomic, read_regular

CHECKPOINT = "checkpoint.safetensors"
SEALED = (
    *("config.yaml", "encoder.json", "history.csv"),
    *("model.safetensors", "predictions.csv", "environment.json"),
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
        return make_parameters(read_yaml(self._whole("config.yaml")), str(self.path))

    @property
    def encoder(self) -> MetadataEncoder:
        """The metadata encoder that was fitted on the training lesions."""
        file = self._whole("encoder.json")
        return MetadataEncoder.from_json(file.read_text(), file)

    @property
    def history(self) -> pd.DataFrame:
        """A row an epoch."""
        return pd.read_csv(self._whole("history.csv"))

    @property
    def predictions(self) -> pd.DataFrame:
        """Indexed by ``lesion_id``; see the module's table."""
        return read_written(self._whole("predictions.csv"))

    @property
    def metrics(self) -> dict[str, Any]:
        """Metrics by part (``val``, ``test``), with ``best_epoch``."""
        return self._json("metrics.json")

    @property
    def environment(self) -> dict[str, Any]:
        """Versions, device, data fingerprint, commit, seconds."""
        return self._json("environment.json")

    def weights(self) -> dict[str, torch.Tensor]:
        """Read the weights that were kept."""
        return load_file(self._whole("model.safetensors"))

    def claim(self, parameters: Parameters) -> None:
        """Write ``config.yaml``, or check that the folder already belongs to ``parameters``."""
        if not (self.path / "config.yaml").exists():
            self.write_text("config.yaml", to_yaml(parameters))
            return
        old, new = self.parameters.model_dump(), parameters.model_dump()
        changed = [f"{n}: {old[n]} there, {new[n]} now" for n in old if old[n] != new[n]]
        if changed:
            raise RunError(
                f"{self.path}: holds a run with other parameters ({'; '.join(changed)}). "
                "Give another --run, or delete the folder to train anew."
            )

    @contextmanager
    def trained_here(self, wait: bool = True) -> Iterator[None]:
        """Let one process at a time train; the others wait for it, or raise `BusyError`.

        Of the processes that one launcher started for one run, the first one holds it for all.
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

    def write_text(self, name: str, text: str) -> None:
        """Write a text file whole."""
        with atomic(self.path / name) as staged:
            staged.write_text(text)

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """Write a CSV whole, with the index if it is named."""
        with atomic(self.path / name) as staged:
            table.to_csv(staged, index=table.index.name is not None, float_format="%.8g")

    def write_weights(self, state: Mapping[str, torch.Tensor]) -> None:
        """Write weights whole; tensors shared between modules are stored once."""
        with atomic(self.path / "model.safetensors") as staged:
            staged.write_bytes(save(unshared(state)))

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Write the digests of what the folder holds, then ``metrics.json``: all is there."""
        text = json_text(metrics)
        files = [self.path / name for name in SEALED]
        digests = {file.name: _digest(file.read_bytes()) for file in files if file.exists()}
        digests["metrics.json"] = _digest(text.encode())
        self.write_text("digests.json", json_text(digests))
        self.write_text("metrics.json", text)
        (self.path / CHECKPOINT).unlink(missing_ok=True)

    def _json(self, name: str) -> dict[str, Any]:
        return json.loads(self._whole(name).read_text())

    def _whole(self, name: str) -> Path:
        """Return the path of a file that is there and, of a finished run, what the run wrote."""
        path = self.path / name
        try:
            content = read_regular(path)
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(
                f"{path}: not there. Give a finished run folder, or finish this one with "
                f"`jiadf train --run {self.path}` and the parameters it was begun with."
            ) from None
        except OSError as error:
            raise RunError(f"{path}: cannot be read ({error.strerror}); restore it.") from None
        if self.finished and _digest(content) != self._digests().get(name):
            raise RunError(
                f"{path}: is not what the run wrote; it was edited or damaged. Restore it, or "
                "delete the folder and train anew."
            )
        return path

    def _digests(self) -> dict[str, str]:
        file = self.path / "digests.json"
        try:
            return dict(json.loads(read_regular(file)))
        except (OSError, ValueError, TypeError) as error:
            raise RunError(
                f"{file}: cannot be read ({error}), so nothing says that the run is whole. Restore "
                "it, or delete the folder and train anew."
            ) from None


def json_text(value: Any) -> str:
    """Return JSON text in which undefined numbers (NaN) are null."""

    def defined(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: defined(item) for name, item in value.items()}
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(defined(value), indent=2) + "\n"


def unshared(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Keep one name of each storage, in order; loading fills the others through the module."""
    kept: dict[int, str] = {}
    for name, tensor in state.items():
        kept.setdefault(tensor.data_ptr() if tensor.numel() else id(tensor), name)
    return {name: state[name].detach().cpu().contiguous() for name in kept.values()}


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


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()

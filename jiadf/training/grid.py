"""Grids of runs: many systems, seeds and folds, trained once each and read from their folders.

A grid is a YAML file::

    base: ../cpu.yaml          # what all runs share: a file, a mapping, or a list of them, where
                               # later ones win
    protocol: out-of-fold      # or: validation
    seeds: [0, 1]
    systems:                   # a name and what it changes
      CDM: {}
      CD: {modalities: CD}

With ``validation`` the lesions that choose the epoch are scored, as in the paper's split; with
``out-of-fold`` each fold in turn, and the next one validates, or trains too under ``keep: last``.
A finished run is never repeated; one that fails leaves its reason in ``error.txt`` and the others
go on.
"""

import itertools
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from jiadf.config import ParameterError, Parameters, make_parameters, parse_parameters, read_yaml
from jiadf.training.run_folder import BusyError, Run
from jiadf.training.trainer import train

PARTS = {"validation": "val", "out-of-fold": "test"}


class Grid(BaseModel):
    """A grid as its file states it; read one with :func:`load_grid`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: dict[str, Any]
    protocol: Literal["validation", "out-of-fold"] = "validation"
    seeds: list[int] = Field(min_length=1)
    systems: dict[str, dict[str, Any]] = Field(min_length=1)

    @field_validator("systems")
    @classmethod
    def _can_be_systems(cls, systems: dict[str, Any]) -> dict[str, Any]:
        folders: dict[str, str] = {}
        for name, changes in systems.items():
            if "/" in name or name.startswith("."):
                raise ValueError(f"system {name!r} names a folder: no slash, no leading dot")
            other = folders.setdefault(folder_name(name), name)
            if other != name:
                raise ValueError(f"systems {other!r} and {name!r} would share a folder; rename one")
            if "n_folds" in changes:
                raise ValueError(f"system {name!r} sets n_folds, which all share; set it in base")
        return systems

    @property
    def scored_part(self) -> str:
        """The part whose lesions are scored, ``val`` or ``test``."""
        return PARTS[self.protocol]

    def require(self, names: Iterable[str]) -> None:
        """Raise :class:`jiadf.config.ParameterError` if the grid lacks one of these systems."""
        missing = ", ".join(repr(name) for name in names if name not in self.systems)
        if missing:
            known = ", ".join(self.systems)
            raise ParameterError(f"the grid has no system {missing}; it has {known}.")

    def folds(self) -> list[dict[str, int | None]]:
        """Return the folds of each run of a system and seed."""
        if self.protocol == "validation":
            return [{}]
        n = make_parameters({"n_folds": self.base.get("n_folds", Parameters().n_folds)}).n_folds
        last = self.base.get("keep") == "last"  # nothing is left to choose: train on the others
        return [{"test_fold": f, "val_fold": None if last else (f + 1) % n} for f in range(n)]

    def runs(self, folder: Path) -> "Iterator[GridRun]":
        """Yield every run, system by system."""
        for system, changes in self.systems.items():
            for seed, folds in itertools.product(self.seeds, self.folds()):
                values = self.base | changes | folds | {"seed": seed}
                parameters = make_parameters(values, f"system {system!r}")
                fold = folds.get("test_fold", parameters.val_fold)
                path = folder / folder_name(system) / f"seed{seed}-fold{fold}"
                yield GridRun(system, seed, fold, parameters, path)


def folder_name(system: str) -> str:
    """Return the name of the folder of a system's runs."""
    return system.replace(" ", "_")


@dataclass(frozen=True)
class GridRun:
    """One run of a grid and where its folder lies."""

    system: str
    seed: int
    fold: int
    parameters: Parameters
    path: Path

    @property
    def failure(self) -> str:
        """Kind and message of the error that the last attempt ended with; empty if none did."""
        file = self.path / "error.txt"
        return file.read_text().strip().splitlines()[-1] if file.exists() else ""


def load_grid(file: str | Path, overrides: Iterable[str] = ()) -> Grid:
    """Read a grid; ``name=value`` items replace the base's values, never a system's own changes.

    What is wrong with it is a :class:`jiadf.config.ParameterError` naming the file.
    """
    file, given = Path(file), parse_parameters(overrides)
    values = read_yaml(file)
    base = values.get("base", {})
    parts = base if isinstance(base, list) else [base]
    parts = [read_yaml(file.parent / p) if isinstance(p, str) else p for p in parts]
    if all(isinstance(part, dict) for part in parts):  # else the model says what is wrong
        values["base"] = {n: value for part in (*parts, given) for n, value in part.items()}
    try:
        grid = Grid(**values)
        list(grid.runs(Path()))  # every system's parameters are checked before any run is made
    except ValidationError as error:
        lines = [f"{file}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ParameterError("\n".join(lines)) from None
    except ParameterError as error:
        raise ParameterError(f"{file}: {error}") from None
    taken = {"seed", *(name for folds in grid.folds() for name in folds)}
    taken |= set.intersection(*map(set, grid.systems.values()))  # else it would change nothing
    if taken := given.keys() & taken:
        raise ParameterError(
            f"-p {', '.join(sorted(taken))}: {file} sets this for each run, by its seeds, its "
            "protocol or its systems; write a grid of your own to change it."
        )
    return grid


def run_grid(
    grid: Grid,
    lesions: pd.DataFrame,
    folder: str | Path,
    cache_dir: str | Path | None = None,
    *,
    only: str | None = None,
    progress: bool = True,
) -> list[GridRun]:
    """Train what is not finished yet and return the runs that failed.

    Several processes may work on one folder: each takes runs that no other one has. ``only`` names
    the one system to train; ``progress`` prints a line a run.
    """
    if only is not None:
        grid.require([only])
    chosen = [run for run in grid.runs(Path(folder)) if only in (None, run.system)]
    failed, options = [], {"progress": False, "shared": {}}
    numbered = [(*pair, False) for pair in enumerate(chosen, 1)]
    for number, run, wait in numbered:
        error_file = run.path / "error.txt"
        try:
            made = train(lesions, run.path, run.parameters, cache_dir, wait=wait, **options)
            error_file.unlink(missing_ok=True)
            outcome = f"macro-F1 {made.metrics[grid.scored_part]['macro_f1']:.3f}"
        except BusyError:
            numbered.append((number, run, True))  # after all others, wait for the other process
            continue
        except Exception as error:  # one broken run must not cost the others
            run.path.mkdir(parents=True, exist_ok=True)
            error_file.write_text(traceback.format_exc())
            failed.append(run)
            outcome = f"failed: {error} ({error_file})"
        if progress:
            label = f"{run.system}, seed {run.seed}, fold {run.fold}"
            print(f"[{number}/{len(chosen)}] {label}: {outcome}", flush=True)
    return failed


def collect(grid: Grid, folder: str | Path) -> pd.DataFrame:
    """Return a row a run: system, seed, fold, state and, where it is finished, its metrics."""
    rows = []
    for run in grid.runs(Path(folder)):
        row: dict[str, Any] = {"system": run.system, "seed": run.seed, "fold": run.fold}
        made = Run(run.path)
        if made.finished:
            metrics = made.metrics
            row |= {"state": "finished", "best_epoch": metrics["best_epoch"]}
            row |= {"seconds": made.environment["seconds"], **metrics[grid.scored_part]}
        else:
            row["state"] = "failed" if (run.path / "error.txt").exists() else "missing"
        rows.append(row)
    return pd.DataFrame(rows)

"""What the commands of :mod:`jiadf.cli` share: options, and the telling of faults."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option

DataOption = Annotated[
    Path, Option("--data", help="Folder in the official MILK10k layout.", show_default=False)
]
RunOption = Annotated[Path, Option("--run", help="Run folder.", show_default=False)]
RunsOption = Annotated[
    list[Path],
    Option("--run", help="Run folder, or a folder of run folders; repeatable.", show_default=False),
]
RunFolderOption = Annotated[
    Path, Option("--runs", help="Folder of the run folders.", show_default=False)
]
CacheOption = Annotated[
    Path | None, Option("--cache", help="Folder of image and feature caches [default: user cache].")
]
OverrideOption = Annotated[
    list[str] | None, Option("-p", metavar="NAME=VALUE", help="Set one parameter; repeatable.")
]
PartOption = Annotated[
    str | None, Option(help="training or test [default: what the folder holds].")
]
QuietOption = Annotated[bool, Option("--quiet", "-q", help="No progress bars.")]


def tells_faults(command: Callable[..., None]) -> Callable[..., None]:
    """Print an input error instead of a traceback, and exit with 1; expand ``~`` in paths."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **{name: _expanded(value) for name, value in kwargs.items()})
        except typer.Exit:  # a RuntimeError to Python
            raise
        except (ValueError, OSError, RuntimeError) as error:
            typer.echo(f"jiadf: {error}", err=True)
            raise typer.Exit(1) from error

    return wrapped


def _expanded(value: Any) -> Any:
    """Replace ``~``: a shell does not in ``--run=~/x``."""
    if isinstance(value, list):
        return [_expanded(item) for item in value]
    return value.expanduser() if isinstance(value, Path) else value


def headline(summary: dict[str, float | None]) -> str:
    """Say the main figures of :func:`jiadf.evaluation.metrics.summary` in a line."""
    names = {
        "macro_f1": "macro-F1", "macro_f1_at_half": "macro-F1 at 0.5", "macro_auc": "macro AUC",
        "macro_ap": "macro AP", "balanced_accuracy": "balanced accuracy", "ece": "ECE",
    }  # fmt: skip
    said = {label: summary[name] for name, label in names.items()}
    return ", ".join(
        f"{label} undefined" if value is None or value != value else f"{label} {value:.3f}"
        for label, value in said.items()
    )

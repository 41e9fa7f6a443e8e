"""What the commands of :mod:`jiadf.cli` share: options, and the telling of faults."""

import re
from pathlib import Path
from typing import Annotated

import typer
from typer import Option
from typer.core import TyperGroup

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
RecordsOption = Annotated[
    Path | None,
    Option(help="Folder of the records.", show_default="book/results of the repository"),
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


class TellingGroup(TyperGroup):
    """Tells an input error in a line, with exit code 1, and expands the ``~`` of ``--run=~/x``."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        """Replace ``~``, which a shell does not behind an equals sign."""
        tilde = re.compile(r"^(--[\w-]+=)~(?=/|$)")
        args = [tilde.sub(lambda found: f"{found[1]}{Path.home()}", arg) for arg in args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: typer.Context) -> object:
        """Run a command; its input errors are told instead of a traceback."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):  # RuntimeErrors to Python
            raise
        except (ValueError, OSError, RuntimeError) as error:
            typer.echo(f"jiadf: {error}", err=True)
            raise typer.Exit(1) from error


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

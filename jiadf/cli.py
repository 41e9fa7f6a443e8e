"""The ``jiadf`` command: check, draw and download MILK10k; train, predict and score.

A fault of the input ends a command with a message on standard error and exit code 1; wrong usage
with exit code 2, as Typer has it.
"""

import json
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from jiadf import __version__

# Heavy imports (torch) stand inside the commands, so that `--help` and `check` answer at once.

app = typer.Typer(
    help="Multimodal skin-lesion classification on MILK10k: JI-ADF, rebuilt. Not a medical device.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DataOption = Annotated[
    Path, typer.Option("--data", help="Folder in the official MILK10k layout.", show_default=False)
]
RunOption = Annotated[Path, typer.Option("--run", help="Run folder.", show_default=False)]
CacheOption = Annotated[
    Path | None,
    typer.Option("--cache", help="Folder of image and feature caches [default: user cache]."),
]
OverrideOption = Annotated[
    list[str] | None,
    typer.Option("-p", metavar="NAME=VALUE", help="Set one parameter; repeatable."),
]
PartOption = Annotated[
    str | None, typer.Option(help="training or test [default: what the folder holds].")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]


def _tells_faults(command: Callable[..., None]) -> Callable[..., None]:
    """Print an input error instead of a traceback, and exit with 1."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (ValueError, OSError, RuntimeError) as error:
            typer.echo(f"jiadf: {error}", err=True)
            raise typer.Exit(1) from error

    return wrapped


def _version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command("check")
@_tells_faults
def check_command(
    folder: Annotated[Path, typer.Argument(help="Folder in the official MILK10k layout.")],
    part: PartOption = None,
    images: Annotated[bool, typer.Option(help="Decode every image.")] = True,
    all_faults: Annotated[bool, typer.Option("--all", help="Print every fault.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Tell every fault of a MILK10k folder in one pass: file, row and remedy."""
    from jiadf.data.check import check, find_stray_files
    from jiadf.data.faults import format_faults
    from jiadf.data.layout import Layout

    faults = check(folder, part, images=images, progress=not quiet)
    if faults:
        typer.echo(format_faults(faults, None) if all_faults else format_faults(faults), err=True)
        raise typer.Exit(1)
    if stray := find_stray_files(Layout.detect(folder, part)):
        typer.echo(f"note: {len(stray)} files that no table names, the first {stray[0]}")
    typer.echo(f"{folder}: no faults" + ("" if images else " (images not decoded)"))


@app.command()
@_tells_faults
def synth(
    folder: Annotated[Path, typer.Argument(help="Folder to make; must not hold anything else.")],
    lesions: Annotated[int, typer.Option(min=1, help="Number of lesions.")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same bytes.")] = 0,
    part: Annotated[str, typer.Option(help="training or test.")] = "training",
    width: Annotated[int, typer.Option(min=64, help="Width of the images in pixels.")] = 600,
    masks: Annotated[bool, typer.Option(help="Also write lesion masks.")] = False,
) -> None:
    """Draw the synthetic MILK10k: the same layout and columns, procedural lesions."""
    from jiadf.data.synth import synthesise

    size = (width, width * 3 // 4)
    synthesise(folder, lesions, seed, image_size=size, part=part, masks=masks)
    typer.echo(f"{folder}: {lesions} synthetic lesions")


@app.command("download")
@_tells_faults
def download_command(
    folder: Annotated[Path, typer.Argument(help="Folder to download into.")],
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="You have read and accept CC BY-NC 4.0.")
    ] = False,
    part: Annotated[list[str] | None, typer.Option(help="training, test; repeatable.")] = None,
    quiet: QuietOption = False,
) -> None:
    """Download the official MILK10k files; goes on where a broken download stopped."""
    from jiadf.data.download import download

    parts = tuple(part or ("training",))
    download(folder, accept_license=accept_license, parts=parts, progress=not quiet)
    typer.echo(f"{folder}: complete; run `jiadf check {folder}` next")


@app.command("train")
@_tells_faults
def train_command(
    data: DataOption,
    run: RunOption,
    params: Annotated[
        Path | None, typer.Option(help="YAML file of parameters, e.g. params/cpu.yaml.")
    ] = None,
    override: OverrideOption = None,
    cache: CacheOption = None,
    quiet: QuietOption = False,
) -> None:
    """Train a network, or go on with a run that was killed, and print its metrics."""
    from jiadf.config import load_parameters
    from jiadf.data.read import read_lesions
    from jiadf.train import train

    parameters = load_parameters(params, override)
    lesions = read_lesions(data, "training")
    finished = train(lesions, run, parameters, cache, progress=not quiet)
    metrics = finished.metrics
    for name in ("val", "test"):
        if name in metrics:
            typer.echo(f"{name}: {_headline(metrics[name])}")
    typer.echo(f"{run}: best epoch {metrics['best_epoch']}")


@app.command("grid")
@_tells_faults
def grid_command(
    file: Annotated[Path, typer.Argument(help="Grid, e.g. params/grids/paper.yaml.")],
    data: DataOption,
    runs: Annotated[
        Path, typer.Option("--runs", help="Folder of the run folders.", show_default=False)
    ],
    system: Annotated[
        str | None, typer.Option(help="Train this system only.", show_default="all of them")
    ] = None,
    override: OverrideOption = None,
    cache: CacheOption = None,
    quiet: QuietOption = False,
) -> None:
    """Train the runs of a grid that are not finished yet; print macro-F1 by system."""
    from jiadf.data.read import read_lesions
    from jiadf.grid import collect, load_grid, run_grid

    grid = load_grid(file, override or ())
    lesions = read_lesions(data, "training")
    failed = run_grid(grid, lesions, runs, cache, only=system, progress=not quiet)
    made = collect(grid, runs).query("state == 'finished'")
    if system is not None:
        made = made[made["system"] == system]
    for name, rows in made.groupby("system", sort=False):
        spread = f" ± {rows['macro_f1'].std():.3f}" if len(rows) > 1 else ""
        typer.echo(f"{name}: macro-F1 {rows['macro_f1'].mean():.3f}{spread}, {len(rows)} runs")
    if failed:
        raise ValueError(
            f"runs that failed: {len(failed)}; error.txt in each folder says why, the first "
            f"{failed[0].path}. Say the command again to make them anew."
        )


@app.command()
def params() -> None:
    """List every parameter of a run with its default, as YAML to start a file from."""
    from jiadf.config import commented_yaml

    typer.echo(commented_yaml(), nl=False)


@app.command("predict")
@_tells_faults
def predict_command(
    run: RunOption,
    data: DataOption,
    out: Annotated[Path, typer.Option(help="CSV to write, in submission format.")],
    part: PartOption = None,
    split: Annotated[
        str | None, typer.Option(help="Only the run's train, val or test lesions.")
    ] = None,
    weights: Annotated[bool, typer.Option("--weights", help="Add the branch weights.")] = False,
    cache: CacheOption = None,
    quiet: QuietOption = False,
) -> None:
    """Write a challenge submission: lesion_id and eleven probabilities a lesion."""
    from jiadf.data.read import read_lesions
    from jiadf.data.schema import CLASSES
    from jiadf.predict import predict
    from jiadf.runs import Run
    from jiadf.submission import write_submission

    finished = Run(run)
    lesions = read_lesions(data, part)
    only = None if split is None else _lesions_of(finished, split, lesions.index)
    table = predict(finished, lesions, cache, only=only, progress=not quiet)
    if weights:
        from jiadf.files import atomic

        with atomic(out) as staged:
            table.to_csv(staged)
    else:
        write_submission(out, table.index, table[list(CLASSES)])
    typer.echo(f"{out}: {len(table)} lesions")


def _lesions_of(run: Any, split: str, present: Any) -> list[str]:
    predictions = run.predictions
    known = sorted(predictions["split"].unique())
    if split not in known:
        raise ValueError(f"{run.path} has no {split!r} lesions; it has {', '.join(known)}.")
    chosen = predictions.index[predictions["split"] == split]
    missing = chosen.difference(present)
    if len(missing):
        raise ValueError(
            f"{len(missing)} {split} lesions of {run.path} are not in the data folder, the first "
            f"{missing[0]}; give the folder that the run was trained on."
        )
    return list(chosen)


@app.command("score")
@_tells_faults
def score_command(
    pred: Annotated[Path, typer.Option(help="Predictions in submission format.")],
    truth: Annotated[Path, typer.Option(help="Ground truth CSV, one-hot.")],
    subset: Annotated[
        bool, typer.Option("--subset", help="Score the predicted lesions only.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write JSON here.")] = None,
) -> None:
    """Score predictions with the metrics of the ISIC live benchmark."""
    import pandas as pd

    from jiadf.submission import read_submission, score_files

    lesions = read_submission(pred).index if subset else None
    result = score_files(pred, truth, lesions)
    table = pd.DataFrame(result["per_class"])
    typer.echo(table.to_string(float_format="{:.3f}".format))
    typer.echo(_headline(result["summary"]))
    if json_file:
        from jiadf.files import atomic

        with atomic(json_file) as staged:
            staged.write_text(json.dumps(result, indent=2) + "\n")


def _headline(summary: dict[str, float]) -> str:
    names = {
        "macro_f1": "macro-F1",
        "macro_f1_at_half": "macro-F1 at 0.5",
        "macro_auc": "macro AUC",
        "macro_ap": "macro AP",
        "balanced_accuracy": "balanced accuracy",
        "ece": "ECE",
    }
    return ", ".join(f"{label} {summary[name]:.3f}" for name, label in names.items())


if __name__ == "__main__":
    sys.exit(app())

"""The ``jiadf`` command: check and download MILK10k; train, predict, explain and score.

A fault of the input ends a command with a message on standard error and exit code 1; wrong usage
with exit code 2, as Typer has it.
"""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from jiadf import __version__
from jiadf.cli import submission
from jiadf.cli.options import (
    CacheOption,
    DataOption,
    OverrideOption,
    PartOption,
    QuietOption,
    RecordsOption,
    RunFolderOption,
    RunOption,
    TellingGroup,
    headline,
)
from jiadf.memory import keep_freed_memory

# Heavy imports (torch) stand inside the commands, so that `--help` and `check` answer at once.

app = typer.Typer(
    cls=TellingGroup,
    help="Multimodal skin-lesion classification on MILK10k: JI-ADF, rebuilt. Not a medical device.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    keep_freed_memory()


@app.command("check")
def check_command(
    folder: Annotated[Path, Argument(help="Folder in the official MILK10k layout.")],
    part: PartOption = None,
    images: Annotated[bool, Option(help="Decode every image.")] = True,
    all_faults: Annotated[bool, Option("--all", help="Print every fault.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Tell every fault of a MILK10k folder in one pass: file, row and remedy."""
    from jiadf.data.faults import format_faults
    from jiadf.data.read import check

    faults = check(folder, part, images=images, progress=not quiet)
    if faults:
        typer.echo(format_faults(faults, None) if all_faults else format_faults(faults), err=True)
        raise typer.Exit(1)
    typer.echo(f"{folder}: no faults" + ("" if images else " (images not decoded)"))


@app.command("download")
def download_command(
    folder: Annotated[Path, Argument(help="Folder to download into.")],
    accept_license: Annotated[
        bool, Option("--accept-license", help="You have read and accept CC BY-NC 4.0.")
    ] = False,
    part: Annotated[list[str] | None, Option(help="training, test; repeatable.")] = None,
    quiet: QuietOption = False,
) -> None:
    """Download the official MILK10k files; goes on where a broken download stopped."""
    from jiadf.data.download import download

    parts = tuple(part or ("training",))
    download(folder, accept_license=accept_license, parts=parts, progress=not quiet)
    typer.echo(f"{folder}: complete; run `jiadf check {folder}` next")


@app.command("train")
def train_command(
    data: DataOption,
    run: RunOption,
    params: Annotated[
        Path | None, Option(help="YAML file of parameters, e.g. params/cpu.yaml.")
    ] = None,
    override: OverrideOption = None,
    cache: CacheOption = None,
    quiet: QuietOption = False,
) -> None:
    """Train a network, or go on with a run that was killed, and print its metrics."""
    from jiadf.config import load_parameters
    from jiadf.data.read import read_lesions
    from jiadf.training.trainer import train

    parameters = load_parameters(params, override or ())
    lesions = read_lesions(data, "training")
    metrics = train(lesions, run, parameters, cache, progress=not quiet).metrics
    for name in ("val", "test"):
        if name in metrics:
            typer.echo(f"{name}: {headline(metrics[name])}")
    typer.echo(f"{run}: best epoch {metrics['best_epoch']}")


@app.command("grid")
def grid_command(
    file: Annotated[Path, Argument(help="Grid, e.g. params/grids/finetuned.yaml.")],
    data: DataOption,
    runs: RunFolderOption,
    system: Annotated[
        str | None, Option(help="Train this system only.", show_default="all of them")
    ] = None,
    override: OverrideOption = None,
    cache: CacheOption = None,
    quiet: QuietOption = False,
) -> None:
    """Train the runs of a grid that are not finished yet; print macro-F1 by system."""
    from jiadf.data.read import read_lesions
    from jiadf.training.grid import collect, load_grid, run_grid

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


@app.command("record")
def record_command(
    file: Annotated[Path, Argument(metavar="GRID", help="Grid whose runs are recorded.")],
    data: DataOption,
    runs: RunFolderOption,
    name: Annotated[str, Option(help="Name of the record.", show_default=False)],
    out: RecordsOption = None,
    system: Annotated[
        list[str] | None,
        Option(help="Record this system only; repeatable.", show_default="all of them"),
    ] = None,
    branches_of: Annotated[
        list[str] | None,
        Option(help="System whose branches are recorded too; repeatable."),
    ] = None,
    partial: Annotated[
        bool, Option("--partial", help="Leave out systems with unfinished runs.")
    ] = False,
    views: Annotated[
        int, Option(min=1, help="Views of each image to average (1: as the runs predicted).")
    ] = 1,
    cache: CacheOption = None,
    override: OverrideOption = None,
) -> None:
    """Record the predictions of a grid's finished runs, for pages to compute from.

    Nothing is written if a run is not finished, unless --partial leaves its system out.
    """
    from jiadf.data.read import read_lesions
    from jiadf.evaluation.predictions import results_folder, write_lesions, write_predictions
    from jiadf.training.grid import load_grid
    from jiadf.training.record import lesion_table, record_grid_predictions

    folder = results_folder() if out is None else out
    lesions = read_lesions(data, "training", image_files=views > 1)
    grid = load_grid(file, override or ())
    options = {"systems": system or None, "allow_missing": partial}
    options |= {"views": views, "cache_dir": cache}
    table, provenance = record_grid_predictions(grid, runs, lesions, branches_of or (), **options)
    write_lesions(folder, lesion_table(lesions, data))
    written = write_predictions(folder, name, table, provenance)
    for left_out, reason in provenance.get("not_recorded", {}).items():
        typer.echo(f"left out: {left_out}: {reason}")
    seeds, kilobytes = len(provenance["seeds"]), written.stat().st_size / 1000
    typer.echo(
        f"{written}: {len(provenance['systems'])} systems, {seeds} seeds, "
        f"{table['lesion_id'].nunique():,} lesions, {kilobytes:,.0f} kB"
    )


@app.command("scores")
def scores_command(
    name: Annotated[str, Argument(help="Record of predictions.")],
    results: RecordsOption = None,
) -> None:
    """Score each system of a record, at its own and at the hidden test set's prevalence."""
    from jiadf.evaluation.scores import format_scores, score_table

    typer.echo(format_scores(score_table(name, results)))


@app.command()
def params() -> None:
    """List every parameter of a run with its default, as YAML to start a file from."""
    from jiadf.config import commented_yaml

    typer.echo(commented_yaml(), nl=False)


app.add_typer(submission.app)  # without a name: its commands stand beside these

"""The commands around recorded predictions: record and scores."""

from pathlib import Path
from typing import Annotated

import typer

from jiadf.cli.options import DataOption, OverrideOption, tells_faults

# Heavy imports (torch) stand inside the commands, so that `--help` answers at once.

app = typer.Typer()


@app.command("record")
@tells_faults
def record_command(
    file: Annotated[Path, typer.Argument(metavar="GRID", help="Grid whose runs are recorded.")],
    data: DataOption,
    runs: Annotated[
        Path, typer.Option("--runs", help="Folder of the run folders.", show_default=False)
    ],
    name: Annotated[str, typer.Option(help="Name of the record.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the records.", show_default="book/results of the repository"),
    ] = None,
    system: Annotated[
        list[str] | None,
        typer.Option(help="Record this system only; repeatable.", show_default="all of them"),
    ] = None,
    branches_of: Annotated[
        list[str] | None,
        typer.Option(help="System whose branches are recorded too; repeatable."),
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Leave out systems with unfinished runs.")
    ] = False,
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
    lesions = read_lesions(data, "training", image_files=False)
    grid = load_grid(file, override or ())
    table, provenance = record_grid_predictions(
        grid, runs, lesions, branches_of or (), systems=system or None, allow_missing=partial
    )
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
@tells_faults
def scores_command(
    name: Annotated[str, typer.Argument(help="Record of predictions.")],
    results: Annotated[
        Path | None,
        typer.Option(help="Folder of the records.", show_default="book/results of the repository"),
    ] = None,
) -> None:
    """Score each system of a record, at its own and at the hidden test set's prevalence."""
    from jiadf.evaluation.scores import format_scores, score_table

    typer.echo(format_scores(score_table(name, results)))

"""The commands around a submission: predict, thresholds, validate and score."""

import json
from pathlib import Path
from typing import Annotated

import typer

from jiadf.cli.options import (
    CacheOption,
    DataOption,
    PartOption,
    QuietOption,
    RunsOption,
    headline,
    tells_faults,
)

# Heavy imports (torch) stand inside the commands, so that `--help` answers at once.

app = typer.Typer()


@app.command("predict")
@tells_faults
def predict_command(
    out: Annotated[Path, typer.Option(help="CSV to write, in submission format.")],
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Folder in the official MILK10k layout.", show_default=False),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            "--table",
            help="CSV of your own images instead: a column clinical or dermoscopic, or both.",
            show_default=False,
        ),
    ] = None,
    run: Annotated[
        list[Path] | None,
        typer.Option(
            "--run",
            help="Run folder, or a folder of run folders; repeatable.",
            show_default="the packaged model",
        ),
    ] = None,
    views: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Views of every lesion to average (1: the images alone).",
            show_default="each run's prediction_views",
        ),
    ] = None,
    thresholds: Annotated[
        Path | None,
        typer.Option(help="Move each class's cut to 0.5: a file of `jiadf thresholds`."),
    ] = None,
    part: PartOption = None,
    split: Annotated[
        str | None, typer.Option(help="Only the run's train, val or test lesions.")
    ] = None,
    weights: Annotated[bool, typer.Option("--weights", help="Add the branch weights.")] = False,
    decode: Annotated[
        bool, typer.Option(help="Decode every image first, to tell all faults at once.")
    ] = True,
    cache: CacheOption = None,
    quiet: QuietOption = False,
) -> None:
    """Write lesion_id and eleven probabilities a lesion, of a MILK10k folder or your own images.

    Of a folder this is a challenge submission. Several runs are then an ensemble, whose
    probabilities are averaged. Input with faults is refused, every fault named, and nothing is
    written. Not a medical device.
    """
    if (data is None) == (table is None):
        given = "both were given" if data else "neither was given"
        raise typer.BadParameter(
            f"give a MILK10k folder (--data) or a CSV of your own images (--table); {given}.",
            param_hint="--data / --table",
        )
    folder_only = {
        "--views": views is not None,
        "--thresholds": thresholds is not None,
        "--part": part is not None,
        "--split": split is not None,
        "--no-decode": not decode,
        "--cache": cache is not None,
        "a second --run": len(run or ()) > 1,
    }
    if table is not None and any(folder_only.values()):
        names = ", ".join(name for name, given in folder_only.items() if given)
        raise typer.BadParameter(f"{names}: only with --data, not with --table.")
    if split is not None and not run:
        raise typer.BadParameter("--split needs --run: the packaged model keeps no split.")

    from jiadf.model import Model, pretrained_path
    from jiadf.submission.entry import lesions_of, read_checked, write_entry
    from jiadf.submission.lesion_prediction import NOT_A_DEVICE

    typer.echo(NOT_A_DEVICE, err=True)
    if table is not None:
        predicted = Model(run[0] if run else None).predict_table(table)
        write_entry(out, predicted, weights=weights)
        typer.echo(f"{out}: {len(predicted)} lesions")
        return
    from jiadf.data.schema import CLASSES
    from jiadf.evaluation.thresholds import load_thresholds
    from jiadf.submission.ensemble import find_runs, predict_ensemble

    runs = find_runs(run or [pretrained_path()])
    cuts = None if thresholds is None else load_thresholds(thresholds)
    lesions = read_checked(data, part, images=decode, progress=not quiet)
    only = None if split is None else lesions_of(runs, split, lesions.index)
    predicted = predict_ensemble(runs, lesions, cache, views=views, only=only, progress=not quiet)
    if cuts is not None:
        predicted[list(CLASSES)] = cuts.apply(predicted[list(CLASSES)])
    write_entry(out, predicted, weights=weights)
    many = "" if len(runs) == 1 else f", mean of {len(runs)} runs"
    typer.echo(f"{out}: {len(predicted)} lesions{many}")


@app.command("thresholds")
@tells_faults
def thresholds_command(
    run: RunsOption,
    out: Annotated[Path, typer.Option(help="JSON to write.")],
    strength: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Lesions that the common cut counts for: 0 own cuts, inf one cut for all.",
            show_default="chosen by cross-validation over the test folds",
        ),
    ] = None,
) -> None:
    """Fit a cut for each class on the test lesions of runs, for `jiadf predict --thresholds`.

    Give all folds (and seeds) of one system: every lesion is then predicted by networks that took
    nothing from it.
    """
    from jiadf.data.schema import CLASSES
    from jiadf.submission.ensemble import find_runs
    from jiadf.submission.entry import fit_on_test_folds

    fitted = fit_on_test_folds(find_runs(run), strength)
    fitted.save(out)
    told = ", ".join(f"{n} {v:.3f}" for n, v in zip(CLASSES, fitted.values, strict=True))
    typer.echo(f"{out}: strength {fitted.strength:g}, {sum(fitted.lesions)} lesions; cuts {told}")


@app.command("validate")
@tells_faults
def validate_command(
    file: Annotated[Path, typer.Argument(help="CSV in submission format.")],
    data: DataOption,
    part: PartOption = None,
    rewrite: Annotated[
        Path | None, typer.Option(help="Write it here as `jiadf predict` would.")
    ] = None,
) -> None:
    """Tell what the benchmark's scorer would refuse in a submission, for the lesions of a folder.

    What it accepts in another form (columns in another order, ids that end in .jpg), and columns of
    whole numbers, which it refuses, can be rewritten.
    """
    from jiadf.data.faults import format_faults
    from jiadf.data.read import read_lesions
    from jiadf.submission import benchmark_file

    lesions = read_lesions(data, part, image_files=False).index
    faults = benchmark_file.validate_submission(file, lesions, source=str(data))
    if rewrite and all(fault.kind == benchmark_file.WHOLE_NUMBERS for fault in faults):
        table = benchmark_file.read_submission(file)
        benchmark_file.write_submission(rewrite, table.index, table)
        file, faults = rewrite, []
    if faults:
        typer.echo(format_faults(faults, None), err=True)
        raise typer.Exit(1)
    typer.echo(f"{file}: no faults, {len(lesions)} lesions")


@app.command("score")
@tells_faults
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

    from jiadf.submission.benchmark_file import read_submission, score_files

    lesions = read_submission(pred).index if subset else None
    result = score_files(pred, truth, lesions)
    table = pd.DataFrame(result["per_class"])
    typer.echo(table.astype(float).to_string(float_format="{:.3f}".format))
    for reason in dict.fromkeys(result["undefined"].values()):
        codes = [code for code, why in result["undefined"].items() if why == reason]
        typer.echo(f"no AUC (NaN) of {', '.join(codes)}: {reason}")
    typer.echo(headline(result["summary"]))
    if json_file:
        from jiadf.files import atomic

        with atomic(json_file) as staged:
            staged.write_text(json.dumps(result, indent=2) + "\n")

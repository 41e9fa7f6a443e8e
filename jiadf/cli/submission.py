"""The commands around predictions: predict, explain, thresholds, validate and score."""

import json
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from jiadf.cli.options import (
    CacheOption,
    DataOption,
    PartOption,
    QuietOption,
    RunsOption,
    headline,
)

# Heavy imports (torch) stand inside the commands, so that `--help` answers at once.

app = typer.Typer()
PACKAGED = "the packaged model"


@app.command("predict")
def predict_command(
    out: Annotated[Path, Option(help="CSV to write, in submission format.")],
    data: Annotated[Path | None, Option(help="Folder in the official MILK10k layout.")] = None,
    table: Annotated[
        Path | None,
        Option(help="CSV of your own images instead: a column clinical or dermoscopic, or both."),
    ] = None,
    run: Annotated[
        list[Path] | None,
        Option(help="Run folder, or a folder of run folders; repeatable.", show_default=PACKAGED),
    ] = None,
    views: Annotated[
        int, Option(min=1, help="Test-time augmentation: views to average (1: images alone).")
    ] = 1,
    thresholds: Annotated[
        Path | None, Option(help="Rescale by thresholds: a file of `jiadf thresholds`.")
    ] = None,
    part: PartOption = None,
    split: Annotated[str | None, Option(help="Only the run's train, val or test lesions.")] = None,
    weights: Annotated[bool, Option("--weights", help="Add the branch weights.")] = False,
    decode: Annotated[
        bool, Option(help="Decode every image first, to tell all faults at once.")
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
            f"give a MILK10k folder (--data) or a CSV of your own images (--table); {given}."
        )
    folder_only = {
        "--views": views > 1, "--thresholds": thresholds, "--part": part, "--split": split,
        "--no-decode": not decode, "--cache": cache, "a second --run": len(run or ()) > 1,
    }  # fmt: skip
    if table is not None and any(folder_only.values()):
        names = ", ".join(name for name, given in folder_only.items() if given)
        raise typer.BadParameter(f"{names}: only with --data, not with --table.")
    if split is not None and not run:
        raise typer.BadParameter("--split needs --run: the packaged model keeps no split.")

    from jiadf.model import PRETRAINED, Model
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

    runs = find_runs(run or [PRETRAINED])
    rescaling = None if thresholds is None else load_thresholds(thresholds)
    lesions = read_checked(data, part, images=decode, progress=not quiet)
    only = None if split is None else lesions_of(runs, split, lesions.index)
    predicted = predict_ensemble(runs, lesions, cache, views=views, only=only, progress=not quiet)
    if rescaling is not None:
        predicted[list(CLASSES)] = rescaling.apply(predicted[list(CLASSES)])
    write_entry(out, predicted, weights=weights)
    many = "" if len(runs) == 1 else f", mean of {len(runs)} runs"
    typer.echo(f"{out}: {len(predicted)} lesions{many}")


@app.command("explain")
def explain_command(
    table: Annotated[Path, Option(help="CSV of your own images.")],
    out: Annotated[Path, Option(help="Folder to write; new, empty, or of cards alone.")],
    run: Annotated[Path | None, Option(help="Run folder.", show_default=PACKAGED)] = None,
) -> None:
    """Write a card a lesion of your own images, as HTML and PNG: what is said of it, and why.

    A card shows both images with heat maps, eleven probabilities, what each branch says and
    weighs, and what each input contributed. A table with faults is refused, every fault named, and
    nothing is written. Not a medical device.
    """
    from jiadf.explanation.card_folder import own_folder, write_cards
    from jiadf.explanation.explain import explain
    from jiadf.model import Model
    from jiadf.submission.lesion_prediction import NOT_A_DEVICE
    from jiadf.submission.own_images import read_own_images

    typer.echo(NOT_A_DEVICE, err=True)
    with own_folder(out) as folder:
        model = Model(run)
        own = read_own_images(table, model.parameters.image_size)
        explained = explain(model, own.lesions, model.own_inputs(own))
        write_cards(folder, explained, about=model.description)
    typer.echo(f"{out}: cards of {len(explained)} lesions, HTML and PNG")


@app.command("thresholds")
def thresholds_command(
    run: RunsOption,
    out: Annotated[Path, Option(help="JSON to write.")],
    strength: Annotated[
        float | None,
        Option(
            min=0,
            help="Shrinkage to the common threshold, in lesions: 0 none, inf one for all classes.",
            show_default="chosen by cross-validation over the test folds",
        ),
    ] = None,
) -> None:
    """Fit per-class thresholds on the test lesions of runs, for `jiadf predict --thresholds`.

    Give all folds (and seeds) of one system: every lesion is then predicted out of fold.
    """
    from jiadf.data.schema import CLASSES
    from jiadf.submission.ensemble import find_runs
    from jiadf.submission.entry import fit_on_test_folds

    fitted = fit_on_test_folds(find_runs(run), strength)
    fitted.save(out)
    values = ", ".join(f"{n} {v:.3f}" for n, v in zip(CLASSES, fitted.values, strict=True))
    typer.echo(f"{out}: {sum(fitted.lesions)} lesions, strength {fitted.strength:g}; {values}")


@app.command("validate")
def validate_command(
    file: Annotated[Path, Argument(help="CSV in submission format.")],
    data: DataOption,
    part: PartOption = None,
    rewrite: Annotated[Path | None, Option(help="Write it here as `jiadf predict` would.")] = None,
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
def score_command(
    pred: Annotated[Path, Option(help="Predictions in submission format.")],
    truth: Annotated[Path, Option(help="Ground truth CSV, one-hot.")],
    subset: Annotated[bool, Option("--subset", help="Score the predicted lesions only.")] = False,
    json_file: Annotated[Path | None, Option("--json", help="Also write JSON here.")] = None,
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

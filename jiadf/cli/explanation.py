"""The command around explanations: explain."""

from pathlib import Path
from typing import Annotated

import typer

from jiadf.cli.options import tells_faults

# Heavy imports (torch) stand inside the command, so that `--help` answers at once.

app = typer.Typer()


@app.command("explain")
@tells_faults
def explain_command(
    table: Annotated[
        Path, typer.Option("--table", help="CSV of your own images.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder to write; new, empty, or of cards alone.")],
    run: Annotated[
        Path | None, typer.Option("--run", help="Run folder.", show_default="the packaged model")
    ] = None,
) -> None:
    """Write a card a lesion of your own images, as HTML: what is said of it, and why.

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
    typer.echo(f"{out}: cards of {len(explained)} lesions")

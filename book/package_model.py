"""Package a finished run as the model that ``jiadf`` brings along, and say how good it is.

    python book/package_model.py RUN --data MILK10K --out jiadf/pretrained

The run must be one of ``params/best.yaml`` that left fold 0 out, of which the embedded sample is a
part. Weights become 16-bit floats; the README tells the scores on the lesions of fold
0, and what is left of them without one modality. The folder is written whole or not at all.
"""

import argparse
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from jiadf.config import load_parameters, to_yaml
from jiadf.data.batches import Inputs
from jiadf.data.read import read_lesions
from jiadf.data.sample import read_sample
from jiadf.evaluation.metrics import summary
from jiadf.evaluation.predictions import load_predictions
from jiadf.explanation.network import ExplainableNetwork
from jiadf.explanation.perturbations import field_missing, without
from jiadf.files import replace_folder
from jiadf.model import Model
from jiadf.training.predict import predict_inputs
from jiadf.training.run_folder import Run

BEST = Path(__file__).parents[1] / "params" / "best.yaml"
KEPT = ("encoder.json", "history.csv", "environment.json")
SCORES = {
    "macro_ap": "macro AP", "macro_auc": "macro AUC", "macro_f1": "macro-F1",
    "macro_f1_at_half": "macro-F1 at 0.5", "top1_accuracy": "top-1 accuracy", "ece": "ECE",
}  # fmt: skip
README = """# The trained model

{network} with the metadata, trained end to end on {train:,} lesions of
MILK10k (commit `{commit}`, {device}, {minutes:.0f} minutes):

```bash
jiadf train --data MILK10K --run RUN --params params/best.yaml -p test_fold=0 -p val_fold=null
python book/package_model.py RUN --data MILK10K --out jiadf/pretrained
```

`jiadf.load_model()` and `jiadf predict` use it unless told otherwise. Weights are 16-bit floats.

The {test} lesions of fold 0 took no part in its training; the embedded sample
(`jiadf/data/sample/`) is a part of them. One choice did look at them: another recipe, at 224 pixels
and without the term that keeps the gate open, was given up because its macro-F1 there was lower. On
these lesions, one network, 1 view of each image, no thresholds:

{table}

Fold 0 is one of the easier ones. The same recipe in all five folds, each lesion scored by a network
that never saw it, with one view and with the mean of four turned ones (`jiadf predict --views 4`):

{recipe}

Training left out each modality, and the MONET scores of each image, of a lesion in five, so that
what is missing costs no more than the table says. One run, one fold: differences of a hundredth or
two are chance.

**Not a medical device.** For research and teaching only.

Licence: CC BY-NC 4.0, since it was made from MILK10k (MILK study team,
https://doi.org/10.34970/648456); see `LICENSES/`.
"""


def changed_inputs(inputs: Inputs, columns: list[str]) -> dict[str, Inputs]:
    """Return the inputs as they are and without one thing each."""
    return {
        "everything": inputs,
        "no dermoscopic image": without(inputs, ["dermoscopic"]),
        "no clinical image": without(inputs, ["clinical"]),
        "no metadata": without(inputs, ["metadata"]),
        "no MONET scores": field_missing(inputs, columns, "MONET scores"),
        "clinical image alone": without(inputs, ["dermoscopic", "metadata"]),
    }


def header(first: str) -> list[str]:
    """Begin a table of scores."""
    return [f"| {first} | {' | '.join(SCORES.values())} |", "|---" + "|---:" * len(SCORES) + "|"]


def score_row(name: str, y_true: np.ndarray, y_prob: np.ndarray) -> str:
    """Say the scores in a row of a table."""
    scores = summary(y_true, y_prob)
    return f"| {name} | {' | '.join(f'{scores[key]:.3f}' for key in SCORES)} |"


def recipe_table() -> str:
    """Score the recipe's records, over the lesions of all folds."""
    rows = header("out of fold")
    for name, record in {"1 view": "best", "4 views": "best_views"}.items():
        recorded = load_predictions(record)
        rows.append(score_row(name, recorded.y_true, recorded.y_prob))
    return "\n".join(rows)


def score_table(model: Model, lesions) -> str:
    """Score what the model says of lesions with everything, and without one thing each."""
    inputs, network = model.inputs(lesions), ExplainableNetwork(model.network)
    streams = {name: network.encode(name, array) for name, array in inputs.streams.items()}
    encoded = replace(inputs, streams=streams)
    rows = header("given")
    for name, changed in changed_inputs(encoded, model.encoder.columns).items():
        prediction = predict_inputs(network.network, changed, model.parameters)
        rows.append(score_row(name, inputs.target, prediction.posterior))
    return "\n".join(rows)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    run, p = Run(arguments.run), Run(arguments.run).parameters
    parts, lesions = run.predictions["split"], read_lesions(arguments.data, "training")
    theirs = load_parameters(BEST, ["test_fold=0", "val_fold=null"])
    if p != theirs:
        parser.error(f"{arguments.run}: was not trained as {BEST} says, without fold 0.")
    if not (parts[read_sample().index] == "test").all():
        parser.error(f"{arguments.run}: lesions of the sample took part in its training.")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.out.parent) as staged:
        folder = Path(staged) / "model"
        folder.mkdir()
        for name in KEPT:
            shutil.copy(run.path / name, folder / name)
        # How it was trained is in its README; what loads it has images, on any processor.
        loaded = {"activation_views": 0, "mixed_precision": "no", "device": "auto"}
        (folder / "config.yaml").write_text(to_yaml(p.model_copy(update=loaded)))
        weights = {n: v.half() if v.is_floating_point() else v for n, v in run.weights().items()}
        if not all(torch.isfinite(v.float()).all() for v in weights.values()):
            parser.error(f"{arguments.run}: some weights are too large for 16 bits.")
        Run(folder).write_weights(weights)
        Run(folder).finish(run.metrics)
        model, environment = Model(folder), run.environment
        test = lesions.loc[parts.index[parts == "test"]]
        backbones = f"one `{p.backbone}` for both images" if p.share_backbone else (
            f"two `{p.backbone}`"
        )  # fmt: skip
        text = README.format(
            network=f"JI-ADF, {backbones} at {p.image_size} pixels,",
            train=(parts == "train").sum(),
            test=len(test),
            commit=environment["git_commit"][:8],
            device=f"{environment['device']}, {environment['threads']} thread",
            minutes=environment["seconds"] / 60,
            table=score_table(model, test),
            recipe=recipe_table(),
        )
        (folder / "README.md").write_text(text)
        replace_folder(folder, arguments.out)
    print(text)


if __name__ == "__main__":
    main()

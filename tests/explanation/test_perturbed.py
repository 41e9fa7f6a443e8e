import numpy as np
import pandas as pd
import pytest
import yaml

from jiadf.data.schema import CLASSES
from jiadf.evaluation import load_predictions
from jiadf.evaluation.predictions import models, write_lesions, write_predictions
from jiadf.evaluation.record import lesion_table
from jiadf.explanation.perturbed import perturbed_predictions
from jiadf.training.grid import load_grid, run_grid
from jiadf.training.run_folder import Run


@pytest.fixture(scope="module")
def record(lesions, milk10k, cache_dir, tiny_parameters, tmp_path_factory):
    """A grid of one end-to-end system over two folds, and its record under perturbations."""
    folder = tmp_path_factory.mktemp("perturbed")
    base = {"regime": "finetune", "epochs": 1, "n_folds": 2, "keep": "last", "image_size": 32}
    base |= {"schedule": "one-cycle", "backbone_weights": "random", "device": "cpu"}
    values = {"base": base, "protocol": "out-of-fold", "seeds": [0], "systems": {"ji-adf": {}}}
    (folder / "grid.yaml").write_text(yaml.safe_dump(values))
    grid = load_grid(folder / "grid.yaml")
    few = lesions.groupby("label").head(4)
    assert run_grid(grid, few, folder / "runs", cache_dir, progress=False) == []
    table, provenance = perturbed_predictions(
        grid, folder / "runs", few, cache_dir, systems=["ji-adf"], severities=(5,), progress=False
    )
    write_lesions(folder, lesion_table(few, milk10k))
    write_predictions(folder, "perturbed", table, provenance)
    runs = [Run(run.path) for run in grid.runs(folder / "runs")]
    return folder, few, runs


def test_intact_lesions_are_predicted_as_the_runs_did(record):
    folder, few, runs = record
    found = load_predictions("perturbed", "ji-adf / intact", folder)
    assert len(found) == len(few)
    scored = pd.concat([run.predictions.query("split == 'test'") for run in runs])
    expected = scored.loc[found.lesions.index]
    np.testing.assert_allclose(found.y_prob, expected[list(CLASSES)], atol=2e-4)
    weights = [f"weight_{name}" for name in found.weight_names]
    np.testing.assert_allclose(found.weights[0], expected[weights], atol=2e-4)


def test_each_perturbation_is_there_and_changes_what_it_should(record):
    folder = record[0]
    names = [name.removeprefix("ji-adf / ") for name in models("perturbed", folder)]
    assert len(names) == len(set(names)) == 1 + 4 + 5 + 2 + 3 + 1 + 2 * 5
    intact = load_predictions("perturbed", "ji-adf / intact", folder)
    for name in names[1:]:
        changed = load_predictions("perturbed", f"ji-adf / {name}", folder)
        same = {
            branch: np.allclose(changed.branches[branch], intact.branches[branch], atol=1e-9)
            for branch in ("image", "metadata")
        }
        of_metadata = name.startswith(("metadata", "age", "sex", "site", "skin", "MONET"))
        assert same["image"] == of_metadata, name
        assert same["metadata"] != of_metadata, name

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from jiadf.config import make_parameters
from jiadf.data.read import read_lesions
from jiadf.data.sample import sample_dir
from jiadf.data.schema import CLASSES
from jiadf.model import load_model
from jiadf.training.trainer import train

FILE = Path(__file__).parents[2] / "book" / "package_model.py"
spec = importlib.util.spec_from_file_location("package_model", FILE)
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that left fold 0 of the sample's lesions out, and these lesions."""
    lesions = read_lesions(sample_dir(), "training")
    parameters = make_parameters(
        {
            "regime": "finetune", "image_size": 32, "epochs": 1,
            "frozen_stages": 3, "activation_views": 1, "keep": "last", "schedule": "one-cycle",
            "val_fold": None, "test_fold": 0, "modality_dropout": 0.2, "device": "cpu",
        }
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("package")
    run = train(lesions, folder / "run", parameters, folder / "cache", progress=False)
    return run, lesions[(run.predictions["split"] == "test").to_numpy()]


def package(run, out, monkeypatch, sample, recipe=None):
    monkeypatch.setattr(tool, "BEST", recipe or run.path / "config.yaml")
    monkeypatch.setattr(tool, "read_sample", lambda: sample)
    arguments = [str(FILE), str(run.path), "--data", str(sample_dir()), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", arguments)
    tool.main()


def test_a_packaged_run_predicts_as_the_run_did_and_says_how_good(trained, tmp_path, monkeypatch):
    run, test = trained
    package(run, tmp_path / "model", monkeypatch, test)
    weights = load_file(tmp_path / "model" / "model.safetensors")
    assert {str(value.dtype) for value in weights.values()} == {"torch.float16", "torch.int64"}
    found = load_model(tmp_path / "model").predict_lesions(test)
    expected = run.predictions.loc[test.index]
    np.testing.assert_allclose(found[list(CLASSES)], expected[list(CLASSES)], atol=0.01)
    text = (tmp_path / "model" / "README.md").read_text()
    scores = json.loads((run.path / "metrics.json").read_text())["test"]
    everything = next(line for line in text.splitlines() if line.startswith("| everything"))
    assert float(everything.split("|")[2]) == pytest.approx(scores["macro_ap"], abs=0.02)
    assert "Not a medical device" in text
    assert "CC BY-NC 4.0" in text
    assert {path.name for path in (tmp_path / "model").iterdir()} == {
        *tool.KEPT, "config.yaml", "model.safetensors", "README.md", "metrics.json", "digests.json",
    }  # fmt: skip


def test_a_run_that_saw_the_sample_is_not_packaged(trained, tmp_path, monkeypatch, capsys):
    run, _ = trained
    with pytest.raises(SystemExit):
        package(run, tmp_path / "model", monkeypatch, read_lesions(sample_dir()))
    assert "lesions of the sample took part" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_a_run_of_another_recipe_is_not_packaged(trained, tmp_path, monkeypatch, capsys):
    run, test = trained
    with pytest.raises(SystemExit):
        package(run, tmp_path / "model", monkeypatch, test, tool.BEST)
    assert "was not trained as" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()

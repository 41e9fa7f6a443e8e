import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from jiadf.cli import app
from jiadf.data.schema import CLASSES
from tests.made_lesions import make_lesions

RUNNER = CliRunner()


def call(*arguments, code=0):
    result = RUNNER.invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result


@pytest.mark.parametrize("command", ["check", "download", "train", "grid", "predict", "explain"])
def test_every_command_explains_itself(command):
    assert command in call("--help").stdout
    assert "Usage" in call(command, "--help").stdout


def test_check_says_so_when_there_is_no_fault(milk10k):
    assert "no faults" in call("check", milk10k, "--quiet").stdout


def test_check_ends_with_1_and_names_the_fault(milk10k, tmp_path):
    folder = make_lesions(tmp_path / "d", 5)
    next((folder / "MILK10k_Training_Input").rglob("*.jpg")).unlink()
    result = call("check", folder, "--no-images", code=1)
    assert "MILK10k_Training_Input" in result.stderr
    assert call("check", tmp_path / "none", code=1).stderr


def test_train_predict_and_score(milk10k, cache_dir, tmp_path):
    run, out = tmp_path / "run", tmp_path / "val.csv"
    options = [item for p in ("image_size=32", "epochs=2", "feature_views=1") for item in ("-p", p)]
    shared = ["--cache", cache_dir, "--quiet"]
    result = call("train", "--data", milk10k, "--run", run, *options, *shared)
    assert "val: macro-F1" in result.stdout
    call("predict", "--run", run, "--data", milk10k, "--split", "val", "--out", out, *shared)
    assert list(pd.read_csv(out).columns) == ["lesion_id", *CLASSES]
    truth = milk10k / "MILK10k_Training_GroundTruth.csv"
    score = ["score", "--pred", out, "--truth", truth]
    call(*score, code=1)  # not every lesion is there
    scores = tmp_path / "scores.json"
    assert "macro-F1" in call(*score, "--subset", "--json", scores).stdout
    recorded = json.loads((run / "metrics.json").read_text())["val"]
    written = json.loads(scores.read_text())
    assert written["summary"]["macro_f1"] == pytest.approx(recorded["macro_f1"])
    assert written["summary"]["macro_auc"] == pytest.approx(recorded["macro_auc"], abs=1e-6)


def test_grid_trains_what_is_missing_and_tells_failures(milk10k, cache_dir, tmp_path):
    grid, runs = tmp_path / "grid.yaml", tmp_path / "runs"
    base = "base: {image_size: 32, epochs: 9, feature_views: 1, modalities: M}\n"
    grid.write_text(base + "seeds: [0, 1]\nsystems: {M: {}, no-monet: {use_monet: false}}\n")
    command = ["grid", grid, "--data", milk10k, "--runs", runs, "--cache", cache_dir]
    command += ["-p", "epochs=1"]
    told = call(*command, "--system", "M").stdout.splitlines()
    assert told[0].startswith("[1/2] M, seed 0, fold 1: macro-F1")
    assert len(told) == 3
    assert told[2].startswith("M: macro-F1 0.")
    assert told[2].endswith("2 runs")
    assert len(call(*command, "--quiet").stdout.splitlines()) == 2
    assert "epochs: 1\n" in (runs / "M/seed0-fold1/config.yaml").read_text()
    (runs / "no-monet/seed1-fold1/config.yaml").write_text("epochs: 2\n")  # belongs to another run
    result = call(*command, code=1)
    assert "[4/4] no-monet, seed 1, fold 1: failed" in result.stdout
    assert "runs that failed: 1" in result.stderr
    assert "no system 'x'; it has M, no-monet" in call(*command, "--system", "x", code=1).stderr


def test_wrong_parameter_names_are_refused_with_the_nearest(milk10k, tmp_path):
    result = call("train", "--data", milk10k, "--run", tmp_path / "r", "-p", "epoch=3", code=1)
    assert "did you mean 'epochs'?" in result.stderr
    assert not (tmp_path / "r").exists()


def test_an_unknown_split_is_refused(run, milk10k, tmp_path):
    out = tmp_path / "p.csv"
    arguments = ["predict", "--run", run.path, "--data", milk10k, "--out", out, "--split", "dev"]
    assert "it has test, train, val" in call(*arguments, code=1).stderr
    assert not out.exists()


def test_download_shows_the_licence_first(tmp_path):
    result = call("download", tmp_path / "d", code=1)
    assert "--accept-license" in result.stderr
    assert not (tmp_path / "d").exists()


def test_params_lists_what_train_takes():
    import yaml

    from jiadf.config import Parameters, make_parameters

    text = call("params").stdout
    assert make_parameters(yaml.safe_load(text)) == Parameters()
    assert "# Passes over the training lesions." in text


@pytest.fixture
def classes_0001(tmp_path):
    """Ten lesions whose ids look like numbers, all of one class, and probabilities for them."""
    lesions = pd.Index([f"{number:04d}" for number in range(10)], name="lesion_id")
    truth = pd.DataFrame(0.0, lesions, list(CLASSES)).assign(MEL=1.0)
    truth.to_csv(tmp_path / "truth.csv")
    truth.assign(MEL=[number / 10 for number in range(10)]).to_csv(tmp_path / "p.csv")
    return tmp_path


def test_scores_that_do_not_exist_are_null_with_the_reason(classes_0001):
    folder = classes_0001
    out = folder / "scores.json"
    files = ["--pred", folder / "p.csv", "--truth", folder / "truth.csv"]
    said = call("score", *files, "--json", out).stdout
    assert "no AUC (NaN) of MEL: every lesion is" in said
    assert "macro AUC undefined" in said
    assert "NaN" not in out.read_text()
    scores = json.loads(out.read_text())
    assert scores["summary"]["macro_auc"] is None
    assert scores["per_class"]["AUC"]["MEL"] is None
    assert scores["undefined"]["NV"] == "no lesion is of this class"


def test_a_tilde_is_the_home_folder_and_a_device_is_not_replaced(classes_0001, monkeypatch):
    monkeypatch.setenv("HOME", str(classes_0001))
    files = ["--pred=~/p.csv", "--truth=~/truth.csv"]
    call("score", *files, "--json=~/new/scores.json")
    assert (classes_0001 / "new" / "scores.json").is_file()
    call("score", *files, "--json=/dev/null")
    assert Path("/dev/null").is_char_device()


def test_a_submission_in_another_form_is_rewritten_on_request(tmp_path):
    folder = make_lesions(tmp_path / "d", 11)
    truth = pd.read_csv(folder / "MILK10k_Training_GroundTruth.csv")
    given, out = tmp_path / "p.csv", tmp_path / "new.csv"
    truth[["NV", *truth.columns.drop("NV")]].to_csv(given, index=False, float_format="%.0f")
    command = ["validate", given, "--data", folder]
    assert "no decimal point" in call(*command, code=1).stderr
    call(*command, "--rewrite", out)
    call("validate", out, "--data", folder)
    assert list(pd.read_csv(out).columns) == ["lesion_id", *CLASSES]

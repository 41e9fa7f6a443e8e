"""From a folder to a file: bad folders told whole, cuts from test folds, and the commands."""

import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from jiadf.cli import app
from jiadf.data import faults as kinds
from jiadf.data.faults import DataError
from jiadf.data.schema import CLASSES
from jiadf.evaluation.thresholds import load_thresholds
from jiadf.submission.benchmark_file import read_submission, validate_submission
from jiadf.submission.ensemble import predict_ensemble
from jiadf.submission.entry import (
    fit_on_test_folds,
    lesions_of,
    out_of_fold_table,
    read_checked,
    write_entry,
)
from jiadf.submission.own_images import InputError
from jiadf.training.grid import load_grid, run_grid
from jiadf.training.run_folder import Run, RunError
from tests.conftest import TINY
from tests.made_lesions import make_lesions

RUNNER = CliRunner()
NAMES = list(CLASSES)


def call(*arguments, code=0):
    result = RUNNER.invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory):
    """A folder in the official test layout."""
    return make_lesions(tmp_path_factory.mktemp("test") / "data", 14, part="test")


@pytest.fixture
def broken(unlabelled, tmp_path):
    """The same folder with ten things wrong."""
    folder = shutil.copytree(unlabelled, tmp_path / "broken")
    images = sorted((folder / "MILK10k_Test_Input").rglob("*.jpg"))
    images[0].unlink()
    images[2].write_bytes(images[2].read_bytes()[:700])
    images[4].write_text("not a picture")
    images[5].write_bytes(b"")
    file = folder / "MILK10k_Test_Metadata.csv"
    table = pd.read_csv(file, dtype=str)
    table.loc[12, "sex"] = "unknown"
    table.loc[14, "age_approx"] = "400"
    table.loc[16, "site"] = "elbow"
    table.loc[18, "MONET_hair"] = "much"
    table.loc[20, "isic_id"] = "../secret"
    table.loc[22, "isic_id"] = table.loc[23, "isic_id"]
    table.drop(index=25).to_csv(file, index=False)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory, lesions, cache_dir):
    """Two seeds of three folds, out of fold."""
    folder = tmp_path_factory.mktemp("grid")
    base = TINY | {"feature_views": 1, "epochs": 1, "n_folds": 3}
    values = {"protocol": "out-of-fold", "seeds": [0, 1], "systems": {"all": {}}, "base": base}
    (folder / "grid.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    grid = load_grid(folder / "grid.yaml")
    assert run_grid(grid, lesions, folder, cache_dir, progress=False) == []
    return grid, folder


def test_a_folder_with_many_faults_is_refused_with_all_and_nothing_is_written(
    run, broken, cache_dir, tmp_path
):
    out = tmp_path / "out" / "submission.csv"
    command = ["predict", "--run", run.path, "--data", broken, "--out", out, "--quiet"]
    told = call(*command, "--cache", tmp_path / "cache", code=1).stderr
    wanted = [
        kinds.UNSAFE_ID, kinds.DUPLICATE_ISIC_ID, kinds.UNKNOWN_CATEGORY, kinds.NOT_A_NUMBER,
        kinds.OUT_OF_RANGE, kinds.IMAGE_PAIR, kinds.DISAGREEING_ROWS, kinds.MISSING_IMAGE,
        kinds.TRUNCATED_IMAGE, kinds.NOT_AN_IMAGE,
    ]  # fmt: skip
    assert [kind for kind in wanted if f"\n{kind} (" not in told] == []
    for value in ("'unknown'", "400", "'elbow'", "much", "../secret"):
        assert value in told, value
    assert not out.parent.exists()
    assert not (tmp_path / "cache").exists()


def test_every_single_fault_is_spelled_out_however_many(unlabelled, tmp_path):
    folder = shutil.copytree(unlabelled, tmp_path / "many")
    images = sorted((folder / "MILK10k_Test_Input").rglob("*.jpg"))
    for image in images:
        image.unlink()
    with pytest.raises(InputError) as caught:
        read_checked(folder)
    assert len(caught.value.faults) == 28
    for image in images:
        assert image.name in str(caught.value)


def test_broken_pictures_are_found_before_prediction_unless_not_asked_for(unlabelled, tmp_path):
    folder = shutil.copytree(unlabelled, tmp_path / "d")
    image = next((folder / "MILK10k_Test_Input").rglob("*.jpg"))
    image.write_bytes(image.read_bytes()[:700])
    with pytest.raises(InputError, match="truncated image"):
        read_checked(folder)
    assert len(read_checked(folder, images=False)) == 14


def test_a_folder_without_labels_becomes_a_file_in_the_order_of_its_lesions(
    run, unlabelled, cache_dir, tmp_path
):
    table = read_checked(unlabelled)
    assert "label" not in table
    predicted = predict_ensemble([run], table, cache_dir, progress=False)
    out = write_entry(tmp_path / "s.csv", predicted)
    assert validate_submission(out, table.index) == []
    assert list(read_submission(out).index) == list(table.index)
    written = pd.read_csv(write_entry(tmp_path / "w.csv", predicted, weights=True))
    assert list(written) == ["lesion_id", *predicted]
    assert "weight_joint" in written


def test_a_training_folder_without_its_supplement_can_be_predicted(milk10k, tmp_path):
    folder = shutil.copytree(milk10k, tmp_path / "d")
    (folder / "MILK10k_Training_Supplement.csv").unlink()
    assert len(read_checked(folder, images=False)) == 110


def test_what_the_benchmark_would_not_take_is_not_written(tmp_path):
    table = pd.DataFrame(np.full((2, 11), 0.3), ["a", "b"], NAMES)
    table.loc["b", "NV"] = np.nan
    with pytest.raises(DataError, match="NV is 'nan'"):
        write_entry(tmp_path / "s.csv", table)
    assert list(tmp_path.iterdir()) == []


def test_cuts_come_from_the_test_lesions_of_all_runs(made):
    grid, folder = made
    runs = [Run(run.path) for run in grid.runs(folder)]
    table = out_of_fold_table(runs)
    seeds = [
        pd.concat([r.predictions.query("split == 'test'") for r in runs if r.parameters.seed == s])
        for s in (0, 1)
    ]
    assert len(table) == 110
    mean = (seeds[0][NAMES] + seeds[1][NAMES]) / 2  # by lesion
    np.testing.assert_allclose(table.loc[mean.index, NAMES], mean)
    assert (table.loc[mean.index, "label"] == seeds[0].loc[mean.index, "label"]).all()
    assert sorted(table["fold"].unique()) == [0, 1, 2]
    cuts = fit_on_test_folds(runs, 7)
    assert cuts.strength == 7
    assert sum(cuts.lesions) == 110
    assert cuts.source == {"runs": 6, "folds": 3, "chosen_on": "test folds"}
    with pytest.raises(RunError, match="give --strength"):
        fit_on_test_folds(runs[:1])
    assert sum(fit_on_test_folds(runs[:1], 0).lesions) < 110


def test_runs_without_a_test_fold_give_no_cuts(lesions, cache_dir, tiny_parameters, tmp_path, made):
    from jiadf.training.trainer import train

    plain = train(
        lesions, tmp_path / "r", tiny_parameters(modalities="M", epochs=1), cache_dir,
        progress=False,
    )  # fmt: skip
    with pytest.raises(RunError, match="kept no test fold"):
        out_of_fold_table([plain])


def test_runs_of_different_splits_give_no_cuts(made, run):
    grid, folder = made
    with pytest.raises(RunError, match="different folds"):
        out_of_fold_table([run, *(Run(r.path) for r in grid.runs(folder) if r.fold == 1)])


def test_a_split_needs_one_run(run, lesions):
    with pytest.raises(ValueError, match="single --run"):
        lesions_of([run, run], "val", lesions.index)
    with pytest.raises(ValueError, match="not in the data folder"):
        lesions_of([run], "val", lesions.index[:3])


def test_the_commands_make_a_submission_of_an_ensemble(made, unlabelled, cache_dir, tmp_path):
    runs = made[1] / "all"
    cuts, plain, moved = (tmp_path / n for n in ("cuts.json", "plain.csv", "moved.csv"))
    assert "110 lesions" in call("thresholds", "--run", runs, "--out", cuts).stdout
    shared = ["--data", unlabelled, "--cache", cache_dir, "--quiet"]
    told = call("predict", "--run", runs, "--out", plain, "--views", 2, *shared).stdout
    assert "14 lesions, mean of 6 runs" in told
    call("predict", "--run", runs, "--out", moved, "--views", 2, "--thresholds", cuts, *shared)
    fitted = load_thresholds(cuts)
    before, after = read_submission(plain), read_submission(moved)
    np.testing.assert_allclose(fitted.apply(before), after)
    np.testing.assert_allclose(before.sum(axis=1), 1)
    assert "no faults, 14 lesions" in call("validate", moved, "--data", unlabelled).stdout


def test_validate_tells_what_is_wrong_with_a_file(unlabelled, tmp_path):
    file = tmp_path / "s.csv"
    file.write_text(",".join(["lesion_id", *CLASSES]) + "\nx," + ",".join(["2.0"] * 11) + "\n")
    told = call("validate", file, "--data", unlabelled, code=1).stderr
    for part in ("out of range (11)", "unknown lesion (1)", "missing lesion (14)"):
        assert part in told


def test_a_broken_thresholds_file_or_run_stops_the_command_before_the_folder_is_read(
    run, broken, tmp_path
):
    bad = tmp_path / "t.json"
    bad.write_text("{}")
    command = ["predict", "--data", broken, "--out", tmp_path / "o.csv"]
    assert "'values'" in call(*command, "--run", run.path, "--thresholds", bad, code=1).stderr
    assert "no such folder" in call(*command, "--run", tmp_path / "none", code=1).stderr

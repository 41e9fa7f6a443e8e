import json
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from jiadf.cli import app
from jiadf.config import ParameterError
from jiadf.data.schema import CLASSES
from jiadf.evaluation.predictions import load_lesions, load_predictions, models
from jiadf.evaluation.schema import RecordError, branch_columns
from jiadf.submission.ensemble import predict_ensemble
from jiadf.training.grid import load_grid, run_grid
from jiadf.training.record import lesion_table, record_grid_predictions
from jiadf.training.run_folder import Run
from tests.conftest import TINY


def call(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result


@pytest.fixture(scope="module")
def made(tmp_path_factory, lesions, cache_dir):
    """A grid out of three folds, run to its end: its file and the folder of its runs."""
    folder = tmp_path_factory.mktemp("recorded")
    base = TINY | {"feature_views": 1, "epochs": 1, "n_folds": 3}
    systems = {"ji-adf": {}, "M": {"modalities": "M"}}
    values = {"base": base, "protocol": "out-of-fold", "seeds": [0, 1], "systems": systems}
    (folder / "grid.yaml").write_text(yaml.safe_dump(values))
    grid = load_grid(folder / "grid.yaml")
    assert run_grid(grid, lesions, folder / "runs", cache_dir, progress=False) == []
    return folder / "grid.yaml", folder / "runs"


@pytest.fixture
def copy(made, tmp_path):
    """The same, to be changed."""
    shutil.copytree(made[1], tmp_path / "runs")
    return load_grid(made[0]), tmp_path / "runs"


def test_a_record_holds_each_lesion_once_as_its_runs_predicted_it(made, milk10k, lesions, tmp_path):
    file, runs = made
    command = ["record", file, "--data", milk10k, "--runs", runs, "--out", tmp_path]
    line = call(*command, "--name", "tiny").stdout
    assert f"tiny.parquet: 2 systems, 2 seeds, {len(lesions)} lesions" in line
    assert models("tiny", tmp_path) == ["M", "ji-adf"]
    predictions = load_predictions("tiny", "ji-adf", tmp_path)
    assert sorted(predictions.lesions.index) == sorted(lesions.index)
    assert predictions.lesions["label"].to_dict() == lesions["label"].to_dict()
    assert (predictions.branches, predictions.weights) == ({}, None)
    by_seed = pd.concat(
        {
            seed: pd.DataFrame(values, predictions.lesions.index, list(CLASSES))
            for seed, values in zip(predictions.seeds, predictions.by_seed, strict=True)
        }
    )
    for seed in (0, 1):
        for fold in range(3):
            table = Run(runs / "ji-adf" / f"seed{seed}-fold{fold}").predictions
            table = table.query("split == 'test'")[list(CLASSES)]
            shown = by_seed.loc[seed].loc[table.index]
            np.testing.assert_allclose(shown, table, atol=4e-4)  # roundings, and that of the sum
            assert (predictions.lesions.loc[table.index, "fold"] == fold).all()

    provenance = json.loads((tmp_path / "tiny.json").read_text())
    environment = Run(runs / "M" / "seed0-fold0").environment
    assert provenance["data"]["table"] == environment["data"]["table"]
    assert provenance["packages"] == environment["packages"]
    assert provenance["parameters"]["M"]["modalities"] == "M"
    assert (provenance["runs"], provenance["folds"]) == (12, [0, 1, 2])
    supplement = pd.read_csv(milk10k / "MILK10k_Training_Supplement.csv", index_col="isic_id")
    wanted = supplement["diagnosis_full"].reindex(lesions["clinical_isic_id"])
    shown = load_lesions(tmp_path).loc[lesions.index, "diagnosis_full"]
    assert shown.tolist() == wanted.tolist()

    call(*command, "--name", "only", "--system", "M")  # the lesion table may stay
    assert models("only", tmp_path) == ["M"]
    scores = call("scores", "only", "--results", tmp_path).stdout.splitlines()
    assert scores[0] == "own prevalence"
    assert scores[2].startswith("M  0.")
    assert "no such record; there are: only, tiny" in call(
        "scores", "x", "--results", tmp_path, code=1
    ).stderr  # fmt: skip


def test_branches_are_recorded_of_the_systems_wanted(copy, lesions):
    grid, runs = copy
    for folder in runs.glob("*/seed*"):
        change_branches(Run(folder), keep=False)
    with pytest.raises(RecordError, match=r"predictions\.csv: has no probabilities of .*joint"):
        record_grid_predictions(grid, runs, lesions, ["ji-adf"])
    for folder in runs.glob("*/seed*"):
        change_branches(Run(folder), keep=True)
    table, _ = record_grid_predictions(grid, runs, lesions, ["ji-adf"])
    assert {*branch_columns("joint"), *branch_columns("metadata"), "weight_joint"} <= set(table)
    added = table.columns.drop(["system", "seed", "lesion_id", "fold", *CLASSES])
    assert table.loc[table["system"] == "M", added].isna().all(axis=None)
    assert table.loc[table["system"] == "ji-adf", added].notna().all(axis=None)
    one = Run(runs / "ji-adf" / "seed1-fold2").predictions
    rows = table.query("system == 'ji-adf' and seed == 1").set_index("lesion_id")
    wanted = one.loc[one["split"] == "test", added]
    pd.testing.assert_frame_equal(rows.loc[wanted.index, added], wanted)
    alone, _ = record_grid_predictions(grid, runs, lesions, ["M"], systems=["M"])
    assert [c for c in alone if c.startswith("weight_")] == []  # one head has no gate
    assert alone[branch_columns("joint")].notna().all(axis=None)


def test_several_views_are_recorded_as_their_mean(copy, milk10k, lesions, cache_dir):
    grid, runs = copy
    options = {"systems": ["ji-adf"], "views": 2, "cache_dir": cache_dir}
    table, provenance = record_grid_predictions(grid, runs, lesions, ["ji-adf"], **options)
    assert provenance["views"] == 2
    assert table[branch_columns("joint")].notna().all(axis=None)
    table = table.query("seed == 1 and fold == 2").set_index("lesion_id")
    run = Run(runs / "ji-adf" / "seed1-fold2")
    options = {"views": 2, "only": list(table.index), "progress": False}
    wanted = predict_ensemble([run], lesions, cache_dir, **options)
    np.testing.assert_allclose(table[list(CLASSES)], wanted[list(CLASSES)], atol=1e-12)
    one_view = run.predictions.loc[table.index, list(CLASSES)]
    assert np.abs(table[list(CLASSES)] - one_view).max(axis=None) > 1e-4


def change_branches(run, keep):
    """Put made-up branch probabilities into a run's table, or take any out that there are."""
    table, metrics = run.predictions, run.metrics
    weights = [c for c in table if c.startswith("weight_")]
    table = table[["split", "label", *CLASSES, *weights]].copy()
    if keep:
        rng = np.random.default_rng(0)
        for column in weights or ["weight_joint"]:
            values = rng.dirichlet(np.ones(len(CLASSES)), len(table))
            table[branch_columns(column.removeprefix("weight_"))] = values
    run.write_table("predictions.csv", table)
    run.finish(metrics)  # with digests of the changed table


def test_unfinished_systems_are_named_and_left_out_only_if_allowed(copy, made, milk10k, tmp_path):
    _, runs = copy
    (runs / "M" / "seed1-fold2" / "metrics.json").unlink()
    out = tmp_path / "out"
    command = ["record", made[0], "--data", milk10k, "--runs", runs, "--out", out, "--name", "t"]
    message = call(*command, code=1).stderr
    assert "M: 1 of 6 runs, the first" in message
    assert "--partial" in message
    assert not out.exists()
    assert "left out: M: 1 of 6 runs" in call(*command, "--partial").stdout
    assert models("t", out) == ["ji-adf"]
    assert list(load_predictions("t", folder=out).provenance["not_recorded"]) == ["M"]
    message = call(*command, "--partial", "--system", "M", code=1).stderr
    assert "runs are not finished" in message
    assert "--partial" not in message


def test_runs_of_other_parameters_or_lesions_are_refused(made, lesions):
    grid, runs = load_grid(made[0], ["dropout=0.3", "device=auto"]), made[1]
    with pytest.raises(RecordError, match=r"fold0: .* \(dropout: 0\.2 in the run, 0\.3 now\)"):
        record_grid_predictions(grid, runs, lesions)
    grid = load_grid(made[0], ["device=auto"])
    assert len(record_grid_predictions(grid, runs, lesions, systems=["M"])[0]) == 2 * len(lesions)
    with pytest.raises(RecordError, match="trained on another lesion table"):
        record_grid_predictions(grid, runs, lesions.iloc[1:])
    with pytest.raises(ParameterError, match="no system 'x'; it has"):
        record_grid_predictions(grid, runs, lesions, ["x"])
    with pytest.raises(RecordError, match="of 'M', which is not to be recorded"):
        record_grid_predictions(grid, runs, lesions, ["M"], systems=["ji-adf"])


def test_lesions_need_no_supplement(lesions, milk10k, tmp_path):
    (tmp_path / "MILK10k_Training_Metadata.csv").touch()
    table = lesion_table(lesions, tmp_path)
    assert table["diagnosis_full"].isna().all()
    assert sorted(table["fold"].unique()) == [0, 1, 2, 3, 4]

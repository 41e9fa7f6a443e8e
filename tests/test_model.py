"""The model in the package, and `jiadf predict --table`, on a tiny run that was just trained."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

import jiadf
from jiadf import model as module
from jiadf.cli import app
from jiadf.data.metadata import MONET_COLUMNS
from jiadf.data.schema import CLASSES
from jiadf.model import Model, load_model
from jiadf.submission.lesion_prediction import NOT_A_DEVICE
from jiadf.training.run_folder import RunError
from jiadf.training.trainer import train
from tests.conftest import predict

RUNNER = CliRunner()
NAMES = list(CLASSES)


@pytest.fixture(scope="module")
def tuned(lesions, cache_dir, tiny_parameters, tmp_path_factory):
    """A run that was trained end to end, for an epoch, with modality dropout."""
    folder = tmp_path_factory.mktemp("tuned") / "run"
    parameters = tiny_parameters(
        regime="finetune", image_size=32, epochs=1, modality_dropout=0.2, test_fold=0
    )
    return train(lesions, folder, parameters, cache_dir, progress=False)


@pytest.fixture(scope="module")
def model(tuned):
    return load_model(tuned.path, "cpu")


@pytest.fixture
def photographs(tmp_path):
    """Three photographs of one's own, larger than what the network sees."""
    random = np.random.default_rng(5)
    for name in ("a.png", "b.jpg", "c.png"):
        pixels = random.integers(0, 256, (45, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    return tmp_path


def call(*arguments, code=0):
    result = RUNNER.invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result


def own_table(lesions, folder, rows):
    """Write some lesions of a MILK10k folder as a table of one's own images."""
    columns = {"clinical_path": "clinical", "dermoscopic_path": "dermoscopic"}
    columns |= {"age_approx": "age", "skin_tone_class": "skin_tone"}
    names = [*columns.values(), "sex", "site", *MONET_COLUMNS]
    file = folder / "own.csv"
    lesions.iloc[rows].rename(columns=columns)[names].to_csv(file)
    return file


def test_three_photographs_with_two_columns_give_three_rows(tuned, photographs):
    (photographs / "own.csv").write_text("clinical,dermoscopic\na.png,b.jpg\nc.png,\n,b.jpg\n")
    out = photographs / "out.csv"
    command = ["predict", "--run", tuned.path, "--table", photographs / "own.csv", "--out", out]
    result = call(*command)
    told = "missing, of 3 lesions: clinical image 1, dermoscopic image 1, age 3, sex 3, "
    told += "skin_tone 3, site 3, MONET scores 3"
    assert result.stderr.splitlines() == [NOT_A_DEVICE, told]
    assert "3 lesions" in result.stdout
    written = pd.read_csv(out, index_col="lesion_id")
    assert list(written.index) == ["row-1", "row-2", "row-3"]
    assert list(written.columns) == NAMES
    np.testing.assert_allclose(written.sum(axis=1), 1)
    call(*command, "--weights")
    weighted = pd.read_csv(out, index_col="lesion_id")
    gate = [name for name in weighted if name.startswith("weight_")]
    np.testing.assert_allclose(weighted[gate].sum(axis=1), 1, atol=1e-6)
    assert call("predict", "--help").stdout.count("--table")


def test_faults_end_the_command_and_nothing_is_written(tuned, photographs):
    (photographs / "own.csv").write_text("clinical,age\na.png,85+\nnone.png,30\n")
    out = photographs / "new" / "out.csv"
    command = ["predict", "--run", tuned.path, "--table", photographs / "own.csv", "--out", out]
    told = call(*command, code=1).stderr
    assert "own.csv, row 2: age is '85+'" in told
    assert "own.csv, row 3: clinical is 'none.png'" in told
    assert not out.parent.exists()


def test_options_that_do_not_go_together_are_refused_by_name(tuned, photographs):
    out = ["predict", "--run", tuned.path, "--out", photographs / "o.csv"]
    assert "neither was given" in call(*out, code=2).stderr
    table = ["--table", photographs / "own.csv"]
    assert "both were given" in call(*out, *table, "--data", photographs, code=2).stderr
    told = call(*out, *table, "--views", 2, "--split", "val", "--no-decode", code=2).stderr
    assert all(name in told for name in ("--views", "--split", "--no-decode"))
    packaged = ["predict", "--out", photographs / "o.csv", "--data", photographs]
    assert "--split needs --run" in call(*packaged, "--split", "val", code=2).stderr


def test_a_table_of_own_images_says_what_the_folder_says(
    tuned, model, lesions, cache_dir, tmp_path
):
    rows = list(range(0, 110, 9))
    official = predict(tuned, lesions, cache_dir)
    table = model.predict_table(own_table(lesions, tmp_path, rows))
    assert list(table.index) == list(lesions.index[rows])
    pd.testing.assert_frame_equal(table, official.iloc[rows], atol=1e-6, rtol=0)
    pd.testing.assert_frame_equal(model.predict_lesions(lesions), official, atol=1e-6, rtol=0)


def test_a_path_an_image_and_an_array_say_the_same(model, photographs):
    first = model.predict(photographs / "a.png", str(photographs / "b.jpg"), age=70, sex="male")
    images = [Image.open(photographs / name) for name in ("a.png", "b.jpg")]
    for pair in (images, [np.asarray(image) for image in images]):
        again = model.predict(*pair, age=70, sex="male")
        np.testing.assert_array_equal(again.probabilities, first.probabilities)
    other = model.predict(*images)
    assert not np.allclose(other.probabilities, first.probabilities, atol=1e-6)


def test_a_prediction_shows_its_branches_and_what_was_missing(model, photographs):
    told = model.predict(photographs / "a.png", site="hand", monet={"clinical_MONET_hair": 0.5})
    assert list(told.probabilities.index) == NAMES
    assert told.label == NAMES[int(np.argmax(told.probabilities))]
    assert list(told.branches.columns) == NAMES
    mixed = told.weights.to_numpy() @ told.branches.to_numpy()
    np.testing.assert_allclose(mixed, told.probabilities, atol=1e-6)
    assert told.missing == ("dermoscopic image", "age", "sex", "skin_tone", "MONET scores")
    assert told.label in repr(told)
    assert "missing: dermoscopic image" in repr(told)
    for text in (told.label, "branch weights: image", NOT_A_DEVICE):
        assert text in told._repr_html_()
    assert repr(model).startswith(f"Model({model.run.path}: ji-adf")


@pytest.mark.parametrize("lost", ["clinical", "dermoscopic", "metadata"])
def test_what_lacks_is_what_the_network_calls_missing(model, lesions, tmp_path, lost):
    chosen = lesions.iloc[[3, 4]]
    inputs = model.inputs(chosen)
    assert not any(rows.any() for rows in inputs.missing.values())
    everything = np.ones(2, dtype=bool)
    expected = model.predict_inputs(replace(inputs, missing={lost: everything})).posterior
    file = own_table(lesions, tmp_path, [3, 4])
    own = pd.read_csv(file, dtype=object)
    own.loc[:, list(own.columns[3:]) if lost == "metadata" else [lost]] = None
    own.to_csv(file, index=False)
    np.testing.assert_allclose(model.predict_table(file)[NAMES], expected, atol=1e-6)
    if lost != "metadata":
        told = model.predict_lesions(chosen.assign(**{f"{lost}_path": np.nan}))
        np.testing.assert_allclose(told[NAMES], expected, atol=1e-6)


def test_arguments_that_cannot_be_used_are_named(model, photographs):
    image = photographs / "a.png"
    for arguments, text in [
        ({}, "clinical and dermoscopic are both empty"),
        ({"age": "85+"}, "age is '85"),
        ({"sex": "m"}, "sex is 'm'"),
        ({"site": "elbow"}, "site is 'elbow'"),
        ({"skin_tone": 9}, "skin_tone is '9'"),
        ({"monet": {"MONET_hair": 0}}, "clinical_MONET_hair"),
        ({"monet": {"clinical_MONET_hair": 2}}, "clinical_MONET_hair is 2, outside 0 to 1"),
        ({"dermoscopic": "none.jpg"}, "dermoscopic is 'none.jpg': there is no such file"),
        ({"dermoscopic": np.zeros((3, 3))}, "dermoscopic is an array of float64"),
    ]:
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared below
            model.predict(clinical=image if arguments else None, **arguments)
        assert text in str(caught.value)


def test_runs_that_cannot_take_photographs_are_refused(run, tmp_path, monkeypatch):
    with pytest.raises(RunError, match="takes no photographs"):
        load_model(run.path)
    with pytest.raises(RunError, match="Give a finished run folder"):
        load_model(tmp_path)
    monkeypatch.setattr(module, "PRETRAINED", tmp_path / "none")
    with pytest.raises(RunError, match="Give a finished run folder"):
        load_model()
    (tmp_path / "own.csv").write_text("clinical\na.png\n")
    command = ["predict", "--table", tmp_path / "own.csv", "--out", tmp_path / "o.csv"]
    assert "Give a finished run folder" in call(*command, code=1).stderr


def test_a_model_reads_only_the_images_it_was_trained_on(
    lesions, cache_dir, tiny_parameters, photographs
):
    parameters = tiny_parameters(regime="finetune", epochs=1, modalities="C")
    finished = train(lesions, photographs / "run", parameters, cache_dir, progress=False)
    model = load_model(finished.path)
    assert model.predict(photographs / "a.png").label in NAMES
    with pytest.raises(ValueError, match="reads no other image"):
        model.predict(dermoscopic=photographs / "a.png")


def test_that_it_is_no_medical_device_is_said_once(tuned, capsys, monkeypatch):
    monkeypatch.setattr(module, "_told", set())
    load_model(tuned.path)
    load_model(tuned.path)
    assert capsys.readouterr().err == f"{NOT_A_DEVICE}\n"
    Model(tuned.path)
    assert capsys.readouterr().err == ""


def test_the_package_is_cheap_to_import_and_shows_its_names():
    code = "import sys, jiadf; print(sorted({'torch', 'pandas', 'numpy'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
    assert jiadf.load_model is load_model
    assert {"JIADF", "MMFA", "AdaptiveDecisionFusion", "read_lesions"} <= set(dir(jiadf))
    assert all(getattr(jiadf, name) for name in jiadf.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        jiadf.nothing  # noqa: B018

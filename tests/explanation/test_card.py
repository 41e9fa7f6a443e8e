"""Cards say what the network says, of whatever a lesion has; their folder is whole or not there."""

import re

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from jiadf.cli import app
from jiadf.data.sample import read_sample
from jiadf.explanation.card import card_page, place_of
from jiadf.explanation.card_folder import MARKER, own_folder
from jiadf.explanation.explain import explain

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def sample():
    lesions = read_sample().groupby("label").head(1).head(4).copy()
    lesions.iloc[1, lesions.columns.get_loc("clinical_path")] = np.nan
    lesions.iloc[2, lesions.columns.get_loc("dermoscopic_path")] = np.nan
    lesions["age_approx"] = [62.0, 30.0, 45.0, np.nan]
    return lesions


@pytest.fixture(scope="module")
def explained(model, sample):
    return explain(model, sample, model.inputs(sample))


def test_contributions_lead_from_nothing_to_what_is_predicted(model, sample, explained):
    predicted = model.predict_lesions(sample)
    for lesion in explained:
        said = lesion.prediction
        np.testing.assert_allclose(
            said.probabilities, predicted.loc[lesion.lesion_id, said.probabilities.index], atol=1e-4
        )
        reached = np.log(lesion.start) + lesion.contributions.sum()
        assert reached == pytest.approx(np.log(said.probabilities.max()), abs=0.05)
        assert set(lesion.heat) == set(lesion.images)
    assert "age 62" in explained[0].contributions.index
    assert "dermoscopic" in explained[1].images
    assert list(explained[2].images) == ["clinical"]
    assert "clinical image" in explained[1].prediction.missing
    assert "clinical image" not in explained[1].contributions.index


def test_a_lesion_is_explained_alike_alone_and_among_others(model, sample, explained):
    alone = explain(model, sample.iloc[[1]], model.inputs(sample.iloc[[1]]))[0]
    pd.testing.assert_series_equal(alone.contributions, explained[1].contributions, atol=1e-3)
    np.testing.assert_allclose(
        alone.heat["dermoscopic"], explained[1].heat["dermoscopic"], atol=1e-3
    )


def test_a_card_needs_no_other_file_and_has_a_text_for_every_image(explained):
    for lesion in explained:
        page = card_page(lesion, about="a <model>", credit="somebody")
        assert not re.search(r'(?:href|src)="(?!data:|#)', page)
        assert "<script" not in page
        assert "a &lt;model&gt;" in page
        assert page.count("<svg") == page.count('aria-label="') == 2 * len(lesion.images)
        assert f"{lesion.prediction.probabilities.max():.2f}" in page
        assert "Not a medical device" in page


def test_where_a_map_is_brightest():
    heat = np.zeros((5, 5))
    assert place_of(heat) == "empty"
    for cell, words in {
        (0, 4): "at the top right",
        (2, 2): "in the middle",
        (2, 0): "left",
    }.items():
        one = heat.copy()
        one[cell] = 1
        assert place_of(one).endswith(words)


def test_a_folder_is_replaced_only_if_it_holds_cards_alone(tmp_path):
    def write(text):
        with own_folder(tmp_path / "out") as folder:
            (folder / "a.html").write_text(text)
            marker = '{"made_by": "jiadf explain", "files": ["a.html"]}'
            (folder / MARKER).write_text(marker)

    write("one")
    write("two")
    assert (tmp_path / "out/a.html").read_text() == "two"
    with pytest.raises(FileNotFoundError), own_folder(tmp_path / "out") as folder:
        (folder / "no/b.html").write_text("half")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.html", MARKER]
    (tmp_path / "out/notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"'notes\.txt'"):
        write("three")
    assert (tmp_path / "out/a.html").read_text() == "two"
    with pytest.raises(ValueError, match="is a file"), own_folder(tmp_path / "out/notes.txt"):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_the_command_writes_cards_or_tells_all_faults(tmp_path, sample):
    def call(code=0):
        words = ["explain", "--table", str(tmp_path / "t.csv"), "--out", str(tmp_path / "cards")]
        result = RUNNER.invoke(app, words)
        assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
        return result

    (tmp_path / "t.csv").write_text("clinical,age\nno.jpg,62\nno.jpg,old\n")
    told = call(1).stderr
    assert "there is no such file" in told
    assert "row 3" in told
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]
    path = sample["clinical_path"].iloc[0]
    (tmp_path / "t.csv").write_text(f"lesion_id,clinical,age\narm,{path},62\n")
    assert "1 lesions" in call().stdout
    assert {p.name for p in (tmp_path / "cards").iterdir()} == {"arm.html", "arm.png", MARKER}
    (tmp_path / "t.csv").write_text(f"lesion_id,clinical\na,{path}\nA,{path}\n")
    assert "case only" in call(1).stderr
    assert "Lesion arm" in (tmp_path / "cards/arm.html").read_text(encoding="utf-8")
    assert (tmp_path / "cards/arm.png").stat().st_size > 20_000

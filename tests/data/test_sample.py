"""The embedded sample is whole and as its README says, and its tool draws by the rules."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from jiadf.data import sample
from jiadf.data.check import check
from jiadf.data.layout import Layout
from jiadf.data.read import read_lesions
from jiadf.data.sample import read_sample, sample_dir
from jiadf.data.schema import CLASSES
from jiadf.data.split import assign_folds

TOOL = Path(__file__).parents[2] / "book/draw_sample.py"
spec = importlib.util.spec_from_file_location("draw_sample", TOOL)
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


@pytest.fixture(scope="module")
def lesions():
    return read_sample()


@pytest.fixture(scope="module")
def readme():
    """The README's table of counts."""
    text = (sample_dir() / "README.md").read_text()
    rows = re.findall(r"^\| (\w+) \| (\d+) \| (\d+) \| (\d+) \|$", text, re.MULTILINE)
    table = pd.DataFrame(rows, columns=["label", "fold", "left_out", "drawn"])
    return table.set_index("label").astype(int)


def test_the_sample_has_no_faults_and_stays_small(lesions):
    assert check(sample_dir(), progress=False) == []
    paths = lesions[["clinical_path", "dermoscopic_path"]].to_numpy().ravel()
    images = {str(path) for path in Layout(sample_dir()).input_dir.rglob("*") if path.is_file()}
    assert len(lesions) == 240
    assert images == set(paths)
    assert len(images) == 480
    files = [path for path in sample_dir().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 8_000_000


def test_counts_are_those_of_the_readme_and_follow_its_rule(lesions, readme):
    counts = lesions["label"].value_counts()
    assert readme.index.tolist() == [*CLASSES, "Total"]
    total, readme = readme.loc["Total"], readme.drop("Total")
    assert readme.sum().tolist() == total.tolist()
    assert counts.reindex(CLASSES).tolist() == readme["drawn"].tolist()
    eligible = readme["fold"] - readme["left_out"]
    assert tool.allocate(eligible, 240).tolist() == readme["drawn"].tolist()
    rare = readme["fold"] <= 9
    assert (readme["drawn"] == eligible)[rare].all()
    assert set(readme["drawn"][~rare]) == {34}


def test_a_sample_without_its_files_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(sample, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(FileNotFoundError, match=r"lacks MILK10k_Training_Input, .*install jiadf"):
        sample_dir()


def test_places_are_shared_equally_as_far_as_lesions_go():
    counts = pd.Series({"a": 10, "b": 2, "c": 5, "d": 0})
    assert tool.allocate(counts, 11).tolist() == [5, 2, 4, 0]
    assert tool.allocate(counts, 17).tolist() == [10, 2, 5, 0]
    with pytest.raises(ValueError, match="18 lesions are asked for, but only 17"):
        tool.allocate(counts, 18)


@pytest.fixture
def source(tmp_path, lesions):
    """A folder of 60 of the sample's lesions; one of fold 0 is photographed again in fold 1."""
    folder = tmp_path / "source"
    tool.write_sample(sample_dir(), folder, lesions.iloc[:60])
    table = read_lesions(folder)
    folds = assign_folds(table["label"], 5, seed=0)
    again, first = table[folds == 0].iloc[3], table[folds == 1].iloc[0]
    with Image.open(first["dermoscopic_path"]) as image:
        image.save(again["dermoscopic_path"], quality=60)
    return folder, folds, again.name


def test_no_lesion_with_a_near_duplicate_in_another_fold_is_drawn(source, tmp_path, capsys):
    folder, folds, again = source
    before = read_lesions(folder)
    others = set(tool.find_near_duplicates(before, (folds == 0).to_numpy()))
    assert again in others
    total = int((folds == 0).sum()) - len(others)
    tool.draw_sample(folder, tmp_path / "out", total)
    assert f"left out: {again}" in capsys.readouterr().out
    drawn = read_lesions(tmp_path / "out")
    assert set(drawn.index) == set(folds.index[folds == 0]) - others
    with pytest.raises(ValueError, match=f"only {total} can be drawn"):
        tool.draw_sample(folder, tmp_path / "more", total + 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


def test_rows_and_images_are_copied_byte_for_byte_in_their_order(source, tmp_path):
    folder, _, _ = source
    for name in ("a", "b"):
        tool.draw_sample(folder, tmp_path / name, 8)
    files = sorted(path for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) == 3 + 16
    for path in files:
        relative = path.relative_to(tmp_path / "a")
        content, original = path.read_bytes(), (folder / relative).read_bytes()
        assert content == (tmp_path / "b" / relative).read_bytes()
        if path.suffix == ".jpg":
            assert content == original
            continue
        rows, all_rows = content.splitlines(True), original.splitlines(True)
        positions = [all_rows.index(row) for row in rows]
        assert positions[0] == 0
        assert (np.diff(positions) > 0).all()
        assert len(rows) == (9 if "GroundTruth" in path.name else 17)
    assert check(tmp_path / "a", progress=False) == []


def test_a_foreign_folder_is_refused_and_a_sample_is_replaced(source, tmp_path):
    folder, _, _ = source
    content = (folder / "MILK10k_Training_Metadata.csv").read_bytes()
    with pytest.raises(FileExistsError, match="is not the folder of a sample"):
        tool.draw_sample(folder, folder, 8)
    assert (folder / "MILK10k_Training_Metadata.csv").read_bytes() == content
    out = tmp_path / "out"
    out.mkdir()
    (out / "__init__.py").write_text("# by hand")
    for total in (8, 7):
        tool.draw_sample(folder, out, total)
        assert len(read_lesions(out)) == total
        assert (out / "__init__.py").read_text() == "# by hand"
    (out / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match="nothing was written"):
        tool.draw_sample(folder, out, 8)


def test_a_failed_draw_leaves_what_was_there(source, tmp_path):
    folder, _, _ = source
    out = tmp_path / "out"
    out.mkdir()
    (out / "__init__.py").touch()
    tool.draw_sample(folder, out, 8)
    before = sorted(out.rglob("*"))
    (folder / "MILK10k_Training_Supplement.csv").unlink()
    with pytest.raises(FileNotFoundError):
        tool.draw_sample(folder, out, 7)
    assert sorted(out.rglob("*")) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]

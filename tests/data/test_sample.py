"""The embedded sample is whole and as its README says."""

import re

import pandas as pd
import pytest

from jiadf.data.layout import Layout
from jiadf.data.read import check
from jiadf.data.sample import read_sample, sample_dir
from jiadf.data.schema import CLASSES


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
    rare = readme["fold"] <= 9
    assert (readme["drawn"] == eligible)[rare].all()
    assert set(readme["drawn"][~rare]) == {34}

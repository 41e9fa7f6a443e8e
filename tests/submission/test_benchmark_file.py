"""Submission files: what is accepted, every fault that is told apart, and the score."""

import json
import os

import numpy as np
import pytest
from sklearn import metrics as skm

from jiadf.data.faults import DataError
from jiadf.data.schema import CLASSES
from jiadf.evaluation.metrics import score
from jiadf.submission.benchmark_file import (
    read_submission,
    read_truth,
    score_files,
    validate_submission,
    write_submission,
)
from tests.submission.scorer_verdicts import LESIONS, RECORDED, variants

HEADER = "lesion_id,AKIEC,BCC,BEN_OTH,BKL,DF,INF,MAL_OTH,MEL,NV,SCCKA,VASC"
GOOD = "0.5,0.1,0.0,0.1,0.0,0.0,0.0,0.1,0.1,0.1,0.0"


@pytest.fixture
def csv_file(tmp_path):
    """Return a function that writes lines to a CSV and returns its path."""

    def write(*lines, name="predictions.csv"):
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


@pytest.fixture
def pair(tmp_path):
    """Return a submission, its ground truth, labels and probabilities of 40 lesions."""
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 11
    prob = rng.dirichlet(np.full(11, 0.3), size=40)
    names = [f"IL_{i:07d}" for i in range(40)]
    truth = write_submission(tmp_path / "truth.csv", names, np.eye(11)[labels])
    order = rng.permutation(40)
    prediction = write_submission(
        tmp_path / "predictions.csv", [names[i] for i in order], prob[order]
    )
    return prediction, truth, names, labels, prob


def test_a_written_submission_is_read_back_exactly(tmp_path):
    prob = np.random.default_rng(1).dirichlet(np.ones(11), size=5).astype("float32")
    path = write_submission(tmp_path / "new" / "p.csv", list("abcde"), prob)
    assert path.read_text().splitlines()[0] == HEADER
    assert validate_submission(path, lesions="abcde") == []
    table = read_submission(path)
    assert list(table.index) == list("abcde")
    assert list(table.columns) == list(CLASSES)
    assert (table.to_numpy() == prob.astype(float)).all()
    assert os.listdir(path.parent) == ["p.csv"]


def test_whole_numbers_are_written_as_decimals_and_rounding_is_clipped(tmp_path):
    prob = np.eye(11)[:2] * (1 + 1e-7)
    path = write_submission(tmp_path / "p.csv", ["a", "b"], prob)
    assert path.read_text().splitlines()[1] == "a,1.0" + ",0.0" * 10


@pytest.mark.parametrize(
    ("lines", "kind", "row", "said"),
    [
        (["lesion_id,AKIEC", "a,0.5"], "missing column", 1, "VASC"),
        ([HEADER + ",score", f"a,{GOOD},1"], "unknown column", 1, "'score'"),
        ([HEADER + ",VASC", f"a,{GOOD},0.1"], "unknown column", 1, "repeated column VASC"),
        ([HEADER, f"a,{GOOD}", "b,0.5"], "wrong number of cells", 3, "2 cells"),
        ([HEADER, f",{GOOD}"], "missing value", 2, "lesion_id is empty"),
        ([HEADER, f"a,{GOOD}", f"b,{GOOD}", f"a,{GOOD}"], "duplicate lesion_id", 4, "row 2"),
        ([HEADER, f"a,{GOOD.replace('0.5', 'high')}"], "not a number", 2, "AKIEC is 'high'"),
        ([HEADER, f"a,{GOOD.replace('0.5', '')}"], "not a number", 2, "AKIEC is empty"),
        ([HEADER, f"a,{GOOD.replace('0.5', 'nan')}"], "not a number", 2, "AKIEC is 'nan'"),
        ([HEADER, f"a,{GOOD.replace('0.5', 'inf')}"], "not a number", 2, "AKIEC is 'inf'"),
        ([HEADER, f"a,{GOOD.replace('0.5', '50.0')}"], "out of range", 2, "AKIEC is 50.0"),
        ([HEADER, f"a,{GOOD.replace('0.5', '-0.1')}"], "out of range", 2, "AKIEC is -0.1"),
        ([HEADER], "unreadable CSV", None, "no rows"),
        ([""], "unreadable CSV", None, "is empty"),
    ],
)
def test_each_fault_is_told_apart(csv_file, lines, kind, row, said):
    path = csv_file(*lines)
    (fault,) = validate_submission(path)
    assert (fault.kind, fault.row, fault.file) == (kind, row, str(path))
    assert said in fault.message
    assert fault.remedy
    with pytest.raises(DataError, match=kind):
        read_submission(path)


@pytest.mark.parametrize("name", variants())
def test_the_verdict_is_that_of_the_benchmark_s_own_scorer(tmp_path, name):
    path = tmp_path / "p.csv"
    path.write_bytes(variants()[name])
    official = json.loads(RECORDED.read_text())[name]
    faults = validate_submission(path, LESIONS)
    if name == "null byte":  # the scorer does not see it
        assert faults
        assert official is None
        return
    assert (not faults) == (official is None), (faults, official)


def test_a_column_of_whole_numbers_is_refused_for_the_scorer_but_read(tmp_path):
    path = tmp_path / "p.csv"
    path.write_bytes(variants()["column of 0 and 1"])
    (fault,) = validate_submission(path, LESIONS)
    assert "BEN_OTH has no decimal point" in fault.message
    assert read_submission(path)["BEN_OTH"].tolist() == [0, 1, 0]


def test_lesions_are_compared_with_those_asked_for(csv_file):
    path = csv_file(HEADER, f"a,{GOOD}", f"x,{GOOD}")
    unknown, missing = validate_submission(path, lesions=["a", "b"], source="the test part")
    assert (unknown.kind, unknown.row) == ("unknown lesion", 3)
    assert "'x' is not in the test part" in unknown.message
    assert (missing.kind, missing.row) == ("missing lesion", None)
    assert "'b'" in missing.message


def test_a_missing_file_and_a_file_that_is_no_text(tmp_path):
    (fault,) = validate_submission(tmp_path / "none.csv", lesions=["a"])
    assert fault.kind == "missing CSV"
    picture = tmp_path / "picture.csv"
    picture.write_bytes(b"\xff\xd8\xff\xe0" * 50)
    (fault,) = validate_submission(picture)
    assert fault.kind == "unreadable CSV"
    assert "UTF-8" in fault.remedy


def test_truth_must_be_one_hot(csv_file):
    good = csv_file(HEADER, "a," + "0.0," * 10 + "1.0", "b,1," + ",".join("0" * 10), name="t.csv")
    assert read_truth(good).to_numpy().argmax(1).tolist() == [10, 0]
    bad = csv_file(
        HEADER, "a," + ",".join("0" * 11), "b,1,1," + ",".join("0" * 9), f"c,{GOOD}", name="u.csv"
    )
    with pytest.raises(DataError) as caught:
        read_truth(bad)
    told = [(f.kind, f.row) for f in caught.value.faults]
    assert told[:2] == [("not one-hot", 2), ("not one-hot", 3)]
    assert set(told[2:]) == {("out of range", 4)}
    assert read_submission(bad).shape == (3, 11)


def test_files_are_scored_as_their_arrays(pair):
    prediction, truth, _, labels, prob = pair
    scored = score_files(prediction, truth)
    assert scored == {"lesions": 40, **score(labels, prob), "undefined": {}}
    assert scored["summary"]["macro_auc"] == pytest.approx(
        skm.roc_auc_score(labels, prob, multi_class="ovr", average="macro")
    )


def test_a_subset_of_the_lesions_is_scored(pair):
    prediction, truth, names, labels, prob = pair
    scored = score_files(prediction, truth, lesions=names[:22])
    assert scored == {"lesions": 22, **score(labels[:22], prob[:22]), "undefined": {}}
    with pytest.raises(DataError) as caught:
        score_files(prediction, truth, lesions=[names[0], "IL_none"])
    assert [f.file for f in caught.value.faults] == [str(prediction), str(truth)]


def test_all_faults_of_both_files_come_in_one_pass(csv_file):
    prediction = csv_file(HEADER, f"a,{GOOD.replace('0.5', '5')}", f"c,{GOOD}", "d,1")
    truth = csv_file(HEADER, "a,1" + ",0" * 10, "b,1,1" + ",0" * 9, name="truth.csv")
    with pytest.raises(DataError) as caught:
        score_files(prediction, truth)
    found = [(os.path.basename(f.file), f.kind, f.row) for f in caught.value.faults]
    assert found == [
        ("predictions.csv", "out of range", 2),
        ("predictions.csv", "wrong number of cells", 4),
        ("predictions.csv", "unknown lesion", 3),
        ("predictions.csv", "missing lesion", None),
        ("truth.csv", "not one-hot", 3),
    ]
    text = str(caught.value)
    assert "Faults in all: 5" in text
    assert f"{prediction}, row 2: AKIEC is 5" in text


@pytest.mark.parametrize(
    ("names", "change", "kind"),
    [
        (["a", "a"], None, "duplicate lesion_id"),
        (["a", ""], None, "missing value"),
        (["a", "b"], np.nan, "not a number"),
        (["a", "b"], 1.5, "out of range"),
    ],
)
def test_what_cannot_be_submitted_is_not_written(tmp_path, names, change, kind):
    prob = np.full((2, 11), 0.1)
    if change is not None:
        prob[1, 3] = change
    path = tmp_path / "p.csv"
    path.write_text("what was there")
    with pytest.raises(DataError) as caught:
        write_submission(path, names, prob)
    (fault,) = caught.value.faults
    assert (fault.kind, fault.row) == (kind, 3)
    assert path.read_text() == "what was there"

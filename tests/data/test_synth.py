"""The embedded synthetic MILK10k: layout, reproducibility, refusals, and its split evidence."""

import filecmp
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jiadf.data import synth
from jiadf.data.appearance import sample_lesion
from jiadf.data.check import check
from jiadf.data.draw import draw_lesion
from jiadf.data.layout import Layout
from jiadf.data.read import read_lesions
from jiadf.data.schema import CLASSES, PAPER_FULL_COUNTS
from jiadf.data.synth import class_labels, lesion_names, synthesise

SMALL = (64, 48)


def files_below(root):
    return sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())


def test_the_set_passes_the_check_and_is_read(tmp_path):
    root = synthesise(tmp_path / "new" / "set", lesions=24, image_size=SMALL)
    assert check(root, progress=False) == []
    lesions = read_lesions(root)
    assert len(lesions) == 24
    assert Counter(lesions["label"]) == Counter(class_labels(24))
    with Image.open(lesions["clinical_path"].iloc[0]) as image:
        assert image.size == SMALL
        assert image.format == "JPEG"
    notice = (root / synth.MARKER).read_text()
    assert "no patient" in notice
    assert "training: 24 lesions, seed 0" in notice
    assert [path.name for path in tmp_path.joinpath("new").iterdir()] == ["set"]


def test_the_official_picture_size_is_the_default(tmp_path):
    root = synthesise(tmp_path / "set", lesions=1)
    with Image.open(read_lesions(root)["dermoscopic_path"].iloc[0]) as image:
        assert image.size == (600, 450)


def test_bit_for_bit_whatever_the_workers(tmp_path):
    one = synthesise(tmp_path / "one", 8, seed=5, image_size=SMALL, workers=1)
    three = synthesise(tmp_path / "three", 8, seed=5, image_size=SMALL, workers=3)
    names = files_below(one)
    assert names == files_below(three)
    assert len(names) == 16 + 4
    assert filecmp.cmpfiles(one, three, names, shallow=False) == (names, [], [])


def test_a_smaller_set_is_the_beginning_of_a_larger_one(tmp_path):
    few = synthesise(tmp_path / "few", 4, image_size=SMALL)
    many = synthesise(tmp_path / "many", 9, image_size=SMALL)
    pictures = [path for path in files_below(few) if path.suffix == ".jpg"]
    assert len(pictures) == 8
    assert filecmp.cmpfiles(few, many, pictures, shallow=False) == (pictures, [], [])
    pd.testing.assert_frame_equal(
        read_lesions(few).drop(columns=["clinical_path", "dermoscopic_path"]),
        read_lesions(many)
        .drop(columns=["clinical_path", "dermoscopic_path"])
        .loc[read_lesions(few).index],
    )


def test_the_tables_do_not_depend_on_the_picture_size(tmp_path):
    first = synthesise(tmp_path / "first", 5, image_size=SMALL)
    second = synthesise(tmp_path / "second", 5, image_size=(96, 72))
    for name in ("Metadata", "GroundTruth", "Supplement"):
        table = f"MILK10k_Training_{name}.csv"
        assert (first / table).read_bytes() == (second / table).read_bytes()


def test_another_seed_gives_another_set(tmp_path):
    first = synthesise(tmp_path / "first", 4, seed=0, image_size=SMALL)
    second = synthesise(tmp_path / "second", 4, seed=1, image_size=SMALL)
    table = "MILK10k_Training_Metadata.csv"
    assert (first / table).read_bytes() != (second / table).read_bytes()
    assert not set(read_lesions(first).index) & set(read_lesions(second).index)


def test_masks_lie_beside_the_layout(tmp_path):
    root = synthesise(tmp_path / "set", 3, image_size=SMALL, masks=True)
    lesions = read_lesions(root)
    ids = {*lesions["clinical_isic_id"], *lesions["dermoscopic_isic_id"]}
    assert {path.stem for path in (root / synth.MASKS).iterdir()} == ids
    mask = np.asarray(Image.open(root / synth.MASKS / f"{min(ids)}.png"))
    assert mask.shape == SMALL[::-1]
    assert set(np.unique(mask)) == {0, 255}
    assert check(root, progress=False) == []


def test_test_part_has_no_labels_and_lives_with_the_training_part(tmp_path):
    root = synthesise(tmp_path / "set", 4, image_size=SMALL, part="test", masks=True)
    assert not list(root.glob("*GroundTruth*"))
    assert not list(root.glob("*Supplement*"))
    test = read_lesions(root, "test")
    assert "label" not in test
    synthesise(root, 6, image_size=SMALL)
    synthesise(root, 5, image_size=SMALL, masks=True)
    assert len(read_lesions(root, "training")) == 5
    pd.testing.assert_frame_equal(read_lesions(root, "test"), test)
    assert len(list((root / synth.MASKS).iterdir())) == 18
    for part in ("training", "test"):
        assert check(root, part, progress=False) == []
    notice = (root / synth.MARKER).read_text()
    assert "training: 5 lesions" in notice
    assert "test: 4 lesions" in notice


def test_an_earlier_set_is_replaced(tmp_path):
    root = synthesise(tmp_path / "set", 6, image_size=SMALL, masks=True)
    synthesise(root, 2, seed=1, image_size=SMALL)
    fresh = synthesise(tmp_path / "fresh", 2, seed=1, image_size=SMALL)
    assert files_below(root) == files_below(fresh)


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / "set").mkdir()
    assert len(read_lesions(synthesise(tmp_path / "set", 1, image_size=SMALL))) == 1


@pytest.mark.parametrize("kind", ["foreign folder", "foreign file in a set", "file"])
def test_nobody_elses_files_are_touched(tmp_path, kind):
    root = tmp_path / "mine"
    if kind == "file":
        root.write_text("mine")
    elif kind == "foreign folder":
        root.mkdir()
        (root / "thesis.txt").write_text("mine")
    else:
        synthesise(root, 1, image_size=SMALL)
        (root / "thesis.txt").write_text("mine")
    before = files_below(tmp_path)
    with pytest.raises(FileExistsError, match=r"folder"):
        synthesise(root, 2, image_size=SMALL)
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("earlier", [False, True])
def test_an_interrupted_call_leaves_nothing_half_written(tmp_path, monkeypatch, earlier):
    root = tmp_path / "set"
    if earlier:
        synthesise(root, 2, image_size=SMALL)
    before = {path: (tmp_path / path).read_bytes() for path in files_below(tmp_path)}
    calls = []

    def fail_at_the_fourth(lesion, image_size):
        calls.append(lesion)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return draw_lesion(lesion, image_size)

    monkeypatch.setattr(synth, "draw_lesion", fail_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        synthesise(root, 6, seed=1, image_size=SMALL, workers=1)
    assert {path: (tmp_path / path).read_bytes() for path in files_below(tmp_path)} == before
    assert {path.name for path in tmp_path.iterdir()} == ({"set"} if earlier else set())


@pytest.mark.parametrize(
    ("arguments", "word"),
    [({"lesions": 0}, "lesions"), ({"part": "validation"}, "part"), ({"seed": -1}, "seed"),
     ({"image_size": (600, 10)}, "image_size")],
)  # fmt: skip
def test_wrong_arguments_are_named(tmp_path, arguments, word):
    with pytest.raises(ValueError, match=word):
        synthesise(tmp_path / "set", **arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seed", range(3))
def test_classes_are_unbalanced_but_none_is_absent(seed):
    counts = Counter(class_labels(110, seed))
    assert min(counts[code] for code in CLASSES) >= 5
    assert class_labels(300, seed)[:110] == class_labels(110, seed)
    assert class_labels(7, seed) == class_labels(300, seed)[:7]
    counts = Counter(class_labels(20_000, seed))
    total = sum(PAPER_FULL_COUNTS.values())
    for code in CLASSES:
        assert counts[code] / 20_000 == pytest.approx(PAPER_FULL_COUNTS[code] / total, abs=0.012)


def test_ids_look_official_and_are_unique():
    names = [
        lesion_names(index, 4, part) for part in ("training", "test") for index in range(20_000)
    ]
    images = {name[view] for name in names for view in ("clinical", "dermoscopic")}
    assert len({name["lesion_id"] for name in names}) == 40_000
    assert len(images) == 80_000
    assert all(name.startswith("ISIC_") and len(name) == 12 for name in images)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """The table of 1,200 lesions, drawn as cheaply as the drawing allows."""
    root = tmp_path_factory.mktemp("many") / "set"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synth, "draw_lesion", lambda lesion, image_size: {})
        synthesise(root, 1200, image_size=SMALL)
    return read_lesions(root, image_files=False)


def test_age_and_site_are_sometimes_missing(many):
    assert 0.002 < many["age_approx"].isna().mean() < 0.03
    assert 0.002 < many["site"].isna().mean() < 0.04


def macro_auc(features, labels):
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.05, max_iter=300, class_weight="balanced")
    )
    folds = StratifiedKFold(4, shuffle=True, random_state=0)
    predicted = cross_val_predict(model, features, labels, cv=folds, method="predict_proba")
    return roc_auc_score(labels, predicted, multi_class="ovr", average="macro")


def test_metadata_holds_part_of_the_evidence(many):
    scores = many.filter(like="MONET")
    people = pd.get_dummies(many[["sex", "site", "skin_tone_class"]].astype(str)).astype(float)
    people["age"] = many["age_approx"].fillna(60)
    labels = many["label"].to_numpy()
    assert 0.6 < macro_auc(people, labels) < 0.85
    assert 0.7 < macro_auc(pd.concat([people, scores], axis=1), labels) < 0.95


def test_each_picture_holds_part_of_the_evidence():
    labels = np.array(class_labels(330))
    features = {"clinical": [], "dermoscopic": []}
    for index, label in enumerate(labels):
        for view, drawing in draw_lesion(sample_lesion(label, (0, 0, index)), SMALL).items():
            middle = drawing.image[12:36, 16:48].reshape(-1, 3).astype(float)
            quantiles = np.percentile(middle, [5, 25, 50, 75, 95], axis=0)
            features[view].append(np.concatenate([quantiles.ravel(), middle.std(axis=0)]))
    clinical, dermoscopic = (macro_auc(np.array(features[view]), labels) for view in features)
    assert 0.6 < clinical < 0.95
    assert 0.65 < dermoscopic < 0.97


def test_layout_names_are_the_official_ones(tmp_path):
    root = synthesise(tmp_path / "set", 1, image_size=SMALL)
    layout = Layout(root)
    assert layout.metadata_csv.name == "MILK10k_Training_Metadata.csv"
    lesion, picture = files_below(layout.input_dir)[0].parts
    assert lesion.startswith("IL_")
    assert picture.startswith("ISIC_")

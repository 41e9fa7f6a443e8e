import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from jiadf.data.schema import CLASSES
from jiadf.evaluation import predictions as module
from jiadf.evaluation.predictions import (
    LEAST,
    load_lesions,
    load_predictions,
    models,
    records,
    write_lesions,
    write_predictions,
)
from jiadf.evaluation.schema import RecordError, branch_columns

N = 40
IDS = [f"IL_{number:07d}" for number in range(N)]
GATED, PLAIN = "ji-adf", "a plain one"
PROVENANCE = {"git_commit": "abc", "seeds": [0, 3]}


def softmax(rng, *shape):
    values = np.exp(3 * rng.normal(size=shape))
    return values / values.sum(-1, keepdims=True)


def lesion_rows():
    table = pd.DataFrame({"label": np.resize(CLASSES, N), "fold": np.arange(N) % 5}, index=IDS)
    table["age_approx"] = np.where(np.arange(N) % 7, 45.0, np.nan)
    table["sex"], table["skin_tone_class"] = "female", 3
    table["site"] = [None, *["trunk"] * (N - 1)]
    table["diagnosis_full"], table["diagnosis_confirm_type"] = "Nevus", None
    return table.rename_axis("lesion_id")


def prediction_rows(ids=IDS):
    """Two systems, two seeds; only the first system has branches."""
    rng, tables = np.random.default_rng(0), []
    for system in (GATED, PLAIN):
        for seed in (3, 0):
            table = pd.DataFrame(softmax(rng, len(ids), len(CLASSES)), columns=list(CLASSES))
            table = table.assign(system=system, seed=seed, lesion_id=ids, fold=seed)
            if system == GATED:
                for branch in ("image", "joint"):
                    table[branch_columns(branch)] = softmax(rng, len(ids), len(CLASSES))
                table[["weight_image", "weight_joint"]] = softmax(rng, len(ids), 2)
            tables.append(table.sample(frac=1, random_state=seed))
    return pd.concat(tables, ignore_index=True)


@pytest.fixture
def folder(tmp_path):
    write_lesions(tmp_path, lesion_rows())
    write_predictions(tmp_path, "two", prediction_rows(), PROVENANCE)
    return tmp_path


def test_what_was_recorded_is_read_to_four_decimals(folder):
    rows = prediction_rows().set_index(["system", "seed", "lesion_id"]).sort_index()
    gated = load_predictions("two", GATED, folder)
    assert (gated.seeds, len(gated)) == ((0, 3), N)
    assert gated.lesions.index.tolist() == IDS
    assert [CLASSES[k] for k in gated.y_true] == lesion_rows()["label"].tolist()
    assert gated.y_true.dtype == np.int64
    assert gated.y_prob.dtype == np.float64
    for number, seed in enumerate(gated.seeds):
        wanted = rows.loc[GATED, seed].loc[IDS]
        # LEAST in place of up to eleven zeros, and the sum of eleven roundings
        close = {"atol": 6e-4, "rtol": 0}
        np.testing.assert_allclose(gated.by_seed[number], wanted[list(CLASSES)], **close)
        for branch in ("image", "joint"):
            columns = branch_columns(branch)
            np.testing.assert_allclose(gated.branches[branch][number], wanted[columns], **close)
        weights = wanted[["weight_image", "weight_joint"]]
        np.testing.assert_allclose(gated.weights[number], weights, atol=5.1e-5)
    np.testing.assert_allclose(gated.by_seed.sum(-1), 1, atol=1e-12)
    assert 0 < gated.by_seed.min() <= LEAST * 1.001
    assert gated.weight_names == ("image", "joint")
    assert gated.lesions["fold"].eq(0).all()  # of the network that scored it under the first seed
    assert gated.lesions["age_approx"].isna().sum() == 6
    assert gated.lesions["diagnosis_confirm_type"].isna().all()
    assert gated.provenance["lesions"] == N
    assert "CC BY-NC 4.0" in gated.provenance["licence"]
    np.testing.assert_array_equal(gated.y_prob, gated.by_seed[0])
    plain = load_predictions("two", PLAIN, folder)
    assert (plain.branches, plain.weights, plain.weight_names) == ({}, None, ())


def test_the_file_has_narrow_types_four_decimals_and_no_trace_of_the_machine(folder):
    table = pq.read_table(folder / "two.parquet")
    types = {field.name: str(field.type) for field in table.schema}
    assert (types["seed"], types["fold"], types["MEL"]) == ("int16", "int8", "float")
    assert types["system"].startswith("dictionary")
    assert table.schema.metadata is None
    values = table["MEL"].to_numpy()
    np.testing.assert_array_equal(values, values.astype(float).round(4).astype(np.float32))
    first = (folder / "two.parquet").read_bytes()
    write_predictions(folder, "two", prediction_rows(), PROVENANCE)
    assert (folder / "two.parquet").read_bytes() == first
    assert sorted(path.name for path in folder.iterdir()) == [
        "lesions.parquet", "two.json", "two.parquet",
    ]  # fmt: skip


def change(row, column, value):
    def make(table):
        table[column] = table[column].astype(object)
        table.loc[row, column] = value
        return table

    return make


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        (change(0, "MEL", 1.4), r"system ji-adf, seed 3, lesion IL_\d+: MEL = 1\.4: in_range"),
        (change(0, "MEL", np.nan), r"lesion IL_\d+: MEL = nan: is empty"),
        (change(0, "MEL", "much"), r"lesion IL_\d+: MEL = much: is no float32"),
        (change(0, "seed", 40_000), "seed = 40000: is no int16"),
        (change(0, "weight_joint", 0.0), r"seed 3, lesion IL_\d+: the branch weights sum to 0"),
        (change(0, "joint_NV", np.nan), r"lesion IL_\d+: .* branch 'joint' sum to nan"),
        (lambda t: t.assign(NV=t["NV"] + 0.01), r"the probabilities sum to 1\.0[01]\d+, not 1"),
        (lambda t: t.drop(columns="VASC"), "there is no column 'VASC'"),
        (lambda t: t.drop(columns="joint_VASC"), "branch 'joint' has no column joint_VASC"),
        (lambda t: t.assign(XYZ=0.0), "'XYZ' is not a column of a record"),
        (lambda t: pd.concat([t, t.iloc[:1]]), r"seed 3, lesion IL_\d+: stands there twice"),
        (lambda t: t.drop(index=t.index[-1]), r"system a plain one, seed 0: lacks lesion IL_\d+"),
        (lambda t: prediction_rows([*IDS[1:], "IL_x"]), r"lesion IL_x .* not in lesions\.parquet"),
    ],
)  # fmt: skip
def test_faults_are_named_and_nothing_is_written(folder, broken, named):
    with pytest.raises(RecordError, match=named) as caught:
        write_predictions(folder, "broken", broken(prediction_rows()), PROVENANCE)
    assert "broken.parquet" in str(caught.value)
    assert "Remedy: " in str(caught.value)
    assert records(folder) == ["two"]
    assert not (folder / "broken.json").exists()


def test_unknown_labels_and_a_lesion_table_of_other_content_are_refused(folder):
    with pytest.raises(RecordError, match=r"lesion IL_0000000: label = XYZ: isin"):
        write_lesions(folder, change("IL_0000000", "label", "XYZ")(lesion_rows()))
    before = (folder / "lesions.parquet").read_bytes()
    write_lesions(folder, lesion_rows().iloc[::-1])  # the same in another order
    for other in (lesion_rows().iloc[1:], lesion_rows().assign(sex="male")):
        with pytest.raises(RecordError, match=r"lesions\.parquet: holds other .* Remedy: .* --out"):
            write_lesions(folder, other)
    assert (folder / "lesions.parquet").read_bytes() == before
    assert load_lesions(folder)["fold"].tolist() == lesion_rows()["fold"].tolist()


@pytest.mark.parametrize("name", ["lesions", "../two", ".hidden"])
def test_names_that_cannot_be_are_refused(folder, name):
    with pytest.raises(RecordError, match="cannot name a record"):
        write_predictions(folder, name, prediction_rows(), PROVENANCE)


def test_what_is_not_there_is_told_with_what_is(folder, tmp_path, monkeypatch):
    assert (records(folder), models("two", folder)) == (["two"], [GATED, PLAIN])
    for arguments, named in [
        (("one", GATED), r"one\.parquet: no such record; there are: two\."),
        (("two", "x"), f"no model 'x' in this record; it has {GATED}, {PLAIN}"),
        (("two", None), f"name a model of this record; it has {GATED}, {PLAIN}"),
    ]:
        with pytest.raises(RecordError, match=named):
            load_predictions(*arguments, folder)
    with pytest.raises(RecordError, match="no such folder"):
        load_predictions("two", GATED, folder / "none")
    monkeypatch.setattr(module, "_CHECKOUT", tmp_path / "site-packages")
    with pytest.raises(RecordError, match="pass folder="):
        load_predictions("two", GATED)


def test_files_that_are_damaged_foreign_or_alone_are_named(folder):
    whole = (folder / "two.parquet").read_bytes()

    def refused(named):
        with pytest.raises(RecordError, match=named) as caught:
            load_predictions("two", GATED, folder)
        assert "Remedy: restore the file" in str(caught.value)

    (folder / "two.parquet").write_bytes(whole[: len(whole) // 2])
    refused(r"two\.parquet: is not a record")
    pd.DataFrame({"a": [1]}).to_parquet(folder / "two.parquet")
    refused(r"two\.parquet: is not a record")
    with pytest.raises(RecordError, match="is not a record"):
        load_predictions("two", folder=folder)
    pd.DataFrame({"system": [GATED], "MEL": [0.5]}).to_parquet(folder / "two.parquet")
    refused(r"(?s)two\.parquet:.*there is no column 'seed'")
    (folder / "two.parquet").write_bytes(whole)
    written = (folder / "two.json").read_text()
    (folder / "two.json").write_text("{")
    refused(r"two\.json: is not JSON")
    (folder / "two.json").unlink()
    refused(r"two\.json: no such file")
    # Killed between the two: a new table beside the provenance of the old one.
    (folder / "two.json").write_text(json.dumps(json.loads(written) | {"sha256": "0" * 64}))
    refused(r"two\.json: is of another table than two\.parquet")
    (folder / "two.json").write_text(written)
    (folder / "lesions.parquet").unlink()
    refused(r"lesions\.parquet: no such file")
    write_lesions(folder, lesion_rows().iloc[1:])
    refused(r"(?s)lesions\.parquet:.*1 lesions of the record are not there, the first IL_0000000")

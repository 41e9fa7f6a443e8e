import os
from pathlib import Path

import pytest
import yaml

from jiadf.config import ParameterError, Parameters, load_parameters, make_parameters, to_yaml


def test_a_file_and_overrides_make_parameters(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text("epochs: 7\nlearning_rate: 1.0e-3\n")
    parameters = load_parameters(file, ["epochs=9", "test_fold=2", "modalities=CD"])
    assert (parameters.epochs, parameters.learning_rate) == (9, 1e-3)
    assert (parameters.test_fold, parameters.modalities) == (2, "CD")
    assert load_parameters(file, ["test_fold=null"]).test_fold is None
    assert load_parameters(file, ["mixed_precision=no"]).mixed_precision == "no"


def test_yaml_round_trip():
    parameters = make_parameters({"epochs": 3, "modalities": "DM"})
    assert make_parameters(yaml.safe_load(to_yaml(parameters))) == parameters


def test_unknown_names_are_refused_with_the_nearest_one(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text("lerning_rate: 0.1\nepoch: 3\n")
    with pytest.raises(ParameterError) as caught:
        load_parameters(file)
    assert f"{file}: unknown parameter 'lerning_rate'; did you mean 'learning_rate'?" in str(
        caught.value
    )
    assert "'epoch'; did you mean 'epochs'?" in str(caught.value)
    with pytest.raises(ParameterError, match="did you mean 'batch_size'"):
        load_parameters(None, ["batchsize=3"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "epochs: .*greater than or equal to 1, given 0"),
        ({"fusion": "sum"}, "fusion: .*'mmfa' or 'concat'"),
        ({"gate_input": "images"}, "gate_input: .*'logits' or 'features'"),
        ({"modalities": "MC"}, "modalities"),
        ({"val_fold": 5}, "val_fold is 5; it must lie in 0 … 4"),
        ({"test_fold": 1}, "both 1"),
        ({"val_fold": None}, "nothing can choose the epoch"),
        ({"regime": "finetune", "activation_views": 2}, "only the output of fixed stages can"),
        ({"activation_views": 2, "frozen_stages": 3}, "only the output"),
        ({"backbone_weights": "random"}, "is random: train them"),
        ({"branches": "joint"}, "set decision to 'joint'"),
        ({"dropout": 1.0}, "dropout"),
        ({"modality_dropout": -0.1}, "modality_dropout: .*greater than or equal to 0"),
    ],
)
def test_values_out_of_range_are_refused(values, message):
    with pytest.raises(ParameterError, match=message):
        make_parameters(values)


def test_broken_files_are_named(tmp_path):
    with pytest.raises(ParameterError, match=r"none\.yaml: no such file"):
        load_parameters(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ParameterError, match=r"list\.yaml: expected `name: value`"):
        load_parameters(tmp_path / "list.yaml")
    (tmp_path / "bad.yaml").write_text("a: [\n")
    with pytest.raises(ParameterError, match=r"bad\.yaml: not valid YAML"):
        load_parameters(tmp_path / "bad.yaml")
    with pytest.raises(ParameterError, match="write it as name=value"):
        load_parameters(None, ["epochs"])


NESTED = "\n".join(["a: &a [x]", *(f"{n}: &{n} [{', '.join([f'*{m}'] * 9)}]" for m, n in
                    zip("abcdefgh", "bcdefghi", strict=True))])  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (NESTED.encode(), "aliases are not allowed"),
        (b"a: " + b"[" * 9000, "nested too deeply"),
        (b"epochs: 2020-13-99", "not valid YAML"),
        (b"epochs: 3\n3: 4\n", "3 is not the name of a parameter"),
        ("epochs: ä".encode("latin-1"), "save it as UTF-8"),
    ],
)
def test_files_that_other_loaders_stumble_over_are_named(tmp_path, content, message):
    (tmp_path / "p.yaml").write_bytes(content)
    with pytest.raises(ParameterError, match=rf"p\.yaml: .*{message}") as caught:
        load_parameters(tmp_path / "p.yaml")
    assert len(str(caught.value)) < 1000


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo"):
        with pytest.raises(ParameterError, match="not a regular file"):
            load_parameters(path)
    with pytest.raises(ParameterError, match="-p epochs: not valid YAML"):
        load_parameters(None, ["epochs=["])


def test_a_parameter_of_earlier_versions_may_have_the_value_that_is_left():
    assert make_parameters({"sampling": "natural"}) == Parameters()
    with pytest.raises(ParameterError, match="unknown parameter 'sampling'"):
        make_parameters({"sampling": "balanced"})


def test_every_parameter_is_explained():
    for name, field in Parameters.model_fields.items():
        assert field.description, name


@pytest.mark.parametrize("name", ["cpu", "paper", "finetune", "finetuned"])
def test_shipped_files_are_valid(name):
    load_parameters(Path(__file__).parents[1] / "params" / f"{name}.yaml")

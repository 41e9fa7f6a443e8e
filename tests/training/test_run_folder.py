import json

import pandas as pd
import pytest
import torch

from jiadf.files import atomic
from jiadf.training.run_folder import (
    Run,
    RunError,
    environment,
    git_commit,
    package_versions,
    unshared,
)


def half_write(path):
    with atomic(path) as staged:
        staged.write_text("half")
        raise RuntimeError


def test_a_failed_write_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError):
        half_write(path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_missing_file_is_named_with_the_remedy(tmp_path):
    with pytest.raises(RunError, match=r"metrics\.json: not there.*jiadf train --run"):
        _ = Run(tmp_path).metrics


def test_a_folder_belongs_to_its_parameters(tmp_path, tiny_parameters):
    run = Run(tmp_path)
    run.claim(tiny_parameters())
    run.claim(tiny_parameters())
    assert run.parameters == tiny_parameters()
    with pytest.raises(RunError, match="epochs: 3 there, 4 now"):
        run.claim(tiny_parameters(epochs=4))
    assert run.parameters.epochs == 3


def test_checkpoint_round_trip_without_pickle(tmp_path):
    run = Run(tmp_path)
    assert run.load_checkpoint() is None
    shared = torch.arange(3.0)
    run.save_checkpoint({"a": shared, "alias": shared, "b": torch.ones(())}, {"epoch": 2})
    tensors, state = run.load_checkpoint()
    assert state == {"epoch": 2}
    assert torch.equal(tensors["a"], shared)
    assert set(tensors) == {"a", "b"}
    assert b"pickle" not in (tmp_path / "checkpoint.safetensors").read_bytes()


def test_unshared_keeps_equal_tensors_apart():
    assert set(unshared({"a": torch.ones(2), "b": torch.ones(2)})) == {"a", "b"}


def test_tables_and_environment(tmp_path):
    run = Run(tmp_path)
    table = pd.DataFrame({"x": [1 / 3]}, index=pd.Index(["IL_1"], name="lesion_id"))
    run.write_table("predictions.csv", table)
    assert run.predictions.loc["IL_1", "x"] == pytest.approx(1 / 3, abs=1e-8)
    described = json.loads(json.dumps(environment("cpu", "no", {"table": "ab"}, 1.26)))
    assert described["device"] == "CPU"
    assert described["packages"]["torch"] == torch.__version__.split("+")[0]
    assert described["data"] == {"table": "ab"}
    assert described["seconds"] == 1.3


def test_neither_git_nor_a_package_need_be_there(monkeypatch):
    assert package_versions(["torch", "no-such-package"])["no-such-package"] is None
    monkeypatch.setenv("PATH", "")
    assert git_commit() is None

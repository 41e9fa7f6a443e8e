import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from jiadf.data.metadata import MetadataEncoder
from jiadf.training import provenance
from jiadf.training.provenance import environment, git_commit, package_versions
from jiadf.training.run_folder import (
    CHECKPOINT,
    Run,
    RunError,
    load_checkpoint,
    save_checkpoint,
    unshared,
)


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
    file = tmp_path / CHECKPOINT
    assert load_checkpoint(file) is None
    shared = torch.arange(3.0)
    save_checkpoint(file, {"a": shared, "alias": shared, "b": torch.ones(())}, {"epoch": 2})
    tensors, state = load_checkpoint(file)
    assert state == {"epoch": 2}
    assert torch.equal(tensors["a"], shared)
    assert set(tensors) == {"a", "b"}
    assert b"pickle" not in file.read_bytes()


@pytest.mark.parametrize("size", [0, 5, 200])
def test_a_damaged_checkpoint_is_named_with_the_remedy(tmp_path, size):
    file = tmp_path / CHECKPOINT
    save_checkpoint(file, {"a": torch.ones(99)}, {"epoch": 2})
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(RunError, match=r"checkpoint\.safetensors: damaged .* Delete this file"):
        load_checkpoint(file)


def test_what_a_finished_run_wrote_is_held_against_its_digests(tmp_path, tiny_parameters):
    run = Run(tmp_path)
    run.claim(tiny_parameters())
    run.write_weights({"a": torch.ones(9)})
    run.write_text("encoder.json", MetadataEncoder(True, {}, {}).to_json())
    run.finish({"best_epoch": 1, "val": {"macro_auc": float("nan")}})
    assert run.metrics == {"best_epoch": 1, "val": {"macro_auc": None}}
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o666 & ~umask()
    for name, read in [
        ("model.safetensors", lambda: run.weights()),
        ("encoder.json", lambda: run.encoder),
        ("config.yaml", lambda: run.parameters),
        ("metrics.json", lambda: run.metrics),
    ]:
        read()
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(RunError, match=f"{name}: is not what the run wrote"):
            read()
        (tmp_path / name).write_bytes(whole)
    (tmp_path / "digests.json").write_text("")
    with pytest.raises(RunError, match=r"digests\.json: cannot be read"):
        run.weights()


def umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


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


def test_code_below_another_repository_has_no_commit(tmp_path):
    package = tmp_path / "site-packages" / "provenance.py"
    package.parent.mkdir()
    package.write_text(Path(provenance.__file__).read_text())
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "theirs"], check=True)
    code = "import provenance; print(provenance.git_commit())"
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=package.parent, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "None"


def test_ids_that_look_like_numbers_stay_text_and_no_pipe_is_waited_for(tmp_path):
    run = Run(tmp_path)
    lesions = pd.Index(["0001", "1e5", "NA"], name="lesion_id")
    run.write_table("predictions.csv", pd.DataFrame({"split": "val", "MEL": 0.5}, lesions))
    assert run.predictions.index.tolist() == ["0001", "1e5", "NA"]
    os.mkfifo(tmp_path / "history.csv")
    with pytest.raises(RunError, match=r"history.csv: cannot be read \(not a regular file\)"):
        _ = run.history

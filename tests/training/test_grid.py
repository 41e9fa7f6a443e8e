import re
import shutil
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from jiadf.config import ParameterError
from jiadf.training import grid as module
from jiadf.training import inputs
from jiadf.training.grid import collect, load_grid, run_grid
from jiadf.training.run_folder import Run
from jiadf.training.trainer import train
from tests.conftest import TINY

BASE = TINY | {"feature_views": 1, "epochs": 1}


@pytest.fixture
def write(tmp_path):
    """Write a grid of tiny runs, with changes, and read it."""

    def make(**changes):
        values = {"base": BASE, "seeds": [0], "systems": {"all": {}, "M": {"modalities": "M"}}}
        file = tmp_path / "grid.yaml"
        file.write_text(yaml.safe_dump(values | changes, sort_keys=False))
        return load_grid(file)

    return make


@pytest.fixture(scope="module")
def made(tmp_path_factory, lesions, cache_dir):
    """A grid run to its end, out of fold over two folds, and its folder."""
    folder = tmp_path_factory.mktemp("grid")
    systems = {"all": {}, "M": {"modalities": "M"}}
    values = {"protocol": "out-of-fold", "seeds": [0, 1], "systems": systems}
    (folder / "grid.yaml").write_text(
        yaml.safe_dump(values | {"base": BASE | {"n_folds": 3}}, sort_keys=False)
    )
    grid = load_grid(folder / "grid.yaml")
    assert run_grid(grid, lesions, folder, cache_dir, progress=False) == []
    return grid, folder


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seeds": []}, "grid.yaml: seeds"),
        ({"protocol": "train"}, "grid.yaml: protocol"),
        ({"sistems": {}}, "grid.yaml: sistems"),
        ({"base": BASE | {"epoch": 3}}, "did you mean 'epochs'"),
        ({"systems": {"x": {"modalities": "Q"}}}, "system 'x': modalities"),
        ({"systems": {"1 / 2": {}}}, "system '1 / 2' names a folder"),
        ({"systems": {"a b": {}, "a_b": {}}}, "'a b' and 'a_b' would share a folder"),
        ({"systems": {"x": {"n_folds": 10}}}, "system 'x' sets n_folds"),
        ({"protocol": "out-of-fold", "base": BASE | {"n_folds": "three"}}, "n_folds"),
        ({"base": "none.yaml"}, "none.yaml: no such file"),
        ({"base": [{"epochs": 1}, 3]}, "grid.yaml: base"),
    ],
)
def test_faults_are_told_before_any_run_is_made(write, changes, told):
    with pytest.raises(ParameterError) as caught:
        write(**changes)
    assert told in str(caught.value)


def test_of_several_bases_later_ones_win(write, tmp_path):
    (tmp_path / "base.yaml").write_text("{epochs: 7, batch_size: 8}")
    run = next(write(base=["base.yaml", {"epochs": 2}]).runs(tmp_path))
    assert (run.parameters.epochs, run.parameters.batch_size) == (2, 8)


def test_assignments_replace_values_of_the_base_and_systems_keep_their_own(write, tmp_path):
    write(systems={"all": {}, "short": {"epochs": 4}}, base={"epochs": 7})
    grid = load_grid(tmp_path / "grid.yaml", ["epochs=2", "backbone=tf_efficientnet_lite1"])
    runs = [run.parameters for run in grid.runs(tmp_path)]
    assert [p.epochs for p in runs] == [2, 4]
    assert {p.backbone for p in runs} == {"tf_efficientnet_lite1"}


def test_an_assignment_that_every_system_would_undo_is_refused(write, tmp_path):
    write(systems={"long": {"epochs": 8}, "short": {"epochs": 4}}, base={"epochs": 7})
    with pytest.raises(ParameterError, match=r"-p epochs: .*its systems"):
        load_grid(tmp_path / "grid.yaml", ["epochs=2"])


@pytest.mark.parametrize(
    ("item", "told"),
    [("epoch=2", "did you mean 'epochs'"), ("epochs", "name=value"), ("seed=3", "seed: .*seeds"),
     ("test_fold=1", "test_fold: .*protocol"), ("epochs=0", "epochs: ")],
)  # fmt: skip
def test_assignments_that_cannot_be_are_told(write, tmp_path, item, told):
    write(protocol="out-of-fold")
    with pytest.raises(ParameterError, match=told):
        load_grid(tmp_path / "grid.yaml", [item])


def test_out_of_fold_scores_every_fold_once(write, tmp_path):
    runs = list(write(protocol="out-of-fold", base=BASE | {"n_folds": 3}).runs(tmp_path))
    folds = [(run.parameters.test_fold, run.parameters.val_fold) for run in runs[:3]]
    assert folds == [(0, 1), (1, 2), (2, 0)]
    assert len(runs) == 2 * 3
    last = BASE | {"n_folds": 3, "keep": "last", "schedule": "one-cycle"}
    runs = write(protocol="out-of-fold", base=last).runs(tmp_path)
    assert {run.parameters.val_fold for run in runs} == {None}


def test_runs_share_what_they_read(write, lesions, cache_dir, tmp_path, monkeypatch):
    read = []
    original = inputs.cache_images

    def counted(paths, *arguments, **options):
        read.append(paths.name)
        return original(paths, *arguments, **options)

    monkeypatch.setattr(inputs, "cache_images", counted)
    grid = write(systems={"all": {}, "CD": {"modalities": "CD"}, "skip": {"fusion_paths": "skip"}})
    assert not run_grid(grid, lesions, tmp_path / "runs", cache_dir, progress=False)
    assert sorted(read) == ["clinical_path", "dermoscopic_path"]


def test_finished_runs_are_not_repeated(made, lesions, monkeypatch, capsys):
    grid, folder = made
    monkeypatch.setattr("jiadf.training.trainer.Trainer", None)
    assert run_grid(grid, lesions, folder) == []
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 12
    assert told[0].startswith("[1/12] all, seed 0, fold 0: macro-F1 0.")


def test_processes_share_a_grid_and_wait_for_each_other(write, lesions, cache_dir, tmp_path):
    """While another process has a run, the others are trained; then that one is waited for."""
    grid = write()
    runs = list(grid.runs(tmp_path))
    order = []

    def watch(table, path, *arguments, **named):
        order.append((path, named["wait"]))
        if not named["wait"]:
            return train(table, path, *arguments, **named)
        assert not Run(path).finished
        held.release()
        return train(table, path, *arguments, **named)

    held = FileLock(runs[0].path.with_name(f".{runs[0].path.name}.lock"), is_singleton=False)
    runs[0].path.parent.mkdir(parents=True)
    held.acquire()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jiadf.training.grid.train", watch)
        assert run_grid(grid, lesions, tmp_path, cache_dir, progress=False) == []
    first, *others = [run.path for run in runs]
    assert order == [(first, False), *((path, False) for path in others), (first, True)]
    assert all(Run(run.path).finished for run in runs)


def test_a_failing_run_is_told_and_the_others_go_on(
    write, lesions, cache_dir, tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "runs"
    grid = write(seeds=[0, 1])
    original = module.train

    def broken(table, path, parameters, *arguments, **options):
        if parameters.modalities == "CDM" and parameters.seed == 0:
            raise RuntimeError("the power went")
        return original(table, path, parameters, *arguments, **options)

    monkeypatch.setattr(module, "train", broken)
    failed = run_grid(grid, lesions, folder, cache_dir)
    assert [(run.system, run.seed) for run in failed] == [("all", 0)]
    assert "the power went" in capsys.readouterr().out
    assert "RuntimeError: the power went" in (failed[0].path / "error.txt").read_text()
    assert collect(grid, folder)["state"].tolist() == ["failed", *["finished"] * 3]

    monkeypatch.setattr(module, "train", original)
    assert run_grid(grid, lesions, folder, cache_dir, progress=False) == []
    assert not (failed[0].path / "error.txt").exists()
    assert set(collect(grid, folder)["state"]) == {"finished"}


def test_one_system_alone(write, lesions, cache_dir, tmp_path):
    grid, folder = write(), tmp_path / "runs"
    run_grid(grid, lesions, folder, cache_dir, only="M", progress=False)
    states = collect(grid, folder).set_index("system")["state"]
    assert states.to_dict() == {"all": "missing", "M": "finished"}
    with pytest.raises(ParameterError, match="no system 'N'; it has all, M"):
        run_grid(grid, lesions, folder, only="N")


def test_results_are_read_from_the_folders_alone(made):
    grid, folder = made
    table = collect(grid, folder)
    assert len(table) == 2 * 2 * 3
    for row in table.itertuples():
        metrics = Run(folder / row.system / f"seed{row.seed}-fold{row.fold}").metrics
        assert row.macro_f1 == metrics["test"]["macro_f1"]
        assert row.seconds >= 0
        assert 1 <= row.best_epoch <= grid.base["epochs"]


def test_grids_that_the_book_shows_can_be_read(tmp_path):
    shown = [
        block
        for page in Path("book").glob("*.md")
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
        if "systems:" in block
    ]
    assert shown
    shutil.copytree("params", tmp_path / "params")
    for block in shown:
        file = tmp_path / "params/grids/shown.yaml"
        file.write_text(block)
        assert load_grid(file).systems

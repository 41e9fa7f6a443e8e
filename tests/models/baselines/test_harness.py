"""Every method through the real training loop: run folders, stages, a kill and a resume."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from jiadf.data.batches import Inputs
from jiadf.data.metadata import MetadataEncoder
from jiadf.models.baselines import BASELINES
from jiadf.models.losses import JointIndividualLoss, branch_lambdas
from jiadf.models.network import JIADF
from jiadf.training import loop
from jiadf.training.grid import Grid, collect, load_grid, run_grid
from jiadf.training.loop import Trainer
from jiadf.training.network import build_network
from jiadf.training.trainer import train
from tests.conftest import predict

FROZEN = ["jif-mmfa", *(name for name in BASELINES if name != "panderm")]
SPATIAL = [name for name in BASELINES if name not in ("vemfl", "panderm")]
TERMS = {
    "albef": {"train_contrastive", "train_matching"},
    "coscatnet-ufs": {"train_cosine", "train_uncertainty", "train_metadata", "train_clinical"},
    "dualrefnet": {"train_frequency"},
}


@pytest.mark.parametrize("method", FROZEN)
def test_every_method_trains_on_frozen_features(
    method, lesions, cache_dir, tiny_parameters, tmp_path
):
    parameters = tiny_parameters(method=method, test_fold=0)
    run = train(lesions, tmp_path / "run", parameters, cache_dir, progress=False)
    history = run.history
    assert len(history) == 3
    assert TERMS.get(method, set()) <= set(history)
    assert np.isfinite(run.metrics["test"]["nll"])
    again = predict(run, lesions, cache_dir)
    np.testing.assert_allclose(again, run.predictions[list(again)], rtol=1e-4, atol=1e-5)
    weights = run.predictions.filter(like="weight_")
    branches = {"jif-mmfa": 3, "coscatnet-ufs": 4}.get(method, 0)
    assert weights.shape[1] == branches


def test_jif_mmfa_is_the_network_that_averages(lesions, cache_dir, tiny_parameters, tmp_path):
    both = [
        train(lesions, tmp_path / str(i), tiny_parameters(epochs=1, **c), cache_dir, progress=False)
        for i, c in enumerate([{"method": "jif-mmfa"}, {"decision": "average"}])
    ]
    pd.testing.assert_frame_equal(both[0].history, both[1].history)
    pd.testing.assert_frame_equal(both[0].predictions, both[1].predictions)


@pytest.mark.parametrize("method", ["albef", "coscatnet-ufs"])
def test_weights_of_an_earlier_stage_are_never_kept(
    method, lesions, cache_dir, tiny_parameters, tmp_path, monkeypatch
):
    rates, original = [], Trainer._epoch

    def epoch(self, number):
        row = original(self, number)
        rates.append((number, self.progress.best_epoch))
        return row

    monkeypatch.setattr(Trainer, "_epoch", epoch)
    parameters = tiny_parameters(method=method, epochs=4, scheduler_patience=0)
    run = train(lesions, tmp_path / "run", parameters, cache_dir, progress=False)
    first = {"albef": 3, "coscatnet-ufs": 3}[method]
    assert all(best == 0 for number, best in rates if number < first)
    assert run.metrics["best_epoch"] >= first
    assert run.history["learning_rate"].iloc[:first].nunique() == 1


def test_a_broken_run_with_stages_and_a_queue_ends_like_an_unbroken_one(
    lesions, cache_dir, tiny_parameters, tmp_path, monkeypatch
):
    parameters = tiny_parameters(method="albef", epochs=4)
    whole = train(lesions, tmp_path / "a", parameters, cache_dir, progress=False)
    checkpoint = loop.save_checkpoint

    def dies(self, tensors, state):  # after the first of two epochs that align
        checkpoint(self, tensors, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_checkpoint", dies)
    with pytest.raises(KeyboardInterrupt):
        train(lesions, tmp_path / "b", parameters, cache_dir, progress=False)
    monkeypatch.undo()
    resumed = train(lesions, tmp_path / "b", parameters, cache_dir, progress=False)
    pd.testing.assert_frame_equal(resumed.history, whole.history)
    pd.testing.assert_frame_equal(resumed.predictions, whole.predictions)
    for name, value in whole.weights().items():
        torch.testing.assert_close(resumed.weights()[name], value, rtol=0, atol=0)


def pixel_inputs(size: int = 4, side: int = 64) -> Inputs:
    """Noise for pictures, and metadata of zeros."""
    generator = np.random.default_rng(0)
    pictures = generator.integers(0, 256, (2, size, side, side, 3), dtype=np.uint8)
    width = len(MetadataEncoder(True, {}, {}).columns)
    streams = dict(zip(("clinical", "dermoscopic"), pictures, strict=True))
    return Inputs(streams, np.zeros((size, width), np.float32), np.arange(size) % 3)


@pytest.mark.parametrize("method", SPATIAL)
def test_every_method_reaches_the_backbone_end_to_end(method, tiny_parameters):
    inputs = pixel_inputs()
    parameters = tiny_parameters(method=method, regime="finetune", image_size=64)
    torch.manual_seed(0)
    network = build_network(parameters, inputs, pretrained=False).train()
    network.begin_epoch(1, 2)
    batch = {k: torch.from_numpy(v).permute(0, 3, 1, 2) for k, v in inputs.streams.items()}
    batch |= {"metadata": torch.from_numpy(inputs.metadata)}
    batch |= {"target": torch.from_numpy(inputs.target)}
    total, terms = JointIndividualLoss(branch_lambdas(network.branch_names))(
        network(batch), batch["target"]
    )
    total.backward()
    assert torch.isfinite(total)
    assert ("super_resolution" in terms) == (method == "dualrefnet")
    for encoder in network.image_encoders.values():
        assert encoder.encoder.backbone.conv_stem.weight.grad.any()


def test_a_finetuned_run_with_stages(lesions, cache_dir, tiny_parameters, tmp_path):
    small = lesions.groupby("label").head(3)
    parameters = tiny_parameters(method="albef", regime="finetune", epochs=2, share_backbone=True)
    run = train(small, tmp_path / "run", parameters, cache_dir, progress=False)
    assert run.metrics["best_epoch"] == 2
    assert len(predict(run, small, cache_dir)) == len(small)


def test_the_default_is_the_papers_network(tiny_parameters):
    network = build_network(tiny_parameters(regime="finetune"), pixel_inputs(), pretrained=False)
    assert isinstance(network, JIADF)


def test_a_grid_goes_on_without_panderms_file_and_says_so(lesions, cache_dir, tmp_path):
    panderm = {"method": "panderm", "backbone": "panderm_large", "backbone_weights": "absent.pth"}
    systems = {"panderm": panderm, "vemfl": {"method": "vemfl"}}
    base = {"image_size": 32, "n_folds": 2, "epochs": 1, "device": "cpu"}
    grid = Grid(base=base, seeds=[0], systems=systems, protocol="validation")
    failed = run_grid(grid, lesions, tmp_path, cache_dir, progress=False)
    assert [run.system for run in failed] == ["panderm"]
    assert "does not exist" in (failed[0].path / "error.txt").read_text()
    state = collect(grid, tmp_path).set_index("system")["state"]
    assert state.to_dict() == {"panderm": "failed", "vemfl": "finished"}


def test_the_grid_of_all_systems_has_the_methods_of_table_1():
    grid = load_grid("params/grids/finetuned.yaml")
    methods = {run.parameters.method for run in grid.runs(Path("runs"))}
    assert methods == {*BASELINES, "jif-mmfa", "ji-adf"} - {"panderm"}

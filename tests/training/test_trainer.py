import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch

from jiadf.data.cache import cache_images
from jiadf.data.schema import CLASSES
from jiadf.data.split import split_lesions
from jiadf.evaluation.metrics import summary
from jiadf.models.encoders import ImageEncoder
from jiadf.models.losses import JointIndividualLoss
from jiadf.training import loop
from jiadf.training.inputs import prepare_inputs, trained_encoder
from jiadf.training.loop import Trainer, TrainingError
from jiadf.training.run_folder import (
    CHECKPOINT,
    Run,
    RunError,
    join_tensors,
    load_checkpoint,
    split_tensors,
    with_prefix,
)
from jiadf.training.trainer import train
from tests.conftest import predict
from tests.models.test_network import DESIGNS, FIGURE_3


def test_a_run_folder_holds_all_it_promises(run, lesions):
    names = {path.name for path in run.path.iterdir()}
    assert names == {
        *("config.yaml", "encoder.json", "history.csv", "model.safetensors"),
        *("predictions.csv", "metrics.json", "environment.json", "digests.json"),
    }
    history = run.history
    assert history["epoch"].tolist() == [1, 2, 3]
    assert {"train_loss", "train_final", "train_joint", "val_loss", "val_macro_f1"} <= set(history)
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]
    predictions = run.predictions
    assert predictions.index.equals(lesions.index)
    assert predictions["split"].value_counts().to_dict() == {"train": 66, "val": 22, "test": 22}
    np.testing.assert_allclose(predictions[list(CLASSES)].sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(predictions.filter(like="weight_").sum(axis=1), 1, atol=1e-5)


def test_metrics_are_those_of_the_best_epochs_predictions(run):
    history, metrics = run.history, run.metrics
    assert metrics["best_epoch"] == history.loc[history["val_macro_f1"].idxmax(), "epoch"]
    for part in ("val", "test"):
        table = run.predictions.query("split == @part")
        truth = pd.Categorical(table["label"], CLASSES).codes
        expected = summary(truth, table[list(CLASSES)].to_numpy())
        assert metrics[part]["macro_f1"] == pytest.approx(expected["macro_f1"])
        assert metrics[part]["ece"] == pytest.approx(expected["ece"], abs=1e-5)
    assert metrics["val"]["macro_f1"] == pytest.approx(history["val_macro_f1"].max())


def test_test_lesions_change_nothing_but_their_own_scores(
    run, lesions, cache_dir, tiny_parameters, tmp_path
):
    parts = split_lesions(lesions["label"], test_fold=0)
    spoiled = lesions.copy()
    test = parts == "test"
    spoiled.loc[test, "label"] = spoiled.loc[test, "label"].to_numpy()[::-1]
    spoiled.loc[test, "age_approx"] = 5.0
    assert (
        split_lesions(spoiled["label"], test_fold=0) == parts
    ).mean() < 1  # labels deal the folds
    # Same parts by force: the trainer must never look at rows outside train and val.
    other = train_with_parts(spoiled, parts, tmp_path, cache_dir, tiny_parameters(test_fold=0))
    pd.testing.assert_frame_equal(other.history, run.history)


def train_with_parts(lesions, parts, folder, cache_dir, parameters):
    import jiadf.training.trainer as module

    original = module.split_lesions
    module.split_lesions = lambda *a, **k: parts
    try:
        return train(lesions, folder / "r", parameters, cache_dir, progress=False)
    finally:
        module.split_lesions = original


def test_the_same_seed_gives_the_same_run(run, lesions, cache_dir, tiny_parameters, tmp_path):
    again = train(lesions, tmp_path / "r", tiny_parameters(test_fold=0), cache_dir, progress=False)
    pd.testing.assert_frame_equal(again.history, run.history)
    pd.testing.assert_frame_equal(again.predictions, run.predictions)
    other = tiny_parameters(test_fold=0, seed=1)
    other = train(lesions, tmp_path / "s", other, cache_dir, progress=False)
    assert not np.allclose(other.history["train_loss"], run.history["train_loss"])


def test_a_finished_run_is_not_repeated(run, lesions, tiny_parameters, monkeypatch):
    monkeypatch.setattr(Trainer, "fit", None)
    assert train(lesions, run.path, tiny_parameters(test_fold=0), progress=False).finished
    with pytest.raises(RunError, match="other parameters"):
        train(lesions, run.path, tiny_parameters(test_fold=0, epochs=9), progress=False)
    with pytest.raises(RunError, match="other lesions"):
        train(lesions.iloc[:-1], run.path, tiny_parameters(test_fold=0), progress=False)


@pytest.mark.parametrize("regime", ["frozen", "finetune"])
def test_kill_9_and_resume_end_like_an_unbroken_run(
    regime, lesions, milk10k, small, cache_dir, tiny_parameters, tmp_path
):
    changes = small | {"regime": regime, "epochs": 12}
    whole = train(lesions, tmp_path / "a", tiny_parameters(**changes), cache_dir, progress=False)
    broken = Run(tmp_path / "b")
    command = [sys.executable, "-m", "jiadf", "train", "--quiet", "--data", str(milk10k)]
    command += ["--run", str(broken.path), "--cache", str(cache_dir)]
    for name, value in tiny_parameters(**changes).model_dump(exclude_none=True).items():
        command += ["-p", f"{name}={value}"]
    threads = str(torch.get_num_threads())  # sums depend on it
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": threads})
    deadline = time.monotonic() + 240
    while not (broken.path / "checkpoint.safetensors").exists():
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not broken.finished
    epochs_before = len(broken.history)
    assert 1 <= epochs_before <= changes["epochs"]
    resumed = train(lesions, broken.path, tiny_parameters(**changes), cache_dir, progress=False)
    assert len(resumed.history) == changes["epochs"]
    assert resumed.metrics["best_epoch"] == whole.metrics["best_epoch"]
    assert resumed.metrics["val"] == pytest.approx(whole.metrics["val"], abs=1e-4)


@pytest.fixture(scope="module")
def few(lesions):
    """Lesions for end-to-end runs of seconds: two batches of 16 and a rest an epoch."""
    return lesions.groupby("label").head(5)


@pytest.fixture(scope="module")
def finetune(tiny_parameters, small):
    """Make parameters of an end-to-end run of seconds, with changes."""

    def make(**changes):
        base = small | {"regime": "finetune", "epochs": 2, "batch_size": 16}
        return tiny_parameters(**(base | changes))

    return make


@pytest.fixture(scope="module")
def finetuned(few, cache_dir, finetune, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "finetune"
    return train(few, folder, finetune(epochs=4), cache_dir, progress=False)


def train_until(epoch, lesions, folder, parameters, cache_dir):
    """Train, and be interrupted when this epoch begins."""
    original = Trainer._train_pass

    def dies(self, number):
        if number == epoch:
            raise KeyboardInterrupt
        return original(self, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_train_pass", dies)
        with pytest.raises(KeyboardInterrupt):
            train(lesions, folder, parameters, cache_dir, progress=False)


def test_processes_that_load_images_change_no_figure(finetuned, few, cache_dir, finetune, tmp_path):
    parameters = finetune(epochs=4, num_workers=2)
    run = train(few, tmp_path / "r", parameters, cache_dir, progress=False)
    pd.testing.assert_frame_equal(run.history, finetuned.history)
    pd.testing.assert_frame_equal(run.predictions, finetuned.predictions)


def test_augmentation_is_drawn_anew_each_epoch(few, cache_dir, finetune, tmp_path, monkeypatch):
    from jiadf.data import batches

    drawn = []
    original = batches.augment_batch
    monkeypatch.setattr(batches, "augment_batch", lambda x: drawn.append(original(x)) or drawn[-1])
    train(few, tmp_path / "r", finetune(), cache_dir, progress=False)
    parts = split_lesions(few["label"])
    assert sum(map(len, drawn)) == 2 * 2 * (parts == "train").sum()  # streams, epochs; no others
    assert len({tuple(image.flatten().tolist()) for batch in drawn for image in batch}) == sum(
        map(len, drawn)
    )


@pytest.mark.parametrize("epoch", [3, 4])
def test_resuming_between_two_checkpoints_is_exact(
    epoch, finetuned, few, cache_dir, finetune, tmp_path
):
    """Killed in epoch 3, or 4: goes on from the checkpoint after epoch 2."""
    parameters = finetune(epochs=4, checkpoint_every=2)
    train_until(epoch, few, tmp_path / "r", parameters, cache_dir)
    broken = Run(tmp_path / "r")
    assert load_checkpoint(broken.path / CHECKPOINT)[1]["progress"]["epoch"] == 2
    assert len(broken.history) == epoch - 1
    resumed = train(few, tmp_path / "r", parameters, cache_dir, progress=False)
    pd.testing.assert_frame_equal(resumed.history, finetuned.history)
    pd.testing.assert_frame_equal(resumed.predictions, finetuned.predictions)
    expected = finetuned.weights()
    for name, weight in resumed.weights().items():
        assert torch.equal(weight, expected[name]), name


def die_after_a_checkpoint(monkeypatch):
    checkpoint = loop.save_checkpoint

    def dies(path, tensors, state):
        checkpoint(path, tensors, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_checkpoint", dies)


def test_a_checkpoint_holds_the_best_weights_when_they_are_not_the_last(
    run, lesions, cache_dir, tiny_parameters, tmp_path, monkeypatch
):
    scores = iter([0.5, 0.4, 0.3, 0.2])
    original = Trainer._validate
    monkeypatch.setattr(
        Trainer, "_validate", lambda self: original(self) | {"macro_f1": next(scores)}
    )
    seen = []
    save = loop.save_checkpoint

    def watched(path, tensors, state):
        seen.append({name: tensor.clone() for name, tensor in tensors.items()})
        save(path, tensors, state)

    monkeypatch.setattr(loop, "save_checkpoint", watched)
    made = train(lesions, tmp_path / "r", tiny_parameters(), cache_dir, progress=False)
    assert [any(name.startswith("best.") for name in tensors) for tensors in seen] == [
        False, True, True,
    ]  # fmt: skip
    name = "heads.joint.weight"
    assert torch.equal(seen[2][f"best.{name}"], made.weights()[name])
    assert not torch.equal(seen[2][f"network.{name}"], made.weights()[name])


def test_backbones_are_compiled_once_for_all_runs(few, cache_dir, finetune, tmp_path, monkeypatch):
    """Full training batches only: the rest of an epoch and validation have other shapes."""
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()
    original = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, **o: original(self, backend=counter, **o)
    )
    torch._dynamo.reset()
    for number, changes in enumerate([{}, {"fusion_paths": "skip"}, {"share_backbone": True}]):
        parameters = finetune(compile_backbone=True, epochs=1, **changes)
        train(few, tmp_path / str(number), parameters, cache_dir, progress=False)
    assert counter.frame_count == 1


def test_a_checkpoint_of_other_data_is_not_gone_on_with(
    lesions, cache_dir, tiny_parameters, tmp_path, monkeypatch
):
    die_after_a_checkpoint(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(lesions, tmp_path / "r", tiny_parameters(), cache_dir, progress=False)
    monkeypatch.undo()
    fewer = lesions.iloc[:-10]
    expected = train(fewer, tmp_path / "s", tiny_parameters(), cache_dir, progress=False)
    got = train(fewer, tmp_path / "r", tiny_parameters(), cache_dir, progress=False)
    pd.testing.assert_frame_equal(got.history, expected.history)


def test_finetune_trains_the_backbones(lesions, cache_dir, tiny_parameters, tmp_path):
    parameters = tiny_parameters(regime="finetune", epochs=1, share_backbone=True)
    small = lesions.groupby("label").head(3)
    run = train(small, tmp_path / "r", parameters, cache_dir, progress=False)
    weights = run.weights()
    stems = [name for name in weights if name.endswith("conv_stem.weight")]
    assert len(stems) == 1  # shared, and stored once
    from jiadf.models.encoders import ImageEncoder

    packaged = ImageEncoder().state_dict()["backbone.conv_stem.weight"]
    assert not torch.equal(weights[stems[0]], packaged)
    torch.testing.assert_close(weights[stems[0]], packaged, atol=0.05, rtol=0)


@pytest.mark.parametrize("variant", FIGURE_3)
def test_every_variant_trains(variant, lesions, cache_dir, tiny_parameters, tmp_path):
    parameters = tiny_parameters(epochs=1, **DESIGNS[variant])
    run = train(lesions, tmp_path / "r", parameters, cache_dir, progress=False)
    weights = run.predictions.filter(like="weight_")
    assert weights.shape[1] == (0 if parameters.decision == "joint" else 3)
    if parameters.decision == "average":
        np.testing.assert_allclose(weights, 1 / 3, atol=1e-6)


HELD_OUT = {"gate_detach": "decision", "gate_holdout": 0.2, "gate_calibration": True}


@pytest.mark.parametrize(
    "changes",
    [
        {"gate_input": "features"},
        HELD_OUT,
    ],
    ids=str,
)
def test_the_open_questions_train(changes, run, lesions, cache_dir, tiny_parameters, tmp_path):
    parameters = tiny_parameters(epochs=1, test_fold=0, **changes)
    other = train(lesions, tmp_path / "r", parameters, cache_dir, progress=False)
    assert set(other.history) == set(run.history)
    assert other.history["train_loss"].iloc[0] != run.history["train_loss"].iloc[0]
    weights = other.predictions.filter(like="weight_")
    assert list(weights) == ["weight_image", "weight_metadata", "weight_joint"]
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("modalities", ["C", "D", "M", "CD", "CM", "DM"])
def test_every_subset_of_modalities_trains(
    modalities, lesions, cache_dir, tiny_parameters, tmp_path
):
    parameters = tiny_parameters(epochs=1, modalities=modalities)
    run = train(lesions, tmp_path / "r", parameters, cache_dir, progress=False)
    assert np.isfinite(run.metrics["val"]["nll"])


def test_a_loss_that_is_not_finite_stops_the_run(
    lesions, cache_dir, tiny_parameters, tmp_path, monkeypatch
):

    original, calls = JointIndividualLoss.forward, []

    def forward(self, output, target):
        total, terms = original(self, output, target)
        calls.append(1)
        return total * (float("nan") if len(calls) == 5 else 1.0), terms

    monkeypatch.setattr(JointIndividualLoss, "forward", forward)
    with pytest.raises(
        TrainingError, match=r"became nan in epoch 2.*state after epoch 1.*learning_rate"
    ):
        train(lesions, tmp_path / "r", tiny_parameters(), cache_dir, progress=False)
    run = Run(tmp_path / "r")
    assert len(run.history) == 1
    assert load_checkpoint(run.path / CHECKPOINT)[1]["progress"]["epoch"] == 1


def test_lesions_without_labels_are_refused(lesions, tiny_parameters, tmp_path):
    with pytest.raises(ValueError, match="no labels"):
        train(lesions.drop(columns="label"), tmp_path / "r", tiny_parameters())
    assert not (tmp_path / "r").exists()


def test_split_and_join_tensors_are_inverse():
    state = {"state": {0: {"step": torch.tensor(3.0), "m": torch.ones(2)}}, "groups": [{"lr": 0.1}]}
    tensors = {}
    again = join_tensors(split_tensors(state, "o", tensors), tensors)
    assert again["groups"] == state["groups"]
    assert torch.equal(again["state"][0]["m"], torch.ones(2))
    assert list(again["state"]) == [0]


def test_the_moving_average_is_what_is_kept(few, cache_dir, finetune, tmp_path, monkeypatch):
    """Against a transcription: after each step, decay times itself plus the rest of the weights."""
    decay, expected = 0.7, {}
    step = torch.optim.AdamW.step
    trainers = []
    original = Trainer.__init__

    def remember(self, *arguments):
        original(self, *arguments)
        trainers.append(self)

    def watched(self, *arguments, **named):
        answer = step(self, *arguments, **named)
        for name, value in trainers[0].bare_network.named_parameters():
            new = value.detach().double()
            old = expected.get(name, new)  # the average starts at the weights of the first step
            expected[name] = decay * old + (1 - decay) * new
        return answer

    monkeypatch.setattr(Trainer, "__init__", remember)
    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    parameters = finetune(regime="frozen", epochs=1, ema_decay=decay)
    run = train(few, tmp_path / "r", parameters, cache_dir, progress=False)
    weights = run.weights()
    for name, value in expected.items():
        torch.testing.assert_close(weights[name].double(), value, atol=1e-6, rtol=1e-5)
    trained = dict(trainers[0].bare_network.named_parameters())
    assert any(not torch.allclose(weights[n], trained[n]) for n in expected)


def test_a_moving_average_resumes_exactly(few, cache_dir, finetune, tmp_path):
    parameters = finetune(epochs=4, ema_decay=0.9, share_backbone=True)
    whole = train(few, tmp_path / "a", parameters, cache_dir, progress=False)
    train_until(3, few, tmp_path / "b", parameters, cache_dir)
    resumed = train(few, tmp_path / "b", parameters, cache_dir, progress=False)
    pd.testing.assert_frame_equal(resumed.history, whole.history)
    pd.testing.assert_frame_equal(resumed.predictions, whole.predictions)
    for name, weight in resumed.weights().items():
        assert torch.equal(weight, whole.weights()[name]), name


@pytest.fixture(scope="module")
def two_cores(finetune):
    """Make parameters like those of params/finetune.yaml, small, with changes."""

    def make(**changes):
        small = {
            "frozen_stages": 3, "activation_views": 2, "mixed_precision": "bf16",
            "schedule": "one-cycle", "keep": "last", "val_fold": None, "test_fold": 0,
            "backbone_learning_rate": 5e-4, "ema_decay": 0.9, "epochs": 3,
        }  # fmt: skip
        return finetune(**(small | changes))

    return make


@pytest.fixture(scope="module")
def by_schedule(few, cache_dir, two_cores, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "schedule"
    parameters = two_cores(label_smoothing=0.1, modality_dropout=0.3)
    return train(few, folder, parameters, cache_dir, progress=False)


def test_a_run_by_schedule_needs_no_validation_and_keeps_its_last_epoch(by_schedule, few):
    history, metrics = by_schedule.history, by_schedule.metrics
    assert metrics["best_epoch"] == 3
    assert set(metrics) == {"best_epoch", "test"}
    assert not any(column.startswith("val_") for column in history)
    parts = by_schedule.predictions["split"]
    assert set(parts) == {"train", "test"}
    assert (parts == "train").mean() > 0.7
    assert history["learning_rate"].iloc[0] == pytest.approx(1e-3 / 25)
    table = by_schedule.predictions
    for branch in ("image", "metadata", "joint"):
        probabilities = table[[f"{branch}_{code}" for code in CLASSES]]
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    mixed = sum(
        table[[f"{branch}_{code}" for code in CLASSES]].to_numpy()
        * table[[f"weight_{branch}"]].to_numpy()
        for branch in ("image", "metadata", "joint")
    )
    np.testing.assert_allclose(mixed, table[list(CLASSES)], atol=1e-5)


def test_a_run_by_schedule_resumes_to_the_same_weights(by_schedule, few, cache_dir, tmp_path):
    train_until(3, few, tmp_path / "r", by_schedule.parameters, cache_dir)
    resumed = train(few, tmp_path / "r", by_schedule.parameters, cache_dir, progress=False)
    pd.testing.assert_frame_equal(resumed.history, by_schedule.history)
    for name, weight in by_schedule.weights().items():
        assert torch.equal(resumed.weights()[name], weight), name


def test_cached_activations_predict_what_pixels_do(by_schedule, few, cache_dir):
    """The run predicted from the files of the fixed stages; a reader's images come as pixels."""
    table = predict(by_schedule, few, cache_dir)
    kept = by_schedule.predictions[list(CLASSES)]
    assert np.abs(table[list(CLASSES)] - kept).to_numpy().max() < 0.02


def test_the_rates_of_backbones_metadata_and_heads_follow_the_schedule(
    few, cache_dir, two_cores, tmp_path, monkeypatch
):
    rates, sizes = [], set()
    step = torch.optim.AdamW.step

    def watched(self, *arguments, **named):
        rates.append([group["lr"] for group in self.param_groups])
        sizes.add(sum(weight.numel() for weight in self.param_groups[1]["params"]))
        return step(self, *arguments, **named)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    parameters = two_cores(epochs=2, warmup=0.5, metadata_learning_rate=4e-3)
    run = train(few, tmp_path / "r", parameters, cache_dir, progress=False)
    backbones, metadata, heads = np.array(rates).T
    np.testing.assert_allclose(backbones, heads / 2)
    np.testing.assert_allclose(metadata, heads * 4)
    top = heads.argmax()
    assert heads[top] == pytest.approx(1e-3, rel=0.2)
    assert 0 < top < len(heads) - 1
    assert (np.diff(heads[: top + 1]) > 0).all()
    assert (np.diff(heads[top:]) < 0).all()
    assert heads[-1] < 1e-6
    parts = (with_prefix(run.weights(), p) for p in ("metadata_encoder.", "heads.metadata."))
    assert sizes == {sum(weight.numel() for part in parts for weight in part.values())}


def test_features_of_encoders_that_a_run_trained(
    few, cache_dir, two_cores, tiny_parameters, small, tmp_path
):
    """`backbone_weights` may be runs, one an image type and fold, that left the scored fold out."""
    for name, letter in (("clinical", "C"), ("dermoscopic", "D")):
        parameters = two_cores(modalities=letter, epochs=1)
        train(few, tmp_path / name / "fold0", parameters, cache_dir, progress=False)
    given = small | {
        "backbone_weights": str(tmp_path / "{image_type}" / "fold{fold}"), "frozen_stages": 3,
        "mixed_precision": "bf16", "keep": "last", "schedule": "one-cycle", "val_fold": None,
        "test_fold": 0, "epochs": 1,
    }  # fmt: skip
    run = train(few, tmp_path / "r", tiny_parameters(**given), cache_dir, progress=False)
    again = prepare_inputs(few, run.encoder, run.parameters, cache_dir, progress=False)
    for name in ("clinical", "dermoscopic"):
        weights = trained_encoder(tmp_path / name / "fold0", name, run.parameters)
        encoder = ImageEncoder(small["backbone"], weights).eval()
        images = cache_images(few[f"{name}_path"], 32, cache_dir, progress=False)
        with torch.inference_mode():
            whole = encoder(
                encoder.normalise(torch.from_numpy(np.array(images.pixels)).permute(0, 3, 1, 2))
            )
            whole = whole.numpy()
        found = again.streams[name][:, 0]
        assert np.abs(found - whole).max() < 0.1 * np.abs(whole).max()  # bfloat16
        assert np.corrcoef(found.ravel(), whole.ravel())[0, 1] > 0.98
    leaky = tiny_parameters(**(given | {"test_fold": 1}))
    os.rename(tmp_path / "clinical" / "fold0", tmp_path / "clinical" / "fold1")
    with pytest.raises(ValueError, match="trained on lesions of fold 1, which the run is scored"):
        train(few, tmp_path / "leaky", leaky, cache_dir, progress=False)


@pytest.mark.parametrize("lesions_left", [1, 3])
def test_a_fold_without_lesions_is_named(lesions, tiny_parameters, tmp_path, lesions_left):
    chosen = tiny_parameters(n_folds=30, val_fold=5)
    with pytest.raises(ValueError, match=r"deals none of . lesions to val_fold=5; set n_folds"):
        train(lesions.iloc[:lesions_left], tmp_path / "r", chosen, progress=False)

"""Train one network: the paper's recipe (A.2) in the `frozen` and `finetune` regimes.

:func:`train` makes a run folder (:mod:`jiadf.training.run_folder`). It goes on where a killed run
stopped, and since every epoch is seeded by itself, ends with the weights an unbroken run would
have had. Accelerate carries devices, processes and precision: ``accelerate launch -m jiadf train
…`` uses several GPUs.
"""

import hashlib
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, WeightedRandomSampler
from tqdm import tqdm

from jiadf.config import Parameters, to_yaml
from jiadf.data.batches import Inputs, LesionDataset, complete, resident, whole_batch
from jiadf.data.image_cache import default_cache_dir
from jiadf.data.metadata import MetadataEncoder
from jiadf.data.schema import CLASSES
from jiadf.data.split import split_lesions
from jiadf.evaluation.metrics import summary
from jiadf.files import code_fingerprint
from jiadf.models.depthwise import use_fast_gradients
from jiadf.models.losses import JointIndividualLoss, branch_lambdas
from jiadf.training.checkpoint import (
    clones,
    join_tensors,
    load_checkpoint,
    save_checkpoint,
    split_tensors,
    with_prefix,
)
from jiadf.training.inputs import Shared, images_on_device, prepare_inputs, table_fingerprint
from jiadf.training.network import (
    build_network,
    compile_backbones,
    fit_standardisation,
    load_weights,
)
from jiadf.training.predict import Prediction, make_accelerator, predict_batches, prediction_table
from jiadf.training.provenance import environment
from jiadf.training.run_folder import CHECKPOINT, Run, RunError


class TrainingError(RuntimeError):
    """Training cannot go on; the message says when it happened and what to try."""


def train(
    lesions: pd.DataFrame,
    run_dir: str | Path | None,
    parameters: Parameters,
    cache_dir: str | Path | None = None,
    *,
    progress: bool = True,
    shared: Shared | None = None,
    wait: bool = True,
) -> Run:
    """Train on ``lesions`` and fill the run folder, or go on with it, or find it finished.

    Parameters
    ----------
    lesions
        A labelled table from :func:`jiadf.data.read.read_lesions`.
    run_dir
        The run folder; made if need be. None: one in the cache, of these
        parameters and data and this version of the code.
    parameters
        Every knob.
    cache_dir
        Where image and feature caches lie.
    progress
        Show progress bars.
    shared
        A dict that keeps what was read, for runs of one process over the same lesions.
    wait
        Wait for another process that trains the same run now, and find it finished.

    Raises
    ------
    jiadf.training.run_folder.RunError
        If the folder holds a run with other parameters; as `BusyError` if another process trains
        it and this one is not to ``wait``.
    TrainingError
        If the loss stops being finite.
    ValueError
        If the table has no labels.
    """
    if "label" not in lesions:
        raise ValueError("these lesions have no labels; train on the training part of MILK10k.")
    run = Run(Path(run_dir) if run_dir else _cached_run(lesions, parameters, cache_dir))
    with run.trained_here(wait):
        return _train(run, lesions, parameters, cache_dir, progress, shared)


def _train(
    run: Run,
    lesions: pd.DataFrame,
    parameters: Parameters,
    cache_dir: str | Path | None,
    progress: bool,
    shared: Shared | None,
) -> Run:
    run.claim(parameters)
    if run.finished:
        if run.environment["data"]["table"] != table_fingerprint(lesions):
            raise RunError(
                f"{run.path}: was trained on other lesions than these. Give another --run, or "
                "delete the folder to train anew."
            )
        return run
    p = parameters
    parts = split_lesions(lesions["label"], p.n_folds, p.val_fold, p.test_fold, p.split_seed)
    if not (parts == "train").any():
        raise ValueError(
            f"n_folds={p.n_folds} with val_fold={p.val_fold} and test_fold={p.test_fold} leaves no "
            "lesion to train on; set n_folds to 3 or more."
        )
    for name, fold in {"val": p.val_fold, "test": p.test_fold}.items():
        if fold is not None and not (parts == name).any():
            raise ValueError(
                f"n_folds={p.n_folds} deals none of {len(lesions)} lesions to {name}_fold={fold}; "
                "set n_folds lower, or the fold to another."
            )
    encoder = MetadataEncoder.fit(lesions[parts == "train"], p.use_monet)
    run.write_text("encoder.json", encoder.to_json())
    views = p.feature_views if p.augment and p.regime == "frozen" else 1
    inputs = prepare_inputs(
        lesions, encoder, p, cache_dir, views=views, activations=bool(p.activation_views),
        progress=progress, shared=shared,
    )  # fmt: skip
    inputs.keys["table"] = table_fingerprint(lesions)
    trainer = Trainer(run, inputs, parts.to_numpy(), p, shared)
    trainer.fit(progress)
    predicted = trainer.predict(np.arange(len(lesions)))
    if trainer.accelerator.is_main_process:
        table = prediction_table(lesions, predicted, branches=True)
        _write_results(run, trainer, lesions, parts, table)
    trainer.accelerator.wait_for_everyone()
    return run


def training_code() -> str:
    """Digest the code that a run depends on: runs in the cache are of one version of it."""
    return code_fingerprint("training", "models", "data")


def _cached_run(
    lesions: pd.DataFrame, parameters: Parameters, cache_dir: str | Path | None
) -> Path:
    parts = [table_fingerprint(lesions), to_yaml(parameters), training_code()]
    digest = hashlib.blake2b("".join(parts).encode(), digest_size=8).hexdigest()
    return Path(cache_dir or default_cache_dir()) / "runs" / digest


def balanced_sampler(labels: np.ndarray) -> WeightedRandomSampler:
    """Draw as many samples as there are, each class that occurs equally often on average.

    Draws are torch's own, so that an epoch's seed (:meth:`Trainer._train_pass`) decides them.
    """
    counts = np.bincount(labels)
    return WeightedRandomSampler(1.0 / counts[labels], len(labels))


def parameter_groups(network: torch.nn.Module, parameters: Parameters) -> list[dict[str, Any]]:
    """Return AdamW's groups: what is trained of the backbones, if anything, and everything else."""
    groups: dict[float, list[torch.nn.Parameter]] = {}
    for name, weight in network.named_parameters():
        of_backbone = name.startswith("image_encoders.") and parameters.backbone_learning_rate
        rate = of_backbone or parameters.learning_rate
        if weight.requires_grad:
            groups.setdefault(rate, []).append(weight)
    return [{"params": weights, "lr": rate} for rate, weights in groups.items()]


def make_scheduler(
    optimizer: torch.optim.Optimizer, parameters: Parameters, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """Make the schedule of a run with this many steps an epoch.

    ``one-cycle`` is that of Smith and Topin (*Super-convergence*, 2018) without its cycle of
    momentum: a cosine's rise from a 25th of the highest rate, then its fall to almost zero.
    """
    p = parameters
    if p.schedule == "plateau":
        return torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, mode="min", factor=p.scheduler_factor, patience=p.scheduler_patience
        )
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=p.epochs * steps,
        pct_start=p.warmup,
        cycle_momentum=False,
    )


def mixed_up(
    batch: dict[str, torch.Tensor], alpha: float
) -> tuple[dict[str, torch.Tensor], float, torch.Tensor | None]:
    """Mix each lesion of a batch with another one (Zhang et al., *mixup*, ICLR 2018).

    Returns
    -------
    batch
        With ``share`` of each lesion's own images and metadata and the rest of its partner's.
    share
        Drawn from a beta distribution with both parameters ``alpha``.
    partners
        Each lesion's partner in the batch, (B,); None where ``alpha`` is 0.
    """
    if not alpha:
        return batch, 1.0, None
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    partners = torch.randperm(len(batch["target"])).to(batch["target"].device)
    mixed = dict(batch)
    for name in ("clinical", "dermoscopic", "metadata"):
        if name in batch:
            values = batch[name].float()
            values = torch.lerp(values[partners], values, share)
            mixed[name] = values.round().to(torch.uint8) if batch[name].dtype == torch.uint8 else (
                values.to(batch[name].dtype)
            )  # fmt: skip
    return mixed, share, partners


@dataclass
class Progress:
    """What a checkpoint remembers besides tensors."""

    epoch: int = 0
    best_epoch: int = 0
    best_score: float = -1.0
    seconds: float = 0.0


class Trainer:
    """The training loop of one run; use :func:`train`.

    Parameters
    ----------
    run
        Run folder with its configuration written.
    inputs
        Arrays of all lesions.
    parts
        ``"train"``, ``"val"`` or ``"test"`` for each lesion.
    parameters
        The run's parameters.
    shared
        A dict that keeps the images on the device for the next run, if they lie there.
    """

    def __init__(
        self,
        run: Run,
        inputs: Inputs,
        parts: np.ndarray,
        parameters: Parameters,
        shared: Shared | None = None,
    ) -> None:
        self.run, self.inputs, self.parameters = run, inputs, parameters
        p = parameters
        self.accelerator = make_accelerator(p)
        on_device = images_on_device(p, inputs, self.accelerator.device)
        self.arrays = resident(inputs, self.accelerator.device, shared) if on_device else None
        torch.manual_seed(p.seed)
        network = build_network(p, inputs)
        if p.regime == "finetune":
            network.to(memory_format=torch.channels_last)
            if self.accelerator.device.type == "cpu":
                use_fast_gradients(network)
            if p.compile_backbone:
                compile_backbones(network)
        rows = {part: np.flatnonzero(parts == part) for part in ("train", "val", "test")}
        fit_standardisation(network, inputs, torch.from_numpy(rows["train"]))
        lambdas = branch_lambdas(
            network.branch_names, p.lambda_joint, p.lambda_image, p.lambda_metadata
        )
        labels = inputs.target[rows["train"]]
        criterion = JointIndividualLoss(
            lambdas, p.class_weighting, labels, label_smoothing=p.label_smoothing
        )
        self.criterion = criterion.to(self.accelerator.device)
        optimizer = torch.optim.AdamW(
            parameter_groups(network, p), weight_decay=p.weight_decay, fused=True
        )
        self.network, self.optimizer, self.train_loader = self.accelerator.prepare(
            network, optimizer, self._loader(rows["train"], training=True)
        )
        self.scheduler = make_scheduler(self.optimizer, p, len(self.train_loader))
        self.average = None
        if p.ema_decay:
            averaging = get_ema_multi_avg_fn(p.ema_decay)
            self.average = AveragedModel(
                self.bare_network, multi_avg_fn=averaging, use_buffers=True
            )
        self.val_rows = rows["val"]
        # Prepared once: Accelerate keeps every loader it prepares, and the loader its workers.
        self.val_loader = self._eval_loader(self.val_rows) if len(self.val_rows) else None
        self.progress = Progress()
        self.history: list[dict[str, float]] = []
        self.best: dict[str, torch.Tensor] = {}  # weights of the best epoch so far

    def _loader(self, rows: np.ndarray, training: bool = False) -> DataLoader:
        p, on_device = self.parameters, self.arrays is not None
        workers = 0 if on_device else p.num_workers
        sampler = None
        if training and p.sampling == "balanced":
            sampler = balanced_sampler(self.inputs.target[rows])
        return DataLoader(
            LesionDataset(self.inputs, rows, training and p.augment, index_only=on_device),
            p.batch_size,
            shuffle=training and sampler is None,
            sampler=sampler,
            collate_fn=whole_batch,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self.accelerator.device.type == "cuda",
        )

    def _eval_loader(self, rows: np.ndarray) -> DataLoader:
        return self.accelerator.prepare(self._loader(rows))

    @property
    def bare_network(self) -> torch.nn.Module:
        """The network without what Accelerate wraps around it."""
        return self.accelerator.unwrap_model(self.network)

    @property
    def kept_network(self) -> torch.nn.Module:
        """The network that is validated and kept: the trained one, or its moving average."""
        return self.bare_network if self.average is None else self.average.module

    def fit(self, progress: bool = True) -> None:
        """Train to the last epoch, then load the weights that are kept."""
        self._resume()
        epochs = range(self.progress.epoch + 1, self.parameters.epochs + 1)
        shown = progress and self.accelerator.is_main_process
        with tqdm(
            total=self.parameters.epochs, initial=self.progress.epoch, desc="training",
            unit="epoch", disable=not shown,
        ) as bar:  # fmt: skip
            for epoch in epochs:
                row = self._epoch(epoch)
                told = ("train_loss", "val_loss", "val_macro_f1")
                bar.set_postfix({name: f"{row[name]:.3f}" for name in told if name in row})
                bar.update()
        if self.accelerator.is_main_process:
            self.run.write_weights(self.best)
        self.accelerator.wait_for_everyone()
        load_weights(self.kept_network, self.run.weights(), str(self.run.path))

    def _epoch(self, epoch: int) -> dict[str, float]:
        start = time.perf_counter()
        row = {"epoch": epoch, "learning_rate": self.optimizer.param_groups[-1]["lr"]}
        begin = getattr(self.bare_network, "begin_epoch", None)
        last_stage = begin is None or begin(epoch, self.parameters.epochs)
        row |= {f"train_{name}": value for name, value in self._train_pass(epoch).items()}
        if self.val_loader is not None:
            row |= {f"val_{name}": value for name, value in self._validate().items()}
        if last_stage and self.parameters.schedule == "plateau":
            self.scheduler.step(row["val_loss"])
        self.progress.epoch = epoch
        self.progress.seconds += time.perf_counter() - start
        score = row.get("val_macro_f1", 0.0)
        better = last_stage and (self.parameters.keep == "last" or score > self.progress.best_score)
        if better:
            self.progress.best_score, self.progress.best_epoch = score, epoch
        self.history.append(row)
        if self.accelerator.is_main_process:
            if better:
                self.best = clones(self.kept_network.state_dict())
            self.run.write_table("history.csv", pd.DataFrame(self.history))
            if epoch % self.parameters.checkpoint_every == 0:
                self._checkpoint()
        self.accelerator.wait_for_everyone()
        return row

    def _train_pass(self, epoch: int) -> dict[str, float]:
        self.network.train()
        # One seed an epoch and process: a resumed run draws what an unbroken one would have drawn.
        seeds = [self.parameters.seed, epoch, self.accelerator.process_index]
        torch.manual_seed(int(np.random.SeedSequence(seeds).generate_state(1)[0]))
        self.train_loader.set_epoch(epoch)
        sums: dict[str, torch.Tensor] = {}
        steps = 0
        for batch in self.train_loader:
            batch = complete(batch, self.arrays, self.parameters.augment)
            batch, share, partners = mixed_up(batch, self.parameters.mixup)
            # Only full batches are compiled for: the rest of an epoch has another shape.
            full = len(batch["index"]) == self.parameters.batch_size
            with self.accelerator.autocast(), nullcontext() if full else self._uncompiled():
                output = self.network(batch)
            loss, terms = self.criterion(output, batch["target"])
            if partners is not None:
                other, _ = self.criterion(output, batch["target"][partners])
                loss = torch.lerp(other, loss, share)
            self.optimizer.zero_grad(set_to_none=True)
            self.accelerator.backward(loss)
            self.optimizer.step()
            if self.parameters.schedule == "one-cycle":
                self.scheduler.step()
            if self.average is not None:
                self.average.update_parameters(self.bare_network)
            steps += 1
            for name, value in {"loss": loss, **terms}.items():
                sums[name] = sums.get(name, 0.0) + value.detach()
        means = {name: float(value) / steps for name, value in sums.items()}
        if not np.isfinite(means["loss"]):
            saved = (epoch - 1) // self.parameters.checkpoint_every
            saved *= self.parameters.checkpoint_every
            raise TrainingError(
                f"the loss became {means['loss']} in epoch {epoch}. {self.run.path} still holds "
                f"the state after epoch {saved}. Try a smaller learning_rate"
                + ("" if self.parameters.mixed_precision == "no" else " or mixed_precision=no")
                + " in a new run folder."
            )
        return means

    def _validate(self) -> dict[str, float]:
        predicted = self._predict(self.val_loader)
        truth = self.inputs.target[self.val_rows]
        scores = summary(truth, np.exp(predicted.log_posterior).astype(np.float64))
        chosen = ("nll", "macro_f1", "balanced_accuracy", "top1_accuracy", "macro_auc", "ece")
        values = {name: scores[name] for name in chosen}
        if predicted.weights is not None:
            means = zip(predicted.logits, predicted.weights.mean(0), strict=True)
            values |= {f"weight_{name}": float(mean) for name, mean in means}
        return {"loss": values.pop("nll"), **values}

    def predict(self, rows: np.ndarray) -> Prediction:
        """Predict some lesions."""
        return self._predict(self._eval_loader(rows))

    def _uncompiled(self) -> AbstractContextManager:
        if self.parameters.compile_backbone:
            return torch.compiler.set_stance("force_eager")
        return nullcontext()

    def _predict(self, loader: DataLoader) -> Prediction:
        network = self.network if self.average is None else self.average.module
        with self._uncompiled():
            return predict_batches(network, loader, self.accelerator, self.arrays)

    def _checkpoint(self) -> None:
        state, tensors = split_tensors(self.optimizer.state_dict(), "optimizer")
        tensors |= {f"network.{k}": v for k, v in self.bare_network.state_dict().items()}
        if self.average is not None:
            tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        if self.progress.best_epoch != self.progress.epoch:  # else they are the kept network's
            tensors |= {f"best.{k}": v for k, v in self.best.items()}
        saved = {
            "made_by": self._made_by(),
            "optimizer": state,
            "scheduler": self.scheduler.state_dict(),
            "progress": vars(self.progress),
            "history": self.history,
        }
        save_checkpoint(self.run.path / CHECKPOINT, tensors, saved)

    def _made_by(self) -> dict[str, Any]:
        return {"parameters": self.parameters.model_dump(), "data": dict(self.inputs.keys)}

    def _resume(self) -> None:
        loaded = load_checkpoint(self.run.path / CHECKPOINT)
        if loaded is None or loaded[1]["made_by"] != self._made_by():
            return
        tensors, saved = loaded
        weights = with_prefix(tensors, "network.")
        load_weights(self.bare_network, weights, str(self.run.path / CHECKPOINT))
        if self.average is not None:
            self.average.load_state_dict(with_prefix(tensors, "average."))
        self.best = with_prefix(tensors, "best.") or clones(self.kept_network.state_dict())
        self.optimizer.load_state_dict(join_tensors(saved["optimizer"], tensors, "optimizer"))
        self._lay_out_optimizer()
        self.scheduler.load_state_dict(saved["scheduler"])
        self.progress = Progress(**saved["progress"])
        self.history = saved["history"]

    def _lay_out_optimizer(self) -> None:
        """Give the optimiser's tensors the memory format of their weights, which fused steps need.

        A checkpoint is contiguous; weights of convolutions may be channels_last.
        """
        for weight, state in self.optimizer.state.items():
            for name, value in state.items():
                if value.shape == weight.shape:
                    state[name] = torch.empty_like(weight).copy_(value)


def _write_results(
    run: Run, trainer: Trainer, lesions: pd.DataFrame, parts: pd.Series, table: pd.DataFrame
) -> None:
    metrics: dict[str, Any] = {"best_epoch": trainer.progress.best_epoch}
    for part in ("val", "test"):
        rows = np.flatnonzero(parts == part)
        if len(rows):
            probabilities = table[list(CLASSES)].to_numpy()[rows]
            metrics[part] = summary(trainer.inputs.target[rows], probabilities)
            metrics[part]["lesions"] = len(rows)
    table.insert(0, "split", parts)
    table.insert(1, "label", lesions["label"])
    run.write_table("predictions.csv", table)
    device = str(trainer.accelerator.device)
    precision = trainer.accelerator.mixed_precision
    described = environment(device, precision, trainer.inputs.keys, trainer.progress.seconds)
    run.write_json("environment.json", described)
    run.finish(metrics)

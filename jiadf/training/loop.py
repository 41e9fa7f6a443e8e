"""The training loop of one run, with its checkpoints: what `jiadf.training.trainer` runs."""

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm

from jiadf.config import RETIRED, Parameters
from jiadf.data.batches import Inputs, LesionDataset, augmented, whole_batch
from jiadf.evaluation.metrics import summary
from jiadf.models.depthwise import use_fast_gradients
from jiadf.models.losses import JointIndividualLoss, branch_lambdas
from jiadf.training.inputs import resolve_device, resolve_precision
from jiadf.training.network import build_network, fit_statistics, load_weights
from jiadf.training.predict import Prediction, predict_inputs
from jiadf.training.run_folder import (
    CHECKPOINT,
    Run,
    clones,
    join_tensors,
    load_checkpoint,
    save_checkpoint,
    split_tensors,
    with_prefix,
)


class TrainingError(RuntimeError):
    """Training cannot go on; the message says when it happened and what to try."""


def make_accelerator(parameters: Parameters) -> Accelerator:
    """Make the Accelerator that the parameters ask for, in whatever launched this process."""
    if AcceleratorState._shared_state:  # an earlier run of this process may differ in precision
        AcceleratorState._reset_state(reset_partial_state=True)
    device = resolve_device(parameters.device)
    return Accelerator(
        cpu=device == "cpu",
        mixed_precision=resolve_precision(parameters),
        dataloader_config=DataLoaderConfiguration(
            use_seedable_sampler=True, data_seed=parameters.seed, non_blocking=device == "cuda"
        ),
        # Methods with stages leave some parameters idle in each.
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=parameters.method != "ji-adf")
        ],
    )


def parameter_groups(network: torch.nn.Module, parameters: Parameters) -> list[dict[str, Any]]:
    """Return AdamW's groups: what is trained of the backbones, the metadata's, everything else."""
    rates = {
        "image_encoders.": parameters.backbone_learning_rate,
        "metadata_encoder.": parameters.metadata_learning_rate,
        "heads.metadata.": parameters.metadata_learning_rate,
    }
    groups: dict[float, list[torch.nn.Parameter]] = {}
    for name, weight in network.named_parameters():
        own = next((rate for part, rate in rates.items() if name.startswith(part)), None)
        if weight.requires_grad:
            groups.setdefault(own or parameters.learning_rate, []).append(weight)
    return [{"params": weights, "lr": rate} for rate, weights in groups.items()]


def make_scheduler(
    optimizer: torch.optim.Optimizer, parameters: Parameters, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """Make the schedule; ``one-cycle`` after Smith and Topin (*Super-convergence*, 2018)."""
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


@dataclass
class Progress:
    """What a checkpoint remembers besides tensors."""

    epoch: int = 0
    best_epoch: int = 0
    best_score: float = -1.0
    seconds: float = 0.0


class Trainer:
    """The training loop of one run; ``parts`` says train, val or test of each lesion."""

    def __init__(self, run: Run, inputs: Inputs, parts: np.ndarray, parameters: Parameters) -> None:
        self.run, self.inputs, self.parameters = run, inputs, parameters
        p = parameters
        self.accelerator = make_accelerator(p)
        device = self.accelerator.device
        train_rows, self.val_rows = (np.flatnonzero(parts == part) for part in ("train", "val"))
        torch.manual_seed(p.seed)
        network = build_network(p, inputs)
        if p.regime == "finetune":
            network.to(memory_format=torch.channels_last)
            if device.type == "cpu":
                use_fast_gradients(network)
            for module in network.image_encoders.values() if p.compile_backbone else ():
                # Backbones of one name share what was compiled first, from run to run too.
                module.encoder.backbone.compile(dynamic=False)
        fit_statistics(network, inputs, torch.from_numpy(train_rows))
        weights = (p.lambda_joint, p.lambda_image, p.lambda_metadata)
        self.criterion = JointIndividualLoss(
            branch_lambdas(network.branch_names, *weights),
            p.class_weighting,
            inputs.target[train_rows],
            label_smoothing=p.label_smoothing,
        ).to(device)
        optimizer = torch.optim.AdamW(
            parameter_groups(network, p), weight_decay=p.weight_decay, fused=True
        )
        loader = DataLoader(
            LesionDataset(inputs, train_rows, random_view=p.augment),
            p.batch_size,
            shuffle=True,
            collate_fn=whole_batch,
            num_workers=p.num_workers,
            pin_memory=device.type == "cuda",
        )
        prepared = self.accelerator.prepare(network, optimizer, loader)
        self.network, self.optimizer, self.train_loader = prepared
        self.scheduler = make_scheduler(self.optimizer, p, len(self.train_loader))
        self.average = None
        if p.ema_decay:
            averaging = get_ema_multi_avg_fn(p.ema_decay)
            self.average = AveragedModel(
                self.bare_network, multi_avg_fn=averaging, use_buffers=True
            )
        self.progress = Progress()
        self.history: list[dict[str, float]] = []
        self.best: dict[str, torch.Tensor] = {}  # weights of the best epoch so far

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
        done, last = self.progress.epoch, self.parameters.epochs
        shown = progress and self.accelerator.is_main_process
        epochs = range(done + 1, last + 1)
        bar = tqdm(epochs, "training", last, initial=done, unit="epoch", disable=not shown)
        for epoch in bar:
            row = self._epoch(epoch)
            told = ("train_loss", "val_loss", "val_macro_f1")
            bar.set_postfix({name: f"{row[name]:.3f}" for name in told if name in row})
        if self.accelerator.is_main_process:
            self.run.write_weights(self.best)
        self.accelerator.wait_for_everyone()
        load_weights(self.kept_network, self.run.weights(), str(self.run.path))

    def _epoch(self, epoch: int) -> dict[str, float]:
        start, p = time.perf_counter(), self.parameters
        row = {"epoch": epoch, "learning_rate": self.optimizer.param_groups[-1]["lr"]}
        last_stage = self.bare_network.begin_epoch(epoch, p.epochs)
        row |= {f"train_{name}": value for name, value in self._train_pass(epoch).items()}
        if len(self.val_rows):
            row |= {f"val_{name}": value for name, value in self._validate().items()}
        if last_stage and p.schedule == "plateau":
            self.scheduler.step(row["val_loss"])
        self.progress.epoch = epoch
        self.progress.seconds += time.perf_counter() - start
        score = row.get("val_macro_f1", 0.0)
        better = last_stage and (p.keep == "last" or score > self.progress.best_score)
        if better:
            self.progress.best_score, self.progress.best_epoch = score, epoch
        self.history.append(row)
        if self.accelerator.is_main_process:
            if better:
                self.best = clones(self.kept_network.state_dict())
            self.run.write_table("history.csv", pd.DataFrame(self.history))
            if epoch % p.checkpoint_every == 0:
                self._checkpoint()
        self.accelerator.wait_for_everyone()
        return row

    def _train_pass(self, epoch: int) -> dict[str, float]:
        p = self.parameters
        self.network.train()
        # One seed an epoch and process: a resumed run draws what an unbroken one would have drawn.
        seeds = [p.seed, epoch, self.accelerator.process_index]
        torch.manual_seed(int(np.random.SeedSequence(seeds).generate_state(1)[0]))
        self.train_loader.set_epoch(epoch)
        sums: dict[str, torch.Tensor] = {}
        for batch in self.train_loader:
            batch = augmented(batch) if p.augment else batch
            # Only full batches are compiled for: the rest of an epoch has another shape.
            full = len(batch["index"]) == p.batch_size
            with self.accelerator.autocast(), nullcontext() if full else self._uncompiled():
                output = self.network(batch)
            loss, terms = self.criterion(output, batch["target"])
            self.optimizer.zero_grad(set_to_none=True)
            self.accelerator.backward(loss)
            self.optimizer.step()
            if p.schedule == "one-cycle":
                self.scheduler.step()
            if self.average is not None:
                self.average.update_parameters(self.bare_network)
            for name, value in {"loss": loss, **terms}.items():
                sums[name] = sums.get(name, 0.0) + value.detach()
        means = {name: float(value) / len(self.train_loader) for name, value in sums.items()}
        if not np.isfinite(means["loss"]):
            saved = (epoch - 1) // p.checkpoint_every * p.checkpoint_every
            raise TrainingError(
                f"the loss became {means['loss']} in epoch {epoch}. {self.run.path} still holds "
                f"the state after epoch {saved}. Try a smaller learning_rate"
                + ("" if p.mixed_precision == "no" else " or mixed_precision=no")
                + " in a new run folder."
            )
        return means

    def _validate(self) -> dict[str, float]:
        predicted = self.predict(self.val_rows)
        scores = summary(self.inputs.target[self.val_rows], predicted.posterior)
        chosen = ("macro_f1", "balanced_accuracy", "top1_accuracy", "macro_auc", "ece")
        values = {"loss": scores["nll"]} | {name: scores[name] for name in chosen}
        if predicted.weights is not None:
            means = zip(predicted.logits, predicted.weights.mean(0), strict=True)
            values |= {f"weight_{name}": float(mean) for name, mean in means}
        return values

    def predict(self, rows: np.ndarray | None = None) -> Prediction:
        """Predict some lesions, or all, by the network that is kept; every process does all."""
        with self._uncompiled():
            return predict_inputs(self.kept_network, self.inputs, self.parameters, rows)

    def _uncompiled(self) -> AbstractContextManager:
        if self.parameters.compile_backbone:
            return torch.compiler.set_stance("force_eager")
        return nullcontext()

    def _checkpoint(self) -> None:
        tensors = {f"network.{k}": v for k, v in self.bare_network.state_dict().items()}
        if self.average is not None:
            tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        if self.progress.best_epoch != self.progress.epoch:  # else they are the kept network's
            tensors |= {f"best.{k}": v for k, v in self.best.items()}
        state = {
            "made_by": self._made_by(),
            "optimizer": split_tensors(self.optimizer.state_dict(), "optimizer", tensors),
            "scheduler": self.scheduler.state_dict(),
            "progress": vars(self.progress),
            "history": self.history,
        }
        save_checkpoint(self.run.path / CHECKPOINT, tensors, state)

    def _made_by(self) -> dict[str, Any]:
        return {
            "parameters": RETIRED | self.parameters.model_dump(),  # as earlier versions wrote them
            "data": dict(self.inputs.keys),
        }

    def _resume(self) -> None:
        file = self.run.path / CHECKPOINT
        loaded = load_checkpoint(file)
        if loaded is None or loaded[1]["made_by"] != self._made_by():
            return
        tensors, saved = loaded
        load_weights(self.bare_network, with_prefix(tensors, "network."), str(file))
        if self.average is not None:
            load_weights(self.average, with_prefix(tensors, "average."), str(file))
        self.best = with_prefix(tensors, "best.") or clones(self.kept_network.state_dict())
        self.optimizer.load_state_dict(join_tensors(saved["optimizer"], tensors))
        # A checkpoint is contiguous; weights of convolutions may be channels_last, and fused steps
        # need their optimiser's state to be so too.
        for weight, state in self.optimizer.state.items():
            for name, value in state.items():
                if value.shape == weight.shape:
                    state[name] = torch.empty_like(weight).copy_(value)
        self.scheduler.load_state_dict(saved["scheduler"])
        self.progress = Progress(**saved["progress"])
        self.history = saved["history"]

"""How much of the bare network's speed end-to-end training keeps.

    python benchmarks/finetune.py [--params FILE] [-p NAME=VALUE] [--grid FILE] [--json FILE]

Each round times in turn, over as many full batches:

- the bare network (forward, loss, backward, step of the optimiser, over batches that are normalised
  float tensors on the device already), and on a CPU in bfloat16 the same with PyTorch's own
  gradients of depthwise convolutions in place of :mod:`jiadf.models.depthwise`;
- the training pass of ``jiadf train`` with images, and, where stages are fixed, with their cached
  output: loader, transfer, augmentation, normalisation and the sums of
  the losses are in it;
- validation.

Network, precision, memory format and optimiser are the same, and weights are random, so that
nothing is fetched; ratios are taken within a round, and the median over rounds is what to quote. A
first round warms up and is not counted; it also compiles where that is asked for. Parameters are
those of ``params/finetune.yaml`` without a GPU, of ``params/paper.yaml`` with one.

With ``--grid`` the rates tell what a grid would cost at this size, network and device: training
images and validation images (their rate is measured too), not start-up, compilation and files.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from timm.layers import Conv2dSame

from jiadf.config import Parameters, load_parameters
from jiadf.data.batches import Inputs
from jiadf.data.metadata import MetadataEncoder
from jiadf.data.schema import CLASSES
from jiadf.memory import keep_freed_memory
from jiadf.models.depthwise import FastDepthwiseConv2d
from jiadf.training.features import StoredViews, apply_part
from jiadf.training.grid import load_grid
from jiadf.training.inputs import image_streams
from jiadf.training.loop import Trainer
from jiadf.training.network import PixelEncoder
from jiadf.training.provenance import git_commit
from jiadf.training.run_folder import Run

PARAMS = Path(__file__).resolve().parents[1] / "params"
READY = 4  # batches that the bare loop turns over


def made_up_inputs(lesions: int, size: int) -> Inputs:
    """Return arrays of noise: what a picture shows does not change how long it takes."""
    rng = np.random.default_rng(0)
    shape = (lesions, size, size, 3)
    streams = {n: rng.integers(0, 256, shape, np.uint8) for n in ("clinical", "dermoscopic")}
    width = len(MetadataEncoder(True, {}, {}).columns)
    metadata = rng.normal(size=(lesions, width)).astype(np.float32)
    target = np.arange(lesions) % len(CLASSES)
    return Inputs(streams, metadata, target, {f"{name}_images": name for name in streams})


def made_up_activations(inputs: Inputs, trainer: Trainer) -> Inputs:
    """Return inputs whose images are views of the fixed stages' output: zeros of its shape."""
    streams = {}
    for name, module in trainer.bare_network.image_encoders.items():
        with torch.inference_mode():
            pixels = torch.tensor(inputs.streams[name][:1]).permute(0, 3, 1, 2)
            one = apply_part(module.encoder, "FirstStages", pixels)
        view = np.zeros((len(inputs), *one.shape[1:]), np.float16)
        streams[name] = StoredViews([view, view], ["zeros", "zeros"])
    return replace(inputs, streams=streams)


def seconds(job: Callable[[], object], device: torch.device) -> float:
    """Time a job to the end of what it started on the device."""
    start = time.perf_counter()
    job()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def bare_loop(trainer: Trainer, steps: int, fast_gradients: bool = True) -> Callable[[], None]:
    """Return a loop of plain PyTorch over the trainer's network, without its `PixelEncoder`."""
    device, size = trainer.accelerator.device, trainer.parameters.batch_size
    network = trainer.accelerator.unwrap_model(trainer.network, keep_fp32_wrapper=False)
    optimizer = trainer.optimizer.optimizer
    inputs, ready = trainer.inputs, []
    for name, module in network.image_encoders.items():
        assert isinstance(module, PixelEncoder)
        for layer in () if fast_gradients else module.modules():
            if isinstance(layer, FastDepthwiseConv2d):
                layer.__class__ = Conv2dSame if layer.pads_same else torch.nn.Conv2d
        network.image_encoders[name] = module.encoder
    for first in range(0, READY * size, size):
        rows = slice(first, first + size)
        batch = {"metadata": torch.tensor(inputs.metadata[rows], device=device)}
        batch["target"] = torch.tensor(inputs.target[rows], device=device)
        for name, module in network.image_encoders.items():
            pixels = torch.tensor(inputs.streams[name][rows], device=device)
            batch[name] = module.normalise(pixels.permute(0, 3, 1, 2))
        ready.append(batch)
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(trainer.accelerator.mixed_precision)

    def loop() -> None:
        network.train()
        for step in range(steps):
            batch = ready[step % READY]
            with torch.autocast(device.type, half, enabled=half is not None):
                output = network(batch)
            loss, _ = trainer.criterion(output, batch["target"])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        loss.item()

    return loop


def measure(parameters: Parameters, steps: int, rounds: int) -> dict[str, list[float]]:
    """Return the images per second of each loop in each round."""
    size = parameters.batch_size
    trained, validated = steps * size, max(steps // 4, READY) * size
    parts = np.array(["train"] * trained + ["val"] * validated)
    inputs = made_up_inputs(len(parts), parameters.image_size)
    rates: dict[str, list[float]] = {}
    pixels = parameters.model_copy(update={"activation_views": 0})
    with tempfile.TemporaryDirectory() as folder:

        def trainer(inputs: Inputs, parameters: Parameters) -> Trainer:
            return Trainer(Run(Path(folder)), inputs, parts, parameters)

        passes = {"images": trainer(inputs, pixels)}
        first = passes["images"]
        device = first.accelerator.device
        loops = {"bare network": bare_loop(trainer(inputs, pixels), steps)}
        if device.type == "cpu" and first.accelerator.mixed_precision == "bf16":
            name = "bare network, PyTorch's own depthwise gradients"
            loops[name] = bare_loop(trainer(inputs, pixels), steps, fast_gradients=False)
        if parameters.frozen_stages:
            changes = {"activation_views": 2, "backbone_weights": "auto"}
            cached = parameters.model_copy(update=changes)
            passes["cached activations"] = trainer(made_up_activations(inputs, first), cached)
        for number in range(rounds + 1):
            jobs = {name: (loop, trained) for name, loop in loops.items()}
            for name, of in passes.items():
                jobs[name] = (lambda of=of, n=number: of._train_pass(n + 1), trained)
            jobs["validation"] = (first._validate, validated)
            for name, (job, lesions) in jobs.items():
                images = lesions * len(inputs.streams)
                rate = images / seconds(job, device)
                if number:
                    rates.setdefault(name, []).append(rate)
    return rates


def grid_hours(file: Path, lesions: int, rates: dict[str, list[float]]) -> float:
    """Return the hours that a grid's images take at these rates."""
    hours = 0.0
    for run in load_grid(file).runs(Path()):
        p = run.parameters
        images = p.epochs * len(image_streams(p)) * lesions / p.n_folds
        parts = p.n_folds - (1 if p.test_fold is None else 2)
        hours += images * parts / median(rates["images"]) / 3600
        hours += images / median(rates["validation"]) / 3600
    return hours


def main() -> None:
    """Run the command line."""
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    preset = PARAMS / ("paper.yaml" if on_gpu else "finetune.yaml")
    parser.add_argument("--params", type=Path, default=preset)
    parser.add_argument("-p", dest="override", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--steps", type=int, default=60 if on_gpu else 8)
    parser.add_argument("--rounds", type=int, default=7 if on_gpu else 5)
    parser.add_argument("--grid", type=Path, help="say what this grid would cost")
    parser.add_argument("--lesions", type=int, default=5240, help="with --grid: lesions to split")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    given = ["backbone_weights=random", "activation_views=0", "val_fold=1", *arguments.override]
    parameters = load_parameters(arguments.params, given)
    rates = measure(parameters, arguments.steps, arguments.rounds)
    device = torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads"
    result = {
        "device": device, "cores": os.cpu_count(), "torch": torch.__version__,
        "git_commit": git_commit(), "steps": arguments.steps, "rounds": arguments.rounds,
        "parameters": {
            n: getattr(parameters, n)
            for n in ("backbone", "image_size", "frozen_stages", "batch_size", "mixed_precision",
                      "compile_backbone", "num_workers")
        },
        "loops": {},
    }  # fmt: skip
    print(f"{device}, torch {torch.__version__}, {result['parameters']}\n")
    print("| Loop | Images per second | Of the bare network: median (min to max) |")
    print("|---|---|---|")
    for name, taken in rates.items():
        ratios = [rate / bare for rate, bare in zip(taken, rates["bare network"], strict=True)]
        low, middle, high = min(ratios), median(ratios), max(ratios)
        result["loops"][name] = {
            "images_per_second": round(median(taken), 1),
            "of_bare": [round(value, 3) for value in (low, middle, high)],
        }
        shown = f"{middle:.2f} ({low:.2f} to {high:.2f})"
        print(f"| {name} | {median(taken):.1f} | {shown} |")
    if arguments.grid:
        hours = grid_hours(arguments.grid, arguments.lesions, rates)
        result["loops"]["images"]["grid_hours"] = round(hours, 3)
        print(f"\n{arguments.grid}: about {hours:.2f} h at these rates, network and size")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    keep_freed_memory()
    main()

"""How much of the bare network's speed end-to-end training keeps.

    python benchmarks/finetune.py [--backbone NAME] [--compile] [--grid FILE] [--json FILE]

Each round times three things in turn, over as many full batches: the bare network (forward, loss,
backward, step of the optimiser, over batches that are normalised float tensors on the device
already), and the training pass of ``jiadf train`` with its images on the host and on the device:
loader, transfer, augmentation, normalisation and the sums of the losses are in it. Network,
precision, memory format and optimiser are the same, and weights are random, so that nothing is
fetched; ratios are taken within a round, and the median over rounds is what to quote. A first round
warms up and is not counted; it also compiles where that is asked for.

With ``--grid`` the rates tell what a grid would cost at this size, network and device: training
images and validation images (their rate is measured too), not start-up, compilation and files.
Defaults are small without a GPU, and say nothing about one.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch

from jiadf.build import PixelEncoder
from jiadf.config import Parameters, make_parameters
from jiadf.data.dataset import Inputs
from jiadf.data.schema import CLASSES
from jiadf.grid import load_grid
from jiadf.inputs import image_streams, resolve_device
from jiadf.runs import Run, git_commit
from jiadf.train import Trainer

SMALL = {"backbone": "tf_efficientnet_lite0", "image_size": 96, "batch_size": 16}
FULL = {"backbone": "tf_efficientnetv2_s", "image_size": 224, "batch_size": 32}
READY = 4  # batches that the bare loop turns over


def made_up_inputs(lesions: int, size: int) -> Inputs:
    """Return arrays of noise: what a picture shows does not change how long it takes."""
    rng = np.random.default_rng(0)
    shape = (lesions, size, size, 3)
    streams = {n: rng.integers(0, 256, shape, np.uint8) for n in ("clinical", "dermoscopic")}
    metadata = rng.normal(size=(lesions, 40)).astype(np.float32)
    target = np.arange(lesions) % len(CLASSES)
    return Inputs(streams, metadata, target, {f"{name}_images": name for name in streams})


def seconds(job: Callable[[], object], device: torch.device) -> float:
    """Time a job to the end of what it started on the device."""
    start = time.perf_counter()
    job()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def bare_loop(trainer: Trainer, steps: int) -> Callable[[], None]:
    """Return a loop of plain PyTorch over the trainer's network, without its `PixelEncoder`."""
    device, size = trainer.accelerator.device, trainer.parameters.batch_size
    network = trainer.accelerator.unwrap_model(trainer.network, keep_fp32_wrapper=False)
    optimizer = trainer.optimizer.optimizer
    inputs, ready = trainer.inputs, []
    for name, module in network.image_encoders.items():
        assert isinstance(module, PixelEncoder)
        network.image_encoders[name] = module.encoder
    for first in range(0, READY * size, size):
        rows = slice(first, first + size)
        batch = {"metadata": torch.tensor(inputs.metadata[rows], device=device)}
        batch["target"] = torch.tensor(inputs.target[rows], device=device)
        for name, module in network.image_encoders.items():
            pixels = torch.tensor(inputs.streams[name][rows], device=device)
            batch[name] = module.normalise(pixels)
        ready.append(batch)
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(trainer.parameters.mixed_precision)

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
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder))
        make = {
            place: Trainer(run, inputs, parts, parameters.model_copy(update={"images_on": place}))
            for place in ("host", "device")
        }
        bare = bare_loop(Trainer(run, inputs, parts, parameters), steps)
        device = make["device"].accelerator.device
        for number in range(rounds + 1):
            jobs = {
                "bare network": (bare, trained),
                "images on the host": (lambda n=number: make["host"]._train_pass(n + 1), trained),
                "images on the device": (
                    lambda n=number: make["device"]._train_pass(n + 1),
                    trained,
                ),
                "validation": (make["device"]._validate, validated),
            }
            for name, (job, lesions) in jobs.items():
                images = lesions * len(inputs.streams)
                rate = images / seconds(job, device)
                if number:
                    rates.setdefault(name, []).append(rate)
    return rates


def grid_hours(file: Path, lesions: int, rates: dict[str, list[float]], place: str) -> float:
    """Return the hours that a grid's images take at these rates."""
    hours = 0.0
    for run in load_grid(file).runs(Path()):
        p = run.parameters
        images = p.epochs * len(image_streams(p)) * lesions / p.n_folds
        parts = p.n_folds - (1 if p.test_fold is None else 2)
        hours += images * parts / median(rates[place]) / 3600
        hours += images / median(rates["validation"]) / 3600
    return hours


def main() -> None:
    """Run the command line."""
    on_gpu = torch.cuda.is_available()
    preset = FULL if on_gpu else SMALL
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default=preset["backbone"])
    parser.add_argument("--image-size", type=int, default=preset["image_size"])
    parser.add_argument("--batch-size", type=int, default=preset["batch_size"])
    parser.add_argument("--mixed-precision", default="bf16" if on_gpu else "no")
    parser.add_argument("--num-workers", type=int, default=0)
    parser.add_argument("--compile", action="store_true", help="compile the backbones")
    parser.add_argument("--steps", type=int, default=60 if on_gpu else 4)
    parser.add_argument("--rounds", type=int, default=7 if on_gpu else 3)
    parser.add_argument("--grid", type=Path, help="say what this grid would cost")
    parser.add_argument("--lesions", type=int, default=5240, help="with --grid: lesions to split")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    parameters = make_parameters(
        {
            "regime": "finetune", "device": resolve_device("auto"), "backbone_weights": "random",
            "backbone": arguments.backbone, "image_size": arguments.image_size,
            "batch_size": arguments.batch_size, "mixed_precision": arguments.mixed_precision,
            "compile_backbone": arguments.compile, "num_workers": arguments.num_workers,
        }
    )  # fmt: skip
    rates = measure(parameters, arguments.steps, arguments.rounds)
    device = torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads"
    result = {
        "device": device, "cores": os.cpu_count(), "torch": torch.__version__,
        "git_commit": git_commit(), "steps": arguments.steps, "rounds": arguments.rounds,
        "parameters": {
            n: getattr(parameters, n)
            for n in ("backbone", "image_size", "batch_size", "mixed_precision",
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
        for place in ("images on the host", "images on the device"):
            hours = grid_hours(arguments.grid, arguments.lesions, rates, place)
            result["loops"][place]["grid_hours"] = round(hours, 3)
            print(
                f"\n{arguments.grid}, {place}: about {hours:.2f} h at these rates, network and size"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""What keeping freed memory is worth to a network on a CPU (:mod:`jiadf.memory`).

    python benchmarks/memory.py [--rounds N]

The first stages of EfficientNet-Lite0 at 160 pixels and a training step of the others, one thread,
in two processes that take turns: one keeps freed memory, the other gives it back as glibc does.
"""

import argparse
import multiprocessing
import time
from statistics import median

import torch

from jiadf.memory import keep_freed_memory
from jiadf.models.encoders import ImageEncoder

BATCH, REPEATS = 32, 6


def rates(keep: bool) -> tuple[float, float]:
    """Return images a second of the fixed stages and of a training step of the others."""
    torch.set_num_threads(1)
    if keep and not keep_freed_memory():
        raise SystemExit("this C library has no mallopt: nothing to compare")
    encoder = ImageEncoder("tf_efficientnet_lite0", weights="random", frozen_stages=3)
    encoder.to(memory_format=torch.channels_last).train()
    pixels = torch.rand(BATCH, 3, 160, 160).to(memory_format=torch.channels_last)

    def first() -> torch.Tensor:
        with torch.inference_mode():
            return encoder.first_stages(pixels)

    maps = first().clone()

    def others() -> None:
        encoder.other_stages(maps).square().mean().backward()

    taken = []
    for job in (first, others):
        job()
        start = time.perf_counter()
        for _ in range(REPEATS):
            job()
        taken.append(BATCH * REPEATS / (time.perf_counter() - start))
    return taken[0], taken[1]


def main() -> None:
    """Print medians over rounds and the ratio of the two processes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, maxtasksperchild=1) as pool:  # a process a measurement
        pairs = [[pool.apply(rates, (keep,)) for keep in (False, True)] for _ in range(rounds)]
    for at, name in enumerate(("fixed stages", "training step of the others")):
        ratios = [kept[at] / given[at] for given, kept in pairs]
        before = median(given[at] for given, _ in pairs)
        after = median(kept[at] for _, kept in pairs)
        low, middle, high = min(ratios), median(ratios), max(ratios)
        print(f"{name}: {before:.0f} -> {after:.0f} images a second, x {middle:.2f} "
              f"({low:.2f} to {high:.2f})")  # fmt: skip


if __name__ == "__main__":
    main()

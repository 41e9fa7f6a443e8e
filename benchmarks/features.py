"""What decoding and feature extraction cost beside the bare network.

    python benchmarks/features.py [--images 512] [--rounds 5] [--json FILE]

Each round times, on the same pictures and in turn: the bare loop (the backbone over batches that
are already normalised float tensors), ``frozen_features`` from decoded pixels, the same for an
augmented view, and the whole cold path from JPEG files. Ratios are taken within a round, so that a
machine whose speed drifts does not matter; the median over rounds is what to quote.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from jiadf.data.image_cache import cache_images
from jiadf.data.read import read_lesions
from jiadf.data.synth import synthesise
from jiadf.models.encoders import ImageEncoder
from jiadf.training.features import frozen_features

SIZE, BATCH = 224, 32


def seconds(job: Callable[[], object]) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def measure(images: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each job in each round."""
    encoder = ImageEncoder().eval()
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = synthesise(Path(folder, "data"), images // 2, 0, (600, 450))
        table = read_lesions(data)
        paths = [*table["clinical_path"], *table["dermoscopic_path"]]
        pixels = cache_images(paths, SIZE, Path(folder, "warm"), progress=False)
        ready = [
            encoder.normalise(torch.from_numpy(pixels.pixels[i : i + BATCH].copy()))
            for i in range(0, len(paths), BATCH)
        ]

        @torch.inference_mode()
        def bare() -> None:
            for batch in ready:
                encoder(batch)

        def features(name: str, views: int = 1, decode: bool = False) -> None:
            cache = Path(folder, name)
            cached = cache_images(paths, SIZE, cache, progress=False) if decode else pixels
            frozen_features(cached, encoder, views, cache_dir=cache, progress=False)

        for number in range(-1, rounds):  # round -1 warms up
            name = f"round{number}"
            jobs = {
                "bare network": bare,
                "decode": lambda n=name: cache_images(
                    paths, SIZE, Path(folder, "d" + n), progress=False
                ),
                "features from pixels": lambda n=name: features(n),
                "augmented view": lambda n=name: features(n, views=2),  # view 1 is there
                "features from JPEG": lambda n=name: features("c" + n, decode=True),
            }
            for job, call in jobs.items():
                took = seconds(call)
                if number >= 0:
                    times.setdefault(job, []).append(took)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    times = measure(arguments.images, arguments.rounds)
    bare = times["bare network"]
    result = {"images": arguments.images, "rounds": arguments.rounds, "jobs": {}}
    print(
        f"{arguments.images} images of 600 x 450, {os.cpu_count()} cores, torch {torch.__version__}"
    )
    for job, taken in times.items():
        ratios = sorted(t / b for t, b in zip(taken, bare, strict=True))
        rate = arguments.images / median(taken)
        result["jobs"][job] = {
            "images_per_second": round(rate, 1),
            "ratio_to_bare": {
                "min": round(ratios[0], 3),
                "median": round(median(ratios), 3),
                "max": round(ratios[-1], 3),
            },
        }
        print(
            f"{job:22s} {rate:7.1f} images/s, {median(ratios):.3f} x the bare network's time "
            f"({ratios[0]:.3f} to {ratios[-1]:.3f})"
        )
    if arguments.json:
        result |= {"torch": torch.__version__, "machine": platform.machine()}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

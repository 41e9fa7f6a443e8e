"""What a run of a grid costs beside its training: a process of its own against many in one.

    python benchmarks/grid.py --data MILK10K [--params params/cpu.yaml] [--runs 5] [--json FILE]

Trains the same runs (one system, several seeds) twice in the `frozen` regime, from a warm feature
cache: each in a process of its own (``jiadf train``), and all in one (``jiadf.training.grid``).
Overhead is what a run takes beyond its training loop, start-up and reading above all, as a share
of that loop's time; a run's ``environment.json`` says what its loop took. The two ways take turns,
run by run, so that a machine whose speed drifts does not matter.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from jiadf.config import load_parameters
from jiadf.data.read import read_lesions
from jiadf.training.run_folder import Run
from jiadf.training.trainer import train


def measure(data: Path, params: Path, runs: int) -> dict[str, list[float]]:
    """Return the overhead shares of each way, a figure a run."""
    base = load_parameters(params)
    shares: dict[str, list[float]] = {"a process a run": [], "one process": []}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        lesions, shared = read_lesions(data), {}
        warm = base.model_copy(update={"epochs": 1})
        train(lesions, Path(folder, "warm"), warm, progress=False, shared=shared)
        once = time.perf_counter() - start  # what the one process pays for all its runs
        for seed in range(runs):
            own, common = Path(folder, f"own{seed}"), Path(folder, f"common{seed}")
            command = [sys.executable, "-m", "jiadf", "train", "--quiet", "--data", str(data)]
            command += ["--run", str(own), "--params", str(params), "-p", f"seed={seed}"]
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            shares["a process a run"].append(overhead(own, time.perf_counter() - start))
            start = time.perf_counter()
            parameters = base.model_copy(update={"seed": seed})
            train(lesions, common, parameters, progress=False, shared=shared)
            wall = time.perf_counter() - start + once / runs
            shares["one process"].append(overhead(common, wall))
    return shares


def overhead(run: Path, wall: float) -> float:
    """Return what a run took beyond its training loop, as a share of the loop's time."""
    loop = Run(run).environment["seconds"]
    return (wall - loop) / loop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--params", type=Path, default=Path("params/cpu.yaml"))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    shares = measure(arguments.data, arguments.params, arguments.runs)
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, {arguments.runs} runs each")
    print("| way | overhead, share of the training loop's time (median) | smallest | largest |")
    print("| --- | --- | --- | --- |")
    for way, values in shares.items():
        print(f"| {way} | {median(values):.3f} | {min(values):.3f} | {max(values):.3f} |")
    if arguments.json:
        arguments.json.write_text(json.dumps(shares, indent=2) + "\n")


if __name__ == "__main__":
    main()

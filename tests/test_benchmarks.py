import json
import subprocess
import sys
from pathlib import Path

FILE = Path(__file__).parents[1] / "benchmarks" / "finetune.py"


def test_the_training_benchmark_runs_and_has_a_rate_of_every_loop(tmp_path):
    small = ["-p", "image_size=32", "-p", "batch_size=2", "-p", "device=cpu"]
    options = ["--steps", "1", "--rounds", "1", "--json", tmp_path / "rates.json"]
    subprocess.run([sys.executable, FILE, *small, *options], check=True)
    loops = json.loads((tmp_path / "rates.json").read_text())["loops"]
    assert {"bare network", "images", "cached activations", "validation"} <= set(loops)
    assert all(loop["images_per_second"] > 0 for loop in loops.values())

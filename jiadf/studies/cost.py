"""What each system of a grid costs: parameters, operations, time to train and to predict.

Networks are asked on the CPU about one batch, all systems in turn and that several times over, so
that whatever else the machine does meets all of them alike: the ratio of two systems' times, taken
within a turn, is steadier than either time. In the `frozen` regime a system reads features that
are already there; what making them costs is told of the backbone.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from jiadf.data.batches import one_batch
from jiadf.data.image_cache import cache_images
from jiadf.models.cost import count_gflops, network_cost
from jiadf.training.grid import Grid, collect
from jiadf.training.inputs import image_encoder, image_streams
from jiadf.training.predict import load_network, run_inputs
from jiadf.training.run_folder import Run

REFERENCE = "ji-adf"  # what speeds are a ratio to; the first system where it is not there


def turns(calls: Mapping[str, Callable[[], object]], repeats: int) -> pd.DataFrame:
    """Time calls in turn, after one turn to warm up: seconds, a row a turn, a column a call."""
    rows = []
    with torch.inference_mode():
        for _ in range(repeats + 1):
            row = {}
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                row[name] = time.perf_counter() - start
            rows.append(row)
    return pd.DataFrame(rows[1:])


def speeds(seconds: pd.DataFrame, lesions: int, reference: str) -> pd.DataFrame:
    """Summarise the turns: lesions a second, and the speed as a ratio to the reference's.

    Returns
    -------
    DataFrame
        A row a system: ``lesions_per_second``, the median over turns; ``speed``, the median of the
        ratios within a turn, and their quartiles ``speed_low`` and ``speed_high``.
    """
    ratio = (1 / seconds).mul(seconds[reference], axis=0)
    low, middle, high = (ratio.quantile(q) for q in (0.25, 0.5, 0.75))
    table = {"lesions_per_second": lesions / seconds.median(), "speed": middle}
    return pd.DataFrame(table | {"speed_low": low, "speed_high": high})


def backbone_table(
    grid: Grid, folder: str | Path, lesions: pd.DataFrame, cache_dir, rows: np.ndarray, repeats: int
) -> pd.DataFrame:  # fmt: skip
    """Measure every backbone that frozen systems of the grid read features of, a row each."""
    tables = []
    kinds = {
        (p.backbone, p.backbone_weights, p.backbone_features, p.image_size): p
        for p in (run.parameters for run in grid.runs(Path(folder)))
        if p.regime == "frozen" and image_streams(p)
    }
    for (name, *_, size), p in kinds.items():
        encoder = image_encoder(p, image_streams(p)[0]).eval()
        paths = lesions[f"{image_streams(p)[0]}_path"]
        images = cache_images(paths, size, cache_dir, progress=False).pixels[rows]
        pixels = encoder.normalise(torch.from_numpy(np.array(images)))
        gflops = count_gflops(lambda encoder=encoder, pixels=pixels: encoder(pixels))
        call = {name: lambda encoder=encoder, pixels=pixels: encoder(pixels)}
        seconds = turns(call, repeats)[name].median()
        row = {"backbone": name, "image_size": size, "images_a_lesion": len(image_streams(p))}
        row |= {"parameters": sum(weight.numel() for weight in encoder.parameters())}
        row |= {"gflops": gflops / len(rows), "images_per_second": len(rows) / seconds}
        tables.append(row | {"batch": len(rows), "threads": torch.get_num_threads()})
    return pd.DataFrame(tables)


def study(
    grid: Grid, folder: str | Path, lesions: pd.DataFrame, cache_dir: str | Path | None = None,
    *, seed: int = 0, repeats: int = 15, batch: int = 128, pictures: int = 16,
) -> dict[str, pd.DataFrame]:  # fmt: skip
    """Measure what every system of a grid costs.

    Parameters
    ----------
    grid, folder
        A grid of either protocol, and its finished runs.
    lesions, cache_dir
        The table that the runs were trained on, and where caches lie.
    seed
        Of the lesions that are asked about; times hardly depend on them.
    repeats
        Turns of the timing.
    batch, pictures
        Lesions in a batch of a system, pictures in a batch of a backbone.

    Returns
    -------
    dict of DataFrame
        ``systems``: a row a system, its ``regime``, :func:`jiadf.models.cost.network_cost`,
        :func:`speeds`, ``seconds_a_run`` (median over runs, wall time of training), and what was
        timed (``batch``, ``threads``). ``backbones``: :func:`backbone_table`.
    """
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(lesions), min(batch, len(lesions)), replace=False)
    shared: dict = {}
    calls, costs = {}, {}
    for run in grid.runs(Path(folder)):
        if run.system not in calls:
            made = Run(run.path)
            inputs = run_inputs(made, lesions, cache_dir, progress=False, shared=shared)
            network, asked = load_network(made, inputs), one_batch(inputs, rows)
            calls[run.system] = lambda network=network, asked=asked: network(asked)
            costs[run.system] = {"regime": run.parameters.regime, **network_cost(network, asked)}
    reference = REFERENCE if REFERENCE in calls else next(iter(calls))
    table = pd.DataFrame(costs).T.infer_objects()
    table = table.join(speeds(turns(calls, repeats), len(rows), reference))
    table["seconds_a_run"] = collect(grid, folder).groupby("system")["seconds"].median()
    table["reference"], table["batch"] = reference, len(rows)
    table["threads"] = torch.get_num_threads()
    backbones = backbone_table(grid, folder, lesions, cache_dir, rows[:pictures], repeats)
    return {"systems": table.rename_axis("system").reset_index(), "backbones": backbones}

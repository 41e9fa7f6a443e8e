"""Do explanations mean anything? Grad-CAM and contributions of out-of-fold networks, examined.

A stratified sample of lesions is explained, each by the network that took nothing from it, for its
most probable class. The tables hold means over lesions with 95 % bootstrap intervals:

``sample``         lesions a class, cells of a map, and how exact the contributions are
``regions``        how often a region is found, how large it is, how good the lesion's estimate is
``localisation``   energy of the maps inside the lesion and pointing game, of the trained network,
                   of random ones, and of maps that know no network
``contrasts``      differences of the trained network's maps from each of those
``sanity``         likeness of maps to the trained network's when weights or labels are random
``artefacts``      energy on thin dark lines and dark corners, with their share of the picture
``curves``, ``cuts``  probability while cells are deleted or inserted, and areas under the curves
``contributions``  size of each source's contribution to the fused log posterior

Where the set is synthetic, the lesion is known; elsewhere it is
:func:`jiadf.regions.lesion_estimate`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from jiadf import regions, saliency
from jiadf.config import ParameterError
from jiadf.data.embedded import is_synthetic
from jiadf.data.image_cache import cache_images
from jiadf.data.masks import lesion_masks
from jiadf.data.metadata import MetadataEncoder
from jiadf.examination import (
    OTHER_CLASS,
    OTHER_LESION,
    REGIONS,
    RELABELLED,
    TRAINED,
    TWIN,
    artefact_shares,
    blind,
    compared,
    region_areas,
    study_tables,
    with_rows,
)
from jiadf.explanation.explain import (
    FUSED,
    ExplainableNetwork,
    average_lesion,
    by_field,
    contributions,
    feature_maps,
    grad_cam,
    open_network,
)
from jiadf.randomise import cascade, randomised
from jiadf.training.grid import Grid, GridRun
from jiadf.training.inputs import image_encoder, image_streams, targets
from jiadf.training.run_folder import Run
from jiadf.training.trainer import train

SHARES = np.linspace(0, 1, 8)


def study(
    grid: Grid,
    folder: str | Path,
    lesions: pd.DataFrame,
    cache_dir: str | Path | None = None,
    *,
    seed: int = 0,
    system: str = "ji-adf",
    explained: int = 400,
    cut: int = 60,
) -> dict[str, pd.DataFrame]:
    """Explain held-out lesions and examine the explanations.

    Parameters
    ----------
    grid, folder
        An out-of-fold grid and where its run folders lie; the runs of its first seed are used.
    lesions
        The table that the runs were trained on.
    cache_dir
        Where image and feature caches lie, and networks trained on permuted labels.
    seed
        Of the sample, the random weights and the permutation.
    system
        Whose networks are explained.
    explained, cut
        Lesions to explain, and how many of them go through deletion and insertion.

    Raises
    ------
    jiadf.config.ParameterError
        If the grid has no such system, or its protocol keeps no lesions from every choice.
    jiadf.explanation.explain.ExplanationError
        If the system sees no picture.
    jiadf.training.run_folder.RunError
        If a run is missing or unfinished.
    """
    if grid.protocol != "out-of-fold":
        raise ParameterError(
            f"this grid's protocol is {grid.protocol!r}: give one with `protocol: out-of-fold`."
        )
    grid.require([system])
    chosen = [r for r in grid.runs(Path(folder)) if (r.system, r.seed) == (system, grid.seeds[0])]
    sampled = sample_rows(lesions, explained, seed)
    bench = _Bench(lesions, cache_dir, chosen[0], seed)
    gathered: dict[str, list[pd.DataFrame]] = {}
    for run, twin in zip(chosen, [*chosen[1:], chosen[0]], strict=True):
        parts = Run(run.path).predictions["split"].loc[lesions.index].to_numpy()
        rows = sampled[parts[sampled] == "test"]
        few = rows[: -(-cut // len(chosen))]
        if len(rows):
            for name, table in bench.examine(run, twin, rows, few).items():
                gathered.setdefault(name, []).append(table)
    whole = {name: pd.concat(tables, ignore_index=True) for name, tables in gathered.items()}
    return study_tables(whole, targets(lesions), seed)


def sample_rows(lesions: pd.DataFrame, count: int, seed: int = 0) -> np.ndarray:
    """Draw rows of a table, as many of each class as its share asks for but at least two.

    The order is random, so that a beginning of the answer is a sample too.
    """
    rng = np.random.default_rng([seed, 9])
    truth = targets(lesions)
    picked = []
    for label in np.unique(truth):
        members = np.flatnonzero(truth == label)
        wanted = max(2, round(count * len(members) / len(truth)))
        picked.append(rng.permutation(members)[:wanted])
    return rng.permutation(np.concatenate(picked))


class _Bench:
    """What all runs share: pictures, regions, the frozen backbone."""

    def __init__(self, lesions, cache_dir, first: GridRun, seed: int) -> None:
        self.lesions, self.cache_dir, self.seed = lesions, cache_dir, seed
        p = first.parameters
        self.backbone = image_encoder(p, image_streams(p)[0]) if p.regime == "frozen" else None
        streams = open_network(Run(first.path), self.backbone).streams
        self.pictures = {
            name: cache_images(
                lesions[f"{name}_path"], p.image_size, cache_dir, progress=False
            ).pixels
            for name in streams
        }
        root = Path(lesions[f"{streams[0]}_path"].iloc[0]).parents[2]
        self.root = root if is_synthetic(root) else None
        self.shared: dict = {}

    def network(self, run: Run) -> tuple[ExplainableNetwork, np.ndarray]:
        """Return a run's network and all lesions' metadata as it reads them."""
        encoder = MetadataEncoder.from_json(run.text("encoder.json"), run.path / "encoder.json")
        return open_network(run, self.backbone), encoder.transform(self.lesions)

    def relabelled(self, run: GridRun) -> Run:
        """Train a network like this one on labels dealt out at random."""
        rng = np.random.default_rng([self.seed, run.fold, 3])
        shuffled = self.lesions.assign(label=rng.permutation(self.lesions["label"].to_numpy()))
        return train(
            shuffled, None, run.parameters, self.cache_dir, progress=False, shared=self.shared
        )

    def examine(self, run: GridRun, twin: GridRun, rows, few) -> dict[str, pd.DataFrame]:
        """Return per-lesion tables of one fold's network."""
        made = Run(run.path)
        model, metadata = self.network(made)
        pictures = {name: np.array(self.pictures[name][rows]) for name in model.streams}
        maps = feature_maps(model, pictures)
        with torch.no_grad():
            features = model.features(maps)
            posterior = model.decide(features, torch.from_numpy(metadata[rows])).log_posterior
        ranked = posterior.numpy().argsort(axis=1)[:, ::-1]
        masks = self.masks(rows, pictures)
        own = _all_maps(model, maps, metadata[rows], ranked[:, 0])
        variants = self._variants(model, maps, pictures, metadata, rows, ranked, run, twin, own)
        table = [compared(TRAINED, own, own, masks["lesion"])]
        for name, other in variants:
            table.append(compared(name, own, other, masks["lesion"]))
        table += [blind(own, masks["lesion"])]
        of = {"lesion": rows}
        return {
            "maps": with_rows(pd.concat(table, ignore_index=True), rows),
            "regions": with_rows(region_areas(masks), rows),
            "artefacts": with_rows(artefact_shares(own, masks), rows),
            "cuts": self._cuts(model, maps, pictures, metadata, rows, few, ranked[:, 0], own),
            "contributions": self._contributions(made, model, features, metadata, rows, ranked),
            "sample": pd.DataFrame(of | {"cells": maps[model.streams[0]].shape[-1]}),
        }

    def masks(self, rows, pictures) -> dict[str, dict[str, np.ndarray]]:
        """Return each region's masks by stream; ``estimate`` too where the lesion is known."""
        size = next(iter(pictures.values())).shape[1]
        found = {
            region: {s: np.stack([detect(p) for p in ps]) for s, ps in pictures.items()}
            for region, detect in {"estimate": regions.lesion_estimate, **REGIONS}.items()
        }
        if self.root is None:
            return {"lesion": found.pop("estimate")} | found
        return {"lesion": lesion_masks(self.root, self.lesions.index[rows], size)} | found

    def _variants(
        self, model, maps, pictures, metadata, rows, ranked, run, twin, trained
    ) -> Iterator[tuple[str, dict]]:
        classes, own = ranked[:, 0], metadata[rows]
        others = [(TWIN, Run(twin.path))] if twin.path != run.path else []
        for name, made in [*others, (RELABELLED, self.relabelled(run))]:
            network, encoded = self.network(made)
            seen = maps if self.backbone is not None else feature_maps(network, pictures)
            yield name, _all_maps(network, seen, encoded[rows], classes)
        yield OTHER_CLASS, _all_maps(model, maps, own, ranked[:, 1])
        yield OTHER_LESION, {k: np.roll(cells, 1, axis=0) for k, cells in trained.items()}
        for stage, prefixes in cascade(model).items():
            blank = randomised(model, prefixes, self.seed)
            new = any(name.startswith("backbones") for name in prefixes)
            seen = feature_maps(blank, pictures) if new else maps
            yield f"random: {stage}", _all_maps(blank, seen, own, classes)

    def _cuts(self, model, maps, pictures, metadata, rows, few, classes, own) -> pd.DataFrame:
        rng = np.random.default_rng([self.seed, 5])
        count = len(few)  # the first of the rows
        given = torch.from_numpy(metadata[rows[:count]])
        kept = {name: value[:count] for name, value in maps.items()}
        picked = torch.from_numpy(classes[:count].copy())[:, None]
        tables = []
        for stream in model.streams if count else ():
            for order in saliency.ORDERS:
                ranks = saliency.cut_order(own[FUSED, stream][:count], order, rng)
                for mode in saliency.MODES:
                    for share in SHARES:
                        cut = saliency.cut_pictures(pictures[stream][:count], ranks, share, mode)
                        alone = _only(model, stream, cut)
                        with torch.no_grad():
                            said = model.decide(model.features({**kept, stream: alone}), given)
                        value = said.log_posterior.gather(1, picked)[:, 0].exp().numpy()
                        tables.append(
                            pd.DataFrame({
                                "stream": stream, "order": order, "mode": mode, "share": share,
                                "probability": value, "lesion": few,
                            })
                        )  # fmt: skip
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()

    def _contributions(self, made, model, features, metadata, rows, ranked) -> pd.DataFrame:
        train_rows = made.predictions["split"].loc[self.lesions.index].to_numpy() == "train"
        baseline = average_lesion(model, features, metadata[train_rows])
        given = contributions(model, features, metadata[rows], baseline, ranked[:, 0])
        text = made.text("encoder.json")
        columns = MetadataEncoder.from_json(text, made.path / "encoder.json").columns
        table = by_field(given["metadata"], columns)
        if "M" not in model.network.config.modalities:
            table = table.iloc[:, :0]
        table.insert(0, "all metadata", given["metadata"].sum(1))
        for place, name in enumerate(model.streams):
            table.insert(place, f"{name} picture", given[name])
        table["gap"] = given["gap"]
        return table.assign(lesion=rows).melt("lesion", var_name="source", value_name="value")


def _only(model, stream: str, pictures: np.ndarray) -> torch.Tensor:
    """Return one stream's maps, the other pictures left out."""
    encoder = model.backbones[stream]
    parts = []
    with torch.no_grad():
        for start in range(0, len(pictures), 32):
            pixels = torch.from_numpy(np.array(pictures[start : start + 32]))
            parts.append(encoder.backbone.forward_features(encoder.normalise(pixels)))
    return torch.cat(parts)


def _all_maps(model, maps, metadata, classes) -> dict[tuple[str, str], np.ndarray]:
    """Return maps in their own cells, by output and stream."""
    return {
        (output, stream): cells
        for output in model.picture_outputs
        for stream, cells in grad_cam(model, maps, metadata, classes, output).items()
    }

"""From maps of many lesions to tables of figures: place, likeness and effect, with intervals.

Takes arrays alone: maps in their own cells under ``(output, stream)``, masks under stream, each a
row a lesion. :mod:`jiadf.studies.explanation` makes them from trained networks and says what the
tables hold.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from jiadf import regions, saliency
from jiadf.data.schema import CLASSES
from jiadf.evaluation.weighted import stratified_weights
from jiadf.explanation.explain import upsample
from jiadf.plots.explain import field_words

TRAINED = "trained"
TWIN, OTHER_CLASS, RELABELLED, OTHER_LESION = (
    "other fold's network", "second class", "labels permuted", "other lesion's map",
)  # fmt: skip
GAUSSIAN, IDEAL, CHANCE = "centred Gaussian", "perfect map", "chance"
REGIONS = {"thin dark lines": regions.thin_dark_lines, "dark corners": regions.dark_corners}
_SMALLEST = 0.01  # share of a picture below which a region does not count as there


def with_rows(table: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
    """Replace positions among some lesions by those lesions' rows in the whole table."""
    return table.assign(lesion=rows[table.pop("position").to_numpy()])


def compared(name: str, own, other, masks) -> pd.DataFrame:
    """Return likeness to the trained network's maps and place of each map."""
    tables = []
    for (output, stream), cells in other.items():
        trained, inside = own[output, stream], masks[stream]
        values = {
            "position": np.arange(len(cells)),
            "energy": saliency.energy_inside(upsample(cells, inside.shape[1]), inside),
            "pointing": saliency.pointing_game(cells, inside),
            "empty": saliency.is_empty(cells).astype(float),
        }
        if name != TRAINED:
            values["rank correlation"] = saliency.rank_correlation(trained, cells)
            values["SSIM"] = saliency.structural_similarity(trained, cells)
        tables.append(pd.DataFrame({"network": name, "output": output, "stream": stream} | values))
    return pd.concat(tables, ignore_index=True)


def blind(own, masks) -> pd.DataFrame:
    """Return the place of maps that know no network: chance, the centre, the lesion itself."""
    tables = []
    for (output, stream), cells in own.items():
        inside = masks[stream]
        size, shape = inside.shape[1], cells.shape[1:]
        ideal = saliency.ideal_map(inside, shape)
        known = inside.any((1, 2))
        touched = saliency.touched_cells(inside, shape)
        measured = {
            CHANCE: (inside.mean((1, 2)), touched.mean((1, 2))),
            GAUSSIAN: (
                saliency.energy_inside(saliency.centred_gaussian(size), inside),
                saliency.pointing_game(saliency.centred_gaussian(shape[0]), inside),
            ),
            IDEAL: (
                saliency.energy_inside(upsample(ideal, size), inside),
                saliency.pointing_game(ideal, inside),
            ),
        }
        for name, (energy, pointing) in measured.items():
            values = {"energy": np.where(known, energy, np.nan)}
            values["pointing"] = np.where(known, pointing, np.nan)
            place = {"network": name, "output": output, "stream": stream}
            tables.append(pd.DataFrame(place | values | {"position": np.arange(len(cells))}))
    return pd.concat(tables, ignore_index=True)


def region_areas(masks) -> pd.DataFrame:
    """Return how large each region is in each picture, and how well `estimate` finds the lesion."""
    tables = []
    for region, by_stream in masks.items():
        for stream, found in by_stream.items():
            area = found.mean((1, 2))
            values = {"area": np.where(area >= _SMALLEST, area, np.nan)}
            values["found"] = (area >= _SMALLEST).astype(float)
            if region == "estimate":
                known = masks["lesion"][stream]
                union = (found | known).sum((1, 2))
                values["IoU"] = (found & known).sum((1, 2)) / np.maximum(union, 1)
            place = {"region": region, "stream": stream, "position": np.arange(len(found))}
            tables.append(pd.DataFrame(place | values))
    return pd.concat(tables, ignore_index=True)


def artefact_shares(own, masks) -> pd.DataFrame:
    """Return each map's energy on the regions that are no lesion, and their share of pictures."""
    tables = []
    for region in REGIONS:
        for (output, stream), cells in own.items():
            found = masks[region][stream]
            area = found.mean((1, 2))
            energy = saliency.energy_inside(upsample(cells, found.shape[1]), found)
            both = np.where((area >= _SMALLEST) & ~np.isnan(energy), 1.0, np.nan)
            place = {"region": region, "output": output, "stream": stream}
            values = {"energy": energy * both, "area": area * both}
            values |= {"excess": (energy - area) * both, "position": np.arange(len(cells))}
            tables.append(pd.DataFrame(place | values))
    return pd.concat(tables, ignore_index=True)


def mean_interval(values, truth, n: int = 1000, seed: int = 0) -> dict[str, float]:
    """Return the mean of what is known, its 95 % bootstrap interval, and the number of lesions."""
    values, truth = np.asarray(values, float), np.asarray(truth)
    known = ~np.isnan(values)
    if not known.any():
        return {"value": np.nan, "low": np.nan, "high": np.nan, "lesions": 0}
    weights = stratified_weights(truth[known], n, seed)
    draws = weights @ values[known] / known.sum()
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"value": values[known].mean(), "low": low, "high": high, "lesions": int(known.sum())}


def study_tables(
    whole: Mapping[str, pd.DataFrame], truth: np.ndarray, seed: int = 0
) -> dict[str, pd.DataFrame]:
    """Sum per-lesion tables up into the tables of :mod:`jiadf.studies.explanation`.

    Parameters
    ----------
    whole
        ``maps``, ``regions``, ``artefacts``, ``cuts``, ``contributions`` and ``sample``, each with
        a column ``lesion``, the row in the table of all lesions.
    truth
        Class index of all lesions.
    seed
        Of the bootstrap.
    """

    def summed(table: pd.DataFrame, keys: list[str], measures: list[str]) -> pd.DataFrame:
        rows = []
        for key, group in table.groupby(keys, sort=False):
            for measure in measures:
                figures = mean_interval(group[measure], truth[group["lesion"]], seed=seed)
                rows.append(dict(zip(keys, key, strict=True)) | {"measure": measure} | figures)
        result = pd.DataFrame(rows)
        return result[result["lesions"] > 0].reset_index(drop=True)

    maps, place = whole["maps"], ["network", "output", "stream"]
    likeness = maps[maps["rank correlation"].notna() | maps["empty"].notna()]
    likeness = likeness[likeness["network"] != TRAINED]
    effects = _areas(whole["cuts"])
    sources = whole["contributions"].assign(size=lambda t: t["value"].abs())
    gap = sources.loc[sources["source"] == "gap", "size"].max()
    drawn = whole["sample"]
    labels = pd.Series(np.array(CLASSES)[truth[drawn["lesion"]]]).value_counts()
    labels = labels.reindex([code for code in CLASSES if code in labels.index])
    sample = pd.DataFrame({"label": labels.index, "lesions": labels.to_numpy()})
    return {
        "sample": sample.assign(cells=int(drawn["cells"].iloc[0]), largest_gap=gap),
        "regions": summed(whole["regions"], ["region", "stream"], _present(whole["regions"])),
        "localisation": summed(maps, place, ["energy", "pointing", "empty"]),
        "contrasts": _contrasts(maps, truth, seed),
        "sanity": summed(likeness, place, ["rank correlation", "SSIM", "empty"]),
        "artefacts": summed(
            whole["artefacts"], ["region", "output", "stream"], ["energy", "area", "excess"]
        ),
        "curves": whole["cuts"]
        .groupby(["stream", "mode", "order", "share"], sort=False)["probability"]
        .agg(value="mean", lesions="size")
        .reset_index(),
        "cuts": summed(effects, ["stream", "mode", "reference"], ["difference"]),
        "contributions": summed(
            sources[sources["source"] != "gap"], ["source"], ["size"]
        ).drop(columns="measure"),
    }  # fmt: skip


def _present(table: pd.DataFrame) -> list[str]:
    return [name for name in ("found", "area", "IoU") if name in table]


def _contrasts(maps: pd.DataFrame, truth, seed: int) -> pd.DataFrame:
    """Compare the trained network's maps with each other kind, lesion by lesion."""
    rows = []
    for (output, stream), group in maps.groupby(["output", "stream"], sort=False):
        for measure in ("energy", "pointing"):
            wide = group.pivot(index="lesion", columns="network", values=measure)
            for network in dict.fromkeys(group["network"]):
                if network not in (TRAINED, OTHER_LESION):
                    difference = wide[TRAINED] - wide[network]
                    figures = mean_interval(difference, truth[wide.index], seed=seed)
                    keys = {"network": network, "output": output, "stream": stream}
                    rows.append(keys | {"measure": measure} | figures)
    return pd.DataFrame(rows)


def _areas(cuts: pd.DataFrame) -> pd.DataFrame:
    """Return how much larger the area under a map's curve is than under another order's."""
    if cuts.empty:
        return pd.DataFrame(columns=["stream", "mode", "reference", "lesion", "difference"])
    tables = []
    for (stream, mode), group in cuts.groupby(["stream", "mode"], sort=False):
        areas = {}
        for order, curve in group.groupby("order", sort=False):
            wide = curve.pivot(index="lesion", columns="share", values="probability")
            areas[order] = pd.Series(
                saliency.area_under(wide.columns.to_numpy(), wide.to_numpy()), wide.index
            )
        for reference in saliency.ORDERS[1:]:
            difference = (areas["map"] - areas[reference]).rename("difference").reset_index()
            keys = {"stream": stream, "mode": mode, "reference": reference}
            tables.append(difference.assign(**keys))
    return pd.concat(tables, ignore_index=True)


def sentences(tables: Mapping[str, pd.DataFrame], lesion: str) -> dict[str, list[str]]:
    """Say what the tables of the study come to, of the fused output.

    Parameters
    ----------
    tables
        Of :func:`study_tables`.
    lesion
        What the maps' place is judged by, in words: "the lesion", or an estimate of it.

    Returns
    -------
    dict
        Sentences under ``place``, ``likeness``, ``effect``, ``artefacts`` and ``sources``.
    """
    return {
        "place": _said_of_place(tables, lesion),
        "likeness": _said_of_likeness(tables["sanity"]),
        "effect": _said_of_cuts(tables["cuts"]),
        "artefacts": _said_of_artefacts(tables["artefacts"]),
        "sources": [_said_of_sources(tables["contributions"])],
    }


def _fused(table: pd.DataFrame, **keys: str) -> pd.DataFrame:
    table = table[table["output"] == "fused"] if "output" in table else table
    for name, value in keys.items():
        table = table[table[name] == value]
    return table


def _side(row, above: str, below: str, neither: str) -> str:
    """Choose words by where an interval of a difference lies."""
    return above if row.low > 0 else below if row.high < 0 else neither


def _said_of_place(tables: Mapping[str, pd.DataFrame], lesion: str) -> list[str]:
    told = []
    words = "more than", "less than", "not measurably different from"
    for stream in dict.fromkeys(tables["localisation"]["stream"]):
        keys = {"stream": stream, "measure": "energy"}
        value = _fused(tables["localisation"], **keys).set_index("network")["value"]
        against = _fused(tables["contrasts"], **keys).set_index("network")
        if TRAINED not in value:
            continue
        chance = _side(against.loc[CHANCE], *words)
        middle = _side(against.loc[GAUSSIAN], *words)
        told.append(
            f"{stream.capitalize()} maps have {value[TRAINED]:.0%} of their energy in {lesion}: "
            f"{chance} chance ({value[CHANCE]:.0%}), and {middle} a blob in the middle of the "
            f"picture ({value[GAUSSIAN]:.0%}), which knows no network; the map's cells would allow "
            f"{value[IDEAL]:.0%}."
        )
    return told


def passes_sanity(table: pd.DataFrame, stream: str) -> bool:
    """Whether maps of random networks are less like the trained one's than its twin's are.

    Asked of permuted labels, of the whole fusion and of the whole backbone: each interval of the
    rank correlation must end below where that of another fold's network begins.
    """
    figures = _fused(table, stream=stream, measure="rank correlation").set_index("network")
    broken = (RELABELLED, "random: whole fusion", "random: whole backbone")
    there = [name for name in broken if name in figures.index]
    return all(figures["high"][name] < figures["low"][TWIN] for name in there)


def _said_of_likeness(table: pd.DataFrame) -> list[str]:
    told = []
    for stream in dict.fromkeys(table["stream"]):
        rows = _fused(table, stream=stream, measure="rank correlation")
        value = rows.set_index("network")["value"]
        if TWIN not in value:
            continue
        verdict = "pass" if passes_sanity(table, stream) else "do not pass"
        told.append(
            f"{stream.capitalize()} maps {verdict} the sanity checks. Rank correlation with the "
            f"trained network's map is {value[TWIN]:.2f} for another fold's network, "
            f"{value[RELABELLED]:.2f} after training on permuted labels, "
            f"{value['random: whole fusion']:.2f} with random fusion weights and "
            f"{value['random: whole backbone']:.2f} with a random backbone too; for the map of "
            f"another lesion it is {value[OTHER_LESION]:.2f}."
        )
    return told


def _said_of_cuts(table: pd.DataFrame) -> list[str]:
    told = []
    for stream in dict.fromkeys(table["stream"]):
        better = []
        for row in table[table["stream"] == stream].itertuples():
            sign = -1 if row.mode == "deletion" else 1
            low, high = sorted((sign * row.low, sign * row.high))
            verdict = "better" if low > 0 else "worse" if high < 0 else "not measurably different"
            order = {"centre": "the middle first"}.get(row.reference, "a random order")
            better.append(f"{row.mode} against {order}: {verdict}")
        told.append(f"Cutting the {stream} picture in the map's order, {'; '.join(better)}.")
    return told


def _said_of_artefacts(table: pd.DataFrame) -> list[str]:
    told = []
    for row in _fused(table, measure="excess").itertuples():
        keys = {"region": row.region, "stream": row.stream}
        share = _fused(table, **keys).set_index("measure")["value"]
        words = _side(row, "more than", "less than", "not measurably different from")
        told.append(
            f"Where {row.region} are found in {row.stream} pictures ({row.lesions:,} lesions), "
            f"{share['energy']:.1%} of the energy lies on them, {words} their share of the picture "
            f"({share['area']:.1%})."
        )
    return told


def _said_of_sources(table: pd.DataFrame) -> str:
    size = table.set_index("source")["value"]
    whole = size[[n for n in size.index if n.endswith("picture") or n == "all metadata"]]
    told = ", ".join(f"{name} {value:.2f}" for name, value in whole.items())
    fields = size.drop(whole.index)
    most = f" Of the metadata, {field_words(fields.idxmax())} moves it most." if len(fields) else ""
    return f"Mean size of the contribution to the log posterior of the class: {told}.{most}"

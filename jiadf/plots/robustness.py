"""Pictures of robustness and fairness: damaged streams, the gate's reaction, slices, probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from jiadf.plots.style import NEUTRAL, PALETTE, WIDTH, subplots
from jiadf.verdicts import METRIC_NAMES

_MARKERS = "osD^v"


def corruption_examples(pictures: Mapping[str, Sequence[np.ndarray]], severities) -> Figure:
    """Show pictures by kind of damage, a column a kind, a row a severity; the intact one first.

    Parameters
    ----------
    pictures : mapping of str to sequence of (S, S, 3) uint8 arrays
        For each kind the intact picture and one a severity.
    severities : sequence of int
    """
    rows, columns = 1 + len(severities), len(pictures)
    figure, axes = subplots(
        rows, columns, figsize=(WIDTH, 0.4 + rows * WIDTH / columns), squeeze=False
    )
    names = ["intact", *(f"severity {severity}" for severity in severities)]
    for line, (kind, column) in zip(axes.T, pictures.items(), strict=True):
        for ax, picture, name in zip(line, column, names, strict=True):
            ax.imshow(picture)
            ax.set(xticks=[], yticks=[])
            sns.despine(ax=ax, left=True, bottom=True)
            if ax.get_subplotspec().is_first_col():
                ax.set_ylabel(name, fontsize=11)
        line[0].set_title(kind, fontsize=11)
    return figure


def _dots(ax: Axes, rows: pd.DataFrame, names: Sequence, systems: Sequence[str], y: str) -> None:
    """Draw `difference` with its interval for every name and system; filled where it stands."""
    ax.axvline(0, color="black", lw=1.2, zorder=1)
    spread = np.linspace(-0.24, 0.24, len(systems)) if len(systems) > 1 else [0.0]
    for place, (system, shift) in enumerate(zip(systems, spread, strict=True)):
        chosen = rows[rows["system"] == system].set_index(y).reindex(names)
        at = np.arange(len(names)) + shift
        colour, stands = PALETTE[place], (chosen["p_holm"] < 0.05).to_numpy()
        ax.hlines(at, chosen["low"], chosen["high"], color=colour, lw=2, alpha=0.7)
        for which, face in ((stands, colour), (~stands, "white")):
            ax.plot(
                chosen["difference"][which], at[which], _MARKERS[place], color=colour, mfc=face,
                ms=5.5,
            )  # fmt: skip
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.grid(axis="x")
    ax.set_yticks(range(len(names)))
    sns.despine(ax=ax, left=True)
    ax.tick_params(axis="y", length=0)


def _legend(figure: Figure, systems: Sequence[str], filled: str) -> None:
    handles = [
        Line2D([], [], color=PALETTE[i], marker=_MARKERS[i], ms=6, label=system)
        for i, system in enumerate(systems)
    ]
    handles.append(
        Line2D([], [], color=NEUTRAL, marker="o", mfc="white", ls="", ms=6, label=filled)
    )
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))


def damage_scores(
    scores: pd.DataFrame, lesions: str = "all", metrics: Sequence[str] = ("macro_auc", "nll")
) -> Figure:
    """Draw what each damage costs each system: differences from its own intact prediction.

    Parameters
    ----------
    scores : DataFrame
        Table ``scores`` of :func:`jiadf.studies.robustness.study`.
    lesions : {"all", "sample"}
        Damage to cached inputs, or corrupted pictures.
    metrics : sequence of str
        A panel each.
    """
    rows = scores[(scores["lesions"] == lesions) & (scores["kind"] != "intact")]
    rows = rows[~rows["system"].str.endswith("held")]  # no system of its own
    if rows.empty:
        raise ValueError(f"no damage to {lesions!r} lesions in this table")
    names, systems = list(dict.fromkeys(rows["name"])), list(dict.fromkeys(rows["system"]))
    figure, axes = subplots(
        1, len(metrics), figsize=(WIDTH, 1.3 + 0.36 * len(names)), squeeze=False
    )
    for ax, metric in zip(axes[0], metrics, strict=True):
        _dots(ax, rows[rows["metric"] == metric], names, systems, "name")
        ax.set_yticklabels(names if ax is axes[0][0] else [""] * len(names))
        ax.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
        ax.set_xlabel(f"change of {METRIC_NAMES.get(metric, metric)}")
    _legend(figure, systems, "hollow: could be chance")
    return figure


def gate_reaction(gate: pd.DataFrame, lesions: str = "all") -> Figure:
    """Draw how the weight of the damaged branch changes; to the left is away from the damage.

    Parameters
    ----------
    gate : DataFrame
        Table ``gate`` of :func:`jiadf.studies.robustness.study`.
    lesions : {"all", "sample"}
    """
    rows = gate[(gate["lesions"] == lesions) & (gate["branch"] == gate["damaged"])]
    if rows.empty:
        raise ValueError(f"no damage to {lesions!r} lesions in this table")
    rows = rows.rename(columns={"change": "difference"})
    names, systems = list(dict.fromkeys(rows["name"])), list(dict.fromkeys(rows["system"]))
    streams = rows.drop_duplicates("name").set_index("name")["damaged"]
    figure, ax = subplots(figsize=(WIDTH, 1.3 + 0.36 * len(names)))
    _dots(ax, rows, names, systems, "name")
    ax.set_yticklabels([f"{name}  ({streams[name]} branch)" for name in names])
    ax.set_xlabel("change of the damaged branch's mean weight")
    _legend(figure, systems, "hollow: could be chance")
    return figure


def slice_scores(slices: pd.DataFrame, metrics: Sequence[str]) -> Figure:
    """Draw every slice's scores with intervals; hollow and grey where it is too small to tell.

    Parameters
    ----------
    slices : DataFrame
        The answer of :func:`jiadf.slices.compare_slices`.
    metrics : sequence of str
        A panel each.
    """
    keys = slices[["attribute", "value"]].drop_duplicates().to_records(index=False).tolist()
    gaps, at, previous = 0.0, [], keys[0][0]
    for place, (attribute, _) in enumerate(keys):
        gaps += 0.6 * (attribute != previous)
        previous = attribute
        at.append(place + gaps)
    at = np.array(at)
    figure, axes = subplots(1, len(metrics), figsize=(WIDTH, 0.9 + 0.27 * at[-1]), squeeze=False)
    for ax, metric in zip(axes[0], metrics, strict=True):
        rows = slices[slices["metric"] == metric].set_index(["attribute", "value"]).loc[keys]
        large = rows["large_enough"].to_numpy(bool)
        stands = (rows["p_holm"] < 0.05).to_numpy()
        for which, colour, face in (
            (~large, "0.6", "white"), (large & ~stands, PALETTE[0], PALETTE[0]),
            (stands, PALETTE[1], PALETTE[1]),
        ):  # fmt: skip
            ax.hlines(at[which], rows["low"][which], rows["high"][which], color=colour, lw=2)
            marker = "D" if face == PALETTE[1] else "o"
            ax.plot(rows["score"][which], at[which], marker, color=colour, mfc=face, ms=5.5)
        ax.set_ylim(at[-1] + 0.6, -0.6)
        ax.set_yticks(at, [""] * len(at))
        ax.set_xlabel(metric)
        ax.set_xlim(right=1.01)
        ax.grid(axis="x")
        sns.despine(ax=ax, left=True)
        ax.tick_params(axis="y", length=0)
    counts = slices.drop_duplicates(["attribute", "value"])
    names = [f"{r.attribute}: {r.value}  ({r.lesions:,})" for r in counts.itertuples()]
    axes[0][0].set_yticklabels(names, fontsize=9)
    handles = [
        Line2D([], [], color=PALETTE[0], marker="o", ms=6, label="large enough"),
        Line2D([], [], color=PALETTE[1], marker="D", ms=6, label="gap to the rest stands"),
        Line2D([], [], color="0.6", marker="o", mfc="white", ms=6, label="too small to tell"),
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=3)
    return figure

"""Explanation cards: what a run's network says of single lesions, and why, ready to be drawn.

cards = make_cards(run, lesions, ids)
plots.explanation_card(cards[0])
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from jiadf.data.image_cache import decode
from jiadf.data.metadata import MetadataEncoder
from jiadf.data.schema import CLASSES
from jiadf.explanation.explain import (
    FUSED,
    average_lesion,
    by_field,
    contributions,
    feature_maps,
    grad_cam,
    open_network,
)
from jiadf.plots.explain import Card
from jiadf.training.run_folder import Run


def make_cards(
    run: Run,
    lesions: pd.DataFrame,
    chosen: Sequence[str],
    output: str = FUSED,
    explained: str | None = None,
    outlines: dict[str, np.ndarray] | None = None,
) -> list[Card]:
    """Explain some lesions of a table.

    Parameters
    ----------
    run
        A finished run of either regime that uses at least one picture.
    lesions
        The table that the run was trained on: its training part is what contributions of the
        metadata are measured from. Of other tables the whole is.
    chosen
        ``lesion_id`` of the lesions to explain.
    output
        ``fused``, or the name of a branch.
    explained
        Class to explain; None: each lesion's most probable one.
    outlines
        Where each chosen lesion is, by stream, bool (n, S, S), as from
        :func:`jiadf.data.masks.lesion_masks`.

    Raises
    ------
    jiadf.explanation.explain.ExplanationError
        If the run sees no picture or has no such output.
    ValueError
        If ``explained`` is no class.
    KeyError
        If the table lacks a lesion.
    """
    if explained is not None and explained not in CLASSES:
        raise ValueError(f"explained is {explained!r}: choose one of {', '.join(CLASSES)}")
    rows = lesions.loc[list(chosen)]
    model = open_network(run)
    size = run.parameters.image_size
    pictures = {
        name: np.stack([decode(path, size) for path in rows[f"{name}_path"]])
        for name in model.streams
    }
    encoder = MetadataEncoder.from_json(run.text("encoder.json"), Path(run.path) / "encoder.json")
    metadata = encoder.transform(rows)
    maps = feature_maps(model, pictures)
    with torch.no_grad():
        features = model.features(maps)
        said = model.decide(features, torch.from_numpy(metadata))
    posterior = said.log_posterior.double().softmax(-1).numpy()
    classes = posterior.argmax(1)
    if explained is not None:
        classes = np.full(len(rows), CLASSES.index(explained))
    heat = grad_cam(model, maps, metadata, classes, output, size)
    parts = run.predictions["split"].reindex(lesions.index)
    known = lesions[parts == "train"] if (parts == "train").any() else lesions
    baseline = average_lesion(model, features, encoder.transform(known))
    given = contributions(model, features, metadata, baseline, classes, output)
    fields = by_field(given["metadata"], encoder.columns)
    if "M" not in model.network.config.modalities:
        fields = fields.iloc[:, :0]
    cards = []
    for n in range(len(rows)):
        sources = {f"{name} picture": float(given[name][n]) for name in model.streams}
        if fields.shape[1]:
            sources["all metadata"] = float(given["metadata"][n].sum())
        values = {_with_value(f, rows.iloc[n]): float(v) for f, v in fields.iloc[n].items()}
        gate = None
        if said.weights is not None:
            gate = dict(zip(said.logits, said.weights[n].tolist(), strict=True))
        cards.append(
            Card(
                explained=CLASSES[classes[n]],
                probability=dict(zip(CLASSES, posterior[n].tolist(), strict=True)),
                pictures={name: pictures[name][n] for name in model.streams},
                maps={name: heat[name][n] for name in model.streams},
                sources=sources,
                metadata=values,
                weights=gate,
                truth=rows["label"].iloc[n] if "label" in rows else None,
                outlines=outlines and {name: outlines[name][n] for name in model.streams},
            )
        )
    return cards


def _with_value(field: str, lesion: pd.Series) -> str:
    """Name a field with the lesion's own value, where it has a short one."""
    column = {"age": "age_approx", "skin tone": "skin_tone_class"}.get(field, field)
    if column not in lesion:
        return field
    value = lesion[column]
    if pd.isna(value):
        return f"{field}: missing"
    return (
        f"{field}: {value:g}"
        if isinstance(value, (int, float))
        else f"{field}: {str(value).replace('_', ' ')}"
    )

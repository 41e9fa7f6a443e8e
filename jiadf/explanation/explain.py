"""What a network says of each lesion and what moved it: all that a card shows.

    >>> lesions = read_sample().head(2)  # doctest: +SKIP
    >>> explained = explain(model, lesions, model.inputs(lesions))  # doctest: +SKIP
    >>> explained[0].prediction, explained[0].contributions  # doctest: +SKIP

Heat maps are of :mod:`jiadf.explanation.grad_cam`, contributions of
:mod:`jiadf.explanation.attribution`, both of the class that the network predicts. A lesion may lack
whatever it may lack to be predicted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from jiadf.data.batches import Inputs
from jiadf.data.metadata import MONET_COLUMNS
from jiadf.data.open_image import ImageSource
from jiadf.data.schema import LESION_COLUMNS
from jiadf.explanation.attribution import by_field, field_of, integrated_gradients
from jiadf.explanation.grad_cam import grad_cam
from jiadf.explanation.network import ExplainableNetwork, feature_maps
from jiadf.model import Model
from jiadf.submission.lesion_prediction import LesionPrediction, lesion_prediction
from jiadf.submission.own_images import OwnLesions

_COLUMNS = {field_of(column): column for column in (*LESION_COLUMNS, *MONET_COLUMNS)}
_COLUMNS["age"] = "age_approx"


@dataclass(frozen=True, eq=False)
class Explanation:
    """One lesion, what the network says of it, and why.

    Attributes
    ----------
    images, heat
        By ``clinical`` and ``dermoscopic``, those that it has and the network reads: the file, or
        if there is none what the network sees, uint8 (S, S, 3); and its heat map (h, w), 0 to 1.
    start, contributions
        The predicted class's probability if everything is missing, and what moved its log
        probability from there, by name, the largest first, without what moved nothing.
    """

    lesion_id: str
    prediction: LesionPrediction
    images: Mapping[str, ImageSource]
    heat: Mapping[str, np.ndarray]
    start: float
    contributions: pd.Series


def explain(model: Model, lesions: pd.DataFrame, inputs: Inputs) -> list[Explanation]:
    """Explain the predicted class of each lesion.

    `inputs` are what the network sees of `lesions`: ``model.inputs(lesions)``, or
    ``model.own_inputs``. A network that cannot be explained is a
    :class:`jiadf.explanation.network.ExplanationError`.
    """
    network = ExplainableNetwork(model.network)
    prediction = model.predict_inputs(inputs)
    classes = prediction.posterior.argmax(1)
    lacks = np.stack([inputs.missing[name] for name in network.streams], axis=1)  # (N, streams)
    explained: dict[int, Explanation] = {}
    for pattern in np.unique(lacks, axis=0):
        rows = np.flatnonzero((lacks == pattern).all(axis=1))
        present = [n for n, lacks_it in zip(network.streams, pattern, strict=True) if not lacks_it]
        heat, start, contributions = _causes(network, model, inputs, present, rows, classes[rows])
        for place, row in enumerate(rows):
            lesion = lesions.iloc[row]
            missing = {name: inputs.missing[name][[row]] for name in network.streams}
            lacking = OwnLesions(lesions.iloc[[row]], {}, missing).lacking()
            paths = {name: lesion[f"{name}_path"] for name in present}
            explained[row] = Explanation(
                lesion_id=str(lesions.index[row]),
                prediction=lesion_prediction(prediction, row, tuple(lacking)),
                images={
                    name: path if isinstance(path, str) else inputs.streams[name][row]
                    for name, path in paths.items()
                },
                heat={name: maps[place] for name, maps in heat.items()},
                start=float(start[place]),
                contributions=_ordered(contributions.iloc[place], lesion),
            )
    return [explained[row] for row in range(len(lesions))]


def _causes(
    network: ExplainableNetwork,
    model: Model,
    inputs: Inputs,
    present: list[str],
    rows: np.ndarray,
    classes: np.ndarray,
) -> tuple[dict[str, np.ndarray], np.ndarray, pd.DataFrame]:
    """Return heat maps, start and contributions of lesions that have the images `present`."""
    metadata = np.where(inputs.missing["metadata"][rows, None], 0, inputs.metadata[rows])
    maps = feature_maps(network, {name: inputs.streams[name][rows] for name in present})
    heat = grad_cam(network, maps, metadata, classes)
    features = network.features(maps)
    shares = integrated_gradients(network, features, metadata, classes)
    table = by_field(shares["metadata"], model.encoder.columns)
    for place, name in enumerate(present):
        table.insert(place, f"{name} image", shares[name])
    with torch.no_grad():
        nothing = {name: value[:1] * 0 for name, value in features.items()}
        empty = network.decide(nothing, torch.zeros(1, metadata.shape[1]))
    return heat, empty.log_posterior.exp().numpy()[0, classes], table


def _ordered(contributions: pd.Series, lesion: pd.Series) -> pd.Series:
    """Return what moved the decision, the largest first, under names that tell the values."""
    moved = contributions[contributions != 0]
    moved = moved.sort_values(key=lambda sizes: -sizes.abs(), kind="stable")
    moved.index = [_with_value(name, lesion) for name in moved.index]
    return moved.rename("contribution")


def _with_value(name: str, lesion: pd.Series) -> str:
    """Add a field's value to its name: ``age 62``."""
    if name not in _COLUMNS:
        return name
    value = lesion[_COLUMNS[name]]
    if pd.isna(value):
        return f"{name}, not given"
    if isinstance(value, str):
        return f"{name} {value.replace('_', ' ')}"
    return f"{name} {value:.2f}" if name.startswith("MONET") else f"{name} {value:g}"

"""Attributions add up to what they explain, and fields to their columns."""

import numpy as np
import pytest
import torch

from jiadf.explanation.attribution import by_field, field_of, integrated_gradients


@pytest.mark.parametrize("output", ["fused", "image", "metadata", "joint"])
def test_attributions_add_up(packaged, classes, output):
    network, metadata = packaged.network, torch.from_numpy(packaged.metadata)
    given = integrated_gradients(network, packaged.features, packaged.metadata, classes, output)
    nothing = {name: torch.zeros_like(value) for name, value in packaged.features.items()}
    with torch.no_grad():
        here = network.scores(packaged.features, metadata, output)
        start = network.scores(nothing, torch.zeros_like(metadata), output)
    difference = (here - start)[np.arange(6), classes].numpy()
    total = sum(given[name] for name in network.streams) + given["metadata"].sum(1)
    np.testing.assert_allclose(total, difference, atol=5e-3)
    np.testing.assert_allclose(given["gap"], total - difference, atol=1e-4)
    assert given["clinical"].any() == (output != "metadata")
    assert given["metadata"].any() == (output != "image")


def test_the_baseline_is_what_the_network_takes_for_a_missing_lesion(model, inputs, packaged):
    none = np.ones(len(inputs), bool)
    missing = dict.fromkeys(("clinical", "dermoscopic", "metadata"), none)
    batch = {n: torch.from_numpy(p).permute(0, 3, 1, 2) for n, p in inputs.streams.items()}
    batch |= {f"{name}_missing": torch.from_numpy(rows) for name, rows in missing.items()}
    nothing = {name: torch.zeros_like(value) for name, value in packaged.features.items()}
    zeros = torch.zeros_like(torch.from_numpy(inputs.metadata))
    with torch.no_grad():
        told = model.network(batch | {"metadata": torch.from_numpy(inputs.metadata)})
        expected = packaged.network.decide(nothing, zeros)
    torch.testing.assert_close(told.log_posterior, expected.log_posterior)


def test_fields_hold_all_columns(model, rng):
    columns = model.encoder.columns
    values = rng.normal(size=(3, len(columns)))
    table = by_field(values, columns)
    np.testing.assert_allclose(table.sum(axis=1), values.sum(1))
    sites = [place for place, name in enumerate(columns) if name.startswith("site")]
    np.testing.assert_allclose(table["site"], values[:, sites].sum(1))
    assert field_of("dermoscopic_MONET_hair") == "MONET hair (dermoscopic)"
    assert field_of("age_missing") == "age"
    assert field_of("skin_tone_class=3") == "skin tone"

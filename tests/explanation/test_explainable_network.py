"""The opened network is the model itself, and says what it cannot open."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from jiadf.explanation.network import ExplanationError, feature_maps
from jiadf.training.predict import predict_inputs


def test_the_network_is_the_models_own_from_the_pixels_on(model, inputs, packaged):
    with torch.no_grad():
        output = packaged.network.decide(packaged.features, torch.from_numpy(packaged.metadata))
    expected = model.predict_inputs(inputs)
    np.testing.assert_allclose(output.log_posterior, expected.log_posterior, atol=1e-4)
    np.testing.assert_allclose(output.weights, expected.weights, atol=1e-5)
    assert packaged.network.outputs == ("fused", "image", "metadata", "joint")
    assert packaged.network.network is not model.network


def test_its_own_network_reads_the_encoded_features(model, inputs, packaged):
    streams = {n: packaged.network.encode(n, pixels) for n, pixels in inputs.streams.items()}
    encoded = replace(inputs, streams=streams)
    found = predict_inputs(packaged.network.network, encoded, model.parameters)
    expected = model.predict_inputs(inputs)
    np.testing.assert_allclose(found.log_posterior, expected.log_posterior, atol=1e-4)
    np.testing.assert_allclose(found.weights, expected.weights, atol=1e-5)


def test_maps_of_many_lesions_are_those_of_one(packaged, inputs):
    many = {name: np.concatenate([pixels] * 6) for name, pixels in inputs.streams.items()}
    maps = feature_maps(packaged.network, many)  # more than one batch
    for name in packaged.network.streams:
        assert len(maps[name]) == 36
        torch.testing.assert_close(maps[name][-6:], packaged.maps[name], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modalities": "M"}, "reads no pixels"),
        ({"regime": "frozen", "backbone_weights": "auto"}, "reads no pixels"),
        ({"method": "caffm"}, "method=ji-adf"),
    ],
)
def test_what_cannot_be_opened_is_named(untrained, changes, message):
    with pytest.raises(ExplanationError, match=message):
        untrained(**changes)


def test_a_backbone_without_feature_maps_is_refused(untrained, inputs):
    case = untrained(modalities="D")
    backbone = case.network.backbones["dermoscopic"].backbone
    backbone.forward_features = lambda images: torch.zeros(len(images), 5, 8)
    with pytest.raises(ExplanationError, match="needs a convolutional backbone"):
        feature_maps(case.network, {"dermoscopic": inputs.streams["dermoscopic"]})

"""A trained network of real lesions to explain, and untrained ones of other designs."""

from types import SimpleNamespace

import numpy as np
import pytest

import jiadf
from jiadf.config import make_parameters
from jiadf.data.sample import read_sample
from jiadf.explanation.network import ExplainableNetwork, feature_maps
from jiadf.training.network import build_network


def explained(network, inputs):
    network = ExplainableNetwork(network)
    maps = feature_maps(network, {name: inputs.streams[name] for name in network.streams})
    return SimpleNamespace(
        network=network, maps=maps, features=network.features(maps), metadata=inputs.metadata
    )


@pytest.fixture(scope="session")
def model():
    return jiadf.load_model(device="cpu")


@pytest.fixture(scope="session")
def inputs(model):
    return model.inputs(read_sample().groupby("label").head(1).head(6))


@pytest.fixture(scope="session")
def packaged(model, inputs):
    return explained(model.network, inputs)


@pytest.fixture(scope="session")
def classes(model, inputs):
    return model.predict_inputs(inputs).posterior.argmax(1)


@pytest.fixture
def untrained(inputs):
    """Make an untrained network of some parameters, and what explains it."""

    def make(**changes):
        chosen = {"regime": "finetune", "device": "cpu", "backbone_weights": "random"} | changes
        return explained(
            build_network(make_parameters(chosen), inputs, pretrained=False).eval(), inputs
        )

    return make


@pytest.fixture
def rng():
    return np.random.default_rng(0)

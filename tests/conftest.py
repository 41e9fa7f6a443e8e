"""A small made MILK10k, written once a session, and runs trained on it."""

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from jiadf.config import make_parameters
from jiadf.data.read import read_lesions
from jiadf.models.encoders import ImageEncoder
from jiadf.training.inputs import prepare_inputs
from jiadf.training.predict import load_network, prediction_table
from jiadf.training.predict import predict_inputs as predict_by_network
from jiadf.training.trainer import train
from tests.made_lesions import make_lesions

TINY = {"image_size": 32, "feature_views": 2, "epochs": 3, "learning_rate": 1e-3, "device": "cpu"}


def predict_inputs(run, inputs, rows=None):
    """Predict inputs with a finished run's network."""
    return predict_by_network(load_network(run, inputs), inputs, run.parameters, rows)


def predict(run, lesions, cache_dir):
    """Predict a lesion table with a finished run's network."""
    inputs = prepare_inputs(lesions, run.encoder, run.parameters, cache_dir, progress=False)
    return prediction_table(lesions, predict_inputs(run, inputs))


@pytest.fixture(scope="session")
def milk10k(tmp_path_factory):
    """Folder of 110 made lesions with small images."""
    return make_lesions(tmp_path_factory.mktemp("data") / "milk10k", seed=1)


@pytest.fixture(scope="session")
def lesions(milk10k) -> pd.DataFrame:
    return read_lesions(milk10k)


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """Parameters of timm's miniature, a thirtieth of the default backbone, for what any shows."""
    file = tmp_path_factory.mktemp("weights") / "small.safetensors"
    torch.manual_seed(0)
    save_file(ImageEncoder("test_efficientnet", "random").backbone.state_dict(), file)
    return {"backbone": "test_efficientnet", "backbone_weights": str(file)}


@pytest.fixture(scope="session")
def tiny_parameters():
    """Make parameters of a run of a few seconds, with changes."""

    def make(**changes):
        return make_parameters(TINY | changes)

    return make


@pytest.fixture(scope="session")
def run(lesions, cache_dir, tiny_parameters, tmp_path_factory):
    """A finished run in the frozen regime, with a test fold."""
    folder = tmp_path_factory.mktemp("runs") / "frozen"
    return train(lesions, folder, tiny_parameters(test_fold=0), cache_dir, progress=False)

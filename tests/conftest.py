"""A small synthetic MILK10k, drawn once a session, and runs trained on it."""

import pandas as pd
import pytest

from jiadf.config import make_parameters
from jiadf.data.read import read_lesions
from jiadf.data.synth import synthesise
from jiadf.training.trainer import train

TINY = {"image_size": 32, "feature_views": 2, "epochs": 3, "learning_rate": 1e-3, "device": "cpu"}


@pytest.fixture(scope="session")
def milk10k(tmp_path_factory):
    """Folder of 110 synthetic lesions with small images."""
    folder = tmp_path_factory.mktemp("data") / "milk10k"
    synthesise(folder, lesions=110, seed=1, image_size=(96, 72))
    return folder


@pytest.fixture(scope="session")
def lesions(milk10k) -> pd.DataFrame:
    return read_lesions(milk10k)


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


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

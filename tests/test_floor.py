import numpy as np
import pytest

from jiadf.data.batches import Inputs
from jiadf.floor import linear_predictions


@pytest.fixture
def made():
    rng = np.random.default_rng(0)
    target = np.repeat(np.arange(3), 40)
    features = rng.normal(size=(120, 1, 6)).astype(np.float32)
    features[:, 0, :3] += 4 * np.eye(3)[target]
    metadata = rng.normal(size=(120, 2)).astype(np.float32)
    parts = np.tile(["train", "train", "val", "test"], 30)
    return Inputs({"clinical": features, "dermoscopic": features * 0}, metadata, target), parts


def test_separable_classes_are_told_apart_by_the_modality_that_shows_them(made):
    inputs, parts = made
    probabilities, strength = linear_predictions(inputs, parts, "C")
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert (probabilities[:, 3:] == 0).all()
    test = parts == "test"
    assert (probabilities.argmax(1) == inputs.target)[test].mean() > 0.9
    assert strength > 0
    blind, _ = linear_predictions(inputs, parts, "DM")
    assert (blind.argmax(1) == inputs.target)[test].mean() < 0.7


def test_test_lesions_are_not_looked_at(made):
    inputs, parts = made
    expected, strength = linear_predictions(inputs, parts)
    flipped = inputs.target.copy()
    flipped[parts == "test"] = 0
    changed = Inputs(inputs.streams, inputs.metadata, flipped)
    got, again = linear_predictions(changed, parts)
    assert strength == again
    np.testing.assert_array_equal(got, expected)

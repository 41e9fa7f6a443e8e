import numpy as np
import pytest

from jiadf.data.batches import Inputs
from jiadf.data.metadata import MetadataEncoder
from jiadf.explanation import perturbations as damage
from jiadf.training.inputs import prepare_inputs, targets
from tests.conftest import predict_inputs


@pytest.fixture(scope="module")
def encoder(lesions):
    return MetadataEncoder.fit(lesions)


@pytest.fixture(scope="module")
def inputs(lesions, encoder):
    rng = np.random.default_rng(0)
    streams = {
        name: rng.normal(size=(len(lesions), 2, 3)).astype(np.float32)
        for name in ("clinical", "dermoscopic")
    }
    return Inputs(streams, encoder.transform(lesions), targets(lesions))


def test_fields_make_up_the_whole_vector(encoder):
    places = [i for f in damage.FIELDS for i in damage.field_columns(encoder.columns, f)]
    assert sorted(places) == list(range(len(encoder.columns)))


@pytest.mark.parametrize(
    ("field", "columns"),
    [("age", ["age_approx"]), ("site", ["site"]), ("sex", ["sex"])],
)
def test_a_missing_field_is_encoded_as_an_empty_one(lesions, encoder, inputs, field, columns):
    emptied = lesions.copy()
    emptied[columns] = None
    found = damage.field_missing(inputs, encoder.columns, field).metadata
    np.testing.assert_array_equal(found, encoder.transform(emptied))


@pytest.mark.parametrize("name", ["clinical", "metadata"])
def test_nobody_keeps_its_own_in_a_swap(inputs, name):
    def array(of):
        return of.metadata if name == "metadata" else of.streams[name]

    changed = damage.of_another_lesion(inputs, name, seed=1)
    assert all(
        not np.array_equal(*pair) for pair in zip(array(changed), array(inputs), strict=True)
    )
    assert sorted(map(str, array(changed).tolist())) == sorted(map(str, array(inputs).tolist()))
    np.testing.assert_array_equal(changed.streams["dermoscopic"], inputs.streams["dermoscopic"])


def test_a_missing_image_is_its_training_mean_to_a_trained_network(run, lesions, cache_dir):
    own = prepare_inputs(lesions, run.encoder, run.parameters, cache_dir, progress=False)
    mean = run.weights()["image_encoders.clinical.mean"].numpy()
    array = np.broadcast_to(mean, own.streams["clinical"].shape).copy()
    at_mean = Inputs({**own.streams, "clinical": array}, own.metadata, own.target)
    said = predict_inputs(run, damage.without(own, ["clinical"])).posterior
    np.testing.assert_allclose(said, predict_inputs(run, at_mean).posterior, atol=1e-6)
    assert np.abs(said - predict_inputs(run, own).posterior).max() > 1e-4

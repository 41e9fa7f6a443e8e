import numpy as np
import pytest

from jiadf.data.batches import Inputs
from jiadf.data.metadata import MetadataEncoder
from jiadf.explanation import perturbations as damage
from jiadf.training.inputs import targets
from jiadf.training.predict import predict_inputs, run_inputs


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


@pytest.mark.parametrize("field", ["age", "site"])
def test_a_wrong_field_is_anothers_and_nothing_else_changes(encoder, inputs, field):
    changed = damage.field_wrong(inputs, encoder.columns, field, seed=3).metadata
    places = damage.field_columns(encoder.columns, field)
    others = np.setdiff1d(np.arange(inputs.metadata.shape[1]), places)
    np.testing.assert_array_equal(changed[:, others], inputs.metadata[:, others])
    assert (changed[:, places] != inputs.metadata[:, places]).any(axis=1).all()
    known = {tuple(row) for row in inputs.metadata[:, places]}
    assert {tuple(row) for row in changed[:, places]} <= known


def test_a_field_that_all_share_stays(encoder, inputs):
    metadata = np.tile(inputs.metadata[:1], (5, 1))
    alike = Inputs({}, metadata, np.zeros(5, dtype=np.int64))
    changed = damage.field_wrong(alike, encoder.columns, "age")
    np.testing.assert_array_equal(changed.metadata, metadata)


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


def test_exchanging_twice_restores(inputs):
    once = damage.exchanged(inputs)
    np.testing.assert_array_equal(once.streams["clinical"], inputs.streams["dermoscopic"])
    twice = damage.exchanged(once)
    np.testing.assert_array_equal(twice.streams["clinical"], inputs.streams["clinical"])


def test_a_missing_image_is_its_training_mean_to_a_trained_network(run, lesions, cache_dir):
    own = run_inputs(run, lesions, cache_dir, progress=False)
    mean = run.weights()["image_encoders.clinical.mean"].numpy()
    array = np.broadcast_to(mean, own.streams["clinical"].shape).copy()
    at_mean = Inputs({**own.streams, "clinical": array}, own.metadata, own.target)
    said = predict_inputs(run, damage.without(own, ["clinical"])).posterior
    np.testing.assert_allclose(said, predict_inputs(run, at_mean).posterior, atol=1e-6)
    assert np.abs(said - predict_inputs(run, own).posterior).max() > 1e-4


def test_corrupted_inputs_hold_the_chosen_lesions_alone(inputs):
    rows, images = np.array([7, 2]), np.ones((2, 1, 3), np.float32)
    found = damage.corrupted(inputs, "dermoscopic", rows, images)
    np.testing.assert_array_equal(found.streams["dermoscopic"], images)
    np.testing.assert_array_equal(found.streams["clinical"], inputs.streams["clinical"][rows, :1])
    np.testing.assert_array_equal(found.target, inputs.target[rows])


def test_a_balanced_sample_takes_what_rare_classes_have():
    target = np.repeat([0, 1, 2], [100, 3, 20])
    rows = damage.balanced_rows(target, 23, seed=1)
    assert np.bincount(target[rows]).tolist() == [10, 3, 10]
    assert np.all(np.diff(rows) > 0)
    np.testing.assert_array_equal(damage.balanced_rows(target, 999), np.arange(123))


def test_unknown_names_are_refused(inputs, encoder):
    with pytest.raises(ValueError, match="no modality \\['xray'\\]"):
        damage.without(inputs, ["xray"])
    with pytest.raises(ValueError, match="no field 'weight': choose one of age"):
        damage.field_missing(inputs, encoder.columns, "weight")

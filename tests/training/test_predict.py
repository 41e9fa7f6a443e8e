from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax

from jiadf.data.read import read_lesions
from jiadf.data.schema import CLASSES
from jiadf.training.inputs import prepare_inputs
from jiadf.training.trainer import train
from tests.conftest import predict, predict_inputs
from tests.made_lesions import make_lesions


def test_prediction_repeats_what_the_run_recorded(run, lesions, cache_dir):
    chosen = lesions.iloc[::-7]
    table = predict(run, chosen, cache_dir)
    recorded = run.predictions.loc[chosen.index]
    assert table.index.equals(chosen.index)
    np.testing.assert_allclose(table[list(CLASSES)], recorded[list(CLASSES)], atol=2e-5)
    names = ["weight_image", "weight_metadata", "weight_joint"]
    np.testing.assert_allclose(table[names], recorded[names], atol=2e-5)


def test_a_trained_run_finds_its_images_and_features_in_the_caches(
    run, lesions, cache_dir, monkeypatch
):
    monkeypatch.setattr("jiadf.training.features._extract", pytest.fail)
    monkeypatch.setattr("jiadf.data.cache.decode", None)
    assert len(predict(run, lesions, cache_dir)) == len(lesions)


def test_finetune_run_with_a_shared_backbone(lesions, small, cache_dir, tiny_parameters, tmp_path):
    parameters = tiny_parameters(**small, regime="finetune", epochs=1, share_backbone=True)
    few = lesions.groupby("label").head(3)
    run = train(few, tmp_path / "r", parameters, cache_dir, progress=False)
    table = predict(run, few, cache_dir)
    recorded = run.predictions[list(CLASSES)]
    np.testing.assert_allclose(table[list(CLASSES)], recorded, atol=1e-4)


def test_the_test_part_has_no_labels_and_needs_none(run, cache_dir, tmp_path):
    lesions = read_lesions(make_lesions(tmp_path / "test", 12, part="test"))
    table = predict(run, lesions, cache_dir)
    assert table.shape == (12, 14)
    assert table.index.equals(lesions.index)


def test_branches_mixed_by_their_weights_give_the_posterior(run, lesions, cache_dir):
    inputs = prepare_inputs(lesions, run.encoder, run.parameters, cache_dir, progress=False)
    said = predict_inputs(run, inputs)
    assert list(said.logits) == ["image", "metadata", "joint"]
    branches = np.stack([softmax(logits, axis=1) for logits in said.logits.values()], axis=1)
    mixed = (said.weights[:, :, None] * branches).sum(1)
    np.testing.assert_allclose(mixed, said.posterior, atol=1e-6)


def test_changed_inputs_change_the_prediction_of_their_lesion_only(run, lesions, cache_dir):
    inputs = prepare_inputs(lesions, run.encoder, run.parameters, cache_dir, progress=False)
    metadata = inputs.metadata.copy()
    metadata[3] += 5
    before, after = (
        predict_inputs(run, inputs),
        predict_inputs(run, replace(inputs, metadata=metadata)),
    )
    changed = np.abs(before.posterior - after.posterior).max(axis=1) > 1e-6
    assert list(np.flatnonzero(changed)) == [3]

"""Ensembles and views: means of posteriors, and runs that cannot predict told all at once."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from jiadf.data.schema import CLASSES
from jiadf.submission.ensemble import find_runs, predict_ensemble
from jiadf.training.inputs import prepare_inputs
from jiadf.training.predict import TURNED_VIEWS, prediction_table, turned
from jiadf.training.run_folder import Run, RunError
from jiadf.training.trainer import train
from tests.conftest import predict_inputs

NAMES = list(CLASSES)


@pytest.fixture(scope="module")
def others(lesions, small, cache_dir, tiny_parameters, tmp_path_factory):
    """Another seed, a run without images, and a finetuned one."""
    folder = tmp_path_factory.mktemp("others")
    changes = {
        "seed1": {"seed": 1, "test_fold": 0, "epochs": 1},
        "metadata": {"modalities": "M", "epochs": 1},
        "finetune": small | {"regime": "finetune", "epochs": 1, "share_backbone": True},
    }
    few = lesions.groupby("label").head(3)
    return {
        name: train(
            few if name == "finetune" else lesions,
            folder / name,
            tiny_parameters(**change),
            cache_dir,
            progress=False,
        )
        for name, change in changes.items()
    }


def test_the_eight_views_of_an_image_are_all_different_and_keep_its_pixels():
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    views = [turned(images, view) for view in range(TURNED_VIEWS)]
    np.testing.assert_array_equal(views[0], images)
    assert len({view.tobytes() for view in views}) == 8
    pixels = {tuple(pixel) for pixel in images[1].reshape(-1, 3).tolist()}
    for view in views:
        assert np.shares_memory(view, images)
        assert {tuple(pixel) for pixel in view[1].reshape(-1, 3).tolist()} == pixels


def test_one_run_and_one_view_is_what_the_network_says(run, lesions, cache_dir):
    chosen = lesions.iloc[::-9]
    one = predict_ensemble([run], lesions, cache_dir, only=list(chosen.index), progress=False)
    inputs = prepare_inputs(lesions, run.encoder, run.parameters, cache_dir, progress=False)
    rows = lesions.index.get_indexer(chosen.index)
    plain = prediction_table(chosen, predict_inputs(run, inputs, rows))
    pd.testing.assert_frame_equal(one, plain, atol=1e-12, check_dtype=False)


def test_an_ensemble_is_the_mean_of_its_members(run, others, lesions, cache_dir):
    members = [run, others["seed1"]]
    whole = predict_ensemble(members, lesions, cache_dir, progress=False)
    one, other = (predict_ensemble([m], lesions, cache_dir, progress=False) for m in members)
    np.testing.assert_allclose(whole, (one + other) / 2, atol=1e-12)
    assert [name for name in whole if name.startswith("weight_")]


def test_cached_views_are_averaged_and_the_first_is_the_image(run, lesions, cache_dir):
    inputs = prepare_inputs(
        lesions, run.encoder, run.parameters, cache_dir, views=2, progress=False
    )
    second = {name: array[:, 1:] for name, array in inputs.streams.items()}
    views = [predict_inputs(run, i) for i in (inputs, replace(inputs, streams=second))]
    first, other = (view.posterior for view in views)
    assert np.abs(first - other).max() > 1e-4
    table = predict_ensemble([run], lesions, cache_dir, views=2, progress=False)
    np.testing.assert_allclose(table[NAMES], (first + other) / 2, atol=1e-7)


def test_a_finetuned_network_sees_turned_images(others, lesions, cache_dir):
    run, few = others["finetune"], lesions.groupby("label").head(2)
    inputs = prepare_inputs(few, run.encoder, run.parameters, cache_dir, progress=False)
    turn = {n: np.rot90(a, 1, axes=(1, 2)).copy() for n, a in inputs.streams.items()}
    views = [predict_inputs(run, i) for i in (inputs, replace(inputs, streams=turn))]
    first, other = (view.posterior for view in views)
    assert np.abs(first - other).max() > 1e-5
    table = predict_ensemble([run], few, cache_dir, views=2, progress=False)
    np.testing.assert_allclose(table[NAMES], (first + other) / 2, atol=1e-5)
    with pytest.raises(ValueError, match="views is 9"):
        predict_ensemble([run], few, cache_dir, views=9, progress=False)


def test_a_run_without_images_has_one_view_and_still_one_vote(run, others, lesions, cache_dir):
    members = [run, others["metadata"]]
    both = predict_ensemble(members, lesions, cache_dir, views=2, progress=False)
    of_run = predict_ensemble([run], lesions, cache_dir, views=2, progress=False)
    of_metadata = predict_ensemble(members[1:], lesions, cache_dir, progress=False)
    assert list(both) == NAMES  # other branches, so no common weights
    np.testing.assert_allclose(both, (of_run[NAMES] + of_metadata[NAMES]) / 2, atol=1e-12)


def test_runs_are_found_in_a_folder_of_them(run, others):
    folder = others["seed1"].path.parent
    assert find_runs([folder]) == [Run(folder / n) for n in ("finetune", "metadata", "seed1")]
    assert find_runs([run.path, others["seed1"].path]) == [run, others["seed1"]]


def test_every_run_that_cannot_predict_is_named(run, tmp_path):
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.yaml").write_text("seed: 0\n")
    (tmp_path / "empty").mkdir()
    paths = [run.path, run.path, tmp_path / "begun", tmp_path / "empty", tmp_path / "none"]
    with pytest.raises(RunError) as caught:
        find_runs(paths)
    told = str(caught.value)
    for part in ("given twice", "begun: not finished", "empty: holds no run", "none: no such"):
        assert part in told

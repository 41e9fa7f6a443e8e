"""Ensembles and views: means of posteriors, and runs that cannot predict told all at once."""

from dataclasses import replace

import numpy as np
import pytest

from jiadf.data.schema import CLASSES
from jiadf.submission.ensemble import (
    TURNED_VIEWS,
    find_runs,
    mean_posterior,
    predict_ensemble,
    predict_views,
    turned,
    useful_views,
)
from jiadf.training.predict import predict, predict_inputs, run_inputs
from jiadf.training.run_folder import Run, RunError
from jiadf.training.trainer import train

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


def test_the_eight_views_of_a_picture_are_all_different_and_keep_its_pixels():
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    views = [turned(images, view) for view in range(TURNED_VIEWS)]
    np.testing.assert_array_equal(views[0], images)
    assert len({view.tobytes() for view in views}) == 8
    pixels = {tuple(pixel) for pixel in images[1].reshape(-1, 3).tolist()}
    for view in views:
        assert np.shares_memory(view, images)
        assert {tuple(pixel) for pixel in view[1].reshape(-1, 3).tolist()} == pixels
    with pytest.raises(ValueError, match="view is 8"):
        turned(images, 8)


def test_one_run_and_one_view_is_what_predict_says(run, lesions, cache_dir):
    chosen = list(lesions.index[::-9])
    one = predict_ensemble([run], lesions, cache_dir, only=chosen, progress=False)
    plain = predict(run, lesions, cache_dir, only=chosen, progress=False)
    assert list(one.columns) == list(plain.columns)
    np.testing.assert_allclose(one, plain, atol=1e-12)
    assert list(one.index) == chosen


def test_an_ensemble_is_the_mean_of_its_members(run, others, lesions, cache_dir):
    members = [run, others["seed1"]]
    whole = predict_ensemble(members, lesions, cache_dir, progress=False)
    each = [predict(member, lesions, cache_dir, progress=False) for member in members]
    np.testing.assert_allclose(whole, (each[0] + each[1]) / 2, atol=1e-12)
    np.testing.assert_allclose(whole[NAMES].sum(axis=1), 1)
    assert [name for name in whole if name.startswith("weight_")]


def test_members_with_other_branches_have_no_common_weights(run, others, lesions, cache_dir):
    table = predict_ensemble([run, others["metadata"]], lesions, cache_dir, progress=False)
    assert list(table.columns) == NAMES


def test_cached_views_are_averaged_and_the_first_is_the_picture(run, lesions, cache_dir):
    inputs = run_inputs(run, lesions, cache_dir, views=2, progress=False)
    views = predict_views(run, inputs, 2)
    plain = predict_inputs(run, inputs).posterior
    np.testing.assert_allclose(views[0].posterior, plain, atol=1e-7)
    assert np.abs(views[1].posterior - plain).max() > 1e-4
    second = {name: array[:, 1:] for name, array in inputs.streams.items()}
    np.testing.assert_array_equal(
        views[1].posterior, predict_inputs(run, replace(inputs, streams=second)).posterior
    )
    table = predict_ensemble([run], lesions, cache_dir, views=2, progress=False)
    np.testing.assert_allclose(table[NAMES], mean_posterior(views), atol=1e-12)


def test_a_finetuned_network_sees_turned_pictures(others, lesions, cache_dir):
    run, small = others["finetune"], lesions.groupby("label").head(2)
    inputs = run_inputs(run, small, cache_dir, progress=False)
    views = predict_views(run, inputs, 3)
    turn = {n: np.rot90(a, 2, axes=(1, 2)).copy() for n, a in inputs.streams.items()}
    by_hand = predict_inputs(run, replace(inputs, streams=turn)).posterior
    np.testing.assert_allclose(views[2].posterior, by_hand, atol=1e-5)
    assert np.abs(views[2].posterior - views[0].posterior).max() > 1e-5


def test_a_run_without_pictures_has_one_view_and_still_one_vote(run, others, lesions, cache_dir):
    assert useful_views(others["metadata"].parameters, 5) == 1
    assert useful_views(run.parameters, 5) == 5
    both = predict_ensemble([run, others["metadata"]], lesions, cache_dir, views=2, progress=False)
    of_run = predict_ensemble([run], lesions, cache_dir, views=2, progress=False)
    of_metadata = predict(others["metadata"], lesions, cache_dir, progress=False)
    np.testing.assert_allclose(both, (of_run[NAMES] + of_metadata[NAMES]) / 2, atol=1e-12)


def test_numbers_of_views_that_make_no_sense_are_refused(run, others, lesions):
    for member, views in ((run, 0), (others["finetune"], 9)):
        with pytest.raises(ValueError, match="views is"):
            useful_views(member.parameters, views)
    with pytest.raises(ValueError, match="at least one run"):
        predict_ensemble([], lesions)


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
    with pytest.raises(RunError, match="no run was named"):
        find_runs([])

import numpy as np
import pytest
import torch

from jiadf.data.image_cache import cache_images
from jiadf.models.encoders import ImageEncoder
from jiadf.training import features
from jiadf.training.features import (
    FirstStages,
    OtherStages,
    PixelViews,
    Standardise,
    cached_views,
    frozen_features,
    view_of,
)


@pytest.fixture(scope="module")
def images(lesions, cache_dir):
    return cache_images(lesions["clinical_path"].iloc[:40], 32, cache_dir, progress=False)


@pytest.fixture(scope="module")
def encoder():
    return ImageEncoder()


def direct(images, encoder, view, seed=0):
    with torch.inference_mode():
        pixels = view_of(images, range(len(images)), view, seed)
        return encoder.eval()(encoder.normalise(pixels)).numpy()


def test_features_are_those_of_the_backbone(images, encoder, tmp_path):
    table = frozen_features(images, encoder, 2, cache_dir=tmp_path, batch_size=7, progress=False)
    assert table.shape == (40, 2, 1280)
    assert table.dtype == np.float32
    for view in (0, 1):
        np.testing.assert_allclose(
            table[:, view], direct(images, encoder, view), rtol=1e-3, atol=1e-4
        )
    assert np.abs(table[:, 0] - table[:, 1]).max() > 0.1


def test_more_views_and_a_second_call_reuse_what_is_there(images, encoder, tmp_path, monkeypatch):
    one = frozen_features(images, encoder, 1, cache_dir=tmp_path, progress=False)
    calls = []
    extract = features._extract
    monkeypatch.setattr(features, "_extract", lambda *a: (calls.append(a[1]), extract(*a))[1])
    two = frozen_features(images, encoder, 2, cache_dir=tmp_path, progress=False)
    assert calls == [1]
    np.testing.assert_array_equal(two[:, 0], one[:, 0])
    frozen_features(images, encoder, 2, cache_dir=tmp_path, progress=False)
    assert len(calls) == 1


def test_other_features_of_the_same_weights_are_other_files(images, encoder, tmp_path):
    pooled = frozen_features(images, encoder, cache_dir=tmp_path, progress=False)
    stages = frozen_features(
        images, ImageEncoder(features="stages"), cache_dir=tmp_path, progress=False
    )
    assert stages.shape[2] == 2 * (112 + 320) != pooled.shape[2]
    assert len(list(tmp_path.rglob("*.npy"))) == 2


def test_other_weights_are_other_features(images, tmp_path):
    torch.manual_seed(0)
    first = frozen_features(
        images, ImageEncoder(weights="random"), cache_dir=tmp_path, progress=False
    )
    second = frozen_features(
        images, ImageEncoder(weights="random"), cache_dir=tmp_path, progress=False
    )
    assert not np.array_equal(first, second)


def test_an_interrupted_extraction_goes_on(images, encoder, tmp_path, monkeypatch):
    monkeypatch.setattr("jiadf.data.array_cache._NOTE_SECONDS", 0)
    seen = []

    class Dies(ImageEncoder):
        def forward(self, x):
            seen.append(len(x))
            if len(seen) == 6:
                raise KeyboardInterrupt
            return super().forward(x)

    with pytest.raises(KeyboardInterrupt):
        frozen_features(images, Dies(), cache_dir=tmp_path, batch_size=5, progress=False)
    resumed = frozen_features(images, Dies(), cache_dir=tmp_path, batch_size=5, progress=False)
    assert sum(seen[6:]) == 15  # five of eight batches had been noted
    np.testing.assert_allclose(resumed[:, 0], direct(images, encoder, 0), rtol=1e-3, atol=1e-4)


def test_stages_one_after_the_other_are_the_whole_backbone(images, encoder, tmp_path):
    """In files too, and the first stages' files serve encoders that differ in the others."""
    staged = ImageEncoder(frozen_stages=3)
    options = {"cache_dir": tmp_path, "batch_size": 7, "progress": False}
    first = cached_views(PixelViews(images), FirstStages(staged), 2, **options)
    assert first.shape == (40, 2, 4, 4, 40)  # stride 8
    assert first.dtype == np.float16
    rows, views = np.array([3, 0, 39]), np.array([1, 0, 1])
    picked = first[rows, views]
    for i in range(3):
        np.testing.assert_array_equal(picked[i], first.arrays[views[i]][rows[i]])
    for view in (0, 1):
        whole = direct(images, encoder, view)
        found = cached_views(first, OtherStages(staged), 2, **options).arrays[view]
        assert np.abs(found - whole).max() < 0.02 * np.abs(whole).max()  # float16 between them
    files = set(tmp_path.rglob("*.npy"))
    other = ImageEncoder(frozen_stages=3)
    torch.nn.init.normal_(other.backbone.conv_head.weight)
    again = cached_views(PixelViews(images), FirstStages(other), 2, **options)
    assert again.keys == first.keys
    cached_views(again, OtherStages(other), 1, **options)
    assert len(set(tmp_path.rglob("*.npy")) - files) == 1


def test_standardise_uses_the_training_statistics_and_survives_constants():
    data = torch.randn(50, 4) * 3 + 2
    data[:, 0] = 7.0
    scaled = Standardise(4).fit(data)(data)
    torch.testing.assert_close(scaled[:, 1:].mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled[:, 1:].std(0), torch.ones(3))
    assert torch.equal(scaled[:, 0], torch.zeros(50))


def test_a_feature_that_is_silent_in_training_does_not_explode():
    data = torch.rand(50, 9)
    data[:, 0] = 0.0
    unseen = torch.ones(1, 9)
    assert Standardise(9).fit(data)(unseen).abs().max() < 60

import numpy as np
import pytest
import torch

from jiadf.data.cache import cache_images
from jiadf.models.encoders import ImageEncoder
from jiadf.training import features
from jiadf.training.features import PixelViews, Standardise, cached_views


@pytest.fixture(scope="module")
def images(lesions, cache_dir):
    return cache_images(lesions["clinical_path"].iloc[:40], 32, cache_dir, progress=False)


@pytest.fixture(scope="module")
def encoder():
    return ImageEncoder()


def direct(images, encoder, view):
    with torch.inference_mode():
        pixels = PixelViews(images).batch(range(len(images.pixels)), view)
        return encoder.eval()(encoder.normalise(pixels)).numpy()


def features_of(images, encoder, folder, views=1):
    options = {"views": views, "cache_dir": folder, "progress": False}
    return np.stack(cached_views(PixelViews(images), encoder, **options).arrays, axis=1)


def test_features_are_those_of_the_backbone(images, encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "_BATCH", 7)
    table = features_of(images, encoder, tmp_path, 2)
    assert table.shape == (40, 2, 1280)
    assert table.dtype == np.float32
    for view in (0, 1):
        np.testing.assert_allclose(
            table[:, view], direct(images, encoder, view), rtol=1e-3, atol=1e-4
        )
    assert np.abs(table[:, 0] - table[:, 1]).max() > 0.1


def test_more_views_and_a_second_call_reuse_what_is_there(images, encoder, tmp_path, monkeypatch):
    one = features_of(images, encoder, tmp_path)
    calls = []
    extract = features._extract
    monkeypatch.setattr(features, "_extract", lambda *a: (calls.append(a[1]), extract(*a))[1])
    two = features_of(images, encoder, tmp_path, 2)
    assert calls == [1]
    np.testing.assert_array_equal(two[:, 0], one[:, 0])
    features_of(images, encoder, tmp_path, 2)
    assert len(calls) == 1


def test_other_weights_are_other_features(images, tmp_path):
    first, second = (
        features_of(images, ImageEncoder(weights="random"), tmp_path) for _ in range(2)
    )
    assert not np.array_equal(first, second)


def test_an_interrupted_extraction_goes_on(images, encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "_BATCH", 5)
    seen = []

    class Dies(ImageEncoder):
        def forward(self, x):
            seen.append(len(x))
            if len(seen) == 6:
                raise KeyboardInterrupt
            return super().forward(x)

    with pytest.raises(KeyboardInterrupt):
        features_of(images, Dies(), tmp_path)
    resumed = features_of(images, Dies(), tmp_path)
    assert sum(seen[6:]) == 15  # five of eight batches had been made
    np.testing.assert_allclose(resumed[:, 0], direct(images, encoder, 0), rtol=1e-3, atol=1e-4)


def test_stages_one_after_the_other_are_the_whole_backbone(images, encoder, tmp_path):
    """In files too, and the first stages' files serve encoders that differ in the others."""
    staged = ImageEncoder(frozen_stages=3)
    options = {"cache_dir": tmp_path, "progress": False}
    first = cached_views(PixelViews(images), staged, "FirstStages", 2, **options)
    assert first.shape == (40, 2, 4, 4, 40)  # stride 8
    assert first.dtype == np.float16
    rows, views = np.array([3, 0, 39]), np.array([1, 0, 1])
    picked = first[rows, views]
    for i in range(3):
        np.testing.assert_array_equal(picked[i], first.arrays[views[i]][rows[i]])
    for view in (0, 1):
        whole = direct(images, encoder, view)
        found = cached_views(first, staged, "OtherStages", 2, **options).arrays[view]
        assert np.abs(found - whole).max() < 0.02 * np.abs(whole).max()  # float16 between them
    files = set(tmp_path.rglob("*.npy"))
    other = ImageEncoder(frozen_stages=3)
    torch.nn.init.normal_(other.backbone.conv_head.weight)
    again = cached_views(PixelViews(images), other, "FirstStages", 2, **options)
    assert again.keys == first.keys
    cached_views(again, other, "OtherStages", 1, **options)
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

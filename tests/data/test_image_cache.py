import numpy as np
import pytest
from PIL import Image

from jiadf.data.image_cache import cache_images, content_key, decode


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    paths = []
    for name in "abc":
        pixels = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8).repeat(20, 0).repeat(20, 1)
        paths.append(tmp_path / f"{name}.jpg")
        Image.fromarray(pixels).save(paths[-1], quality=95)
    return paths


def test_cache_holds_the_decoded_images(pictures, tmp_path):
    cached = cache_images(pictures, 64, tmp_path / "cache", progress=False)
    assert cached.pixels.shape == (3, 64, 64, 3)
    assert cached.pixels.dtype == np.uint8
    for position, path in enumerate(pictures):
        np.testing.assert_array_equal(cached.pixels[position], decode(path, 64))
        exact = np.asarray(Image.open(path).resize((64, 64), Image.Resampling.BICUBIC), float)
        assert np.abs(cached.pixels[position] - exact).mean() < 5  # decoded at a smaller scale


def test_images_are_decoded_once(pictures, tmp_path, monkeypatch):
    first = cache_images(pictures, 64, tmp_path / "cache", progress=False)
    monkeypatch.setattr("jiadf.data.image_cache.decode", None)
    again = cache_images(pictures, 64, tmp_path / "cache", progress=False)
    assert again.key == first.key
    np.testing.assert_array_equal(again.pixels, first.pixels)


def test_key_follows_content_and_not_place(pictures, tmp_path):
    moved = tmp_path / "moved.jpg"
    moved.write_bytes(pictures[0].read_bytes())
    key = content_key(pictures, 64)
    assert content_key([moved, *pictures[1:]], 64) == key
    assert content_key(pictures[::-1], 64) != key
    assert content_key(pictures, 65) != key
    assert content_key([*pictures[:2], pictures[0]], 64) != key


def test_an_unreadable_image_is_named_and_leaves_no_cache(pictures, tmp_path):
    pictures[1].write_bytes(pictures[1].read_bytes()[:200])
    with pytest.raises(ValueError, match=r"b\.jpg: has no end marker"):
        cache_images(pictures, 64, tmp_path / "cache", progress=False)
    assert not list((tmp_path / "cache").rglob("*.npy"))
    assert not list((tmp_path / "cache").rglob("*partial*"))

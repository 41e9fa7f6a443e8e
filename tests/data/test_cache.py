import shutil

import numpy as np
import pytest
from PIL import Image

from jiadf.data.cache import cache_images, cached_array, content_key
from jiadf.data.open_image import decode
from jiadf.files import DiskFullError

VALUES = np.arange(60, dtype=np.float32).reshape(12, 5)


@pytest.fixture
def made(tmp_path):
    """Return a function that reads the array, and the rows that it had to make."""
    asked = []

    def read(path=tmp_path / "cache" / "a.npy", dies_at=None):
        def rows(start):
            for row in range(start, 12, 2):
                if row == dies_at:
                    raise KeyboardInterrupt
                asked.append(row)
                yield VALUES[row : row + 2]

        return cached_array(path, 12, rows)

    return read, asked, tmp_path / "cache" / "a.npy"


def test_an_array_is_made_once(made):
    read, asked, path = made
    np.testing.assert_array_equal(read(), VALUES)
    assert len(asked) == 6
    np.testing.assert_array_equal(read(), VALUES)
    assert len(asked) == 6
    np.testing.assert_array_equal(np.load(path), VALUES)
    assert sorted(p.name for p in path.parent.iterdir()) == ["a.lock", "a.npy"]


def cut(content):
    return content[:-40]


def zeroed(content):
    return content[:128] + bytes(len(content) - 128)


def flipped(content):
    return content[:200] + bytes([content[200] ^ 1]) + content[201:]


@pytest.mark.parametrize("damage", [cut, zeroed, flipped, lambda content: b""])
def test_a_damaged_file_is_named_and_made_anew(made, damage):
    read, asked, path = made
    read()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match=r"a\.npy is damaged"):
        np.testing.assert_array_equal(read(), VALUES)
    assert len(asked) == 12


@pytest.mark.parametrize(("tail", "left"), [(b"half a row", 3), (None, 5), (b"", 3)])
def test_a_killed_run_is_gone_on_with_from_its_last_whole_row(made, tail, left):
    read, asked, path = made
    with pytest.raises(KeyboardInterrupt):
        read(dies_at=6)
    part = path.with_suffix(".partial")
    part.write_bytes(part.read_bytes()[:-50] if tail is None else part.read_bytes() + tail)
    del asked[:]
    np.testing.assert_array_equal(read(), VALUES)
    assert len(asked) == left


def test_a_run_killed_before_its_first_row_or_after_its_last_is_gone_on_with(made):
    read, asked, path = made
    read()
    path.rename(path.with_suffix(".partial"))
    np.testing.assert_array_equal(read(), VALUES)
    assert len(asked) == 6
    path.unlink()
    path.with_suffix(".partial").write_bytes(b"\x93NUMPY\x01")
    np.testing.assert_array_equal(read(), VALUES)
    assert len(asked) == 12


def test_a_whole_file_of_another_user_is_read_without_a_lock(made):
    read, _, path = made
    read()
    path.with_suffix(".lock").unlink()
    path.parent.chmod(0o500)
    np.testing.assert_array_equal(read(), VALUES)
    path.parent.chmod(0o700)
    assert not path.with_suffix(".lock").exists()


def test_a_full_disk_is_told_before_anything_is_made_of_it(made, monkeypatch):
    read, _, _ = made
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 7))
    with pytest.raises(DiskFullError, match=r"a\.partial needs 240 more bytes.* 7 bytes free"):
        read()


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

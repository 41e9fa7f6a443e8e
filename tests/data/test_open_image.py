"""The one opener of images: every kind of pixels, photographs on their side, and cut files."""

import io
import os

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from jiadf.data import faults as kinds
from jiadf.data.open_image import ImageError, decode, open_image

ORIENTATION = 0x0112
ENCODINGS = [
    {},
    {"quality": 95, "subsampling": 0},
    {"optimize": True, "quality": 30},
    {"restart_marker_blocks": 3},
    {"progressive": True},
    {"progressive": True, "restart_marker_rows": 1},
]


def noise(width=48, height=36, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image, kind="JPEG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.fixture
def opened(tmp_path):
    """Open bytes, or an image saved under a name."""

    def run(content, name="x.jpg"):
        path = tmp_path / name
        path.write_bytes(content) if isinstance(content, bytes) else content.save(path)
        image = open_image(path)
        assert image.mode == "RGB"
        return np.asarray(image)

    return run


def refused(opened, content, kind, message):
    with pytest.raises(ImageError, match=message) as caught:
        opened(content)
    assert caught.value.kind == kind
    assert "x.jpg" in str(caught.value)
    assert f"Remedy: {caught.value.remedy}" in str(caught.value)


@pytest.mark.parametrize("options", ENCODINGS)
def test_ordinary_jpegs_are_what_pillow_makes_of_them(tmp_path, opened, options):
    for seed, size in enumerate([(1, 1), (48, 36), (33, 17), (320, 240)]):
        content = encoded(noise(*size, seed), **options)
        with Image.open(io.BytesIO(content)) as image:
            np.testing.assert_array_equal(opened(content), np.asarray(image))
        with Image.open(io.BytesIO(content)) as image:
            image.draft("RGB", (32, 32))
            expected = image.convert("RGB").resize((32, 32), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(decode(tmp_path / "x.jpg", 32), np.asarray(expected))


@pytest.mark.parametrize("options", ENCODINGS)
def test_a_cut_jpeg_with_an_end_marker_glued_on_is_truncated(opened, options):
    content = encoded(noise(160, 120), **options)
    start, end = content.rindex(b"\xff\xda") + 40, len(content) - 200  # within the last scan
    assert end > start
    for kept in np.linspace(start, end, 30).astype(int):
        refused(opened, content[:kept] + b"\xff\xd9", kinds.TRUNCATED_IMAGE, "image|scan")


@pytest.mark.parametrize("options", ENCODINGS)
def test_bytes_after_the_end_of_a_jpeg_do_not_count(opened, options):
    content = encoded(noise(), **options)
    thumbnail = encoded(noise(8, 8))
    for trailer in (b"a camera's", thumbnail, thumbnail[:200], b"\xff\xda\xff\xd9", bytes(5000)):
        np.testing.assert_array_equal(opened(content + trailer), opened(content))


def test_two_images_in_one_file_are_the_first(opened):
    first = Image.new("RGB", (16, 8), "red")
    assert opened(encoded(first, "MPO", save_all=True, append_images=[noise()])).shape == (8, 16, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_photographs_enter_upright(opened, orientation, kind):
    shown = Image.new("RGB", (40, 60), "blue")
    shown.paste("red", (0, 0, 40, 30))
    shown.paste("lime", (0, 0, 20, 30))
    stored = {  # how a camera held otherwise stores it
        1: lambda image: image,
        2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda image: image.rotate(180),
        4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
        6: lambda image: image.rotate(90, expand=True),
        7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
        8: lambda image: image.rotate(-90, expand=True),
    }[orientation](shown)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    result = opened(encoded(stored, kind, exif=exif))
    assert result.shape == (60, 40, 3)
    assert np.abs(result.astype(int) - np.asarray(shown)).mean() < 8


def test_damaged_exif_data_turn_nothing(opened):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    content = encoded(noise(), exif=exif)
    place = content.index(b"Exif\0\0") + 6
    for damage in (b"XX", b"MM\0\0", b"MM\0*\xff\xff\xff\xff"):
        damaged = content[:place] + damage + content[place + len(damage) :]
        assert opened(damaged).shape == (36, 48, 3)


def test_other_kinds_of_pixels_become_rgb(opened):
    grey = np.linspace(0, 65535, 60 * 40).reshape(40, 60).round().astype(np.uint16)
    deep = opened(encoded(Image.fromarray(grey), "PNG"))  # under the name of a JPEG
    assert deep.mean() == pytest.approx(127.5, abs=0.01)
    assert (deep[0, 0] == 0).all()
    assert (deep[-1, -1] == 255).all()
    half = Image.new("RGBA", (6, 6), (200, 0, 0, 0))
    half.paste((200, 0, 0, 255), (0, 0, 3, 6))
    np.testing.assert_array_equal(opened(half, "x.png")[0, [0, 5]], [[200, 0, 0], [255] * 3])
    coloured = Image.new("RGB", (6, 6), (10, 200, 30))
    np.testing.assert_array_equal(opened(coloured.quantize(4), "x.png")[0, 0], [10, 200, 30])
    assert (opened(half.quantize(8), "x.png")[0, 5] == 255).all()
    assert (opened(Image.new("LA", (4, 4), (0, 0)), "x.png") == 255).all()
    assert (opened(Image.new("1", (4, 4), 1), "x.png") == 255).all()
    assert np.abs(opened(Image.new("L", (16, 16), 77)).astype(int) - 77).max() < 2
    print_colours = Image.new("RGB", (16, 16), "red").convert("CMYK")
    assert np.abs(opened(print_colours)[8, 8] - np.array([255.0, 0, 0])).max() < 6


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "BMP", "EPS", "WEBP"])
def test_other_formats_are_refused_whatever_they_are_called(opened, kind):
    refused(opened, encoded(noise(), kind), kinds.NOT_AN_IMAGE, "not an image in JPEG or PNG")


def test_cut_files_are_truncated(opened):
    png = encoded(noise(), "PNG")
    jpeg = encoded(noise())
    cut = [jpeg[:kept] for kept in (2, 60, len(jpeg) // 2, -40, -2, -1)]
    zeroed = [part + bytes(len(jpeg) - len(part)) for part in cut]  # as after a broken copy
    pngs = [png[:-40], png[:20], png[: len(png) // 2] + png[-12:]]
    for content in [*cut, *zeroed, *pngs]:
        refused(opened, content, kinds.TRUNCATED_IMAGE, "end")
    refused(opened, b"", kinds.TRUNCATED_IMAGE, "0 bytes")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_images_that_cannot_be_used_are_named(tmp_path, opened, monkeypatch):
    with pytest.raises(ImageError, match=r"uint8 of shape \(H, W, 3\)"):
        open_image(np.zeros((4, 4), np.uint8))
    with pytest.raises(ImageError, match="of type int"):
        open_image(3)
    with pytest.raises(ImageError, match="cannot be read"):
        open_image("nul\0.jpg")
    with pytest.raises(ImageError, match="no such file"):
        open_image(tmp_path / "none.jpg")
    os.mkfifo(tmp_path / "fifo.jpg")
    for name in ("fifo.jpg", "."):
        with pytest.raises(ImageError, match="not a regular file"):
            open_image(tmp_path / name)
    content = encoded(noise())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    refused(opened, content, kinds.NOT_AN_IMAGE, "too large .48 x 36 pixels")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    refused(opened, content, kinds.NOT_AN_IMAGE, "decompression bomb")


def test_a_bomb_in_the_text_of_a_png_is_named(opened):
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * 3_000_000, zip=True)
    png = encoded(noise(), "PNG", pnginfo=text)
    refused(opened, png, kinds.TRUNCATED_IMAGE, "too large")

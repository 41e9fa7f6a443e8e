import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F

from jiadf.explanation.corruptions import BLUR, CORRUPTIONS, QUALITY, SEVERITIES, corrupt


@pytest.fixture(scope="module")
def pixels():
    """Smooth images with a dark spot: what each kind corrupts, and a fair share of each colour."""
    side, rng = 64, np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side
    spot = np.exp(-((x - 0.5) ** 2 + (y - 0.45) ** 2) / 0.02)[..., None]
    skin = np.array([200, 160, 140]) * (0.9 + 0.1 * np.sin(20 * x + 9 * y))[..., None]
    pictures = [skin * (1 - 0.7 * spot) + rng.normal(0, 4, (side, side, 1)) for _ in range(3)]
    return np.clip(pictures, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_same_seed_same_damage_whatever_the_global_state(pixels, kind):
    before = pixels.copy()
    torch.manual_seed(1)
    first = corrupt(pixels, kind, 3, seed=5)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert np.array_equal(first, corrupt(pixels, kind, 3, seed=5))
    assert first.shape == pixels.shape
    assert first.dtype == np.uint8
    assert np.array_equal(pixels, before)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", ["noise", "crop"])
def test_another_seed_or_place_draws_anew(pixels, kind):
    alike = np.stack([pixels[0], pixels[0]])
    one, two = corrupt(alike, kind, 4, seed=0)
    assert not np.array_equal(one, two)
    assert not np.array_equal(corrupt(alike, kind, 4, seed=1)[0], one)
    assert np.array_equal(corrupt(alike[:1], kind, 4, seed=0)[0], one)


@pytest.mark.parametrize("kind", [k for k in CORRUPTIONS if k != "crop"])
def test_severity_grows(pixels, kind):
    """A crop moves the picture, so that its distance is no measure of severity."""
    distances = [
        np.abs(corrupt(pixels, kind, severity).astype(float) - pixels).mean()
        for severity in SEVERITIES
    ]
    assert np.all(np.diff(distances) > 0), distances
    assert distances[0] > 0


def test_blur_is_torchvisions_and_jpeg_is_pillows(pixels, tmp_path):
    sigma = BLUR[2] * 64
    image = torch.from_numpy(pixels[0]).permute(2, 0, 1)
    expected = F.gaussian_blur(image, [2 * int(np.ceil(3 * sigma)) + 1] * 2, [sigma] * 2)
    found = corrupt(pixels[:1], "blur", 3)[0].astype(int)
    assert np.abs(found - expected.permute(1, 2, 0).numpy()).max() <= 1
    Image.fromarray(pixels[0]).save(tmp_path / "x.jpg", quality=QUALITY[1])
    written = np.asarray(Image.open(tmp_path / "x.jpg")).astype(int)
    assert np.abs(corrupt(pixels[:1], "JPEG", 2)[0] - written).mean() < 2


def test_a_colour_cast_warms_or_cools_and_keeps_green(pixels):
    many = np.repeat(pixels[:1], 12, axis=0)
    cast = corrupt(many, "colour cast", 4).astype(float)
    red_to_blue = (cast[..., 0].mean((1, 2)) + 1) / (cast[..., 2].mean((1, 2)) + 1)
    own = (many[0, ..., 0].mean() + 1) / (many[0, ..., 2].mean() + 1)
    assert (red_to_blue > own).any()
    assert (red_to_blue < own).any()
    assert np.abs(cast[..., 1] - many[..., 1]).max() <= 1


def test_noise_has_the_stated_strength():
    grey = np.full((1, 128, 128, 3), 128, dtype=np.uint8)
    assert corrupt(grey, "noise", 2).std() == pytest.approx(0.08 * 255, rel=0.05)


def test_a_severity_that_does_not_exist_is_refused(pixels):
    with pytest.raises(ValueError, match="severity is 0"):
        corrupt(pixels, "blur", 0)

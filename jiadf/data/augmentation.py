"""Augmentation of lesion images: of a whole batch on its device, or of one image at a time.

A lesion has no up or left, so flips and quarter turns are free; crops keep at least 70 % of the
image so that the lesion stays in it; colour changes stay small, and hue stays, because colour is
evidence.

:func:`augmentation` is that of torchvision, an image at a time; the views of the `frozen` regime
are made with it. :func:`augment_batch` draws from the same distribution for every image of a batch
for itself, in a few kernels that never wait for the device. Crop, flip and turn are one resampling,
which is exact, since a flip and a quarter turn move pixels only; an image is rounded to uint8 once,
at the end, where torchvision drops the fraction after every step. No crop is larger than the image
that it fills, so that antialiasing would change nothing.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import rgb_to_grayscale

CROP_SCALE, CROP_RATIO = (0.7, 1.0), (0.9, 1.1)  # share of the image kept, width over height
JITTER = 0.2  # brightness, contrast and saturation change by a factor of 1 ± this
_TRIES = 10  # crops drawn before the whole image is taken, as torchvision does


class RandomQuarterTurn(v2.Transform):
    """Turn by 0, 90, 180 or 270 degrees, each as likely; nothing is resampled."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, int]:
        """Draw the number of quarter turns."""
        return {"turns": int(torch.randint(4, ()))}

    def transform(self, inpt: torch.Tensor, params: dict[str, int]) -> torch.Tensor:
        """Turn the last two dimensions."""
        return inpt.rot90(params["turns"], dims=(-2, -1))


def augmentation(size: int) -> v2.Transform:
    """Return the training augmentation: uint8 (3, H, W) to uint8 (3, ``size``, ``size``)."""
    return v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=CROP_SCALE, ratio=CROP_RATIO, antialias=True),
            v2.RandomHorizontalFlip(),
            RandomQuarterTurn(),
            v2.ColorJitter(brightness=JITTER, contrast=JITTER, saturation=JITTER),
        ]
    )


def augment_with_seed(image: torch.Tensor, transform: v2.Transform, seed: int) -> torch.Tensor:
    """Apply ``transform`` so that the result depends on ``seed`` alone; global state is kept."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return transform(image)


class Draws(NamedTuple):
    """What happens to each of B images."""

    top: Tensor  # of the crop, in pixels: whole numbers as float32 (B,)
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor  # left to right, bool (B,)
    turns: Tensor  # quarter turns against the clock after that, int64 (B,)
    order: Tensor  # of 0 brightness, 1 contrast and 2 saturation, int64 (B, 3)
    factors: Tensor  # of brightness, contrast and saturation, float32 (B, 3)


def draw(count: int, size: int, device: torch.device | str = "cpu") -> Draws:
    """Draw for ``count`` square images of side ``size``, each for itself."""
    uniform = torch.rand(count, 2 * _TRIES + 10, device=device)
    tries, place, colour = uniform.split([2 * _TRIES, 4, 6], dim=1)
    low, high = CROP_SCALE
    area = (low + (high - low) * tries[:, :_TRIES]) * size**2  # (B, tries)
    low, high = map(math.log, CROP_RATIO)
    ratio = torch.exp(low + (high - low) * tries[:, _TRIES:])
    sides = (area / ratio).sqrt().round(), (area * ratio).sqrt().round()
    height, width = (functional.pad(side, (0, 1), value=size) for side in sides)  # whole, last
    first = ((height <= size) & (width <= size)).int().argmax(dim=1, keepdim=True)
    height, width = (side.gather(1, first).squeeze(1) for side in (height, width))  # (B,)
    # `rand` in float32 may round (size + 1) * u up to its end, hence the minimum.
    top = torch.minimum((place[:, 0] * (size - height + 1)).floor(), size - height)
    left = torch.minimum((place[:, 1] * (size - width + 1)).floor(), size - width)
    return Draws(
        top, left, height, width,
        flip=place[:, 2] < 0.5,
        turns=(place[:, 3] * 4).long().clamp_(max=3),
        order=colour[:, :3].argsort(dim=1),
        factors=1 - JITTER + 2 * JITTER * colour[:, 3:],
    )  # fmt: skip


def _grid(draws: Draws, size: int) -> Tensor:
    """Say where each pixel of the result comes from, (B, S, S, 2) in `grid_sample`'s units."""
    steps = torch.arange(size, device=draws.top.device, dtype=torch.float32) + 0.5  # (S,)
    sides = []
    for start, length in ((draws.left, draws.width), (draws.top, draws.height)):
        start, length = start[:, None], length[:, None]
        inside = (steps * length / size - 0.5).clamp(min=0.0)  # never beyond the crop's edge
        pixel = start + torch.minimum(inside, length - 1)
        sides.append((pixel * 2 + 1) / size - 1)
    across, down = sides  # (B, S) each: columns and rows of the image
    across = torch.where(draws.flip[:, None], across.flip(1), across)
    # A quarter turn against the clock: row i, column j of the result is row j, column -1 - i.
    quarter, half = (draws.turns % 2 == 1)[:, None], (draws.turns >= 2)[:, None]
    across = torch.where(quarter ^ half, across.flip(1), across)
    down = torch.where(half, down.flip(1), down)
    quarter = quarter[:, None]
    x = torch.where(quarter, across[:, :, None], across[:, None, :])  # (B, S, S)
    y = torch.where(quarter, down[:, None, :], down[:, :, None])
    return torch.stack([x, y], dim=-1)


def apply(images: Tensor, draws: Draws) -> Tensor:
    """Do to each image what was drawn for it: uint8 (B, 3, S, S) to the same."""
    with torch.autocast(images.device.type, enabled=False):
        grid = _grid(draws, images.shape[-1])
        pixels = functional.grid_sample(
            images.float(), grid, padding_mode="border", align_corners=False
        )
        for place in range(3):
            which = draws.order[:, place, None, None, None]  # (B, 1, 1, 1)
            factor = draws.factors.gather(1, draws.order[:, place, None])[..., None, None]
            gray = rgb_to_grayscale(pixels)  # (B, 1, S, S)
            # Each change mixes the image with something: black, its mean gray, or its gray.
            mean = gray.mean(dim=(2, 3), keepdim=True) * (which == 1)
            other = torch.where(which == 2, gray, mean)
            pixels = torch.lerp(other, pixels, factor).clamp_(0, 255)
        return pixels.round_().to(torch.uint8)


def augment_batch(images: Tensor) -> Tensor:
    """Augment every image for itself: uint8 (B, 3, S, S) to the same, on the same device."""
    return apply(images, draw(len(images), images.shape[-1], images.device))

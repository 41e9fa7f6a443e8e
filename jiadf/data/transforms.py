"""Augmentation of lesion images, one at a time, with torchvision.transforms.v2.

The views of the `frozen` regime are made here; :mod:`jiadf.data.augment` does the same to a whole
batch on its device.

A lesion has no up or left, so flips and quarter turns are free; crops keep at least 70 % of the
picture so that the lesion stays in it; colour changes stay small, and hue stays, because colour is
evidence.
"""

from typing import Any

import torch
from torchvision.transforms import v2

CROP_SCALE, CROP_RATIO = (0.7, 1.0), (0.9, 1.1)  # share of the picture kept, width over height
JITTER = 0.2  # brightness, contrast and saturation change by a factor of 1 ± this


class RandomQuarterTurn(v2.Transform):
    """Turn by 0, 90, 180 or 270 degrees, each as likely; nothing is resampled."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, int]:
        """Draw the number of quarter turns."""
        return {"turns": int(torch.randint(4, ()))}

    def transform(self, inpt: torch.Tensor, params: dict[str, int]) -> torch.Tensor:
        """Turn the last two dimensions."""
        return inpt.rot90(params["turns"], dims=(-2, -1))


def augmentation(size: int) -> v2.Transform:
    """Return the training augmentation: uint8 (3, H, W) to uint8 (3, ``size``, ``size``).

    It draws from torch's global random state, once a picture.
    """
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

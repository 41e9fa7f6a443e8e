"""Corruptions of images, of five kinds and five severities: what happens to photographs.

The design is that of Hendrycks and Dietterich (2019), "Benchmarking neural network robustness to
common corruptions and perturbations", with kinds that fit skin: a lens out of focus (`blur`), a
dark room (`noise`), the light of a warmer or colder lamp (`colour cast`), a badly aimed camera
(`crop`, a square somewhere in the image, enlarged again) and an image that was sent through a
messenger (`JPEG`). Severity 1 is what a reader hardly notices, 5 what a careful photographer would
take again.

    >>> import numpy as np
    >>> grey = np.full((2, 32, 32, 3), 128, dtype=np.uint8)
    >>> corrupt(grey, "noise", 3, seed=0).shape
    (2, 32, 32, 3)
"""

import io
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F

from jiadf.data.augmentation import augment_with_seed

SEVERITIES = (1, 2, 3, 4, 5)
BLUR = (0.005, 0.010, 0.020, 0.030, 0.045)  # standard deviation, in sides of the image
NOISE = (0.04, 0.08, 0.14, 0.22, 0.32)  # standard deviation, white being 1
WARM = (5, 4, 3, 2, 1)  # rows of kornia's table of black bodies, neutral being 6 to 7 of 0 to 24
COOL = (9, 12, 15, 19, 24)
KEPT = (0.9, 0.8, 0.7, 0.6, 0.5)  # share of the side that stays in the image
QUALITY = (40, 25, 15, 8, 4)  # JPEG's


def _blur(image: torch.Tensor, severity: int) -> torch.Tensor:
    from kornia.filters import gaussian_blur2d  # separable, hence fast; a second to import

    sigma = BLUR[severity - 1] * image.shape[-1]
    side = min(2 * int(np.ceil(3 * sigma)) + 1, 2 * image.shape[-1] - 1)  # reflected once at most
    whole = F.to_dtype(image, torch.float32, scale=True)[None]
    return F.to_dtype(gaussian_blur2d(whole, side, (sigma, sigma))[0], torch.uint8, scale=True)


def _noise(image: torch.Tensor, severity: int) -> torch.Tensor:
    noisy = F.gaussian_noise(F.to_dtype(image, torch.float32, scale=True), 0, NOISE[severity - 1])
    return F.to_dtype(noisy, torch.uint8, scale=True)


def _colour_cast(image: torch.Tensor, severity: int) -> torch.Tensor:
    from kornia.augmentation import RandomPlanckianJitter  # a second to import

    row = (WARM, COOL)[int(torch.randint(2, ()))][severity - 1]
    lamp = RandomPlanckianJitter(select_from=[row], p=1.0, keepdim=True)
    return F.to_dtype(lamp(F.to_dtype(image, torch.float32, scale=True)), torch.uint8, scale=True)


def _crop(image: torch.Tensor, severity: int) -> torch.Tensor:
    side = image.shape[-1]
    kept = max(1, round(KEPT[severity - 1] * side))
    top, left = torch.randint(side - kept + 1, (2,)).tolist()
    return F.resized_crop(image, top, left, kept, kept, [side, side], antialias=True)


def _jpeg(image: torch.Tensor, severity: int) -> torch.Tensor:
    written = io.BytesIO()
    whole = Image.fromarray(image.permute(1, 2, 0).numpy())
    whole.save(written, "JPEG", quality=QUALITY[severity - 1])
    return torch.from_numpy(np.array(Image.open(written))).permute(2, 0, 1)


CORRUPTIONS: dict[str, Callable[[torch.Tensor, int], torch.Tensor]] = {
    "blur": _blur,
    "noise": _noise,
    "colour cast": _colour_cast,
    "crop": _crop,
    "JPEG": _jpeg,
}


def corrupt(pixels: np.ndarray, kind: str, severity: int, seed: int = 0) -> np.ndarray:
    """Corrupt square RGB images, uint8 (N, S, S, 3), in one of :data:`CORRUPTIONS`.

    The same seed gives the same images; each draws from a seed of its own, made of this and its
    place. A severity that is not 1 to 5 is a ValueError.
    """
    if severity not in SEVERITIES:
        raise ValueError(f"severity is {severity}: give one of 1 to 5")
    change = partial(CORRUPTIONS[kind], severity=severity)
    corrupted = np.empty_like(pixels)
    for place, own in enumerate(pixels):
        image = torch.from_numpy(np.array(own)).permute(2, 0, 1)  # (3, S, S), a copy
        own_seed = int(np.random.SeedSequence([seed, place]).generate_state(1)[0])
        corrupted[place] = augment_with_seed(image, change, own_seed).permute(1, 2, 0).numpy()
    return corrupted

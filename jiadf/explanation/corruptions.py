"""Damage to pictures, of five kinds and five severities: what happens to photographs in a clinic.

The design is that of Hendrycks and Dietterich (2019), "Benchmarking neural network robustness to
common corruptions and perturbations", with kinds that fit skin: a lens out of focus (`blur`), a
dark room (`noise`), another lamp (`colour cast`), a badly aimed camera (`crop`) and a picture that
was sent through a messenger (`JPEG`). Severity 1 is what a reader hardly notices, 5 what a careful
photographer would take again. The same seed gives the same pictures.

    >>> import numpy as np
    >>> grey = np.full((2, 32, 32, 3), 128, dtype=np.uint8)
    >>> corrupt(grey, "noise", 3, seed=0).shape
    (2, 32, 32, 3)
"""

import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F

from jiadf.data.augmentation import augment_with_seed

VERSION = 1  # part of the key of cached features: change it when a corruption changes
SEVERITIES = (1, 2, 3, 4, 5)
BLUR = (0.005, 0.010, 0.020, 0.030, 0.045)  # standard deviation, in sides of the picture
NOISE = (0.04, 0.08, 0.14, 0.22, 0.32)  # standard deviation, white being 1
WARM = (5, 4, 3, 2, 1)  # rows of kornia's table of black bodies, neutral being 6 to 7 of 0 to 24
COOL = (9, 12, 15, 19, 24)
KEPT = (0.9, 0.8, 0.7, 0.6, 0.5)  # share of the side that stays in the picture
QUALITY = (40, 25, 15, 8, 4)  # JPEG's


def _blur(image: torch.Tensor, severity: int) -> torch.Tensor:
    from kornia.filters import (
        gaussian_blur2d,
    )  # separable, hence fast at any width; a second to import

    sigma = BLUR[severity - 1] * image.shape[-1]
    side = min(2 * int(np.ceil(3 * sigma)) + 1, 2 * image.shape[-1] - 1)  # reflected once at most
    picture = F.to_dtype(image, torch.float32, scale=True)[None]
    return F.to_dtype(gaussian_blur2d(picture, side, (sigma, sigma))[0], torch.uint8, scale=True)


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
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    picture.save(written, "JPEG", quality=QUALITY[severity - 1])
    return torch.from_numpy(np.array(Image.open(written))).permute(2, 0, 1)


CORRUPTIONS: dict[str, Callable[[torch.Tensor, int], torch.Tensor]] = {
    "blur": _blur,
    "noise": _noise,
    "colour cast": _colour_cast,
    "crop": _crop,
    "JPEG": _jpeg,
}


def corrupt(pixels: np.ndarray, kind: str, severity: int, seed: int = 0) -> np.ndarray:
    """Damage pictures.

    Parameters
    ----------
    pixels : (N, S, S, 3) uint8 array
        Square pictures, RGB.
    kind : str
        A key of :data:`CORRUPTIONS`. `blur` is Gaussian, `noise` Gaussian and independent of
        colour, `colour cast` the light of a warmer or colder black body (either, by chance), `crop`
        keeps a square somewhere in the picture and enlarges it again, `JPEG` compresses.
    severity : int
        1 to 5.
    seed : int
        Each picture draws from a seed of its own, made of this and its place.

    Returns
    -------
    (N, S, S, 3) uint8 array

    Raises
    ------
    ValueError
        On a kind or severity that does not exist, or pixels of another type or shape.
    """
    if kind not in CORRUPTIONS:
        raise ValueError(f"corruption {kind!r} is unknown: choose one of {', '.join(CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise ValueError(f"severity is {severity}: give one of 1 to 5")
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
        raise ValueError(
            f"pixels are {pixels.dtype} of shape {pixels.shape}: pass uint8 of shape (N, S, S, 3)"
        )

    def damage(image: torch.Tensor) -> torch.Tensor:
        return CORRUPTIONS[kind](image, severity)

    damaged = np.empty_like(pixels)
    for place, picture in enumerate(pixels):
        image = torch.from_numpy(np.array(picture)).permute(2, 0, 1)  # (3, S, S), a copy
        own_seed = int(np.random.SeedSequence([seed, place]).generate_state(1)[0])
        damaged[place] = augment_with_seed(image, damage, own_seed).permute(1, 2, 0).numpy()
    return damaged

"""Draw the two pictures of one synthetic lesion: clinical close-up and dermoscopic.

Both pictures show the same stack of densities (:mod:`jiadf.data.layers`), so geometry and colours
agree. Light is absorbed by Beer and Lambert's
law, ``skin * exp(-density)``, which keeps every mixture a plausible colour. The dermoscopic picture
fills its frame with the lesion and shows what lies deep; the clinical one shows it smaller, in its
surroundings, with shading from the height and only a hint of the deep structures.

    >>> from jiadf.data.appearance import sample_lesion
    >>> from jiadf.data.draw import draw_lesion
    >>> image, mask = draw_lesion(sample_lesion("MEL", (0, 7)))["dermoscopic"]
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from jiadf.data.appearance import Lesion
from jiadf.data.layers import Stack, lesion_stack
from jiadf.data.primitives import (
    Canvas,
    Size,
    grid,
    hairs,
    noise,
    resize,
    ridges,
    smoothstep,
    wander,
)

# Optical density per unit of each pigment, in red, green and blue.
_ABSORPTION = {
    "melanin": (0.42, 0.92, 1.38),
    "blood": (0.13, 0.78, 0.58),
    "blue": (1.15, 0.85, 0.45),
    "yellow": (0.03, 0.16, 0.75),
    "dark": (0.95, 1.75, 1.90),
}
_CLINICAL_SKIN = np.array(
    [
        (62, 42, 34),
        (118, 80, 60),
        (176, 128, 95),
        (214, 160, 124),
        (226, 178, 148),
        (236, 192, 170),
    ],
    np.float32,
)
_DERMOSCOPIC_SKIN = np.array(
    [(92, 68, 62), (148, 116, 104), (196, 166, 150), (222, 196, 184), (230, 206, 200),
     (238, 216, 214)],
    np.float32,
)  # fmt: skip


class Drawing(NamedTuple):
    """One picture and where its lesion is."""

    image: np.ndarray  # (H, W, 3) uint8
    mask: np.ndarray  # (H, W) bool


def _density(fields: dict[str, np.ndarray], strength: dict[str, float]) -> np.ndarray:
    """Optical density ``(3, h, w)`` of pigment fields ``(h, w)`` times their strengths."""
    total = 0
    for name, factor in strength.items():
        if name in fields:
            absorption = np.array(_ABSORPTION[name], np.float32)[:, None, None]
            total = total + absorption * (np.float32(factor) * fields[name])
    return total


def _enlarge(planes: np.ndarray, size: Size) -> np.ndarray:
    return np.stack([resize(plane, size) for plane in planes])


def _lit(base: np.ndarray, density: np.ndarray) -> np.ndarray:
    """Return skin of colour ``base`` seen through ``density`` (3, H, W), which is overwritten."""
    np.exp(np.negative(density, out=density), out=density)
    density *= base[:, None, None]
    return density


def _lerp(picture: np.ndarray, colour, amount: np.ndarray | float) -> None:
    """Move ``picture`` (3, H, W) in place towards one colour (0..1) by ``amount``."""
    for plane, value in zip(picture, colour, strict=True):
        plane += (np.float32(value) - plane) * amount


def _hair_colour(lesion: Lesion) -> tuple[float, float, float]:
    age, tone = lesion.patient.age, lesion.patient.skin_tone
    if age > 65 and lesion.entropy[-1] % 2:
        return (0.72, 0.70, 0.68)
    return (0.42, 0.28, 0.16) if tone >= 4 else (0.13, 0.09, 0.07)


def _skin(lesion: Lesion, rng: np.random.Generator, size: Size) -> dict[str, np.ndarray]:
    """Pigment and blood of the skin around the lesion, more uneven with age and light skin."""
    sun = max(0.0, (lesion.patient.age - 25) / 60) * (lesion.patient.skin_tone / 5)
    melanin = 0.015 * noise(rng, size, 4) + (0.01 + 0.02 * sun) * noise(rng, size, 30)
    freckles = smoothstep(0.9 * (noise(rng, size, 16) - 2.1 + 0.5 * sun))
    blood = (0.015 + 0.035 * sun) * noise(rng, size, 7) + (0.015 + 0.02 * sun) * noise(
        rng, size, 36, 1
    )
    return {"melanin": melanin + (0.1 + 0.25 * sun) * freckles, "blood": blood}


def _finish(
    picture: np.ndarray, rng: np.random.Generator, size: Size, grain: float, blur: float
) -> np.ndarray:
    """Return planes in 0..1 as an ``(H, W, 3)`` uint8 picture, with grain and then ``blur``."""
    cells = rng.integers(-128, 128, (225, 300), dtype=np.int16).astype(np.float32)
    speckle = resize(cells, size) * np.float32(grain * 255 / 128) + np.float32(0.5)
    pixels = np.empty((size[1], size[0], 3), np.uint8)
    for channel, plane in enumerate(picture):
        plane *= np.float32(255)
        plane += speckle
        np.clip(plane, 0, 255, out=plane)
        pixels[..., channel] = plane
    radius = blur * size[1] / 2
    if radius < 0.3:
        return pixels
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def _dermoscopic(lesion: Lesion, stack: Stack, pigment: np.ndarray, size: Size) -> Drawing:
    rng, scene = lesion.rng(2), lesion.scene
    half = stack.depth.shape[::-1]
    skin = _skin(lesion, rng, half)
    density = pigment + _density(skin, {"melanin": 0.8, "blood": 1.2})
    fine = stack.fine
    density = _enlarge(density, size) + _density(fine, {"melanin": 1.3, "blood": 1.25, "blue": 1.1})
    violet = np.array([0.2, -1.0, 0.8], np.float32) * np.float32(abs(rng.normal(0.0, 0.035)))
    cast = np.float32(rng.normal(0.98, 0.05)) * (1 + violet)
    base = _DERMOSCOPIC_SKIN[lesion.patient.skin_tone] / 255 * cast
    picture = _lit(base, density)
    glow = np.float32(0.9) * base / base.max() * np.array([1, 0.98, 0.98], np.float32)
    _lerp(
        picture, glow, resize(0.85 * np.maximum(stack.coarse["white"], stack.coarse["pale"]), size)
    )
    if "bright" in fine:
        _lerp(picture, (0.95, 0.92, 0.86), 0.85 * fine["bright"])
    _lerp(picture, 0.94 * base, scene.haze_dermoscopic)
    lines = ridges(rng, size, 36, 3)
    picture *= 1 + 0.035 * (0.4 - lines)

    if scene.bubbles > 0.15:
        gel = Canvas(size)
        for _ in range(int(16 * scene.bubbles)):
            place, radius = rng.uniform([-1.3, -1], [1.3, 1]), rng.choice([0.012, 0.03, 0.07])
            gel.ring(place, radius, 0.008, 0.55)
            gel.dot(np.asarray(place) - 0.35 * radius, 0.25 * radius, 1.0)
        _lerp(picture, (1, 1, 1), 0.75 * gel.array(0.003))
        sheen = smoothstep(1.4 * (noise(rng, half, 3, 1) - 1.3)) * np.float32(0.25 * scene.bubbles)
        _lerp(picture, (1, 1, 1), resize(sheen, size))
    _overlay_hair(picture, lesion, rng, size, scene.hair_dermoscopic, 0.9, 0.016)
    x, y = grid(half)
    if scene.ruler:
        marks = Canvas(size)
        for tick in range(9):
            start = np.array([0.72 + 0.062 * tick, -0.98 + 0.05 * tick])
            length = 0.09 if tick % 5 else 0.15
            marks.line(np.array([start, start + length * np.array([-0.6, 0.8])]), 0.01, 0.95)
        _lerp(picture, (0.05, 0.05, 0.06), marks.array())
    if scene.pen:
        _pen(picture, rng, size, 0.95)
    radius = np.hypot(x, y)
    shade = 1 - 0.12 * smoothstep(radius - 0.5)
    if scene.vignette:
        shade = shade * smoothstep((rng.uniform(1.2, 1.4) - radius) / 0.12 + 0.5)
    picture *= resize(shade, size)
    mask = resize(stack.depth, size) > 0
    return Drawing(_finish(picture, rng, size, 0.018, 0.025 * scene.blur_dermoscopic), mask)


def _overlay_hair(picture, lesion, rng, size, amount, length, width):
    count = int(60 * amount**1.3)
    if count == 0:
        return
    canvas = Canvas(size)
    hairs(canvas, rng, count, length, width)
    _lerp(picture, _hair_colour(lesion), 0.9 * canvas.array())


def _pen(picture: np.ndarray, rng: np.random.Generator, size: Size, reach: float) -> None:
    canvas = Canvas(size)
    for angle in rng.uniform(0, 2 * np.pi, 8):
        place = reach * np.array([1.15 * np.cos(angle), np.sin(angle)])
        path = wander(rng, place, angle + np.pi / 2, rng.uniform(0.1, 0.25), 0.15)
        canvas.line(path, 0.05, 0.85)
    _lerp(picture, (0.24, 0.16, 0.46), 0.85 * canvas.array(0.01))


def _clinical(lesion: Lesion, stack: Stack, pigment: np.ndarray, size: Size) -> Drawing:
    rng, scene, patient = lesion.rng(3), lesion.scene, lesion.patient
    width, height = size
    small = max(2, round(width * scene.zoom)), max(2, round(height * scene.zoom))
    shift = rng.normal(0, 0.06, 2)
    left = int(np.clip((width - small[0]) / 2 + shift[0] * height, 0, width - small[0]))
    top = int(np.clip((height - small[1]) / 2 + shift[1] * height, 0, height - small[1]))
    window = np.s_[..., top : top + small[1], left : left + small[0]]
    x, y = grid(small)
    ratio = size[0] / size[1]
    fade = smoothstep((1 - np.maximum(np.abs(x) / ratio, np.abs(y))) / 0.12)

    def shrink(field: np.ndarray) -> np.ndarray:
        image = Image.fromarray(resize(field, small)).rotate(scene.turn, Image.Resampling.BILINEAR)
        return np.asarray(image) * fade

    coarse = {name: shrink(stack.coarse[name]) for name in ("alpha", "height")}
    white = shrink(np.maximum(stack.coarse["white"], 0.35 * stack.coarse["pale"]))
    fine = {name: shrink(field) for name, field in stack.fine.items()}
    half = stack.depth.shape[::-1]
    density = _enlarge(_density(_skin(lesion, rng, half), {"melanin": 1.0, "blood": 1.2}), size)
    density[window] += np.stack([shrink(plane) for plane in pigment])
    density[window] += _density(fine, {"melanin": 0.9, "blood": 0.4, "blue": 0.6})
    warmth = np.array([1.0, rng.normal(0.97, 0.03), rng.normal(0.93, 0.05)], np.float32)
    base = _CLINICAL_SKIN[patient.skin_tone] / 255 * warmth * np.float32(rng.normal(1.0, 0.05))
    picture = _lit(base, density)
    _lerp(picture[window], (0.90, 0.86, 0.78), white)
    if "bright" in fine:
        _lerp(picture[window], (0.88, 0.80, 0.70), 0.35 * fine["bright"])
    _lerp(picture, 0.94 * base, scene.haze_clinical)

    # Light falls across the relief: furrows of the skin, wrinkles, the lesion's own height.
    age = max(0.0, (patient.age - 30) / 55)
    relief = (0.0009 + 0.0008 * age) * noise(rng, size, 80, 1)
    relief = relief - (0.0014 + 0.0016 * age) * ridges(rng, size, 44, 3)
    wrinkles = noise(rng, half, 16, 1, stretch=6)
    relief = relief - resize((0.008 * age) * np.exp(-3 * np.abs(wrinkles)), size)
    relief[window] = relief[window] * (1 - 0.6 * coarse["alpha"])
    relief[window] += 0.07 * coarse["height"]
    pixels = np.float32(height / 2)
    slope = np.zeros_like(relief)
    light = rng.choice([-1.0, 1.0])
    slope[1:, 1:] = (relief[1:, 1:] - relief[:-1, :-1]) * pixels
    slope = np.clip(slope * np.float32(light), -1.2, 1.2)
    x, y = grid(half)
    direction = rng.uniform(0, 2 * np.pi)
    across = x * np.float32(np.cos(direction)) + y * np.float32(np.sin(direction))
    body = 1.04 - np.float32(rng.uniform(0.03, 0.22)) * np.square(across + np.float32(0.3))
    picture *= resize(body, size) * (1 + 0.42 * slope)
    shine = np.float32(0.26) * smoothstep(2.0 * (slope - 0.16))
    gloss = max(look.gloss for look in lesion.looks)
    shine[window] = shine[window] * (1 + 1.0 * gloss * coarse["alpha"])
    _lerp(picture, (1.0, 0.97, 0.92), shine)
    _overlay_hair(picture, lesion, rng, size, scene.hair_clinical, 0.5, 0.008)
    if scene.pen:
        _pen(picture, rng, size, 1.7 * scene.zoom)
    mask = np.zeros((height, width), bool)
    mask[window] = shrink(stack.depth + 10) > 10
    return Drawing(_finish(picture, rng, size, 0.015, 0.02 * scene.blur_clinical), mask)


def draw_lesion(lesion: Lesion, image_size: Size = (600, 450)) -> dict[str, Drawing]:
    """Draw both pictures of a lesion.

    Parameters
    ----------
    lesion : Lesion
        From :func:`jiadf.data.appearance.sample_lesion`; decides everything but the size.
    image_size : tuple of int
        Width and height in pixels, both at least 32.

    Returns
    -------
    dict
        ``"clinical"`` and ``"dermoscopic"``, each a :class:`Drawing` with the image
        ``(H, W, 3)`` uint8 and the lesion's mask ``(H, W)`` bool.

    Raises
    ------
    ValueError
        If the size is too small to show a lesion.
    """
    width, height = image_size
    if min(width, height) < 32:
        raise ValueError(f"image_size is {width} x {height}; both sides must be at least 32 pixels")
    stack = lesion_stack(lesion, (width, height))
    pigment = _density(stack.coarse, dict.fromkeys(_ABSORPTION, 1.0))  # (3, H / 2, W / 2)
    return {
        "clinical": _clinical(lesion, stack, pigment, (width, height)),
        "dermoscopic": _dermoscopic(lesion, stack, pigment, (width, height)),
    }

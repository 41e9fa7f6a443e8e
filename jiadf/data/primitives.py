"""Shapes, noise and strokes from which the synthetic skin lesions are drawn.

Lengths are in units of half the picture's height, the origin in its middle, so that a picture of
any size shows the same thing. Random draws never depend on the size in pixels. Noise is drawn on a
coarse grid and enlarged; strokes are drawn larger than needed and reduced, which smooths them.

Used by :mod:`jiadf.data.draw`; nothing here knows what a diagnosis is.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Size = tuple[int, int]  # (width, height) in pixels, as in PIL


def resize(field: np.ndarray, size: Size) -> np.ndarray:
    """Resize a 2-D field to ``(width, height)`` pixels, smoothly in both directions."""
    if field.shape == (size[1], size[0]):
        return field
    image = Image.fromarray(np.ascontiguousarray(field, dtype=np.float32))
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC))


def smoothstep(field: np.ndarray) -> np.ndarray:
    """Map ..0..1.. onto 0..1 with flat ends."""
    field = np.clip(field, 0.0, 1.0)
    return field * field * (3.0 - 2.0 * field)


def noise(
    rng: np.random.Generator, size: Size, cells: float, octaves: int = 2, stretch: float = 1.0
) -> np.ndarray:
    """Return smooth noise with mean 0 and a spread of about 1.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the grid's values.
    size : tuple of int
        Width and height of the result in pixels.
    cells : float
        Grid cells from top to bottom in the first octave; each further octave doubles them.
    octaves : int
        Number of octaves, each at half the strength of the one before.
    stretch : float
        How many times longer than high a feature is.
    """
    total = np.zeros((size[1], size[0]), np.float32)
    for octave in range(octaves):
        rows = max(2, round(cells * 2**octave))
        columns = max(2, round(cells * 2**octave * size[0] / size[1] / stretch))
        grid = rng.standard_normal((rows, columns), dtype=np.float32)
        total += (1.35 * 0.5**octave) * resize(grid, size)
    return total


def ridges(rng: np.random.Generator, size: Size, cells: float, sharpness: float = 6.0):
    """Return a web of thin lines (1 on a line, 0 between): the zero crossings of noise."""
    return np.exp(-sharpness * np.abs(noise(rng, size, cells, 1)))


def grid(size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Return the coordinates x and y of all pixels in units of half the height."""
    width, height = size
    x = (np.arange(width, dtype=np.float32) + 0.5) * 2 / height - width / height
    y = (np.arange(height, dtype=np.float32) + 0.5) * 2 / height - 1
    return np.broadcast_to(x, (height, width)), np.broadcast_to(y[:, None], (height, width))


def honeycomb(x: np.ndarray, y: np.ndarray, period: float, angle: float) -> np.ndarray:
    """Return a net of hexagonal meshes, 1 on its lines and 0 in its holes."""
    total = np.zeros(np.broadcast_shapes(x.shape, y.shape), np.float32)
    for third in range(3):
        direction = angle + third * 2 * np.pi / 3
        wave = np.float32(2 * np.pi / period)
        total += np.cos(
            wave * (np.float32(np.cos(direction)) * x + np.float32(np.sin(direction)) * y)
        )
    return smoothstep((1.1 - total) / 2.4)


class Outline:
    """A closed outline around a centre, given by its radius in each direction.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the irregularities.
    centre : tuple of float
        Position in units of half the picture's height.
    radius, elongation, irregularity : float
        Mean radius, longest over shortest diameter, and relative depth of the notches.
    """

    ANGLES = np.linspace(-np.pi, np.pi, 257)

    def __init__(self, rng, centre, radius, elongation=1.0, irregularity=0.05):
        self.centre = centre
        self.mean_radius = radius
        turned = self.ANGLES - rng.uniform(0, np.pi)
        ratio = np.sqrt(elongation)
        ellipse = 1 / np.hypot(np.cos(turned) / ratio, np.sin(turned) * ratio)
        waves = np.arange(2, 14)
        size = irregularity * rng.standard_normal(len(waves)) / waves**0.95
        phase = rng.uniform(0, 2 * np.pi, len(waves))
        wobble = (size * np.cos(waves * self.ANGLES[:, None] + phase)).sum(axis=1)
        self.radii = radius * ellipse * np.clip(1 + wobble, 0.35, 1.7)

    def depth(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return 1 in the middle, 0 on the outline and less outside."""
        dx, dy = x - np.float32(self.centre[0]), y - np.float32(self.centre[1])
        radius = np.interp(np.arctan2(dy, dx), self.ANGLES, self.radii).astype(np.float32)
        return 1 - np.hypot(dx, dy) / radius

    def points(self, rng: np.random.Generator, count: int, inner=0.0, outer=1.0) -> np.ndarray:
        """Return ``(count, 2)`` points between two fractions of the radius."""
        angle = rng.uniform(-np.pi, np.pi, count)
        reach = np.sqrt(rng.uniform(inner**2, outer**2, count))
        reach = reach * np.interp(angle, self.ANGLES, self.radii)
        direction = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return np.asarray(self.centre) + reach[:, None] * direction


class Canvas:
    """A grey layer for strokes and dots, in units of half the height."""

    def __init__(self, size: Size):
        self.size = size
        self.zoom = 2 if size[1] >= 240 else 4
        self.image = Image.new("L", (size[0] * self.zoom, size[1] * self.zoom))
        self.pen = ImageDraw.Draw(self.image)
        self.unit = size[1] * self.zoom / 2
        self.offset = np.array([self.image.width / 2, self.image.height / 2])

    def line(self, path: np.ndarray, width: float, value: float = 1.0, taper: float = 1.0) -> None:
        """Draw a polyline ``(n, 2)``; its width falls to ``taper`` times at the far end."""
        pixels = path * self.unit + self.offset
        pieces = 1 if taper == 1 else 4
        cuts = np.linspace(0, len(pixels) - 1, pieces + 1).round().astype(int)
        for piece, (start, stop) in enumerate(pairwise(cuts)):
            thickness = width * self.unit * (1 + (taper - 1) * piece / max(1, pieces - 1))
            fill = round(255 * min(1.0, value * min(1.0, thickness)))
            corners = pixels[start : stop + 1].ravel().tolist()
            self.pen.line(corners, fill=fill, width=max(1, round(thickness)), joint="curve")

    def dot(self, centre, radius: float, value: float = 1.0) -> None:
        """Draw a filled circle."""
        x, y = np.asarray(centre) * self.unit + self.offset
        reach = radius * self.unit
        fill = round(255 * min(1.0, value * min(1.0, reach)))
        reach = max(reach, 0.5)
        self.pen.ellipse([x - reach, y - reach, x + reach, y + reach], fill=fill)

    def ring(self, centre, radius: float, width: float, value: float = 1.0) -> None:
        """Draw a circle's outline."""
        x, y = np.asarray(centre) * self.unit + self.offset
        reach = radius * self.unit
        box = [x - reach, y - reach, x + reach, y + reach]
        self.pen.ellipse(box, outline=round(255 * value), width=max(1, round(width * self.unit)))

    def blob(self, rng, centre, radius: float, value: float = 1.0, roughness=0.12, squash=1.3):
        """Draw a filled, rounded, irregular spot."""
        spot = Outline(rng, (0.0, 0.0), radius, squash, roughness)
        angle, reach = spot.ANGLES[::8], spot.radii[::8]
        edge = np.stack([reach * np.cos(angle), reach * np.sin(angle)], axis=1)
        pixels = (np.asarray(centre) + edge) * self.unit + self.offset
        self.pen.polygon(pixels.ravel().tolist(), fill=round(255 * min(1.0, value)))

    def array(self, blur: float = 0.0) -> np.ndarray:
        """Return the layer as float32 in 0..1 at its final size, blurred by ``blur`` units."""
        image = self.image.reduce(self.zoom)
        if blur > 0:
            # One pass of a box as wide as the bell: a third of the time, and nobody sees it.
            image = image.filter(ImageFilter.BoxBlur(1.5 * blur * self.size[1] / 2))
        return np.asarray(image, dtype=np.float32) / np.float32(255)


def wander(rng, start, angle: float, length: float, wiggle: float, steps: int = 9) -> np.ndarray:
    """Return a path ``(steps + 1, 2)`` from ``start`` turning by about ``wiggle`` a step."""
    turns = angle + np.cumsum(rng.normal(0, wiggle, steps))
    move = np.stack([np.cos(turns), np.sin(turns)], axis=1) * (length / steps)
    return np.concatenate([[start], start + np.cumsum(move, axis=0)])


def arborise(canvas: Canvas, rng, start, angle, length, width, generations=3) -> None:
    """Draw a vessel that branches like a tree, each branch thinner than its parent."""
    path = wander(rng, np.asarray(start), angle, length, 0.28)
    canvas.line(path, width, 0.95 if generations > 1 else 0.75, taper=0.6)
    if generations == 0:
        return
    for _ in range(rng.integers(2, 4)):
        where = rng.integers(3, len(path))
        turn = rng.choice([-1, 1]) * rng.uniform(0.4, 1.0)
        shorter = length * rng.uniform(0.4, 0.7)
        arborise(canvas, rng, path[where], angle + turn, shorter, width * 0.6, generations - 1)


def hairs(canvas: Canvas, rng, count: int, length: float, width: float, curl: float = 0.05) -> None:
    """Draw ``count`` hairs, mostly along one direction, over the whole canvas."""
    reach = canvas.size[0] / canvas.size[1]
    along = rng.uniform(0, 2 * np.pi)
    for _ in range(count):
        start = rng.uniform([-reach, -1.0], [reach, 1.0])
        angle = along + rng.normal(0, 0.5)
        bend = rng.normal(0, curl)
        turns = angle + bend * np.arange(12)
        step = length * rng.uniform(0.5, 1.2) / 12
        path = start + step * np.cumsum(np.stack([np.cos(turns), np.sin(turns)], axis=1), axis=0)
        canvas.line(path, width * rng.uniform(0.6, 1.2), rng.uniform(0.6, 0.95), taper=0.5)

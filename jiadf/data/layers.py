"""The stack of densities that one synthetic lesion consists of, before any picture is taken.

:func:`lesion_stack` turns the traits of a :class:`jiadf.data.appearance.Look` into fields over the
lesion: brown and deep blue-grey pigment, blood, yellow keratin, dark crust, white scatter and
height. Broad ones are computed at half the resolution, strokes and dots at the full one.
:mod:`jiadf.data.draw` takes both pictures from the same stack.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jiadf.data.appearance import Lesion, Look
from jiadf.data.primitives import (
    Canvas,
    Outline,
    Size,
    arborise,
    grid,
    honeycomb,
    noise,
    ridges,
    smoothstep,
    wander,
)


class Stack(NamedTuple):
    """Fields of one lesion in the frame of its dermoscopic picture."""

    coarse: dict[str, np.ndarray]  # at half the resolution
    fine: dict[str, np.ndarray]  # at full resolution
    depth: np.ndarray  # at half the resolution; above 0 inside, 1 in the middle


def _coarse(look: Look, outline: Outline, rng: np.random.Generator, size: Size):
    x, y = grid(size)
    depth = outline.depth(x, y)
    broad, middle, small = (noise(rng, size, cells) for cells in (3.5, 9, 30))
    depth = depth + look.irregularity * (0.45 * broad + 0.4 * middle + 0.18 * small)
    alpha = smoothstep(depth / look.edge + 0.35)
    angle = rng.uniform(0, 2 * np.pi)
    towards = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    centre_x, centre_y = (np.float32(value) for value in outline.centre)
    side = (x - centre_x) * towards[0] + (y - centre_y) * towards[1]
    side = side / np.float32(outline.mean_radius)
    variation = (
        1 + look.mottle * (0.5 * broad + 0.4 * middle) + 0.09 * small + 0.7 * look.asymmetry * side
    )
    variation = np.clip(variation, 0.12, 2.2)

    melanin = look.melanin * alpha * variation
    if look.network > 0:
        warp = 0.035 * middle
        period = rng.uniform(0.055, 0.08)
        mesh = honeycomb(x + warp, y - 0.04 * broad, period, angle)
        strength = look.network * np.clip(0.75 + look.mottle * broad, 0.2, 1)
        melanin = melanin * (1 - 0.6 * strength + 0.95 * strength * mesh)
    if look.ridges > 0:
        across = x * towards[0] + y * towards[1] + 0.03 * broad
        stripes = smoothstep(0.6 + 0.9 * np.sin(across * np.float32(2 * np.pi / 0.06)))
        melanin = melanin * (1 - 0.5 * look.ridges + 0.7 * look.ridges * stripes)
    if look.fissures > 0:
        melanin = melanin + look.fissures * 0.9 * alpha * ridges(rng, size, 11, 5)
    blood = look.blood * alpha * np.clip(1 + 0.3 * middle + 0.22 * small, 0.2, 2)
    blood = blood + 0.35 * look.halo * np.exp(-np.square(np.minimum(depth, 0) / 0.45))
    if look.satellites > 0:
        spots = smoothstep(1.6 * noise(rng, size, 5, 1) - 1.2) * np.exp(-np.maximum(-depth, 0))
        blood = blood + look.satellites * 0.6 * spots
        alpha = np.maximum(alpha, 0.8 * look.satellites * spots)
    veil = smoothstep(0.9 * broad + 0.8 * side * look.asymmetry + 0.3)
    blue = look.blue * smoothstep(2.2 * depth) * (0.2 + 0.8 * veil)
    melanin = melanin * (1 - 0.55 * min(1.0, look.blue) * veil * smoothstep(2.2 * depth))
    yellow = look.yellow * alpha
    dark, pale = np.zeros_like(alpha), np.zeros_like(alpha)
    white = 0.25 * look.yellow * look.elevation * alpha + 0.12 * np.minimum(blue, 1)
    height = look.elevation * smoothstep(1.3 * depth) + 0.04 * alpha * look.elevation * middle

    if look.collarette > 0:
        white = white + 0.7 * look.collarette * np.exp(-np.square((depth + 0.05) / 0.08))
    if look.scar > 0:
        centre = smoothstep((depth - 0.35 + 0.1 * middle) / 0.5)
        pale = pale + 0.6 * look.scar * centre
        melanin = melanin * (1 - 0.8 * look.scar * centre)
    if look.regression > 0:
        patch = look.regression * smoothstep(2 * (noise(rng, size, 4, 1) - 0.4)) * alpha
        pale, melanin = pale + 0.4 * patch, melanin * (1 - 0.8 * patch)
        blue = blue + 0.25 * patch
    if look.follicles > 0:
        holes = 1 - honeycomb(x + 0.04 * middle, y + 0.04 * broad, 0.19, angle)
        white = white + 0.45 * look.follicles * alpha * smoothstep(2.2 * holes - 1.0)
        blood = blood * (1 + 0.5 * look.follicles * (0.5 - holes))
    if look.scale > 0:
        flakes = smoothstep(1.3 * small + 0.7 * middle + 1.3 * look.scale - 1.3)
        white = white + 0.75 * look.scale * alpha * flakes
        height = height + 0.06 * flakes * alpha * look.scale
    if look.keratin > 0:
        plug = smoothstep((depth - 0.5 + 0.1 * middle) / 0.22)
        white = white + look.keratin * plug * np.clip(0.55 + 0.2 * small, 0, 0.9)
        yellow = yellow + 0.8 * look.keratin * plug
        height = height - 0.3 * look.keratin * plug
    if look.crust > 0:
        lumps = smoothstep(1.8 * (noise(rng, size, 7) - 1.1 + 0.9 * look.crust)) * smoothstep(
            2 * depth
        )
        yellow, dark = yellow + 0.9 * look.crust * lumps, dark + 0.45 * look.crust * lumps
        height = height + 0.1 * look.crust * lumps * (1 + small)
    if look.ulcer > 0:
        place = outline.points(rng, 1, 0, 0.35)[0]
        reach = outline.mean_radius * (0.2 + 0.3 * look.ulcer)
        sore = Outline(rng, place, reach, 1.4, 0.2)
        open_skin = smoothstep(3 * (sore.depth(x, y) + 0.1 * small)) * min(1, 0.4 + look.ulcer)
        blood, dark = blood + 1.1 * open_skin, dark + 0.35 * open_skin * (1 + 0.5 * small)
        height = height - 0.15 * open_skin
    densities = {
        "melanin": melanin, "blood": blood, "blue": blue, "yellow": yellow, "dark": dark,
    }  # fmt: skip
    whites = {"white": np.clip(white, 0, 0.92), "pale": np.clip(pale, 0, 0.8)}
    clipped = {name: np.clip(field, 0, 4) for name, field in densities.items()}
    return clipped | whites | {"height": height, "alpha": alpha}, depth


def _fine(look: Look, outline: Outline, rng: np.random.Generator, size: Size):
    layers: dict[str, Canvas] = {}

    def on(layer: str) -> Canvas:
        return layers.setdefault(layer, Canvas(size))

    reach = outline.mean_radius
    for place in outline.points(rng, int(120 * look.globules * reach**0.5), 0, 0.97):
        size_of_dot = rng.uniform(0.012, 0.024)
        on("melanin").blob(rng, place, size_of_dot, rng.uniform(0.3, 0.75), 0.1, 1.2)
    for place in outline.points(rng, int(26 * look.comedones), 0, 0.85):
        on("melanin").blob(rng, place, rng.uniform(0.02, 0.05), rng.uniform(0.7, 1.0), 0.15)
    for angle in rng.uniform(-np.pi, np.pi, int(36 * look.streaks)):
        edge = np.interp(angle, outline.ANGLES, outline.radii)
        start = np.asarray(outline.centre) + 0.85 * edge * np.array([np.cos(angle), np.sin(angle)])
        path = wander(rng, start, angle, rng.uniform(0.1, 0.22), 0.08)
        on("melanin").line(path, rng.uniform(0.018, 0.03), 0.7)
        on("melanin").dot(path[-1], 0.02, 0.7)
    for place in outline.points(rng, int(14 * look.nests), 0.1, 0.95):
        on("blue").blob(rng, place, rng.uniform(0.03, 0.1), rng.uniform(0.5, 0.9), 0.15, 1.6)
    for angle in rng.uniform(-np.pi, np.pi, round(5 * look.arborising + 0.4)):
        edge = np.interp(angle, outline.ANGLES, outline.radii)
        start = np.asarray(outline.centre) + edge * np.array([np.cos(angle), np.sin(angle)])
        inwards = angle + np.pi + rng.normal(0, 0.5)
        width = 0.016 + 0.014 * look.arborising
        arborise(on("blood"), rng, start, inwards, edge * rng.uniform(0.8, 1.3), width)
    clusters = outline.points(rng, 7, 0, 0.8)
    for _ in range(int(130 * look.dotted)):
        place = clusters[rng.integers(7)] + rng.normal(0, 0.3 * reach, 2) * rng.choice([0.35, 1.0])
        on("blood").dot(place, rng.uniform(0.009, 0.016), rng.uniform(0.5, 0.85))
    for place in outline.points(rng, int(26 * look.hairpins), 0.3, 0.95):
        turn = rng.uniform(0, 2 * np.pi)
        bend = turn + np.linspace(-0.3, 3.4, 9)
        loop = place + 0.035 * np.stack([np.cos(bend), 1.8 * np.sin(bend)], axis=1)
        on("bright").dot(place, 0.06, 0.22)
        on("blood").line(loop, 0.012, 0.85)
    if look.lacunae > 0:
        spots: list[tuple[np.ndarray, float]] = []
        for place in outline.points(rng, 90, 0, 0.88):
            radius = rng.uniform(0.04, 0.1) * (reach / 0.5)
            if all(np.hypot(*(place - spot)) > 0.8 * (radius + other) for spot, other in spots):
                spots.append((place, radius))
        for place, radius in spots:
            clotted = rng.random() < look.thrombosed
            tone = rng.uniform(0.5, 0.95) * (0.6 + 0.4 * look.lacunae)
            on("bright").blob(rng, place, radius * 1.2, 0.12, 0.08)
            on("blood").blob(rng, place, radius, tone, 0.08)
            if clotted:
                on("blue").blob(rng, place, radius * 0.95, rng.uniform(0.6, 1.0), 0.08)
    for place in outline.points(rng, int(30 * look.milia), 0, 0.85):
        on("bright").dot(place, rng.choice([0.014, 0.02, 0.034], p=[0.5, 0.35, 0.15]), 0.8)
    slant = rng.uniform(0, np.pi)
    for place in outline.points(rng, int(28 * look.white_lines), 0, 0.8):
        angle = slant + rng.choice([0, np.pi / 2]) + rng.normal(0, 0.1)
        step = rng.uniform(0.04, 0.09) * np.array([np.cos(angle), np.sin(angle)])
        on("bright").line(np.array([place - step, place + step]), 0.012, 0.6)
    blur = {
        "melanin": 0.006,
        "blood": 0.012 if look.lacunae else 0.005,
        "blue": 0.018,
        "bright": 0.006,
    }
    return {name: canvas.array(blur[name]) for name, canvas in layers.items()}


def lesion_stack(lesion: Lesion, size: Size) -> Stack:
    """Return the stack of a lesion for a dermoscopic picture of ``size`` pixels."""
    half = max(2, size[0] // 2), max(2, size[1] // 2)
    rng = lesion.rng(1)
    centre = rng.normal(0, 0.05, 2)
    parts = []
    for number, look in enumerate(lesion.looks):
        shift = np.array([0.0, 0.0])
        if len(lesion.looks) > 1:
            shift = (number - 0.5) * np.array([0.62, 0.2])
        elongation = look.elongation
        outline = Outline(rng, tuple(centre + shift), look.radius, elongation, look.irregularity)
        outline.radii = np.minimum(outline.radii, 0.92)
        # The two parts of a collision are independent; the generators' order is fixed.
        coarse, depth = _coarse(look, outline, lesion.rng(20 + number), half)
        parts.append(Stack(coarse, _fine(look, outline, lesion.rng(30 + number), size), depth))
    first = parts[0]
    for other in parts[1:]:
        for name, field in other.coarse.items():
            first.coarse[name] = np.maximum(first.coarse[name], field)
        for name, field in other.fine.items():
            first.fine[name] = np.maximum(first.fine[name], field) if name in first.fine else field
        first = first._replace(depth=np.maximum(first.depth, other.depth))
    return first

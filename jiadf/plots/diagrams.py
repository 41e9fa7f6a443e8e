"""A canvas for pictures of a computation, in inches, with boxes, arrows and small matrices.

An image stream is blue, metadata orange, what both made green.
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle

from jiadf.plots.style import PALETTE, WIDTH, subplots

IMAGE, METADATA, JOINT = PALETTE[0], PALETTE[1], PALETTE[2]
Colour = Sequence[float]
Point = tuple[float, float]


def _tint(colour: Colour, strength: float) -> tuple[float, ...]:
    """Mix a colour with white."""
    return tuple(1 - strength * (1 - part) for part in colour[:3])


class Diagram:
    """A canvas, 8 inches wide, the origin at its lower left, without axes."""

    def __init__(self, height: float) -> None:
        self.figure, self.axes = subplots(figsize=(WIDTH, height), layout="none")
        self.axes.set_position((0, 0, 1, 1))
        self.axes.set(xlim=(0, WIDTH), ylim=(0, height))
        self.axes.axis("off")

    def text(self, at: Point, text: str, size: float = 9.5, **style) -> None:
        """Write `text` centred at a point; `style` is matplotlib's."""
        style = {"ha": "center", "va": "center", "color": "0.15", "linespacing": 1.35} | style
        self.axes.text(*at, text, fontsize=size, zorder=4, **style)

    def box(self, centre: Point, size: Point, text: str, colour: Colour = (0.45,) * 3) -> None:
        """Draw a rounded box around `centre`, `size` wide and high, with `text` in it."""
        style = {"facecolor": _tint(colour, 0.22), "edgecolor": colour, "linewidth": 1.3}
        self._card(centre, size, 0.07, zorder=2, **style)
        self.text(centre, text)

    def plate(self, centre: Point, size: Point, text: str) -> None:
        """Draw pale cards behind what is repeated, `text` in their lower left corner."""
        (x, y), (width, height) = centre, size
        style = {"facecolor": "0.975", "edgecolor": "0.75", "linewidth": 1, "zorder": 0}
        for shift in (0.12, 0.06, 0):
            self._card((x + shift, y + shift), size, 0.1, **style)
        self.text((x - width / 2 + 0.1, y - height / 2 + 0.16), text, ha="left", color="0.35")

    def _card(self, centre: Point, size: Point, rounding: float, **style) -> None:
        (x, y), (width, height) = centre, size
        shape = f"round,pad=0,rounding_size={rounding}"
        corner = (x - width / 2, y - height / 2)
        self.axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle=shape, **style))

    def matrix(self, centre: Point, size: Point, colours: Sequence[Sequence[Colour]]) -> None:
        """Draw a matrix as cells; `colours` has a colour a cell, row by row from the top."""
        (x, y), (width, height) = centre, size
        cell = (width / len(colours[0]), height / len(colours))
        for row, line in enumerate(colours):
            for column, colour in enumerate(line):
                corner = (x - width / 2 + column * cell[0], y + height / 2 - (row + 1) * cell[1])
                style = {"facecolor": _tint(colour, 0.4), "edgecolor": "white", "linewidth": 1.5}
                self.axes.add_patch(Rectangle(corner, *cell, zorder=2, **style))

    def operator(self, centre: Point, text: str) -> None:
        """Draw a small circle with a sign in it."""
        style = {"facecolor": "white", "edgecolor": "0.3", "linewidth": 1.3, "zorder": 2}
        self.axes.add_patch(Circle(centre, 0.13, **style))
        self.text(centre, text, 11)

    def arrow(self, *points: Point, colour: Colour | str = "0.3", dashed: bool = False) -> None:
        """Draw an arrow along straight pieces through `points`."""
        line = (0, (3, 2)) if dashed else "-"
        style = {"color": colour, "linewidth": 1.3, "linestyle": line, "zorder": 1}
        if len(points) > 2:
            self.axes.plot(*zip(*points[:-1], strict=True), solid_joinstyle="round", **style)
        head = {"arrowstyle": "-|>", "mutation_scale": 11, "shrinkA": 0, "shrinkB": 0}
        self.axes.add_patch(FancyArrowPatch(points[-2], points[-1], **head, **style))

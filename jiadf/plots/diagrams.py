"""A canvas for pictures of a computation, in inches, with boxes, arrows and small matrices.

An image stream is blue, metadata orange, what both made green.
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle

from jiadf.plots.style import PALETTE, WIDTH, subplots

IMAGE, METADATA, JOINT = PALETTE[0], PALETTE[1], PALETTE[2]
PLAIN = (0.45, 0.45, 0.45)
Point = tuple[float, float]


def _tint(colour: Sequence[float], strength: float = 0.22) -> tuple[float, ...]:
    """Mix a colour with white."""
    return tuple(1 - strength * (1 - part) for part in colour[:3])


class Diagram:
    """A canvas in inches, the origin at its lower left, without axes.

    Parameters
    ----------
    width, height : float
        Size in inches.
    """

    def __init__(self, width: float = WIDTH, height: float = 4.0) -> None:
        self.figure: Figure
        self.axes: Axes
        self.figure, self.axes = subplots(figsize=(width, height), layout="none")
        self.axes.set_position((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(0, height))
        self.axes.axis("off")

    def text(self, at: Point, text: str, size: float = 9.5, **style) -> None:
        """Write `text` centred at a point; `style` is matplotlib's."""
        style = {"ha": "center", "va": "center", "color": "0.15", "linespacing": 1.35} | style
        self.axes.text(*at, text, fontsize=size, zorder=4, **style)

    def box(
        self, centre: Point, size: Point, text: str, colour: Sequence[float] = PLAIN,
        linewidth: float = 1.3, fontsize: float = 9.5, **style,
    ) -> None:  # fmt: skip
        """Draw a rounded box around `centre`, `size` wide and high, with `text` in it."""
        (x, y), (width, height) = centre, size
        self.axes.add_patch(
            FancyBboxPatch(
                (x - width / 2, y - height / 2), width, height,
                boxstyle="round,pad=0,rounding_size=0.07",
                facecolor=_tint(colour), edgecolor=colour, linewidth=linewidth, zorder=2,
            )
        )  # fmt: skip
        self.text(centre, text, fontsize, **style)

    def matrix(
        self, centre: Point, size: Point, colours: Sequence[Sequence[Sequence[float]]]
    ) -> None:
        """Draw a matrix as cells; `colours` has a colour a cell, row by row from the top."""
        (x, y), (width, height) = centre, size
        rows, columns = len(colours), len(colours[0])
        cell = (width / columns, height / rows)
        for row, line in enumerate(colours):
            for column, colour in enumerate(line):
                corner = (x - width / 2 + column * cell[0], y + height / 2 - (row + 1) * cell[1])
                self.axes.add_patch(
                    Rectangle(
                        corner, *cell, facecolor=_tint(colour, 0.4), edgecolor="white",
                        linewidth=1.5, zorder=2,
                    )
                )  # fmt: skip

    def plate(self, centre: Point, size: Point, text: str, copies: int = 3) -> None:
        """Draw a pale card behind what is repeated, `text` in its lower left corner."""
        (x, y), (width, height) = centre, size
        for copy in reversed(range(copies)):
            shift = 0.06 * copy
            self.axes.add_patch(
                FancyBboxPatch(
                    (x - width / 2 + shift, y - height / 2 + shift), width, height,
                    boxstyle="round,pad=0,rounding_size=0.1", facecolor="0.975", edgecolor="0.75",
                    linewidth=1, zorder=0,
                )
            )  # fmt: skip
        self.text((x - width / 2 + 0.1, y - height / 2 + 0.16), text, ha="left", color="0.35")

    def operator(self, centre: Point, text: str) -> None:
        """Draw a small circle with a sign in it."""
        self.axes.add_patch(
            Circle(centre, 0.13, facecolor="white", edgecolor="0.3", linewidth=1.3, zorder=2)
        )
        self.text(centre, text, 11)

    def arrow(
        self, *points: Point, colour: Sequence[float] | str = "0.3", dashed: bool = False
    ) -> None:
        """Draw an arrow along straight pieces through `points`."""
        style = {"color": colour, "linewidth": 1.3, "zorder": 1}
        style["linestyle"] = (0, (3, 2)) if dashed else "-"
        if len(points) > 2:
            self.axes.plot(*zip(*points[:-1], strict=True), solid_joinstyle="round", **style)
        self.axes.add_patch(
            FancyArrowPatch(
                points[-2], points[-1], arrowstyle="-|>", mutation_scale=11, shrinkA=0, shrinkB=0,
                **style,
            )
        )  # fmt: skip

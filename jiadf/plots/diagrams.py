"""Pictures of a computation: boxes and arrows, and with them MMFA and adaptive decision fusion.

``Diagram`` is a canvas in inches with boxes, arrows and small matrices. ``mmfa_diagram`` draws
equations (8) to (11) of the paper and ``adf_diagram`` equations (3) to (7); both write the sizes
they are given beside what has them. An image stream is blue, metadata orange, what both made green.
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


def mmfa_diagram(
    token_dims: Sequence[int] = (2560, 128), num_heads: int = 4, head_dim: int = 32,
    out_dim: int = 256,
) -> Figure:  # fmt: skip
    """Draw multi-modal fusion attention, equations (8) to (11), for an image and a metadata token.

    Parameters
    ----------
    token_dims : (int, int)
        Width of the image features and of the metadata features.
    num_heads, head_dim, out_dim : int
        Heads H, their width d_h, width of the joint representation.
    """
    image_dim, metadata_dim = token_dims
    drawing = Diagram(height=4.5)
    box, arrow, text = drawing.box, drawing.arrow, drawing.text
    upper, lower, middle = 3.5, 1.95, 2.72
    both, attended = image_dim + metadata_dim, len(token_dims) * num_heads * head_dim

    drawing.plate((3.62, middle), (3.6, 3.1), f"{num_heads} heads, each $d_h = {head_dim}$")
    for y, colour, name, width in (
        (upper, IMAGE, "img", image_dim),
        (lower, METADATA, "meta", metadata_dim),
    ):
        box((0.68, y), (0.96, 0.66), f"$f_{{\\mathrm{{{name}}}}}$\n{width}", colour)
        box((2.32, y), (0.72, 0.66), "$W^q\\;W^k$\n$W^v$", colour)
        arrow((1.16, y), (1.96, y), colour=colour)
        for target in (3.65, middle, 1.8):
            arrow((2.68, y), (3.16, target), colour=colour)
    for y, name in ((3.65, "Q"), (middle, "K"), (1.8, "V")):
        drawing.matrix((3.5, y), (0.62, 0.42), [[IMAGE], [METADATA]])
        text((3.5, y + 0.34), f"${name}$")
    text((2.32, 4.07), "(8)", color="0.4")

    blend = tuple((a + b) / 2 for a, b in zip(IMAGE, METADATA, strict=True))
    drawing.matrix((4.78, 3.2), (0.5, 0.5), [[IMAGE, blend], [blend, METADATA]])
    text((4.78, 3.82), "$A=\\mathrm{softmax}$\n$(QK^{\\top}\\!/\\sqrt{d_h})$", 8.5)
    text((5.2, 2.88), "(9)", color="0.4")
    arrow((3.83, 3.65), (4.16, 3.65), (4.16, 3.28), (4.51, 3.28))
    arrow((3.83, middle), (4.16, middle), (4.16, 3.12), (4.51, 3.12))
    drawing.matrix((4.78, 1.8), (0.62, 0.42), [[blend], [blend]])
    text((4.78, 1.42), "$O = A\\,V$")
    arrow((3.83, 1.8), (4.45, 1.8))
    arrow((4.78, 2.93), (4.78, 2.03))

    box((6.0, 1.8), (0.74, 0.66), f"$f_{{\\mathrm{{att}}}}$\n{attended}", JOINT)
    text((6.0, 1.3), "(10)", 9.5, color="0.4")
    arrow((5.11, 1.8), (5.63, 1.8))
    box((7.0, 1.8), (0.84, 0.6), "$\\phi(W_o f_{\\mathrm{att}})$", JOINT)
    text((7.0, 2.25), "attention path", 8.5, color="0.4")
    arrow((6.37, 1.8), (6.58, 1.8))

    box((2.3, 0.5), (1.3, 0.6), f"$[f_{{\\mathrm{{img}}}};f_{{\\mathrm{{meta}}}}]$\n{both}", JOINT)
    arrow((0.2, upper), (0.08, upper), (0.08, 0.4), (1.65, 0.4), colour=IMAGE)
    arrow((0.68, lower - 0.33), (0.68, 0.6), (1.65, 0.6), colour=METADATA)
    box((4.78, 0.5), (0.74, 0.6), "$\\phi(W_s\\,\\cdot)$", JOINT)
    text((5.75, 0.32), "skip path", 8.5, color="0.4")
    arrow((2.95, 0.5), (4.41, 0.5))

    drawing.operator((7.0, 1.0), "+")
    arrow((7.0, 1.5), (7.0, 1.13))
    arrow((5.15, 0.5), (7.0, 0.5), (7.0, 0.87))
    text((6.72, 1.0), "(11)", color="0.4")
    box((7.58, 1.0), (0.64, 0.66), f"$f_{{\\mathrm{{joint}}}}$\n{out_dim}", JOINT)
    arrow((7.13, 1.0), (7.26, 1.0))
    return drawing.figure


def adf_diagram(num_classes: int = 11, gate_hidden: int = 32) -> Figure:
    """Draw heads, gate, fused posterior and losses, equations (3) to (7).

    Parameters
    ----------
    num_classes : int
        Classes K.
    gate_hidden : int
        Width of the gate's hidden layer.
    """
    drawing = Diagram(height=4.3)
    box, arrow, text = drawing.box, drawing.arrow, drawing.text
    rows = {"img": (3.65, IMAGE), "meta": (2.6, METADATA), "joint": (1.55, JOINT)}
    centre, gate = 2.6, 0.5

    for column, (name, (y, colour)) in enumerate(rows.items()):
        sub = f"_{{\\mathrm{{{name}}}}}"
        box((0.55, y), (0.8, 0.56), f"$f{sub}$", colour)
        box((1.85, y), (0.8, 0.56), f"$z{sub}$\n{num_classes}", colour)
        box((4.0, y), (1.2, 0.5), f"$\\mathrm{{softmax}}(z{sub})$", colour)
        text((4.0, y - 0.4), f"loss $\\mathcal{{L}}{sub}$ (4)", 8.5, color="0.4")
        arrow((0.95, y), (1.45, y), colour=colour)
        arrow((2.25, y), (3.4, y), colour=colour)
        drop = 2.9 - 0.2 * column
        drawing.axes.plot([drop], [y], "o", color=colour, markersize=4, zorder=3)
        arrow((drop, y), (drop, gate + 0.28), colour=colour)
        arrow((4.6, y), (5.37, y), colour=colour)
        drawing.operator((5.5, y), "×")
        text((5.72, y - 0.3), f"$w{sub}$", 9)
    text((1.2, 4.1), "heads (3)", color="0.4")

    box((2.7, gate), (1.1, 0.56), f"$[z_b]$\n{len(rows) * num_classes}")
    box((4.05, gate), (0.9, 0.56), f"$\\phi(W_1\\,\\cdot)$\n{gate_hidden}")
    box((5.5, gate), (1.3, 0.56), f"$\\mathrm{{softmax}}(W_2\\,\\cdot)$\n{len(rows)}")
    text((1.7, gate), "gate (5)", color="0.4")
    arrow((3.25, gate), (3.6, gate))
    arrow((4.5, gate), (4.85, gate))
    below = gate + 0.28
    for y in (1.55, 2.6, 3.65):
        arrow((5.5, below), (5.5, y - 0.13))
        below = y + 0.13

    drawing.operator((6.4, centre), "+")
    arrow((5.63, 3.65), (6.4, 3.65), (6.4, centre + 0.13), colour=IMAGE)
    arrow((5.63, centre), (6.27, centre), colour=METADATA)
    arrow((5.63, 1.55), (6.4, 1.55), (6.4, centre - 0.13), colour=JOINT)
    box((7.25, centre), (0.8, 0.56), f"$p$\n{num_classes}")
    text((7.25, centre + 0.45), "posterior (6)", color="0.4")
    arrow((6.53, centre), (6.85, centre))
    box((7.15, gate), (1.5, 0.56), "$-\\log p_y + \\sum_b \\lambda_b \\mathcal{L}_b$")
    text((6.92, gate + 0.43), "loss (7)", color="0.4")
    arrow((7.25, centre - 0.28), (7.25, gate + 0.28), dashed=True)
    return drawing.figure

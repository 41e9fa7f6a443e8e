"""A picture of each published method of Table 1, drawn from a short description of it.

:data:`SKETCHES` says of a method which parts it has, where each stands on a grid of columns and
rows, and what goes into what; :func:`method_diagram` draws any of them. Colours are those of
:mod:`jiadf.plots.diagrams`: images blue, metadata orange, what both made green. What makes a
method that method has a bold frame; a dashed arrow leads to a loss and takes no part in predicting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.figure import Figure

from jiadf.plots.diagrams import IMAGE, JOINT, METADATA, PLAIN, Diagram
from jiadf.plots.style import WIDTH

COLUMNS = 6
_COLOURS = {"image": IMAGE, "metadata": METADATA, "joint": JOINT, "plain": PLAIN}
_PITCH, _ROW, _MARGIN = WIDTH / COLUMNS, 0.7, 0.12
_BOX, _FONT = (1.04, 0.57), 8.8


@dataclass(frozen=True)
class Part:
    """A box: its text, its place in columns and rows (the first is 0), its kind."""

    text: str
    column: float
    row: float
    kind: str = "plain"
    defining: bool = False

    @property
    def width(self) -> float:
        """Width in inches; long words get a little more."""
        longest = max(map(len, self.text.split("\n")))
        return _BOX[0] + 0.06 * max(0, longest - 13)


@dataclass(frozen=True)
class Sketch:
    """A method: its parts by name, and its arrows, ``from to`` with commas between.

    ``from to dashed`` leads to a loss; ``from to down`` goes level to the target's column and then
    down into it.
    """

    parts: Mapping[str, Part]
    arrows: str


def _inputs(metadata: str = "metadata", rows: tuple[float, float, float] = (0, 1, 2)) -> dict:
    return {
        "c": Part("clinical\nimage", 0, rows[0], "image"),
        "d": Part("dermoscopic\nimage", 0, rows[1], "image"),
        "m": Part(metadata, 0, rows[2], "metadata"),
    }


def _streams(image: str, metadata: str, read_as: str = "metadata") -> dict:
    """Make inputs, and what is made of both images and of the metadata."""
    made = {"i": Part(image, 1, 0.5, "image"), "f": Part(metadata, 1, 2, "metadata")}
    return _inputs(read_as) | made


_TO_STREAMS = "c i, d i, m f, "

SKETCHES: dict[str, Sketch] = {
    "jif-mmfa": Sketch(
        _streams("image\nfeatures", "metadata\nfeatures")
        | {
            "fusion": Part("fusion\nattention", 2, 1.25, "joint", True),
            "hi": Part("image\nhead", 3, 0.3, "image"),
            "hj": Part("joint\nhead", 3, 1.25, "joint"),
            "hm": Part("metadata\nhead", 3, 2.2, "metadata"),
            "mean": Part("average\nof three", 4, 1.25, "joint", True),
            "p": Part("posterior", 5, 1.25),
        },
        _TO_STREAMS + "i fusion, f fusion, i hi, f hm, fusion hj, hi mean, hj mean, hm mean, "
        "mean p",
    ),
    "vemfl": Sketch(
        _streams("frozen\nembedding", "frozen\nembedding", "metadata as\na sentence")
        | {
            "gap": Part("close the gap\nof the means", 2, 1.25, "joint", True),
            "cat": Part("concatenate", 3, 1.25, "joint"),
            "mlp": Part("small MLP", 4, 1.25, "joint"),
            "p": Part("posterior", 5, 1.25),
        },
        _TO_STREAMS + "i gap, f gap, gap cat, cat mlp, mlp p",
    ),
    "caffm": Sketch(
        _streams("image\ntokens", "a token\na field")
        | {
            "a": Part("image attends\nto fields", 2, 0.5, "joint", True),
            "b": Part("fields attend\nto image", 2, 2, "joint", True),
            "cat": Part("means,\nconcatenated", 3, 1.25, "joint"),
            "mlp": Part("classifier", 4, 1.25, "joint"),
            "p": Part("posterior", 5, 1.25),
        },
        _TO_STREAMS + "i a, f a, i b, f b, a cat, b cat, cat mlp, mlp p",
    ),
    "albef": Sketch(
        _streams("image\nencoder", "text\nencoder", "metadata as\na sentence")
        | {
            "align": Part("contrastive\nloss, queue", 2, 1.25, "joint", True),
            "fusion": Part("fusion encoder:\ntext asks image", 3, 2, "joint", True),
            "match": Part("matching\nloss", 4, 1.1, "joint"),
            "mlp": Part("classifier", 4, 2, "joint"),
            "p": Part("posterior", 5, 2),
        },
        _TO_STREAMS + "i align dashed, f align dashed, i fusion down, f fusion, "
        "fusion match dashed, fusion mlp, mlp p",
    ),
    "coscatnet-ufs": Sketch(
        _inputs(rows=(0, 1, 2.1))
        | {
            "each": Part("a branch\nfor each", 1, 0, "image"),
            "both": Part("a branch\nfor both", 1, 1, "image", True),
            "cosine": Part("cosine\nloss", 2, 0, "image", True),
            "di": Part("decision of\nthe images", 2, 1, "image"),
            "dm": Part("metadata\nnetwork", 3, 2.1, "metadata"),
            "mix": Part("mean, weighted\nby expected\nerror", 4, 1.4, "joint", True),
            "p": Part("posterior", 5, 1.4),
        },
        "c each, d each, c both, d both, each cosine dashed, both di, m dm, "
        "di dm, di mix, dm mix, mix p",
    ),
    "dualrefnet": Sketch(
        _streams("image\nfeatures", "metadata\nfeatures")
        | {
            "detail": Part("restore detail\n(finetune)", 2, 0.1, "image", True),
            "times": Part("product", 2, 1.25, "joint"),
            "hidden": Part("hidden\nlayer", 3, 1.25, "joint"),
            "last": Part("common classes\npenalised", 4, 1.25, "joint", True),
            "p": Part("posterior", 5, 1.25),
        },
        _TO_STREAMS + "i detail dashed, i times, f times, times hidden, hidden last, last p",
    ),
    "skinm2former": Sketch(
        _inputs()
        | {
            "tc": Part("clinical\ntokens", 1, 0, "image"),
            "td": Part("dermoscopic\ntokens", 1, 1, "image"),
            "tm": Part("metadata\ntokens", 1, 2, "metadata"),
            "tri": Part("each attends to\nthe others,\ntwo levels", 2, 1, "joint", True),
            "ask": Part("a query a class\ngathers", 3, 1, "joint"),
            "labels": Part("queries attend\nto each other", 4, 1, "joint", True),
            "p": Part("posterior", 5, 1),
        },
        "c tc, d td, m tm, tc tri, td tri, tm tri, tri ask, ask labels, labels p",
    ),
    "panderm": Sketch(
        _inputs("metadata\n(not read)")
        | {
            "vit": Part("ViT pretrained\non skin pictures", 1.4, 0.5, "image", True),
            "cat": Part("features of both,\nconcatenated", 2.8, 0.5, "image"),
            "head": Part("linear\nhead", 4, 0.5, "image"),
            "p": Part("posterior", 5, 0.5),
        },
        "c vit, d vit, vit cat, cat head, head p",
    ),
}


def method_diagram(method: str) -> Figure:
    """Draw a method of Table 1.

    Parameters
    ----------
    method : str
        A key of :data:`SKETCHES`, the parameter ``method`` of a run.

    Raises
    ------
    ValueError
        If there is no sketch of it.
    """
    if method not in SKETCHES:
        raise ValueError(f"no sketch of {method!r}; there are {', '.join(SKETCHES)}")
    parts, arrows = (
        SKETCHES[method].parts,
        [arrow.split() for arrow in SKETCHES[method].arrows.split(",")],
    )
    height = _BOX[1]
    lowest = max(part.row for part in parts.values())
    drawing = Diagram(height=lowest * _ROW + height + 2 * _MARGIN)
    top = lowest * _ROW + height / 2 + _MARGIN

    def centre(part: Part) -> tuple[float, float]:
        return (part.column + 0.5) * _PITCH, top - part.row * _ROW

    for part in parts.values():
        colour, linewidth = _COLOURS[part.kind], 3.0 if part.defining else 1.2
        drawing.box(centre(part), (part.width, height), part.text, colour, linewidth, _FONT)
    for source, target, *way in arrows:
        begin, end = parts[source], parts[target]
        (x, y), (to_x, to_y) = centre(begin), centre(end)
        points = [(x + begin.width / 2, y), (to_x, y), (to_x, to_y + height / 2 + 0.02)]
        if way != ["down"]:
            level = [s for s, t, *w in arrows if t == target and w != ["down"]]
            level.sort(key=lambda name: parts[name].row)
            shift = 0.13 * ((len(level) - 1) / 2 - level.index(source))  # heads side by side
            points[1:] = [(to_x - end.width / 2 - 0.03, to_y + shift)]
        drawing.arrow(*points, colour=_COLOURS[begin.kind], dashed=way == ["dashed"])
    return drawing.figure

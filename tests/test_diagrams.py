"""Diagrams carry the sizes they are given, stay on their canvas, and leave pyplot as it was."""

import functools

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import pytest
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from jiadf import plots
from jiadf.models.baselines import BASELINES
from jiadf.plots.diagrams import Diagram, adf_diagram, mmfa_diagram
from jiadf.plots.methods import SKETCHES, method_diagram


@pytest.fixture(scope="module", autouse=True)
def style():
    with matplotlib.rc_context():
        plots.use_style()
        yield


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def patches(figure, kind):
    return [patch for patch in figure.axes[0].patches if isinstance(patch, kind)]


def test_mmfa_diagram_shows_the_sizes_of_the_block():
    shown = "\n".join(texts(mmfa_diagram((50, 7), num_heads=3, head_dim=5, out_dim=11)))
    assert "3 heads, each $d_h = 5$" in shown
    for name, size in {"img": 50, "meta": 7, "att": 2 * 3 * 5, "joint": 11}.items():
        assert f"$f_{{\\mathrm{{{name}}}}}$\n{size}" in shown
    assert "\n57" in shown  # the concatenated tokens of the skip path
    assert all(f"({number})" in shown for number in (8, 9, 10, 11))


def test_adf_diagram_shows_the_sizes_of_gate_and_posterior():
    shown = texts(adf_diagram(num_classes=4, gate_hidden=6))
    assert "$[z_b]$\n12" in shown
    assert "$\\phi(W_1\\,\\cdot)$\n6" in shown
    assert "$p$\n4" in shown
    assert all(any(f"({number})" in text for text in shown) for number in (3, 4, 5, 6, 7))


def test_every_method_of_table_1_has_a_sketch_with_what_defines_it():
    assert set(SKETCHES) == {*BASELINES, "jif-mmfa"}
    for method, sketch in SKETCHES.items():
        assert any(part.defining for part in sketch.parts.values()), method
        ends = [arrow.split()[:2] for arrow in sketch.arrows.split(",")]
        assert {name for pair in ends for name in pair} <= set(sketch.parts), method
        led_to = {target for _, target in ends}
        assert "p" in led_to, method
        boxes = patches(method_diagram(method), FancyBboxPatch)
        assert len(boxes) == len(sketch.parts)
        bold = [box for box in boxes if box.get_linewidth() > 2]
        assert len(bold) == sum(part.defining for part in sketch.parts.values())
    with pytest.raises(ValueError, match="no sketch of 'resnet'; there are jif-mmfa"):
        method_diagram("resnet")


METHODS = [functools.partial(method_diagram, method) for method in SKETCHES]


@pytest.mark.parametrize("draw", [mmfa_diagram, adf_diagram, *METHODS])
def test_nothing_leaves_the_canvas_and_no_text_leaves_its_box(draw):
    figure = draw()
    figure.draw_without_rendering()
    canvas = figure.bbox
    boxes = [box.get_window_extent() for box in patches(figure, FancyBboxPatch)]
    for extent in [
        *boxes,
        *(arrow.get_window_extent() for arrow in patches(figure, FancyArrowPatch)),
    ]:
        assert canvas.x0 <= extent.x0
        assert extent.x1 <= canvas.x1
        assert canvas.y0 <= extent.y0
        assert extent.y1 <= canvas.y1
    for text in figure.axes[0].texts:
        extent = text.get_window_extent()
        middle = ((extent.x0 + extent.x1) / 2, (extent.y0 + extent.y1) / 2)
        around = [box for box in boxes if box.contains(*middle) and box.height < canvas.height / 3]
        for box in around:
            assert box.x0 <= extent.x0, text.get_text()
            assert extent.x1 <= box.x1, text.get_text()


def test_a_matrix_has_a_cell_for_each_colour_and_an_arrow_ends_where_told():
    drawing = Diagram(4, 2)
    drawing.matrix((1, 1), (0.8, 0.4), [[(0, 0, 0), (1, 1, 1)]] * 3)
    assert len(drawing.axes.patches) == 6
    assert drawing.axes.patches[0].get_width() == pytest.approx(0.4)
    drawing.arrow((2, 1), (3, 1), (3, 0.5))
    head = patches(drawing.figure, FancyArrowPatch)[0]
    assert head.get_path().vertices.max(axis=0)[0] == pytest.approx(3, abs=0.2)


def test_pyplot_keeps_no_figure():
    before = plt.get_fignums()
    mmfa_diagram()
    assert plt.get_fignums() == before

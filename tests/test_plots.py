"""The figures: they show the numbers given, fit their canvas, and leave pyplot as it was."""

from itertools import pairwise

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from jiadf import plots
from jiadf.data.schema import CLASSES
from jiadf.plots.style import as_jpeg, as_svg, subplots

BRANCHES = ["image", "metadata", "joint"]


@pytest.fixture(scope="module", autouse=True)
def style():
    with matplotlib.rc_context():
        plots.use_style()
        yield


@pytest.fixture(scope="module")
def gate():
    rng = np.random.default_rng(2)
    return rng.dirichlet([2, 1, 4], size=120), np.array(CLASSES)[np.arange(120) % 11]


def tick_boxes(axis):
    """Boxes in pixels of the tick labels that are shown, in order."""
    low, high = sorted(axis.get_view_interval())
    labels = [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    return [
        (label, label.get_window_extent())
        for label in labels
        if label.get_visible() and label.get_text() and not label.get_rotation() % 90
    ]


def assert_sound(figure):
    """The figure is white, fits the column, cuts or overlaps no label, and is not pyplot's."""
    assert isinstance(figure, Figure)
    assert to_hex(figure.get_facecolor()) == "#ffffff"
    assert plt.get_fignums() == []
    width, height = figure.get_size_inches() * figure.dpi
    assert width <= 800
    figure.draw_without_rendering()
    for ax in figure.axes:
        if not ax.get_visible() or not ax.axison:
            continue
        titles = [ax.xaxis.label, ax.yaxis.label, ax.title]
        boxes = [(label, label.get_window_extent()) for label in titles if label.get_text()]
        for axis in (ax.xaxis, ax.yaxis):
            ticks = tick_boxes(axis)
            for (left, one), (right, other) in pairwise(ticks):
                assert not one.overlaps(other), (left.get_text(), right.get_text())
            boxes += ticks
        for label, box in boxes:
            assert min(box.x0, box.y0) >= -1, label.get_text()
            assert box.x1 <= width + 1, label.get_text()
            assert box.y1 <= height + 1, label.get_text()


def names_on_y(ax):
    return [text.get_text() for text in ax.get_yticklabels()]


def test_dot_interval_draws_every_group():
    table = pd.DataFrame(
        {
            "label": ["macro F1", "macro AUC"] * 2,
            "model": ["ours"] * 2 + ["floor"] * 2,
            "value": [0.4, 0.8, 0.3, 0.7],
            "low": [0.3, 0.7, 0.2, 0.6],
            "high": [0.5, 0.9, 0.4, 0.8],
        }
    )
    figure = plots.dot_interval(table, group="model", xlabel="score")
    assert_sound(figure)
    ax = figure.axes[0]
    assert names_on_y(ax) == ["macro F1", "macro AUC"]
    assert [list(line.get_xdata()) for line in ax.lines] == [[0.4, 0.8], [0.3, 0.7]]
    segments = np.array(ax.collections[0].get_segments())
    np.testing.assert_allclose(segments[:, :, 0], [[0.3, 0.5], [0.7, 0.9]])
    assert ax.lines[0].get_ydata()[0] < ax.lines[1].get_ydata()[0]  # side by side
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ours", "floor"]
    assert_sound(plots.dot_interval(table.head(2)))


def test_gate_simplex_puts_corners_and_means_where_they_belong(gate):
    figure = plots.gate_simplex(np.eye(3), np.array(["a", "b", "c"]), BRANCHES)
    assert_sound(figure)
    ax = figure.axes[0]
    points = np.concatenate([c.get_offsets() for c in ax.collections[::2]])
    np.testing.assert_allclose(points, [[0, 0], [1, 0], [0.5, 3**0.5 / 2]])
    corners = {text.get_text(): text.xy for text in ax.texts}
    assert corners["joint only"] == pytest.approx((0.5, 3**0.5 / 2))
    weights, labels = gate
    figure = plots.gate_simplex(weights, labels, BRANCHES)
    assert_sound(figure)
    assert [t.get_text() for t in figure.legends[0].get_texts()] == list(CLASSES)
    mean = figure.axes[0].collections[1].get_offsets()[0]
    share = weights[labels == "AKIEC"].mean(0)
    np.testing.assert_allclose(mean, [share[1] + share[2] / 2, share[2] * 3**0.5 / 2])
    with pytest.raises(ValueError, match="3 corners"):
        plots.gate_simplex(np.full((2, 2), 0.5), labels[:2], ["image", "joint"])


METRICS = ["macro_auc", "macro_ap", "mean_accuracy", "mean_sensitivity", "mean_dice", "nll"]


def compared(pairs, names):
    """A table as compare_pairs gives it: every second difference stands."""
    rows = [
        (*pair, name, 0.1 * i - 0.2, 0.1 * i - 0.3, 0.1 * i, [0.01, 0.6][(i + j) % 2])
        for i, pair in enumerate(pairs)
        for j, name in enumerate(names)
    ]
    columns = ["system", "reference", "metric", "difference", "low", "high", "p_holm"]
    return pd.DataFrame(rows, columns=columns)


def test_paired_differences_fills_the_markers_of_those_that_stand():
    systems = ["C", "D", "M", "CD", "CM", "DM"]
    figure = plots.paired_differences(compared([(name, "CDM") for name in systems], METRICS))
    assert_sound(figure)
    assert [ax.get_title() for ax in figure.axes][:2] == ["Macro AUC", "Macro AP"]
    assert names_on_y(figure.axes[0]) == systems
    assert figure.get_supxlabel() == "difference from CDM"
    for j, ax in enumerate(figure.axes):
        zero, filled, hollow = ax.lines
        assert list(zero.get_xdata()) == [0, 0]
        assert to_hex(hollow.get_markerfacecolor()) == "#ffffff"
        assert to_hex(filled.get_markerfacecolor()) != "#ffffff"
        assert list(filled.get_ydata()) == [i for i in range(6) if (i + j) % 2 == 0]
        np.testing.assert_allclose(filled.get_xdata(), 0.1 * filled.get_ydata() - 0.2)
        assert list(hollow.get_ydata()) == [i for i in range(6) if (i + j) % 2]
        segments = np.concatenate([np.array(c.get_segments()) for c in ax.collections])
        np.testing.assert_allclose(
            np.sort(segments[:, 0, 0]), np.sort(0.1 * np.arange(6) - 0.3), atol=1e-12
        )
        low, high = ax.get_xlim()
        assert low < 0 < high


@pytest.mark.parametrize("count", [1, 2, 4, 5])
def test_paired_differences_names_both_systems_where_references_differ(count):
    pairs = [("jf-mmfa", "late-concat"), ("ji-mmfa", "jf-mmfa"), ("ji-adf-noaux", "ji-mmfa")]
    table = compared(pairs, METRICS[:count])
    figure = plots.paired_differences(table)
    assert_sound(figure)
    assert sum(ax.get_visible() for ax in figure.axes) == count
    assert names_on_y(figure.axes[0])[0] == "jf-mmfa − late-concat"
    assert_sound(plots.paired_differences(table.head(1)))


def test_line_art_is_svg_with_clouds_as_dots_and_photographs_are_jpeg():
    figure, ax = subplots()
    ax.scatter(*np.zeros((2, 40)))
    assert as_jpeg(figure) is None
    assert "<image" not in as_svg(figure)
    ax.scatter(*np.zeros((2, 4000)))
    svg = as_svg(figure)
    assert "<image" in svg
    assert as_svg(figure) == svg  # the same bytes each time
    ax.imshow(np.zeros((240, 320, 3)))
    assert as_svg(figure) is None
    assert as_jpeg(figure)[:3] == b"\xff\xd8\xff"

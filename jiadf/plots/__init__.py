"""Figures of the book: functions that take arrays and tables and return a matplotlib Figure.

Nothing here reads a file or knows a model.  ``use_style()`` once, at the top of a notebook, sets
the looks; each function then returns one figure, sized for the book's column (800 pixels), which
a notebook shows by ending a cell with the call.

    >>> from jiadf import plots
    >>> plots.use_style()
    >>> figure = plots.history(run.history)

``style`` holds the looks, ``data`` pictures of the data set, ``scores`` of results, ``comparison``
of systems beside one another, ``fusion`` of attention and gate weights, ``diagrams`` and
``methods`` of computations and of the published methods, and for the studies ``calibration`` of
probabilities and what is decided with them, ``robustness`` of damage, slices and the gate's
reaction, ``submission`` of cuts and ensembles.
"""

from jiadf.plots.calibration import (
    class_bias,
    coverage_by_class,
    coverage_by_run,
    ece_binning,
    error_panels,
    operating_points,
    plausible_ece,
    reliability_panels,
    risk_curves,
)
from jiadf.plots.comparison import class_heatmap, paired_differences, table_beside
from jiadf.plots.data import image_pairs
from jiadf.plots.fusion import (
    gate_course,
    gate_means,
    gate_openness,
    gate_simplex,
)
from jiadf.plots.methods import method_diagram
from jiadf.plots.robustness import (
    corruption_examples,
    damage_scores,
    gate_reaction,
    slice_scores,
)
from jiadf.plots.scores import (
    confusion,
    dot_interval,
    history,
    per_class_intervals,
    reliability,
)
from jiadf.plots.style import use_style
from jiadf.plots.submission import (
    class_cuts,
    f1_by_cut,
    mapping_cost,
    mapping_curves,
    mapping_ways,
    variant_scores,
)

__all__ = [
    "class_bias",
    "class_cuts",
    "class_heatmap",
    "confusion",
    "corruption_examples",
    "coverage_by_class",
    "coverage_by_run",
    "damage_scores",
    "dot_interval",
    "ece_binning",
    "error_panels",
    "f1_by_cut",
    "gate_course",
    "gate_means",
    "gate_openness",
    "gate_reaction",
    "gate_simplex",
    "history",
    "image_pairs",
    "mapping_cost",
    "mapping_curves",
    "mapping_ways",
    "method_diagram",
    "operating_points",
    "paired_differences",
    "per_class_intervals",
    "plausible_ece",
    "reliability",
    "reliability_panels",
    "risk_curves",
    "slice_scores",
    "table_beside",
    "use_style",
    "variant_scores",
]

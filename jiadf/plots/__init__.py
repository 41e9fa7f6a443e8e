"""Figures of the book: functions that take arrays and tables and return a matplotlib Figure.

Nothing here reads a file or knows a model.  ``use_style()`` once, at the top of a notebook, sets
the looks; each function then returns one figure, sized for the book's column (800 pixels), which
a notebook shows by ending a cell with the call.

    >>> from jiadf import plots
    >>> plots.use_style()
    >>> figure = plots.class_counts(["BCC", "NV", "BCC"])

``style`` holds the looks, ``data`` pictures of the data set, ``scores`` of results, ``comparison``
of systems beside one another, ``fusion`` of attention and gate weights, and ``explain`` of what a
network looks at.
"""

from jiadf.plots.comparison import class_heatmap, paired_differences, table_beside
from jiadf.plots.data import (
    category_by_class,
    class_counts,
    distribution_by_class,
    image_pairs,
    missingness,
    monet_by_class,
    monet_by_image_type,
)
from jiadf.plots.explain import (
    artefact_energy,
    contribution_sizes,
    cut_curves,
    explanation_card,
    map_localisation,
    map_sanity,
    maps_by_output,
)
from jiadf.plots.fusion import attention_heads, gate_by_class, gate_means, gate_simplex
from jiadf.plots.scores import (
    confusion,
    dot_interval,
    history,
    per_class_intervals,
    reliability,
)
from jiadf.plots.style import use_style

__all__ = [
    "artefact_energy",
    "attention_heads",
    "category_by_class",
    "class_counts",
    "class_heatmap",
    "confusion",
    "contribution_sizes",
    "cut_curves",
    "distribution_by_class",
    "dot_interval",
    "explanation_card",
    "gate_by_class",
    "gate_means",
    "gate_simplex",
    "history",
    "image_pairs",
    "map_localisation",
    "map_sanity",
    "maps_by_output",
    "missingness",
    "monet_by_class",
    "monet_by_image_type",
    "paired_differences",
    "per_class_intervals",
    "reliability",
    "table_beside",
    "use_style",
]

"""Figures that several pages share: functions of arrays and tables that return a matplotlib Figure.

``use_style()`` once, at the top of a notebook, sets the looks; each function then returns one
figure, sized for the book's column (800 pixels), which a notebook shows by ending a cell with it.
"""

from jiadf.plots.figures import dot_interval, gate_simplex, paired_differences
from jiadf.plots.style import use_style

__all__ = ["dot_interval", "gate_simplex", "paired_differences", "use_style"]

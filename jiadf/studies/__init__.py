"""Studies: what is asked of trained networks after the tables of the paper.

A study is a module with one function::

    study(grid, folder, lesions, cache_dir, *, seed=0) -> dict[str, pandas.DataFrame]

It reads the finished runs of a grid (:mod:`jiadf.training.grid`), out of fold unless it says
otherwise, and returns tidy tables that hold figures alone, no lesion's row. A page draws these
tables, for its own runs and, in the same way, for those recorded on MILK10k by ``book/record.py
--study`` (:func:`jiadf.results.read_tables`).
"""

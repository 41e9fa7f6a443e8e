"""A module's ``grid``, trained once: each module says which grid that is."""

import pytest

from jiadf.training.grid import run_grid


@pytest.fixture(scope="module")
def folder(grid, lesions, cache_dir, tmp_path_factory):
    """Folder of the finished runs of the module's ``grid``."""
    folder = tmp_path_factory.mktemp("grid")
    assert not run_grid(grid, lesions, folder, cache_dir, progress=False)
    return folder

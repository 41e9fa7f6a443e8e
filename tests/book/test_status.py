"""The status page tells when each page was executed, and refuses one that was not."""

import nbformat
import pytest
from nbformat.v4 import new_notebook

from book.build_status import render

DONE = {"start_time": "2026-01-02T03:04:05.0+00:00", "duration": 72.4, "exception": False}


def write(folder, name, record):
    notebook = new_notebook(metadata={"papermill": record} if record else {})
    nbformat.write(notebook, folder / f"{name}.ipynb")


def test_page_has_a_row_a_notebook(tmp_path):
    write(tmp_path, "01_data", DONE)
    assert "| {doc}`/notebooks/01_data` | 2026-01-02 03:04 | 72 |" in render(tmp_path)


@pytest.mark.parametrize("record", [None, DONE | {"exception": True}])
def test_what_was_not_executed_whole_is_refused(tmp_path, record):
    write(tmp_path, "02_mmfa", record)
    with pytest.raises(ValueError, match="02_mmfa"):
        render(tmp_path)

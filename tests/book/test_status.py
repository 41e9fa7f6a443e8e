"""The status page tells when each page was executed, and refuses one that was not."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from book.build_status import render

DONE = {
    "iopub.execute_input": "2026-01-02T03:04:05.000000Z",
    "shell.execute_reply": "2026-01-02T03:05:17.400000Z",
}


def write(folder, name, timing, outputs=()):
    cell = new_code_cell("1 / 0", metadata={"execution": timing}, outputs=list(outputs))
    nbformat.write(new_notebook(cells=[cell]), folder / f"{name}.ipynb")


def test_page_has_a_row_a_notebook(tmp_path):
    write(tmp_path, "01_data", DONE)
    assert "| {doc}`/notebooks/01_data` | 2026-01-02 03:04 | 72 |" in render(tmp_path)


@pytest.mark.parametrize("timing", [{}, DONE])
def test_what_was_not_executed_whole_is_refused(tmp_path, timing):
    write(tmp_path, "02_mmfa", timing, [new_output("error", ename="ZeroDivisionError")])
    with pytest.raises(ValueError, match="02_mmfa"):
        render(tmp_path)

"""The status page says what happened when the notebooks were executed."""

import importlib.util
from datetime import UTC, datetime
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def build_status():
    spec = importlib.util.spec_from_file_location("build_status", ROOT / "book/build_status.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_notebook(path, *, record=None, given="epochs = 2\ndata_dir = '/somewhere/private/milk'"):
    parameters = new_code_cell("seed = 0  # a knob\nepochs: int = 50\ndata_dir = ''\nrate = 1e-3")
    parameters.metadata["tags"] = ["parameters"]
    injected = new_code_cell(f"# Parameters\n{given}")
    injected.metadata["tags"] = ["injected-parameters"]
    cells = [new_markdown_cell("(label)=\n# A title | here\n\nText"), parameters, injected]
    notebook = new_notebook(cells=cells)
    if record is not None:
        notebook.metadata["papermill"] = record
    nbformat.write(notebook, path)
    return path


FINISHED = {
    "start_time": "2026-01-02T03:04:05.000000+00:00",
    "end_time": "2026-01-02T03:05:17.000000+00:00",
    "duration": 72.0,
    "exception": None,
}


def page_of(build_status, runs, **changes):
    facts = {
        "versions": {"numpy": "9.9"},
        "device": "CPU, test",
        "commit": "abc123",
        "built": datetime(2026, 1, 3, 4, 5, tzinfo=UTC),
    }
    return build_status.render(runs, **(facts | changes))


def test_reads_title_times_and_parameters(build_status, tmp_path):
    run = build_status.read_run(write_notebook(tmp_path / "01_made.ipynb", record=FINISHED))
    assert run.title == "A title | here"
    assert (run.seconds, run.failed, run.executed) == (72.0, False, True)
    assert run.parameters == {
        "seed": "0",
        "epochs": "2",
        "data_dir": "'/somewhere/private/milk'",
        "rate": "0.001",
    }
    assert run.given == {"epochs", "data_dir"}


def test_page_shows_each_notebook_and_hides_absolute_paths(build_status, tmp_path):
    run = build_status.read_run(write_notebook(tmp_path / "01_made.ipynb", record=FINISHED))
    page = page_of(build_status, [run])
    times = next(line for line in page.splitlines() if "01_made.ipynb" in line)
    assert "1 min 12 s" in times
    assert "ran to the end" in times
    assert r"A title \| here" in times
    assert "| `epochs` | `2` | given |" in page
    assert "| `seed` | `0` | default |" in page
    assert "/somewhere/private" not in page
    assert "…/milk" in page
    assert "| numpy | 9.9 |" in page
    assert "abc123" in page


def test_failed_and_unexecuted_notebooks_are_told_apart(build_status, tmp_path):
    failed = write_notebook(tmp_path / "a.ipynb", record=FINISHED | {"exception": True})
    never = write_notebook(tmp_path / "b.ipynb")
    page = page_of(build_status, [build_status.read_run(path) for path in (failed, never)])
    outcome = {
        name: line for line in page.splitlines() for name in "ab" if f"/{name}.ipynb" in line
    }
    assert outcome["a"].endswith("| failed |")
    assert outcome["b"].endswith("| not executed |")


def test_only_absolute_paths_are_shortened(build_status):
    assert build_status.shorten_path("'data/milk10k'") == "'data/milk10k'"
    assert build_status.shorten_path("0.5") == "0.5"
    assert build_status.shorten_path("Path('x')") == "Path('x')"
    assert build_status.shorten_path("'/a/b/c'") == "'…/c'"


def test_command_line_writes_the_page(build_status, tmp_path):
    source = tmp_path / "executed"
    source.mkdir()
    write_notebook(source / "01_made.ipynb", record=FINISHED)
    out = tmp_path / "deep" / "status.md"
    build_status.main(["--notebooks", str(source), "--out", str(out)])
    page = out.read_text()
    assert page.startswith("(status)=\n# ")
    assert "| torch | " in page


def test_empty_folder_is_refused(build_status, tmp_path, capsys):
    with pytest.raises(SystemExit):
        build_status.main(["--notebooks", str(tmp_path), "--out", str(tmp_path / "x.md")])
    assert "no notebooks" in capsys.readouterr().err

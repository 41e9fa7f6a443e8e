"""The notebooks' sources keep the rules that the pages rely on."""

import json
from pathlib import Path

import pytest

from book.execute import declared, known_names
from jiadf.config import read_yaml

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PARAMS = sorted((ROOT / "params").glob("*.yaml"))
DATA_NAMES = {"data_dir", "run_dir", "predictions"}
notebooks = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


def cells(path, kind):
    return [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == kind]


def source(cell):
    return "".join(cell["source"])


@notebooks
def test_stripped_and_on_the_plain_kernel(path):
    notebook = json.loads(path.read_text())
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    for cell in cells(path, "code"):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


@notebooks
def test_first_code_cell_is_the_only_parameters_cell(path):
    tagged = [
        number
        for number, cell in enumerate(cells(path, "code"))
        if "parameters" in cell["metadata"].get("tags", [])
    ]
    assert tagged == [0]


@notebooks
def test_parameters_have_the_projects_names_and_a_comment_each(path):
    names = declared(path)
    assert names & DATA_NAMES
    text = source(cells(path, "code")[0])
    knobs = [line for line in text.splitlines() if "=" in line.split("#")[0]]
    assert len(knobs) == len(names)
    assert sum("#" in line for line in knobs) == len(knobs)


@notebooks
def test_cells_are_short_and_prose_stands_before_code(path):
    code = [c for c in cells(path, "code")[1:] if c["id"] != "imports"]
    folded = [c for c in code if "hide-input" in c["metadata"].get("tags", [])]
    lengths = sorted(len(source(cell).splitlines()) for cell in code if cell not in folded)
    assert lengths[len(lengths) // 2] <= 12
    assert lengths[-1] <= 22
    assert max(len(source(cell).splitlines()) for cell in folded) <= 60
    kinds = [c["cell_type"] for c in json.loads(path.read_text())["cells"]]
    assert kinds[0] == "markdown"
    assert len(cells(path, "markdown")) >= len(code) * 0.55


@notebooks
def test_skeleton(path):
    prose = "\n".join(source(cell) for cell in cells(path, "markdown"))
    assert prose.startswith("# ") or "\n# " in prose.split("\n\n")[0]
    for part in ("What you will learn", "Needs", "Take-aways", "Next"):
        assert part.lower() in prose.lower(), part


@notebooks
def test_every_figure_has_name_caption_and_alt_text(path):
    for cell in cells(path, "code"):
        if source(cell).strip().splitlines()[-1].startswith("plots."):
            if "use_style" in source(cell).strip().splitlines()[-1]:
                continue
            meta = cell["metadata"].get("mystnb", {})
            assert meta["figure"]["name"].startswith("fig-"), cell["id"]
            assert len(meta["figure"]["caption"]) > 20, cell["id"]
            assert len(meta["image"]["alt"]) > 20, cell["id"]


@notebooks
def test_prose_and_lines_keep_to_their_length(path):
    prose = "\n".join(source(cell) for cell in cells(path, "markdown"))
    assert len(prose.split()) <= 2600
    for cell in cells(path, "code"):
        widest = 98 if "hide-input" in cell["metadata"].get("tags", []) else 100  # a page's width
        assert max(map(len, source(cell).splitlines())) <= widest, cell["id"]


@pytest.mark.parametrize("path", PARAMS, ids=lambda p: p.stem)
def test_parameter_files_use_known_names_only(path):
    assert set(read_yaml(path)) <= known_names()

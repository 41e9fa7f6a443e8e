import nbformat
import pytest

from book.execute import execute
from jiadf.config import ParameterError


@pytest.fixture
def notebook(tmp_path):
    cells = [nbformat.v4.new_code_cell("epochs = 1  # passes"), nbformat.v4.new_code_cell("epochs")]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    made = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
    path = tmp_path / "n.ipynb"
    nbformat.write(made, path)
    return path


def injected(path):
    cells = nbformat.read(path, 4).cells
    return [c.source for c in cells if "injected-parameters" in c.metadata.get("tags", [])]


def test_shared_names_are_taken_only_where_declared_and_the_others_are_told(
    notebook, tmp_path, capsys
):
    execute(notebook, tmp_path / "out", {"epochs": 4, "batch_size": 8}, {}, prepare_only=True)
    (cell,) = injected(tmp_path / "out" / "n.ipynb")
    assert "epochs = 4" in cell
    assert "batch_size" not in cell
    assert "n.ipynb: does not take batch_size" in capsys.readouterr().err


def test_unknown_names_are_refused_with_the_nearest(notebook, tmp_path):
    with pytest.raises(ParameterError, match="'epoch'; did you mean 'epochs'"):
        execute(notebook, tmp_path / "out", {"epoch": 4}, {}, prepare_only=True)
    with pytest.raises(ParameterError, match="unknown parameter 'batch_size'"):
        execute(notebook, tmp_path / "out", {}, {"batch_size": 4}, prepare_only=True)
    assert not (tmp_path / "out" / "n.ipynb").exists()


def test_executed_copy_holds_the_outputs_and_a_failed_one_is_not_put_in_place(notebook, tmp_path):
    execute(notebook, tmp_path / "out", {}, {"epochs": 7})
    done = nbformat.read(tmp_path / "out" / "n.ipynb", 4)
    assert done.cells[-1].outputs[0]["data"]["text/plain"] == "7"
    broken = nbformat.read(notebook, 4)
    broken.cells[-1].source = "1 / 0"
    nbformat.write(broken, notebook)
    with pytest.raises(Exception, match="ZeroDivisionError"):
        execute(notebook, tmp_path / "other", {}, {})
    assert not (tmp_path / "other" / "n.ipynb").exists()

from book.sources import ROOT, sources


def test_sources_follow_imports_through_the_package():
    split = sources("jiadf.data.split")
    assert "jiadf/data/split.py" in split
    assert "jiadf/data/__init__.py" in split  # importing a module runs its package
    assert "jiadf/training/trainer.py" not in split
    trained = sources("jiadf.training.trainer")
    assert {"jiadf/models/mmfa.py", "jiadf/training/run_folder.py", "jiadf/data/split.py"} <= set(
        trained
    )
    assert "jiadf/cli/__init__.py" not in trained


def test_a_notebook_depends_on_what_its_code_cells_import():
    found = sources("notebooks/04_training.ipynb")
    assert {
        "jiadf/training/trainer.py",
        "jiadf/plots/style.py",
        "jiadf/evaluation/paper.py",
    } <= set(found)
    assert all((ROOT / path).exists() for path in found)

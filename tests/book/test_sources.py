from book.sources import ROOT, pages, prune, sources, strays


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


def test_a_copy_is_no_page_and_what_was_made_of_one_is_removed(tmp_path):
    source = tmp_path / "_build"
    for folder in (tmp_path / "notebooks", source / "notebooks", source / "book"):
        folder.mkdir(parents=True)
    toc = "root: book/intro\nparts:\n  - chapters:\n      - file: notebooks/02_mmfa\n"
    (tmp_path / "_toc.yml").write_text(toc)
    for name in ("02_mmfa.ipynb", "02_mmfa-Copy1.ipynb", "Untitled 1.ipynb"):
        (tmp_path / "notebooks" / name).touch()
        (source / "notebooks" / name).touch()
    (source / "notebooks" / ".02_mmfa.ipynb").touch()  # of a build that was killed
    for name in ("intro.md", "old.md", "references.bib"):
        (source / "book" / name).touch()
    assert pages(tmp_path) == ["book/intro", "notebooks/02_mmfa"]
    copies = ["notebooks/02_mmfa-Copy1.ipynb", "notebooks/Untitled 1.ipynb"]
    assert strays(tmp_path) == copies
    assert sorted(prune(source, tmp_path)) == sorted(
        [*copies, "notebooks/.02_mmfa.ipynb", "book/old.md"]
    )
    left = {path.name for path in source.rglob("*.*")}
    assert left == {"02_mmfa.ipynb", "intro.md", "references.bib"}
    assert len(list((tmp_path / "notebooks").iterdir())) == 3

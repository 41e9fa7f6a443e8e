"""The book's configuration names things that exist."""

import re
from pathlib import Path

import yaml
from pybtex.database import parse_file

ROOT = Path(__file__).parents[2]


def toc_entries():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    chapters = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return [toc["root"], *chapters]


def pages():
    return [ROOT / f"{entry}.md" for entry in toc_entries() if (ROOT / f"{entry}.md").exists()]


def bibliography_keys():
    return re.findall(r"^@\w+\{([^,]+),", (ROOT / "book/references.bib").read_text(), re.M)


def test_every_entry_of_the_toc_exists_once():
    entries = toc_entries()
    assert len(set(entries)) == len(entries)
    missing = [
        entry
        for entry in entries
        if not any((ROOT / f"{entry}{s}").exists() for s in (".md", ".ipynb"))
    ]
    assert not missing


def test_every_page_and_notebook_is_in_the_toc():
    made = [*(ROOT / "book").glob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")]
    names = {str(path.relative_to(ROOT).with_suffix("")) for path in made}
    assert names <= set(toc_entries())


def test_notebooks_are_never_executed_by_the_book_build():
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    assert config["execute"]["execute_notebooks"] == "off"
    assert config["execute"]["allow_errors"] is False


def test_files_named_in_the_configuration_exist():
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    for path in config["bibtex_bibfiles"] + config["sphinx"]["config"]["html_static_path"]:
        assert (ROOT / path).exists(), path
    static = ROOT / config["sphinx"]["config"]["html_static_path"][0]
    for name in config["sphinx"]["config"]["html_css_files"]:
        assert (static / name).exists(), name


def test_the_bibliography_can_be_read():
    read = parse_file(str(ROOT / "book/references.bib"), bib_format="bibtex")
    assert set(read.entries) == set(bibliography_keys())


def test_bibliography_keys_are_unique_and_cited_keys_exist():
    keys = bibliography_keys()
    assert len(set(keys)) == len(keys)
    cited = {
        key.strip()
        for page in pages()
        for group in re.findall(r"\{cite:\w+\}`([^`]+)`", page.read_text())
        for key in group.split(",")
    }
    assert cited
    assert cited <= set(keys)


def test_equations_keep_the_numbers_of_the_paper():
    """Sphinx numbers a page's equations in order, so all of (1) to (11) must stand, in order."""
    text = (ROOT / "book/paper_and_book.md").read_text()
    labels = re.findall(r"```\{math\}\n:label: (\S+)", text)
    assert labels == [
        "eq-features",
        "eq-joint",
        "eq-heads",
        "eq-auxiliary-loss",
        "eq-gate",
        "eq-posterior",
        "eq-objective",
        "eq-projections",
        "eq-attention",
        "eq-mixed-rows",
        "eq-mmfa-output",
    ]

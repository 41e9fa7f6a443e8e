"""What the book is made of: the pages that ``_toc.yml`` names, and the code behind each.

The build graph uses this so that a page is executed again only when code it reaches has changed.

    python book/sources.py _build/source

tells of notebooks that are no page, which are left alone, and removes from the built sources what
was made of pages that are gone.
"""

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]


def pages(root: Path = ROOT) -> list[str]:
    """Return the pages in their order, as ``notebooks/01_data`` or ``book/intro``."""
    toc = yaml.safe_load((root / "_toc.yml").read_text())
    return [toc["root"], *(page["file"] for part in toc["parts"] for page in part["chapters"])]


def strays(root: Path = ROOT) -> list[str]:
    """Return the notebooks that are no page: copies, or what an editor left."""
    found = (path.relative_to(root) for path in sorted((root / "notebooks").glob("*.ipynb")))
    return [str(path) for path in found if str(path.with_suffix("")) not in pages(root)]


def prune(source: Path, root: Path = ROOT) -> list[str]:
    """Remove notebooks and texts below ``source`` that are of no page, and return their names."""
    kept = set(pages(root))
    gone = []
    for folder in ("notebooks", "book"):
        for path in sorted((source / folder).glob("*")):
            name = path.relative_to(source)
            if path.suffix in (".ipynb", ".md") and str(name.with_suffix("")) not in kept:
                path.unlink()
                gone.append(str(name))
    return gone


def notebook_code(path: Path) -> str:
    """Return the Python of a notebook's code cells, without IPython's ``%`` and ``!`` lines."""
    cells = json.loads(path.read_text())["cells"]
    lines = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code").splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))


def _imported(code: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _file(module: str) -> Path | None:
    base = ROOT / Path(*module.split("."))
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.exists()), None)


def sources(*roots: str | Path) -> list[str]:
    """Return the ``jiadf`` files that notebooks or modules import, however indirectly.

    Parameters
    ----------
    roots
        Paths of notebooks, or module names such as ``jiadf.training.trainer``.

    Returns
    -------
    list of str
        Paths relative to the repository's root, sorted.
    """
    found: set[Path] = set()
    waiting = []
    for root in map(str, roots):
        if root.endswith(".ipynb"):
            waiting += list(_imported(notebook_code(ROOT / root)))
        else:
            waiting.append(root)
    while waiting:
        module = waiting.pop()
        if module.split(".")[0] != "jiadf":
            continue
        # Importing a.b runs a/__init__.py too.
        parents = ["jiadf", module.rpartition(".")[0], module]
        for path in {_file(name) for name in parents if name} - found - {None}:
            found.add(path)
            waiting += list(_imported(path.read_text()))
    return sorted(str(path.relative_to(ROOT)) for path in found)


if __name__ == "__main__":
    for name in strays():
        sys.stdout.write(f"{name} is no page of _toc.yml: it is left out\n")
    for name in prune(Path(sys.argv[1])):
        sys.stdout.write(f"{name} is of no page any more: what was made of it is removed\n")

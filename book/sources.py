"""Which files of ``jiadf`` stand behind a notebook, found from its import statements.

The build graph uses this so that a page is executed again only when code it reaches has changed.
"""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


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

"""Write the book's status page from the executed notebooks.

python book/build_status.py --notebooks DIR --out FILE
"""

import argparse
from datetime import datetime
from pathlib import Path

import nbformat

from jiadf.files import atomic
from jiadf.training.provenance import git_commit, package_versions

PACKAGES = ("torch", "torchvision", "timm", "numpy", "pandas", "scikit-learn", "jupyter-book")
HEAD = """(status)=
# Status

When this copy of the book was made, and with what. This page uses no data.

| page | executed (UTC) | seconds |
|---|---|---:|
"""


def row(path: Path) -> str:
    """Describe one executed notebook, from the times that its cells carry.

    Raises
    ------
    ValueError
        If a code cell was not executed, or failed.
    """
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    times = [cell.metadata.get("execution", {}) for cell in cells if cell.source.strip()]
    if not all("shell.execute_reply" in time for time in times):
        raise ValueError(f"{path}: a cell was not executed")
    if any(output.output_type == "error" for cell in cells for output in cell.outputs):
        raise ValueError(f"{path}: a cell failed")
    first, last = times[0]["iopub.execute_input"], times[-1]["shell.execute_reply"]
    seconds = (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()
    return f"| {{doc}}`/notebooks/{path.stem}` | {first[:16].replace('T', ' ')} | {seconds:.0f} |"


def render(notebooks: Path) -> str:
    """Return the page."""
    rows = [row(path) for path in sorted(notebooks.glob("[0-9]*.ipynb"))]
    versions = ", ".join(f"{k} {v}" for k, v in package_versions(PACKAGES).items())
    commit = git_commit() or "unknown"
    return HEAD + "\n".join(rows) + f"\n\nCommit `{commit[:8]}`; {versions}.\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--notebooks", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with atomic(arguments.out) as staged:
        staged.write_text(render(arguments.notebooks), encoding="utf-8")

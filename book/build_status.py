"""Write the book's status page from the executed notebooks.

Reads what papermill left in each executed copy (start, duration, exception) and the parameters
cell, adds the versions and the device of the machine that runs this script, and writes a MyST page.

Usage: ``python book/build_status.py --notebooks DIR --out FILE``
"""

import argparse
import ast
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat

from jiadf.training.provenance import git_commit, package_versions

PACKAGES = (
    "jiadf",
    "torch",
    "torchvision",
    "timm",
    "accelerate",
    "numpy",
    "scipy",
    "pandas",
    "scikit-learn",
    "pandera",
    "matplotlib",
    "seaborn",
    "papermill",
    "snakemake",
    "jupyter-book",
    "sphinx",
)


@dataclass
class NotebookRun:
    """What one executed notebook says about its execution."""

    name: str
    title: str
    start: datetime | None = None
    seconds: float | None = None
    failed: bool = False
    executed: bool = False
    parameters: dict[str, str] = field(default_factory=dict)
    given: frozenset[str] = frozenset()


def _assignments(source: str) -> dict[str, str]:
    """Map the names a parameters cell assigns to the source of their values."""
    values = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        for target in targets:
            if isinstance(target, ast.Name):
                values[target.id] = ast.unparse(value)
    return values


def shorten_path(text: str) -> str:
    """Keep the last part of an absolute path, so that no page tells where a machine keeps things.

    ``text`` is the source of a Python value; all but a string with an absolute path is unchanged.
    """
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    if isinstance(value, str) and value.startswith("/"):
        return repr(f"…/{Path(value).name}")
    return text


def read_run(path: Path) -> NotebookRun:
    """Read one executed notebook.

    Parameters
    ----------
    path
        A notebook that papermill wrote.

    Returns
    -------
    NotebookRun
        ``executed`` is false where the notebook holds no papermill record.
    """
    notebook = nbformat.read(path, as_version=4)
    run = NotebookRun(name=path.stem, title=path.stem)
    for cell in notebook.cells:
        heads = [line for line in cell.source.splitlines() if line.startswith("# ")]
        if cell.cell_type == "markdown" and heads:
            run.title = heads[0].removeprefix("# ").strip()
            break
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "parameters" in tags:
            run.parameters |= _assignments(cell.source)
        elif "injected-parameters" in tags:
            given = _assignments(cell.source)
            run.parameters |= given
            run.given = run.given | given.keys()
    record = notebook.metadata.get("papermill", {})
    if record.get("start_time"):
        run.executed = record.get("duration") is not None
        run.start = datetime.fromisoformat(record["start_time"])
        run.seconds = record.get("duration")
        run.failed = bool(record.get("exception"))
    return run


def device_name() -> str:
    """Name the GPUs that torch sees, or the CPU with torch's number of threads."""
    try:
        import torch
    except ImportError:
        return "CPU (torch is not installed)"
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return ", ".join(names)
    threads = torch.get_num_threads()
    return f"CPU, {platform.machine()}, {threads} thread{'s' if threads != 1 else ''}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


def _outcome(run: NotebookRun) -> str:
    if not run.executed:
        return "not executed"
    return "failed" if run.failed else "ran to the end"


def _cell(text: Any) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(_cell(value) for value in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _parameter_block(run: NotebookRun) -> str:
    if not run.parameters:
        return f"`{run.name}` has no parameters."
    rows = [
        (f"`{name}`", f"`{shorten_path(value)}`", "given" if name in run.given else "default")
        for name, value in run.parameters.items()
    ]
    table = _table(("Parameter", "Value", "From"), rows)
    return f":::{{dropdown}} {run.name}\n{table}\n:::"


def render(
    runs: list[NotebookRun], *, versions: dict[str, str], device: str, commit: str, built: datetime
) -> str:
    """Return the MyST source of the status page.

    Raises
    ------
    ValueError
        If there is no notebook to report on.
    """
    if not runs:
        raise ValueError("no notebook to report on")
    total = sum(run.seconds or 0.0 for run in runs)
    times = [
        (
            f"[{run.title}](/notebooks/{run.name}.ipynb)",
            f"{run.start:%Y-%m-%d %H:%M} UTC" if run.start else "–",
            _duration(run.seconds),
            _outcome(run),
        )
        for run in runs
    ]
    times.append(("**Total**", "", f"**{_duration(total)}**", ""))
    build = [
        ("Page written", f"{built:%Y-%m-%d %H:%M} UTC"),
        ("Commit", commit),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("System", platform.system()),
        ("Device", device),
    ]
    parts = [
        "(status)=\n# Status of this build",
        "This page is written by `book/build_status.py` at every build, from the executed notebooks"
        " and the installed packages; nothing in it is typed by hand.",
        "## Notebooks\n\nRun times are wall-clock times that papermill recorded.",
        _table(("Notebook", "Started", "Run time", "Outcome"), times),
        "## Build",
        _table(("Fact", "Value"), build),
        "## Parameters\n\n*default* is the value in the notebook's parameters cell, *given* was set"
        " for this build. Of an absolute path only the last part is shown. With an empty `data_dir`"
        " a notebook uses the {term}`synthetic set`.",
        "\n\n".join(_parameter_block(run) for run in runs),
        "## Packages",
        _table(("Package", "Version"), list(versions.items())),
    ]
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--notebooks", type=Path, required=True, help="folder of executed notebooks"
    )
    parser.add_argument("--out", type=Path, required=True, help="page to write")
    options = parser.parse_args(arguments)
    files = sorted(options.notebooks.glob("*.ipynb"))
    if not files:
        parser.error(f"{options.notebooks}: no notebooks there; execute them first (make book)")
    page = render(
        [read_run(path) for path in files],
        versions={n: v or "not installed" for n, v in package_versions(PACKAGES).items()},
        device=device_name(),
        commit=git_commit() or "unknown",
        built=datetime.now(UTC),
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()

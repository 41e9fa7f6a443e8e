"""Run notebooks with papermill, giving each only the parameters it declares.

    python book/execute.py notebooks/04_training.ipynb --out _build/source/notebooks \
        --params params/smoke.yaml -p epochs=5

A parameter file may serve several notebooks and ``jiadf train``: of its names a notebook takes
those in its ``parameters`` cell, and it is told which it does not take; the others would change
nothing with papermill itself either. A name that neither a page nor a run knows is an error, where
papermill would only warn. A ``-p`` name must stand in each notebook given.
With ``--prepare-only`` the parameters are injected and nothing is run (what nbmake then tests).
The executed copy is moved into place when whole.
"""

import argparse
import os
import sys
from pathlib import Path

import papermill

from jiadf.config import ParameterError, Parameters, check_names, parse_assignments, read_yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from book.sources import ROOT, pages


def declared(notebook: Path) -> set[str]:
    """Names in a notebook's ``parameters`` cell."""
    return set(papermill.inspect_notebook(str(notebook)))


def known_names() -> set[str]:
    """Names of all pages' parameters and of a run's."""
    notebooks = [ROOT / f"{page}.ipynb" for page in pages()]
    return set(Parameters.model_fields).union(*map(declared, filter(Path.exists, notebooks)))


def execute(notebook: Path, out: Path, shared: dict, own: dict, prepare_only: bool = False) -> None:
    """Execute ``notebook`` into the folder ``out``; ``shared`` names are optional, ``own`` are not.

    Raises
    ------
    jiadf.config.ParameterError
        For unknown names.
    papermill.exceptions.PapermillExecutionError
        If a cell fails; the partly executed copy is left as ``.NAME`` beside the target.
    """
    names = declared(notebook)
    check_names(set(shared), known_names(), "--params")
    check_names(set(own), names, f"{notebook}: -p")
    chosen = {name: value for name, value in shared.items() if name in names} | own
    if dropped := sorted(shared.keys() - names):
        print(f"{notebook}: does not take {', '.join(dropped)}", file=sys.stderr)
    out.mkdir(parents=True, exist_ok=True)
    staged = out / f".{notebook.name}"
    papermill.execute_notebook(
        os.path.relpath(notebook),
        os.path.relpath(staged),
        chosen,
        prepare_only=prepare_only,
        kernel_name="python3",
        progress_bar=False,
    )
    os.replace(staged, out / notebook.name)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="all pages if none is given")
    parser.add_argument("--out", type=Path, required=True, help="folder of the executed copies")
    parser.add_argument("--params", type=Path, help="YAML file of parameters")
    parser.add_argument("-p", dest="own", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--prepare-only", action="store_true")
    arguments = parser.parse_args()
    try:
        shared = read_yaml(arguments.params) if arguments.params else {}
        own = parse_assignments(arguments.own)
        every = [ROOT / f"{page}.ipynb" for page in pages() if page.startswith("notebooks/")]
        for notebook in arguments.notebooks or every:
            execute(notebook, arguments.out, shared, own, arguments.prepare_only)
    except ParameterError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()

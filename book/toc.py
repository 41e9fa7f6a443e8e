"""Which pages the book has: those that ``_toc.yml`` names, and nothing else.

    python book/toc.py _build/source

tells of notebooks that are no page, which are left alone, and removes from the built sources what
was made of pages that are gone.
"""

import sys
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


if __name__ == "__main__":
    for name in strays():
        sys.stdout.write(f"{name} is no page of _toc.yml: it is left out\n")
    for name in prune(Path(sys.argv[1])):
        sys.stdout.write(f"{name} is of no page any more: what was made of it is removed\n")

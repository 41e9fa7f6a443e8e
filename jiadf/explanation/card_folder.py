"""A folder of cards, written whole or not at all: what `jiadf explain` leaves behind.

``cards.json`` names the files that were written; a folder that holds nothing else is replaced, any
other is left alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from jiadf.explanation.card import card_page
from jiadf.explanation.card_figure import card_figure
from jiadf.explanation.explain import Explanation
from jiadf.files import replace_folder

MARKER = "cards.json"
_MADE_BY = "jiadf explain"


@contextlib.contextmanager
def own_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `out`; it becomes `out` if nothing was raised.

    Raises
    ------
    ValueError
        At once, if `out` is a file, or a folder that holds anything but cards.
    """
    out = Path(out).resolve()
    _check(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    staged = out.with_name(f".{out.name}.{os.getpid()}")
    staged.mkdir()
    try:
        yield staged
        _check(out)  # whatever came there meanwhile
        replace_folder(staged, out)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def write_cards(folder: Path, explained: Sequence[Explanation], *, about: str = "") -> None:
    """Write an HTML and a PNG file a lesion, and the list of them.

    Raises
    ------
    ValueError
        If ids differ in upper and lower case only: some file systems do not tell them apart.
    """
    seen: dict[str, str] = {}
    for lesion in explained:
        name = lesion.lesion_id
        if (other := seen.setdefault(name.lower(), name)) != name:
            raise ValueError(f"lesion_id {other!r} and {name!r} differ in case only; rename one.")
        (folder / f"{name}.html").write_text(card_page(lesion, about=about), encoding="utf-8")
        card_figure(lesion, about).savefig(folder / f"{name}.png", dpi=150)
    write_marker(folder, [f"{n}.{kind}" for n in seen.values() for kind in ("html", "png")], about)


def write_marker(folder: Path, names: Sequence[str], about: str) -> None:
    """Write the list of what a folder of cards holds."""
    content = {"made_by": _MADE_BY, "model": about, "files": list(names)}
    (folder / MARKER).write_text(json.dumps(content, indent=2) + "\n")


def _check(out: Path) -> None:
    """Refuse a place whose content is not ours to replace."""
    if not out.exists():
        return
    if not out.is_dir():
        raise ValueError(f"{out} is a file; name a folder that is new or empty.")
    own = set()
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads((out / MARKER).read_text())
        own = {MARKER, *content["files"]} if content["made_by"] == _MADE_BY else set()
    if other := sorted({path.name for path in out.iterdir()} - own):
        raise ValueError(
            f"{out} is not empty and holds {other[0]!r}, which is no card of `jiadf explain`; "
            "name a folder that is new, empty, or holds its cards alone."
        )

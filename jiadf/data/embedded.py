"""The data a notebook starts from: a folder of your own, or the embedded synthetic MILK10k."""

from pathlib import Path

from filelock import FileLock

from jiadf.data.image_cache import default_cache_dir
from jiadf.data.layout import Layout
from jiadf.data.synth import MARKER, synthesise
from jiadf.files import code_fingerprint

IMAGE_SIZE = (320, 240)
_DRAWN_BY = ("appearance", "draw", "layers", "primitives", "synth")


def open_data(data_dir: str | Path | None = None, lesions: int = 300, seed: int = 0) -> Path:
    """Return ``data_dir``, or the synthetic set, drawn into the user's cache if it is not there.

    Parameters
    ----------
    data_dir
        Folder in the official MILK10k layout; None for the synthetic set.
    lesions, seed
        Size and seed of the synthetic set; not read if ``data_dir`` is given.

    Raises
    ------
    jiadf.data.DataError
        If ``data_dir`` holds no MILK10k tables.
    """
    if data_dir is not None:
        return Layout.detect(data_dir).root
    code = code_fingerprint(*(f"data/{name}.py" for name in _DRAWN_BY))
    folder = default_cache_dir() / "synthetic" / f"{lesions}-lesions-seed-{seed}-{code}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / MARKER).exists():
            synthesise(folder, lesions, seed, IMAGE_SIZE)
    return folder


def is_synthetic(folder: str | Path) -> bool:
    """Whether the lesions of a folder were drawn by :mod:`jiadf.data.synth`."""
    return (Path(folder) / MARKER).exists()


def describe_data(folder: str | Path, lesions: int) -> str:
    """Say in a sentence or two what a page was made from."""
    if is_synthetic(folder):
        return (
            f"Made from {lesions:,} lesions of the embedded synthetic MILK10k. They are drawings: "
            "the numbers show that the machinery works and say nothing about skin."
        )
    return f"Made from {lesions:,} lesions of MILK10k (CC BY-NC 4.0)."

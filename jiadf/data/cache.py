"""Cache files: arrays that are made once, a block of rows at a time, and images decoded in one.

A file is numpy's ``.npy`` with a digest of its bytes behind them, where numpy does not look: one
that was cut, emptied or damaged is told and made anew; one that a kill left unfinished is gone on
with. It is written, and mapped only when it is whole: a mapped file that does not fit on the disk
would kill the process.

Images are uint8, shape (N, S, S, 3), RGB. The file's name is a digest of the bytes of the image
files, in order, with the size: the same images give the same file wherever they lie, and nothing
is ever stale.
"""

import hashlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.lib import format as npy
from tqdm import tqdm

from jiadf.data.open_image import decode
from jiadf.files import DiskFullError, read_regular, room_for

_DIGEST = 16  # bytes
_DECODER = "pillow-bicubic-1"  # part of the key: change it when decoding changes


@dataclass(frozen=True)
class CachedImages:
    """Decoded images: ``pixels`` uint8 (N, S, S, 3), and the ``key`` that names their content."""

    pixels: np.ndarray
    key: str


def default_cache_dir() -> Path:
    """Return ``$JIADF_CACHE``, or ``jiadf`` under the user's cache folder (``XDG_CACHE_HOME``)."""
    fallback = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jiadf"
    return Path(os.environ.get("JIADF_CACHE") or fallback).expanduser()


def cache_images(
    paths: Sequence[str | Path],
    size: int,
    cache_dir: str | Path | None = None,
    *,
    progress: bool = True,
) -> CachedImages:
    """Return whole images resized to ``size`` x ``size`` (paper, A.2), decoding them if need be.

    Caches lie in ``cache_dir``, :func:`default_cache_dir` if None. An
    :class:`jiadf.data.open_image.ImageError` names a file that is not a readable image.
    """
    paths = list(paths)
    key = content_key(paths, size)
    file = Path(cache_dir or default_cache_dir()) / "images" / f"{key}.npy"

    def rows(start: int) -> Iterator[np.ndarray]:
        with ThreadPoolExecutor() as pool:
            decoded = pool.map(lambda path: decode(path, size), paths[start:])
            bar = tqdm(decoded, "decoding images", len(paths), initial=start, disable=not progress)
            for image in bar:
                yield image[None]

    return CachedImages(cached_array(file, len(paths), rows), key)


def content_key(paths: Sequence[str | Path], size: int) -> str:
    """Digest the files' bytes, their order, the size and the decoder into a name."""
    whole = hashlib.blake2b(f"{_DECODER}:{size}".encode(), digest_size=16)
    for path in paths:
        whole.update(hashlib.blake2b(read_regular(path), digest_size=16).digest())
    return whole.hexdigest()


def cached_array(
    path: Path, length: int, rows: Callable[[int], Iterable[np.ndarray]]
) -> np.ndarray:
    """Map the array (N, ...) in a file, which is made if it is not there, or not whole.

    ``rows`` is called with the number of the first row to make, and yields blocks of rows from
    there on, ``length`` (N) in all. A file that is whole is read without a lock, from a folder that
    may belong to somebody else.
    """
    if not _is_whole(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not _is_whole(path):
                if path.exists():
                    warnings.warn(f"{path} is damaged; it is made anew", stacklevel=2)
                _make(path, length, rows)
    return np.load(path, mmap_mode="r")


def _digest(content: np.ndarray) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST).digest()


def _is_whole(path: Path) -> bool:
    if not path.is_file() or path.stat().st_size <= _DIGEST:
        return False
    content = np.memmap(path, np.uint8, "r")
    return _digest(content[:-_DIGEST]) == content[-_DIGEST:].tobytes()


def _make(path: Path, length: int, rows: Callable[[int], Iterable[np.ndarray]]) -> None:
    partial = path.with_suffix(".partial")
    done = _resume(partial)
    try:
        with room_for(partial), partial.open("ab") as file:
            for block in rows(done) if done < length else ():
                values = np.ascontiguousarray(block)
                if not done:
                    with room_for(partial, values.nbytes // len(values) * length):
                        header = npy.header_data_from_array_1_0(values)
                        shape = (length, *values.shape[1:])
                        npy.write_array_header_1_0(file, header | {"shape": shape})
                file.write(values)
                done += len(values)
            if done != length:
                raise ValueError(f"{path}: {done} rows were made where {length} are due")
            file.flush()
            file.write(_digest(np.memmap(partial, np.uint8, "r")))
        partial.replace(path)
    except DiskFullError:  # after which one may go on
        raise
    except Exception:
        partial.unlink(missing_ok=True)
        raise


def _resume(partial: Path) -> int:
    """Cut off what a killed run left of a last row; count the rows before it."""
    try:
        with partial.open("r+b") as file:
            npy.read_magic(file)
            shape, _, dtype = npy.read_array_header_1_0(file)
            start, size = file.tell(), dtype.itemsize * int(np.prod(shape[1:]))
            done = min((partial.stat().st_size - start) // size, shape[0])
            file.truncate(start + done * size)
            return done
    except (OSError, ValueError):
        partial.unlink(missing_ok=True)
        return 0

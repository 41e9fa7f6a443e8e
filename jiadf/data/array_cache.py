"""Arrays in cache files: made a block of rows at a time, resumed after a kill, checked when read.

A file is numpy's ``.npy`` with a digest of its bytes behind them, where numpy does not look: one
that was cut, emptied or damaged is told and made anew. It is written, and mapped only when it is
whole: a mapped file that does not fit on the disk would kill the process.
"""

import hashlib
import io
import json
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from filelock import FileLock

from jiadf.files import DiskFullError, atomic, room_for

_DIGEST = 16  # bytes
_NOTE_SECONDS = 5.0  # between two notes of how far an array has come
_FORGOTTEN = 7 * 24 * 3600  # seconds after which nobody goes on with an array


def cached_array(
    path: Path, length: int, rows: Callable[[int], Iterable[np.ndarray]]
) -> np.ndarray:
    """Map the array (N, ...) in a file, which is made if it is not there, or not whole.

    Parameters
    ----------
    path
        The file, ``.npy``. One that is whole is read without a lock, from a folder that may belong
        to somebody else.
    length
        Number of rows N.
    rows
        Called with the number of the first row to make; yields blocks of rows from there on.
    """
    if not _is_whole(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not _is_whole(path):
                if path.exists():
                    warnings.warn(f"{path} is damaged; it is made anew", stacklevel=2)
                _remove_forgotten(path.parent)
                _make(path, length, rows)
    return np.load(path, mmap_mode="r")


def _is_whole(path: Path) -> bool:
    if not path.is_file() or path.stat().st_size < _DIGEST:
        return False
    size = path.stat().st_size - _DIGEST
    with path.open("rb") as file:
        return _digest_of(file, size).digest() == file.read()


def _digest_of(file: io.BufferedIOBase, size: int):
    digest = hashlib.blake2b(digest_size=_DIGEST)
    while size and (block := file.read(min(size, 1 << 22))):
        digest.update(block)
        size -= len(block)
    return digest


def _make(path: Path, length: int, rows: Callable[[int], Iterable[np.ndarray]]) -> None:
    partial, note = path.with_suffix(".partial"), path.with_suffix(".progress")
    done, digest = _resumed(partial, note)
    noted = time.monotonic()
    try:
        with room_for(partial), partial.open("ab") as file:
            for block in rows(done):
                values = np.ascontiguousarray(block)
                if not done:
                    shape = (length, *values.shape[1:])
                    needed = values.nbytes // len(values) * length
                    with room_for(partial, needed):
                        _write(file, _header(values.dtype, shape), digest)
                _write(file, values.tobytes(), digest)
                done += len(values)
                if time.monotonic() - noted >= _NOTE_SECONDS:
                    file.flush()
                    noted = time.monotonic()
                    with atomic(note) as staged:
                        staged.write_text(json.dumps([done, file.tell(), digest.hexdigest()]))
            file.write(digest.digest())
        if done != length:
            raise ValueError(f"{path}: {done} rows were made where {length} are due")
        partial.replace(path)
    except Exception as error:
        if not isinstance(error, DiskFullError):  # after which one may go on
            partial.unlink(missing_ok=True)
        raise
    note.unlink(missing_ok=True)


def _resumed(partial: Path, note: Path):
    """Return how many rows a partial file has for certain, and the digest up to there."""
    try:
        done, size, noted = json.loads(note.read_text())
        with partial.open("r+b") as file:
            digest = _digest_of(file, size)
            if digest.hexdigest() == noted:
                file.truncate(size)
                return done, digest
    except (OSError, ValueError, TypeError):
        pass
    partial.unlink(missing_ok=True)
    return 0, hashlib.blake2b(digest_size=_DIGEST)


def _header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    header = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
    np.lib.format.write_array_header_1_0(header, described | {"shape": shape})
    return header.getvalue()


def _write(file: io.BufferedIOBase, content: bytes, digest) -> None:
    file.write(content)
    digest.update(content)


def _remove_forgotten(folder: Path) -> None:
    for partial in folder.glob("*.partial"):
        if time.time() - partial.stat().st_mtime > _FORGOTTEN:
            for suffix in (".partial", ".progress", ".lock"):
                partial.with_suffix(suffix).unlink(missing_ok=True)

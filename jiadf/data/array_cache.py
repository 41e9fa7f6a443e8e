"""Arrays in cache files: made a block of rows at a time, resumed after a kill, checked when read.

A file is numpy's ``.npy`` with a digest of its bytes behind them, where numpy does not look: one
that was cut, emptied or damaged is told and made anew. It is written, and mapped only when it is
whole: a mapped file that does not fit on the disk would kill the process.
"""

import hashlib
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.lib import format as npy

from jiadf.files import DiskFullError, room_for

_DIGEST = 16  # bytes


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

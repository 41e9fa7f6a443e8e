"""Write files whole or not at all, and say so when a disk is full.

What is being written lies beside its place as ``.NAME.HOST-PID`` until it is whole; a process that
was killed leaves it there, and the next one that writes the same file takes it away.
"""

import contextlib
import errno
import glob
import os
import re
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT)
_HOST = re.sub(r"[^A-Za-z0-9]", "-", socket.gethostname())


class DiskFullError(OSError):
    """There is no room for a file; the message says where, how much it takes and what may go."""

    def __init__(self, path: Path, needed: int | None = None):
        folder = next(place for place in path.absolute().parents if place.exists())
        wants = "more room" if needed is None else f"{needed:,} more bytes"
        super().__init__(
            f"the disk is full: {path} needs {wants}, and {folder} has "
            f"{shutil.disk_usage(folder).free:,} bytes free. Make room (the caches in $JIADF_CACHE "
            "or ~/.cache/jiadf may be deleted at any time) and run the same command again"
        )


@contextlib.contextmanager
def room_for(path: Path, needed: int | None = None) -> Iterator[None]:
    """Turn a full disk into a :class:`DiskFullError`, beforehand if ``needed`` bytes are known."""
    if needed is not None and needed > shutil.disk_usage(path.parent).free:
        raise DiskFullError(path, needed)
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:  # a DiskFullError has none
            raise
        raise DiskFullError(path, needed) from error


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a name to write to; what lies there takes the place of ``path`` if nothing was raised.

    A symbolic link stays and its target is replaced. A device or a pipe is written to, never
    replaced.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder; give the path of a file", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    if _is_special(path):
        with tempfile.TemporaryDirectory() as folder, room_for(path):
            staged = Path(folder) / "staged"
            yield staged
            with staged.open("rb") as source, path.open("wb") as sink:
                shutil.copyfileobj(source, sink)
        return
    path = path.resolve()
    _remove_leftovers(path)
    staged = path.with_name(f".{path.name}.{_HOST}-{os.getpid()}")
    try:
        with room_for(path):
            yield staged
            os.replace(staged, path)
    finally:
        staged.unlink(missing_ok=True)


def replace_folder(staged: Path, folder: Path) -> None:
    """Move a finished folder, on the same disk, into the place of an old one; all or nothing."""
    old = staged.with_name(f"{staged.name}.old")
    if folder.exists():
        folder.rename(old)
    try:
        staged.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _is_special(path: Path) -> bool:
    # What /dev/stdout leads to may be a plain file that the shell holds open.
    if path.is_absolute() and path.parts[1:2] in (("dev",), ("proc",)) and path.exists():
        return path.parts[1:3] != ("dev", "shm")
    return path.exists() and not path.is_file()


def _remove_leftovers(path: Path) -> None:
    for left in path.parent.glob(f".{glob.escape(path.name)}.{_HOST}-*"):
        try:
            os.kill(int(left.name.rpartition("-")[2]), 0)
        except ProcessLookupError:
            left.unlink(missing_ok=True)
        except (OSError, ValueError):  # another user's process, or another kind of file
            pass


def read_regular(path: str | os.PathLike) -> bytes:
    """Read a file whole; what is no regular file (a FIFO, a device) is an OSError and no hang."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return Path(path).read_bytes()

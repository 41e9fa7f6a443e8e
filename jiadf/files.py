"""Write files whole or not at all, and tell versions of the code apart."""

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a name beside ``path`` to write to; rename it to ``path`` if nothing was raised."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield staged
        os.replace(staged, path)
    finally:
        staged.unlink(missing_ok=True)


def read_regular(path: str | os.PathLike) -> bytes:
    """Read a file whole; what is no regular file (a FIFO, a device) is an OSError and no hang."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return Path(path).read_bytes()


def code_fingerprint(*places: str) -> str:
    """Digest the package's Python files under some of its folders or files.

    What is kept in a cache under this name is made anew when the code that makes it changes.

    Parameters
    ----------
    places
        Paths relative to the package, such as ``"models"`` or ``"train.py"``.
    """
    package = Path(__file__).resolve().parent
    whole = hashlib.blake2b(digest_size=8)
    for place in places:
        files = sorted((package / place).rglob("*.py")) or [package / place]
        for file in files:
            whole.update(file.read_bytes())
    return whole.hexdigest()

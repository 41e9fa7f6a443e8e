"""Fetch one file over HTTP so that a break costs nothing but the bytes in flight.

:func:`fetch` writes to ``NAME.part`` and renames it when the file is complete, so a file under
its own name is always whole. After a break, in the same run or a later one, it asks the server
for the missing range, and starts over if the file has changed there meanwhile (RFC 9110, sections
13.1.5 and 14). Nothing but the standard library is used.
"""

import errno
import hashlib
import http.client
import json
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from jiadf import __version__

CHUNK = 1 << 18  # bytes read at a time
_FULL = (errno.ENOSPC, errno.EDQUOT)
_RETRIED_STATUS = (408, 425, 429, 500, 502, 503, 504)


class DownloadError(RuntimeError):
    """A file could not be fetched or unpacked; the message says what to do."""


class DiskFullError(DownloadError):
    """There is no room for a file; what was fetched of it is kept."""


class _Broken(Exception):
    """The transfer stopped before the end; worth trying again."""


@dataclass
class _Remote:
    """What the server said about the file: kept beside the part to resume safely."""

    validator: str | None = None  # a strong ETag, or Last-Modified
    total: int | None = None  # bytes


def fetch(
    url: str,
    target: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    progress: bool = True,
    retries: int = 5,
    backoff: float = 1.0,
    timeout: float = 30.0,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """Fetch a file, going on from ``<target>.part`` where one is left.

    Parameters
    ----------
    url : str
        An http or https address.
    target : Path
        Where the file goes. If it exists it is taken as complete and nothing is fetched.
    size : int, optional
        Its published size in bytes, checked.
    sha256 : str, optional
        Its published hash in hexadecimal, checked.
    progress : bool
        Show a progress bar.
    retries : int
        How often in a row it tries again without having got any further.
    backoff : float
        Seconds before the first new try, doubled for each further one.
    timeout : float
        Seconds without a byte after which a connection counts as broken.
    sleep : callable
        Waits; replaced in tests.

    Returns
    -------
    Path
        `target`.

    Raises
    ------
    DownloadError
        If the server refuses the file, the connection keeps breaking, or size or hash is wrong.
    DiskFullError
        If there is no room for it; the part is kept.
    """
    if target.exists():
        return target
    if not url.lower().startswith(("http://", "https://")):
        raise DownloadError(f"{url} is not an http or https address; give one")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        transfer = _Transfer(url, target, size, progress, timeout)
        _complete(transfer, retries, backoff, sleep)
        transfer.verify(size, sha256)
        transfer.finish()
    except OSError as error:
        raise DownloadError(f"cannot write {target}: {error}. Check its permissions") from error
    return target


def _complete(transfer: "_Transfer", retries: int, backoff: float, sleep: Callable) -> None:
    """Try until the part is complete."""
    furthest, failures = transfer.done, 0
    while True:
        try:
            return transfer.attempt()
        except _Broken as broken:
            grown = transfer.done > furthest
            furthest = max(furthest, transfer.done)
            failures = 1 if grown else failures + 1
            if failures > retries:
                raise DownloadError(
                    f"{transfer.url} broke off {failures} times without getting any further "
                    f"({broken}). {transfer.done:,} bytes are kept in {transfer.part.name}: run "
                    "the same command again to go on from there"
                ) from broken
            sleep(min(backoff * 2 ** (failures - 1), 60.0))


class _Transfer:
    """The state of one file on its way: the part on disk and what is known of the remote file."""

    def __init__(self, url: str, target: Path, size: int | None, progress: bool, timeout: float):
        self.url, self.target, self.size = url, target, size
        self.progress, self.timeout = progress, timeout
        self.part = target.with_name(target.name + ".part")
        self.note = target.with_name(target.name + ".part.json")
        self.remote = self._read_note()
        if self.remote.validator is None:  # nothing says that the rest would fit: start over
            self._discard()

    @property
    def done(self) -> int:
        """Bytes in the part."""
        return self.part.stat().st_size if self.part.exists() else 0

    def _read_note(self) -> _Remote:
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
            validator, total = note["validator"], note["total"]
        except (OSError, ValueError, KeyError, TypeError):
            return _Remote()
        if not isinstance(validator, str | None) or not isinstance(total, int | None):
            return _Remote()
        return _Remote(validator, total)

    def _discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)
        self.remote = _Remote()

    def attempt(self) -> None:
        """Ask for what is missing and append it; raise `_Broken` if it does not all come."""
        start = self.done
        if start and self.remote.total == start:
            return
        headers = {"User-Agent": f"jiadf/{__version__}", "Accept-Encoding": "identity"}
        if start:
            headers |= {"Range": f"bytes={start}-", "If-Range": self.remote.validator}
        request = urllib.request.Request(self.url, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:
                self._receive(response, start)
        except urllib.error.HTTPError as error:
            with error:
                self._refused(error)
        except (OSError, http.client.HTTPException) as error:
            raise _Broken(str(error) or type(error).__name__) from error

    def _refused(self, error: urllib.error.HTTPError) -> None:
        if error.code == 416:  # the part is not a beginning of what is there now
            self._discard()
            raise _Broken("the file has changed on the server, starting over") from error
        if error.code in _RETRIED_STATUS:
            raise _Broken(f"the server answered {error.code} {error.reason}") from error
        raise DownloadError(
            f"the server answered {error.code} {error.reason} for {self.url}. Check the address "
            "in a browser; a newer version of this package may know where the file has moved"
        ) from error

    def _receive(self, response: http.client.HTTPResponse, start: int) -> None:
        if response.headers.get_content_type() == "text/html":
            raise DownloadError(
                f"{self.url} answered with a web page, not a file. A proxy or a login page may "
                "stand between: open the address in a browser"
            )
        length = response.headers.get("Content-Length")
        expected = int(length) if length and length.isdigit() else None
        seen = _Remote(_validator(response), expected)
        if response.status == 206:
            seen.total = self._check_range(response, start, seen)
        elif start:  # the server sends everything: it ignores ranges, or the file has changed
            self._discard()
            start = 0
        self.remote = seen
        self._check_room(start)
        self._save_note()
        self._append(response, start)
        if self.remote.total is not None and self.done != self.remote.total:
            raise _Broken(f"{self.done:,} of {self.remote.total:,} bytes received")

    def _check_range(self, response, start: int, seen: _Remote) -> int | None:
        """Make sure that a partial answer continues the part; return the total size."""
        stated = response.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", stated.strip())
        fits = match is not None and int(match[1]) == start > 0
        if fits and (seen.validator is None or seen.validator == self.remote.validator):
            seen.validator = self.remote.validator
            total = self.remote.total if match[3] == "*" else int(match[3])
            if self.remote.total in (None, total):
                return total
        self._discard()
        raise _Broken(f"the server sent another range ({stated or 'none stated'}), starting over")

    def _check_room(self, start: int) -> None:
        if self.size is not None and self.remote.total not in (None, self.size):
            raise DownloadError(
                f"{self.url} has {self.remote.total:,} bytes where {self.size:,} are published. "
                "It may have been replaced: check the data set's page"
            )
        if self.remote.total is None:
            return
        needed, free = self.remote.total - start, shutil.disk_usage(self.target.parent).free
        if needed > free:
            raise DiskFullError(
                f"{self.target.name} needs {needed:,} more bytes and {self.target.parent} has "
                f"{free:,} free. Make room, or choose another folder, and run it again"
            )

    def _save_note(self) -> None:
        try:
            self.note.write_text(json.dumps(asdict(self.remote)), encoding="utf-8")
        except OSError as error:
            self._cannot_write(error)

    def _append(self, response, start: int) -> None:
        try:
            stream = self.part.open("ab" if start else "wb")
        except OSError as error:
            self._cannot_write(error)
        bar = tqdm(
            desc=self.target.name,
            total=self.remote.total,
            initial=start,
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            disable=not self.progress,
        )
        with bar:
            try:
                with stream:
                    while block := _read_block(response):
                        _write_block(stream, block)
                        bar.update(len(block))
            except _DiskError as error:
                self._cannot_write(error.cause)
            except OSError as error:
                if error.errno in _FULL:  # buffered bytes that did not fit when it was closed
                    self._cannot_write(error)
                raise

    def _cannot_write(self, error: OSError) -> None:
        if error.errno in _FULL:
            raise DiskFullError(
                f"the disk is full: {self.part} has {self.done:,} bytes and is kept. Make room "
                "and run the same command again to go on from there"
            ) from error
        raise DownloadError(f"cannot write {self.part}: {error}. Check its permissions") from error

    def verify(self, size: int | None, sha256: str | None) -> None:
        """Check the complete part; throw it away if it is not what was published."""
        wrong = None
        if size is not None and self.done != size:
            wrong = f"has {self.done:,} bytes where {size:,} are published"
        elif sha256 is not None:
            with self.part.open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
            if found != sha256.lower():
                wrong = f"has the SHA-256 {found} where {sha256} is published"
        if wrong:
            self._discard()
            raise DownloadError(
                f"{self.url} {wrong}. It was thrown away: run it again, and if this stays so, "
                "check the data set's page for a new version"
            )

    def finish(self) -> None:
        """Give the complete part its name."""
        self.part.replace(self.target)
        self.note.unlink(missing_ok=True)


class _DiskError(Exception):
    """An error of writing, kept apart from those of the network, which are OSErrors as well."""

    def __init__(self, cause: OSError):
        super().__init__(str(cause))
        self.cause = cause


def _read_block(response) -> bytes:
    return response.read(CHUNK)


def _write_block(stream, block: bytes) -> None:
    try:
        stream.write(block)
        stream.flush()
    except OSError as error:
        raise _DiskError(error) from error


def _validator(response) -> str | None:
    """Return what If-Range can name this version of the file by; a weak ETag cannot."""
    etag = response.headers.get("ETag")
    if etag and not etag.startswith("W/"):
        return etag
    return response.headers.get("Last-Modified") if etag is None else None

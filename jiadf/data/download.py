"""Download the official MILK10k files from the ISIC archive's public storage.

:func:`download` fetches the tables and the archive of images of a part, unpacks the images and
leaves a folder in the official layout (see ``jiadf.data.layout``). It can be broken off at any
time and run again: a file lies under its own name only when it is whole, until then under a name
that tells its version, and the next try asks for the rest of that version.

The data set is doi:10.34970/648456, under CC BY-NC 4.0; it is fetched only once the licence is
accepted.
"""

import hashlib
import http.client
import shutil
import struct
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from ssl import SSLError

from filelock import FileLock, Timeout
from tqdm import tqdm

from jiadf import __version__
from jiadf.data.layout import IMAGE_SUFFIX, Layout
from jiadf.data.schema import is_safe_id
from jiadf.files import room_for

BASE_URL = "https://isic-archive.s3.amazonaws.com/challenges/milk10k/"
TRIES = 6
FIRST_WAIT, TIMEOUT = 1.0, 30.0  # seconds; each further wait is twice as long
_CHUNK = 1 << 18  # bytes read at a time
_RETRIED_STATUS = (None, 408, 425, 429, 500, 502, 503, 504)  # None: no answer at all
_BROKEN = (
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
    SSLError,
)
# RuntimeError: an encrypted member, or an unknown compression.
_DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError)

LICENSE_NOTICE = """\
MILK10k is published by the MILK study team under the Creative Commons licence CC BY-NC 4.0
(https://creativecommons.org/licenses/by-nc/4.0/legalcode). In short, and not instead of it:
  - you may copy, share and adapt the data;
  - you must name the MILK study team as its source, link the licence and say what you changed;
  - you may not use it for commercial purposes.
Cite doi:10.34970/648456 and the dataset paper doi:10.1016/j.jid.2025.06.1594."""


class DownloadError(RuntimeError):
    """A file could not be fetched or unpacked; the message says what to do."""


def download(
    root: str | Path,
    accept_license: bool = False,
    parts: Sequence[str] = ("training",),
    progress: bool = True,
) -> list[Layout]:
    """Fetch parts of MILK10k, ``training`` or ``test``, into a folder.

    The licence is printed, and a line a file. What is there already is not fetched again.

    Raises
    ------
    DownloadError
        If `accept_license` is not true, or a file cannot be fetched or is damaged; run it again to
        go on.
    """
    layouts = [Layout(Path(root), part) for part in dict.fromkeys(parts)]  # refuses unknown parts
    if not accept_license:
        raise DownloadError(
            f"{LICENSE_NOTICE}\n\nNothing was fetched. If you accept this, say so with "
            "`jiadf download --accept-license`, or download(..., accept_license=True)"
        )
    print(LICENSE_NOTICE)
    folder = layouts[0].root
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".download.lock", timeout=0):
            for layout in layouts:
                for table in (layout.metadata_csv, layout.ground_truth_csv, layout.supplement_csv):
                    if table is not None:
                        _get(table, progress)
                _get(layout.input_dir, progress)
    except Timeout as error:
        raise DownloadError(f"another download into {folder} is running; wait for it") from error
    return layouts


def _get(target: Path, progress: bool) -> None:
    """Fetch a table, or an archive of images and unpack it, unless it is there."""
    file = target if target.suffix == ".csv" else target.with_suffix(".zip")
    if target.exists():
        print(f"{target.name}: there already")
    else:
        if not file.exists():
            fetch(BASE_URL + file.name, file, progress)
        if file != target:
            unpack(file, target, progress)
        print(f"{target.name}: done")
    leftovers = [*file.parent.glob(f"{file.name}.*.part"), *([file] if file != target else [])]
    for left in leftovers:  # also what a killed run left
        left.unlink(missing_ok=True)


def fetch(url: str, target: Path, progress: bool = True) -> None:
    """Fetch a file whole, going on from what an earlier try left of this version of it."""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(FIRST_WAIT * 2 ** (attempt - 1))
        try:
            _attempt(url, target, progress)
            return
        except _BROKEN as error:
            if getattr(error, "code", None) not in _RETRIED_STATUS:
                raise DownloadError(
                    f"the server answered {error} for {url}. Check the address in a browser; "
                    "a newer version of this package may know where the file has moved"
                ) from error
            broken = error  # Python forgets `error` here
    kept = sum(part.stat().st_size for part in target.parent.glob(f"{target.name}.*.part"))
    raise DownloadError(
        f"{url} broke off {TRIES} times ({broken}). {kept:,} bytes are kept: run the same command "
        "again to go on"
    ) from broken


def _attempt(url: str, target: Path, progress: bool) -> None:
    """Ask what there is, then for what is missing of it; one of `_BROKEN` if not all comes."""
    with _open(url, method="HEAD") as answer:
        length, version = answer.headers.get("Content-Length", ""), answer.headers.get("ETag")
        kind = answer.headers.get_content_type()
    if kind == "text/html":
        raise DownloadError(
            f"{url} answered with a web page, not a file. A proxy or a login page may "
            "stand between: open the address in a browser"
        )
    if not length.isdecimal():
        raise DownloadError(f"{url} does not say how large it is: half of it would look whole")
    total = int(length)
    named = hashlib.sha256(f"{version} {total}".encode()).hexdigest()[:16]
    part = target.with_name(f"{target.name}.{named}.part")
    start = part.stat().st_size if part.exists() and version else 0
    if start < total or not total:
        # A server that cannot go on, or has another version by now, sends the whole file.
        resumed = {"Range": f"bytes={start}-", "If-Range": version} if start else {}
        with _open(url, headers=resumed) as answer:
            start = start if answer.status == http.client.PARTIAL_CONTENT else 0
            bar = tqdm(
                desc=target.name, total=total, initial=start, unit="B", unit_scale=True,
                unit_divisor=1024, disable=not progress,
            )  # fmt: skip
            with bar, room_for(part, total - start), part.open("ab" if start else "wb") as stream:
                while block := answer.read(_CHUNK):
                    stream.write(block)
                    bar.update(len(block))
    received = part.stat().st_size
    if received > total:
        part.unlink()
    if received != total:
        raise ConnectionError(f"{received:,} of {total:,} bytes received")
    part.replace(target)


def _open(url: str, method: str = "GET", headers: dict[str, str] | None = None):
    sent = {"User-Agent": f"jiadf/{__version__}", "Accept-Encoding": "identity"} | (headers or {})
    request = urllib.request.Request(url, headers=sent, method=method)
    return urllib.request.urlopen(request, timeout=TIMEOUT)


def unpack(archive: Path, target: Path, progress: bool = True) -> None:
    """Unpack the images of an archive into `target`, a folder a lesion, whole or not at all.

    Whatever folders stand before, only members named ``lesion_id/isic_id.jpg`` are written, so that
    nothing can be written elsewhere. A damaged archive is removed, to be fetched anew.
    """
    staged = target.with_name(f".{target.name}.unpacking")
    shutil.rmtree(staged, ignore_errors=True)  # by a run that was killed
    try:
        with zipfile.ZipFile(archive) as opened:
            images = [member for member in opened.infolist() if _is_image(member.filename)]
            if not images:
                raise zipfile.BadZipFile(f"it holds no lesion_id/isic_id{IMAGE_SUFFIX}")
            bar = tqdm(images, f"unpacking {archive.name}", disable=not progress)
            with room_for(staged, sum(member.file_size for member in images)):
                for member in bar:
                    path = staged.joinpath(*PurePosixPath(member.filename).parts[-2:])
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with opened.open(member) as source, path.open("wb") as sink:
                        shutil.copyfileobj(source, sink)  # raises at the end if the CRC is wrong
        staged.rename(target)
    except _DAMAGED as error:
        archive.unlink()
        raise DownloadError(
            f"{archive.name} is damaged ({error}) and was removed; fetch it again"
        ) from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix == IMAGE_SUFFIX and is_safe_id(path.parent.name) and is_safe_id(path.stem)

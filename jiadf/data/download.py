"""Download the official MILK10k files from the ISIC archive's public storage.

:func:`download` fetches the tables and the archive of images of a part, unpacks the images and
leaves a folder in the official layout (see ``jiadf.data.layout``). It can be broken off at any
time and run again: a file lies under its own name only when it is whole, until then under a name
that tells its version, and the next try asks for the rest of that version.

Neither sizes nor hashes are published. They are written down when a file is first complete
(:data:`RECORD`), and compared from then on.

The data set is doi:10.34970/648456, under CC BY-NC 4.0; it is fetched only once the licence is
accepted.
"""

import hashlib
import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from jiadf import __version__
from jiadf.data.layout import PARTS, Layout
from jiadf.data.unpack import BadArchiveError, unpack
from jiadf.files import DiskFullError, atomic, room_for

BASE_URL = "https://isic-archive.s3.amazonaws.com/challenges/milk10k/"
FILES = {
    "training": (
        "MILK10k_Training_Metadata.csv",
        "MILK10k_Training_GroundTruth.csv",
        "MILK10k_Training_Supplement.csv",
        "MILK10k_Training_Input.zip",
    ),
    "test": ("MILK10k_Test_Metadata.csv", "MILK10k_Test_Input.zip"),
}
RECORD = "MILK10k_downloads.json"
_CHUNK = 1 << 18  # bytes read at a time
_RETRIED_STATUS = (408, 412, 416, 425, 429, 500, 502, 503, 504)

LICENSE_NOTICE = """\
MILK10k is published by the MILK study team under the Creative Commons licence CC BY-NC 4.0
(https://creativecommons.org/licenses/by-nc/4.0/legalcode). In short, and not instead of it:
  - you may copy, share and adapt the data;
  - you must name the MILK study team as its source, link the licence and say what you changed;
  - you may not use it for commercial purposes.
Cite doi:10.34970/648456 and the dataset paper doi:10.1016/j.jid.2025.06.1594."""


class DownloadError(RuntimeError):
    """A file could not be fetched; the message says what to do."""


class LicenseNotAcceptedError(DownloadError):
    """Nothing was fetched, because the licence was not accepted."""

    def __init__(self):
        super().__init__(
            f"{LICENSE_NOTICE}\n\nNothing was fetched. If you accept this, say so with "
            "`jiadf download --accept-license`, or download(..., accept_license=True)"
        )


class _Broken(Exception):
    """The transfer stopped before the end; worth trying again."""


def download(
    root: str | Path,
    accept_license: bool = False,
    parts: Sequence[str] = ("training",),
    base_url: str = BASE_URL,
    progress: bool = True,
    *,
    echo: Callable[[str], None] = print,
    **options: float,
) -> list[Layout]:
    """Fetch parts of MILK10k into a folder.

    Parameters
    ----------
    root : path
        The data folder; made if it does not exist.
    accept_license : bool
        That you accept the licence; it is shown in any case.
    parts : sequence of {"training", "test"}
        What to fetch.
    base_url : str
        Where the files are.
    progress : bool
        Show progress bars.
    echo : callable
        Called with the licence and with a line a file.
    options
        ``retries``, ``backoff``, ``timeout`` of :func:`fetch`.

    Returns
    -------
    list of Layout
        One a part, ready to be read.

    Raises
    ------
    LicenseNotAcceptedError
        If `accept_license` is not true; nothing was fetched.
    DownloadError
        If a file cannot be fetched or is not what it was; run it again to go on.
    jiadf.data.unpack.BadArchiveError
        If an archive is damaged; it is removed, to be fetched anew.
    """
    layouts = [Layout(Path(root), part) for part in dict.fromkeys(parts)]  # refuses unknown parts
    if not layouts:
        raise ValueError(f"no part to download; give one or more of {', '.join(PARTS)}")
    if not accept_license:
        raise LicenseNotAcceptedError
    echo(LICENSE_NOTICE)
    folder = layouts[0].root
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".download.lock", timeout=0):
            for layout in layouts:
                for name in FILES[layout.part]:
                    _get(f"{base_url.rstrip('/')}/{name}", layout, progress, echo, options)
    except Timeout as error:
        raise DownloadError(f"another download into {folder} is running; wait for it") from error
    except DiskFullError:
        raise
    except OSError as error:
        raise DownloadError(f"cannot write into {folder}: {error}; choose another") from error
    return layouts


def _get(
    url: str, layout: Layout, progress: bool, echo: Callable[[str], None], options: dict
) -> None:
    """Fetch one file unless it is there, and unpack it if it is an archive."""
    file = layout.root / url.rpartition("/")[2]
    target = layout.input_dir if file.suffix == ".zip" else file
    if target.exists():
        if known := _differs(target, target.name):
            raise DownloadError(
                f"{target} is not the {known} that was downloaded: it was changed or damaged. "
                f"Remove it to fetch it again, or take its line out of {RECORD} to keep it"
            )
        echo(f"{target.name}: there already")
    else:
        if not file.exists():
            fetch(url, file, progress, **options)
        if target != file:
            try:
                left_out = unpack(file, target, progress)
            except BadArchiveError as error:
                file.unlink()
                _record(file, None)
                raise BadArchiveError(f"{error} ({file.name} was removed)") from error
            if left_out:
                echo(f"{file.name}: left out {len(left_out)} that are no images: {left_out[:3]}")
        echo(f"{target.name}: done")
    for left in (*file.parent.glob(f"{file.name}.*.part"), *([file] if target != file else [])):
        left.unlink(missing_ok=True)  # also what a killed run left


def _read_record(folder: Path) -> dict[str, dict]:
    try:
        return dict(json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError) as error:
        raise DownloadError(f"{folder / RECORD} is damaged ({error}); remove it") from error


def _record(file: Path, facts: dict | None) -> None:
    kept = _read_record(file.parent) | {file.name: facts}
    with atomic(file.parent / RECORD) as staged:
        staged.write_text(json.dumps({k: v for k, v in kept.items() if v}, indent=2) + "\n")


def _facts(file: Path) -> dict:
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"bytes": file.stat().st_size, "sha256": sha256}


def _differs(file: Path, name: str) -> dict | None:
    """Return what was recorded under a name, if the file is another."""
    known = _read_record(file.parent).get(name)
    return known if known and file.is_file() and known != _facts(file) else None


def fetch(
    url: str,
    target: Path,
    progress: bool = True,
    *,
    retries: int = 5,
    backoff: float = 1.0,
    timeout: float = 30.0,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Fetch a file whole, going on from what an earlier try left of this version of it.

    It is tried again, after `backoff` seconds and twice as long each further time, up to `retries`
    times without getting any further; `timeout` seconds without a byte count as a break.

    Raises
    ------
    DownloadError
        If the address is not https, the server refuses the file, the connection keeps breaking, or
        the file is not the one that was downloaded before.
    """
    if not _is_allowed(url):
        raise DownloadError(f"{url} is not an https address; give one")
    furthest, failures = _kept(target), 0
    while True:
        try:
            part = _attempt(url, target, progress, timeout)
            break
        except _Broken as broken:
            failures = 1 if _kept(target) > furthest else failures + 1
            furthest = max(furthest, _kept(target))
            if failures > retries:
                raise DownloadError(
                    f"{url} broke off {failures} times without getting any further ({broken}). "
                    f"{_kept(target):,} bytes are kept: run the same command again to go on"
                ) from broken
            sleep(min(backoff * 2 ** (failures - 1), 60.0))
    if known := _differs(part, target.name):
        part.unlink()
        raise DownloadError(
            f"{url} is not the {known} that was first downloaded; it was thrown away. If there is "
            f"a new version of it, take the line of {target.name} out of {RECORD} and try again"
        )
    _record(target, _facts(part))
    part.replace(target)


def _kept(target: Path) -> int:
    """Count the bytes of a file that lie there already."""
    return sum(part.stat().st_size for part in target.parent.glob(f"{target.name}.*.part"))


def _attempt(url: str, target: Path, progress: bool, timeout: float) -> Path:
    """Ask what there is, then for what is missing; raise `_Broken` if it does not all come."""
    with _open(url, timeout, method="HEAD") as answer:
        length, version = answer.headers.get("Content-Length", ""), _version(answer)
    if not length.isdecimal():
        raise DownloadError(f"{url} does not say how large it is: half of it would look whole")
    total = int(length)
    named = hashlib.sha256(f"{version} {total}".encode()).hexdigest()[:16]
    part = target.with_name(f"{target.name}.{named}.part")
    if version is None:  # nothing says that the rest would fit: start over
        part.unlink(missing_ok=True)
    start = part.stat().st_size if part.exists() else 0
    if start < total:
        asked = {"Range": f"bytes={start}-"} if start else {}
        with _open(url, timeout, headers=asked) as answer:
            stated = answer.headers.get("Content-Range", "")
            fits = stated == f"bytes {start}-{total - 1}/{total}" if start else answer.status == 200
            if not fits or _version(answer) != version:
                part.unlink(missing_ok=True)
                raise _Broken(f"the server sent something else ({stated}), starting over")
            bar = tqdm(
                desc=target.name, total=total, initial=start, unit="B", unit_scale=True,
                unit_divisor=1024, disable=not progress,
            )  # fmt: skip
            with bar, room_for(part, total - start), part.open("ab") as stream:
                while block := _read(answer):
                    stream.write(block)
                    stream.flush()
                    bar.update(len(block))
    received = part.stat().st_size
    if received > total:
        part.unlink()
    if received != total:
        raise _Broken(f"{received:,} of {total:,} bytes received")
    return part


def _is_allowed(url: str) -> bool:
    """Whether an address is https, or on this machine."""
    parsed = urllib.parse.urlsplit(url)
    here = parsed.hostname in ("127.0.0.1", "::1", "localhost")
    return parsed.scheme == "https" or (parsed.scheme == "http" and here)


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, request, fp, code, message, headers, newurl):
        if not _is_allowed(newurl) or (request.type == "https" and newurl.startswith("http:")):
            raise DownloadError(f"{request.full_url} leads to {newurl}, which is not https")
        made = super().redirect_request(request, fp, code, message, headers, newurl)
        made.method = request.get_method()
        return made


def _open(url: str, timeout: float, headers: dict | None = None, method: str = "GET"):
    sent = {"User-Agent": f"jiadf/{__version__}", "Accept-Encoding": "identity"} | (headers or {})
    request = urllib.request.Request(url, headers=sent, method=method)
    try:
        answer = urllib.request.build_opener(_Redirects).open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in _RETRIED_STATUS:
            raise _Broken(f"the server answered {error.code} {error.reason}") from error
        raise DownloadError(
            f"the server answered {error.code} {error.reason} for {url}. Check the address "
            "in a browser; a newer version of this package may know where the file has moved"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(str(error) or type(error).__name__) from error
    if answer.headers.get_content_type() == "text/html":
        answer.close()
        raise DownloadError(
            f"{url} answered with a web page, not a file. A proxy or a login page may "
            "stand between: open the address in a browser"
        )
    return answer


def _read(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(str(error) or type(error).__name__) from error


def _version(answer: http.client.HTTPResponse) -> str | None:
    """Return what names this version of the file; a weak ETag does not."""
    etag = answer.headers.get("ETag")
    if etag and not etag.startswith("W/"):
        return etag
    return answer.headers.get("Last-Modified") if etag is None else None

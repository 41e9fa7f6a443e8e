"""Download the official MILK10k files from the ISIC archive's public storage.

:func:`download` fetches the tables and the archive of images of a part, unpacks the images and
leaves a folder in the official layout (see ``jiadf.data.layout``). It can be broken off at any
time and run again: complete files are skipped, an incomplete one goes on where it stopped.

The data set is doi:10.34970/648456, under CC BY-NC 4.0; it is fetched only once the licence is
accepted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from jiadf.data.fetch import DownloadError, fetch
from jiadf.data.layout import PARTS, Layout
from jiadf.data.unpack import BadArchiveError, unpack_folder

BASE_URL = "https://isic-archive.s3.amazonaws.com/challenges/milk10k/"


@dataclass(frozen=True)
class RemoteFile:
    """One official file.

    Attributes
    ----------
    name : str
        Its name, at the server and in the data folder.
    part : str
        The part of the data set it belongs to.
    size : int or None
        Its exact size in bytes where published.
    sha256 : str or None
        Its hash in hexadecimal where published.
    """

    name: str
    part: str
    size: int | None = None
    sha256: str | None = None


# Neither sizes nor hashes are published; the archives carry a CRC for each image.
FILES = (
    RemoteFile("MILK10k_Training_Metadata.csv", "training"),
    RemoteFile("MILK10k_Training_GroundTruth.csv", "training"),
    RemoteFile("MILK10k_Training_Supplement.csv", "training"),
    RemoteFile("MILK10k_Training_Input.zip", "training"),
    RemoteFile("MILK10k_Test_Metadata.csv", "test"),
    RemoteFile("MILK10k_Test_Input.zip", "test"),
)

LICENSE_NOTICE = """\
MILK10k is published by the MILK study team under the Creative Commons licence CC BY-NC 4.0
(https://creativecommons.org/licenses/by-nc/4.0/legalcode). In short, and not instead of it:
  - you may copy, share and adapt the data;
  - you must name the MILK study team as its source, link the licence and say what you changed;
  - you may not use it for commercial purposes.
Cite doi:10.34970/648456 and the dataset paper doi:10.1016/j.jid.2025.06.1594."""


class LicenseNotAcceptedError(DownloadError):
    """Nothing was fetched, because the licence was not accepted."""

    def __init__(self):
        super().__init__(
            f"{LICENSE_NOTICE}\n\nNothing was fetched. If you accept this, say so with "
            "`jiadf download --accept-license`, or download(..., accept_license=True)"
        )


def download(
    root: str | Path,
    accept_license: bool = False,
    parts: Sequence[str] = ("training",),
    base_url: str = BASE_URL,
    progress: bool = True,
    *,
    files: Sequence[RemoteFile] = FILES,
    retries: int = 5,
    backoff: float = 1.0,
    timeout: float = 30.0,
    echo: Callable[[str], None] = print,
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
    files : sequence of RemoteFile
        The table of files.
    retries, backoff, timeout
        See :func:`jiadf.data.fetch.fetch`.
    echo : callable
        Called with the licence and with a line a file.

    Returns
    -------
    list of Layout
        One a part, ready to be read.

    Raises
    ------
    LicenseNotAcceptedError
        If `accept_license` is not true; nothing was fetched.
    DownloadError
        If a file cannot be fetched (``DiskFullError``, also while unpacking: run it again to go
        on) or its archive is damaged (``BadArchiveError``: it is removed, to be fetched anew).
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
        lock = FileLock(folder / ".download.lock", timeout=0)
        lock.acquire()
    except Timeout as error:
        raise DownloadError(f"another download into {folder} is running; wait for it") from error
    except OSError as error:
        raise DownloadError(f"cannot write into {folder}: {error}; choose another") from error
    try:
        for layout in layouts:
            for file in files:
                if file.part == layout.part:
                    options = {"retries": retries, "backoff": backoff, "timeout": timeout}
                    _get(file, layout, base_url, progress, echo, options)
    finally:
        lock.release()
    return layouts


def _get(
    file: RemoteFile,
    layout: Layout,
    base_url: str,
    progress: bool,
    echo: Callable[[str], None],
    options: dict,
) -> None:
    target = layout.root / file.name
    zipped = target.suffix == ".zip"
    final = layout.input_dir if zipped else target
    if final.exists():
        echo(f"{final.name}: there already")
        return
    url = f"{base_url.rstrip('/')}/{file.name}"
    fetch(url, target, size=file.size, sha256=file.sha256, progress=progress, **options)
    if zipped:
        try:
            unpack_folder(target, final, progress)
        except BadArchiveError as error:
            target.unlink(missing_ok=True)
            raise BadArchiveError(f"{error} ({target.name} was removed)") from error
        target.unlink()
    echo(f"{final.name}: done")

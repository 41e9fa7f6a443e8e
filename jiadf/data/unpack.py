"""Unpack a zip archive without letting it write outside its folder.

Every member is looked at before the first byte is written: absolute paths, ``..``, drive
letters, links and encrypted members are refused. The rest is unpacked into a temporary folder
beside the target, each member checked against its CRC, and moved into place only when complete.
"""

import errno
import shutil
import stat
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from jiadf.data.fetch import DiskFullError, DownloadError

_IGNORED = "__MACOSX"  # what macOS adds to archives


class BadArchiveError(DownloadError):
    """An archive is damaged, or would write where it must not."""


def unpack_folder(archive: Path, target: Path, progress: bool = True) -> Path:
    """Unpack an archive so that its folder named like `target`, or else all of it, is `target`.

    Parameters
    ----------
    archive : Path
        A zip file. It may hold the folder itself, with or without files beside it (a licence
        text: these go beside `target` unless something is there already), or the folder's content.
    target : Path
        The folder to make; it must not exist yet.
    progress : bool
        Show a progress bar.

    Raises
    ------
    BadArchiveError
        If the archive is damaged or unsafe. Nothing is left of it in the folder.
    DiskFullError
        If it does not fit.
    """
    if target.exists():
        raise DownloadError(f"{target} exists already; remove it to unpack {archive.name} anew")
    prefix = f".unpack-{target.name}-"
    for left in target.parent.glob(f"{prefix}*"):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    try:
        with (
            zipfile.ZipFile(archive) as opened,
            tempfile.TemporaryDirectory(prefix=prefix, dir=target.parent) as folder,
        ):
            content = Path(folder) / "content"
            content.mkdir()
            members = _safe_members(opened, archive.name)
            _check_room(members, archive, target.parent)
            _extract(opened, members, content, archive.name, progress)
            _move(content, target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise BadArchiveError(f"{archive.name} is damaged ({error}); fetch it again") from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise DownloadError(f"cannot unpack {archive.name}: {error}") from error
        raise DiskFullError(
            f"the disk is full: {archive.name} could not be unpacked and is kept. Make room and "
            "run the same command again"
        ) from error
    return target


def _safe_members(opened: zipfile.ZipFile, name: str) -> list[zipfile.ZipInfo]:
    """List the members to write, after looking at all of them."""
    members, taken = [], set()
    for member in opened.infolist():
        reason = _refusal(member)
        if reason is None and member.filename.rstrip("/") in taken:
            reason = "is there twice"
        if reason is not None:
            raise BadArchiveError(
                f"{name} was not unpacked: its member {member.filename!r} {reason}. The official "
                "archive has no such member; fetch it again from the official address"
            )
        taken.add(member.filename.rstrip("/"))
        if PurePosixPath(member.filename).parts[0] != _IGNORED:
            members.append(member)
    return members


def _refusal(member: zipfile.ZipInfo) -> str | None:
    name = member.orig_filename
    parts = name.rstrip("/").split("/")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if name.startswith(("/", "\\")):
        return "has an absolute path"
    if any(part in ("", ".", "..") for part in parts) or ".." in name.replace("\\", "/").split("/"):
        return "leads out of the folder or has an empty part"
    if any(letter in name for letter in ":\\\0"):
        return "has a drive letter, a backslash or a zero byte"
    if stat.S_ISLNK(member.external_attr >> 16):
        return "is a link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is neither a file nor a folder"
    if member.flag_bits & 1:
        return "is encrypted"
    return None


def _check_room(members: list[zipfile.ZipInfo], archive: Path, folder: Path) -> None:
    needed = sum(member.file_size for member in members)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DiskFullError(
            f"{archive.name} needs {needed:,} bytes to unpack and {folder} has {free:,} free. "
            "It is kept: make room and run the same command again"
        )


def _extract(
    opened: zipfile.ZipFile,
    members: list[zipfile.ZipInfo],
    folder: Path,
    name: str,
    progress: bool,
) -> None:
    for member in tqdm(members, desc=f"unpacking {name}", unit="file", disable=not progress):
        path = folder.joinpath(*PurePosixPath(member.filename).parts)
        if member.is_dir():
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with opened.open(member) as source, path.open("xb") as sink:
            shutil.copyfileobj(source, sink)  # raises BadZipFile at the end if the CRC is wrong


def _move(folder: Path, target: Path) -> None:
    inner = folder / target.name
    if not inner.is_dir():
        inner = folder
    inner.rename(target)
    for other in folder.iterdir() if inner != folder else ():
        place = target.parent / other.name
        if other.is_file() and not place.exists():
            other.rename(place)

"""Unpack an archive of images: what is named as an image, into a folder a lesion, nothing else."""

import lzma
import shutil
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from jiadf.data.layout import IMAGE_SUFFIX
from jiadf.data.schema import is_safe_id
from jiadf.files import room_for

MAX_IMAGES, MAX_UNPACKED = 50_000, 20 * 10**9  # several times what MILK10k has; the second in bytes
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError)
_DAMAGED += (RuntimeError,)  # an encrypted member, or an unknown compression


class BadArchiveError(ValueError):
    """An archive is damaged, or holds what the official one does not."""


def unpack(archive: Path, target: Path, progress: bool = True) -> list[str]:
    """Unpack the images of an archive into `target`, a folder a lesion, whole or not at all.

    Whatever folders stand before, only ``lesion_id/isic_id.jpg`` counts, so that nothing can be
    written elsewhere.

    Returns
    -------
    list of str
        What was left out as it is no image.

    Raises
    ------
    BadArchiveError
        If the archive is damaged, or an image in it is not named as above.
    """
    staged = target.with_name(f".{target.name}.unpacking")
    shutil.rmtree(staged, ignore_errors=True)  # by a run that was killed
    try:
        with zipfile.ZipFile(archive) as opened:
            members, left_out = _images(opened, archive.name)
            bar = tqdm(members.items(), f"unpacking {archive.name}", disable=not progress)
            with room_for(staged, sum(member.file_size for member in members.values())):
                for name, member in bar:
                    path = staged / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with opened.open(member) as source, path.open("xb") as sink:
                        shutil.copyfileobj(source, sink)  # raises at the end if the CRC is wrong
        staged.rename(target)
    except _DAMAGED as error:
        raise BadArchiveError(f"{archive.name} is damaged ({error}); fetch it again") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return left_out


def _images(opened: zipfile.ZipFile, name: str) -> tuple[dict[str, zipfile.ZipInfo], list[str]]:
    """List the members to write, by ``lesion_id/isic_id.jpg``, and the names of the others."""
    images: dict[str, zipfile.ZipInfo] = {}
    left_out = []
    for member in opened.infolist():
        path = PurePosixPath(member.filename)
        if member.is_dir():
            continue
        if path.suffix.lower() != IMAGE_SUFFIX or path.name.startswith("."):
            left_out.append(member.filename)
            continue
        target = f"{path.parent.name}/{path.stem}{IMAGE_SUFFIX}"
        if not (is_safe_id(path.parent.name) and is_safe_id(path.stem)) or target in images:
            why = "there twice" if target in images else f"not lesion_id/isic_id{IMAGE_SUFFIX}"
            raise BadArchiveError(
                f"{name} was not unpacked: its member {member.filename!r} is {why}. The official "
                "archive has no such member; fetch it again from the official address"
            )
        images[target] = member
    size = sum(member.file_size for member in images.values())
    if not 0 < len(images) <= MAX_IMAGES or size > MAX_UNPACKED:
        raise BadArchiveError(
            f"{name} was not unpacked: it holds {len(images):,} images of {size:,} bytes; the "
            f"official archive has some, and at most {MAX_IMAGES:,} of {MAX_UNPACKED:,} bytes"
        )
    return images, left_out

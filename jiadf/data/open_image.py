"""Open a photograph from anywhere: a JPEG or PNG file, a PIL image, or an array.

Whatever it was, it comes out whole, upright and in 8-bit RGB, or is refused with a remedy. Every
image file that the package reads is opened here.
"""

import contextlib
import os
import re
from io import BytesIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from jiadf.data import faults as kinds
from jiadf.files import read_regular

_FORMATS = ("JPEG", "PNG")
_JPEG, _PNG = b"\xff\xd8", b"\x89PNG"
_COPY_REMEDY = "copy or export the photograph again"
_SIZE_REMEDY = "give a smaller copy of it"

# A JPEG is a row of segments: a marker, mostly a length, and its data. The data of a scan run on to
# the next marker that is neither a restart (D0 to D7) nor an escaped FF (00).
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
_SCAN, _END = b"\xff\xda", b"\xff\xd9"
_FILLER = bytes.fromhex("5a3c5a3c5a3c5a3c")  # as far as a decoder looks ahead

ImageSource = str | os.PathLike | Image.Image | np.ndarray


class ImageError(ValueError):
    """An image cannot be used: a kind of :mod:`jiadf.data.faults`, what is wrong, and a remedy."""

    def __init__(self, kind: str, message: str, remedy: str):
        super().__init__(kind, message, remedy)
        self.kind, self.message, self.remedy = kind, message, remedy
        self.path: str | os.PathLike | None = None

    def __str__(self):
        where = "" if self.path is None else f"{os.fspath(self.path)}: "
        return f"{where}{self.message}. Remedy: {self.remedy}."


def open_image(source: ImageSource, draft: int | None = None) -> Image.Image:
    """Return an image upright and in RGB, uint8.

    A photograph lying on its side by its EXIF orientation is turned, 16-bit grey is scaled to 8,
    and what is transparent is white. Bytes after the end of a JPEG do not count. A large JPEG file
    is decoded at the smallest scale not below ``draft``, several times faster.

    Raises
    ------
    ImageError
        If it is no JPEG or PNG, PIL image or array uint8 (H, W, 3), cannot be read, is cut off, or
        has more pixels than Pillow holds plausible (``MAX_IMAGE_PIXELS``, 89 million).
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or not source.size:
            found = f"is an array of {source.dtype}, shape {source.shape}"
            raise ImageError(kinds.NOT_AN_IMAGE, found, "give uint8 of shape (H, W, 3), RGB")
        return Image.fromarray(source)
    if not isinstance(source, (str, os.PathLike, Image.Image)):
        found = f"is of type {type(source).__name__}"
        raise ImageError(kinds.NOT_AN_IMAGE, found, "give a path, a PIL image or an array")
    is_file = not isinstance(source, Image.Image)
    try:
        return _upright(_decode(_read(source), draft) if is_file else source)
    except Exception as error:  # decoders of broken bytes raise whatever they stumble over
        failure = error
        if isinstance(error, Image.DecompressionBombError):
            message = "claims more pixels than any photograph has (a decompression bomb)"
            failure = ImageError(kinds.NOT_AN_IMAGE, message, _SIZE_REMEDY)
        elif not isinstance(error, ImageError):
            reason = "its header breaks off" if isinstance(error, UnidentifiedImageError) else error
            message = f"cannot be decoded to its end ({reason})"
            failure = ImageError(kinds.TRUNCATED_IMAGE, message, _COPY_REMEDY)
        failure.path = source if is_file else None
        raise failure from error


def decode(source: ImageSource, size: int) -> np.ndarray:
    """Open one image, see :func:`open_image`, as uint8 (size, size, 3)."""
    image = open_image(source, draft=size)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))


def _read(path: str | os.PathLike) -> bytes:
    try:
        content = read_regular(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        found = "there is no such file"
        raise ImageError(kinds.MISSING_IMAGE, found, "correct the path") from error
    except (OSError, ValueError) as error:
        message = f"cannot be read ({getattr(error, 'strerror', None) or error})"
        raise ImageError(kinds.NOT_AN_IMAGE, message, "make it a file that you may read") from error
    if not content:
        raise ImageError(kinds.TRUNCATED_IMAGE, "is empty (0 bytes)", _COPY_REMEDY)
    return content


def _decode(content: bytes, draft: int | None) -> Image.Image:
    """Decode a file, in full and up to its end.

    A decoder that meets the end marker too early paints the rest grey and does not say so. So an
    image of one scan is decoded without that marker: one that is cut off then asks for more. A
    progressive one needs it, and is cut off if what stands before the marker changes the image.
    """
    if not content.startswith((_JPEG, _PNG)):
        message = "is not an image in JPEG or PNG format"
        raise ImageError(kinds.NOT_AN_IMAGE, message, "give a photograph, saved as JPEG or PNG")
    if content.startswith(_PNG):
        return _load(content, draft)
    end, scans = _image_end(content)
    if scans == 1:
        return _load(content[:end] + _FILLER, draft)
    image = _load(content[:end] + _END, draft)
    if image.tobytes() != _load(content[:end] + _FILLER + _END, draft).tobytes():
        message = "breaks off within its last scan"
        raise ImageError(kinds.TRUNCATED_IMAGE, message, _COPY_REMEDY)
    return image


def _image_end(content: bytes) -> tuple[int, int]:
    """Find where the last scan of a JPEG ends, and count its scans."""
    place, scans = len(_JPEG), 0
    while found := _MARKER.search(content, place):
        marker, place = found[1], found.end()
        if marker == _END[1:]:
            return found.start(), scans
        scans += marker == _SCAN[1:]
        place += int.from_bytes(content[place : place + 2])  # the segment's length, with itself
    message = "has no end marker after its image data"
    raise ImageError(kinds.TRUNCATED_IMAGE, message, _COPY_REMEDY)


def _load(content: bytes, draft: int | None) -> Image.Image:
    with Image.open(BytesIO(content), formats=_FORMATS) as image:
        if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
            message = f"is too large ({image.width:,} x {image.height:,} pixels)"
            raise ImageError(kinds.NOT_AN_IMAGE, message, _SIZE_REMEDY)
        if draft is not None:
            image.draft("RGB", (draft, draft))
        image.load()
        return image


def _upright(image: Image.Image) -> Image.Image:
    with contextlib.suppress(Exception):  # damaged EXIF data tell nothing
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
        values = np.asarray(image).astype(np.float64) / 257  # 65535 -> 255
        return Image.fromarray(values.round().clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")

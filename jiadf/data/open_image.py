"""Open a photograph from anywhere: a JPEG or PNG file, a PIL image, or an array.

Whatever it was, it comes out upright and in 8-bit RGB.
"""

import os
import stat
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from jiadf.data import faults as kinds

FORMATS = ("JPEG", "PNG")
_FORMAT_REMEDY = "give a photograph, saved as JPEG or PNG"

ImageSource = str | os.PathLike | Image.Image | np.ndarray


class ImageError(ValueError):
    """An image cannot be used: a kind of :mod:`jiadf.data.faults`, what is wrong, and a remedy."""

    def __init__(self, kind: str, message: str, remedy: str):
        super().__init__(f"{message}. Remedy: {remedy}.")
        self.kind, self.message, self.remedy = kind, message, remedy


def open_image(source: ImageSource, draft: int | None = None) -> Image.Image:
    """Return an image upright and in RGB, uint8.

    Parameters
    ----------
    source
        Path of a JPEG or PNG, a PIL image, or an array uint8 (H, W, 3). A photograph lying on its
        side by its EXIF orientation is turned, 16-bit grey is scaled to 8, and what is transparent
        is white.
    draft
        Decode a large JPEG file at the smallest scale not below this side, as
        :func:`jiadf.data.image_cache.decode` does.

    Raises
    ------
    ImageError
        A ValueError, if it is none of these, cannot be read, or claims more pixels than any
        photograph has.
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or not source.size:
            found = f"is an array of {source.dtype}, shape {source.shape}"
            raise ImageError(kinds.NOT_AN_IMAGE, found, "give uint8 of shape (H, W, 3), RGB")
        return Image.fromarray(source)
    if not isinstance(source, (str, os.PathLike, Image.Image)):
        found = f"is of type {type(source).__name__}"
        raise ImageError(kinds.NOT_AN_IMAGE, found, "give a path, a PIL image or an array")
    try:
        if isinstance(source, Image.Image):
            return _upright(source)
        _check_file(Path(source))
        with Image.open(source, formats=FORMATS) as image:
            if draft is not None:
                image.draft("RGB", (draft, draft))
            return _upright(image)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        message = "claims more pixels than any photograph has (a decompression bomb)"
        raise ImageError(kinds.NOT_AN_IMAGE, message, "give a smaller copy of it") from error
    except UnidentifiedImageError as error:
        message = "is not an image in JPEG or PNG format"
        raise ImageError(kinds.NOT_AN_IMAGE, message, _FORMAT_REMEDY) from error
    except Exception as error:  # decoders of broken bytes raise whatever they stumble over
        message = f"cannot be decoded to its end ({error})"
        remedy = "copy or export the photograph again"
        raise ImageError(kinds.TRUNCATED_IMAGE, message, remedy) from error


def _check_file(path: Path) -> None:
    try:
        found = path.stat()
        if not os.access(path, os.R_OK):
            raise PermissionError(13, "Permission denied")
    except (FileNotFoundError, NotADirectoryError) as error:
        message = "there is no such file"
        raise ImageError(kinds.MISSING_IMAGE, message, "correct the path") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        message = f"cannot be read ({reason})"
        raise ImageError(kinds.NOT_AN_IMAGE, message, "make it a file that you may read") from error
    if not stat.S_ISREG(found.st_mode):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "not a plain file"
        raise ImageError(kinds.NOT_AN_IMAGE, f"is {what}", _FORMAT_REMEDY)
    if not found.st_size:
        raise ImageError(kinds.TRUNCATED_IMAGE, "is empty (0 bytes)", "copy the photograph again")


def _upright(image: Image.Image) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
        values = np.asarray(image).astype(np.float64) / 257  # 65535 -> 255
        return Image.fromarray(values.round().clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")

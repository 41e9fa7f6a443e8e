"""Decode every image once, into a memory-mapped array keyed by content.

A cache file holds N images of one size as uint8, shape (N, S, S, 3), RGB. Its name is a digest of
the bytes of the image files, in order, with the size: the same images give the same file wherever
they lie, a changed one gives a new file, and nothing is ever stale.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from jiadf.data.array_cache import cached_array
from jiadf.data.open_image import ImageSource, open_image
from jiadf.files import read_regular

_DECODER = "pillow-bicubic-1"  # part of the key: change it when decoding changes


@dataclass(frozen=True)
class CachedImages:
    """Decoded images: ``pixels`` uint8 (N, S, S, 3), and the ``key`` that names their content."""

    pixels: np.ndarray
    key: str

    def __len__(self) -> int:
        """Count the images."""
        return len(self.pixels)


def default_cache_dir() -> Path:
    """Return ``$JIADF_CACHE``, or ``jiadf`` under the user's cache folder (``XDG_CACHE_HOME``)."""
    fallback = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jiadf"
    return Path(os.environ.get("JIADF_CACHE") or fallback).expanduser()


def cache_images(
    paths: Sequence[str | Path],
    size: int,
    cache_dir: str | Path | None = None,
    *,
    progress: bool = True,
) -> CachedImages:
    """Return whole images resized to ``size`` x ``size`` (paper, A.2), decoding them if need be.

    Caches lie in ``cache_dir``, :func:`default_cache_dir` if None. An
    :class:`jiadf.data.open_image.ImageError` names a file that is not a readable image.
    """
    paths = list(paths)
    key = content_key(paths, size)
    file = Path(cache_dir or default_cache_dir()) / "images" / f"{key}.npy"

    def rows(start: int) -> Iterator[np.ndarray]:
        with ThreadPoolExecutor() as pool:
            decoded = pool.map(lambda path: decode(path, size), paths[start:])
            bar = tqdm(decoded, "decoding images", len(paths), initial=start, disable=not progress)
            for image in bar:
                yield image[None]

    return CachedImages(cached_array(file, len(paths), rows), key)


def content_key(paths: Sequence[str | Path], size: int) -> str:
    """Digest the files' bytes, their order, the size and the decoder into a name."""
    whole = hashlib.blake2b(f"{_DECODER}:{size}".encode(), digest_size=16)
    for path in paths:
        whole.update(hashlib.blake2b(read_regular(path), digest_size=16).digest())
    return whole.hexdigest()


def decode(source: ImageSource, size: int) -> np.ndarray:
    """Open one image, see :func:`jiadf.data.open_image.open_image`, as uint8 (size, size, 3)."""
    image = open_image(source, draft=size)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))

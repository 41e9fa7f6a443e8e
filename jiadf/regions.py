"""Where the lesion may be in a photograph, and what lies there that is no lesion; all estimates.

For drawn pictures the lesion is known (:mod:`jiadf.data.masks`). For photographs these are simple
detectors of the classical kind, without training and hence without a taste for any class, and
wrong often enough that a figure that rests on them is an estimate:

* :func:`thin_dark_lines` finds hairs, and ruler marks as well, by the difference between the
  picture and its morphological closing, as DullRazor (Lee et al., 1997) and its heirs do;
* :func:`dark_corners` finds the black surround of a dermoscope's round field;
* :func:`lesion_estimate` closes thin dark lines and cuts the distance from the skin's colour by
  Otsu's threshold (1979), keeping one large piece near the middle.
"""

from __future__ import annotations

import cv2
import numpy as np

_DARK = 0.22  # of full brightness: below it a surround counts as black
_STEP = 12  # grey levels by which a line must be darker than its surroundings


def _odd(pixels: float, least: int = 3) -> int:
    return max(least, round(pixels) | 1)


def _check(picture: np.ndarray) -> np.ndarray:
    picture = np.ascontiguousarray(picture)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(
            f"picture is {picture.dtype} of shape {picture.shape}: give uint8 (H, W, 3), RGB"
        )
    return picture


def thin_dark_lines(picture: np.ndarray) -> np.ndarray:
    """Find hairs and ruler marks: thin, long, darker than what lies beside them.

    Parameters
    ----------
    picture
        uint8 (H, W, 3), RGB.

    Returns
    -------
    numpy.ndarray
        bool (H, W).
    """
    grey = cv2.cvtColor(_check(picture), cv2.COLOR_RGB2GRAY)
    side = min(grey.shape)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_odd(side / 20),) * 2)
    depth = cv2.morphologyEx(grey, cv2.MORPH_BLACKHAT, kernel)
    found = (depth > _STEP).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(found, connectivity=8)
    longest = np.hypot(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT])
    thickness = stats[:, cv2.CC_STAT_AREA] / np.maximum(longest, 1)
    kept = (longest > side / 8) & (thickness < side / 25)
    kept[0] = False
    return kept[labels] if count > 1 else np.zeros(grey.shape, bool)


def dark_corners(picture: np.ndarray) -> np.ndarray:
    """Find the black surround of a round field: dark pieces that touch a corner.

    Parameters
    ----------
    picture
        uint8 (H, W, 3), RGB.

    Returns
    -------
    numpy.ndarray
        bool (H, W).
    """
    brightest = _check(picture).max(axis=2)
    dark = (cv2.medianBlur(brightest, 5) < _DARK * 255).astype(np.uint8)
    _, labels = cv2.connectedComponents(dark, connectivity=8)
    corners = set(labels[[0, 0, -1, -1], [0, -1, 0, -1]].tolist()) - {0}
    return np.isin(labels, list(corners))


def lesion_estimate(picture: np.ndarray) -> np.ndarray:
    """Guess where the lesion is: unlike the skin around it, in one piece, not far from the middle.

    Parameters
    ----------
    picture
        uint8 (H, W, 3), RGB.

    Returns
    -------
    numpy.ndarray
        bool (H, W); all False where no piece has between one and ninety percent of the picture.
    """
    picture = _check(picture)
    height, width = picture.shape[:2]
    side = min(height, width)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_odd(side / 20),) * 2)
    closed = cv2.morphologyEx(picture, cv2.MORPH_CLOSE, kernel)  # hairs are gone
    smooth = cv2.GaussianBlur(closed, (0, 0), side / 60)
    colours = cv2.cvtColor(smooth, cv2.COLOR_RGB2LAB).astype(np.float32)
    surround = dark_corners(picture)
    frame = np.ones((height, width), bool)
    edge = max(1, side // 10)
    frame[edge:-edge, edge:-edge] = False
    frame &= ~surround
    empty = np.zeros((height, width), bool)
    if frame.sum() < side:
        return empty
    skin = np.median(colours[frame], axis=0)
    distance = np.linalg.norm(colours - skin, axis=2)
    distance[surround] = 0
    scaled = np.uint8(255 * distance / max(distance.max(), 1e-6))
    level, _ = cv2.threshold(scaled[~surround].reshape(1, -1), 0, 255, cv2.THRESH_OTSU)
    found = ((scaled > level) & ~surround).astype(np.uint8)
    found = cv2.morphologyEx(found, cv2.MORPH_OPEN, kernel)
    _, labels, stats, centres = cv2.connectedComponentsWithStats(found, connectivity=8)
    off = np.hypot(centres[:, 0] / width - 0.5, centres[:, 1] / height - 0.5)
    merit = stats[:, cv2.CC_STAT_AREA] * np.exp(-np.square(off / 0.25))
    merit[0] = 0
    if merit.max() <= 0:
        return empty
    piece = (labels == merit.argmax()).astype(np.uint8)
    outlines, _ = cv2.findContours(piece, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros_like(piece), outlines, -1, 1, cv2.FILLED).astype(bool)
    return filled if 0.01 <= filled.mean() <= 0.9 else empty

import cv2
import numpy as np
import pytest

from jiadf import regions


def skin(size=160):
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 2, (size, size, 1))
    return np.clip(np.array([220, 180, 160]) + noise, 0, 255).astype(np.uint8)


def test_a_spot_is_found_through_hairs():
    picture, truth = skin(), np.zeros((160, 160), np.uint8)
    cv2.circle(picture, (85, 75), 30, (120, 70, 50), -1)
    cv2.circle(truth, (85, 75), 30, 1, -1)
    for x in (20, 70, 110):
        cv2.line(picture, (x, 5), (x + 30, 150), (40, 30, 25), 2)
    found = regions.lesion_estimate(picture)
    overlap = (found & (truth > 0)).sum() / (found | (truth > 0)).sum()
    assert overlap > 0.8


def test_of_two_spots_the_central_one_is_kept():
    picture = skin()
    cv2.circle(picture, (80, 80), 20, (120, 70, 50), -1)
    cv2.circle(picture, (150, 10), 20, (120, 70, 50), -1)
    found = regions.lesion_estimate(picture)
    assert found[80, 80]
    assert not found[5, 150]


def test_nothing_to_find():
    flat = np.full((64, 64, 3), 200, np.uint8)
    for detect in (regions.lesion_estimate, regions.thin_dark_lines, regions.dark_corners):
        assert not detect(flat).any()
    assert not regions.lesion_estimate(flat * 0).any()


def test_hairs_are_lines_and_spots_are_not():
    picture = skin()
    cv2.line(picture, (10, 20), (150, 60), (40, 30, 25), 2)
    cv2.circle(picture, (80, 110), 25, (60, 40, 35), -1)
    found = regions.thin_dark_lines(picture)
    assert found[40, 80]
    assert not found[110, 80]
    assert 0.005 < found.mean() < 0.06


def test_dark_corners_are_the_surround_and_no_dark_lesion():
    picture = skin()
    y, x = np.mgrid[:160, :160] - 79.5
    picture[np.hypot(x, y) > 90] = 8
    cv2.circle(picture, (80, 80), 20, (20, 15, 12), -1)
    found = regions.dark_corners(picture)
    assert found[0, 0]
    assert found[159, 159]
    assert not found[80, 80]
    share = (np.hypot(x, y) > 90).mean()
    assert abs(found.mean() - share) < 0.02
    estimate = regions.lesion_estimate(picture)
    assert estimate[80, 80]
    assert not estimate[0, 0]


def test_other_arrays_are_refused():
    with pytest.raises(ValueError, match="give uint8"):
        regions.dark_corners(np.zeros((8, 8, 3)))

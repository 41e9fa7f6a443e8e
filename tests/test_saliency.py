import numpy as np
import pytest
from scipy.stats import spearmanr

from jiadf import saliency as s


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_energy_is_the_area_for_an_even_map_and_one_inside():
    masks = np.zeros((3, 8, 8), bool)
    masks[:2, :4, :4] = True
    maps = np.stack([np.ones((8, 8)), masks[1] * 0.3, np.ones((8, 8))])
    energy = s.energy_inside(maps, masks)
    np.testing.assert_allclose(energy[:2], [0.25, 1])
    assert np.isnan(energy[2])  # no mask
    assert np.isnan(s.energy_inside(np.zeros((3, 8, 8)), masks)).all()  # no evidence


def test_pointing_counts_the_highest_cell_and_shares_ties():
    masks = np.zeros((1, 8, 8), bool)
    masks[0, 0, 0] = True
    maps = np.zeros((1, 2, 2))
    maps[0, 0, 0] = 1
    assert s.pointing_game(maps, masks) == 1
    assert s.pointing_game(maps[:, ::-1], masks) == 0
    assert s.pointing_game(np.ones((2, 2)), masks) == 0.25
    assert np.isnan(s.pointing_game(0 * maps, masks))
    assert np.isnan(s.pointing_game(maps, masks & False))


def test_cells_that_do_not_divide_the_picture_cover_it(rng):
    masks = rng.random((2, 10, 10)) < 0.3
    ideal = s.ideal_map(masks, (3, 3))
    assert ideal.shape == (2, 3, 3)
    np.testing.assert_allclose(ideal[:, 0, 0], masks[:, :3, :3].mean((1, 2)))
    np.testing.assert_allclose(ideal[:, 2, 2], masks[:, 6:, 6:].mean((1, 2)))
    assert (s.touched_cells(masks, (3, 3)) == (ideal > 0)).all()


def test_the_gaussian_is_symmetric_and_highest_in_the_middle():
    blob = s.centred_gaussian(7)
    assert blob.argmax() == 24
    np.testing.assert_allclose(blob, blob.T)
    np.testing.assert_allclose(blob, blob[::-1])


def test_rank_correlation_is_scipys_and_blind_to_scale(rng):
    first, second = rng.random((2, 5, 4, 4)).round(1)  # with ties
    ours = s.rank_correlation(first, second)
    theirs = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(ours, theirs)
    np.testing.assert_allclose(s.rank_correlation(first, first**3 * 9), 1)
    assert np.isnan(s.rank_correlation(first, np.ones_like(first))).all()


def test_ssim_is_one_for_the_same_and_less_for_others(rng):
    first, second = rng.random((2, 5, 4, 4))
    np.testing.assert_allclose(s.structural_similarity(first, first), 1, atol=1e-5)
    assert (s.structural_similarity(first, second) < 0.9).all()
    assert np.isnan(s.structural_similarity(first, 0 * first)).all()


@pytest.mark.parametrize("order", s.ORDERS)
def test_orders_are_permutations(order, rng):
    ranks = s.cut_order(rng.random((3, 4, 4)), order, rng)
    assert (np.sort(ranks.reshape(3, -1)) == np.arange(16)).all()


def test_orders_put_the_right_cells_first(rng):
    maps = rng.random((3, 5, 5))
    assert (
        s.cut_order(maps, "map", rng).reshape(3, -1).argmin(1) == maps.reshape(3, -1).argmax(1)
    ).all()
    assert (s.cut_order(maps, "centre", rng)[:, 2, 2] == 0).all()
    ties = s.cut_order(np.zeros((500, 2, 2)), "map", rng)
    assert 75 < (ties[:, 0, 0] == 0).sum() < 175  # broken by chance
    with pytest.raises(ValueError, match="order is 'left'"):
        s.cut_order(maps, "left", rng)


@pytest.mark.parametrize("mode", s.MODES)
def test_cutting_starts_and_ends_where_it_must(mode, rng):
    pictures = rng.integers(0, 256, (2, 12, 12, 3), dtype=np.uint8)
    ranks = s.cut_order(rng.random((2, 3, 3)), "map", rng)
    whole, none = (0, 1) if mode == "deletion" else (1, 0)
    assert (s.cut_pictures(pictures, ranks, whole, mode) == pictures).all()
    gone = s.cut_pictures(pictures, ranks, none, mode)
    assert gone.std((1, 2)).max() < pictures.std((1, 2)).min() / 2
    part = s.cut_pictures(pictures, ranks, 1 / 9, mode)
    changed = (part != pictures).any(-1).reshape(2, 3, 4, 3, 4).mean((2, 4))
    first = changed[ranks == 0]
    assert (first > 0.9).all() if mode == "deletion" else (first == 0).all()


def test_unknown_mode_is_refused(rng):
    with pytest.raises(ValueError, match="mode is 'blur'"):
        s.cut_pictures(np.zeros((1, 4, 4, 3), np.uint8), np.zeros((1, 2, 2), int), 0.5, "blur")


def test_area_under_a_line():
    assert s.area_under(np.array([0, 0.5, 1]), np.array([[1, 0.5, 0], [1, 1, 1]])).tolist() == [
        0.5,
        1,
    ]

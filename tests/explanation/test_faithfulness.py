"""Cells go in the map's order, and random weights reach just as far as they should."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from jiadf.explanation.faithfulness import (
    MODES,
    STAGES,
    cell_ranks,
    perturb_cells,
    randomised,
    rank_correlation,
)


def test_ranks_are_permutations_with_the_highest_cell_first(rng):
    maps = rng.random((3, 5, 5))
    ranks = cell_ranks(maps, rng).reshape(3, -1)
    assert (np.sort(ranks) == np.arange(25)).all()
    assert (ranks.argsort(1) == (-maps.reshape(3, -1)).argsort(1)).all()


def test_ties_are_broken_by_chance(rng):
    first = cell_ranks(np.zeros((500, 2, 2)), rng)[:, 0, 0] == 0
    assert 75 < first.sum() < 175


@pytest.mark.parametrize("mode", MODES)
def test_perturbation_starts_and_ends_where_it_must(mode, rng):
    images = rng.integers(0, 256, (2, 12, 12, 3), dtype=np.uint8)
    ranks = cell_ranks(rng.random((2, 3, 3)), rng)
    whole, none = (0, 1) if mode == "deletion" else (1, 0)
    assert (perturb_cells(images, ranks, whole, mode) == images).all()
    gone = perturb_cells(images, ranks, none, mode)
    assert gone.std((1, 2)).max() < images.std((1, 2)).min() / 2
    part = perturb_cells(images, ranks, 1 / 9, mode)
    changed = (part != images).any(-1).reshape(2, 3, 4, 3, 4).mean((2, 4))
    first = changed[ranks == 0]
    assert (first > 0.9).all() if mode == "deletion" else (first == 0).all()


def test_rank_correlation_is_scipys_and_blind_to_scale(rng):
    first, second = rng.random((2, 5, 4, 4)).round(1)  # with ties
    theirs = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(rank_correlation(first, second), theirs)
    np.testing.assert_allclose(rank_correlation(first, first**3 * 9), 1)
    assert np.isnan(rank_correlation(first, np.ones_like(first))).all()


def test_each_stage_changes_more_weights_and_the_last_all(packaged):
    before = {name: value.clone() for name, value in packaged.network.state_dict().items()}
    changed = set()
    for stage in STAGES:
        after = randomised(packaged.network, stage, seed=1).state_dict()
        now = {name for name in before if not torch.equal(before[name], after[name])}
        assert changed < now
        assert stage == "backbone" or not any(name.startswith("backbones.") for name in now)
        changed = now
    kept = [name for name in before.keys() - changed if "num_batches" not in name]
    assert not kept
    assert all(torch.equal(before[n], v) for n, v in packaged.network.state_dict().items())


def test_random_weights_are_seeded_and_leave_torch_alone(packaged):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    copies = (randomised(packaged.network, "heads", seed) for seed in (1, 1, 2))
    one, same, other = (copied.network.heads["joint"].weight for copied in copies)
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_design_without_gate_has_less_to_randomise(untrained):
    case = untrained(modalities="D")
    copied = randomised(case.network, "fusion")
    assert not torch.equal(
        copied.network.heads["joint"].weight, case.network.network.heads["joint"].weight
    )


def test_unknown_names_are_refused(packaged, rng):
    with pytest.raises(ValueError, match="mode is 'blur'"):
        perturb_cells(np.zeros((1, 4, 4, 3), np.uint8), np.zeros((1, 2, 2), int), 0.5, "blur")
    with pytest.raises(ValueError, match="stage is 'head'"):
        randomised(packaged.network, "head")

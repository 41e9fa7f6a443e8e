"""Whole-batch augmentation, against torchvision's one-at-a-time transform."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from jiadf.data.augmentation import (
    Draws,
    apply,
    augment_batch,
    augment_with_seed,
    augmentation,
    draw,
)

SIZE, MANY = 48, 4000
IMAGE = torch.arange(3 * 40 * 40, dtype=torch.int64).reshape(3, 40, 40).to(torch.uint8)
JITTERS = ("brightness", "contrast", "saturation")


def pictures(count, size=SIZE):
    """Smooth colour pictures with little at 0 or 255, so that rounding stays small."""
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(3))
    smooth = functional.resize(coarse, [size, size], antialias=True)
    return (40 + 170 * smooth).round().to(torch.uint8)


def one_by_one(image, draws, number):
    """Do with torchvision what was drawn for one image."""
    one = Draws(*(values[number] for values in draws))
    box = [int(v) for v in (one.top, one.left, one.height, one.width)]
    image = functional.resized_crop(image, *box, [SIZE, SIZE], antialias=True)
    image = functional.horizontal_flip(image) if one.flip else image
    image = image.rot90(int(one.turns), dims=(-2, -1))
    changes = (
        functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation
    )  # fmt: skip
    for change in one.order.tolist():
        image = changes[change](image, float(one.factors[change]))
    return image


def test_each_image_is_what_torchvision_makes_of_its_draws():
    images = pictures(96)
    torch.manual_seed(0)
    draws = draw(len(images), SIZE)
    assert {(bool(f), int(t)) for f, t in zip(draws.flip, draws.turns, strict=True)} == {
        (flip, turns) for flip in (False, True) for turns in range(4)
    }
    together = apply(images, draws)
    assert together.dtype == torch.uint8
    assert together.shape == images.shape
    for number, image in enumerate(images):
        # In floating point: torchvision cuts fractions of uint8 off after each of four steps.
        expected = 255 * one_by_one(image / 255, draws, number)
        assert (together[number] - expected).abs().max() < 0.51, number


def torchvision_draws(count):
    """What the existing transform draws, by name."""
    crop, flip, turn, jitter = augmentation(SIZE).transforms
    image = [torch.zeros(3, SIZE, SIZE, dtype=torch.uint8)]
    drawn = {name: [] for name in ("area", "ratio", "top", "turns", "order", *JITTERS)}
    for _ in range(count):
        box, colour = crop.make_params(image), jitter.make_params(image)
        drawn["area"].append(box["height"] * box["width"])
        drawn["ratio"].append(box["width"] / box["height"])
        drawn["top"].append(box["top"])
        drawn["turns"].append(turn.make_params(image)["turns"])
        drawn["order"].append(tuple(i for i in colour["fn_idx"].tolist() if i < 3))
        for name in JITTERS:
            drawn[name].append(colour[f"{name}_factor"])
    assert flip.p == 0.5
    return drawn


def test_draws_have_the_distribution_of_the_existing_transform():
    torch.manual_seed(1)
    old, new = torchvision_draws(MANY), draw(MANY, SIZE)
    height, width = new.height.double().numpy(), new.width.double().numpy()
    ours = {"area": height * width, "ratio": width / height, "top": new.top.numpy()}
    ours |= {name: new.factors[:, i].numpy() for i, name in enumerate(JITTERS)}
    for name, values in ours.items():
        assert ks_2samp(values, old[name]).pvalue > 1e-3, name
        spread = 4 * np.std(old[name]) * math.sqrt(2 / MANY)
        assert np.mean(values) == pytest.approx(np.mean(old[name]), abs=spread), name
    assert new.flip.float().mean() == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(MANY))
    turns = torch.bincount(new.turns, minlength=4) / MANY
    np.testing.assert_allclose(turns, np.bincount(old["turns"]) / MANY, atol=0.04)
    for order in set(old["order"]):
        share = np.mean([o == order for o in old["order"]])
        mine = np.mean([tuple(o) == order for o in new.order.tolist()])
        assert mine == pytest.approx(1 / 6, abs=0.03)
        assert share == pytest.approx(1 / 6, abs=0.03)


def test_images_of_a_batch_are_drawn_each_for_itself_and_a_seed_fixes_them():
    images = pictures(1).expand(16, -1, -1, -1)
    torch.manual_seed(4)
    first = augment_batch(images)
    assert len({tuple(image.flatten().tolist()) for image in first}) == 16
    assert not torch.equal(first, augment_batch(images))
    torch.manual_seed(4)
    assert torch.equal(first, augment_batch(images))


def test_the_feature_views_transform_is_unchanged():
    """Its text is part of the cache's keys."""
    assert repr(augmentation(224)).count("scale=(0.7, 1.0), ratio=(0.9, 1.1)") == 1
    jitter = augmentation(224).transforms[3]
    assert isinstance(jitter, v2.ColorJitter)
    assert jitter.brightness == jitter.contrast == jitter.saturation == (0.8, 1.2)


def test_a_seed_fixes_the_picture_and_leaves_the_random_state_alone():
    transform = augmentation(32)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = augment_with_seed(IMAGE, transform, 1)
    torch.testing.assert_close(torch.rand(3), expected)
    assert first.shape == (3, 32, 32)
    assert first.dtype == torch.uint8
    assert torch.equal(first, augment_with_seed(IMAGE, transform, 1))
    assert not torch.equal(first, augment_with_seed(IMAGE, transform, 2))


def test_all_quarter_turns_occur():
    turn = augmentation(32).transforms[2]
    torch.manual_seed(0)
    seen = {tuple(turn(IMAGE).flatten()[:50].tolist()) for _ in range(60)}
    assert seen == {tuple(IMAGE.rot90(k, (-2, -1)).flatten()[:50].tolist()) for k in range(4)}

from dataclasses import replace

import numpy as np
import torch

from jiadf.data.batches import Inputs, LesionDataset, augmented, one_batch

RNG = np.random.default_rng(0)
FEATURES = Inputs(
    {"clinical": RNG.normal(size=(10, 3, 5)).astype(np.float32)},
    RNG.normal(size=(10, 4)).astype(np.float32),
    np.arange(10) % 11,
)
PIXELS = Inputs(
    {"dermoscopic": RNG.integers(0, 255, (10, 16, 16, 3), dtype=np.uint8)},
    FEATURES.metadata,
    np.full(10, -1),
)


def test_rows_of_a_part_come_in_order():
    batch = LesionDataset(FEATURES, [7, 2, 5]).__getitems__([0, 2])
    assert batch["index"].tolist() == [7, 5]
    assert batch["target"].tolist() == [7, 5]
    np.testing.assert_array_equal(batch["metadata"], FEATURES.metadata[[7, 5]])
    np.testing.assert_array_equal(batch["clinical"], FEATURES.streams["clinical"][[7, 5], 0])


def test_random_views_are_views_of_the_same_lesion():
    data = LesionDataset(FEATURES, np.arange(10), random_view=True)
    torch.manual_seed(0)
    seen = [data.__getitems__([4])["clinical"][0].numpy() for _ in range(40)]
    for view in FEATURES.streams["clinical"][4]:
        assert any(np.array_equal(view, drawn) for drawn in seen)
    for drawn in seen:
        assert any(np.array_equal(view, drawn) for view in FEATURES.streams["clinical"][4])


def test_pixels_come_channels_first():
    plain = one_batch(PIXELS, [3])["dermoscopic"]
    np.testing.assert_array_equal(plain[0].permute(1, 2, 0), PIXELS.streams["dermoscopic"][3])


def test_pixels_are_augmented_and_nothing_else():
    batch = one_batch(PIXELS, [3, 3])
    torch.manual_seed(0)
    changed = augmented(batch)
    assert changed["dermoscopic"].shape == (2, 3, 16, 16)
    assert changed["dermoscopic"].dtype == torch.uint8
    assert not torch.equal(changed["dermoscopic"][0], changed["dermoscopic"][1])
    for name in ("metadata", "target", "index"):
        assert torch.equal(changed[name], batch[name])
    features = one_batch(FEATURES, [3])
    assert torch.equal(augmented(features)["clinical"], features["clinical"])


def test_what_is_missing_is_told_by_lesion():
    missing = {"clinical": np.arange(10) % 2 == 0}
    batch = one_batch(replace(FEATURES, missing=missing), [7, 2])
    assert batch["clinical_missing"].tolist() == [False, True]
    assert "clinical_missing" not in one_batch(FEATURES, [1])

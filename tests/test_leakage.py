import numpy as np
import pytest
from PIL import Image

from jiadf.leakage import (
    GREY,
    border_images,
    border_only,
    duplicates_of_lesions,
    hamming,
    near_duplicates,
    picture_hashes,
)

RNG = np.random.default_rng(0)


def test_hamming_counts_bits():
    a, b = RNG.random((5, 64)) < 0.5, RNG.random((4, 64)) < 0.5
    expected = (a[:, None] != b[None]).sum(-1)
    np.testing.assert_array_equal(hamming(a, b), expected)


def test_pairs_are_counted_once_by_fold_and_label():
    base = RNG.random(64) < 0.5
    hashes = np.stack([base, base, base, ~base, RNG.random(64) < 0.5])
    hashes[2, :3] ^= True  # three bits off
    second = hashes.copy()
    second[2, :40] ^= True  # the other hash does not confirm it
    found = near_duplicates(hashes, second, [0, 1, 1, 0, 0], list("aabba"), 4)
    found = found.set_index("distance")
    assert found.loc[0].tolist() == [1, 1, 1, 1]
    assert found.loc[3].tolist() == [2, 1, 0, 0]
    assert found.loc[[1, 2, 4]].to_numpy().sum() == 0


def test_a_copy_is_found_and_another_picture_is_not(tmp_path):
    def picture(seed):
        coarse = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize((160, 120))

    for name, image, quality in (
        ("a", picture(1), 95),
        ("b", picture(1), 60),
        ("c", picture(2), 95),
    ):
        image.save(tmp_path / f"{name}.jpg", quality=quality)
    paths = [tmp_path / f"{name}.jpg" for name in "abc"]
    for kind in ("phash", "dhash"):
        bits = picture_hashes(paths, kind)
        assert bits.shape == (3, 64)
        distance = hamming(bits, bits)
        assert distance[0, 1] <= 4
        assert distance[0, 2] > 10
    with pytest.raises(ValueError, match="hash 'md5' is unknown"):
        picture_hashes(paths, "md5")


def test_a_lesion_in_the_table_twice_is_told(lesions, cache_dir):
    twice = lesions.copy()
    twice.iloc[5, twice.columns.get_loc("dermoscopic_path")] = lesions["dermoscopic_path"].iloc[0]
    folds = np.arange(len(lesions)) % 3
    before, after = (duplicates_of_lesions(table, folds, 4) for table in (lesions, twice))
    counts = [
        table[(table["images"] == "dermoscopic") & (table["distance"] == 0)]["confirmed"].sum()
        for table in (before, after)
    ]
    assert counts[1] == counts[0] + 1
    assert set(before["images"]) == {"clinical", "dermoscopic", "clinical to dermoscopic"}


def test_the_centre_is_painted_and_the_frame_stays(lesions, cache_dir):
    pixels = RNG.integers(0, 255, (2, 20, 20, 3), dtype=np.uint8)
    painted = border_only(pixels, 0.1)
    assert (painted[:, 2:18, 2:18] == GREY).all()
    inside = np.zeros((20, 20), bool)
    inside[2:18, 2:18] = True
    np.testing.assert_array_equal(painted[:, ~inside], pixels[:, ~inside])
    with pytest.raises(ValueError, match=r"border is 0\.5"):
        border_only(pixels, 0.5)
    framed = border_images(lesions["clinical_path"][:4], 32, cache_dir)
    wider = border_images(lesions["clinical_path"][:4], 32, cache_dir, border=0.2)
    assert framed.key != wider.key

import numpy as np
import pandas as pd
import pytest

from jiadf.data.masks import lesion_masks
from jiadf.data.read import read_lesions
from jiadf.data.synth import MASKS, synthesise


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masks") / "set"
    synthesise(folder, lesions=6, seed=4, image_size=(96, 72), masks=True)
    return synthesise(folder, lesions=4, seed=7, image_size=(80, 64), part="test", masks=True)


@pytest.mark.parametrize("part", ["training", "test"])
def test_masks_are_those_that_were_drawn(folder, part):
    from PIL import Image

    lesions = read_lesions(folder, part).iloc[::-2]
    masks = lesion_masks(folder, lesions, 48)
    for view, found in masks.items():
        assert found.shape == (len(lesions), 48, 48)
        assert found.dtype == bool
        for name, mask in zip(lesions[f"{view}_isic_id"], found, strict=True):
            drawn = Image.open(folder / MASKS / f"{name}.png").resize((48, 48), 2)
            assert ((np.asarray(drawn) > 127) == mask).all()
            assert mask.any()
            assert not mask.all()


def test_an_index_will_do_and_no_lesion_too(folder):
    lesions = read_lesions(folder, "training")
    table, index = (lesion_masks(folder, given, 32) for given in (lesions, lesions.index))
    assert (table["clinical"] == index["clinical"]).all()
    assert lesion_masks(folder, lesions.index[:0], 32)["clinical"].shape == (0, 32, 32)


def test_errors_name_the_folder_or_the_lesion(folder, tmp_path):
    with pytest.raises(ValueError, match=r"no SYNTHETIC\.txt.*lesion_estimate"):
        lesion_masks(tmp_path, pd.Index(["IL_1"]), 32)
    with pytest.raises(ValueError, match="has no lesion IL_1"):
        lesion_masks(folder, pd.Index(["IL_1"]), 32)

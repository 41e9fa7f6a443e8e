import numpy as np
import pandas as pd
import pytest
from PIL import Image

from jiadf.data import DataError, read_lesions
from jiadf.data import faults as kinds
from jiadf.data.schema import MONET


def test_one_row_a_lesion_in_the_order_of_the_metadata(milk):
    lesions = read_lesions(milk.write())
    assert lesions.index.name == "lesion_id"
    assert list(lesions.index) == [row["lesion_id"] for row in milk.metadata[::2]]
    assert list(lesions.columns[:5]) == [
        "age_approx",
        "sex",
        "skin_tone_class",
        "site",
        "label",
    ]
    assert len(lesions.columns) == 5 + 2 * (3 + len(MONET))


def test_values_are_those_of_the_tables(milk):
    milk.metadata[6]["image_manipulation"] = "altered"
    milk.metadata[7][MONET[2]] = "0.875"
    lesions = read_lesions(milk.write())
    assert list(lesions["label"]) == ["AKIEC", "BCC", "BEN_OTH", "BKL", "DF", "INF"]
    assert np.isnan(lesions["age_approx"].iloc[1])
    assert lesions["age_approx"].iloc[3] == 45.0
    assert lesions["age_approx"].dtype == np.float64
    assert pd.isna(lesions["site"].iloc[2])
    assert lesions["site"].iloc[3] == "upper_extremity"
    assert list(lesions["skin_tone_class"]) == [0, 1, 2, 3, 4, 5]
    assert pd.api.types.is_integer_dtype(lesions["skin_tone_class"])
    row = lesions.iloc[3]
    assert (row["clinical_isic_id"], row["dermoscopic_isic_id"]) == ("ISIC_0000003", "ISIC_0000103")
    assert row["clinical_image_manipulation"] == "altered"
    assert row["dermoscopic_image_manipulation"] == "instrument only"
    assert row[f"clinical_{MONET[2]}"] == 0.375
    assert row[f"dermoscopic_{MONET[2]}"] == 0.875


def test_paths_are_absolute_and_lead_to_the_images(milk, monkeypatch):
    milk.write()
    monkeypatch.chdir(milk.root.parent)
    lesions = read_lesions("milk")
    for kind in ("clinical", "dermoscopic"):
        for image, path in zip(lesions[f"{kind}_isic_id"], lesions[f"{kind}_path"], strict=True):
            assert path.startswith(str(milk.root))
            assert path.endswith(f"{image}.jpg")
            with Image.open(path) as picture:
                assert picture.size == (32, 24)


def test_order_of_the_rows_does_not_matter(milk):
    expected = read_lesions(milk.write())
    milk.metadata.reverse()
    milk.truth.reverse()
    milk.write_tables()
    shuffled = read_lesions(milk.root)
    assert list(shuffled.index) == list(expected.index[::-1])
    pd.testing.assert_frame_equal(shuffled.loc[expected.index], expected)


def test_test_part_has_no_label(milk_test_part):
    lesions = read_lesions(milk_test_part.write())
    assert "label" not in lesions
    assert len(lesions) == 6
    assert "MILK10k_Test_Input" in lesions["clinical_path"].iloc[0]


def test_data_error_lists_all_faults(milk):
    milk.truth[0]["MEL"] = "1"
    milk.metadata[3]["sex"] = "x"
    milk.write()
    milk.image(5).unlink()
    with pytest.raises(DataError) as caught:
        read_lesions(milk.root)
    found = [fault.kind for fault in caught.value.faults]
    assert {kinds.NOT_ONE_HOT, kinds.UNKNOWN_CATEGORY, kinds.MISSING_IMAGE} <= set(found)
    assert "MILK10k_Training_GroundTruth.csv, row 2" in str(caught.value)


def test_image_files_may_be_left_out(milk):
    milk.write_tables()
    with pytest.raises(DataError, match="no such folder of images"):
        read_lesions(milk.root)
    assert len(read_lesions(milk.root, image_files=False)) == 6


def test_supplement_is_not_asked_for_but_checked(milk):
    milk.write()
    milk.layout.supplement_csv.unlink()
    assert len(read_lesions(milk.root)) == 6
    milk.layout.supplement_csv.write_text("isic_id\nISIC_1\n")
    with pytest.raises(DataError):
        read_lesions(milk.root)

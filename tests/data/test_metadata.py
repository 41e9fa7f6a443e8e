import numpy as np
import pytest

from jiadf.data.metadata import MetadataEncoder
from jiadf.data.schema import SITES


@pytest.fixture
def encoder(lesions):
    return MetadataEncoder.fit(lesions)


def test_numbers_are_standardised_over_the_training_lesions(lesions, encoder):
    table = encoder.transform(lesions)
    age = table[lesions["age_approx"].notna(), 0]
    np.testing.assert_allclose([age.mean(), age.std()], [0, 1], atol=1e-5)
    monet = [i for i, name in enumerate(encoder.columns) if "MONET" in name]
    assert len(monet) == 14
    np.testing.assert_allclose(table[:, monet].mean(0), 0, atol=1e-5)


def test_nothing_is_learned_from_other_lesions(lesions, encoder):
    part = lesions.iloc[:50]
    assert MetadataEncoder.fit(part).mean != encoder.mean
    np.testing.assert_array_equal(
        MetadataEncoder.fit(part).transform(lesions)[:50], MetadataEncoder.fit(part).transform(part)
    )


def test_missing_and_unseen_values(lesions, encoder):
    changed = lesions.iloc[:3].copy()
    changed["age_approx"] = [np.nan, 50.0, 50.0]
    changed["site"] = [np.nan, "elbow", "trunk"]
    changed["clinical_MONET_hair"] = [np.nan, 0.5, 0.5]
    table = encoder.transform(changed)
    columns = {name: i for i, name in enumerate(encoder.columns)}
    sites = [columns[f"site={site}"] for site in SITES]
    assert table[:, columns["age_missing"]].tolist() == [1, 0, 0]
    assert table[0, columns["age"]] == 0
    assert table[0, columns["clinical_MONET_hair"]] == 0 != table[1, columns["clinical_MONET_hair"]]
    assert table[:, columns["site_missing"]].tolist() == [1, 0, 0]
    assert table[:, sites].sum(1).tolist() == [0, 0, 1]
    assert np.isfinite(table).all()


def test_monet_can_be_left_out(lesions, encoder):
    without = MetadataEncoder.fit(lesions, use_monet=False)
    assert without.columns == encoder.columns[: len(without.columns)]
    np.testing.assert_array_equal(
        without.transform(lesions), encoder.transform(lesions)[:, : len(without.columns)]
    )


def test_json_holds_the_whole_encoder(lesions, encoder):
    again = MetadataEncoder.from_json(encoder.to_json())
    assert again == encoder
    np.testing.assert_array_equal(again.transform(lesions), encoder.transform(lesions))


def test_a_file_with_other_columns_is_refused(encoder):
    text = encoder.to_json().replace("sex=female", "sex=f")
    with pytest.raises(ValueError, match=r"run/encoder\.json: its columns differ"):
        MetadataEncoder.from_json(text, "run/encoder.json")


def test_no_age_at_all_is_refused(lesions):
    with pytest.raises(ValueError, match="no training lesion has an age"):
        MetadataEncoder.fit(lesions.assign(age_approx=np.nan))

import pandas as pd
import pandera.errors
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiadf.data import schema


def frame(rows):
    table = pd.DataFrame(rows).replace("", None)
    numeric = ["age_approx", "skin_tone_class", *schema.MONET, *schema.CLASSES]
    return table.astype({name: float for name in numeric if name in table})


def test_classes_are_in_submission_order():
    order = ["AKIEC", "BCC", "BEN_OTH", "BKL", "DF", "INF", "MAL_OTH", "MEL", "NV", "SCCKA", "VASC"]
    assert list(schema.CLASSES) == order == sorted(order)
    assert set(schema.MALIGNANT) < set(schema.CLASSES)
    for counts in (schema.PAPER_TABLE4, schema.PAPER_FULL_COUNTS):
        assert tuple(counts) == schema.CLASSES


def test_paper_counts_are_four_fifths_of_the_whole():
    assert sum(schema.PAPER_FULL_COUNTS.values()) == 5240
    assert sum(schema.PAPER_TABLE4.values()) == 4192
    for code, full in schema.PAPER_FULL_COUNTS.items():
        assert abs(schema.PAPER_TABLE4[code] - 0.8 * full) < 1


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("lesion_id", "../x"),
        ("image_type", "dermoscopy"),
        ("image_manipulation", "none"),
        ("age_approx", 121.0),
        ("age_approx", -1.0),
        ("sex", "other"),
        ("sex", None),
        ("skin_tone_class", 6.0),
        ("skin_tone_class", 2.5),
        ("site", "elbow"),
        (schema.MONET[0], 1.01),
        (schema.MONET[6], None),
    ],
)
def test_metadata_schema_refuses(milk, column, value):
    table = frame(milk.metadata)
    table.loc[3, column] = value
    with pytest.raises(pandera.errors.SchemaErrors) as caught:
        schema.metadata_schema.validate(table, lazy=True)
    cases = caught.value.failure_cases
    assert list(cases["column"]) == [column]
    assert list(cases["index"]) == [3]


@given(st.text(max_size=12))
def test_safe_ids_are_one_plain_path_component(identifier):
    safe = schema.is_safe_id(identifier)
    plain = bool(identifier) and all(
        letter.isascii() and (letter.isalnum() or letter in "_-") for letter in identifier
    )
    assert safe == plain


@pytest.mark.parametrize(
    "identifier", ["", "..", ".", "a/b", "a\\b", "/etc", "C:x", "a\n", "a\x00", "x" * 101]
)
def test_unsafe_ids(identifier):
    assert not schema.is_safe_id(identifier)

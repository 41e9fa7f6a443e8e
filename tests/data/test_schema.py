from hypothesis import given
from hypothesis import strategies as st

from jiadf.data import schema


def test_classes_are_in_submission_order():
    order = ["AKIEC", "BCC", "BEN_OTH", "BKL", "DF", "INF", "MAL_OTH", "MEL", "NV", "SCCKA", "VASC"]
    assert list(schema.CLASSES) == order == sorted(order)
    assert set(schema.MALIGNANT) < set(schema.CLASSES)
    for counts in (schema.PAPER_TABLE4, schema.PAPER_FULL_COUNTS):
        assert tuple(counts) == schema.CLASSES


@given(st.text(max_size=12))
def test_safe_ids_are_one_plain_path_component(identifier):
    safe = schema.is_safe_id(identifier)
    plain = bool(identifier) and all(
        letter.isascii() and (letter.isalnum() or letter in "_-") for letter in identifier
    )
    assert safe == plain
    assert not schema.is_safe_id(f"a{identifier}\n")
    assert not schema.is_safe_id("x" * 101)

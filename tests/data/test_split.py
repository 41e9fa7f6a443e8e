import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jiadf.data.schema import CLASSES, PAPER_FULL_COUNTS, PAPER_TABLE4
from jiadf.data.split import assign_folds, split_lesions


def labels_with(counts, seed=0):
    codes = np.repeat(list(counts), list(counts.values()))
    codes = np.random.default_rng(seed).permutation(codes)
    return pd.Series(codes, index=[f"IL_{i:07d}" for i in range(len(codes))])


@pytest.mark.parametrize("seed", [0, 1, 2024])
def test_the_papers_split_of_all_lesions_gives_its_table_4(seed):
    labels = labels_with(PAPER_FULL_COUNTS)
    assert len(labels) == 5240
    train = labels[split_lesions(labels, seed=seed) == "train"]
    assert train.value_counts().to_dict() == PAPER_TABLE4


def test_seed_changes_the_lesions_and_not_the_counts():
    labels = labels_with(PAPER_FULL_COUNTS)
    first, second = (split_lesions(labels, seed=seed) for seed in (0, 1))
    assert (first != second).any()
    assert first.equals(split_lesions(labels, seed=0))
    pd.testing.assert_series_equal(
        labels[first == "val"].value_counts().sort_index(),
        labels[second == "val"].value_counts().sort_index(),
    )


def test_the_order_of_a_table_does_not_matter():
    labels = labels_with({"NV": 40, "BCC": 31, "MEL": 9})
    folds = assign_folds(labels, seed=3)
    for seed in range(3):
        shuffled = labels.sample(frac=1, random_state=seed)
        pd.testing.assert_series_equal(assign_folds(shuffled, seed=3).loc[labels.index], folds)


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(0, 40), min_size=11, max_size=11).filter(lambda c: sum(c) > 0),
    n_folds=st.integers(2, 7),
    seed=st.integers(0, 99),
)
def test_every_class_is_spread_evenly_over_the_folds(counts, n_folds, seed):
    labels = labels_with(dict(zip(CLASSES, counts, strict=True)))
    folds = assign_folds(labels, n_folds, seed)
    table = pd.crosstab(labels, folds).reindex(columns=range(n_folds), fill_value=0)
    assert (table.max(axis=1) - table.min(axis=1) <= 1).all()
    sizes = table.sum()
    assert sizes.max() - sizes.min() <= 1


def test_unknown_and_missing_labels_are_refused():
    labels = pd.Series(["NV", "XYZ", None], index=["a", "b", "c"])
    with pytest.raises(ValueError, match="XYZ"):
        assign_folds(labels)

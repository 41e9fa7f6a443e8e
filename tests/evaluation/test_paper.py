"""The paper's tables: read whole, consistent with one another, and named as our metrics are."""

import numpy as np
import pytest

from jiadf.data.schema import CLASSES
from jiadf.evaluation import metrics
from jiadf.evaluation.paper import (
    PAPER_TO_METRIC,
    PAPER_TO_SUMMARY,
    PAPER_TO_SYSTEM,
    claims,
    paper_table,
)
from jiadf.models.configuration import VARIANTS
from jiadf.models.mmfa import PATHS


def test_the_papers_tables_agree_with_one_another():
    columns = list(PAPER_TO_SUMMARY.values())
    last_rows = [paper_table(n, names="ours").iloc[-1][columns] for n in (1, 2, 3)]
    means = paper_table(5, names="ours")["mean"]
    for row in last_rows:
        for name, value in row.items():
            assert value == means[metrics.MEAN_NAMES[name]], name
    assert set(means.index) == set(metrics.BENCHMARK_METRICS)
    table = paper_table(5)
    assert tuple(table.columns) == ("Mean", *CLASSES)
    assert list(table.index) == list(PAPER_TO_METRIC)
    np.testing.assert_allclose(table[list(CLASSES)].mean(axis=1), table["Mean"], atol=0.0016)


def test_paper_table_says_what_it_lacks(tmp_path):
    assert len(paper_table(1)) == 9
    assert list(paper_table(2).index) == ["C", "D", "M", "C+D", "C+M", "D+M", "C+D+M"]
    with pytest.raises(ValueError, match="no results table 4"):
        paper_table(4)
    with pytest.raises(ValueError, match="names"):
        paper_table(1, names="mine")
    with pytest.raises(FileNotFoundError, match="directory"):
        paper_table(1, directory=tmp_path)


def test_claims_name_systems_and_metrics_that_exist():
    table = claims()
    assert set(table["source"]) == {"Table 2", "Table 3", "Figure 3"}
    assert set(table["better"]) | set(table["worse"]) <= set(PAPER_TO_SYSTEM.values())
    assert set(table["metric"]) <= set(metrics.SUMMARY_METRICS)
    assert (table["better"] != table["worse"]).all()
    assert not table.duplicated(["better", "worse", "metric"]).any()
    assert not table.drop_duplicates("id").duplicated("claim").any()  # each in words of its own
    per_source = table.groupby("source")["id"].nunique()
    assert per_source.to_dict() == {"Table 2": 15, "Table 3": 2, "Figure 3": 10}


def test_claims_carry_the_printed_numbers():
    table = claims().set_index(["better", "worse", "metric"])
    row = table.loc[("both", "skip", "mean_dice")]
    assert (row["printed_better"], row["printed_worse"]) == (0.505, 0.419)
    row = table.loc[("CM", "C", "mean_dice")]  # the paper's table contradicts its text here
    assert (row["printed_better"], row["printed_worse"]) == (0.376, 0.392)
    assert claims("Figure 3")[["printed_better", "printed_worse"]].isna().all(axis=None)
    with pytest.raises(ValueError, match="Table 9"):
        claims("Table 9")


def test_our_system_names_are_those_of_the_network():
    assert set(VARIANTS) <= set(PAPER_TO_SYSTEM.values())
    assert set(PATHS) <= set(PAPER_TO_SYSTEM.values())
    for n in (1, 2, 3):
        assert set(paper_table(n).index) <= set(PAPER_TO_SYSTEM)

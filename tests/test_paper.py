"""The paper's tables: read whole, consistent with one another, and named as our metrics are."""

import numpy as np
import pytest

from jiadf import metrics, weighted
from jiadf.data.schema import CLASSES
from jiadf.paper import PAPER_TO_METRIC, PAPER_TO_SUMMARY, paper_table


def test_the_papers_tables_agree_with_one_another():
    columns = list(PAPER_TO_SUMMARY.values())
    last_rows = [paper_table(n, names="ours").iloc[-1][columns] for n in (1, 2, 3)]
    means = paper_table(5, names="ours")["mean"]
    for row in last_rows:
        for name, value in row.items():
            assert value == means[weighted.MEAN_NAMES[name]], name
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

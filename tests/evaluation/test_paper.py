"""The paper's tables: read whole, consistent with one another, and named as our metrics are."""

import numpy as np
import pandas as pd
import pytest

from jiadf.data.schema import CLASSES
from jiadf.evaluation import metrics, paper
from jiadf.evaluation.paper import (
    PAPER_TO_SUMMARY,
    PAPER_TO_SYSTEM,
    paper_table,
)
from jiadf.models.mmfa import PATHS
from jiadf.training.grid import load_grid


def test_the_papers_tables_agree_with_one_another():
    columns = list(PAPER_TO_SUMMARY.values())
    last_rows = [paper_table(n).iloc[-1][columns] for n in (1, 2, 3)]
    means = paper_table(5)["mean"]
    for row in last_rows:
        for name, value in row.items():
            assert value == means[metrics.MEAN_NAMES[name]], name
    table = paper_table(5)
    assert set(table.index) == set(metrics.BENCHMARK_METRICS)
    assert tuple(table.columns) == ("mean", *CLASSES)
    np.testing.assert_allclose(table[list(CLASSES)].mean(axis=1), table["mean"], atol=0.0016)


def test_paper_table_says_what_it_lacks():
    assert len(paper_table(1)) == 9
    assert list(paper_table(2).index) == ["C", "D", "M", "C+D", "C+M", "D+M", "C+D+M"]
    with pytest.raises(FileNotFoundError, match=r"clone of the repository.*Table 4 is"):
        paper_table(4)


def test_claims_name_systems_and_metrics_that_exist():
    table = pd.read_csv(paper.PAPER_DIR / "claims.csv")
    assert set(table["better"]) | set(table["worse"]) <= set(PAPER_TO_SYSTEM.values())
    assert set(" ".join(table["metrics"]).split()) <= set(metrics.SUMMARY_METRICS)
    assert (table["better"] != table["worse"]).all()
    assert not table.duplicated(["better", "worse", "metrics"]).any()
    assert not table.duplicated("claim").any()  # each in words of its own
    assert table["source"].value_counts().to_dict() == {
        "Table 2": 15, "Figure 3": 10, "Table 3": 2,
    }  # fmt: skip


def test_our_system_names_are_those_of_the_network():
    systems = load_grid("params/grids/paper.yaml").systems
    assert set(systems) <= set(PAPER_TO_SYSTEM.values())
    assert set(PATHS) <= set(PAPER_TO_SYSTEM.values())
    for n in (1, 2, 3):
        assert set(paper_table(n).index) <= set(PAPER_TO_SYSTEM)

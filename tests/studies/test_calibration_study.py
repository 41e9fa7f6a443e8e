"""The study on real, tiny runs: what is fitted on, judged on, and said of them."""

import re

import numpy as np
import pandas as pd
import pytest
import yaml

from jiadf import calibration_report as report
from jiadf import plots
from jiadf.data.schema import CLASSES
from jiadf.evaluation.metrics import summary
from jiadf.evaluation.recalibration import METHODS
from jiadf.results import read_tables, truth_codes, write_tables
from jiadf.studies import calibration, decisions
from jiadf.training.grid import fold_predictions, load_grid, run_grid
from tests.conftest import TINY


@pytest.fixture(scope="module")
def made(tmp_path_factory, lesions, cache_dir):
    folder = tmp_path_factory.mktemp("grid")
    changes = {
        "ji-adf": {},
        "ji-mmfa": {"decision": "average"},
        "unweighted": {"class_weighting": "none"},
    }
    values = {
        "base": TINY | {"feature_views": 1, "epochs": 2, "n_folds": 3},
        "protocol": "out-of-fold", "seeds": [0], "systems": changes,
    }  # fmt: skip
    (folder / "grid.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    grid = load_grid(folder / "grid.yaml")
    assert run_grid(grid, lesions, folder, cache_dir, progress=False) == []
    return grid, folder


@pytest.fixture(scope="module")
def tables(made, lesions, cache_dir):
    return calibration.study(*made, lesions, cache_dir, n=50)


@pytest.fixture(scope="module")
def folds(made, lesions, cache_dir):
    return fold_predictions(*made, lesions, cache_dir)


def test_tables_hold_figures_and_no_lesion(tables, lesions):
    for name, table in tables.items():
        assert len(table), name
        text = table.select_dtypes(exclude="number")
        assert not text.isin(set(lesions.index)).any().any(), name
    shown = tables["errors"]
    assert set(shown["source"]) == {"fused", "image", "metadata", "joint", "average"}
    assert set(shown["method"]) == {"none", *METHODS}
    finite = shown[shown["metric"] != "rms_debiased"][["value", "low", "high"]]
    assert np.isfinite(finite).all().all()


def test_every_lesion_is_judged_by_a_network_that_took_nothing_from_it(folds, lesions):
    truth = truth_codes(lesions["label"])
    pooled = calibration.pool(folds, truth)
    own = [fold for fold in folds if fold.run.system == "ji-adf"]
    for fold in own:
        expected = fold.prediction.posterior[fold.test_rows]
        assert np.array_equal(pooled["ji-adf", "fused", "none"][0][fold.test_rows], expected)
    scrambled = truth.copy()  # what is fitted must not depend on the test lesions' labels
    fold = own[0]
    scrambled[fold.test_rows] = np.random.default_rng(0).permutation(truth[fold.test_rows])
    again = calibration.pool([fold], scrambled)
    once = calibration.pool([fold], truth)
    for key, seeds in once.items():
        assert np.array_equal(seeds[0], again[key][0], equal_nan=True), key


def test_errors_are_those_of_the_pooled_predictions(tables, folds, lesions):
    truth = truth_codes(lesions["label"])
    prob = calibration.pool(folds, truth)["ji-mmfa", "fused", "none"][0]
    row = report.cell(tables, ("ji-mmfa", "fused", "none"), "ece")
    assert row["value"] == pytest.approx(summary(truth, prob)["ece"])
    assert row["lesions"] == len(lesions)


def test_fixed_average_is_the_average_of_its_branches(tables):
    fused, average = (
        report.cell(tables, ("ji-mmfa", source, "none"), "nll")["value"]
        for source in ("fused", "average")
    )
    assert fused == pytest.approx(average, abs=1e-4)


def test_validation_view_holds_each_lesion_once(folds, lesions):
    seeds = calibration.validation_view(folds, truth_codes(lesions["label"]))
    assert len(seeds) == 1
    assert not np.isnan(seeds[0]).any()


def test_the_hidden_mix_is_a_distribution():
    mix = calibration.hidden_mix()
    assert len(mix) == len(CLASSES)
    assert mix.sum() == pytest.approx(1)
    assert (mix > 0).all()


def test_decisions_alone_are_the_same_tables(made, lesions, cache_dir, tables):
    alone = decisions.study(*made, lesions, cache_dir, n=50)
    for name, table in alone.items():
        pd.testing.assert_frame_equal(table, tables[name])


def test_coverage_stands_beside_its_interval(tables):
    coverage = tables["coverage"]
    assert (coverage["low"] <= coverage["binomial_low"]).all()
    assert (coverage["high"] >= coverage["binomial_high"]).all()
    marginal = coverage[coverage["kind"] == "marginal"]
    assert marginal.groupby("alpha")["mean_size"].mean().is_monotonic_decreasing
    classes = tables["coverage_by_class"]
    never = classes[(classes["kind"] == "by class") & (classes["bounded"] == 0)]
    assert (never["coverage"].dropna() == 1).all()  # always in the set


def test_lowered_thresholds_call_more(tables):
    points = tables["operating"].pivot(
        index=["malignant", "system"], columns="rule", values="sensitivity"
    )
    assert (points["assured"] >= points["reached"]).all()


def test_a_record_tells_the_same_as_the_study(tables, tmp_path):
    write_tables("some", tables, {}, tmp_path)
    read, _ = read_tables("some", tmp_path)
    assert read.keys() == tables.keys()
    assert report.sentences(read) == report.sentences(tables)
    text = "\n".join(report.sentences(read))
    assert not re.search(r"\bnan\b", text)


@pytest.mark.parametrize(
    ("question", "count"), [("recalibration", 4), ("gate", 7), ("weighting", 3)]
)
def test_questions_have_their_pairs(tables, question, count):
    rows = report.named_differences(tables, question, "ji-adf")
    assert rows["name"].nunique() == count


def test_figures_are_drawn(tables):
    sources = {"fused": ("ji-adf", "fused", "none"), "joint": ("ji-adf", "joint", "none")}
    drawn = [
        plots.reliability_panels(report.named_reliability(tables, sources), list(sources)),
        plots.error_panels(report.named_errors(tables, sources), ["ece", "nll"]),
        plots.ece_binning(tables["binning"].query("method == 'none'"), 0.03),
        plots.plausible_ece(tables["plausible"], 0.03),
        plots.class_bias(report.named_classes(tables, sources | {}), ["fused"]),
        plots.risk_curves(report.named_risk(tables), ["ji-adf, none"]),
        plots.coverage_by_run(tables["coverage"], ["marginal"]),
        plots.coverage_by_class(tables["coverage_by_class"]),
        plots.operating_points(report.named_operating(tables)),
    ]
    for figure in drawn:
        figure.canvas.draw()
        assert any(ax.has_data() for ax in figure.axes)
    dots = drawn[1].axes[0].lines[0].get_xdata()
    expected = [report.cell(tables, key, "ece")["value"] for key in sources.values()]
    assert dots == pytest.approx(expected)
    with pytest.raises(ValueError, match="no bins of 'absent'"):
        plots.reliability_panels(report.named_reliability(tables, sources), ["absent"])

"""The study of submissions: honest ensembles, and tables of figures alone."""

from collections import Counter

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import yaml

from jiadf import plots
from jiadf.data.schema import CLASSES
from jiadf.evaluation.metrics import per_class_metrics, summary
from jiadf.evaluation.thresholds import fit_thresholds
from jiadf.studies.submission import benchmark_layout, binary_nll, study, tell
from jiadf.training.grid import (
    fold_predictions,
    load_grid,
    pooled_predictions,
    probabilities,
    run_grid,
)
from jiadf.variants import FIXED_STRENGTH, collect_variants, map_variant
from tests.conftest import TINY

VARIANTS = ["single", "single + views", "seeds", "seeds + views", "two folds"]


@pytest.fixture(scope="module")
def made(tmp_path_factory, lesions, cache_dir):
    folder = tmp_path_factory.mktemp("grid")
    values = {
        "protocol": "out-of-fold", "seeds": [0, 1], "systems": {"all": {}},
        "base": TINY | {"feature_views": 2, "epochs": 2, "n_folds": 3},
    }  # fmt: skip
    (folder / "grid.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    grid = load_grid(folder / "grid.yaml")
    assert run_grid(grid, lesions, folder, cache_dir, progress=False) == []
    return grid, folder


@pytest.fixture(scope="module")
def scored(made, lesions, cache_dir):
    return collect_variants(*made, lesions, cache_dir)["all"]


@pytest.fixture(scope="module")
def tables(made, lesions, cache_dir):
    return study(*made, lesions, cache_dir, n=40)


def test_variants_are_made_of_networks_that_did_not_train_on_the_lesion(
    made, scored, lesions, cache_dir
):
    folds = fold_predictions(*made, lesions, cache_dir)
    assert list(scored.variants) == VARIANTS
    for row in (0, 17, 109):
        tests = [f for f in folds if row in f.test_rows]
        chose = [f for f in folds if row in f.val_rows and f.run.seed == 0]
        assert {f.run.fold for f in tests} == {scored.folds[row]}
        own = [f.prediction.posterior[row] for f in tests]
        np.testing.assert_allclose(scored.variants["seeds"][0][row], np.mean(own, 0), atol=1e-12)
        pair = (own[0] + chose[0].prediction.posterior[row]) / 2
        np.testing.assert_allclose(scored.variants["two folds"][0][row], pair, atol=1e-12)


def test_the_single_networks_are_those_of_the_run_folders(made, scored, lesions):
    for told, recorded in zip(
        scored.variants["single"], pooled_predictions(*made)["all"], strict=True
    ):
        np.testing.assert_allclose(told, probabilities(recorded.loc[lesions.index]), atol=2e-5)


def test_posteriors_sum_to_one_and_views_change_them(scored):
    for seeds in scored.variants.values():
        for prob in seeds:
            np.testing.assert_allclose(prob.sum(1), 1, atol=1e-6)
    views, plain = scored.variants["seeds + views"][0], scored.variants["seeds"][0]
    assert np.abs(views - plain).max() > 1e-5


def test_cuts_of_the_validation_way_come_from_the_networks_own_validation_fold(
    made, scored, lesions, cache_dir
):
    mapped = map_variant(scored, "single")
    told = fold_predictions(*made, lesions, cache_dir)[0]
    prob = told.prediction.posterior
    truth = scored.truth
    fitted = fit_thresholds(truth[told.val_rows], prob[told.val_rows], FIXED_STRENGTH)
    np.testing.assert_allclose(
        mapped.numbers["validation"][0][told.test_rows],
        fitted.apply(prob[told.test_rows]),
        atol=1e-9,
    )
    assert set(mapped.numbers) == {"chosen", "own", "common", "validation", "in sample"}
    assert len(mapped.cuts) == 2


def test_tables_hold_figures_and_no_lesion(tables, lesions):
    wanted = ["scores", "differences", "mapping", "thresholds", "calibration", "benchmark"]
    assert list(tables) == wanted
    for name, table in tables.items():
        assert (table["system"] == "all").all()
        assert not any(lesion in table.to_csv() for lesion in lesions.index[:5]), name
    counts = Counter(zip(tables["scores"]["variant"], tables["scores"]["mapping"], strict=True))
    assert counts == {(v, m): c for v in VARIANTS for m, c in (("none", 7), ("chosen", 2))}


def test_scores_are_those_of_the_predictions(tables, scored):
    rows = tables["scores"].query("mapping == 'none'").set_index(["variant", "metric"])
    for variant, seeds in scored.variants.items():
        mean = np.mean([summary(scored.truth, prob)["macro_f1_at_half"] for prob in seeds])
        assert rows.loc[(variant, "macro_f1_at_half"), "value"] == pytest.approx(mean)
        assert rows.loc[(variant, "macro_f1_at_half"), "seeds"] == len(seeds)


def test_in_sample_is_never_below_what_was_not_moved(tables):
    wide = tables["mapping"].pivot(index="variant", columns="fitted", values="value")
    assert (wide["in sample"] >= wide["none"] - 1e-12).all()
    assert (wide["in sample"] >= wide["own"] - 1e-12).all()


def test_the_ensemble_has_a_lower_nll_than_its_members(tables):
    rows = tables["differences"].query("variant == 'seeds' and metric == 'nll'")
    assert (rows["difference"] < 0).all()  # Jensen's inequality
    pairs = tables["differences"].query("question == 'mapping'")
    assert set(pairs["reference"]) == set(VARIANTS)
    assert set(pairs["metric"]) == {"macro_f1_at_half"}


def test_numbers_that_do_not_sum_to_one_have_no_nll(tables):
    value = tables["calibration"].set_index(["numbers", "metric"])["value"]
    assert ("moved", "nll") not in value.index
    assert value["posterior", "mean_sum"] == pytest.approx(1)
    assert value["moved, renormalised", "mean_sum"] == pytest.approx(1)
    assert value["moved", "mean_sum"] > 1.05


def test_binary_nll_is_the_sum_over_classes():
    truth, prob = np.array([1, 0]), np.array([[0.2, 0.8], [0.5, 0.5]])
    expected = -(2 * np.log(0.8) + 2 * np.log(0.5)) / 2
    assert binary_nll(truth, prob) == pytest.approx(expected)
    assert np.isfinite(binary_nll(truth, np.eye(2)))


def test_the_layout_is_that_of_table_5(tables, scored):
    rows = tables["benchmark"].query("mapping == 'none'")
    table = benchmark_layout(rows)
    pd.testing.assert_frame_equal(
        table, per_class_metrics(scored.truth, scored.variants["seeds"][0]), check_names=False
    )
    assert list(table.columns) == ["mean", *CLASSES]
    with pytest.raises(ValueError, match="several rows"):
        benchmark_layout(tables["benchmark"])


def test_sentences_say_the_numbers(tables):
    told = tell(tables, "on paper")
    assert len(told) == 4
    assert all(line.startswith("On paper") for line in told)
    chosen = tables["mapping"].query("variant == 'seeds' and fitted == 'chosen'")["value"].iloc[0]
    assert f"to {chosen:.2f} in nested" in told[2]


def test_one_seed_and_one_view_leave_out_what_they_cannot_tell(made, lesions, cache_dir, tmp_path):
    grid = made[0].model_copy(update={"seeds": [0]})
    base = {"feature_views": 1, "modalities": "M"}
    grid = grid.model_copy(update={"base": grid.base | base})
    assert run_grid(grid, lesions, tmp_path, cache_dir, progress=False) == []
    tables = study(grid, tmp_path, lesions, cache_dir, n=20)
    assert list(tables["scores"]["variant"].unique()) == ["single", "two folds"]
    assert tell(tables, "here")


def texts(figure):
    return [text.get_text() for text in figure.findobj(plt.Text)]


def test_every_table_can_be_drawn(tables, scored):
    drawn = {
        "variants": plots.variant_scores(tables["scores"]),
        "ways": plots.mapping_ways(tables["mapping"]),
        "cuts": plots.class_cuts(tables["thresholds"]),
        "cost": plots.mapping_cost(tables["calibration"]),
    }
    for figure in drawn.values():
        figure.canvas.draw()
    assert set(VARIANTS) <= set(texts(drawn["variants"]))
    assert "in sample (flattering)" in texts(drawn["ways"])
    counts = np.bincount(scored.truth, minlength=11)
    assert f"MEL  ({counts[7]:,})" in texts(drawn["cuts"])
    assert {"ECE", "Brier score", "binary NLL"} <= set(texts(drawn["cost"]))
    with pytest.raises(ValueError, match="no metric 'x'"):
        plots.variant_scores(tables["scores"], "x")


def test_points_stand_where_the_table_has_them(tables):
    ax = plots.variant_scores(tables["scores"]).axes[0]
    rows = tables["scores"].query("metric == 'macro_f1_at_half' and mapping == 'chosen'")
    line = next(line for line in ax.lines if line.get_label() == "cuts moved")
    np.testing.assert_allclose(line.get_xdata(), rows.set_index("variant").loc[VARIANTS, "value"])


def test_curves_of_the_mapping_and_of_f1(scored):
    prob = scored.variants["single"][0]
    cuts = fit_thresholds(scored.truth, prob, 20)
    curves = plots.mapping_curves(cuts)
    curves.canvas.draw()
    assert len(curves.legends[0].get_texts()) == 11
    figure = plots.f1_by_cut(scored.truth, prob, cuts)
    figure.canvas.draw()
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert len(shown) == 11
    assert shown[3].lines[2].get_xdata()[0] == pytest.approx(cuts.values[3])

"""The study of explanations, from a tiny grid to its tables, figures and sentences."""

import numpy as np
import pandas as pd
import pytest

from jiadf import plots
from jiadf.config import ParameterError
from jiadf.data.schema import CLASSES
from jiadf.examination import (
    CHANCE,
    GAUSSIAN,
    IDEAL,
    RELABELLED,
    TRAINED,
    TWIN,
    mean_interval,
    passes_sanity,
    sentences,
)
from jiadf.studies.explanation import sample_rows, study
from jiadf.training.grid import Grid

TABLES = {
    "sample", "regions", "localisation", "contrasts", "sanity", "artefacts", "curves", "cuts",
    "contributions",
}  # fmt: skip


@pytest.fixture(scope="module")
def grid():
    base = {"image_size": 96, "feature_views": 1, "epochs": 3, "n_folds": 3, "device": "cpu"}
    base |= {"learning_rate": 1e-3}
    return Grid(base=base, protocol="out-of-fold", seeds=[0], systems={"ji-adf": {}})


@pytest.fixture(scope="module")
def tables(grid, folder, lesions, cache_dir):
    return study(grid, folder, lesions, cache_dir, explained=22, cut=3)


def test_tables_hold_figures_and_no_lesion(tables, lesions):
    assert set(tables) == TABLES
    for name, table in tables.items():
        assert len(table), name
        text = table.astype(str).to_numpy().ravel()
        assert not set(text) & set(lesions.index)
        if {"low", "high"} <= set(table):
            known = table.dropna(subset=["value"])
            assert (known["low"] <= known["value"] + 1e-9).all(), name
            assert (known["value"] <= known["high"] + 1e-9).all(), name
    assert tables["sample"]["lesions"].min() >= 2
    assert tables["sample"]["largest_gap"].max() < 0.02


def test_figures_lie_where_they_must(tables):
    place = tables["localisation"].set_index(["network", "output", "stream", "measure"])["value"]
    for stream in ("clinical", "dermoscopic"):
        at = lambda network, s=stream: place[network, "fused", s, "energy"]  # noqa: E731
        assert at(IDEAL) > at(GAUSSIAN) > at(CHANCE)
        assert at(IDEAL) > at(TRAINED)
        assert place[IDEAL, "fused", stream, "pointing"] == 1
    assert {"fused", "image", "joint"} == set(tables["localisation"]["output"])
    curves = tables["curves"].pivot_table(
        index=["stream", "mode", "order"], columns="share", values="value"
    )
    for mode, whole in {"deletion": 0.0, "insertion": 1.0}.items():
        ends = curves.xs(mode, level="mode")[whole]
        np.testing.assert_allclose(ends, ends.iloc[0], atol=1e-6)  # nothing is cut
    for (_, mode), group in curves.groupby(level=["stream", "mode"]):
        np.testing.assert_allclose(group[1.0 if mode == "deletion" else 0.0].std(), 0, atol=1e-6)


def test_random_networks_have_other_maps(tables):
    """Grad-CAM passes the sanity check: maps do not survive random weights."""
    value = tables["sanity"].query("measure == 'rank correlation' and output == 'fused'")
    value = value.pivot(index="network", columns="stream", values="value")
    assert (value.loc["random: whole backbone"] < 0.5).all()
    assert (value.loc["random: whole fusion"] < value.loc["random: gate"]).all()


def test_the_study_repeats_itself(grid, folder, lesions, cache_dir, tables):
    again = study(grid, folder, lesions, cache_dir, explained=22, cut=3)
    for name in ("sanity", "cuts"):
        pd.testing.assert_frame_equal(again[name], tables[name], rtol=1e-4, atol=1e-5)


def test_sentences_and_figures_tell_the_tables(tables):
    told = sentences(tables, "the lesion")
    assert list(told) == ["place", "likeness", "effect", "artefacts", "sources"]
    value = tables["localisation"].query("output == 'fused' and measure == 'energy'")
    shown = value.query("network == 'trained' and stream == 'clinical'")["value"].iloc[0]
    assert f"{shown:.0%} of their energy" in told["place"][0]
    for draw, name in (
        (plots.map_localisation, "localisation"),
        (plots.map_sanity, "sanity"),
        (plots.artefact_energy, "artefacts"),
        (plots.cut_curves, "curves"),
        (plots.contribution_sizes, "contributions"),
    ):
        figure = draw(tables[name])
        figure.draw_without_rendering()
        assert figure.get_size_inches()[0] <= 8


@pytest.mark.parametrize("broken", [RELABELLED, "random: whole fusion", "random: whole backbone"])
def test_one_likeness_too_many_fails_the_sanity_check(broken):
    names = [TWIN, RELABELLED, "random: gate", "random: whole fusion", "random: whole backbone"]
    table = pd.DataFrame({
        "network": names, "output": "fused", "stream": "clinical", "measure": "rank correlation",
        "low": [0.5, 0.0, 0.8, 0.0, 0.0], "high": [0.7, 0.2, 0.9, 0.2, 0.2],
    })  # fmt: skip
    assert passes_sanity(table, "clinical")
    table.loc[table["network"] == broken, "high"] = 0.6
    assert not passes_sanity(table, "clinical")


def test_samples_are_stratified_and_hold_every_class(lesions):
    rows = sample_rows(lesions, 40, seed=3)
    assert len(set(rows)) == len(rows)
    counts = lesions["label"].iloc[rows].value_counts()
    assert set(counts.index) == set(CLASSES)
    assert counts.min() >= 2
    assert counts["BCC"] == counts.max()
    assert (sample_rows(lesions, 40, seed=3) == rows).all()
    assert set(sample_rows(lesions, 10**6)) == set(range(len(lesions)))


def test_means_leave_out_what_is_not_known():
    truth = np.array([0, 0, 1, 1])
    figures = mean_interval([1.0, np.nan, 3.0, np.nan], truth)
    assert (figures["value"], figures["lesions"]) == (2.0, 2)
    assert figures["low"] == figures["high"] == 2.0  # one lesion a class: no spread to be had
    assert mean_interval([np.nan] * 4, truth)["lesions"] == 0


def test_wrong_grids_are_refused(grid, folder, lesions, cache_dir):
    with pytest.raises(ParameterError, match="out-of-fold"):
        study(grid.model_copy(update={"protocol": "validation"}), folder, lesions, cache_dir)
    with pytest.raises(ParameterError, match="no system 'jf-mmfa'"):
        study(grid, folder, lesions, cache_dir, system="jf-mmfa")


def test_a_card_is_drawn_with_what_it_has():
    heat = np.linspace(0, 1, 64).reshape(8, 8)
    picture = np.zeros((8, 8, 3), np.uint8)
    from jiadf.plots.explain import Card

    bare = Card("NV", {"NV": 0.9, "MEL": 0.1}, {"clinical": picture}, {"clinical": 0 * heat},
                {"clinical picture": -0.2}, {})  # fmt: skip
    texts = [t.get_text() for ax in plots.explanation_card(bare).axes for t in ax.texts]
    assert any("nothing speaks" in text for text in texts)
    full = Card("NV", {"NV": 0.9, "MEL": 0.1}, {"clinical": picture, "dermoscopic": picture},
                {"clinical": heat, "dermoscopic": heat}, {"clinical picture": 1.0},
                {"age: 70": 0.1}, {"image": 0.4, "joint": 0.6}, "MEL", {"clinical": heat > 0.5,
                "dermoscopic": heat > 2})  # fmt: skip
    figure = plots.explanation_card(full)
    assert len(figure.axes) == 10
    assert "true class: MEL" in figure.get_suptitle()
    figure.draw_without_rendering()

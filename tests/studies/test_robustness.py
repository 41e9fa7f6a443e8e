"""The whole study on tiny networks, and what the page draws and says of its tables."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from jiadf import plots, robustness_report
from jiadf.reaction import INTACT, judge_gate
from jiadf.slices import slices_of
from jiadf.studies.robustness import SYSTEMS, ask, study, table_damages
from jiadf.training.grid import Grid, pooled_predictions, probabilities
from jiadf.training.inputs import targets


@pytest.fixture(scope="module")
def grid(tiny_parameters):
    base = tiny_parameters(epochs=1, feature_views=1).model_dump(exclude={"val_fold", "test_fold"})
    systems = {"ji-adf": {}, "ji-mmfa": {"decision": "average"}}
    base |= {"n_folds": 3}
    return Grid(base=base, protocol="out-of-fold", seeds=[0], systems=systems)


@pytest.fixture(scope="module")
def tables(grid, folder, lesions, cache_dir):
    return study(grid, folder, lesions, cache_dir, sample=22, severities=[5], n=10)


def test_the_intact_answers_are_the_out_of_fold_predictions(grid, folder, lesions, cache_dir):
    rows = np.array([3, 8])
    whole, sample = ask(grid, folder, lesions, cache_dir, SYSTEMS, {}, rows)
    recorded = pooled_predictions(grid, folder)
    for system, by_damage in whole.items():
        expected = probabilities(recorded[system][0].loc[lesions.index])
        np.testing.assert_allclose(by_damage[INTACT].posterior[0], expected, atol=2e-5)
        np.testing.assert_allclose(sample[system][INTACT].posterior[0], expected[rows], atol=2e-5)
    adf = whole["ji-adf"][INTACT]
    np.testing.assert_allclose(adf.held(adf.weights), adf.posterior, atol=1e-5)


def test_every_damage_and_both_systems_are_in_the_tables(tables, lesions):
    scores, gate = tables["scores"], tables["gate"]
    names = {what.name for what in table_damages()} | {INTACT}
    for system in ("ji-adf", "ji-mmfa"):
        assert (
            set(scores[(scores["system"] == system) & (scores["lesions"] == "all")]["name"])
            == names
        )
    assert (scores[scores["lesions"] == "sample"]["name"].str.contains("JPEG 5")).any()
    assert set(gate["system"]) == {"ji-adf"}
    assert len(gate[gate["lesions"] == "sample"]) == 2 * 5 * 3  # streams, kinds, branches
    slices = tables["slices"].drop_duplicates(["attribute", "value"])
    assert len(slices) == len(slices_of(lesions))
    assert (targets(lesions) >= 0).all()


def test_no_table_holds_a_lesion(tables, lesions):
    for name, table in tables.items():
        text = table.to_csv()
        assert not any(lesion in text for lesion in lesions.index), name


def test_what_is_drawn_and_said_follows_from_the_tables(tables):
    figures = [
        plots.gate_reaction(tables["gate"]),
        plots.gate_reaction(tables["gate"], "sample"),
        plots.damage_scores(tables["scores"]),
        plots.damage_scores(tables["scores"], "sample", ["macro_f1"]),
        plots.slice_scores(tables["slices"], ["malignant AUC", "balanced accuracy"]),
    ]
    assert all(isinstance(figure, Figure) for figure in figures)
    judged = judge_gate(tables["gate"])
    shown = robustness_report.gate_table(judged[judged["lesions"] == "all"]).data
    assert list(shown.index) == [what.name for what in table_damages()]
    assert set(shown["the claim"]) <= {"holds", "does not hold", "cannot be told apart", "no harm"}
    probes = robustness_report.probe_table(tables["probes"], tables["scores"])
    assert list(probes.index)[-1] == "ji-adf, everything"
    assert robustness_report.duplicate_table(tables["duplicates"]).shape == (11, 9)
    for told in (
        robustness_report.say_slices(tables["slices"]),
        robustness_report.say_duplicates(tables["duplicates"]),
        robustness_report.say_probes(tables["probes"]),
    ):
        assert " nan" not in told
    with pytest.raises(ValueError, match="no damage to 'none'"):
        plots.gate_reaction(tables["gate"], "none")


def test_slices_are_told_with_their_gap_and_those_too_small_by_name(tables):
    table = tables["slices"].copy()
    table["p_holm"], table["large_enough"] = np.nan, True
    chosen = (table["metric"] == "malignant AUC") & (table["value"] == "female")
    table.loc[chosen, ["p_holm", "gap", "gap_low", "gap_high"]] = [0.01, -0.2, -0.3, -0.1]
    table.loc[table["value"] == "male", "large_enough"] = False
    told = robustness_report.say_slices(table)
    assert "sex female differs from the rest by −0.20 (−0.30 to −0.10" in told
    assert "Too small to tell: sex male." in told
    table["p_holm"] = np.nan
    assert "no gap to the rest stands" in robustness_report.say_slices(table)

"""The study of the gate on tiny networks, and what the page draws and says of its tables."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from jiadf import gate_report, gate_tables, plots
from jiadf.evaluation.metrics import summary
from jiadf.openness import course_table
from jiadf.results import read_tables, write_tables
from jiadf.studies.gate import AVERAGE, CHOSEN, GATE, damages, study
from jiadf.training.grid import Grid, load_grid, run_grid
from jiadf.training.inputs import targets
from jiadf.training.run_folder import Run

SYSTEMS = {
    "ji-adf": {},
    "ji-mmfa": {"decision": "average"},
    "entropy": {"gate_entropy": 0.3},
    "calibrated": {"gate_detach": "decision", "gate_holdout": 0.2, "gate_calibration": True},
}


@pytest.fixture(scope="module")
def grid(tiny_parameters):
    base = tiny_parameters(epochs=2, feature_views=1).model_dump(exclude={"val_fold", "test_fold"})
    base |= {"n_folds": 3}
    return Grid(base=base, protocol="out-of-fold", seeds=[0, 1], systems=SYSTEMS)


@pytest.fixture(scope="module")
def tables(grid, folder, lesions, cache_dir):
    return study(grid, folder, lesions, cache_dir, n=20, n_curves=20, n_damage=10)


def of(grid, folder, system):
    return [Run(run.path) for run in grid.runs(folder) if run.system == system]


def test_weights_are_those_of_the_runs(grid, folder, tables):
    runs = of(grid, folder, GATE)
    tested = [run.predictions.query("split == 'test'") for run in runs]
    joint = [pd.concat(tested[:3])["weight_joint"].mean(), pd.concat(tested[3:])["weight_joint"]]
    joint[1] = joint[1].mean()
    row = tables["openness"].set_index(["system", "measure"]).loc[(GATE, "weight joint")]
    assert row["value"] == pytest.approx(np.mean(joint))
    assert (row["low"], row["high"]) == pytest.approx((min(joint), max(joint)))
    assert row["seeds"] == 2
    gated = tables["openness"].groupby("system")["gate"].first()
    assert gated.to_dict() == {name: name != AVERAGE for name in SYSTEMS}
    by_run = [table["weight_joint"].mean() for table in tested]
    row = tables["collapse"].set_index("system").loc[GATE]
    assert (row["runs"], row["least"]) == (6, pytest.approx(min(by_run)))
    assert row["above 0.9"] == sum(weight > 0.9 for weight in by_run)
    course = tables["course"].set_index(["system", "epoch", "branch"]).loc[(GATE, 2, "image")]
    expected = [run.history.set_index("epoch").loc[2, "val_weight_image"] for run in runs]
    assert course["value"] == pytest.approx(np.mean(expected))
    assert (course["low"], course["high"], course["runs"]) == (min(expected), max(expected), 6)


def test_histories_without_weights_give_an_empty_course(grid, folder, tmp_path, monkeypatch):
    history = Run.history.fget
    monkeypatch.setattr(
        Run, "history", property(lambda run: history(run).drop(columns="val_weight_joint"))
    )
    assert set(course_table(grid, folder)["branch"]) == {"image", "metadata"}
    monkeypatch.setattr(Run, "history", property(lambda run: history(run)[["epoch"]]))
    table = course_table(grid, folder)
    assert table.empty
    write_tables("it", {"course": table}, {}, tmp_path)
    assert list(read_tables("it", tmp_path)[0]["course"]) == list(table)


def test_the_choice_is_made_by_validation_lesions_alone(grid, folder, tables):
    choice = tables["choice"].set_index(["fold", "system"])
    for system in SYSTEMS:
        losses = [run.metrics["val"]["nll"] for run in of(grid, folder, system)]
        assert choice.loc[("all", system), "nll"] == pytest.approx(np.mean(losses))
        assert choice.loc[("0", system), "nll"] == pytest.approx(np.mean(losses[::3]))
    for fold, rows in choice.groupby("fold"):
        gates = rows.drop(index=AVERAGE, level="system")["nll"]
        chosen = rows.index[rows["chosen"]].tolist()
        assert chosen == [gates.idxmin()], fold
    assert gate_tables.plus(tables) == choice.loc["all"].query("gate")["nll"].idxmin()


def test_by_fold_every_lesion_is_scored_by_its_own_folds_choice(grid, folder, tables, lesions):
    chosen = tables["choice"].query("chosen").set_index("fold")["system"]
    nll = []
    for seed in (0, 1):
        parts = [
            Run(run.path).predictions.query("split == 'test'")
            for run in grid.runs(folder)
            if run.seed == seed and run.system == chosen[str(run.fold)]
        ]
        table = pd.concat(parts).loc[lesions.index]
        prob = table.loc[:, "AKIEC":"VASC"].to_numpy()
        nll.append(summary(targets(lesions), prob)["nll"])
    found = tables["scores"].set_index(["system", "metric"]).loc[(CHOSEN, "nll")]
    assert found["value"] == pytest.approx(np.mean(nll))
    assert found["sd"] == pytest.approx(np.std(nll, ddof=1))


def test_differences_are_of_scores_and_adjusted_by_reference(tables):
    scores = tables["scores"].set_index(["system", "metric"])["value"]
    table = tables["differences"]
    assert set(zip(table["system"], table["reference"], strict=True)) == {
        (name, to) for to in (GATE, AVERAGE) for name in (*SYSTEMS, CHOSEN) if name != to
    }
    for row in table.itertuples():
        expected = scores[row.system, row.metric] - scores[row.reference, row.metric]
        assert row.difference == pytest.approx(expected, abs=1e-12)
    assert (table["p_holm"] <= 4 * table["p"] + 1e-12).all()  # four comparisons a reference


def test_what_is_mixed_afterwards_starts_from_the_average(tables):
    scores = tables["scores"].set_index(["system", "metric"])["value"]
    after = tables["posthoc"].set_index(["system", "method", "metric"])["value"]
    for metric in ("nll", "macro_f1"):
        average = after[AVERAGE, "average", metric]
        assert average == pytest.approx(scores[AVERAGE, metric], abs=1e-5)
        assert after[GATE, "as trained", metric] == pytest.approx(scores[GATE, metric], abs=1e-5)
    assert (AVERAGE, "as trained", "nll") not in after.index
    for system in (GATE, AVERAGE):
        untouched = [after[system, m, "nll"] for m in ("average", "weights", "gate", "joint")]
        assert after[system, "oracle", "nll"] < min(untouched)
    gains = tables["gains"].set_index(["system", "method", "reference", "metric"])["difference"]
    expected = after[GATE, "gate", "nll"] - after[GATE, "weights", "nll"]
    assert gains[GATE, "gate", "weights", "nll"] == pytest.approx(expected)
    weights = tables["mixtures"].groupby(["system", "method"])["weight"].sum()
    np.testing.assert_allclose(weights, 1)


def test_damage_is_asked_of_every_system(tables):
    names = {what.name for what in damages(0)}
    assert "images exchanged" in names
    assert "age missing" not in names
    reaction = tables["reaction"]
    assert set(reaction["system"]) == set(SYSTEMS) - {AVERAGE}
    assert set(reaction["name"]) == names
    pairs = tables["comparisons"][["system", "reference"]].drop_duplicates()
    pairs = set(pairs.itertuples(index=False, name=None))
    assert pairs >= {(name, AVERAGE) for name in SYSTEMS if name != AVERAGE}
    assert ("entropy", "entropy, gate held") in pairs
    assert ("calibrated", "calibrated, gate held") not in pairs  # it mixes other logits


def test_pulls_cancel_and_no_table_holds_a_lesion(tables, lesions):
    pulls = tables["pull"].groupby(["system", "part"])["pull"].sum()
    np.testing.assert_allclose(pulls, 0, atol=1e-12)
    for name, table in tables.items():
        text = table.to_csv()
        assert not any(lesion in text for lesion in lesions.index), name


def test_what_is_drawn_and_said_follows_from_the_tables(tables, tmp_path):
    write_tables("it", tables, {}, tmp_path)
    for given in (tables, read_tables("it", tmp_path)[0]):
        figures = [plots.gate_openness(given["openness"], 0.5), plots.gate_course(given["course"])]
        assert all(isinstance(figure, Figure) for figure in figures)
        assert [len(figure.axes) for figure in figures] == [2, 3]
        told = gate_report.sentences(given)
        chosen = gate_tables.plus(given)
        assert "In short: the paper's gate is" in told[0]
        assert f"ji-adf+ is {chosen}: of the gates" in " ".join(told)
        assert "nan" not in " ".join(told)
        assert len(gate_tables.openness_words(given)) == 3
        assert gate_tables.choice_words(given).loc[AVERAGE, "chosen in"] == "no gate"
        assert list(gate_tables.pull_words(given).index.levels[0]) == ["new", "training"]
        assert f"ji-adf+ ({chosen})" in gate_tables.show_scores(given).data.index
        assert "oracle" in gate_tables.show_posthoc(given).data.index
        assert len(gate_tables.mixture_words(given)) == 4
        reaction, damage = gate_tables.show_reaction(given), gate_tables.show_damage(given)
        assert "another's clinical" in reaction.data
        assert "intact" in damage.data
        assert AVERAGE not in reaction.data.index
        for styled in (reaction, damage):
            styled.to_html()


def test_without_test_lesions_the_weights_and_scores_are_there(
    tiny_parameters, lesions, cache_dir, tmp_path
):
    base = tiny_parameters(epochs=1, feature_views=1).model_dump(exclude={"val_fold", "test_fold"})
    systems = {name: SYSTEMS[name] for name in (GATE, AVERAGE)}
    grid = Grid(base=base, protocol="validation", seeds=[0], systems=systems)
    assert not run_grid(grid, lesions, tmp_path, cache_dir, progress=False)
    tables = study(grid, tmp_path, lesions, cache_dir, n=10, n_curves=10)
    assert set(tables) == {
        "openness", "collapse", "course", "choice", "scores", "differences"
    }  # fmt: skip
    assert CHOSEN not in set(tables["scores"]["system"])
    told = gate_report.sentences(tables)
    assert "in the one run" in told[0]
    assert not any("Kept open" in line for line in told)


def test_the_pages_grids_are_of_the_same_systems():
    full, page = (load_grid(f"params/grids/{n}.yaml") for n in ("gate", "gate_synthetic"))
    assert page.systems == full.systems
    small = load_grid("params/grids/gate_finetune.yaml")
    assert small.systems == {name: full.systems[name] for name in (GATE, AVERAGE)}
    assert small.base["regime"] == "finetune"


def made(joint, metrics):
    """Tables of two gates and the average with given weights and differences from the average."""
    openness = [
        (s, m, v, True)
        for s, v_joint, entropy in (("ji-adf", joint, 0.1), ("entropy", 0.4, 0.9))
        for m, v in (("weight joint", v_joint), ("entropy", entropy), ("above 0.9", 0.8))
    ]
    openness = pd.DataFrame(openness, columns=["system", "measure", "value", "gate"])
    openness = openness.assign(low=openness["value"], high=openness["value"], seeds=1)
    collapse = pd.DataFrame(
        {"system": ["ji-adf"], "runs": 5, "least": joint, "greatest": joint,
         "above 0.9": 5 * (joint > 0.9), "above 0.99": 5 * (joint > 0.99)}
    )  # fmt: skip
    choice = pd.DataFrame(
        {"system": ["ji-adf", "entropy", "ji-mmfa"] * 2, "fold": ["0"] * 3 + ["all"] * 3,
         "nll": [1.0, 1.1, 0.9, 1.2, 1.1, 1.0], "macro_f1": 0.4,
         "gate": [True, True, False] * 2, "chosen": [True, False, False, False, True, False]}
    )  # fmt: skip
    differences = [
        {"system": "entropy", "reference": to, "metric": m, "difference": d, "low": d - 0.01,
         "high": d + 0.01, "p": 0.001 if d else 1.0, "p_holm": 0.001 if d else 1.0}
        for to in ("ji-adf", "ji-mmfa")
        for m, d in metrics.items()
    ]  # fmt: skip
    return {
        "openness": openness, "collapse": collapse, "choice": choice,
        "differences": pd.DataFrame(differences),
    }  # fmt: skip


def test_sentences_follow_the_numbers():
    tables = made(0.95, {"macro_f1": 0.0, "macro_ap": -0.05, "ece": -0.1, "nll": 0.05})
    assert "collapses onto the joint branch, though seldom beyond 0.99" in (
        gate_report.say_collapse(tables)
    )
    full = gate_report.say_collapse(made(0.995, {"nll": 0.0}))
    assert "collapses onto the joint branch." in full
    assert "does not collapse" in gate_report.say_collapse(made(0.5, {"nll": 0.0}))
    assert "entropy (0.90); not open: ji-adf (0.10)" in gate_report.say_open(tables)
    told = gate_report.say_choice(tables)
    assert "ji-adf+ is entropy" in told
    assert "the same in 0 of 1" in told
    told = gate_report.say_worth(tables, "entropy", "ji-mmfa")
    assert "better in calibration error −0.10" in told
    assert "worse in macro average precision −0.05" in told
    assert "likelihood +0.05" in told
    assert told.endswith("not told apart in macro F1.")
    told = gate_report.say_open_worth(tables, "ji-mmfa")
    assert "Of 1 open gates" in told
    assert "calibration error 1 better, 0 worse" in told
    assert "is closed (entropy 0.10); 1 of 1 other gates are open" in (
        gate_report.say_verdict(tables)
    )
    assert "better than the fixed average in 1 and worse in 2 of 4 scores" in (
        gate_report.say_verdict(tables)
    )

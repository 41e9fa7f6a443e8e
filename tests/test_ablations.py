import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from book.record import record_grid, record_study
from jiadf import plots
from jiadf.ablations import (
    ABLATIONS,
    beside_paper,
    count_verdicts,
    describe_record,
    measure,
    open_grid,
    read_ablation,
    run_ablation,
    show_verdicts,
    verdict_table,
)
from jiadf.config import ParameterError
from jiadf.evaluation.metrics import summary
from jiadf.models.configuration import VARIANTS
from jiadf.paper import claims
from jiadf.training.grid import load_grid
from jiadf.verdicts import FAILS, HOLDS, UNDECIDED
from tests.conftest import TINY

KNOBS = TINY | {"feature_views": 1, "epochs": 1, "batch_size": None}
GRIDS = [f"params/grids/{name}.yaml" for name in ("paper", "paper_gpu", "synthetic")]
SYNTHETIC = GRIDS[-1]
SOURCES = list(ABLATIONS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ablations")


@pytest.fixture
def run(lesions, cache_dir, folder, monkeypatch):
    """Train an ablation of the synthetic grid, at tiny size."""
    monkeypatch.setenv("JIADF_CACHE", str(cache_dir))

    def make(source):
        grid = open_grid(SYNTHETIC, KNOBS, source)
        return run_ablation(grid, lesions, folder / "runs", source)

    return make


@pytest.mark.parametrize("file", GRIDS)
def test_grids_hold_every_row_of_the_paper(file):
    grids = {source: open_grid(file, {}, source).systems for source in SOURCES}
    for name in ABLATIONS["Table 2"].systems[:-1]:
        assert grids["Table 2"][name] == {"modalities": name}
    for name in ABLATIONS["Table 3"].systems[:-1]:
        assert grids["Table 3"][name] == {"fusion_paths": name}
    assert grids["Figure 3"] == VARIANTS
    assert all(systems["ji-adf"] == {} for systems in grids.values())


def test_ablations_name_the_systems_of_the_claims():
    for source, ablation in ABLATIONS.items():
        told = claims(source)
        assert {*told["better"], *told["worse"]} == set(ablation.systems)
        assert set(told["metric"]) <= set(ablation.metrics)
        printed = ablation.printed()
        if printed is not None:
            assert printed.notna().all(axis=None)


def test_knobs_replace_the_grids_own_values_where_given():
    own = open_grid(SYNTHETIC, {}, "Table 3").base
    base = open_grid(SYNTHETIC, KNOBS | {"lesions": 3}, "Table 3").base
    assert (base["epochs"], base["image_size"]) == (1, 32)
    assert base["batch_size"] == own["batch_size"]
    assert "lesions" not in base


def test_a_grid_without_a_needed_system_is_refused(tmp_path):
    (tmp_path / "grid.yaml").write_text("base: {}\nseeds: [0]\nsystems: {skip: {}}\n")
    with pytest.raises(ParameterError, match="no system 'attention', 'ji-adf'; it has skip"):
        open_grid(tmp_path / "grid.yaml", {}, "Table 3")


def test_scores_are_those_of_the_runs(run, folder):
    predictions = run("Table 3")
    assert {p.name for p in (folder / "runs").iterdir()} >= {"ji-adf", "skip", "attention"}
    scores = measure(predictions, n=20)
    expected = np.mean(
        [summary(predictions.truth, p)["macro_auc"] for p in predictions.systems["both"]]
    )
    row = scores.query("system == 'both' and metric == 'macro_auc'").iloc[0]
    assert row["value"] == pytest.approx(expected)
    assert row["part"] == "validation"
    table = beside_paper("Table 3", scores)
    assert table.loc[("skip", "paper"), "AUC"] == "0.880"
    assert table.loc[("both", "ours"), "AUC"].startswith(f"{expected:.2f} (")
    assert beside_paper("Table 3", scores).shape == (6, 6)
    assert (
        beside_paper("Table 3", scores, spread=True)
        .loc[("both", "ours"), "AUC"]
        .startswith(f"{expected:.3f}\u00a0±\u00a0")
    )


def test_gate_weights_stand_where_there_is_a_gate(run):
    predictions = run("Table 2")
    assert predictions.gate("M") is None
    means = predictions.gate_means()
    assert list(means.index) == ["CD", "CM", "DM", "CDM"]
    np.testing.assert_allclose(means.sum(axis=1), 1, atol=1e-4)
    assert np.isnan(means.loc["CD", "metadata"])
    assert list(means.columns) == ["clinical", "dermoscopic", "image", "metadata", "joint"]
    plt.close(plots.gate_means(means))
    with pytest.raises(ValueError, match="sum to 1"):
        plots.gate_means(means * 2)


def test_class_heatmap_shows_a_row_a_system(run):
    scores = measure(run("Table 3"), n=5)
    figure = plots.class_heatmap(scores, "AUC")
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["skip", "attention", "both"]
    with pytest.raises(ValueError, match="no metric 'F7'"):
        plots.class_heatmap(scores, "F7")
    with pytest.raises(ValueError, match="several rows"):
        plots.class_heatmap(pd.concat([scores, scores]), "AUC")


def test_a_failed_run_stops_the_page_with_its_reason(lesions, folder, run):
    run("Table 3")
    grid = open_grid(SYNTHETIC, KNOBS | {"epochs": 2}, "Table 3")  # other than in the folders
    with pytest.raises(RuntimeError, match=r"skip.*other parameters|ji-adf.*other parameters"):
        run_ablation(grid, lesions, folder / "runs", "Table 3")


def test_verdicts_are_counted_and_laid_out():
    rows = [("a", "CD", "C", "macro_auc", HOLDS, 0.1, 0.004)]
    rows += [("a", "CD", "C", "mean_dice", UNDECIDED, -0.02, 0.8)]
    rows += [("b", "CM", "C", "macro_auc", FAILS, -0.3, 0.001)]
    names = ["claim", "better", "worse", "metric", "verdict", "difference", "p_holm"]
    judged = pd.DataFrame(rows, columns=names).assign(source="Table 2")
    table = verdict_table(judged)
    assert table.loc["CD above C", "macro AUC"] == "✓ +0.10"
    assert table.loc["CD above C", "mean Dice"] == "≈ −0.02"
    assert table.loc["CM above C", "mean Dice"] == ""
    assert verdict_table(judged, "claim").loc["a", "macro AUC"] == "✓ +0.10\np 0.004"
    shown = show_verdicts(judged).to_html()
    assert shown.count("background-color") == 2
    assert "✓ holds, ✗ does not hold, ≈ cannot be told apart" in shown
    both = pd.concat([judged, judged.assign(source="Table 3")])
    assert verdict_table(both).index.names == ["source", "pair"]
    told = count_verdicts(judged, "on 3 lesions")
    assert "On 3 lesions, of 3 orderings" in told
    assert "1 hold, 1 do not hold, and 1 cannot be told apart" in told


def test_a_record_that_is_not_there_is_said_to_be_missing(tmp_path):
    assert read_ablation("none", folder=tmp_path) is None
    assert "Nothing is recorded on MILK10k under the name `none`" in describe_record(None, "none")


def test_a_recorded_grid_is_read_back(lesions, cache_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("JIADF_CACHE", str(cache_dir))
    systems = json.dumps(load_grid("params/grids/paper.yaml").systems)
    base = json.dumps({k: v for k, v in KNOBS.items() if v is not None})
    file = tmp_path / "grid.yaml"
    file.write_text(f"base: {base}\nseeds: [0]\nsystems: {systems}\n")
    record_grid(load_grid(file), lesions, tmp_path / "runs", "tiny", n=9, results=tmp_path)
    everything = read_ablation("tiny", folder=tmp_path)
    assert len(everything.claims) == len(claims())
    assert everything.claims["verdict"].isin([HOLDS, FAILS, UNDECIDED]).all()
    assert everything.provenance["runs"] == 14
    assert "NaN" not in (tmp_path / "tiny.json").read_text()
    assert "110 lesions" in describe_record(everything, "tiny")
    for source, ablation in ABLATIONS.items():
        record = read_ablation("tiny", source, tmp_path)
        assert list(record.table["system"].unique()) == list(ablation.systems)
        assert set(record.claims["source"]) == {source}
        assert beside_paper(source, record.table).shape[1] == len(ablation.metrics)
        assert ablation.reference in record.gate_means().index
        assert record.gate_means().notna().any().all()
        flipped = record.differences(ablation.reference)
        assert (flipped["reference"] == ablation.reference).all()
        pairs = list(dict.fromkeys(flipped["system"]))
        assert pairs == [s for s in ablation.systems if s in pairs]
        first = flipped.iloc[0]
        own = record.claims.query("better == @ablation.reference and worse == @first.system")
        own = own.set_index("metric").loc[first["metric"]]
        assert first["difference"] == -own["difference"]
        assert (flipped["low"] <= flipped["high"]).all()
        plt.close(plots.paired_differences(flipped))


def test_a_grid_of_other_systems_is_recorded_with_differences_from_its_first(
    lesions, cache_dir, tmp_path, monkeypatch
):
    monkeypatch.setenv("JIADF_CACHE", str(cache_dir))
    base = json.dumps({k: v for k, v in KNOBS.items() if v is not None})
    file = tmp_path / "grid.yaml"
    file.write_text(
        f"base: {base}\nseeds: [0]\nsystems: {{ji-adf: {{}}, no gate: {{decision: average}}}}\n"
    )
    record_grid(load_grid(file), lesions, tmp_path / "runs", "tiny", n=9, results=tmp_path)
    record = read_ablation("tiny", folder=tmp_path)
    assert record.claims is None
    assert set(record.from_first["system"]) == {"no gate"}
    assert set(record.from_first["reference"]) == {"ji-adf"}
    assert {"macro_f1", "ece"} <= set(record.from_first["metric"])


MISSING = "{method: panderm, backbone: panderm_large, backbone_weights: none.pth}"


def test_a_system_without_its_weights_file_is_named_and_left_out_of_a_record(
    lesions, cache_dir, tmp_path, monkeypatch
):
    monkeypatch.setenv("JIADF_CACHE", str(cache_dir))
    base = json.dumps({k: v for k, v in KNOBS.items() if v is not None})
    file = tmp_path / "grid.yaml"

    def record(systems, write=record_grid, **options):
        file.write_text(f"base: {base}\nseeds: [0, 1]\nsystems: {systems}\n")
        made = load_grid(file)
        write(grid=made, lesions=lesions, folder=tmp_path / "runs", results=tmp_path, **options)

    record(f"{{panderm: {MISSING}, vemfl: {{method: vemfl}}, ji-adf: {{}}}}", name="tiny", n=9)
    recorded = read_ablation("tiny", folder=tmp_path)
    assert list(recorded.table["system"].unique()) == ["vemfl", "ji-adf"]
    assert set(recorded.from_first["reference"]) == {"ji-adf"}  # though it stands last
    assert list(recorded.provenance["systems"]) == ["vemfl", "ji-adf"]
    assert recorded.provenance["runs"] == 4
    assert set(recorded.provenance["not_run"]) == {"panderm"}
    assert "weights file none.pth does not exist" in recorded.provenance["not_run"]["panderm"]
    assert "NaN" not in (tmp_path / "tiny.json").read_text()
    record(f"{{panderm: {MISSING}, ji-adf: {{}}}}", record_study, topic="mechanisms", name="study")
    assert "panderm" in json.loads((tmp_path / "study.json").read_text())["not_run"]
    # Of any other failure, or where nothing is left, there is no record.
    (tmp_path / "broken.pth").write_text("no weights")
    broken = MISSING.replace("none.pth", str(tmp_path / "broken.pth"))
    with pytest.raises(SystemExit, match="runs that failed: 2"):
        record(f"{{broken: {broken}, ji-adf: {{}}}}", name="refused")
    with pytest.raises(SystemExit, match="no system was run"):
        record(f"{{panderm: {MISSING}}}", name="refused")
    assert not (tmp_path / "refused.json").exists()


def test_the_grid_of_choices_changes_one_thing_at_a_time():
    grid = load_grid("params/grids/choices.yaml")
    changed = {name: set(values) for name, values in grid.systems.items()}
    weights = {"lambda_joint", "lambda_image", "lambda_metadata"}
    assert next(iter(changed.items())) == ("ji-adf", set())
    assert all(len(names) == 1 or names == weights for names in list(changed.values())[1:])

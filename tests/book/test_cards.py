"""The cards hold what the records say, and say where they say nothing."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from jinja2 import UndefinedError

from book.build_cards import MISSING, TEMPLATES, Records, main, render
from jiadf.results import RESULTS_DIR, read_record, write_tables

ROOT = Path(__file__).parents[2]
CARDS = sorted(TEMPLATES.glob("*.md"))


def cards(folder):
    return {path.stem: render(path, Records(folder)) for path in CARDS}


def test_figures_are_those_of_the_record():
    page = cards(RESULTS_DIR)["model_card"]
    table = read_record("milk10k_frozen")[0]
    row = table.query(
        "system == 'JI-ADF' and part == 'out-of-fold' and metric == 'macro_auc' and label == 'mean'"
    ).iloc[0]
    assert f"| macro AUC | {row.value:.2f} ({row.low:.2f} to {row.high:.2f}) |" in page


def test_a_changed_record_changes_the_card(tmp_path):
    folder = shutil.copytree(RESULTS_DIR, tmp_path / "results")
    table = pd.read_csv(folder / "milk10k_frozen.csv")
    table["value"] = 0.123
    table.to_csv(folder / "milk10k_frozen.csv", index=False)
    assert "| macro AUC | 0.12 (" in cards(folder)["model_card"]


def test_without_records_nothing_is_told_but_that(tmp_path):
    for name, page in cards(tmp_path).items():
        assert MISSING in page, name
        assert not re.search(r"\bnan\b", page, re.I)
        assert "{{" not in page
    model = cards(tmp_path)["model_card"]
    section = model.split("## How well it does")[1].split("## Caveats")[0]
    figures = re.findall(r"\b\d\.\d\d\b", section)
    assert figures == []


def test_a_study_that_was_recorded_is_shown(tmp_path):
    scores = pd.DataFrame(
        [["ji-adf", "seeds", "chosen", "macro_f1_at_half", 0.456, 0.40, 0.51]],
        columns=["system", "variant", "mapping", "metric", "value", "low", "high"],
    )
    about = {"date": "2030-01-02", "git_commit": "abcdef0123", "lesions": 5}
    write_tables("milk10k_submission", {"scores": scores}, about, tmp_path)
    columns = ["attribute", "value", "lesions", "large_enough", "metric", "score", "low", "high"]
    groups = [["sex", "female", 1200, True, "AUC", 0.8, 0.7, 0.9]]
    groups.append(["age", "0 to 19", 3, False, "AUC", 0.8, 0.7, 0.9])
    slices = pd.DataFrame(groups, columns=columns)
    write_tables("milk10k_robustness", {"slices": slices}, about, tmp_path)
    page = cards(tmp_path)["model_card"]
    assert f"| seeds | {MISSING} | 0.46 (0.40 to 0.51) |" in page
    assert "| ensembles, views, cuts | `milk10k_submission` | 2030-01-02 | `abcdef01` |" in page
    assert "| sex | female | 1,200 | 0.80 (0.70 to 0.90) |" in page
    assert "| age | 0 to 19 | 3 | too small to tell |" in page


def test_two_rows_for_one_figure_are_no_figure(tmp_path):
    row = ["ji-adf", "seeds", "none", "macro_f1_at_half", 0.4, 0.3, 0.5]
    columns = ["system", "variant", "mapping", "metric", "value", "low", "high"]
    write_tables(
        "milk10k_submission", {"scores": pd.DataFrame([row, row], columns=columns)}, {}, tmp_path
    )
    assert Records(tmp_path).submission("seeds", "none") == MISSING


def test_a_template_that_asks_for_the_unknown_fails(tmp_path):
    (tmp_path / "x.md").write_text("{{ nobody }}")
    with pytest.raises(UndefinedError, match="nobody"):
        render(tmp_path / "x.md", Records())


def test_the_command_writes_both_pages_with_their_labels(tmp_path):
    main(["--out", str(tmp_path / "deep")])
    for name, label in (("model_card", "model-card"), ("data_card", "data-card")):
        page = (tmp_path / "deep" / f"{name}.md").read_text()
        assert page.startswith(f"({label})=\n# ")
        assert "Data on this page" in page


def test_tables_have_as_many_cells_in_each_row():
    for name, page in cards(RESULTS_DIR).items():
        for block in re.findall(r"(?:^\|.*\n)+", page, re.M):
            widths = {line.count("|") for line in block.splitlines()}
            assert len(widths) == 1, (name, block)


def test_no_figure_is_typed_into_a_template():
    for path in CARDS:
        text = re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "", path.read_text(), flags=re.S)
        assert re.findall(r"\d\.\d\d", text) == [], path.name
    assert json.loads((RESULTS_DIR / "milk10k_frozen.json").read_text())["lesions"] > 0

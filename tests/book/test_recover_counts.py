"""The class counts of the hidden test set follow from the paper's Table 5."""

import csv
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def recover_counts():
    path = ROOT / "book/recover_counts.py"
    spec = importlib.util.spec_from_file_location("recover_counts", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def counts(recover_counts):
    return recover_counts.recover(recover_counts.read_rates())


def rounded_rates(positives, true, false, lesions):
    missed, spared = positives - true, lesions - positives - false
    return {
        "sensitivity": round(true / positives, 3),
        "specificity": round(spared / (spared + false), 3),
        "accuracy": round((true + spared) / lesions, 3),
        "PPV": round(true / (true + false), 3) if true + false else 1.0,
        "NPV": round(spared / (spared + missed), 3),
        "Dice": round(2 * true / (2 * true + false + missed), 3),
    }


@pytest.mark.parametrize("solution", [(61, 55, 73), (10, 0, 0), (7, 0, 1), (117, 78, 25)])
def test_made_counts_are_found_again(recover_counts, solution):
    assert solution in recover_counts.consistent_counts(rounded_rates(*solution, lesions=479))


def test_rates_that_no_counts_give_have_no_solution(recover_counts):
    rates = rounded_rates(61, 55, 73, lesions=479)
    assert recover_counts.consistent_counts(rates | {"PPV": 0.9}) == []


def test_ten_classes_have_one_solution_and_df_takes_the_rest(recover_counts):
    rates = recover_counts.read_rates()
    number = {name: len(recover_counts.consistent_counts(rates[name])) for name in rates}
    assert number.pop("DF") > 1
    assert set(number.values()) == {1}


def test_recorded_table_is_what_the_script_finds(counts):
    with (ROOT / "book/results/hidden_test_counts.csv").open(newline="") as file:
        rows = {row["Class"]: row for row in csv.DictReader(file)}
    for name, (positives, true, false) in counts.items():
        recorded = (rows[name]["Test positives"], rows[name]["Predicted"], rows[name]["Hit"])
        assert recorded == (str(positives), str(true + false), str(true))


def test_the_page_shows_the_recorded_table():
    recorded = (ROOT / "book/results/hidden_test_counts.csv").read_text()
    assert recorded in (ROOT / "book/paper_and_book.md").read_text()


def test_numbers_in_the_prose(counts):
    """Each sentence of the page that draws a conclusion from the counts."""
    page = " ".join((ROOT / "book/paper_and_book.md").read_text().split())
    positives = {name: solution[0] for name, solution in counts.items()}
    predicted = sum(true + false for _, true, false in counts.values())
    hits = sum(true for _, true, _ in counts.values())
    assert sum(positives.values()) == 479
    assert f"The predictions sum to {predicted}" in page
    assert f"{hits} of 479, or {100 * hits / 479:.1f} %" in page
    rare = [positives[name] for name in ("BEN_OTH", "DF", "INF", "MAL_OTH", "VASC")]
    assert "five to eleven of each rare class" in page
    assert (min(rare), max(rare)) == (5, 11)

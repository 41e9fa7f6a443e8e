"""Recover the hidden test set's class counts from the rounded rates of the paper's Table 5.

The table gives, for each class, sensitivity, specificity, accuracy, PPV, NPV and Dice with three
decimals on 479 lesions. Few whole numbers of positives, true positives and false positives agree
with all six at once; this script searches them all. DF, where every rate is 1, allows any number
of positives; it is fixed by the total. 0/0 counts as 1, as in the benchmark's scorer.

Usage: ``python book/recover_counts.py`` (rewrites ``book/results/hidden_test_counts.csv``)
"""

import csv
from pathlib import Path

from jiadf.data.schema import PAPER_FULL_COUNTS
from jiadf.evaluation.paper import paper_table

OUT = Path(__file__).parent / "results" / "hidden_test_counts.csv"
LESIONS = 479
HALF_DIGIT = 0.0005 + 1e-9

Counts = tuple[int, int, int]


def _ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else 1.0


def consistent_counts(rates: dict[str, float], lesions: int = LESIONS) -> list[Counts]:
    """List all (positives, true positives, false positives) that round to ``rates``.

    ``rates`` has the keys sensitivity, specificity, accuracy, PPV, NPV and Dice.
    """

    def agrees(value: float, name: str) -> bool:
        return abs(value - rates[name]) <= HALF_DIGIT

    found = []
    for positives in range(1, lesions):
        negatives = lesions - positives
        hits = [n for n in range(positives + 1) if agrees(n / positives, "sensitivity")]
        alarms = [n for n in range(negatives + 1) if agrees(1 - n / negatives, "specificity")]
        for true in hits:
            for false in alarms:
                missed, spared = positives - true, negatives - false
                if (
                    agrees((true + spared) / lesions, "accuracy")
                    and agrees(_ratio(true, true + false), "PPV")
                    and agrees(_ratio(spared, spared + missed), "NPV")
                    and agrees(_ratio(2 * true, 2 * true + false + missed), "Dice")
                ):
                    found.append((positives, true, false))
    return found


def read_rates() -> dict[str, dict[str, float]]:
    """Read the paper's Table 5 as class -> metric -> value."""
    table = paper_table(5).drop(columns="mean")
    return {name: table[name].to_dict() for name in table}


def recover(table: dict[str, dict[str, float]]) -> dict[str, Counts]:
    """Return the counts of every class.

    Raises
    ------
    ValueError
        If a class other than DF has no or several solutions, or the rest for DF is impossible.
    """
    counts: dict[str, Counts] = {}
    for name, rates in table.items():
        found = consistent_counts(rates)
        if name == "DF":
            candidates = found
        elif len(found) == 1:
            counts[name] = found[0]
        else:
            raise ValueError(f"{name}: {len(found)} solutions, expected one")
    rest = LESIONS - sum(positives for positives, _, _ in counts.values())
    matching = [solution for solution in candidates if solution[0] == rest]
    if len(matching) != 1:
        raise ValueError(f"DF: {rest} positives are left, which the table does not allow")
    counts["DF"] = matching[0]
    return {name: counts[name] for name in table}


def main() -> None:
    """Write a row a class and the total."""
    counts = recover(read_rates())
    training_total = sum(PAPER_FULL_COUNTS.values())
    head = (
        "Class",
        "Training lesions",
        "Training %",
        "Test positives",
        "Test %",
        "Predicted",
        "Hit",
    )
    rows = [
        (
            name,
            PAPER_FULL_COUNTS[name],
            f"{100 * PAPER_FULL_COUNTS[name] / training_total:.1f}",
            positives,
            f"{100 * positives / LESIONS:.1f}",
            true + false,
            true,
        )
        for name, (positives, true, false) in counts.items()
    ]
    totals = [sum(row[i] for row in rows) for i in (1, 3, 5, 6)]
    rows.append(("Total", totals[0], "100.0", totals[1], "100.0", totals[2], totals[3]))
    with OUT.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([head, *rows])


if __name__ == "__main__":
    main()

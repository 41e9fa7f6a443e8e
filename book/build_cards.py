"""Write the model card and the data card from their templates and the recorded results.

The templates in ``book/cards`` are MyST pages with Jinja's ``{{ … }}`` wherever a figure stands.
A figure is looked up in ``book/results`` at every build; one whose record, table or row is not
there says "not recorded", so that a card never holds a number that nobody measured.

Usage: ``python book/build_cards.py --out FOLDER``
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, StrictUndefined

from jiadf.data.schema import CLASS_NAMES, PAPER_FULL_COUNTS
from jiadf.results import RESULTS_DIR, describe_provenance, read_record, read_tables

TEMPLATES = Path(__file__).parent / "cards"
MISSING = "not recorded"
HEADLINE = {
    "macro_f1": "macro-F1",
    "macro_f1_at_half": "macro-F1 at 0.5",
    "macro_auc": "macro AUC",
    "macro_ap": "macro average precision",
    "ece": "calibration error",
}
STUDIES = {
    "milk10k_calibration": "calibration, selective prediction, operating points",
    "milk10k_robustness": "missing and damaged inputs, groups, shortcuts",
    "milk10k_submission": "ensembles, views, cuts",
}


class Records:
    """Look figures up; every method returns text, :data:`MISSING` where there is none.

    Parameters
    ----------
    folder
        The folder of records.
    """

    def __init__(self, folder: Path = RESULTS_DIR) -> None:
        self.folder = folder

    def _told(self, look: Callable[[], str]) -> str:
        try:
            return look()
        except (FileNotFoundError, KeyError, IndexError, TypeError, ValueError, AttributeError):
            return MISSING

    def _rows(self, record: str, table: str | None = None, **keys: Any) -> pd.DataFrame:
        found = read_record(record, self.folder)[0] if table is None else None
        if table is not None:
            found = read_tables(record, self.folder)[0][table]  # type: ignore[index]
        for column, value in keys.items():
            found = found[found[column] == value]
        return found

    def _about(self, record: str) -> dict[str, Any]:
        return pd.read_json(self.folder / f"{record}.json", typ="series").to_dict()

    def _value(self, rows: pd.DataFrame) -> str:
        row = rows.iloc[0]
        if len(rows) != 1 or pd.isna(row["value"]):
            raise KeyError("not one figure")
        if "low" not in row or pd.isna(row["low"]):
            return f"{row['value']:.2f}"
        return f"{row['value']:.2f} ({row['low']:.2f} to {row['high']:.2f})"

    def interval(self, record: str, metric: str, **keys: Any) -> str:
        """Return a figure with its interval."""
        return self._told(lambda: self._value(self._rows(record, metric=metric, **keys)))

    def by_class(self, metric: str, code: str) -> str:
        """Return one metric of one class, JI-ADF out of fold."""
        keys = {"system": "JI-ADF", "part": "out-of-fold", "label": code}
        return self.interval("milk10k_frozen", metric, **keys)

    def count(self, code: str) -> str:
        """Return the lesions of a class in the record."""

        def look() -> str:
            keys = {"system": "JI-ADF", "part": "out-of-fold", "label": code}
            return f"{int(self._rows('milk10k_frozen', metric='AUC', **keys)['lesions'].iloc[0]):,}"

        return self._told(look)

    def test_count(self, code: str) -> str:
        """Return the lesions of a class in the hidden test set, as recovered."""

        def look() -> str:
            table = pd.read_csv(self.folder / "hidden_test_counts.csv", index_col="Class")
            return f"{int(table.loc[code, 'Test positives']):,}"

        return self._told(look)

    def floor(self, metric: str) -> str:
        """Return the best linear classifier's figure."""

        def look() -> str:
            rows = self._rows("milk10k_frozen", metric=metric, part="out-of-fold", label="mean")
            rows = rows[rows["system"].str.startswith("linear")]
            best = rows["value"].idxmin() if metric == "ece" else rows["value"].idxmax()
            return f"{self._value(rows.loc[[best]])}, {rows.loc[best, 'system']}"

        return self._told(look)

    def submission(self, variant: str, mapping: str) -> str:
        """Return macro-F1 at 0.5 of a variant of `ji-adf`."""
        keys = {"system": "ji-adf", "variant": variant, "mapping": mapping}
        keys |= {"metric": "macro_f1_at_half"}
        look = lambda: self._value(self._rows("milk10k_submission", "scores", **keys))  # noqa: E731
        return self._told(look)

    def cost(self, numbers: str) -> str:
        """Return the ECE of the posterior or of the moved numbers."""
        keys = {"system": "ji-adf", "numbers": numbers, "metric": "ece"}
        look = lambda: self._value(self._rows("milk10k_submission", "calibration", **keys))  # noqa: E731
        return self._told(look)

    def slices(self) -> str:
        """Return a table of groups, or that there is none."""

        def look() -> str:
            rows = self._rows("milk10k_robustness", "slices")
            rows = rows[rows["metric"] == rows["metric"].iloc[0]]
            name = rows["metric"].iloc[0].replace("_", " ")
            lines = [f"| Attribute | Group | Lesions | {name[0].upper()}{name[1:]} |"]
            lines.append("|---|---|---|---|")
            for row in rows.itertuples():
                told = f"{row.score:.2f} ({row.low:.2f} to {row.high:.2f})"
                if not row.large_enough or pd.isna(row.score):
                    told = "too small to tell"
                lines.append(f"| {row.attribute} | {row.value} | {int(row.lesions):,} | {told} |")
            return "\n".join(lines)

        text = self._told(look)
        return f"Groups: {text}." if text == MISSING else text

    def studies(self) -> str:
        """Return a table of the studies with the date and commit of each record."""
        lines = ["| Study | Record | Measured | Commit |", "|---|---|---|---|"]
        for record, what in STUDIES.items():
            lines.append(f"| {what} | `{record}` | {self.date(record)} | `{self.commit(record)}` |")
        return "\n".join(lines).replace(f"`{MISSING}`", MISSING)

    def setting(self, name: str) -> str:
        """Return a parameter of the recorded run."""
        return self._told(lambda: f"{self._about('milk10k_frozen')['parameters'][name]}")

    def lesions(self, record: str) -> str:
        """Return how many lesions a record is about."""
        return self._told(lambda: f"{self._about(record)['lesions']:,}")

    def seeds(self, record: str) -> str:
        """Return how many seeds it has."""
        return self._told(lambda: f"{len(self._about(record)['seeds'])}")

    def date(self, record: str) -> str:
        """Return when it was measured."""
        return self._told(lambda: f"{self._about(record)['date']}"[:10])

    def commit(self, record: str) -> str:
        """Return the commit that measured it."""
        return self._told(lambda: self._about(record)["git_commit"][:8])

    def fingerprint(self, record: str) -> str:
        """Return the beginning of the data's fingerprint."""
        return self._told(lambda: self._about(record)["data"]["table"][:8])

    def provenance(self, record: str) -> str:
        """Return the sentence that pages show."""
        text = self._told(lambda: describe_provenance(self._about(record)))
        return f"`{record}`: {text}." if text == MISSING else text


def render(template: Path, records: Records) -> str:
    """Return a card's MyST source.

    Raises
    ------
    jinja2.UndefinedError
        If the template asks for what nobody offers.
    """
    looked_up = {n: getattr(records, n) for n in dir(records) if not n.startswith("_")}
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(template.read_text(encoding="utf-8")).render(
        looked_up,
        classes=CLASS_NAMES,
        full=PAPER_FULL_COUNTS,
        headline=HEADLINE,
        missing=MISSING,
    )


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the cards."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write the pages to")
    parser.add_argument("--results", type=Path, default=RESULTS_DIR, help="folder of records")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for template in sorted(TEMPLATES.glob("*.md")):
        page = render(template, Records(options.results))
        (options.out / template.name).write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()

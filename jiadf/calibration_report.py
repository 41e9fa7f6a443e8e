"""Words and small tables from the tables of :mod:`jiadf.studies.calibration`.

The page on calibration says the same things of its own runs and of those recorded on MILK10k: these
functions take either, and every figure in a sentence is computed from the tables.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from jiadf.studies.calibration import PAPER_ECE

Tables = Mapping[str, pd.DataFrame]
_RULES = {
    "half": "cut at 0.5",
    "reached": "95 % on validation",
    "assured": "95 %, assured",
}


def named_errors(tables: Tables, rows: Mapping[str, tuple[str, str, str]]) -> pd.DataFrame:
    """Pick rows of ``errors`` by (system, source, method), with a `name` each."""
    return _named(tables["errors"], rows)


def named_reliability(
    tables: Tables, rows: Mapping[str, tuple[str, str, str]], scheme: str = "width"
) -> pd.DataFrame:
    """Pick diagrams of ``reliability``, with a `title` each."""
    table = tables["reliability"]
    return _named(table[table["scheme"] == scheme], rows).rename(columns={"name": "title"})


def named_classes(tables: Tables, rows: Mapping[str, tuple[str, str, str]]) -> pd.DataFrame:
    """Pick rows of ``classes``, with a `title` each."""
    return _named(tables["classes"], rows).rename(columns={"name": "title"})


def _named(table: pd.DataFrame, rows: Mapping[str, tuple[str, str, str]]) -> pd.DataFrame:
    parts = []
    for name, (system, source, method) in rows.items():
        chosen = (table["system"] == system) & (table["source"] == source)
        parts.append(table[chosen & (table["method"] == method)].assign(name=name))
    return pd.concat(parts, ignore_index=True)


def named_differences(tables: Tables, question: str, system: str | None = None) -> pd.DataFrame:
    """Pick the differences that answer a question, named by what is compared."""
    table = tables["differences"]
    table = table[table["question"] == question]
    if system is not None:
        table = table[table["system"] == system]
    return table.assign(name=[_pair(row) for row in table.itertuples()])


def _pair(row) -> str:
    if row.question == "recalibration":
        return row.method
    if row.reference_system == row.system:
        return f"fused − {row.reference_source}"
    fitted = "" if row.method == "none" else f", {row.method}"
    return f"{row.system} − {row.reference_system}{fitted}"


def named_operating(tables: Tables, system: str = "ji-adf") -> pd.DataFrame:
    """Pick the operating points of one system, named by definition and rule."""
    table = tables["operating"]
    table = table[table["system"] == system]
    return table.assign(name=table["malignant"] + ", " + table["rule"].map(_RULES))


def named_risk(tables: Tables) -> pd.DataFrame:
    """Name the risk-coverage curves by system and method."""
    table = tables["risk"]
    return table.assign(name=table["system"] + ", " + table["method"])


def coverage_words(tables: Tables, kinds=("marginal", "marginal, cumulative")) -> pd.DataFrame:
    """Lay ji-adf's ``coverage_summary`` out as text, a row a kind and promise."""
    table = tables["coverage_summary"]
    table = table[(table["system"] == "ji-adf") & table["kind"].isin(kinds)]
    return pd.DataFrame(
        {
            "sets": table["kind"],
            "promised": (1 - table["alpha"]).map("{:.0%}".format),
            "measured": table["coverage"].map("{:.1%}".format),
            "95 % if the promise holds": [
                f"{low:.1%} to {high:.1%}"
                for low, high in zip(table["low"], table["high"], strict=True)
            ],
            "runs inside, beta-binomial": table["inside"].astype(str)
            + " of "
            + table["runs"].astype(str),
            "runs inside, binomial": table["inside_binomial"].astype(str)
            + " of "
            + table["runs"].astype(str),
            "classes in a set": table["mean_size"].map("{:.1f}".format),
            "one class": table["single"].map("{:.0%}".format),
            "empty": table["empty"].map("{:.0%}".format),
        }
    ).set_index(["sets", "promised"])


def shift_words(tables: Tables) -> pd.DataFrame:
    """Lay ``shift`` out as text: ECE and NLL of each method under both class mixes."""
    table = tables["shift"]
    table = table[table["metric"].isin(["ece", "nll"])]
    cells = [f"{row.value:.2f} ({row.low:.2f} to {row.high:.2f})" for row in table.itertuples()]
    table = table.assign(cell=cells, metric=table["metric"].str.upper())
    wide = table.pivot(index=["system", "method"], columns=["metric", "mix"], values="cell")
    order = table[["system", "method"]].drop_duplicates()
    return wide.reindex(pd.MultiIndex.from_frame(order)).sort_index(axis="columns")


def cell(tables: Tables, key: tuple[str, str, str], metric: str) -> pd.Series:
    """Return one row of ``errors``."""
    rows = named_errors(tables, {"it": key})
    return rows[rows["metric"] == metric].iloc[0]


def difference(tables: Tables, key: tuple, reference: tuple, metric: str) -> pd.Series:
    """Return one row of ``differences``; keys are (system, source, method)."""
    table = tables["differences"]
    chosen = table["metric"] == metric
    for prefix, values in (("", key), ("reference_", reference)):
        for column, value in zip(("system", "source", "method"), values, strict=True):
            chosen &= table[prefix + column] == value
    return table[chosen].iloc[0]


def _change(row: pd.Series, what: str) -> str:
    value = f"{row.difference:+.3f} ({row.low:+.3f} to {row.high:+.3f})".replace("-", "−")
    if row.low <= 0 <= row.high:
        return f"leaves {what} where it was, as far as these lesions tell: {value}"
    return f"{'lowers' if row.difference < 0 else 'raises'} {what}: {value}"


def sentences(tables: Tables) -> list[str]:
    """Answer the page's questions, a sentence each."""
    ours, joint = ("ji-adf", "fused", "none"), ("ji-adf", "joint", "none")
    warm = ("ji-adf", "fused", "temperature")
    fixed, plain = ("ji-mmfa", "fused", "none"), ("unweighted", "fused", "none")
    ece, debiased = cell(tables, ours, "ece"), cell(tables, ours, "rms_debiased")
    gap = cell(tables, ours, "overconfidence")
    after = cell(tables, warm, "ece")
    told = [
        f"**Calibration.** As trained, ji-adf's fused ECE is {ece.value:.3f} on "
        f"{ece.lesions:,} lesions, where a perfectly calibrated system would score "
        f"{ece.perfect_low:.3f} to {ece.perfect_high:.3f}; its debiased RMS error is "
        f"{debiased.value:.3f} ({debiased.low:.3f} to {debiased.high:.3f}). Confidence less "
        f"accuracy is {_signed(gap)}: it is {_leaning(gap)}."
    ]
    best = min(
        ("temperature", "vector", "dirichlet", "isotonic"),
        key=lambda m: cell(tables, ("ji-adf", "fused", m), "nll").value,
    )
    told.append(
        f"**Recalibration**, fitted on validation folds: temperature "
        f"{_change(difference(tables, warm, ours, 'nll'), 'the NLL')}, and brings the ECE to "
        f"{after.value:.3f}. The smallest NLL is that of {best}, which "
        f"{_change(difference(tables, ('ji-adf', 'fused', best), ours, 'nll'), 'it')}. Vector "
        f"scaling also changes decisions, in favour of the frequent classes: the share of lesions "
        f"whose most probable class is wrong goes from {_wrong(tables, 'none')} to "
        f"{_wrong(tables, 'vector')}."
    )
    told.append(
        f"**The gate.** Against its joint branch, the fused decision "
        f"{_change(difference(tables, ours, joint, 'ece'), 'the ECE')}; against ji-mmfa's fixed "
        f"average, it {_change(difference(tables, ours, fixed, 'ece'), 'the ECE')} and "
        f"{_change(difference(tables, ours, fixed, 'nll'), 'the NLL')}. With a temperature each, "
        "the gate "
        + _change(difference(tables, warm, ("ji-mmfa", "fused", "temperature"), "nll"), "the NLL")
        + "."
    )
    vectors = ("ji-adf", "fused", "vector"), ("unweighted", "fused", "vector")
    told.append(
        f"**Class weights.** Training with balanced class weights, against none, "
        f"{_change(difference(tables, ours, plain, 'nll'), 'the NLL')} and "
        f"{_change(difference(tables, ours, plain, 'classwise_ece'), 'the class-wise ECE')}; "
        f"after vector scaling of both, they {_change_plural(difference(tables, *vectors, 'nll'))}."
    )
    told.append(paper_sentence(tables["plausible"]))
    told.extend(_decision_sentences(tables))
    return told


def _wrong(tables: Tables, method: str) -> str:
    return f"{tables['selective'].set_index(['system', 'method']).loc['ji-adf', method].random:.0%}"


def _change_plural(row: pd.Series) -> str:
    told = _change(row, "it")
    for word in ("leave", "lower", "raise"):
        told = told.replace(f"{word}s", word, 1)
    return told


def _signed(row: pd.Series) -> str:
    return f"{row.value:+.3f} ({row.low:+.3f} to {row.high:+.3f})".replace("-", "−")


def _leaning(row: pd.Series) -> str:
    if row.low <= 0 <= row.high:
        return "neither over- nor under-confident on average"
    return "over-confident" if row.value > 0 else "under-confident"


def paper_sentence(plausible: pd.DataFrame) -> str:
    """Say how likely the printed ECE is for a perfectly calibrated system, by size and bins."""
    perfect = plausible[plausible["true_error"] == plausible["true_error"].min()]
    parts = []
    for size, rows in perfect.groupby("size"):
        chances = rows.set_index("bins")["at_most_paper"]
        listed = ", ".join(f"{_percent(chance)} with {bins}" for bins, chance in chances.items())
        parts.append(f"of samples of {size:,} lesions, {listed} bins")
    open_to = plausible[plausible["at_most_paper"] >= 0.05].groupby("size")["true_error"].max()
    worst = ", ".join(f"{error:.2f} on {size:,} lesions" for size, error in open_to.items())
    verdict = (
        f"Nor does it exclude a true error of up to {worst}, at one of these binnings, at the "
        "level of one sample in twenty."
        if len(open_to)
        else "Fewer than one in twenty of any of these samples are so low: it would take luck, "
        "other bins, or confidences nearer 0 or 1."
    )
    return (
        f"**The paper's ECE of {PAPER_ECE}.** It states neither bins nor lesions. A *perfectly* "
        f"calibrated system with the confidences found here would be measured at or below it in "
        f"these shares: {'; '.join(parts)}. {verdict}"
    )


def _percent(chance: float) -> str:
    return "under 1 %" if chance < 0.01 else f"{100 * chance:.0f} %"


def _decision_sentences(tables: Tables) -> list[str]:
    selective = tables["selective"].set_index(["system", "method"]).loc[("ji-adf", "none")]
    risk = tables["risk"]
    risk = risk[(risk["system"] == "ji-adf") & (risk["method"] == "none")].set_index("coverage")
    half = risk.iloc[(abs(risk.index - 0.5)).argmin()]
    summary = tables["coverage_summary"]
    chosen = summary[(summary["system"] == "ji-adf") & (summary["alpha"] == 0.1)].set_index("kind")
    marginal, by_class = chosen.loc["marginal"], chosen.loc["by class"]
    halves = tables["halves"].set_index("fold").loc["all"]
    classes = tables["coverage_by_class"]
    worst = classes[classes["kind"] == "marginal"].dropna(subset="coverage")
    worst = worst.loc[worst["coverage"].idxmin()]
    unbounded = classes[(classes["kind"] == "by class") & (classes["bounded"] < 1)]["label"]
    points = tables["operating"].set_index(["malignant", "system", "rule"])
    told = [
        f"**Leaving cases.** Deciding only the more confident half leaves an error of "
        f"{half.risk:.0%} instead of {selective.random:.0%}; AURC {selective.aurc:.3f} "
        f"({selective.low:.3f} to {selective.high:.3f}), {selective.best:.3f} at best with as many "
        "errors.",
        f"**Sets.** Promised 90 %, marginal sets cover {marginal.coverage:.1%} with "
        f"{marginal.mean_size:.1f} classes a set, and {marginal.inside:.0f} of "
        f"{marginal.runs:.0f} runs lie in their 95 % beta-binomial interval; all folds together "
        f"should cover {marginal.low:.1%} to {marginal.high:.1%}. Runs of one fold share its "
        "lesions, so they are not independent draws. The worst class is "
        f"{worst.label}, {worst.coverage:.0%} of {worst.lesions:,.0f}. Thresholds by class cost "
        f"{by_class.mean_size:.1f} classes a set"
        + (
            f", as {', '.join(unbounded)} had too few calibration lesions in some run and are then "
            "in every set."
            if len(unbounded)
            else "."
        ),
        f"**Was the validation fold too kind?** It chose the epoch. Thresholds from it cover "
        f"{halves.validation:.1%}, those from half of the test fold {halves.half:.1%}: a "
        f"difference of {100 * halves.difference:+.1f} points ({100 * halves.low:+.1f} to "
        f"{100 * halves.high:+.1f} over folds). The same lesions, as validation less as test "
        f"lesions: ECE {_gap(tables, 'ece')}, NLL {_gap(tables, 'nll')}.".replace("-", "−"),
    ]
    for definition in ("without AKIEC", "with AKIEC"):
        if (definition, "ji-adf", "reached") in points.index:
            reached = points.loc[(definition, "ji-adf", "reached")]
            assured = points.loc[(definition, "ji-adf", "assured")]
            told.append(
                f"**Malignancy, {definition}.** The threshold for 95 % on validation has "
                f"{_share(reached, 'sensitivity')} sensitivity on test lesions and "
                f"{_share(reached, 'specificity')} specificity; the assured one "
                f"{_share(assured, 'sensitivity')} and {_share(assured, 'specificity')}."
            )
    return told


def _gap(tables: Tables, metric: str) -> str:
    row = tables["optimism"].set_index("metric").loc[metric]
    return f"{row.difference:+.3f} ({row.low:+.3f} to {row.high:+.3f})"


def _share(row: pd.Series, name: str) -> str:
    return f"{row[name]:.1%} ({row[f'{name}_low']:.1%} to {row[f'{name}_high']:.1%})"

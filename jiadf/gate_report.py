"""Sentences of the page on the gate, from the tables of :mod:`jiadf.studies.gate`.

The page says the same things of its own runs and of those recorded on MILK10k: these functions take
either, and every figure in a sentence is computed.
"""

from __future__ import annotations

import pandas as pd

from jiadf.gate_tables import Tables, measures, plus
from jiadf.openness import COLLAPSED, OPEN
from jiadf.reaction import HELD, INTACT, judge_gate, say_comparison, say_gate
from jiadf.studies.gate import AVERAGE, CHOSEN, GATE
from jiadf.verdicts import (
    FAILS,
    HOLDS,
    METRIC_NAMES,
    UNDECIDED,
    decimals,
    listed,
    verdict,
)

JUDGED = ("macro_f1", "macro_ap", "ece", "nll")
_CALLED = {GATE: "the paper's gate", AVERAGE: "the fixed average"}


def _interval(row, value: str = "difference") -> str:
    places = decimals(row.low, row.high)
    number = getattr(row, value)
    told = f"{number:+.{places}f} ({row.low:+.{places}f} to {row.high:+.{places}f})"
    return told.replace("-", "−")


def say_collapse(tables: Tables, system: str = GATE) -> str:
    """Say whether a gate collapses, in numbers."""
    runs = tables["collapse"].set_index("system").loc[system]
    joint, entropy = (measures(tables, m).loc[system] for m in ("weight joint", "entropy"))
    nearly, fully = (int(runs[f"above {limit:g}"]) for limit in COLLAPSED)
    word = "does not collapse"
    if nearly * 2 > runs["runs"]:
        word = "collapses onto the joint branch"
        word += "" if fully * 2 > runs["runs"] else f", though seldom beyond {COLLAPSED[1]:g}"
    lesions = measures(tables, f"above {COLLAPSED[0]:g}").loc[system]
    several = (
        f" (from {runs['least']:.2f} to {runs['greatest']:.2f} over {int(runs['runs'])} runs): "
        f"above {COLLAPSED[0]:g} in {nearly} of them, above {COLLAPSED[1]:g} in {fully}, and above"
    )
    return (
        f"{system}'s gate {word}. The joint branch has {joint.value:.2f} of the weight"
        f"{several if runs['runs'] > 1 else ' in the one run, and above'} "
        f"{COLLAPSED[0]:g} for {lesions.value:.0%} of the lesions. The entropy of the weights is "
        f"{entropy.value:.2f} of the largest possible."
    )


def opened(tables: Tables) -> list[str]:
    """Names of the gates that are open, the most open first."""
    entropy = measures(tables, "entropy").query("gate").sort_values("value", ascending=False)
    return list(entropy.index[entropy["value"] >= OPEN])


def say_open(tables: Tables) -> str:
    """Say which gates are open and which are not, by the entropy of their weights."""
    entropy = measures(tables, "entropy").query("gate")["value"].sort_values(ascending=False)
    is_open = entropy.index.isin(opened(tables))

    def told(part: pd.Series) -> str:
        return listed([f"{name} ({value:.2f})" for name, value in part.items()])

    first = told(entropy[is_open]) if is_open.any() else "none"
    rest = f"; not open: {told(entropy[~is_open])}" if not is_open.all() else ""
    return f"Open, with an entropy of at least {OPEN:g} of the largest possible: {first}{rest}."


def say_choice(tables: Tables) -> str:
    """Say which system is ``ji-adf+`` and how it was chosen."""
    choice, chosen = tables["choice"], plus(tables)
    every = choice[choice["fold"] == "all"].set_index("system")["nll"]
    gates = choice[(choice["fold"] == "all") & choice["gate"]].set_index("system")["nll"]
    second = gates.drop(chosen).sort_values()
    folds = choice[choice["fold"] != "all"]
    times = int((folds["chosen"] & (folds["system"] == chosen)).sum())
    beside = f" The fixed average has {every[AVERAGE]:.3f} there." if AVERAGE in every else ""
    return (
        f"ji-adf+ is {chosen}: of the gates it has the smallest negative log-likelihood on the "
        f"validation lesions, {every[chosen]:.3f}, before {second.index[0]} with "
        f"{second.iloc[0]:.3f} and {GATE} with {every[GATE]:.3f}. Chosen anew in each fold, on "
        f"its own validation lesions, it is the same in {times} of {folds['fold'].nunique()}."
        + beside
    )


def say_worth(tables: Tables, system: str, reference: str) -> str:
    """Say in which of :data:`JUDGED` a system stands above or below another one."""
    table = tables["differences"]
    rows = table[(table["system"] == system) & (table["reference"] == reference)]
    rows = rows.set_index("metric")
    parts: dict[str, list[str]] = {HOLDS: [], FAILS: [], UNDECIDED: []}
    for metric in JUDGED:
        name = METRIC_NAMES[metric]
        found = verdict(table, system, reference, metric)
        told = name if found == UNDECIDED else f"{name} {_interval(rows.loc[metric])}"
        parts[found].append(told)
    words = {HOLDS: "better in", FAILS: "worse in", UNDECIDED: "not told apart in"}
    said = [f"{words[found]} {listed(told)}" for found, told in parts.items() if told]
    return f"{system} against {reference}: {'; '.join(said)}."


def say_open_worth(tables: Tables, reference: str) -> str:
    """Count the open gates that stand above or below a system, metric by metric."""
    names = [name for name in opened(tables) if name != reference]
    if not names:
        return f"No gate is open, so none can be set against {reference}."
    told = []
    for metric in JUDGED:
        found = [verdict(tables["differences"], name, reference, metric) for name in names]
        told.append(
            f"{METRIC_NAMES[metric]} {found.count(HOLDS)} better, {found.count(FAILS)} worse"
        )
    return f"Of {len(names)} open gates, against {reference}: {'; '.join(told)}."


def say_reactions(tables: Tables) -> list[str]:
    """Say what the paper's gate and the chosen one make of damage."""
    judged = judge_gate(tables["reaction"])
    return [say_gate(judged, name) for name in dict.fromkeys([GATE, plus(tables)])]


def say_damage(tables: Tables) -> list[str]:
    """Say what their reaction is worth, against the fixed average and against none."""
    told = []
    for name in dict.fromkeys([GATE, plus(tables)]):
        told.append(say_comparison(tables["comparisons"], name, AVERAGE, "nll"))
        if f"{name}{HELD}" in set(tables["comparisons"]["reference"]):
            told.append(say_comparison(tables["comparisons"], name, f"{name}{HELD}", "nll"))
    table = tables["comparisons"]
    rows = table[(table["metric"] == "nll") & (table["reference"] == AVERAGE)]
    rows = rows[(rows["kind"] != INTACT) & (rows["p_holm"] < 0.05) & (rows["difference"] < 0)]
    below = rows.groupby("system", sort=False)["name"].agg(lambda names: listed(list(names)))
    cases = listed([f"{name} ({what})" for name, what in below.items()]) if len(below) else "none"
    told.append(f"Gates with a smaller negative log-likelihood than the fixed average: {cases}.")
    return told


def say_posthoc(tables: Tables, system: str = AVERAGE) -> str:
    """Say what weights fitted on other lesions gain over the fixed average of the same branches."""
    gains = tables["gains"][tables["gains"]["system"] == system]
    gains = gains.set_index(["method", "reference", "metric"])
    value = tables["posthoc"].set_index(["system", "method", "metric"])["value"][system]

    def gain(method: str, reference: str, metric: str) -> str:
        row = gains.loc[(method, reference, metric)]
        return _interval(row) + ("" if row.p_holm < 0.05 else ", within chance")

    best, plain = "gate + temperatures", "weights + temperatures"
    return (
        f"The branches of {system}, mixed by weights that were fitted on each run's validation "
        f"lesions, against their plain average, in the negative log-likelihood: fixed weights "
        f"{gain('weights', 'average', 'nll')}; with a temperature a branch "
        f"{gain(plain, 'average', 'nll')}; a gate with temperatures "
        f"{gain(best, 'average', 'nll')}. In macro F1 that gate gives "
        f"{gain(best, 'average', 'macro_f1')}. What depends on the lesion, against the same "
        f"without it: negative log-likelihood {gain(best, plain, 'nll')}; top-1 accuracy "
        f"{gain(best, plain, 'top1_accuracy')}. An oracle that picks the branch most right for "
        f"each lesion would have a negative log-likelihood of {value['oracle', 'nll']:.2f}, not "
        f"{value['average', 'nll']:.2f}, and a top-1 accuracy of "
        f"{value['oracle', 'top1_accuracy']:.2f}, not {value['average', 'top1_accuracy']:.2f}."
    )


def say_verdict(tables: Tables) -> str:
    """Give the verdict in one sentence: is the gate open, can it be, and is that worth anything."""
    chosen, names = plus(tables), opened(tables)
    entropy = measures(tables, "entropy").loc[GATE].value
    others = [name for name in measures(tables, "entropy").query("gate").index if name != GATE]
    kept = len([name for name in names if name != GATE])
    told = [f"the paper's gate is {'open' if GATE in names else 'closed'} (entropy {entropy:.2f})"]
    told.append(f"{kept} of {len(others)} other gates are open")
    for reference in (GATE, AVERAGE):
        if chosen != reference:
            found = [verdict(tables["differences"], chosen, reference, m) for m in JUDGED]
            told.append(
                f"ji-adf+ ({chosen}) is better than {_CALLED[reference]} in {found.count(HOLDS)} "
                f"and worse in {found.count(FAILS)} of {len(JUDGED)} scores"
            )
    return f"In short: {'; '.join(told)}."


def sentences(tables: Tables) -> list[str]:
    """Give the verdict on the gate, a sentence or two each; as far as the tables go."""
    chosen = plus(tables)
    told = [f"**Collapse.** {say_collapse(tables)}"]
    if (tables["openness"]["gate"] & (tables["openness"]["system"] != GATE)).any():
        told.insert(0, f"**Verdict.** {say_verdict(tables)}")
        told += [f"**Kept open.** {say_open(tables)}", f"**The choice.** {say_choice(tables)}"]
    for reference in (GATE, AVERAGE):
        systems = [n for n in (chosen, CHOSEN) if n in set(tables["scores"]["system"])]
        said = [say_worth(tables, name, reference) for name in systems if name != reference]
        if said and chosen != GATE:
            said.append(say_open_worth(tables, reference))
        if said:
            told.append(f"**Worth, against {_CALLED[reference]}.** {' '.join(said)}")
    if "reaction" in tables:
        told.append(f"**Damage.** {' '.join(say_reactions(tables))}")
        told.append(f"**What the reaction is worth.** {' '.join(say_damage(tables))}")
    if "gains" in tables:
        told += [f"**To gain.** {say_posthoc(tables, system)}" for system in (AVERAGE, GATE)]
    return told

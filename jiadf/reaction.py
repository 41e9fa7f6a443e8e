"""What damaged inputs do to a network's answers, and what its gate makes of them.

The paper says that its gate brings "instance-dependent fusion that adjusts to the reliability of
each modality". :func:`gate_reaction` measures whether the weight of a damaged branch falls,
:func:`score_changes` what the damage costs and whether the gate's reaction helps,
:func:`reliability` whether the gate prefers, lesion by lesion, the branch that is right; and
:func:`judge_gate` says what of the claim holds.

Intervals and p-values are about other lesions for these trained networks. Those of scores come
from the standard error over resamples of the lesions, the same for both sides of a difference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import softmax
from scipy.stats import norm, spearmanr, ttest_1samp

from jiadf.data.schema import CLASSES
from jiadf.evaluation import weighted
from jiadf.evaluation.paired_tests import CURVE_METRICS
from jiadf.training.predict import Prediction
from jiadf.verdicts import FAILS, HOLDS, LOWER_IS_BETTER, METRIC_NAMES, UNDECIDED

METRICS = ("macro_auc", "macro_f1", "nll")
HELD = ", gate held"  # of a system: the damaged lesion's branches under the intact one's weights
PAIRS = (("ji-adf", "ji-mmfa"), ("modality-dropout", "ji-adf"), ("ji-adf", f"ji-adf{HELD}"))
INTACT = "intact"
HARMLESS = "no harm"
MIN_HARM = 0.05  # rise of a branch's negative log-likelihood that asks for a reaction
MIN_LOSS = 0.01  # loss of weight that counts as one
_BRANCH = {"clinical": "image", "dermoscopic": "image", "images": "image", "metadata": "metadata"}


@dataclass(frozen=True)
class Damage:
    """One thing wrong: its name, the stream it is in, its kind, its severity (0: no degrees)."""

    name: str
    stream: str
    kind: str
    severity: int = 0


@dataclass
class Answers:
    """What the networks of one system say of lesions they never saw, a training seed each.

    Attributes
    ----------
    posterior : (S, N, K) float array
    branches : (S, N, b, K) float array
        The branches' own posteriors.
    weights : (S, N, b) float array
        NaN where the joint head decides.
    """

    posterior: np.ndarray
    branches: np.ndarray
    weights: np.ndarray

    @classmethod
    def empty(cls, seeds: int, lesions: int, branches: int) -> "Answers":
        """Make room."""
        shape = (seeds, lesions, branches, len(CLASSES))
        posterior = np.full((seeds, lesions, len(CLASSES)), np.nan)
        return cls(posterior, np.full(shape, np.nan), np.full(shape[:3], np.nan))

    def write(self, seed: int, rows: np.ndarray, said: Prediction) -> None:
        """Put a run's prediction in its place."""
        self.posterior[seed, rows] = said.posterior
        self.branches[seed, rows] = softmax(np.stack(list(said.logits.values()), axis=1), axis=-1)
        if said.weights is not None:
            self.weights[seed, rows] = said.weights

    def held(self, weights: np.ndarray) -> np.ndarray:
        """Mix the branches with other weights, (S, N, b), into posteriors (S, N, K)."""
        return (weights[..., None] * self.branches).sum(axis=-2)


def gate_reaction(
    answers: Mapping[str, Mapping], truth: np.ndarray, lesions: str, n: int = 100, seed: int = 0
) -> pd.DataFrame:
    """Measure how the gate's weights change under each damage.

    Parameters
    ----------
    answers
        By system and damage; systems whose weights never change are left out.
    truth : (N,) int array
    lesions : str
        ``all`` or ``sample``, for the column of this name.
    n, seed
        Resamples of the lesions, within each class.

    Returns
    -------
    DataFrame
        A row a system, damage and branch: mean weight `before` and `after`, their `change` with
        a 95 % interval over lesions, `p` of a t-test that it is zero. `damaged` is the branch that
        the damage is in; the joint branch reads everything. `harm` is by how much the branch's own
        negative log-likelihood rises.
    """
    draws = np.vstack([np.ones(len(truth)), weighted.stratified_weights(truth, n, seed)])
    rows = []
    for system, by_damage in answers.items():
        before = by_damage[INTACT].weights.mean(0)  # (N, b)
        if np.isnan(before).any() or np.ptp(before, axis=0).max() < 1e-6:
            continue  # no gate
        for what, said in by_damage.items():
            if what == INTACT:
                continue
            after = said.weights.mean(0)
            changes = draws @ (after - before) / len(truth)  # (n + 1, b)
            low, high = np.quantile(changes[1:], [0.025, 0.975], axis=0)
            truth_rows = np.arange(len(truth))
            of_truth = (
                np.maximum(one.branches[:, truth_rows, :, truth], 1e-12)  # (N, S, b)
                for one in (said, by_damage[INTACT])
            )
            harm = np.subtract(*(-np.log(p).mean(axis=(0, 1)) for p in of_truth))  # (b,)
            for b, branch in enumerate(("image", "metadata", "joint")):
                p = ttest_1samp(after[:, b] - before[:, b], 0).pvalue
                rows.append(
                    {"system": system, **vars(what), "lesions": lesions, "branch": branch,
                     "damaged": _BRANCH[what.stream], "before": before[:, b].mean(),
                     "after": after[:, b].mean(), "change": changes[0, b], "low": low[b],
                     "high": high[b], "p": p, "harm": harm[b]}
                )  # fmt: skip
    return pd.DataFrame(rows)


def _draws(truth, posterior, weights, metrics: Sequence[str]) -> dict[str, np.ndarray]:
    """Score posteriors (S, N, K) under weights (R, N): means over seeds, the first row first."""
    each, curves = [], bool(CURVE_METRICS.intersection(metrics))
    for prob in posterior:
        prob = np.clip(prob, 0, 1)
        each.append(weighted.summary(truth, prob, weights, curves=curves))
    return {metric: np.mean([scores[metric] for scores in each], axis=0) for metric in metrics}


def _difference(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Difference of two scores; 95 % interval and p from its bootstrap standard error."""
    difference = a - b
    spread = difference[1:].std(ddof=1)
    half = norm.ppf(0.975) * spread
    p = 2 * norm.sf(abs(difference[0]) / spread) if spread > 0 else 1.0
    values = {"difference": difference[0], "p": p}
    values |= {"low": difference[0] - half, "high": difference[0] + half}
    return {name: float(value) for name, value in values.items()}


def score_changes(
    answers: Mapping[str, Mapping], truth: np.ndarray, lesions: str, n: int = 100, seed: int = 0,
    *, pairs: Sequence[tuple[str, str]] = PAIRS, metrics: Sequence[str] = METRICS,
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Measure what damage does to the scores, and which system bears it better.

    Parameters
    ----------
    answers, truth, lesions, n, seed
        As in :func:`gate_reaction`.
    pairs
        Of (system, reference); those with a system that did not answer are left out. A reference
        ``SYSTEM, gate held`` is what that system's branches say of the damaged lesion under the
        weights of the intact one.
    metrics
        Of :func:`jiadf.evaluation.metrics.summary`.

    Returns
    -------
    scores : DataFrame
        A row a system, damage and metric: the `value` under damage, `difference` from intact with
        a paired 95 % interval over lesions (the same resamples), `p` from its standard error.
    comparisons : DataFrame
        For each pair under each damage: `difference` = system - reference.
    """
    draws = np.vstack([np.ones(len(truth)), weighted.stratified_weights(truth, n, seed)])
    scored: dict[tuple, dict] = {}
    for system, by_damage in answers.items():
        for what, said in by_damage.items():
            scored[system, what] = _draws(truth, said.posterior, draws, metrics)
    for reference in dict.fromkeys(b for _, b in pairs if b.removesuffix(HELD) in answers):
        if reference not in answers:
            adf = answers[reference.removesuffix(HELD)]
            for what, said in adf.items():
                held = said.held(adf[INTACT].weights)
                scored[reference, what] = _draws(truth, held, draws, metrics)
    intact = Damage(INTACT, "none", INTACT)
    scores, comparisons = [], []
    for (system, what), values in scored.items():
        told = vars(intact if what == INTACT else what) | {"lesions": lesions}
        for metric in metrics:
            row = {"system": system, **told, "metric": metric, "value": values[metric][0]}
            if what != INTACT:
                row |= _difference(values[metric], scored[system, INTACT][metric])
            scores.append(row)
        for reference in [b for a, b in pairs if a == system and (b, what) in scored]:
            if reference.endswith(HELD) and what == INTACT:
                continue  # the same by definition
            for metric in metrics:
                found = _difference(values[metric], scored[reference, what][metric])
                pair = {"system": system, "reference": reference}
                comparisons.append({**pair, **told, "metric": metric, **found})
    return pd.DataFrame(scores), pd.DataFrame(comparisons)


def reliability(answers: Mapping[str, Mapping], truth: np.ndarray) -> pd.DataFrame:
    """Rank correlation, over intact lesions, of the gate's preference with the better branch.

    The preference is the weight of the image branch less that of the metadata branch; which one is
    better is told by the logarithm of the probability that each gives the true class.
    """
    rows = []
    for system, by_damage in answers.items():
        said = by_damage[INTACT]
        if np.isnan(said.weights).any() or np.ptp(said.weights) < 1e-6:
            continue
        for seed in range(len(said.weights)):
            of_truth = said.branches[seed, np.arange(len(truth)), :, truth]  # (N, b)
            better = np.log(np.maximum(of_truth[:, 0], 1e-12) / np.maximum(of_truth[:, 1], 1e-12))
            prefers = said.weights[seed, :, 0] - said.weights[seed, :, 1]
            rho = spearmanr(prefers, better).statistic if np.ptp(prefers) > 0 else np.nan
            half = 1.96 / np.sqrt(len(truth) - 3)  # Fisher's z
            low, high = np.tanh(np.arctanh(rho) + np.array([-half, half]))
            rows.append({"system": system, "seed": seed, "rho": rho, "low": low, "high": high})
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    return table.groupby("system", sort=False)[["rho", "low", "high"]].mean().reset_index()


def judge_gate(gate: pd.DataFrame, alpha: float = 0.05) -> pd.DataFrame:
    """Judge, for each system and damage, that the gate takes weight from the damaged branch.

    Parameters
    ----------
    gate : DataFrame
        The answer of :func:`gate_reaction` with `p_holm`.
    alpha : float
        A loss stands where its adjusted p-value is below this.

    Returns
    -------
    DataFrame
        The rows of the damaged branch, with `verdict`. Where the damage harms the branch by less
        than :data:`MIN_HARM` there is nothing to react to (:data:`HARMLESS`). Else the claim
        *holds* where the branch loses at least :data:`MIN_LOSS` of weight and the loss stands, it
        *does not hold* where the interval excludes such a loss, and in between it *cannot be told*.
    """
    rows = gate[gate["branch"] == gate["damaged"]].copy()
    loses = (rows["p_holm"] < alpha) & (rows["change"] <= -MIN_LOSS)
    excluded = rows["low"] > -MIN_LOSS
    rows["verdict"] = np.select(
        [rows["harm"] < MIN_HARM, loses, excluded], [HARMLESS, HOLDS, FAILS], UNDECIDED
    )
    return rows.reset_index(drop=True)


def say_gate(judged: pd.DataFrame, system: str = "ji-adf") -> str:
    """Say the verdict on the paper's claim in plain English, with its counts and its size.

    Over the kinds of damage that harm their branch, the claim *holds* where the gate takes weight
    from it under all, *does not hold* where it does so under fewer than half, and *holds in part*
    else.
    """
    every = judged[judged["system"] == system]
    rows = every[every["verdict"] != HARMLESS]
    if rows.empty:
        return f"{system} has no gate that any damage put to the test."
    counts = rows["verdict"].value_counts()
    falls = int(counts.get(HOLDS, 0))
    whole = "holds in part"
    if falls == len(rows):
        whole = HOLDS
    elif falls * 2 < len(rows):
        whole = FAILS
    by_branch = [
        f"{(part['verdict'] == HOLDS).sum()} of {len(part)} in the {branch} branch"
        for branch, part in rows.groupby("damaged", sort=False)
    ]
    least, most = rows.loc[rows["change"].idxmin()], rows.loc[rows["change"].idxmax()]
    ends = [f"{row['name']}, {row['before']:.2f} to {row['after']:.2f}" for row in (least, most)]
    return (
        f"The claim that the gate adjusts to the reliability of each modality {whole} for "
        f"{system}. {len(rows)} of {len(every)} kinds of damage harm their branch. Under {falls} "
        f"of them it loses weight ({', '.join(by_branch)}), under {counts.get(FAILS, 0)} it does "
        f"not, and under {counts.get(UNDECIDED, 0)} this cannot be told. Its mean weight changes "
        f"between {least['change']:+.2f} ({ends[0]}) and {most['change']:+.2f} ({ends[1]})."
    ).replace("-0.", "−0.")


def say_others(gate: pd.DataFrame, system: str = "ji-adf", alpha: float = 0.05) -> str:
    """Say what the other branches do where damage harms a branch: the claim in a weaker sense.

    The joint branch reads the damaged input too, so weight that leaves it for the branch that
    reads nothing of the damage is a reaction, even where the damaged branch does not lose any.
    """
    judged = judge_gate(gate, alpha)
    harmed = judged[(judged["system"] == system) & (judged["verdict"] != HARMLESS)]
    key = ["system", "name", "lesions"]
    rows = gate.merge(harmed[key]) if len(harmed) else gate.iloc[:0]
    if rows.empty:
        return f"{system} has no gate that any damage put to the test."
    stands = rows["p_holm"] < alpha
    joint = rows["branch"] == "joint"
    intact = (rows["branch"] != rows["damaged"]) & ~joint
    gains = (intact & stands & (rows["change"] >= MIN_LOSS)).sum()
    loses = (joint & stands & (rows["change"] <= -MIN_LOSS)).sum()
    median = rows.loc[intact, "change"].median()
    return (
        f"In a weaker sense, {system}: under {gains} of these {len(harmed)} the branch that reads "
        f"nothing of the damage gains at least {MIN_LOSS:g} of weight (median {median:+.3f}), and "
        f"under {loses} the joint branch, which reads everything, loses as much."
    ).replace("-0.", "−0.")


def say_comparison(comparisons: pd.DataFrame, system: str, reference: str, metric: str) -> str:
    """Count the damages under which one system is better than another, and the reverse."""
    every = comparisons[
        (comparisons["system"] == system)
        & (comparisons["reference"] == reference)
        & (comparisons["metric"] == metric)
    ]
    rows = every[every["kind"] != INTACT]
    if rows.empty:
        return f"{system} and {reference} were not compared."
    sign = -1 if metric in LOWER_IS_BETTER else 1
    stands = rows["p_holm"] < 0.05
    better = int((stands & (sign * rows["difference"] > 0)).sum())
    worse = int((stands & (sign * rows["difference"] < 0)).sum())
    intact = every[(every["kind"] == INTACT) & (every["lesions"] == "all")]["difference"]
    beside = f", where intact lesions give {intact.iloc[0]:+.3f}" if len(intact) else ""
    return (
        f"Under {len(rows)} kinds of damage, {system} has the better "
        f"{METRIC_NAMES.get(metric, metric)} than {reference} under {better} and the worse under "
        f"{worse}; the median difference is {rows['difference'].median():+.3f}{beside} "
        "(Holm-adjusted)."
    ).replace("-0.", "−0.")

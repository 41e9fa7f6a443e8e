"""Verdicts and sentences of the page on Table 1, from made-up scores."""

import numpy as np
import pandas as pd
import pytest

from jiadf import table1
from jiadf.ablations import TABLE1, beside_paper, show_verdicts
from jiadf.verdicts import FAILS, HOLDS, UNDECIDED

METHODS = [name for name in TABLE1.systems if name != "panderm"]


def made_scores(auc, sd=0.01):
    """Scores in all metrics; the AUC as given, the calibration error its reverse."""
    metrics = {*TABLE1.metrics, *table1.SHOWN}
    rows = []
    for name, value in auc.items():
        values = dict.fromkeys(metrics, value) | {"ece": 1 - value}
        rows += [(name, m, "mean", v, sd, v - 0.05, v + 0.05) for m, v in values.items()]
        rows.append((name, "AUC", "MEL", 0.1, sd, 0, 1))
    return pd.DataFrame(rows, columns=["system", "metric", "label", "value", "sd", "low", "high"])


def made_differences(auc, p):
    rows = [
        (name, "ji-adf", metric, auc[name] - auc["ji-adf"], -0.1, 0.2, p, p)
        for name in auc
        if name != "ji-adf"
        for metric in (*table1.CLAIMED, "ece")
    ]
    columns = ["system", "reference", "metric", "difference", "low", "high", "p", "p_holm"]
    return pd.DataFrame(rows, columns=columns)


@pytest.fixture
def auc():
    return {name: 0.7 + 0.01 * place for place, name in enumerate(METHODS)}  # ji-adf is the best


def test_table1_is_the_papers_with_our_names():
    printed = TABLE1.printed()
    assert not printed.isna().any(axis=None)
    assert printed.loc["coscatnet-ufs", "mean_sensitivity"] == 0.453
    assert (printed.loc["ji-adf"] == printed.max()).all()  # what its text claims of its table


def test_a_claim_is_judged_for_every_method_and_metric_of_the_paper(auc):
    judged = table1.judge(made_differences(auc, 0.01))
    assert len(judged) == len(table1.CLAIMED) * (len(METHODS) - 1)
    assert set(judged["verdict"]) == {HOLDS}
    assert (judged["difference"] > 0).all()
    assert (judged["low"] == -0.2).all()
    assert (judged["high"] == 0.1).all()
    auc["caffm"] = 0.9
    verdicts = table1.judge(made_differences(auc, 0.01)).groupby("worse")["verdict"].first()
    assert verdicts["caffm"] == FAILS
    assert set(table1.judge(made_differences(auc, 0.3))["verdict"]) == {UNDECIDED}
    assert "ji-adf above caffm" in show_verdicts(judged, "claim").to_html()


def test_sentences_follow_the_figures(auc):
    told = "\n".join(table1.tell_scores(made_scores(auc), made_differences(auc, 0.01), "here"))
    assert (
        "Here the highest macro AUC is that of ji-adf, 0.77 (95 % interval 0.72 to 0.82)." in told
    )
    assert "Here the lowest calibration error is that of ji-adf" in told
    assert "28 hold, 0 do not hold" in told
    assert "Above ji-adf" not in told
    assert "spans 0.070" in told
    assert "that could be chance" in told
    auc["caffm"] = 0.9
    told = "\n".join(table1.tell_scores(made_scores(auc), made_differences(auc, 0.01), "here"))
    assert "is that of caffm, 0.90" in told
    assert "ji-adf is number 2 of 8 with 0.77" in told
    assert "Above ji-adf beyond chance: caffm (macro AUC, macro average precision" in told
    one = table1.tell_scores(made_scores(auc, np.nan), made_differences(auc, 0.01), "here")
    assert not any("standard deviation" in line for line in one)


def test_agreement_with_the_papers_order():
    printed = TABLE1.printed()["macro_auc"].drop("panderm")
    tau, p, count = table1.agreement(made_scores(printed), "macro_auc")
    assert (tau, count) == (pytest.approx(1.0), 8)
    assert p < 0.001
    tau, _, _ = table1.agreement(made_scores(1 - printed), "macro_auc")
    assert tau == pytest.approx(-1.0)


def test_a_method_that_was_not_run_says_so(auc):
    table = beside_paper(TABLE1, made_scores(auc))
    assert set(table.loc[("panderm", "ours")]) == {"not run"}
    assert table.loc[("panderm", "paper"), "AUC"] == "0.840"
    assert table.loc[("ji-adf", "ours"), "AUC"] == "0.77 (0.72 to 0.82)"
    assert "0.77\n(0.72–0.82)" in table1.show_beside(made_scores(auc)).to_html()
    assert table1.tell_not_run({"not_run": {"panderm": "no file"}}) == [
        "panderm was not run: no file."
    ]
    assert table1.tell_not_run({}) == []


def test_scatter_over_seeds_is_shown_where_there_are_several(auc):
    assert (
        table1.seed_table(made_scores(auc)).loc["ji-adf", "macro AUC"] == "0.770\u00a0±\u00a00.010"
    )
    assert table1.seed_table(made_scores(auc, np.nan)).loc["ji-adf", "macro AUC"] == "0.770"

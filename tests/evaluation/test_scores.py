from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as skm

from jiadf.data.schema import CLASSES
from jiadf.evaluation import scores as module
from jiadf.evaluation.metrics import summary
from jiadf.evaluation.predictions import Predictions
from jiadf.evaluation.prevalence import HIDDEN_TEST_COUNTS, hidden_test_weights
from jiadf.evaluation.scores import format_scores, score_table

ROOT = Path(__file__).resolve().parents[2]


def test_counts_are_those_recovered_from_the_paper():
    counts = pd.read_csv(ROOT / "book/results/hidden_test_counts.csv", index_col="Class")
    counts = counts["Test positives"]
    assert counts.drop("Total").to_dict() == HIDDEN_TEST_COUNTS
    assert sum(HIDDEN_TEST_COUNTS.values()) == counts["Total"] == 479


def test_weighted_lesions_have_the_prevalence_of_the_hidden_test():
    y_true = np.repeat(range(len(CLASSES)), np.arange(2, 13))
    weights = hidden_test_weights(y_true)
    share = np.bincount(y_true, weights) / len(y_true)
    np.testing.assert_allclose(share, np.array([*HIDDEN_TEST_COUNTS.values()]) / 479)
    assert weights.mean() == pytest.approx(1)
    lacking = hidden_test_weights(y_true[y_true > 1])  # 71 and 61 lesions fewer
    assert np.bincount(y_true[y_true > 1], lacking)[2] / len(lacking) == pytest.approx(7 / 347)
    for wrong in ([], [11], [-1], [[0]]):
        with pytest.raises(ValueError, match="y_true"):
            hidden_test_weights(wrong)


def test_scores_are_scikit_learns_with_and_without_lesion_weights(monkeypatch):
    rng = np.random.default_rng(1)
    y_true = rng.permutation(np.repeat(range(len(CLASSES)), np.arange(5, 16)))
    logits = rng.normal(size=(2, len(y_true), len(CLASSES))) * 2
    logits[:, np.arange(len(y_true)), y_true] += 3
    by_seed = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    one = Predictions(y_true, by_seed[0], by_seed, (0, 1), {}, None, (), pd.DataFrame(), {})
    monkeypatch.setattr(module, "models", lambda name, folder: ["m"])
    monkeypatch.setattr(module, "load_predictions", lambda name, system, folder: one)
    table = score_table("record")
    assert table.index.get_level_values("seed").tolist() == [0, 0, 1, 1]

    own = pd.DataFrame([summary(y_true, y_prob) for y_prob in by_seed])
    scores = table.loc["own"]
    np.testing.assert_allclose(scores, own[scores.columns])

    options = {"sample_weight": hidden_test_weights(y_true)}
    hot = np.eye(len(CLASSES))[y_true]
    expected = {
        "macro_auc": lambda p: skm.roc_auc_score(hot, p, **options),
        "macro_ap": lambda p: skm.average_precision_score(hot, p, **options),
        "macro_f1": lambda p: skm.f1_score(y_true, p.argmax(1), average="macro", **options),
        "macro_f1_at_half": lambda p: skm.f1_score(hot, p > 0.5, average="macro", **options),
        "top1_accuracy": lambda p: skm.accuracy_score(y_true, p.argmax(1), **options),
        "nll": lambda p: skm.log_loss(y_true, p, **options),
    }
    for metric, compute in expected.items():
        wanted = [compute(y_prob) for y_prob in by_seed]
        assert table.loc["hidden test", metric].tolist() == pytest.approx(wanted), metric

    lines = format_scores(table).splitlines()
    assert [line for line in lines if "prevalence" in line] == [
        "own prevalence", "hidden test prevalence",
    ]  # fmt: skip
    auc = scores["macro_auc"]
    assert f"m  {auc.mean():.3f} ± {auc.std():.3f}" in lines[2]

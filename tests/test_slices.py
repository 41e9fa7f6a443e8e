import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from jiadf.data.schema import CLASSES, MALIGNANT
from jiadf.slices import MIN_LESIONS, compare_slices, measures, slices_of

BCC, NV, BKL = (CLASSES.index(code) for code in ("BCC", "NV", "BKL"))


def predictions(n=400, seed=0, noise=1.0):
    rng = np.random.default_rng(seed)
    truth = rng.choice([BCC, NV, BKL], n, p=[0.5, 0.3, 0.2])
    logits = rng.normal(0, noise, (n, 11)) + 1.5 * np.eye(11)[truth]
    prob = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return truth, prob


def test_measures_are_those_of_scikit_learn():
    truth, prob = predictions()
    found = measures(truth, prob, np.ones((1, len(truth))), [BCC, NV, BKL])
    malignant = np.isin(truth, [CLASSES.index(code) for code in MALIGNANT])
    score = prob[:, [CLASSES.index(code) for code in MALIGNANT]].sum(1)
    assert found["malignant AUC"][0] == pytest.approx(roc_auc_score(malignant, score))
    assert found["malignant sensitivity"][0] == pytest.approx((score > 0.5)[malignant].mean())
    assert found["malignant specificity"][0] == pytest.approx((score <= 0.5)[~malignant].mean())
    each = [roc_auc_score(truth == k, prob[:, k]) for k in (BCC, NV, BKL)]
    assert found["macro AUC"][0] == pytest.approx(np.mean(each))
    expected = balanced_accuracy_score(truth, prob.argmax(1))
    assert found["balanced accuracy"][0] == pytest.approx(expected)


def test_a_weight_of_zero_leaves_a_lesion_out():
    truth, prob = predictions()
    weights = (np.arange(len(truth)) % 3 > 0).astype(float)[None]
    kept = weights[0] > 0
    some = measures(truth, prob, weights, [BCC, NV])
    alone = measures(truth[kept], prob[kept], np.ones((1, kept.sum())), [BCC, NV])
    for name, value in alone.items():
        assert some[name] == pytest.approx(value), name


def test_measures_without_malignant_lesions_or_classes_do_not_exist():
    truth, prob = predictions()
    benign = truth != BCC
    found = measures(truth[benign], prob[benign], np.ones((1, benign.sum())), [NV])
    assert all(np.isnan(value).all() for value in found.values())


def test_a_gap_that_is_there_is_found_and_one_that_is_not_is_not():
    truth, good = predictions(900, noise=1.0)
    _, bad = predictions(900, noise=1.0)
    rng = np.random.default_rng(3)
    inside, other = rng.random(900) < 0.4, rng.random(900) < 0.4
    prob = np.where(inside[:, None], bad[rng.permutation(900)], good)
    table = compare_slices(truth, [prob], {("a", "bad"): inside, ("b", "any"): other}, n=60)
    auc = table[table["metric"] == "malignant AUC"].set_index("attribute")
    assert auc.loc["a", "gap"] < -0.1
    assert auc.loc["a", "p_holm"] < 0.001
    assert auc.loc["a", "gap_low"] < auc.loc["a", "gap"] < auc.loc["a", "gap_high"] < 0
    assert auc.loc["b", "p_holm"] > 0.01


def test_the_class_mix_alone_is_no_gap():
    """Slices of different classes, scored alike within each class."""
    truth, prob = predictions(1200, noise=1.5)
    rng = np.random.default_rng(4)
    inside = rng.random(1200) < np.where(truth == BCC, 0.7, 0.3)
    table = compare_slices(truth, [prob], {("a", "x"): inside}, n=60)
    assert (table["p"] > 0.01).all()


def test_small_slices_are_shown_and_not_tested():
    truth, prob = predictions()
    inside = np.zeros(len(truth), dtype=bool)
    inside[np.flatnonzero(truth == BCC)[: MIN_LESIONS - 1]] = True
    inside[np.flatnonzero(truth == NV)[:60]] = True
    table = compare_slices(truth, [prob], {("a", "few"): inside}, n=20)
    assert not table["large_enough"].any()
    assert table[["gap", "p", "p_holm"]].isna().all(axis=None)
    assert table.set_index("metric").loc["malignant AUC", "score"] > 0.5


def test_the_second_of_two_values_is_not_tested_again():
    truth, prob = predictions()
    inside = np.arange(len(truth)) % 2 == 0
    slices = {("sex", "female"): inside, ("sex", "male"): ~inside}
    table = compare_slices(truth, [prob, prob], slices, n=20)
    tested = table.groupby("value")["p"].count()
    assert tested["female"] == 5
    assert tested["male"] == 0
    gaps = table.pivot(index="metric", columns="value", values="gap")
    np.testing.assert_allclose(gaps["female"], -gaps["male"])


def test_slices_part_the_lesions(lesions):
    table = lesions.copy()
    table.loc[table.index[:3], "age_approx"] = np.nan
    found = slices_of(table)
    attributes = {attribute for attribute, _ in found}
    assert {"skin tone", "sex", "age", "site"} <= attributes
    for attribute in attributes:
        whole = sum(mask.astype(int) for (name, _), mask in found.items() if name == attribute)
        assert (whole == 1).all(), attribute
    assert found["age", "missing"].sum() == table["age_approx"].isna().sum()
    assert not pd.isna(table.loc[found["age", "40 to 59"], "age_approx"]).any()
    assert table.loc[found["age", "40 to 59"], "age_approx"].between(40, 59).all()

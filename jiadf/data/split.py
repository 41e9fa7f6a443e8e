"""Deal lesions into folds: stratified by class, grouped by lesion, seeded.

Lesions are put in the order of their ids, shuffled within each class, laid out class after class
in a fixed order, and dealt to the folds like cards. Each class's counts then differ by at most one
between folds, and so do the fold sizes; they do not depend on the seed, only the lesions do. Fold 1
of five, held out from the 5,240 training lesions, leaves exactly the counts of the paper's Table 4.
The order is ours, chosen so that it does: rounding 80 % of each class would keep 2,018 BCC and 378
SCCKA, where the table has 2,017 and 379. A row of the lesion table is a lesion with both of its
images, so that the split is grouped by lesion.
"""

import numpy as np
import pandas as pd

from jiadf.data.schema import MALIGNANT

DEAL_ORDER = (*MALIGNANT, "NV", "BKL", "DF", "INF", "VASC", "BEN_OTH")


def assign_folds(labels: pd.Series, n_folds: int = 5, seed: int = 0) -> pd.Series:
    """Give each lesion a fold from 0 to ``n_folds - 1``.

    ``labels`` are class codes by ``lesion_id``; ``seed`` chooses which lesions of a class go where,
    never how many. A ValueError for unknown labels.
    """
    if unknown := set(labels.astype(object)) - set(DEAL_ORDER):
        raise ValueError(f"unknown labels {sorted(map(str, unknown))}; expected {DEAL_ORDER}.")
    rng = np.random.default_rng(seed)
    order = labels.index.argsort()  # a table's own order must not matter
    codes = labels.to_numpy()[order]
    by_class = [order[codes == code] for code in DEAL_ORDER]
    dealt = np.concatenate([rng.permutation(positions) for positions in by_class])
    folds = np.empty(len(labels), dtype=np.int64)
    folds[dealt] = np.arange(len(labels)) % n_folds
    return pd.Series(folds, index=labels.index, name="fold")


def split_lesions(
    labels: pd.Series,
    n_folds: int = 5,
    val_fold: int | None = 1,
    test_fold: int | None = None,
    seed: int = 0,
) -> pd.Series:
    """Name each lesion's part: ``"train"``, ``"val"`` or ``"test"``.

    The defaults are the paper's split (A.2): one fifth for validation, no lesions kept for testing.
    Without ``val_fold`` none validate. The lesions of ``test_fold`` take no part in training or in
    any choice.
    """
    folds = assign_folds(labels, n_folds, seed)
    parts = pd.Series("train", index=labels.index, name="split")
    parts[folds == val_fold] = "val"
    parts[folds == test_fold] = "test"
    return parts

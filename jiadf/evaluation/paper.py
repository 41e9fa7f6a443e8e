"""The numbers that the paper printed, to stand beside ours.

The tables are CSV files in ``book/results/paper`` (its README says where they come from).  They
belong to the book and are not installed with the package, so this module works from a clone of the
repository (an editable install), or with a folder given.

    >>> from jiadf.evaluation.paper import paper_table
    >>> paper_table(1, names="ours").loc["JI-ADF (ours)", "macro_ap"]  # doctest: +SKIP
    0.543
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

PAPER_DIR = Path(__file__).resolve().parents[2] / "book" / "results" / "paper"
TABLES = (1, 2, 3, 5)

# "Precision" in Tables 1 to 3 is the mean *average precision* of Table 5, not its mean PPV.
PAPER_TO_SUMMARY = {
    "AUC": "macro_auc",
    "Precision": "macro_ap",
    "Accuracy": "mean_accuracy",
    "Sensitivity": "mean_sensitivity",
    "Specificity": "mean_specificity",
    "Dice": "mean_dice",
}
PAPER_TO_METRIC = {
    "AUC": "AUC",
    "AUC, Sens 80%": "AUC at sensitivity > 80 %",
    "Average Precision": "average precision",
    "Accuracy": "accuracy",
    "Sensitivity": "sensitivity",
    "Specificity": "specificity",
    "Dice Coefficient": "Dice",
    "PPV": "PPV",
    "NPV": "NPV",
}
# The paper's names of systems, and ours: values of the parameters method, modalities and
# fusion_paths, and keys of jiadf.models.configuration.VARIANTS.
PAPER_TO_SYSTEM = {
    "JIF-MMFA (Tang et al., 2024)": "jif-mmfa",
    "VEMFL (Restrepo et al., 2024)": "vemfl",
    "CAFFM (Tran-Van and Le, 2025)": "caffm",
    "ALBEF (Adebiyi et al., 2025)": "albef",
    "CoscatNet-UFS (Zuo et al., 2025)": "coscatnet-ufs",
    "DualRefNet (Khurshid et al., 2025)": "dualrefnet",
    "SkinM2Former (Zhang et al., 2025)": "skinm2former",
    "Fine-tuned PanDerm (Yan et al., 2025)": "panderm",
    "JI-ADF (ours)": "ji-adf",
    "C": "C",
    "D": "D",
    "M": "M",
    "C+D": "CD",
    "C+M": "CM",
    "D+M": "DM",
    "C+D+M": "CDM",
    "Skip-only": "skip",
    "Attention-only": "attention",
    "Attention + Skip": "both",
    "Late concat": "late-concat",
    "JF-concat": "jf-concat",
    "JF-MMFA": "jf-mmfa",
    "JI-MMFA": "ji-mmfa",
    "JI-ADF (no aux)": "ji-adf-noaux",
    "JI-ADF": "ji-adf",
}


def _existing(directory: str | Path | None, name: str) -> Path:
    path = Path(directory or PAPER_DIR) / name
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: run from a clone of the repository, installed with "
            "`pip install -e .`, or give the folder as `directory`"
        )
    return path


def paper_table(n: int, names: str = "paper", directory: str | Path | None = None) -> pd.DataFrame:
    """Load one of the paper's tables of results.

    Parameters
    ----------
    n : {1, 2, 3, 5}
        1 compares methods, 2 modality subsets, 3 the paths of MMFA, 5 classes.
    names : {"paper", "ours"}
        Keep the paper's names, or use those of :func:`jiadf.evaluation.metrics.summary` for the
        columns of Tables 1 to 3, and those of :func:`jiadf.evaluation.metrics.class_table`
        for the rows and the mean of Table 5.
    directory : path, optional
        Folder of the CSV files; the repository's ``book/results/paper`` if not given.

    Returns
    -------
    DataFrame
        The table's first column is the index.

    Raises
    ------
    ValueError
        If there is no such table, or `names` is neither of the two.
    FileNotFoundError
        If the CSV files are not there.
    """
    if n not in TABLES:
        raise ValueError(
            f"there is no results table {n}; there are {TABLES} (Table 4 is "
            "jiadf.data.schema.PAPER_TABLE4)"
        )
    if names not in ("paper", "ours"):
        raise ValueError(f"names is {names!r}; it must be 'paper' or 'ours'")
    table = pd.read_csv(_existing(directory, f"table{n}.csv"), index_col=0)
    if names == "paper":
        return table
    if n == 5:
        return table.rename(index=PAPER_TO_METRIC, columns={"Mean": "mean"}).rename_axis("metric")
    return table.rename(columns=PAPER_TO_SUMMARY)


def claims(source: str | None = None, directory: str | Path | None = None) -> pd.DataFrame:
    """Load what the ablations of the paper say beats what.

    Parameters
    ----------
    source : {"Table 2", "Table 3", "Figure 3"}, optional
        Only the claims about this table or figure.
    directory : path, optional
        Folder of the CSV files; the repository's ``book/results/paper`` if not given.

    Returns
    -------
    DataFrame
        A row a claim and metric: `id`, `source`, `section`, `claim` (in our words), `better`,
        `worse` (values of :data:`PAPER_TO_SYSTEM`), `metric` (of
        :func:`jiadf.evaluation.metrics.summary`), and what the paper printed for the two,
        `printed_better` and `printed_worse`: NaN for Figure 3, which has no numbers.

    Raises
    ------
    ValueError
        If there is no claim about `source`.
    FileNotFoundError
        If the CSV files are not there.
    """
    table = pd.read_csv(_existing(directory, "claims.csv"), dtype=str)
    if source is not None and source not in set(table["source"]):
        there = ", ".join(table["source"].unique())
        raise ValueError(f"there are no claims about {source!r}; there are about {there}")
    if source is not None:
        table = table[table["source"] == source]
    table = table.assign(metric=table.pop("metrics").str.split()).explode("metric")
    printed = {
        f"Table {n}": paper_table(n, "ours", directory).rename(index=PAPER_TO_SYSTEM)
        for n in (2, 3)
    }
    for side in ("better", "worse"):
        table[f"printed_{side}"] = [
            printed[row.source].loc[getattr(row, side), row.metric]
            if row.source in printed
            else float("nan")
            for row in table.itertuples()
        ]
    return table.reset_index(drop=True)

"""The numbers that the paper printed, to stand beside ours.

The tables are CSV files in ``book/results/paper`` (its README says where they come from). They
belong to the book and are not installed with the package, so this module works from a clone of the
repository (an editable install)::

    paper_table(1).loc["JI-ADF (ours)", "macro_ap"]  # 0.543
"""

from pathlib import Path

import pandas as pd

from jiadf.evaluation.metrics import BENCHMARK_METRICS

PAPER_DIR = Path(__file__).resolve().parents[2] / "book" / "results" / "paper"

# "Precision" in Tables 1 to 3 is the mean *average precision* of Table 5, not its mean PPV.
PAPER_TO_SUMMARY = {
    "AUC": "macro_auc",
    "Precision": "macro_ap",
    "Accuracy": "mean_accuracy",
    "Sensitivity": "mean_sensitivity",
    "Specificity": "mean_specificity",
    "Dice": "mean_dice",
}
# The paper's names of systems, and ours: values of the parameters method, modalities and
# fusion_paths, and systems of params/grids/paper.yaml.
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


def paper_table(n: int) -> pd.DataFrame:
    """Load one of the paper's tables of results, its first column as index.

    1 compares methods, 2 modality subsets, 3 the paths of MMFA: their columns are named as in
    :func:`jiadf.evaluation.metrics.summary`. 5 compares classes, and has a row a metric of
    :data:`jiadf.evaluation.metrics.BENCHMARK_METRICS`.
    """
    file = PAPER_DIR / f"table{n}.csv"
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} is missing: a clone of the repository, installed with `pip install -e .`, has "
            "tables 1, 2, 3 and 5 (Table 4 is jiadf.data.schema.PAPER_TABLE4)"
        )
    table = pd.read_csv(file, index_col=0)
    if n == 5:
        return table.set_axis(BENCHMARK_METRICS).rename(columns={"Mean": "mean"})
    return table.rename(columns=PAPER_TO_SUMMARY)

"""The eight methods that the paper's Table 1 compares JI-ADF with, one file each.

A run's parameter ``method`` chooses one; a system of a grid is ``{method: caffm}``. Data, splits,
training loop, loss, metrics and run folders are those of JI-ADF. Each file says what makes the
method that method, what was read of it, and under Simplifications what differs.
"""

from jiadf.models.baselines.albef import ALBEF
from jiadf.models.baselines.base import Baseline
from jiadf.models.baselines.caffm import CAFFM
from jiadf.models.baselines.coscatnet import CoscatNet
from jiadf.models.baselines.dualrefnet import DualRefNet
from jiadf.models.baselines.jif_mmfa import SETTINGS
from jiadf.models.baselines.panderm import PanDerm
from jiadf.models.baselines.skinm2former import SkinM2Former
from jiadf.models.baselines.vemfl import VEMFL

__all__ = ["BASELINES", "CONFIGURED", "Baseline"]

BASELINES: dict[str, type[Baseline]] = {
    "vemfl": VEMFL,
    "caffm": CAFFM,
    "albef": ALBEF,
    "coscatnet-ufs": CoscatNet,
    "dualrefnet": DualRefNet,
    "skinm2former": SkinM2Former,
    "panderm": PanDerm,
}
CONFIGURED = {"jif-mmfa": SETTINGS}  # methods that are parameters of JIADF

"""The eight methods that the paper's Table 1 compares JI-ADF with, one file each.

A run's parameter ``method`` chooses one; a system of a grid is ``{method: caffm}``. Data, splits,
training loop, loss, metrics and run folders are those of JI-ADF. Each file says what makes the
method that method, what was read of it, and under Simplifications what differs.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from jiadf.models.baselines.albef import ALBEF
from jiadf.models.baselines.base import Baseline, Design
from jiadf.models.baselines.caffm import CAFFM
from jiadf.models.baselines.coscatnet import CoscatNet
from jiadf.models.baselines.dualrefnet import DualRefNet
from jiadf.models.baselines.jif_mmfa import SETTINGS as JIF_MMFA
from jiadf.models.baselines.panderm import PanDerm
from jiadf.models.baselines.skinm2former import SkinM2Former
from jiadf.models.baselines.vemfl import VEMFL

__all__ = ["BASELINES", "CONFIGURED", "Baseline", "Design", "baseline_settings", "build_baseline"]

BASELINES: dict[str, type[Baseline]] = {
    "vemfl": VEMFL,
    "caffm": CAFFM,
    "albef": ALBEF,
    "coscatnet-ufs": CoscatNet,
    "dualrefnet": DualRefNet,
    "skinm2former": SkinM2Former,
    "panderm": PanDerm,
}
# Methods that are settings of JIADF.
CONFIGURED: dict[str, dict[str, Any]] = {"ji-adf": {}, "jif-mmfa": JIF_MMFA}


def baseline_settings(method: str) -> dict[str, Any] | None:
    """Return what a method changes in JIADF's parameters, or None if it has a class of its own."""
    if method in BASELINES:
        return None
    if method not in CONFIGURED:
        known = ", ".join([*CONFIGURED, *BASELINES])
        raise ValueError(f"method {method!r} is unknown: choose one of {known}")
    return dict(CONFIGURED[method])


def build_baseline(
    method: str, design: Design, image_encoders: Mapping[str, nn.Module]
) -> Baseline:
    """Make the network of a method in :data:`BASELINES`."""
    return BASELINES[method](design, image_encoders)

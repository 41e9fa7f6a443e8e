"""The network of the paper, equation by equation.

``encoders`` (1), ``mmfa`` (8) to (11), ``adf`` (5) and (6), ``network`` (2) and (3) and the whole,
``losses`` (4) and (7). ``baselines`` are the methods that the paper compares with; ``cost`` counts
parameters and operations.
"""

from jiadf.models.adf import AdaptiveDecisionFusion, fuse_log_posteriors
from jiadf.models.configuration import NetworkConfig, variant_settings
from jiadf.models.encoders import ImageEncoder, MetadataMLP
from jiadf.models.losses import JointIndividualLoss, branch_lambdas, class_weights
from jiadf.models.mmfa import MMFA
from jiadf.models.network import JIADF, NetworkOutput
from jiadf.models.weights import WeightsError, packaged_state_dict, weights_fingerprint

__all__ = [
    "JIADF",
    "MMFA",
    "AdaptiveDecisionFusion",
    "ImageEncoder",
    "JointIndividualLoss",
    "MetadataMLP",
    "NetworkConfig",
    "NetworkOutput",
    "WeightsError",
    "branch_lambdas",
    "class_weights",
    "fuse_log_posteriors",
    "packaged_state_dict",
    "variant_settings",
    "weights_fingerprint",
]

"""Rebuild JI-ADF: multimodal skin-lesion classification on MILK10k, from data to decision.

The package is what the notebooks import. ``jiadf.data`` reads and draws MILK10k, ``jiadf.models``
holds the network equation by equation, and the modules beside them train, predict and measure.
"""

__version__ = "0.1.0"

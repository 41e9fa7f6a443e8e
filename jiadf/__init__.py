"""Rebuild JI-ADF: multimodal skin-lesion classification on MILK10k, from data to decision.

    >>> import jiadf
    >>> model = jiadf.load_model()  # doctest: +SKIP
    >>> model.predict("closeup.jpg", "dermoscope.jpg", age=62)  # doctest: +SKIP

``jiadf.data`` reads MILK10k, ``jiadf.models`` holds the network equation by equation, and the
modules beside them train, predict and measure. What stands here is imported when it is first used.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "load_model": "jiadf.model",
    "read_lesions": "jiadf.data.read",
    "JIADF": "jiadf.models.network",
    "MMFA": "jiadf.models.mmfa",
    "AdaptiveDecisionFusion": "jiadf.models.adf",
}
__all__ = ["JIADF", "MMFA", "AdaptiveDecisionFusion", "__version__", "load_model", "read_lesions"]


def __getattr__(name: str) -> object:
    """Import a public name on first use (PEP 562), so that ``import jiadf`` stays cheap."""
    if name not in _HOMES:
        raise AttributeError(f"module 'jiadf' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

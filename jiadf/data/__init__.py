"""MILK10k: read it, check it, download it; a sample of it lies here.

``read_lesions`` gives the table with a row a lesion that everything else starts from; ``check``
finds every fault of a folder. The other modules are imported by name: ``schema`` (columns and
categories), ``download`` (the official files) and ``sample`` (240 of its lesions).
"""

from jiadf.data.faults import DataError, Fault, format_faults
from jiadf.data.layout import Layout
from jiadf.data.read import check, read_lesions

__all__ = ["DataError", "Fault", "Layout", "check", "format_faults", "read_lesions"]

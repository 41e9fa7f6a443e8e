"""Keep the few numerically delicate lines in float32 when the rest runs under mixed precision.

A half-precision overflow of attention scores or log-space mixtures turns a whole batch into NaN.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """Widen half-precision types to float32, leave others."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def full_precision(tensor: Tensor) -> AbstractContextManager:
    """Turn autocast off for the device that holds `tensor`."""
    device_type = tensor.device.type
    if not torch.amp.is_autocast_available(device_type):
        return nullcontext()
    return torch.autocast(device_type=device_type, enabled=False)

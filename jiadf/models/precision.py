"""Keep the few numerically delicate lines in float32 when the rest runs under mixed precision.

Attention scores and log-space mixtures cost next to nothing, and a half-precision overflow there
turns a whole batch into NaN. They are therefore computed inside ``with full_precision(x):`` on
``at_least_float32(x)``. Double precision is left alone, so gradient checks stay possible.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return `tensor` with half-precision types widened to float32, others unchanged."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def full_precision(tensor: Tensor) -> AbstractContextManager:
    """Return a context in which autocast is off for the device that holds `tensor`."""
    device_type = tensor.device.type
    if not torch.amp.is_autocast_available(device_type):
        return nullcontext()
    return torch.autocast(device_type=device_type, enabled=False)

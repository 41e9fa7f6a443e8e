import pytest
import torch

from jiadf.config import Parameters
from jiadf.training.inputs import resolve_precision


@pytest.mark.parametrize(
    ("asked", "has_bf16", "taken"),
    [("bf16", True, "bf16"), ("bf16", False, "no"), ("fp16", True, "no"), ("no", True, "no")],
)
def test_precision_is_what_the_processor_is_fast_in(monkeypatch, asked, has_bf16, taken):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: has_bf16)
    assert resolve_precision(Parameters(mixed_precision=asked), "cpu") == taken


def test_a_gpu_computes_in_what_was_asked_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_precision(Parameters(mixed_precision="fp16"), "cuda") == "fp16"

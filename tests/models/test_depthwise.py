import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from jiadf.models.depthwise import FastDepthwiseConv2d, use_fast_gradients
from jiadf.models.encoders import ImageEncoder

HALF = torch.bfloat16


def gradients(layer: nn.Module, inputs: torch.Tensor, half: bool) -> list[torch.Tensor]:
    """Return the output and its square's gradients by inputs and parameters."""
    inputs = inputs.clone().requires_grad_(True)
    with torch.autocast("cpu", HALF, enabled=half):
        output = layer(inputs)
    return [
        output,
        *torch.autograd.grad(output.float().square().sum(), [inputs, *layer.parameters()]),
    ]


@pytest.mark.parametrize("kind", [nn.Conv2d, Conv2dSame])
@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2), (7, 2)])
@pytest.mark.parametrize("side", [9, 12])
def test_gradients_are_those_of_the_plain_layer_in_float64(kind, size, stride, side):
    torch.manual_seed(0)
    padding = 0 if kind is Conv2dSame else size // 2
    layer = kind(6, 6, size, stride, padding, groups=6, bias=size == 3)
    # Values that bfloat16 holds exactly, so that only its sums differ.
    layer.load_state_dict({k: v.to(HALF).float() for k, v in layer.state_dict().items()})
    inputs = torch.randn(3, 6, side, side).to(HALF).float()
    exact = gradients(layer.double(), inputs.double(), half=False)
    use_fast_gradients(layer.float())
    assert isinstance(layer, FastDepthwiseConv2d)
    for found, expected in zip(gradients(layer, inputs, half=True), exact, strict=True):
        error = (found.double() - expected).norm() / expected.norm()
        assert error < 0.01
    for found, expected in zip(gradients(layer, inputs, half=False), exact, strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)


def test_other_layers_and_names_of_weights_stay():
    layers = [
        nn.Conv2d(6, 6, 3), nn.Conv2d(6, 12, 3, groups=6), nn.Conv2d(6, 6, (3, 5), groups=6),
        nn.Conv2d(6, 6, 3, groups=6, dilation=2), nn.Conv2d(1, 1, 3), nn.Conv2d(6, 6, 3, groups=3),
    ]  # fmt: skip
    kinds = [type(layer) for layer in use_fast_gradients(nn.ModuleList(layers))]
    assert set(kinds) == {nn.Conv2d}
    encoder = ImageEncoder(weights="random")
    names = list(encoder.state_dict())
    use_fast_gradients(encoder)
    assert list(encoder.state_dict()) == names
    assert sum(isinstance(m, FastDepthwiseConv2d) for m in encoder.modules()) == 16


def test_the_slow_kernels_of_the_library_are_not_called(monkeypatch):
    """Of the weights' gradients only those of 3 x 3 kernels, of the inputs' none."""
    calls = []
    plain = torch.ops.aten.convolution_backward

    def watched(*arguments):
        calls.append((arguments[2].shape[-1], arguments[-1]))
        return plain(*arguments)

    monkeypatch.setattr(torch.ops.aten, "convolution_backward", watched)
    layer = use_fast_gradients(nn.Conv2d(6, 6, 5, 2, 2, groups=6, bias=False))
    gradients(layer, torch.randn(2, 6, 11, 11), half=True)
    assert calls == [(3, [False, True, False])] * 4

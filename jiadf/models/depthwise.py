"""Depthwise convolutions whose gradients are fast in bfloat16 on a CPU.

In bfloat16, oneDNN has no fast kernel for two gradients of a depthwise convolution, and its
reference code takes three quarters of a training step of an EfficientNet-Lite. Both are linear maps
that fast kernels can compute:

- the input's gradient with stride s is that of a stride of one, of an output gradient with s - 1
  zeros between its values: a depthwise convolution with the kernel turned by 180 degrees;
- the weights' gradient of a k x k kernel is put together from those of 3 x 3 kernels over shifted
  inputs (for k = 5: four of them).

Elsewhere (a GPU, float32) the layer is PyTorch's own.
"""

import torch
from timm.layers import Conv2dSame, pad_same
from torch import Tensor, nn
from torch.nn import functional

_TILE = 3  # widest kernel whose weights' gradient is fast


class _Depthwise(torch.autograd.Function):
    """Depthwise convolution of padded inputs, (B, C, H, W) and (C, 1, k, k), one stride."""

    @staticmethod
    def forward(ctx, inputs: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.stride = stride
        return functional.conv2d(inputs, weight, stride=stride, groups=weight.shape[0])

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        inputs, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_inputs = of_weight = None
        if ctx.needs_input_grad[0]:
            of_inputs = _input_gradient(gradient, inputs, weight, ctx.stride)
        if ctx.needs_input_grad[1]:
            of_weight = _weight_gradient(gradient, inputs, weight, ctx.stride)
        return of_inputs, of_weight, None


def _input_gradient(gradient: Tensor, inputs: Tensor, weight: Tensor, stride: int) -> Tensor:
    size = weight.shape[-1]
    if stride > 1:
        spread = gradient.new_zeros(
            *gradient.shape[:2], inputs.shape[-2] - size + 1, inputs.shape[-1] - size + 1
        ).contiguous(memory_format=torch.channels_last)
        spread[..., ::stride, ::stride] = gradient
        gradient = spread
    return functional.conv2d(
        gradient, weight.flip(-2, -1), padding=size - 1, groups=weight.shape[0]
    )


def _weight_gradient(gradient: Tensor, inputs: Tensor, weight: Tensor, stride: int) -> Tensor:
    size, tile = weight.shape[-1], min(_TILE, weight.shape[-1])
    height, width = ((side - 1) * stride + tile for side in gradient.shape[-2:])
    starts = [*range(0, size - tile, tile - 1), size - tile]  # tiles overlap by a row or column
    small = weight[..., :tile, :tile]
    result = torch.empty_like(weight)
    for top in starts:
        for left in starts:
            part = inputs[..., top : top + height, left : left + width]
            _, of_tile, _ = torch.ops.aten.convolution_backward(
                gradient, part.contiguous(memory_format=torch.channels_last), small, None,
                [stride, stride], [0, 0], [1, 1], False, [0, 0], weight.shape[0],
                [False, True, False],
            )  # fmt: skip
            result[..., top : top + tile, left : left + tile] = of_tile
    return result


class FastDepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution; under bfloat16 autocast on a CPU its gradients are fast."""

    pads_same: bool  # as TensorFlow does: what a stride leaves over goes to the end

    def forward(self, inputs: Tensor) -> Tensor:
        """Convolve, (B, C, H, W) to (B, C, H', W')."""
        half = torch.bfloat16
        fast = (
            inputs.device.type == "cpu"
            and torch.is_autocast_enabled("cpu")
            and torch.get_autocast_dtype("cpu") == half
            and torch.is_grad_enabled()
        )
        if self.pads_same:
            inputs = pad_same(inputs, self.kernel_size, self.stride)
            padding = (0, 0)
        else:
            padding = self.padding
        if not fast:
            return functional.conv2d(
                inputs, self.weight, self.bias, self.stride, padding, groups=self.groups
            )
        if any(padding):
            inputs = functional.pad(inputs, (padding[1], padding[1], padding[0], padding[0]))
        outputs = _Depthwise.apply(inputs.to(half), self.weight.to(half), self.stride[0])
        return outputs if self.bias is None else outputs + self.bias.to(half)[:, None, None]


def use_fast_gradients(network: nn.Module) -> nn.Module:
    """Turn a network's square, undilated depthwise convolutions into fast ones, in place."""
    for module in network.modules():
        if (
            type(module) in (nn.Conv2d, Conv2dSame)
            and 1 < module.in_channels == module.out_channels == module.groups
            and module.kernel_size[0] == module.kernel_size[1]
            and module.stride[0] == module.stride[1]
            and module.dilation == (1, 1)
            and module.padding_mode == "zeros"
            and not isinstance(module.padding, str)
        ):
            module.pads_same = isinstance(module, Conv2dSame)
            module.__class__ = FastDepthwiseConv2d
    return network

"""The U-Net's convolutions, their weights' gradients a matrix product where oneDNN is slow at them.

On processors with AVX2 but without AVX512, and in channels-last layout, oneDNN takes two to four
times as long for the gradient by the weights as for the convolution itself, which has as many
multiplications. The gradient is a sum over all pixels of (the pixels around) x (the gradient by
the result there), so that one matrix product gives it for all places of the kernel at once.

What the layers compute is what those of `torch.nn` compute, to rounding.
"""

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CACHE = 24 << 20  # bytes of a map to work on at once: a cache of the last level


class Conv3x3(nn.Conv2d):
    """A 3x3 `nn.Conv2d`, which trains faster on some processors (`slow`).

    padding: `"same"` or `"valid"`.
    """

    def __init__(self, in_channels: int, out_channels: int, padding: str, bias: bool):
        super().__init__(in_channels, out_channels, 3, padding=padding, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, D, H, W), 2 less with `valid` padding."""
        if self.training and torch.is_grad_enabled() and slow(self, x):
            return _Conv3x3.apply(self, x, self.weight)
        return super().forward(x)


class UpConv2x2(nn.ConvTranspose2d):
    """A 2x2 `nn.ConvTranspose2d` of stride 2, which trains faster on some processors (`slow`)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, D, 2H, 2W)."""
        if self.training and torch.is_grad_enabled() and slow(self, x):
            return _UpConv2x2.apply(x, self.weight, self.bias)
        return super().forward(x)


def slow(layer: nn.Module, x: Tensor) -> bool:
    """Whether oneDNN is slower than a product at the gradient by this layer's weights.

    Only a `Conv3x3` without bias or an `UpConv2x2`, not frozen, float32 on a CPU with AVX2 alone,
    and enough channels for a product that is not too narrow.
    """
    return (
        isinstance(layer, Conv3x3 | UpConv2x2)
        and (layer.bias is None) == isinstance(layer, Conv3x3)
        and layer.weight.requires_grad
        and layer.in_channels >= 32
        and type(x) is Tensor  # not a fake one
        and x.device.type == layer.weight.device.type == "cpu"
        and x.dtype == layer.weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and has_avx2_alone()
    )


@cache
def has_avx2_alone() -> bool:
    """Whether PyTorch uses AVX2 on this machine's processor, and nothing wider."""
    return torch.backends.cpu.get_cpu_capability() == "AVX2"


def gradients(conv: nn.Conv2d, x: Tensor, weight: Tensor, grad: Tensor, by_x: bool) -> list:
    """The backward pass of a square convolution of stride 1.

    x: (N, C, H, W); weight: (D, C, k, k), in place of the layer's own; grad: by the result,
    (N, D, H, W). Returns the gradients by `x` (None if not `by_x`), by `weight`, and by the bias
    if there is one.
    """
    product, bias = slow(conv, x), conv.bias is not None
    p = conv.kernel_size[0] // 2 if conv.padding == "same" else 0
    grad_x, grad_weight, *grad_bias = torch.ops.aten.convolution_backward(
        grad, x, weight, [conv.out_channels], [1, 1], [p, p], [1, 1], False, [0, 0], 1,
        [by_x, not product, bias],
    )  # fmt: skip
    if product:
        # In parts, since what a product lays out is several times their size.
        grad_weight = sum(
            weight_gradient(F.pad(x[part], (p, p, p, p)), grad[part]) for part in parts(x)
        )
    return [grad_x, grad_weight, *grad_bias[:bias]]


def parts(images: Tensor) -> list[slice]:
    """A batch in parts of as many images as `CACHE` holds, one at least."""
    step = max(1, CACHE // (images[0].numel() * images.element_size()))
    return [slice(start, start + step) for start in range(0, len(images), step)]


def weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """(N, C, H + 2, W + 2) and the gradient by its 3x3 convolution, (N, D, H, W) -> (D, C, 3, 3).

    In channels-last layout a pixel and its right and left neighbour are one row of a matrix that
    is there already: every third row of it is a view of `x`. For the lines above and below, three
    copies of `grad`, shifted by a line each, lie side by side.
    """
    h, channels = x.shape[-2], x.shape[1]
    x = x.permute(0, 2, 3, 1).contiguous().view(-1, channels)
    grad = F.pad(grad.permute(0, 2, 3, 1), (0, 0, 1, 1, 2, 2))
    grad = torch.cat([grad[:, 2 - k : 2 - k + h] for k in range(3)], dim=3).reshape(len(x), -1)
    total = 0
    for left in range(3):
        n = (len(x) - left) // 3
        neighbours = x[left : left + 3 * n].view(n, -1)
        total = total + grad[left + 1 :: 3][:n].t() @ neighbours
    return total.view(3, -1, 3, channels).permute(1, 3, 0, 2)


class _Conv3x3(torch.autograd.Function):
    @staticmethod
    def forward(conv: Conv3x3, x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, padding=conv.padding)

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        ctx.conv, *tensors = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple:
        return None, *gradients(ctx.conv, *ctx.saved_tensors, grad, ctx.needs_input_grad[1])


class _UpConv2x2(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.conv_transpose2d(x, weight, bias, stride=2)

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple:
        x, weight = ctx.saved_tensors
        n, channels, h, w = x.shape
        grad_x = F.conv2d(grad, weight, stride=2) if ctx.needs_input_grad[0] else None
        x = x.permute(0, 2, 3, 1).reshape(-1, channels)
        grad = grad.permute(0, 2, 3, 1)  # (N, 2H, 2W, D)
        blocks = grad.reshape(n, h, 2, w, -1).transpose(2, 3).reshape(len(x), -1)  # 2 x 2 x D each
        grad_weight = (x.t() @ blocks).view(channels, 2, 2, -1).permute(0, 3, 1, 2)
        return grad_x, grad_weight, grad.sum((0, 1, 2))

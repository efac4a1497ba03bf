"""What makes a CPU faster, above all in training: kept memory, cores, faster gradients."""

import ctypes
import os
import sys
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PART_BYTES = 24 << 20  # of a feature map to work on at once: what a last-level cache holds


def available_cores() -> int:
    """How many cores this process may use: fewer than the machine's under `taskset` or SLURM."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory for the next step; does nothing where there is no glibc.

    By default a step's gigabytes of activations go back to the system, which clears every page
    before its next use: a third of a step. The process stays as large as its largest step.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # noqa: N806 (malloc.h, mallopt(3))
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(M_TOP_PAD, 64 << 20)


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """The product of two matrices, without a gradient; in float32 on a CPU by oneDNN.

    PyTorch has MKL do it, at half that rate on an EPYC with AVX512.
    """
    if a.device.type == "cpu" and a.dtype == torch.float32 and torch.backends.mkldnn.is_available():
        return torch.ops.mkldnn._linear_pointwise(a, b.t(), None, "none", [], "")
    return a @ b


def convert(module: nn.Module) -> nn.Module:
    """Make a network's convolutions train faster, where oneDNN is slow; what they compute stays.

    With AVX2 alone, and for channels-last tensors, oneDNN takes two to four times as long for a
    convolution's gradient by its weights as for the convolution, though it multiplies as often.
    That gradient is a sum over all pixels of (the pixels around) x (the gradient by the output
    there): matrix products compute it for the full kernel. Even with AVX512, oneDNN is slow at an
    up-convolution's gradient by its bias, a plain sum.

    Layers of `module` change in place, and keep their parameters and names; layers of other forms
    than the U-Net's stay as they are. Returns `module`.
    """
    for layer in module.modules():
        layer.__class__ = _faster_class(layer)
    return module


def _faster_class(layer: nn.Module) -> type:
    """The class below whose forward pass suits a layer, or the layer's own."""
    if type(layer) is nn.Conv2d and layer.bias is None and is_plain_3x3(layer):
        has_slow_gradients = torch.backends.cpu.get_cpu_capability() == "AVX2"
        # Few channels make products too narrow to be faster.
        return Conv3x3 if layer.in_channels >= 32 and has_slow_gradients else nn.Conv2d
    if type(layer) is nn.ConvTranspose2d and layer.bias is not None and is_plain(layer):
        unpadded = layer.padding == layer.output_padding == (0, 0)
        if layer.kernel_size == layer.stride == (2, 2) and unpadded:
            return UpConv2x2
    return type(layer)


def is_plain_3x3(layer: nn.Module) -> bool:
    """Whether a layer is a convolution of the form that `model.double_conv` makes."""
    if type(layer) not in (nn.Conv2d, Conv3x3) or not is_plain(layer):
        return False
    square = layer.kernel_size == (3, 3) and layer.stride == (1, 1)
    return square and layer.padding in ("same", "valid")


def is_plain(layer: nn.Module) -> bool:
    """Whether a convolution has one group, no dilation, and zeros around its input."""
    return (layer.groups, layer.dilation, layer.padding_mode) == (1, (1, 1), "zeros")


def _trains(layer: nn.Module, x: Tensor) -> bool:
    """Whether this pass is one of training on a CPU."""
    return (
        not torch.compiler.is_compiling()
        and layer.training
        and torch.is_grad_enabled()
        and layer.weight.requires_grad
        and x.device.type == layer.weight.device.type == "cpu"
        and x.numel() > 0  # the part of a batch that a process has under torchrun may be empty
    )


def computing_dtype(layer: nn.Module, x: Tensor) -> torch.dtype | None:
    """What a layer computes in; None if its weights and `x` do not agree.

    Autocast leaves float64 alone.
    """
    dtypes = {x.dtype, layer.weight.dtype}
    if torch.is_autocast_enabled("cpu") and torch.float64 not in dtypes:
        return torch.get_autocast_dtype("cpu")
    return x.dtype if len(dtypes) == 1 else None


class Conv3x3(nn.Conv2d):
    """A 3x3 `nn.Conv2d` of stride 1 without bias; `convert` makes it."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, D, H, W), 2 less with `valid` padding."""
        if _trains(self, x) and computing_dtype(self, x) == torch.float32:
            return _Conv3x3.apply(x, self.weight, int(self.padding == "same"))
        return super().forward(x)


class UpConv2x2(nn.ConvTranspose2d):
    """A 2x2 `nn.ConvTranspose2d` of stride 2 with bias; `convert` makes it."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(N, C, H, W) -> (N, D, 2H, 2W)."""
        dtype = computing_dtype(self, x)
        is_plain = output_size is None and _trains(self, x)
        if is_plain and dtype in (torch.float32, torch.bfloat16):
            return _UpConv2x2.apply(x.to(dtype), self.weight.to(dtype), self.bias.to(dtype))
        return super().forward(x, output_size)


class _Conv3x3(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, weight: Tensor, padding: int) -> Tensor:
        return F.conv2d(x, weight, padding=padding)

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        x, weight, ctx.padding = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple:
        (x, weight), p = ctx.saved_tensors, ctx.padding
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x, _, _ = torch.ops.aten.convolution_backward(
                grad, x, weight, None, [1, 1], [p, p], [1, 1], False, [0, 0], 1,
                [True, False, False],
            )  # fmt: skip
        # In parts, since what a product lays out in memory is several times their size.
        grad_weight = sum(
            weight_gradient(F.pad(x[part], (p, p, p, p)), grad[part]) for part in _parts(x)
        )
        return grad_x, grad_weight, None


def _parts(images: Tensor) -> list[slice]:
    """A batch in parts of `PART_BYTES`, of one image at least."""
    step = max(1, PART_BYTES // (images[0].numel() * images.element_size()))
    return [slice(start, start + step) for start in range(0, len(images), step)]


def weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """(N, C, H + 2, W + 2) and the gradient by its 3x3 convolution, (N, D, H, W) -> (D, C, 3, 3).

    In channels-last layout a pixel and its left and right neighbours lie side by side, so that
    every third row of the matrix of neighbours is a view of `x`. For the lines above and below,
    three copies of `grad`, shifted by a line each, lie side by side.
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
        wanted = [ctx.needs_input_grad[0], True, False]
        grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
            grad, x, weight, None, [2, 2], [0, 0], [1, 1], True, [0, 0], 1, wanted
        )
        # In two steps: `grad` is a slice of the channels, over which one sum is slow.
        return grad_x, grad_weight, grad.permute(0, 2, 3, 1).sum(2).sum((0, 1))

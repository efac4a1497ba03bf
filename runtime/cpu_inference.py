"""Layers that predict faster on a CPU, since they take fewer passes over memory.

A convolution of the U-Net is as fast in oneDNN as a matrix product, so that only the passes over
memory between convolutions can be saved: at 512x1024 and width 16, each reads 16 MiB in bf16.
`folding.fold` puts these layers into a copy of a network. Each computes what PyTorch's layer
computes, to rounding, and is that layer where its own way is not faster: on a GPU, with gradients,
and under torch.compile. Only NaN is lost: the ReLU that oneDNN fuses makes 0 of it.
"""

from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runtime.cpu import computing_dtype, is_plain


def _is_faster(x: Tensor) -> bool:
    """Whether the ways of the layers below suit a pass over `x`."""
    return (
        not torch.compiler.is_compiling()
        and not torch.is_grad_enabled()
        and x.device.type == "cpu"
        and x.dim() == 4
        and x.numel() > 0
    )


def is_plain_1x1(layer: nn.Module) -> bool:
    """Whether a layer is a convolution of the form of the U-Net's last one."""
    return (
        type(layer) is nn.Conv2d
        and is_plain(layer)
        and layer.kernel_size == layer.stride == (1, 1)
        and layer.padding == (0, 0)
        and layer.bias is not None
    )


class ConvReLU(nn.Conv2d):
    """A convolution of `model.double_conv` and the ReLU after it, which oneDNN does at once."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, D, H, W), 0 and above; 2 less in H and W with `valid` padding."""
        dtype = computing_dtype(self, x)
        if not (_is_faster(x) and _onednn_computes_in(dtype)):
            return F.relu_(super().forward(x))
        x, p = x.to(dtype), int(self.padding == "same")
        form = [p, p], [1, 1], [1, 1], 1  # padding, stride, dilation, groups
        bias = None if self.bias is None else self.bias.to(dtype)
        weight = _packed(self, x, form)
        conv = torch.ops.mkldnn._convolution_pointwise
        return conv(x, weight, bias, *form, "relu", [], None)


_kept = WeakKeyDictionary()  # layer -> its weights, what they were packed for, and packed


def _packed(layer: nn.Conv2d, x: Tensor, form: tuple) -> Tensor:
    """A layer's weights in the dtype of `x` and oneDNN's layout for its shape.

    Kept for the next image of that size: that saves 2 % of a prediction.
    """
    weight = layer.weight
    counts_changes = not weight.is_inference()
    what = x.dtype, form, x.shape, counts_changes and weight._version
    known = _kept.get(layer)
    if counts_changes and known and known[0] is weight and known[1] == what:
        return known[2]
    reorder = torch.ops.mkldnn._reorder_convolution_weight
    packed = reorder(weight.to(x.dtype), *form, list(x.shape))
    if counts_changes:
        _kept[layer] = weight, what, packed
    return packed


def _onednn_computes_in(dtype: torch.dtype | None) -> bool:
    if not torch.backends.mkldnn.is_available():
        return False
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype == torch.float32


class Conv1x1(nn.Conv2d):
    """A 1x1 convolution that puts each class's logits side by side, where `label_map` wants them.

    As a product of the weights with all pixels. Only in bf16: in fp32 `label_map` is faster with a
    pixel's logits side by side.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, D, H, W), in bf16 the logits of a class side by side."""
        if not (_is_faster(x) and computing_dtype(self, x) == torch.bfloat16):
            return super().forward(x)
        n, channels, height, width = x.shape
        pixels = x.bfloat16().permute(0, 2, 3, 1).reshape(-1, channels)
        logits = self.weight.bfloat16().flatten(1) @ pixels.t()  # (D, N * H * W)
        # `torch.addmm` would spread the bias over all pixels first, which takes longer.
        logits.add_(self.bias.bfloat16().unsqueeze(1))
        return logits.view(-1, n, height, width).transpose(0, 1)

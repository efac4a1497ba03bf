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


def is_plain_pooling(layer: nn.Module) -> bool:
    """Whether a layer is the U-Net's pooling, `nn.MaxPool2d(2)`."""
    if type(layer) is not nn.MaxPool2d or layer.ceil_mode:
        return False
    return (layer.kernel_size, layer.stride, layer.padding, layer.dilation) == (2, 2, 0, 1)


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
    """A convolution of `model.double_conv` and the ReLU after it, which oneDNN does at once.

    Takes a map, or two that are to be concatenated: it adds what each of them gives, which saves
    the copy.
    """

    def forward(self, x: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        """(N, C, H, W), or two whose channels are C in all -> (N, D, H, W), 0 and above.

        2 less in height and width with `valid` padding.
        """
        parts = x if isinstance(x, tuple) else (x,)
        dtype = computing_dtype(self, parts[0])
        fused = _is_faster(parts[0]) and _onednn_computes_in(dtype)
        if len(parts) > 1 and not (fused and self.out_channels > 1 and all(map(_adds_up, parts))):
            parts = (torch.cat(parts, 1),)
        if not fused:
            return F.relu_(super().forward(parts[0]))
        first, *others = [part.to(dtype) for part in parts]
        p = int(self.padding == "same")
        form = [p, p], [1, 1], [1, 1], 1  # padding, stride, dilation, groups
        weight, *weights = _packed(self, [first, *others], form)
        bias = None if self.bias is None else self.bias.to(dtype)
        conv, conv_and_add = (
            torch.ops.mkldnn._convolution_pointwise,
            torch.ops.mkldnn._convolution_pointwise_.binary,
        )
        out = conv(first, weight, bias, *form, "none" if others else "relu", [], None)
        for other, weight in zip(others, weights, strict=True):
            out = conv_and_add(out, other, weight, None, *form, "add", 1.0, "relu", [], None)
        return out


_kept = WeakKeyDictionary()  # layer -> its weights, what they were packed for, and packed


def _packed(layer: nn.Conv2d, parts: list[Tensor], form: tuple) -> list[Tensor]:
    """A layer's weights for each of `parts`, in their dtype and oneDNN's layout.

    Kept for the next image of that size: that saves a few per cent of a prediction.
    """
    weight = layer.weight
    what = parts[0].dtype, form, [part.shape for part in parts]
    if not weight.is_inference():  # which do not count their changes
        what += (weight._version,)
        known = _kept.get(layer)
        if known and known[0] is weight and known[1] == what:
            return known[2]
    split = weight.to(parts[0].dtype).split([part.shape[1] for part in parts], dim=1)
    reorder = torch.ops.mkldnn._reorder_convolution_weight
    packed = [reorder(w, *form, list(x.shape)) for w, x in zip(split, parts, strict=True)]
    if not weight.is_inference():
        _kept[layer] = weight, what, packed
    return packed


def _adds_up(x: Tensor) -> bool:
    """Whether oneDNN adds a convolution of `x` to another: only in channels-last layout."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def _onednn_computes_in(dtype: torch.dtype | None) -> bool:
    if not torch.backends.mkldnn.is_available():
        return False
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype == torch.float32


class MaxPool2x2(nn.MaxPool2d):
    """`nn.MaxPool2d(2)` without the indices of the maxima, which only training wants."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, 2h, 2w) -> (N, C, h, w)."""
        if not _is_faster(x) or x.shape[-2] % 2 or x.shape[-1] % 2:
            return super().forward(x)
        rows = torch.maximum(x[:, :, ::2], x[:, :, 1::2])
        return torch.maximum(rows[..., ::2], rows[..., 1::2])


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

"""A faster copy of a network for prediction, which must give what the network itself gives.

In evaluation batch norm multiplies and shifts each channel by constants, which fit into the weights
and bias of the convolution before it (Jacob et al. 2018, section 3.2,
https://arxiv.org/abs/1712.05877). That saves a pass over every feature map, and so does a ReLU that
is computed with its convolution. Only layers of the exact types that the U-Net is made of are
replaced. The copy is compared with the network, and where they differ the network itself predicts.
"""

import copy
import warnings
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from model import Up
from runtime.cpu import Conv3x3, computing_dtype, is_plain_3x3
from runtime.precision import DTYPES, Autocast, Evaluation

# Largest error of the logits, relative to their standard deviation. Rounding stays below it;
# leaving out a layer costs 10 % or more.
TOLERANCE = {torch.float64: 1e-5, torch.float32: 5e-3, torch.float16: 0.02, torch.bfloat16: 0.1}
COMPARED_SIZE = 64, 96  # height and width, in pixels, of the images that both are compared on

ops = torch.ops.mkldnn  # PyTorch's oneDNN
_kept = WeakKeyDictionary()  # network -> its state when it was folded, and the folded copy or None


def for_prediction(model: nn.Module, precision: str = "fp32") -> nn.Module:
    """What predicts for `model` in `precision`: a folded copy, or the network itself.

    The network itself predicts where the copy does not give its logits, with a warning, and where
    `torch.compile` made it faster already. The copy is kept for the next call, until a weight, a
    layer or a hook of `model` changes. Through `.data`, a change of a few weights alone may not be
    seen. `model` stays as it is.
    """
    itself = Evaluation(model)
    if hasattr(model, "_orig_mod") or getattr(model, "_compiled_call_impl", None):
        return itself
    state = _state(model, precision)
    known_state, folded = _kept.get(model, (None, None))
    if state is None or state != known_state:
        folded = _fold_and_compare(model, itself, precision)
        _kept[model] = _state(model, precision), folded  # a layer may keep what it computed
    return itself if folded is None else folded


def _fold_and_compare(model: nn.Module, itself: nn.Module, precision: str) -> nn.Module | None:
    """The folded copy if it gives the logits of `itself`; else None, and a warning."""
    # The second is for a network whose `Up` does more than the paper's.
    for attempt in (lambda: add_convolutions(fold(model)), lambda: fold(model)):
        try:
            folded = attempt()
            if gives_the_same(folded, itself, precision):
                return folded
            cause = "that would change its predictions"
        except Exception as error:  # a network that cannot be copied, or is no U-Net
            cause = f"{type(error).__name__}: {error}"
    warnings.warn(
        f"batch norm is not folded into this network's convolutions ({cause}): the network itself "
        "predicts, which takes longer",
        stacklevel=4,
    )
    return None


@torch.inference_mode(False)  # so that the copy's weights count their changes (see `_packed`)
def fold(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode with fewer layers, not compared with `model`."""
    model = copy.deepcopy(model).eval()
    for module in list(model.modules()):
        if type(module) is nn.Sequential:
            _fold_block(module)
    return model


def _fold_block(block: nn.Sequential) -> None:
    """Fold batch norm and ReLU into the convolution that they follow, in place."""
    at = 0  # of the layer that the next ones may be folded into
    for i, layer in enumerate(block):
        conv = block[at]
        if not (is_untouched(conv) and is_untouched(layer)):
            at = i
        elif _has_constants(layer) and type(conv) in (nn.Conv2d, Conv3x3):
            block[at], block[i] = fuse_conv_bn_eval(conv, layer), nn.Identity()
        elif type(layer) is nn.ReLU and is_plain_3x3(conv):
            block[at], block[i] = copy.copy(conv), nn.Identity()  # it may be used elsewhere, too
            block[at].__class__ = ConvReLU
        else:
            at = i


def _has_constants(layer: nn.Module) -> bool:
    """Whether a layer is a batch norm that normalises with its running statistics."""
    is_batch_norm = type(layer) in (nn.BatchNorm2d, nn.SyncBatchNorm)
    return is_batch_norm and not layer.training and layer.running_mean is not None


def is_untouched(layer: nn.Module) -> bool:
    """Whether a layer computes what its class says: no hooks, and no forward pass of its own."""
    return not (layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer))


class ConvReLU(nn.Conv2d):
    """A convolution of `model.double_conv` and the ReLU after it, which oneDNN does at once.

    That saves 4 to 6 % of a prediction. Takes a map, or two that are to be concatenated. Only NaN
    is lost: this ReLU makes 0 of it. On a GPU, with gradients and under torch.compile it computes
    as PyTorch does.
    """

    def forward(self, x: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        """(N, C, H, W) -> (N, D, H, W), 0 and above; 2 less in H and W with `valid` padding."""
        maps = x if isinstance(x, tuple) else (x,)
        dtype = computing_dtype(self, maps[0])
        is_slower = torch.compiler.is_compiling() or torch.is_grad_enabled() or not maps[0].numel()
        is_fused = not is_slower and maps[0].device.type == "cpu" and _onednn_computes_in(dtype)
        if len(maps) > 1 and not (is_fused and self.out_channels > 1 and all(map(_adds_up, maps))):
            maps = (torch.cat(maps, 1),)
        if not is_fused:
            return F.relu_(super().forward(maps[0]))
        first, *others = [each.to(dtype) for each in maps]
        p = int(self.padding == "same")
        form = [p, p], [1, 1], [1, 1], 1  # padding, stride, dilation, groups
        bias = None if self.bias is None else self.bias.to(dtype)
        weight, *weights = _packed(self, [first, *others], form)
        conv, add = ops._convolution_pointwise, ops._convolution_pointwise_.binary
        out = conv(first, weight, bias, *form, "none" if others else "relu", [], None)
        for other, weight in zip(others, weights, strict=True):
            out = add(out, other, weight, None, *form, "add", 1.0, "relu", [], None)
        return out


class UpAdding(Up):
    """An `Up` whose first convolution adds what the skip and the upsampled map give.

    The sum is that of their concatenation, without the copy: that saves 3 to 5 % of a prediction.
    """

    def join(self, skip: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        return skip, x


def add_convolutions(folded: nn.Module) -> nn.Module:
    """Make each `Up` of a folded network one that adds, in place; returns the network."""
    for module in folded.modules():
        if type(module) is Up and isinstance(module.convs, nn.Sequential):
            if type(module.convs[0]) is ConvReLU:
                module.__class__ = UpAdding
    return folded


def _adds_up(x: Tensor) -> bool:
    """Whether oneDNN adds a convolution of `x` to another: only in channels-last layout."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


_packed_weights = WeakKeyDictionary()  # layer -> its weights, what they were packed for, and packed


def _packed(layer: nn.Conv2d, maps: list[Tensor], form: tuple) -> list[Tensor]:
    """A layer's weights for each map, in its dtype and oneDNN's layout for its shape.

    Kept for the next image of that size: that saves 2 % of a prediction.
    """
    weight = layer.weight
    counts_changes = not weight.is_inference()
    what = maps[0].dtype, form, [x.shape for x in maps], counts_changes and weight._version
    known = _packed_weights.get(layer)
    if counts_changes and known and known[0] is weight and known[1] == what:
        return known[2]
    parts = weight.to(maps[0].dtype).split([x.shape[1] for x in maps], dim=1)
    reorder = ops._reorder_convolution_weight
    packed = [reorder(part, *form, list(x.shape)) for part, x in zip(parts, maps, strict=True)]
    if counts_changes:
        _packed_weights[layer] = weight, what, packed
    return packed


def _onednn_computes_in(dtype: torch.dtype | None) -> bool:
    if not torch.backends.mkldnn.is_available():
        return False
    if dtype == torch.bfloat16:
        return ops._is_mkldnn_bf16_supported()
    return dtype == torch.float32


@torch.inference_mode()
def gives_the_same(folded: nn.Module, itself: nn.Module, precision: str) -> bool:
    """Whether two networks give the same logits, in fp32 and in `precision`, up to rounding.

    On two random images with shapes of several sizes, of `COMPARED_SIZE` pixels.
    """
    weight = next(itself.parameters())
    generator, channels = torch.Generator().manual_seed(0), itself.module.settings["in_channels"]
    coarse = torch.randint(0, 256, (2, channels, 12, 16), generator=generator).float()
    fine = torch.randint(0, 256, (2, channels, *COMPARED_SIZE), generator=generator)
    images = F.interpolate(coarse, COMPARED_SIZE).lerp(fine.float(), 0.2).byte().to(weight.device)
    for each in dict.fromkeys(("fp32", precision)):
        found, expected = (
            Autocast(net, each)(images, full_image=True).float() for net in (folded, itself)
        )
        error, spread = found - expected, expected - expected.mean((0, 2, 3), keepdim=True)
        dtype = weight.dtype if each == "fp32" else DTYPES[each]
        if not error.norm() <= TOLERANCE[dtype] * spread.norm():  # also where one is not finite
            return False
    return True


def _state(model: nn.Module, precision: str) -> list | None:
    """What the predictions depend on, to see later whether it changed; None if that is unknown."""
    modules = list(model.modules())
    named = [each for module in modules for each in (module._parameters, module._buffers)]
    tensors = [tensor for each in named for tensor in each.values() if tensor is not None]
    if any(tensor.is_inference() for tensor in tensors):  # these do not count their changes
        return None
    weights = [(id(tensor), tensor.data_ptr(), tensor._version) for tensor in tensors]
    # Changes through `.data` are not counted either. Vectors and a few weights of each filter show
    # them: to look at all weights takes 3 ms, a tenth of a prediction.
    floats = [tensor.detach() for tensor in tensors if tensor.is_floating_point()]
    sample = torch.cat([part for tensor in floats for part in _sample(tensor)])
    kinds = [_content(kind) for kind in dict.fromkeys(map(type, modules))]
    layers = [(id(module), _content(module)) for module in modules]
    return [precision, weights, sample.cpu().double().numpy().tobytes(), layers, kinds]


def _sample(weights: Tensor) -> list[Tensor]:
    """The values of a vector; of kernels (D, C, h, w) one of each of the first row and column."""
    if weights.dim() < 2:
        return [weights.reshape(-1)]
    first = (0,) * (weights.dim() - 2)
    return [weights[:, 0, *first], weights[0, :, *first]]


def _content(owner: object) -> list:
    """The attributes of a layer or of a class: numbers and names, of others their identity."""
    content = []
    for name, value in vars(owner).items():
        if isinstance(value, dict) and not value:  # as most are, of hooks
            continue
        content.append(name)
        if isinstance(value, dict):
            content += [*value, *map(id, value.values())]
        elif isinstance(value, int | float | str):
            content.append(value)
        elif isinstance(value, Tensor) and not value.is_inference():
            content += [id(value), value._version]
        else:
            content += map(id, value) if isinstance(value, tuple | list) else [id(value)]
    return content

"""The U-Net's training pass on a CPU, an image or so at a time: half the memory for its maps.

Autograd keeps two maps for each 3x3 convolution: what it gives, and that after batch norm and
ReLU. The second follows from the first by a multiplication, so here it is made again when the
backward pass wants it, with what pooling, up-convolution and concatenation make of it (as in
In-Place Activated BatchNorm, Rota Bulo et al. 2018, https://arxiv.org/abs/1712.02616, which keeps
the other one). Batch norm looks at the whole batch, all else at single images: each convolution,
with what comes before it, is done for as many images as fit into a processor's cache. The maps
that stay lie in one workspace, used again in each step: from torch's allocator they would come
with half as much again in gaps between them.

What it computes is what `UNet.layers` and autograd compute, to rounding.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from convolution import Conv3x3, UpConv2x2, gradients, parts

LARGE = 48 << 20  # bytes of a map from which on it is done: it costs up to a tenth of the time
WIPE_ON_FORK = 18  # of linux/mman.h; Python's mmap lacks it


@dataclass(eq=False)
class Unit:
    """A convolution, what its input is made from, and the map that it gives.

    `prepare` makes the input from the sources after batch norm and ReLU; `weights` are the
    parameters that it uses. The first unit has no source but the pictures, the last no batch norm.
    """

    conv: nn.Conv2d
    norm: nn.BatchNorm2d | None
    level: int  # poolings above it
    sources: list[Unit]
    prepare: Callable[..., Tensor]
    weights: list[Tensor]
    map: Tensor | None = None  # (N, C, H, W), before batch norm
    mean: Tensor | None = None  # (C,), of the map over the batch
    var: Tensor | None = None  # (C,), biased
    grad: Tensor | None = None  # (N, C, H, W), of the loss by the map after batch norm
    room: Tensor | None = None  # for `grad`; without one it takes the place of a consumer's map
    parameters: list[Tensor] = field(init=False)

    def __post_init__(self):
        own = [*self.conv.parameters(), *(self.norm.parameters() if self.norm else [])]
        self.parameters = [*own, *self.weights]

    def activated(self, part: slice) -> Tensor:
        """The map of some images after batch norm and ReLU."""
        norm = self.norm
        x = self.map[part]
        x = F.batch_norm(x, self.mean, self.var, norm.weight, norm.bias, eps=norm.eps)
        return x.relu_()


def units(model: nn.Module) -> list[Unit]:
    """The convolutions of a `UNet` in the order in which they run."""
    found, skips = [], []

    def add(*settings) -> Unit:
        found.append(Unit(*settings))
        return found[-1]

    def double_conv(block: nn.Sequential, *first) -> Unit:
        x = add(block[0], block[1], *first)
        return add(block[3], block[4], x.level, [x], lambda x: x, [])

    def joined(up: nn.Module) -> Callable:
        return lambda skip, x: torch.cat([skip, up(x)], dim=1)

    x = double_conv(model.contracting[0], 0, [], lambda: None, [])
    for level, block in enumerate(model.contracting[1:], 1):
        skips.append(x)
        x = double_conv(block, level, [x], lambda x: F.max_pool2d(x, 2), [])
    for up_conv in model.expansive:
        skip, up = skips.pop(), up_conv.up
        x = double_conv(up_conv.convs, skip.level, [skip, x], joined(up), [up.weight, up.bias])
    add(model.conv_1x1, None, 0, [x], lambda x: x, [])
    return found


def applies(model: nn.Module, images: Tensor) -> bool:
    """Whether this is a training pass for `forward`: `LARGE`, float32, on a CPU, and `usual`.

    `valid` padding, a network without batch norm, with a part frozen, exchanged or hooked, and
    all else are left to autograd.
    """
    pixels = len(images) * images.shape[-2] * images.shape[-1]
    return (
        model.training
        and torch.is_grad_enabled()
        and not images.requires_grad
        and type(images) is Tensor  # not a fake one
        and images.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and all(p.dtype == torch.float32 and p.requires_grad for p in model.parameters())
        and pixels * 4 * model.settings["width"] > LARGE
        and pixels >> 2 * model.depth > 1  # else batch norm says what is wrong
        and usual(model)
    )


def usual(model: nn.Module) -> bool:
    """Whether the network's parts compute what is done by hand here, and nobody looks in."""
    blocks = [*model.contracting, *(up_conv.convs for up_conv in model.expansive)]
    layers, last = [m for m in model.modules() if m is not model], model.conv_1x1
    hooked = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    return (
        all(m.training and not any(getattr(m, name) for name in hooked) for m in layers)
        and not any(p._backward_hooks for p in model.parameters())
        and all(type(up_conv.up) is UpConv2x2 for up_conv in model.expansive)
        and all(up_conv.up.bias is not None for up_conv in model.expansive)
        and all(type(block[0]) is Conv3x3 for block in blocks)
        and all(str(b) == usual_block(b[0].in_channels, b[0].out_channels) for b in blocks)
        and str(last) == str(nn.Conv2d(*last.weight.shape[1::-1], 1, device="meta"))
    )


@cache
def usual_block(in_channels: int, out_channels: int) -> str:
    """How the double convolution that is done by hand here prints."""
    layers = []
    with torch.device("meta"):
        for channels in (in_channels, out_channels):
            conv = Conv3x3(channels, out_channels, "same", bias=False)
            layers += [conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
    return str(nn.Sequential(*layers))


def forward(model: nn.Module, images: Tensor) -> Tensor:
    """`UNet.layers` where `applies` says so: float32 (N, in_channels, H, W) -> (N, classes, H, W).

    The backward pass can be made once: another, with `retain_graph`, raises RuntimeError, as does
    a gradient of the gradient.
    """
    steps = units(model)
    return _Pass.apply(steps, images, *(p for unit in steps for p in unit.parameters))


class _Pass(torch.autograd.Function):
    @staticmethod
    def forward(ctx, steps: list[Unit], images: Tensor, *parameters: Tensor) -> Tensor:
        *inner, last = steps
        # In the backward pass the gradient of a unit's first source takes the place of the unit's
        # own map, part by part; these have no such place.
        apart = [*(source for unit in inner for source in unit.sources[1:]), *last.sources]

        def shape(unit: Unit) -> tuple[int, ...]:
            h, w = (n >> unit.level for n in images.shape[-2:])
            return len(images), h, w, unit.conv.out_channels

        ctx.workspace, maps = carve([shape(unit) for unit in [*inner, *apart]])
        for unit in inner:
            unit.map = maps.pop(0)
        for unit in apart:
            unit.room = maps.pop(0)
        logits = images.new_empty(shape(last)).permute(0, 3, 1, 2)
        for unit in steps:
            result = logits if unit is last else unit.map
            for part in parts(result):
                result[part] = unit.conv(prepared(unit, images, part)[1])
            if unit.norm is not None:
                norm = unit.norm
                norm.num_batches_tracked += 1
                unit.mean, unit.var = torch.batch_norm_update_stats(
                    unit.map, norm.running_mean, norm.running_var, norm.momentum
                )
        ctx.steps = steps
        ctx.save_for_backward(images, *parameters)  # which sees if they are changed meanwhile
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple:
        images, *parameters = ctx.saved_tensors
        steps, ctx.steps = ctx.steps, None
        if steps is None:
            raise RuntimeError("the backward pass has been made already: make a forward pass first")
        found = {}
        for unit in reversed(steps):
            found |= zip(unit.parameters, unit_backward(unit, images, grad), strict=True)
            unit.map = unit.grad = unit.room = None
        give_back(ctx.workspace)
        ctx.workspace = None
        return None, None, *(found[p] for p in parameters)


def prepared(unit: Unit, images: Tensor, part: slice) -> tuple[list[Tensor], Tensor]:
    """A unit's sources after ReLU, and its input made from them, for some of the images."""
    if not unit.sources:
        return [], images[part]
    sources = [source.activated(part).requires_grad_() for source in unit.sources]
    return sources, unit.prepare(*sources)


def unit_backward(unit: Unit, images: Tensor, grad: Tensor) -> list[Tensor]:
    """The gradients of a unit's parameters; adds to `grad` of its sources.

    grad: of the loss by the logits, (N, classes, H, W), for the last unit.
    """
    conv, norm, weight = unit.conv, unit.norm, unit.conv.weight
    if norm is not None:
        # The gradient by the map is scale * (grad + a * map + b), channel by channel (Ioffe &
        # Szegedy 2015, section 3, https://arxiv.org/abs/1502.03167); the scale goes to the weight.
        invstd = (unit.var + norm.eps).rsqrt()
        _, grad_scale, grad_shift = torch.ops.aten.native_batch_norm_backward(
            unit.grad, unit.map, norm.weight, None, None, unit.mean, invstd, True, norm.eps,
            [False, True, True],
        )  # fmt: skip
        pixels = unit.map.numel() // unit.map.shape[1]
        a = -invstd * grad_scale / pixels
        b = -grad_shift / pixels - a * unit.mean
        zero, one = torch.zeros_like(a), torch.ones_like(a)
        scale = (norm.weight * invstd).view(-1, 1, 1, 1)
        weight = weight * scale
    fresh = [source.grad is None for source in unit.sources]
    for source in unit.sources:
        if source.grad is None:
            source.grad = unit.map if source.room is None else source.room
    totals = []
    for part in parts(grad if norm is None else unit.map):
        out = grad[part]
        if norm is not None:
            out = F.batch_norm(unit.map[part], zero, one, a, b, eps=0.0).add_(unit.grad[part])
        with torch.enable_grad():
            sources, x = prepared(unit, images, part)
        grad_x, *own = gradients(conv, x.detach(), weight, out, bool(sources))
        if sources:
            by_source = torch.autograd.grad(x, [*sources, *unit.weights], grad_x)
            own += by_source[len(sources) :]
            for source, y, g, first in zip(unit.sources, sources, by_source, fresh, strict=False):
                behind_relu(g, y, source.grad[part], first)
        totals = [t.add_(o) for t, o in zip(totals, own, strict=True)] if totals else own
    if norm is None:
        return totals
    return [totals[0] * scale, grad_scale, grad_shift, *totals[1:]]


def large(x: Tensor) -> bool:
    """Whether this is a plain tensor in a CPU's memory, of more than `LARGE` bytes."""
    of_cpu = type(x) is Tensor and x.device.type == "cpu"
    return of_cpu and x.numel() * x.element_size() > LARGE


def behind_relu(grad: Tensor, y: Tensor, result: Tensor, first: bool) -> None:
    """Put the gradient by a ReLU's input into `result`, or add it; `grad` is by its result `y`."""
    if first:
        torch.ops.aten.threshold_backward.grad_input(grad, y, 0, grad_input=result)
    else:
        result += torch.ops.aten.threshold_backward(grad, y, 0)


_given_back: list[Tensor] = []


def carve(shapes: list[tuple[int, ...]]) -> tuple[Tensor, list[Tensor]]:
    """The workspace, and maps in it: channels-last (N, C, H, W), of shapes (N, H, W, C).

    It is mapped by itself, with large pages where the system has them: never in the allocator's
    gaps, and what is not touched takes no memory.
    """
    sizes = [n * h * w * c for n, h, w, c in shapes]
    workspace = _given_back.pop() if _given_back else None
    if workspace is None or len(workspace) < sum(sizes):
        workspace = None  # first make room for the new one
        private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if os.name == "posix" else {}
        memory = mmap.mmap(-1, 4 * sum(sizes), **private)
        if sys.platform == "linux":
            for advice in (mmap.MADV_HUGEPAGE, WIPE_ON_FORK):  # a loader's worker needs no copy
                with suppress(OSError):  # of a kernel without it
                    memory.madvise(advice)
        workspace = torch.frombuffer(memory, dtype=torch.float32)
    pieces = workspace[: sum(sizes)].split(sizes)
    return workspace, [
        piece.view(shape).permute(0, 3, 1, 2) for piece, shape in zip(pieces, shapes, strict=True)
    ]


def give_back(workspace: Tensor) -> None:
    """Keep the workspace for the next step, as long as the process lives; of two, the larger."""
    _given_back[:] = [max([workspace, *_given_back], key=len)]

"""The architecture of a U-Net, as a table and as the paper's figure 1."""

import copy
import re
from itertools import pairwise

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import nn

from model import Up
from runtime.cpu import Conv3x3, UpConv2x2

LAYERS = nn.Conv2d, Conv3x3, nn.BatchNorm2d, nn.SyncBatchNorm, nn.ReLU
# What the figure draws: layers by their names and exact types.
DRAWN = {
    r"|contracting|expansive": (nn.Module,),
    r"contracting\.\d+|expansive\.\d+\.convs": (nn.Sequential,),
    r"(contracting\.\d+|expansive\.\d+\.convs)\.\d+": LAYERS,
    r"expansive\.\d+": (Up,),
    r"expansive\.\d+\.up": (nn.ConvTranspose2d, UpConv2x2),
    r"pool": (nn.MaxPool2d,),
    r"conv_1x1": (nn.Conv2d,),
}


def not_drawn(model: nn.Module) -> list[str]:
    """The layers that `plot_unet` does not know, such as "expansive.0.gate: Conv2d"."""
    unknown = []
    for name, module in model.named_modules():
        kinds = next((v for k, v in DRAWN.items() if re.fullmatch(k, name)), ())
        known = type(module) in kinds or nn.Module in kinds
        if not known and not any(name.startswith(f"{other}.") for other, _ in unknown):
            unknown.append((name, type(module).__name__))
    return [f"{name}: {kind}" for name, kind in unknown]


def trace_sizes(model: nn.Module, height: int, width: int) -> dict[str, tuple[int, int, int]]:
    """(C, H, W) of the output of each convolution that is drawn, for an image of that size.

    By the layer's name, in the network's order. Nothing is computed: shapes run through a copy on
    the `meta` device.
    """
    shapes = {}
    meta_model = copy.deepcopy(model).to("meta").eval()
    for name, module in meta_model.named_modules():
        is_conv = isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1)
        if is_conv or re.fullmatch(r"expansive\.\d+\.up|conv_1x1", name):
            module.register_forward_hook(
                lambda _, __, output, name=name: shapes.update({name: tuple(output.shape[1:])})
            )
    image = torch.zeros(1, model.settings["in_channels"], height, width, device="meta")
    try:
        meta_model(image)
    except ValueError:  # too small for `valid` padding, if it is not extended
        meta_model(image, full_image=True)
    return shapes


def summarize(model: nn.Module, height: int, width: int) -> str:
    """A table of the levels for an image of that size: channels, feature maps, parameters."""
    sizes = trace_sizes(model, height, width)
    total, *count = (count_parameters(module) for module in (model, *model.contracting))
    for level, up in enumerate(reversed(model.expansive)):
        count[level] += count_parameters(up)
    count[0] += total - sum(count)  # of the last convolution
    lines = ["level  channels  feature map    parameters"]
    for level, number in enumerate(count):
        c, h, w = next(sizes[name] for name in sizes if name.startswith(f"contracting.{level}."))
        lines.append(f"{level:5}  {c:8}  {f'{h} x {w}':12} {number:12,}")
    return "\n".join([*lines, f"{'':30}{total:12,}"])


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def plot_unet(model: nn.Module, height: int, width: int) -> Figure:
    """The network as in the paper's figure 1, with the sizes for an image of that size.

    Layers that the paper's network does not have are named below it; what `forward` does beside
    calling layers is not seen.
    """
    sizes = trace_sizes(model, height, width)
    depth = model.depth
    colors = {
        "conv 3x3" + (", batch norm" if model.settings["batch_norm"] else "") + ", ReLU": "C0",
        "copy" + (" and crop" if model.padding == "valid" else ""): "0.6",
        "max pool 2x2": "C3",
        "up-conv 2x2": "C2",
        "conv 1x1": "C9",
    }
    conv, skip, pool, up, last = colors.values()
    figure = Figure(figsize=(13, 2.2 + 1.25 * depth), layout="constrained")
    ax = figure.subplots()
    ax.axis("off")

    tall = [1.7 * 0.72**level for level in range(depth + 1)]  # of the boxes of each level
    y = [0.0]  # of their centres
    for above, below in pairwise(tall):
        y.append(y[-1] - above / 2 - below / 2 - 1.0)
    top, bottom = ([at + sign * n / 2 for at, n in zip(y, tall, strict=True)] for sign in (1, -1))

    def box(x: float, level: int, channels: str | int, size=None, shade="#d6e4f5"):
        ax.add_patch(Rectangle((x, bottom[level]), 0.26, tall[level], fc=shade, ec="C0"))
        ax.text(x + 0.13, top[level] + 0.05, channels, ha="center", fontsize=8)
        if size is not None:
            label = f"{size[0]}\u00d7{size[1]}"
            ax.text(x + 0.13, bottom[level] - 0.06, label, ha="center", va="top", fontsize=6.5)

    def arrow(start: tuple, end: tuple, color: str):
        ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": color, "lw": 1.6})

    def convolve(x: float, level: int, names: list[str], color: str = conv) -> float:
        for name in names:
            arrow((x + 0.3, y[level]), (x + 0.96, y[level]), color)
            x += 1
            box(x, level, sizes[name][0], sizes[name][1:])
        return x

    x, channels, size = 0.0, model.settings["in_channels"], (height, width)
    ends = []  # x of each level's last map, where its skip starts
    for level in range(depth + 1):
        if level:
            arrow((x + 0.13, bottom[level - 1] - 0.24), (x + 0.13, top[level] + 0.22), pool)
        box(x, level, channels, size)
        names = [n for n in sizes if n.startswith(f"contracting.{level}.")]
        x = convolve(x, level, names)
        ends.append(x)
        channels, h, w = sizes[names[-1]]
        size = h // 2, w // 2  # pooled
    for step in range(depth):
        level = depth - 1 - step
        names = [n for n in sizes if n.startswith(f"expansive.{step}.convs")]
        joined = sizes[f"expansive.{step}.up"]
        arrow((x + 0.13, top[level + 1] + 0.24), (x + 0.13, bottom[level] - 0.24), up)
        arrow((ends[level] + 0.3, y[level]), (x - 0.3, y[level]), skip)
        box(x - 0.26, level, "", shade="white")  # the skip's half
        box(x, level, "", joined[1:])
        ax.text(x, top[level] + 0.05, 2 * joined[0], ha="center", fontsize=8)
        x = convolve(x, level, names)
    x = convolve(x, 0, ["conv_1x1"], last)
    for i, (name, color) in enumerate(colors.items()):
        spot = top[-1] + 0.3 - 0.32 * i
        arrow((x - 2.6, spot), (x - 2.1, spot), color)
        ax.text(x - 2.0, spot, name, va="center", fontsize=9)
    if others := not_drawn(model):
        more = f", and {len(others) - 6} more" if len(others) > 6 else ""
        note = f"Not drawn as they are: {', '.join(others[:6])}{more}"
        ax.text(-0.5, y[-1] - 1.1, note, fontsize=8, color="C3", wrap=True)
    ax.set(xlim=(-0.6, x + 1), ylim=(y[-1] - 1.2, top[0] + 0.4))
    return figure

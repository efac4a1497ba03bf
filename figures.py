"""The figures: each is a function that returns a `matplotlib.figure.Figure`.

Nothing is shown or saved here.
"""

import copy

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from utils import CITYSCAPES, IGNORE_INDEX, Classes, ConfusionMatrix


def percent(value: float | None) -> str:
    """0.1234 as "12.34%"; None, for what is absent, as "-"."""
    return "-" if value is None else f"{value:.2%}"


def colorize(labels: Tensor, classes: Classes = CITYSCAPES) -> Tensor:
    """Train ids (H, W) in the colours of their classes: (H, W, 3) uint8; black is not scored."""
    return classes.palette[labels.long().cpu()]


def class_legend(figure: Figure, labels: list[Tensor], classes: Classes) -> None:
    """Name the colours of the classes that occur in `labels`, below the figure."""
    present = torch.cat([x.flatten() for x in labels]).unique().tolist()
    known = [i for i in present if i < len(classes)]
    names = [Patch(color=classes.palette[i].numpy() / 255, label=classes.names[i]) for i in known]
    names.append(Patch(color="black", label="not scored"))
    figure.legend(handles=names, loc="outside lower center", ncols=7, frameon=False, fontsize=8)


def _nothing() -> Figure:
    figure = Figure(figsize=(6, 0.8))
    figure.text(0.5, 0.5, "no scored pixel: this split has no labels", ha="center", va="center")
    return figure


def plot_samples(pairs: list[tuple[Tensor, Tensor]], classes: Classes = CITYSCAPES) -> Figure:
    """Images (3, H, W) uint8 above their labels (H, W), with a legend."""
    height, width = pairs[0][1].shape
    columns = len(pairs)
    figure = Figure(figsize=(12, 24 / columns * height / width + 0.9), layout="constrained")
    axes = figure.subplots(2, columns, squeeze=False)
    for (top, bottom), (image, labels) in zip(axes.T, pairs, strict=True):
        top.imshow(image.permute(1, 2, 0).cpu())
        bottom.imshow(colorize(labels, classes))
    for ax in axes.flat:
        ax.axis("off")
    class_legend(figure, [labels for _, labels in pairs], classes)
    return figure


def plot_predictions(
    rows: list[tuple[str, Tensor | None, Tensor, Tensor]], classes: Classes = CITYSCAPES
) -> Figure:
    """Prediction beside truth beside an error map, a row per scene.

    A row is (title, image (3, H, W) uint8 or None to leave that column out, truth (H, W),
    prediction (H, W)); in the error map wrong is red, right is grey, not scored is white.
    """
    if not rows:
        return _nothing()
    height, width = rows[0][2].shape
    names = ["image", "truth", "prediction", "errors"]
    columns = len(names) if rows[0][1] is not None else len(names) - 1
    size = (12, (12 / columns * height / width + 0.25) * len(rows) + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for place, (title, image, truth, prediction) in enumerate(rows):
        errors = torch.full((*truth.shape, 3), 255, dtype=torch.uint8)
        errors[(truth != IGNORE_INDEX) & (prediction == truth)] = 220
        errors[(truth != IGNORE_INDEX) & (prediction != truth)] = torch.tensor(
            [200, 30, 40], dtype=torch.uint8
        )
        panels = [colorize(truth, classes), colorize(prediction, classes), errors]
        if image is not None:
            panels.insert(0, image.permute(1, 2, 0).cpu())
        for ax, name, panel in zip(axes[place], names[-columns:], panels, strict=True):
            ax.imshow(panel)
            ax.set_xticks([])
            ax.set_yticks([])
            if place == 0:
                ax.set_title(name, fontsize=10)
        axes[place, 0].set_ylabel(title, fontsize=9)
    class_legend(figure, [labels for row in rows for labels in row[2:]], classes)
    return figure


def plot_curves(history: list[dict]) -> Figure:
    """Loss, pixel accuracy and mIoU against the epoch, from the records of `engine.fit`."""
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    panels = (
        ("loss", ("train_loss", "val_loss")),
        ("pixel accuracy", ("train_accuracy", "val_accuracy")),
        ("mIoU", (None, "mIoU")),
    )
    epochs = [record["epoch"] for record in history]
    seen = history[-1].get("trained_on_val") if history else False
    names = "train", "validation (trained on, too)" if seen else "validation"
    for ax, (title, keys) in zip(figure.subplots(1, 3), panels, strict=True):
        for key, name, color in zip(keys, names, ("C0", "C1"), strict=True):
            if key is not None:
                values = [record[key] for record in history]
                ax.plot(epochs, values, color=color, label=name, marker=".", ms=4)
        ax.set(title=title, xlabel="epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if title != "loss":
            ax.set_ylim(0, 1)
            ax.yaxis.set_major_formatter(PercentFormatter(1))
        ax.grid(alpha=0.3)
        ax.legend(frameon=False)
    return figure


def plot_iou(iou: dict[str, float | None], classes: Classes = CITYSCAPES) -> Figure:
    """IoU per class (0..1, None where absent: left out), sorted, with the mean marked."""
    known = sorted(((v, name) for name, v in iou.items() if v is not None), reverse=True)
    if not known:
        return _nothing()
    figure = Figure(figsize=(8, 0.28 * len(known) + 1), layout="constrained")
    ax = figure.subplots()
    colors = [classes.palette[classes.names.index(name)].numpy() / 255 for _, name in known]
    bars = ax.barh([n for _, n in known], [v for v, _ in known], color=colors, ec="0.4", lw=0.5)
    ax.bar_label(bars, [f"{v:.1%}" for v, _ in known], padding=3, fontsize=8)
    mean = sum(v for v, _ in known) / len(known)
    ax.axvline(mean, color="0.2", ls="--", lw=1)
    ax.text(mean, 1.01, f"mean {mean:.1%}", ha="center", transform=ax.get_xaxis_transform())
    ax.set(xlim=(0, 1.08), xlabel="intersection over union")
    ax.invert_yaxis()
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def plot_confusion(confusion: ConfusionMatrix, classes: Classes = CITYSCAPES) -> Figure:
    """Of each true class (row), the share that was predicted as each class (column)."""
    if not confusion.matrix.any():
        return _nothing()
    matrix = confusion.matrix.cpu().double()
    seen = ((matrix.sum(0) + matrix.sum(1)) > 0).nonzero().flatten()
    share = matrix[seen][:, seen]
    share = share / share.sum(1, keepdim=True).clamp(min=1)
    names = [classes.names[i] for i in seen]
    figure = Figure(figsize=(8.5, 7.5), layout="constrained")
    ax = figure.subplots()
    panel = ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in (share >= 0.005).nonzero().tolist():
        value = share[row, column].item()
        color = "white" if value > 0.5 else "black"
        ax.text(column, row, f"{value * 100:.0f}", ha="center", va="center", c=color, fontsize=7)
    ax.set_xticks(range(len(names)), names, rotation=60, ha="right")
    ax.set_yticks(range(len(names)), names)
    ax.set(xlabel="predicted", ylabel="true", title="per cent of each true class")
    figure.colorbar(panel, shrink=0.7, format=PercentFormatter(1))
    return figure


def trace_sizes(model: nn.Module, height: int, width: int) -> dict[str, tuple[int, int, int]]:
    """(C, H, W) of the output of each of a U-Net's convolutions, for an image of that size.

    By the convolution's name, in the order of the network. Nothing is computed: shapes run
    through a copy on the `meta` device.
    """
    shapes = {}
    meta_model = copy.deepcopy(model).to("meta").eval()
    for name, module in meta_model.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(
                lambda _, __, output, name=name: shapes.update({name: tuple(output.shape[1:])})
            )
    meta_model(torch.zeros(1, model.settings["in_channels"], height, width, device="meta"))
    return shapes


def summarize(model: nn.Module, height: int, width: int) -> str:
    """A table of the levels for an image of that size: channels, feature maps, parameters."""
    sizes = trace_sizes(model, height, width)
    count = dict.fromkeys(range(model.depth + 1), 0)
    for name, parameter in model.named_parameters():
        path, _, step = name.partition(".")
        if path == "contracting":
            level = int(step.split(".")[0])
        else:
            level = model.depth - 1 - int(step.split(".")[0]) if path == "expansive" else 0
        count[level] += parameter.numel()
    lines = ["level  channels  feature map    parameters"]
    for level in range(model.depth + 1):
        _, (c, h, w) = next(x for x in sizes.items() if x[0].startswith(f"contracting.{level}."))
        lines.append(f"{level:5}  {c:8}  {f'{h} x {w}':12} {count[level]:12,}")
    return "\n".join([*lines, f"{'':31}{sum(count.values()):12,}"])


def plot_unet(model: nn.Module, height: int, width: int) -> Figure:
    """The network as in the paper's figure 1, with the sizes for an image of that size."""
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

    def tall(level: int) -> float:
        return 1.7 * 0.72**level

    y = [0.0]  # centre of each level
    for level in range(depth):
        y.append(y[-1] - tall(level) / 2 - tall(level + 1) / 2 - 1.0)

    def box(x: float, level: int, channels: str | int, size=None, shade="#d6e4f5"):
        top, bottom = y[level] + tall(level) / 2, y[level] - tall(level) / 2
        ax.add_patch(Rectangle((x, bottom), 0.26, tall(level), fc=shade, ec="C0"))
        ax.text(x + 0.13, top + 0.05, channels, ha="center", fontsize=8)
        if size is not None:
            label = f"{size[0]}\u00d7{size[1]}"
            ax.text(x + 0.13, bottom - 0.06, label, ha="center", va="top", fontsize=6.5)

    def arrow(start: tuple, end: tuple, color: str):
        ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": color, "lw": 1.6})

    def convolve(x: float, level: int, names: list[str], color: str = conv) -> float:
        for name in names:
            arrow((x + 0.3, y[level]), (x + 0.96, y[level]), color)
            x += 1
            box(x, level, sizes[name][0], sizes[name][1:])
        return x

    x, channels = 0.0, model.settings["in_channels"]
    ends = []  # x of each level's last map, where its skip starts
    for level in range(depth + 1):
        names = [n for n in sizes if n.startswith(f"contracting.{level}.")]
        if level:
            before = sizes[[n for n in sizes if n.startswith(f"contracting.{level - 1}.")][-1]]
            channels, size = before[0], (before[1] // 2, before[2] // 2)
            top = y[level - 1] - tall(level - 1) / 2 - 0.24
            arrow((x + 0.13, top), (x + 0.13, y[level] + tall(level) / 2 + 0.22), pool)
        else:
            size = (height, width)
        box(x, level, channels, size)
        x = convolve(x, level, names)
        ends.append(x)
    for step in range(depth):
        level = depth - 1 - step
        names = [n for n in sizes if n.startswith(f"expansive.{step}.convs")]
        joined = sizes[f"expansive.{step}.up"]
        below, above = y[level + 1] + tall(level + 1) / 2, y[level] - tall(level) / 2
        arrow((x + 0.13, below + 0.24), (x + 0.13, above - 0.24), up)
        arrow((ends[level] + 0.3, y[level]), (x - 0.3, y[level]), skip)
        box(x - 0.26, level, "", shade="white")  # the skip's half
        box(x, level, "", joined[1:])
        ax.text(x, y[level] + tall(level) / 2 + 0.05, 2 * joined[0], ha="center", fontsize=8)
        x = convolve(x, level, names)
    x = convolve(x, 0, ["conv_1x1"], last)
    for i, (name, color) in enumerate(colors.items()):
        spot = y[-1] + tall(depth) / 2 + 0.3 - 0.32 * i
        arrow((x - 2.6, spot), (x - 2.1, spot), color)
        ax.text(x - 2.0, spot, name, va="center", fontsize=9)
    ax.set(xlim=(-0.6, x + 1), ylim=(y[-1] - 1.2, tall(0) / 2 + 0.4))
    return figure


def overlay(
    image: Tensor, labels: Tensor, classes: Classes = CITYSCAPES, legend: list[int] | None = None
) -> Tensor:
    """An image (3, H, W) uint8 under the colours of its labels (H, W), a legend below.

    The legend names the classes `legend`, by train id; None takes those that cover at least a
    thousandth of the image. Returns (H + height of the legend, W, 3) uint8 RGB.
    """
    height, width = labels.shape
    mixed = (image.permute(1, 2, 0).cpu().float() + colorize(labels, classes)) / 2
    if legend is None:
        counts = torch.bincount(labels.flatten().long(), minlength=256)[: len(classes)]
        legend = (counts * 1000 >= labels.numel()).nonzero().flatten().tolist()
    size = max(min(height, width) // 30, 9)  # of the letters, in pixels
    return torch.cat([mixed.byte(), _legend(legend, classes, width, size)])


def _legend(present: list[int], classes: Classes, width: int, size: int) -> Tensor:
    """A strip with the names and colours of some classes, in as many lines as they take."""
    font = ImageFont.load_default(size)
    line, places, x, y = round(1.6 * size), [], 0, 0
    for index in present:
        needed = round(font.getlength(classes.names[index])) + 3 * size
        if x and x + needed > width:
            x, y = 0, y + line
        places.append((x, y, index))
        x += needed
    strip = Image.new("RGB", (width, y + line), "white")
    draw = ImageDraw.Draw(strip)
    for x, y, index in places:
        box = (x + size // 2, y + size // 3, x + size // 2 + size, y + size // 3 + size)
        draw.rectangle(box, fill=tuple(classes.colors[index]), outline="gray")
        draw.text((x + 2 * size, y + size // 5), classes.names[index], fill="black", font=font)
    return torch.from_numpy(np.array(strip))

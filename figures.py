"""The figures: each function returns a `matplotlib.figure.Figure`, and shows and saves nothing."""

import dataclasses

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from utils import CITYSCAPES, IGNORE_INDEX, Classes, ConfusionMatrix

# Colours of lines that colour-blind people can tell apart (Okabe & Ito, https://jfly.uni-koeln.de/color/).
COLORS = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"
MARKERS = "osD^vPX"
# Colours of the error map: ignored, right, wrong.
ERROR_COLORS = torch.tensor([[255, 255, 255], [220, 220, 220], [200, 30, 40]], dtype=torch.uint8)


def percent(value: float | None) -> str:
    """0.1234 as "12.34%"; None, for what is absent, as "-"."""
    return "-" if value is None else f"{value:.2%}"


def colorize(labels: Tensor, classes: Classes = CITYSCAPES) -> Tensor:
    """Train ids (H, W) in the colours of their classes: (H, W, 3) uint8; black is ignored."""
    return classes.palette[labels.long().cpu()]


def with_safe_colors(classes: Classes) -> Classes:
    """The classes in `COLORS`, then in lighter and darker ones, as colour-blind people need.

    Raises ValueError for more classes than there are such colours.
    """
    shades = {}  # each once: black has no darker one
    for mix, target in ((0, 0), (0.5, 255), (0.45, 0)):
        for color in COLORS:
            rgb = (int(color[i : i + 2], 16) for i in (1, 3, 5))
            shades[tuple(round(v + mix * (target - v)) for v in rgb)] = None
    if len(classes) > len(shades):
        raise ValueError(
            f"the colours for colour-blind people are {len(shades)}, and the network has "
            f"{len(classes)} classes: leave --palette out"
        )
    return dataclasses.replace(classes, colors=tuple(shades)[: len(classes)])


def class_legend(figure: Figure, labels: list[Tensor], classes: Classes) -> None:
    """Name the colours of the classes that occur in `labels`, below the figure."""
    present = torch.cat([x.flatten() for x in labels]).unique().tolist()
    known = [i for i in present if i < len(classes)]
    names = [Patch(color=classes.palette[i].numpy() / 255, label=classes.names[i]) for i in known]
    names.append(Patch(color="black", label="ignored"))
    figure.legend(handles=names, loc="outside lower center", ncols=7, frameon=False, fontsize=8)


def _nothing() -> Figure:
    figure = Figure(figsize=(6, 0.8))
    figure.text(0.5, 0.5, "no labelled pixel: this split has no labels", ha="center", va="center")
    return figure


def plot_samples(pairs: list[tuple[Tensor, Tensor]], classes: Classes = CITYSCAPES) -> Figure:
    """Images (3, H, W) uint8 above their labels (H, W), with a legend."""
    if not pairs:
        return _nothing()
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


def plot_predictions(rows: list[tuple[str, Tensor, Tensor, Tensor]], classes: Classes) -> Figure:
    """Image, truth, prediction and an error map side by side, a row per scene.

    A row is (title, image (3, H, W) uint8, truth (H, W), prediction (H, W)); in the error map
    wrong is red, right is grey, ignored is white.
    """
    if not rows:
        return _nothing()
    height, width = rows[0][2].shape
    size = (12, (3 * height / width + 0.25) * len(rows) + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(rows), 4, squeeze=False)
    for row, (title, image, truth, prediction) in enumerate(rows):
        kinds = torch.where(truth == IGNORE_INDEX, 0, 1 + (prediction != truth).int())
        panels = {
            "image": image.permute(1, 2, 0).cpu(),
            "truth": colorize(truth, classes),
            "prediction": colorize(prediction, classes),
            "errors": ERROR_COLORS[kinds],
        }
        for ax, (name, panel) in zip(axes[row], panels.items(), strict=True):
            ax.imshow(panel)
            ax.set(xticks=[], yticks=[])
            if row == 0:
                ax.set_title(name, fontsize=10)
        axes[row, 0].set_ylabel(title, fontsize=9)
    class_legend(figure, [labels for each in rows for labels in each[2:]], classes)
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
    for ax, (title, keys) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for key, name, color in zip(keys, names, COLORS[:2], strict=True):
            if key is not None:
                values = [record.get(key) for record in history]  # of a run from before: None
                ax.plot(epochs, values, color=color, label=name, marker=".", ms=4)
        ax.set(title=title, xlabel="epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if epochs:
            ax.set_xlim(0.5, max(epochs) + 0.5)
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
    mean = sum(v for v, _ in known) / len(known)
    ax.axvline(mean, color="0.2", ls="--", lw=1, zorder=1)
    numbers = ax.bar_label(bars, [f"{v:.1%}" for v, _ in known], padding=3, fontsize=8)
    for number in numbers:  # on white, so that the line does not run through them
        number.set(zorder=3, bbox={"fc": "white", "ec": "none", "pad": 1})
    ax.text(mean, 1.01, f"mean {mean:.1%}", ha="center", transform=ax.get_xaxis_transform())
    ax.set(xlim=(0, 1.08), xlabel="intersection over union")
    ax.invert_yaxis()
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def plot_confusion(confusion: ConfusionMatrix, classes: Classes = CITYSCAPES) -> Figure:
    """Of each true class (row), the proportion that was predicted as each class (column)."""
    if not confusion.matrix.any():
        return _nothing()
    matrix = confusion.matrix.cpu().double()
    seen = ((matrix.sum(0) + matrix.sum(1)) > 0).nonzero().flatten()
    matrix = matrix[seen][:, seen]
    matrix /= matrix.sum(1, keepdim=True).clamp(min=1)
    names = [classes.names[i] for i in seen]
    figure = Figure(figsize=(8.5, 7.5), layout="constrained")
    ax = figure.subplots()
    panel = ax.imshow(matrix, cmap="Blues", vmin=0, vmax=1)
    for row, column in (matrix >= 0.005).nonzero().tolist():
        value = matrix[row, column].item()
        color = "white" if value > 0.5 else "black"
        ax.text(column, row, f"{value * 100:.0f}", ha="center", va="center", c=color, fontsize=7)
    ax.set_xticks(range(len(names)), names, rotation=60, ha="right")
    ax.set_yticks(range(len(names)), names)
    ax.set(xlabel="predicted", ylabel="true", title="per cent of each true class")
    figure.colorbar(panel, shrink=0.7, format=PercentFormatter(1))
    return figure


def overlay(
    image: Tensor,
    labels: Tensor,
    classes: Classes = CITYSCAPES,
    legend: list[int] | None = None,
    alpha: float = 0.5,
) -> Tensor:
    """An image (3, H, W) uint8 under the colours of its labels (H, W), a legend below.

    Where a class begins its colour is opaque, so that poles and grey buildings can be seen on grey.

    Args:
        legend: the classes that the legend names, by train id; None takes those that cover at
            least a thousandth of the image.
        alpha: how opaque the colours are, 0..1.

    Returns (H + height of the legend, W, 3) uint8 RGB.
    """
    height, width = labels.shape
    colors, pixels = colorize(labels, classes).float(), image.permute(1, 2, 0).cpu().float()
    thickness = max(min(height, width) // 400, 1)
    opacity = torch.where(outlines(labels.cpu(), thickness), max(alpha, 0.9), alpha).unsqueeze(2)
    mixed = pixels.lerp(colors, opacity)
    if legend is None:
        counts = torch.bincount(labels.flatten().long(), minlength=256)[: len(classes)]
        legend = (counts * 1000 >= labels.numel()).nonzero().flatten().tolist()
    size = max(min(height, width) // 30, 9)  # of the letters, in pixels
    return torch.cat([mixed.byte(), _legend(legend, classes, width, size)])


def outlines(labels: Tensor, thickness: int = 1) -> Tensor:
    """Where one class meets another: (H, W) bool, lines of `thickness` pixels on each side."""
    edges = torch.zeros(labels.shape)
    for before, after in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        differ = labels[before] != labels[after]
        edges[before][differ] = edges[after][differ] = 1
    wide = 2 * thickness - 1
    return F.max_pool2d(edges[None], wide, stride=1, padding=thickness - 1)[0] > 0


def _legend(present: list[int], classes: Classes, width: int, size: int) -> Tensor:
    """A strip with the names and colours of some classes, in as many lines as they take."""
    font = ImageFont.load_default(size)
    line, positions, x, y = round(1.6 * size), [], 0, 0
    for index in present:
        needed = round(font.getlength(classes.names[index])) + 3 * size
        if x and x + needed > width:
            x, y = 0, y + line
        positions.append((x, y, index))
        x += needed
    strip = Image.new("RGB", (width, y + line), "white")
    draw = ImageDraw.Draw(strip)
    for x, y, index in positions:
        box = (x + size // 2, y + size // 3, x + size // 2 + size, y + size // 3 + size)
        draw.rectangle(box, fill=tuple(classes.colors[index]), outline="gray")
        draw.text((x + 2 * size, y + size // 5), classes.names[index], fill="black", font=font)
    return torch.from_numpy(np.array(strip))

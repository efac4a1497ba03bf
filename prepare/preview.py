"""A picture of what masks are taken for: a few images, their labels, and the legend."""

import io
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from data_io.image_io import read_image
from figures import overlay
from prepare.class_lists import void_of
from prepare.masks import read_values, translate
from prepare.meaning import Meaning
from prepare.pairs import Pair
from runtime.files import atomic_write

PREVIEW = "own-preview.jpg"


def write_preview(path: Path, pairs: list[Pair], meanings: list[Meaning]) -> None:
    """Write a JPEG: a row for each image, beside it its labels as each meaning has them.

    Values that a meaning lacks are drawn as ignored. Raises as `read_image` and `read_values`.
    """
    columns = 1 + len(meanings)
    figure = Figure(figsize=(5 * columns, 4 * len(pairs)), layout="constrained")
    axes = figure.subplots(len(pairs), columns, squeeze=False)
    for row, pair in zip(axes, pairs, strict=True):
        image, values = read_image(pair.image), read_values(pair.mask, meanings[0].form)
        step = max(values.shape[1] // 500, 1)
        image, values = image[:, ::step, ::step], values[::step, ::step]
        row[0].imshow(image.permute(1, 2, 0))
        for ax, meaning in zip(row[1:], meanings, strict=True):
            ax.imshow(_labels(image, values, meaning))
    heads = [f"--labels {each.labels}: {len(each.classes)} classes" for each in meanings]
    for ax, head in zip(axes[0], ["image", *heads], strict=True):
        ax.set_title(head)
    for ax in axes.flat:
        ax.axis("off")
    data = io.BytesIO()
    figure.savefig(data, format="jpeg", dpi=100)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, data.getvalue())


def _labels(image: Tensor, values: np.ndarray, meaning: Meaning) -> Tensor:
    """The labels over the image with a legend, (H + legend, W, 3) uint8."""
    ids = dict.fromkeys(np.unique(values).tolist(), void_of(meaning.classes)) | meaning.ids
    labels = meaning.classes.train_ids[torch.from_numpy(translate(values, ids)).int()]
    return overlay(image, labels, meaning.classes)

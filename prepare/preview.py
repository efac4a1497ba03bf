"""A picture of what masks are taken for: a few images, their labels, and the legend."""

import io

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from data_io.image_io import read_image
from figures import overlay
from prepare.masks import TRANSPARENT, Form, read_values, translate
from prepare.meaning import Meaning
from prepare.pairs import Pair

WIDTH, HEAD, GAP, ROWS = 420, 28, 8, 3  # pixels; images


def draw_preview(pairs: list[Pair], meanings: list[Meaning], form: Form) -> bytes:
    """A JPEG: a row for each of up to `ROWS` images, beside it its labels as each meaning has them.

    Values that a meaning lacks are drawn as not scored. Raises as `read_image` and `read_values`.
    """
    rows = []
    for pair in pairs[:ROWS]:
        image, values = read_image(pair.image), read_values(pair.mask, form)
        step = max(values.shape[1] // WIDTH, 1)
        image, values = image[:, ::step, ::step], values[::step, ::step]
        drawn = [_labels(image, values, meaning) for meaning in meanings]
        rows.append([image.permute(1, 2, 0), *drawn])
    heads = [
        "image",
        *(f"--labels {each.labels}: {len(each.classes)} classes" for each in meanings),
    ]
    widths = [max(WIDTH // 2, *(row[i].shape[1] for row in rows)) for i in range(len(heads))]
    heights = [max(cell.shape[0] for cell in row) for row in rows]
    size = sum(widths) + GAP * len(widths), HEAD + sum(heights) + GAP * len(heights)
    canvas = Image.new("RGB", size, "white")
    pen, font, x = ImageDraw.Draw(canvas), ImageFont.load_default(13), 0
    for i, head in enumerate(heads):
        pen.text((x + 4, 6), head, fill="black", font=font)
        y = HEAD
        for row, height in zip(rows, heights, strict=True):
            canvas.paste(Image.fromarray(row[i].numpy()), (x, y))
            y += height + GAP
        x += widths[i] + GAP
    data = io.BytesIO()
    canvas.save(data, "jpeg", quality=90)
    return data.getvalue()


def _labels(image: Tensor, values: np.ndarray, meaning: Meaning) -> Tensor:
    """The labels over the image with a legend, (H + legend, W, 3) uint8."""
    classes = meaning.classes
    void = next(i for i in range(255, -1, -1) if i not in classes.ids)
    found = np.unique(values).tolist()
    ids = {value: void for value in [*found, TRANSPARENT]} | meaning.ids
    labels = classes.train_ids[torch.from_numpy(translate(values, ids)).int()]
    return overlay(image, labels, classes)

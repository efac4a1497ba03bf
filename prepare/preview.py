"""A picture of what masks are taken for: a few images, their labels, and the legend."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F
from torchvision.utils import make_grid

from data_io.image_io import read_image
from figures import overlay
from prepare.class_lists import void_of
from prepare.masks import Form, read_values, translate
from prepare.meaning import Meaning
from prepare.pairs import Pair
from runtime.files import atomic_write

PREVIEW = "own-preview.jpg"
WIDTH, HEAD, GAP = 420, 28, 8  # pixels


def write_preview(path: Path, pairs: list[Pair], meanings: list[Meaning], form: Form) -> None:
    """Write a JPEG: a row for each image, beside it its labels as each meaning has them.

    Values that a meaning lacks are drawn as ignored. Raises as `read_image` and `read_values`.
    """
    cells = []
    for pair in pairs:
        image, values = read_image(pair.image), read_values(pair.mask, form)
        step = max(values.shape[1] // WIDTH, 1)
        image, values = image[:, ::step, ::step], values[::step, ::step]
        cells += [image, *(_labels(image, values, meaning) for meaning in meanings)]
    height, width = (max(cell.shape[i] for cell in cells) for i in (1, 2))
    width = max(width, WIDTH // 2)
    cells = [F.pad(c, (0, width - c.shape[2], 0, height - c.shape[1]), value=255) for c in cells]
    columns = 1 + len(meanings)
    grid = make_grid(cells, columns, GAP, pad_value=255)
    grid = F.pad(grid, (0, 0, HEAD, 0), value=255)
    picture = Image.fromarray(grid.permute(1, 2, 0).numpy())
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    heads = [f"--labels {each.labels}: {len(each.classes)} classes" for each in meanings]
    for i, head in enumerate(["image", *heads]):
        pen.text((GAP + i * (width + GAP), GAP), head, fill="black", font=font)
    data = io.BytesIO()
    picture.save(data, "jpeg", quality=90)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, data.getvalue())


def _labels(image: Tensor, values: np.ndarray, meaning: Meaning) -> Tensor:
    """The labels over the image with a legend, (3, H + legend, W) uint8."""
    ids = dict.fromkeys(np.unique(values).tolist(), void_of(meaning.classes)) | meaning.ids
    labels = meaning.classes.train_ids[torch.from_numpy(translate(values, ids)).int()]
    return overlay(image, labels, meaning.classes).permute(2, 0, 1)

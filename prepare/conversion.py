"""Images and masks, checked and then written as a data set in Cityscapes' format, in threads."""

import io
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image
from tqdm import tqdm

from data_io.image_io import open_image, read_image
from prepare import masks
from prepare.inspection import size_text
from prepare.masks import Form
from prepare.meaning import Meaning
from prepare.pairs import Item, listing
from runtime.files import atomic_write


def in_threads(function: Callable, items: list, what: str) -> list:
    """A function's results for all items, with a progress bar."""
    with ThreadPoolExecutor() as threads:
        results = threads.map(function, items)
        return list(tqdm(results, what, len(items), unit="image", disable=None))


def check_all(items: list[Item], form: Form, palette: list) -> list[Counter]:
    """The pixels of each value in each mask. Raises ValueError for what is wrong with files."""
    found = in_threads(partial(_check, form=form, palette=palette), items, "checking")
    if faults := [each for each in found if isinstance(each, str)]:
        raise ValueError(listing("problems, and nothing was written", faults))
    return found


def _check(item: Item, form: Form, palette: list) -> Counter | str:
    """The pixels of each value in a mask; or what is wrong with it, or with the image.

    palette: RGB of each index, which the colours of a mask with a palette must not contradict.
    """
    try:
        values = masks.read_values(item.pair.mask, form)
        counts = masks.count(values)
        mine = masks.palette_of(item.pair.mask) if palette else []
        both = dict(enumerate(zip(mine, palette, strict=False)))  # as far as both have colours
        if any(both[index][0] != both[index][1] for index in counts.keys() & both.keys()):
            return (
                f"{item.pair.mask} has other colours for its indices than other masks have: "
                "--labels colors reads the colours, --labels ids the indices"
            )
        if not item.is_done():
            size = tuple(read_image(item.pair.image).shape[1:])
            if values.shape != size:
                return (
                    f"{item.pair.mask} is {size_text(values.shape)}, but {item.pair.image} is "
                    f"{size_text(size)} (upright, as its EXIF tag says): make them the same size, "
                    "or remove both"
                )
    except (OSError, ValueError) as error:
        return str(error)
    return counts


def convert_all(items: list[Item], meaning: Meaning) -> None:
    """Write the two files of each item, unless they are there; at the end, raise ValueError if
    some could not be written."""
    found = in_threads(partial(_convert, meaning=meaning), items, "converting")
    if faults := [each for each in found if each]:
        raise ValueError(listing("images could not be converted", faults))


def _convert(item: Item, meaning: Meaning) -> str | None:
    """Write the two files of an item; returns what went wrong, if it did."""
    try:
        if not item.is_done():
            _write(item, meaning)
    except (OSError, ValueError) as error:
        return str(error)


def _write(item: Item, meaning: Meaning) -> None:
    changed = {p: p.stat().st_mtime_ns for p in (item.pair.image, item.pair.mask)}  # before reading
    values = masks.read_values(item.pair.mask, meaning.form)
    labels = _png(masks.translate(values, meaning.ids))
    pixels = as_png(item.pair.image)
    written = (item.labels, labels, item.pair.mask), (item.image, pixels, item.pair.image)
    for path, content, source in written:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, content)
        os.utime(path, ns=(changed[source], changed[source]))  # for `is_done`


def as_png(path: Path) -> bytes:
    """An image file as an 8-bit PNG, upright. Raises as `read_image`."""
    rgb = read_image(path)
    with open_image(path) as image:
        upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        as_it_is = image.format == "PNG" and image.mode in ("L", "RGB") and upright
    return path.read_bytes() if as_it_is else _png(rgb.permute(1, 2, 0).numpy())


def _png(pixels: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "png", compress_level=3)
    return data.getvalue()

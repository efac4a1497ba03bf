"""What the masks of a data set mean: how they are read, and which class a value stands for."""

import colorsys
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torchvision
from PIL import ImageOps

from data_io.image_io import UnfitImageError, open_image, to_rgb
from utils import CITYSCAPES, Classes

LABELS = ("ids", "train-ids", "colors")
UNLABELED = 0  # of Cityscapes: not scored
BLACK = 0  # a colour
LICENSE_PLATES = 34, 255  # -1 in GTA5's masks, and in a byte
ROAD, COMMON = 7, {11, 21, 23, 26}  # ids of Cityscapes: building, vegetation, sky, car
MOST_VALUES = 64  # more values than this, without a list of classes, are edges or JPEG's noise
VOID = {"void", "unlabeled", "unlabelled", "ignore"}  # names in label_colors.txt


class Meaning(NamedTuple):
    """What the values of masks stand for.

    Attributes:
        labels: one of `LABELS`.
        classes: of the data set.
        ids: value in a mask -> id in a label file; a value that is not here is a fault.
        reason: what was assumed, and why: for the user.
        proposed: the classes are made up from the values, and are to be given names.
    """

    labels: str
    classes: Classes
    ids: dict[int, int]
    reason: str
    proposed: bool = False


def read_values(path: Path, colors: bool) -> np.ndarray:
    """A mask: (H, W), uint8 of its bytes or indices, or with `colors` int32 of 0xRRGGBB.

    Grey of up to 16 bits and grey saved as RGB are read as bytes, palettes as indices. Raises as
    `open_image`, and ValueError for a JPEG, for colours where bytes are expected, for values above
    255, and as `to_rgb`.
    """
    with open_image(path) as image:
        if image.format in ("JPEG", "MPO"):
            raise UnfitImageError("is a JPEG, which changes values: export the masks as PNG")
        if colors:
            rgb = to_rgb(image).numpy()
            values = rgb[0].astype(np.int32)
            for channel in rgb[1:]:  # in place, since images may be large
                values <<= 8
                values |= channel
            return values
        if image.mode.startswith("I"):
            values = np.array(ImageOps.exif_transpose(image))
            if not 0 <= values.min() <= values.max() <= 255:
                raise UnfitImageError(
                    f"holds values up to {values.max()}: ids are 0..255 (are these instance ids?)"
                )
            return values.astype(np.uint8)
        if image.mode in ("1", "L", "P"):
            scale = {"L;2": 85, "L;4": 17}  # of Pillow, which spreads two and four bits to eight
            raw = next((mode for mode in scale if mode in str(image.tile)), None)
            values = np.array(ImageOps.exif_transpose(image))
            return values.astype(np.uint8) // scale.get(raw, 1)
        rgb = to_rgb(image).numpy()
        if not (rgb == rgb[:1]).all():
            raise UnfitImageError(
                "is in colours, but ids are grey or the indices of a palette: use --labels colors, "
                "or leave only masks of one kind in the directory"
            )
        return rgb[0]


def are_colored(masks: list[Path]) -> bool:
    """Whether any of some masks is in colours, without a palette. Passes over damaged files."""
    for path in masks:
        try:
            with open_image(path) as image:
                if image.mode in ("RGB", "RGBA"):
                    rgb = to_rgb(image).numpy()
                    if not (rgb == rgb[:1]).all():
                        return True
        except (OSError, ValueError):
            continue
    return False


def sample(items: list, size: int = 20) -> list:
    """Up to `size` items, evenly spaced."""
    return [items[i * len(items) // size] for i in range(size)] if len(items) > size else items


def count(values: np.ndarray) -> Counter:
    """Value -> number of pixels, of what `read_values` returns."""
    if values.dtype == np.uint8:
        numbers = np.bincount(values.ravel(), minlength=256)
        return Counter({int(i): int(numbers[i]) for i in numbers.nonzero()[0]})
    found, numbers = np.unique(values, return_counts=True)
    return Counter(dict(zip(found.tolist(), numbers.tolist(), strict=True)))


def interpret(
    pixels: Counter,
    labels: str | None,
    classes: Classes | None,
    colored: bool,
    hint: str | None = None,
    palette: list[tuple[int, int, int]] | None = None,
) -> Meaning:
    """What the values of masks stand for.

    Args:
        pixels: value -> number of pixels, of all masks.
        labels: one of `LABELS` if the user says so.
        classes: of the user; None: Cityscapes', or new ones for the values.
        colored: the values are colours.
        palette: RGB of each value, of masks with a palette.
        hint: what the masks' names say: `ids`, `cityscapes` ids, `train-ids`, or `own` ids.

    Raises ValueError for more values than masks have, for two classes of one colour, and for
    masks in which no pixel is of a class.
    """
    if colored:
        meaning = _of_colors(pixels, classes)
    else:
        meaning = _of_bytes(pixels, labels, classes, hint, palette or [])
    scored = sum(n for value, n in pixels.items() if meaning.ids.get(value) in meaning.classes.ids)
    if pixels and not scored:
        raise ValueError(
            f"no pixel of the masks is of a class: they hold {show(pixels, colored)}, the classes "
            f"have the ids {' '.join(map(str, meaning.classes.ids))}: correct the list of classes"
        )
    return meaning


def _of_colors(pixels: Counter, classes: Classes | None) -> Meaning:
    if classes is not None:
        packed = [pack(color) for color in classes.colors]
        twice = [name for i, name in enumerate(classes.names) if packed[i] in packed[:i]]
        if twice:
            raise ValueError(f"the class {twice[0]} has the color of another: change one")
        void = max(set(range(256)) - set(classes.ids))
        ids = dict(zip(packed, classes.ids, strict=True))
        reason = "colours of the given classes; black, unless it is one of them, is not scored"
        return Meaning("colors", classes, {BLACK: void} | ids, reason)
    known = {pack(c.color): c.id for c in torchvision.datasets.Cityscapes.classes if c.id > 0}
    known |= dict(zip(map(pack, CITYSCAPES.colors), CITYSCAPES.ids, strict=True))
    known[BLACK] = UNLABELED
    # A binary mask in red would be all riders: several of the commonest classes must be there.
    found = {known.get(value) for value in pixels}
    if None not in found and ROAD in found and len(found & COMMON) >= 2:
        reason = "colours of Cityscapes, as no others occur: its 19 classes are used"
        return Meaning("colors", CITYSCAPES, known, reason)
    _refuse_many(pixels)
    found = [value for value, _ in pixels.most_common()]
    names = tuple(f"color {' '.join(map(str, unpack(value)))}" for value in found)
    ids = {value: i for i, value in enumerate(found)}
    classes = Classes(names, tuple(ids.values()), tuple(map(unpack, found)))
    return Meaning("colors", classes, ids, "colours, each of which is a class", proposed=True)


def _of_bytes(
    pixels: Counter,
    labels: str | None,
    classes: Classes | None,
    hint: str | None,
    palette: list[tuple[int, int, int]],
) -> Meaning:
    said = "by the values found"
    if labels:
        said = f"as --labels {labels} says"
    elif hint == "train-ids":
        labels, said = hint, "by the names of the masks"
    else:
        labels = "ids"
        if hint in ("cityscapes", "own"):
            said = "by the names of the masks"
        if classes is None and hint != "own" and _like_train_ids(pixels):
            labels = "train-ids"
    if labels == "train-ids":
        target = classes or CITYSCAPES
        void = UNLABELED if target == CITYSCAPES else max(set(range(256)) - set(target.ids))
        ids = dict(enumerate(target.ids)) | {255: void}
        whose = "the given classes" if classes else "Cityscapes: its 19 classes are used"
        return Meaning(labels, target, ids, f"train ids ({said}), of {whose}")
    if classes is not None:
        reason = "ids of the given classes; others are not scored"
        return Meaning(labels, classes, {i: i for i in range(256)}, reason)
    # 255 would be a licence plate; but with it and no id above 18, a file looks like train ids.
    ids = {i: i for i in range(34)} | dict.fromkeys(LICENSE_PLATES, UNLABELED)
    if pixels.keys() <= ids.keys() and hint != "own":
        if hint == "cityscapes" or _like_cityscapes(pixels):
            reason = f"ids of Cityscapes ({said}): its 19 classes are used"
            return Meaning(labels, CITYSCAPES, ids, reason)
    _refuse_many(pixels)
    found = sorted(pixels)
    if found == [255]:
        raise ValueError("the masks hold nothing but 255, which usually means not labelled")
    scored = [i for i in found if i != 255 or len(found) == 2]  # of a mask 0, 255 both are classes
    colors = tuple(palette[i] if i < len(palette) else _color(i) for i in scored)
    classes = Classes(tuple(f"class {i}" for i in scored), tuple(scored), colors)
    reason = f"ids of classes of your own ({said})"
    return Meaning(labels, classes, {i: i for i in range(256)}, reason, proposed=True)


def _like_train_ids(pixels: Counter) -> bool:
    """Nothing but 0..18 and 255, with road, building, vegetation, sky and car."""
    values = pixels.keys()
    return values <= {*range(19), 255} and values >= {0, 2, 8, 10, 13} and bool(values & {18, 255})


def _like_cityscapes(pixels: Counter) -> bool:
    """Much road, most pixels of a class, and two of building, vegetation, sky and car."""
    total = pixels.total()
    scored = sum(pixels[i] for i in CITYSCAPES.ids)
    few = len(pixels.keys() & COMMON) < 2
    return pixels[ROAD] >= 0.05 * total and scored >= 0.6 * total and not few


def _refuse_many(pixels: Counter) -> None:
    if len(pixels) > MOST_VALUES:
        raise ValueError(
            f"the masks hold {len(pixels)} different values, as of JPEG or of smoothed edges: "
            "export them as PNG without smoothing, or list the classes with --classes"
        )


def pack(color: Iterable[int]) -> int:
    """RGB as 0xRRGGBB."""
    r, g, b = color
    return r << 16 | g << 8 | b


def unpack(value: int) -> tuple[int, int, int]:
    """0xRRGGBB as RGB."""
    return value >> 16, value >> 8 & 255, value & 255


def show(values: Iterable[int], colored: bool) -> str:
    """Up to ten values as text."""
    values = sorted(values)
    texts = [str(unpack(value)) if colored else str(value) for value in values[:10]]
    return ", ".join(texts) + (", ..." if len(values) > 10 else "")


def _color(index: int) -> tuple[int, int, int]:
    """A colour for each of many classes, neighbours far apart."""
    rgb = colorsys.hsv_to_rgb(index * 0.618 % 1, 0.6 + 0.4 * (index % 2), 0.95 - 0.15 * (index % 3))
    return tuple(round(255 * value) for value in rgb)


def palette_of(path: Path) -> list[tuple[int, int, int]]:
    """The colours of a palette image; [] for others."""
    with open_image(path) as image:
        flat = image.getpalette("RGB") if image.mode == "P" else None
    return list(zip(*[iter(flat or [])] * 3, strict=True))


def read_class_list(path: Path) -> Classes:
    """The classes of a `classes.yaml`, or of a `label_colors.txt` of CamVid, CVAT or datumaro.

    In the latter, a line is `R G B name`, its number from 0 is the id, and a class that is called
    void or unlabeled is not scored. Raises FileNotFoundError, or ValueError with the file's name.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no list of classes {path}: correct the path")
    if path.suffix.lower() != ".txt":
        return Classes.from_file(path)
    rows, line = [], ""
    try:
        for line in path.read_text(encoding="utf-8-sig").splitlines():
            if line.strip() and not line.startswith("#"):
                r, g, b, name = line.split(maxsplit=3)
                rows.append((name.strip(), (int(r), int(g), int(b))))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path} is not a list of colours: a line is `128 64 128 road`, not `{line[:60]}`"
        ) from error
    kept = [(name, i, color) for i, (name, color) in enumerate(rows) if name.lower() not in VOID]
    if not kept or len(rows) > 255:
        raise ValueError(f"{path} must list 1 to 255 classes, a line each: `128 64 128 road`")
    try:
        return Classes(*zip(*kept, strict=True))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def as_yaml(classes: Classes, comments: dict[int, str]) -> str:
    """The text of a `classes.yaml`.

    comments: id -> what is said at the end of its line; ids of no class are listed in a comment.
    """
    lines = []
    for name, i, color in zip(classes.names, classes.ids, classes.colors, strict=True):
        row = f"- {{name: {json.dumps(name, ensure_ascii=False)}, id: {i}, color: {list(color)}}}"
        lines.append(row + (f"  # {comments[i]}" if i in comments else ""))
    for i in comments.keys() - set(classes.ids):
        lines.append(f"# - {{name: class {i}, id: {i}, color: [0, 0, 0]}}  # {comments[i]}")
    return "\n".join(lines) + "\n"

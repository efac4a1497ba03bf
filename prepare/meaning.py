"""What the values of masks mean: which class a value stands for, and whether that is sure."""

from collections import Counter
from typing import NamedTuple

import numpy as np
import torchvision

from prepare.class_lists import color_of, void_of
from prepare.masks import TRANSPARENT, Form, pack, show, translate, unpack
from prepare.smoothing import refuse_smoothed
from utils import CITYSCAPES, Classes

LABELS = {
    "ids": "ids of your own classes",
    "cityscapes": "ids of Cityscapes, 7 road .. 33 bicycle",
    "train-ids": "train ids, of Cityscapes 0 road .. 18 bicycle",
    "colors": "colours",
}
UNLABELED, BLACK = 0, 0  # an id of Cityscapes, a colour
LICENSE_PLATES = 34, 255  # -1 in GTA5's masks, and in a byte
ROAD, SKY = 7, 23  # ids of Cityscapes
COMMON = {11, 21, 23, 26}  # building, vegetation, sky, car
BELOW = ROAD, 8, 22, 21, 26  # what a street's picture ends in: sidewalk, terrain, vegetation, car
ABOVE = SKY, 11, 21, 17, 19, 20  # what it begins with: building, vegetation, pole, lights, signs
MOST_VALUES = 64  # more than these are named by nobody
LARGE = 0.05  # the share of the pixels from which a value cannot be an oversight
EVERY_BYTE = {i: i for i in range(256)}
OPEN = (
    "the values of the masks may mean several things, and what they look like does not tell which. "
    "Say it, or list the classes with --classes FILE:"
)
LOOKS = "as the values and what they look like say"


class Meaning(NamedTuple):
    """What the values of masks stand for.

    Attributes:
        labels: one of `LABELS`.
        classes: of the data set.
        ids: value in a mask -> id in a label file; a value that is not here is a fault.
        reason: what was assumed, and why: for the user.
        proposed: the classes are made up from the values, and are to be given names.
        form: how the masks are read.
    """

    labels: str
    classes: Classes
    ids: dict[int, int]
    reason: str
    proposed: bool = False
    form: Form = Form()


def interpret(
    pixels: Counter,
    labels: str | None,
    hint: str | None,
    classes: Classes | None,
    form: Form,
    samples: list[np.ndarray],
    palette: list[tuple[int, int, int]],
) -> tuple[list[Meaning], str]:
    """What the values of masks may stand for, and a question; where it is sure, one and "".

    Args:
        pixels: value -> number of pixels, of all masks.
        labels: one of `LABELS` if the user says so.
        hint: one of `LABELS` if the masks' names say so.
        classes: of the user, or of the data set; None: Cityscapes', or new ones for the values.
        form: as the masks were read.
        samples: some of the masks, which show whether they look like streets.
        palette: RGB of each value, of masks with a palette.

    Raises ValueError for two classes of one colour and for more values than masks have.
    """
    kind = labels or hint
    said = f"as --labels {labels} says" if labels else "by the names of the masks"
    if form.colors:
        found = [_listed_colors(classes) if classes else _colors(pixels)]
    elif kind == "train-ids":
        found = [_train_ids(classes or CITYSCAPES, said)]
    elif classes is not None:
        reason = "ids of the given classes; others are ignored"
        found = [_meaning("ids", classes, EVERY_BYTE, reason)]
    elif kind == "cityscapes":
        found = [_cityscapes_ids(said)]
    elif kind == "ids":
        found = [_own_ids(pixels, palette, said)]
    else:
        likely = (_cityscapes_ids(LOOKS), 2), (_train_ids(CITYSCAPES, LOOKS), 4)
        found = [each for each, common in likely if _fits(pixels, each, common)]
        streets = [each for each in found if look_like_streets(samples, each.ids)]
        if len(streets) == 1:
            return streets, ""
        found.append(_own_ids(pixels, palette, "by the values found"))
    if len(found) > 1:
        ways = [f"--labels {each.labels}: {LABELS[each.labels]}" for each in found]
        return found, "\n    ".join([OPEN, *ways])
    return found, _doubt(pixels, found[0], labels is None and classes is not None)


def _doubt(pixels: Counter, meaning: Meaning, by_list: bool) -> str:
    """A question where no pixel is of a class, or, of ids by a list, none of one class; else ""."""
    classes = meaning.classes
    if not any(meaning.ids.get(value) in classes.ids for value in pixels):
        held, ids = show(pixels, meaning.labels == "colors"), " ".join(map(str, classes.ids))
        return f"no pixel of the masks is of a class: they hold {held}, the list the ids {ids}"
    if by_list and meaning.labels == "ids" and (question := absent_class(pixels, classes)):
        return f"{question}? Correct the list of classes, or say with --labels ids that it is right"
    return ""


def absent_class(pixels: Counter, classes: Classes) -> str:
    """A question about a class without one pixel, beside a large value of no class; else ""."""
    named = zip(classes.names, classes.ids, strict=True)
    absent = [f"{name} (id {i})" for name, i in named if not pixels[i]]
    known = {*classes.ids, TRANSPARENT}
    value, number = max(((n, v) for v, n in pixels.items() if v not in known), default=(0, 0))[::-1]
    if not absent or number < LARGE * pixels.total():
        return ""
    return (
        f"no pixel is of the class {absent[0]}, but {number / pixels.total():.0%} are {value}, "
        f"which no class has: did you mean {value}"
    )


# What values may stand for


def _meaning(
    labels: str, classes: Classes, ids: dict[int, int], reason: str, proposed: bool = False
) -> Meaning:
    return Meaning(labels, classes, ids | {TRANSPARENT: void_of(classes)}, reason, proposed)


def _train_ids(classes: Classes, said: str) -> Meaning:
    whose = "Cityscapes: its 19 classes are used" if classes == CITYSCAPES else "the given classes"
    ids = dict(enumerate(classes.ids)) | {255: void_of(classes)}
    return _meaning("train-ids", classes, ids, f"train ids ({said}), of {whose}")


def _cityscapes_ids(said: str) -> Meaning:
    ids = {i: i for i in range(34)} | dict.fromkeys(LICENSE_PLATES, UNLABELED)
    reason = f"ids of Cityscapes ({said}): its 19 classes are used"
    return _meaning("cityscapes", CITYSCAPES, ids, reason)


def _own_ids(pixels: Counter, palette: list[tuple[int, int, int]], said: str) -> Meaning:
    _refuse_many(pixels, False)
    found = sorted(pixels.keys() - {TRANSPARENT})
    if found == [255]:
        raise ValueError("the masks hold nothing but 255, which usually means not labelled")
    kept = [i for i in found if i != 255 or len(found) == 2]  # of a mask 0, 255 both are classes
    colors = tuple(palette[i] if i < len(palette) else color_of(i) for i in kept)
    classes = Classes(tuple(f"class {i}" for i in kept), tuple(kept), colors)
    return _meaning("ids", classes, EVERY_BYTE, f"ids of classes of your own ({said})", True)


def _listed_colors(classes: Classes) -> Meaning:
    packed = [pack(color) for color in classes.colors]
    if twice := [name for i, name in enumerate(classes.names) if packed[i] in packed[:i]]:
        raise ValueError(f"the class {twice[0]} has the color of another: change one")
    ids = {BLACK: void_of(classes)} | dict(zip(packed, classes.ids, strict=True))
    reason = "colours of the given classes; black, unless it is one of them, is ignored"
    return _meaning("colors", classes, ids, reason)


def _colors(pixels: Counter) -> Meaning:
    """Cityscapes' colours if no others occur, and several: a binary mask in red is no rider."""
    known = {pack(c.color): c.id for c in torchvision.datasets.Cityscapes.classes if c.id > 0}
    known |= dict(zip(map(pack, CITYSCAPES.colors), CITYSCAPES.ids, strict=True))
    reason = "colours of Cityscapes, as no others occur: its 19 classes are used"
    cityscapes = _meaning("colors", CITYSCAPES, known | {BLACK: UNLABELED}, reason)
    if _fits(pixels, cityscapes, 2):
        return cityscapes
    _refuse_many(pixels, True)
    found = [value for value, _ in pixels.most_common() if value != TRANSPARENT]
    names = tuple(f"color {' '.join(map(str, unpack(value)))}" for value in found)
    ids = {value: i for i, value in enumerate(found)}
    classes = Classes(names, tuple(ids.values()), tuple(map(unpack, found)))
    return _meaning("colors", classes, ids, "colours, each of which is a class", True)


def _refuse_many(pixels: Counter, colored: bool) -> None:
    """Raise ValueError for values that are no classes, or too many to be named."""
    refuse_smoothed(pixels, colored)
    if len(pixels) > MOST_VALUES:
        raise ValueError(
            f"the masks hold {len(pixels):,} different values: list the classes with --classes, "
            "or correct the path if these are photographs"
        )


# Whether values are those of Cityscapes


def _fits(pixels: Counter, meaning: Meaning, common: int) -> bool:
    """Whether all values have a meaning, among them the road and some of `COMMON`."""
    ids = {meaning.ids.get(value) for value in pixels}
    return None not in ids and ROAD in ids and len(ids & COMMON) >= common


def look_like_streets(masks: list[np.ndarray], ids: dict[int, int]) -> bool:
    """Whether masks, their values taken for ids of Cityscapes, look like pictures of streets.

    Sky above and road below, in connected areas; the lowest fifth is of what streets end in, the
    highest of what stands above them. That tells them from lists of other data sets whose values
    fit: RailSem19's rails would be riders before the camera.
    """
    rows = [translate(values, ids)[np.arange(50) * len(values) // 50] for values in masks]
    grid = np.concatenate(rows, 1)  # side by side, of one height: (50, sum of the widths)
    sky, road, labelled = grid == SKY, grid == ROAD, np.isin(grid, CITYSCAPES.ids)
    above, below = np.isin(grid, ABOVE)[:10], np.isin(grid, BELOW)[40:]
    places = [
        (sky[:30], sky),
        (road[20:], road),
        (above, labelled[:10]),
        (below, labelled[40:]),
    ]
    connected = (grid[:, 1:] == grid[:, :-1]).mean() >= 0.9
    return connected and all(0 < part.sum() >= 0.9 * all_.sum() for part, all_ in places)

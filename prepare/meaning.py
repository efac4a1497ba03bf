"""What the values of masks mean: which class a value stands for, and whether that is sure."""

from collections import Counter
from typing import NamedTuple

import numpy as np
import torchvision

from prepare.class_lists import color_of, void_of
from prepare.masks import TRANSPARENT, Form, count, pack, show, split_rgb, translate, unpack
from utils import CITYSCAPES, Classes

LABELS = {
    "ids": "ids of your own classes",
    "cityscapes": "ids of Cityscapes, 7 road .. 33 bicycle",
    "train-ids": "train ids, of Cityscapes 0 road .. 18 bicycle",
    "colors": "colours",
}
ROAD, SKY = 7, 23  # ids of Cityscapes
COMMON = {11, 21, 23, 26}  # building, vegetation, sky, car
BELOW = ROAD, 8, 22, 21, 26  # what a street's picture ends in: sidewalk, terrain, vegetation, car
ABOVE = SKY, 11, 21, 17, 19, 20  # what it begins with: building, vegetation, pole, lights, signs
# Guesses, and how many of `COMMON` they need: low values are also those of other lists.
LIKELY = {"cityscapes": 2, "train-ids": 4, "colors": 2}
MOST_VALUES = 64  # more are named by nobody
LARGE = 0.05  # of the pixels: a value of so many is no oversight
NOISE = 12  # how far from a colour lossy formats leave others, in RGB
STRONG = 0.002  # of the pixels: a colour that fills areas of so many is a class


class Meaning(NamedTuple):
    """What the values of masks stand for."""

    labels: str  # one of `LABELS`
    classes: Classes  # of the data set
    ids: dict[int, int]  # value in a mask -> id in a label file; any other value is a fault
    reason: str  # what was assumed, and why: for the user
    is_proposal: bool = False  # the classes are made up from the values, and need names
    form: Form = Form()  # how the masks are read


def ids_of(labels: str, classes: Classes) -> dict[int, int]:
    """The id in a label file of each value that masks may hold, as one of `LABELS` has them."""
    void = void_of(classes)
    if labels == "ids":
        ids = {i: i for i in range(256)}
    elif labels == "cityscapes":  # 34 and 255 are licence plates: -1 in GTA5's masks, in a byte
        ids = {i: i for i in range(34)} | {34: void, 255: void}
    elif labels == "train-ids":
        ids = dict(enumerate(classes.ids)) | {255: void}
    else:
        table = torchvision.datasets.Cityscapes.classes if classes == CITYSCAPES else ()
        ids = {pack(c.color): c.id for c in table if c.id > 0} | {pack((0, 0, 0)): void}
        ids |= dict(zip(map(pack, classes.colors), classes.ids, strict=True))
    return ids | {TRANSPARENT: void}


def interpret(
    pixels: Counter,
    labels: str | None,
    hint: str | None,
    classes: Classes | None,
    form: Form,
    samples: list[np.ndarray],
) -> tuple[list[Meaning], str]:
    """What the values of masks may stand for, and a question; where it is sure, one and "".

    Args:
        pixels: value -> number of pixels, of all masks.
        labels, hint: one of `LABELS` if the user, or the masks' names, say so.
        classes: of the user, or of the data set; None: Cityscapes', or new ones for the values.
        form: as the masks were read.
        samples: some of the masks, which show whether they look like streets.

    Raises ValueError for two classes of one colour, for smoothed masks, and for more values than
    masks have.
    """
    if form.targets is None and labels in (None, "colors"):
        refuse_smoothed(samples, form.colors)
    kind, why = labels or hint, "by the names of the masks" if hint else "by the values found"
    why = f"as --labels {labels} says" if labels else "by the list of them" if classes else why
    if classes is not None:
        kind = "colors" if form.colors else "train-ids" if kind == "train-ids" else "ids"
        if kind == "colors" and len({*classes.colors}) < len(classes):
            raise ValueError("two of the classes have the same color: change one")
    elif kind in ("cityscapes", "train-ids"):
        classes = CITYSCAPES
    if classes is not None:
        found = _meaning(kind, classes, why, form)
        return [found], _doubt(pixels, found, labels)
    kind = "colors" if form.colors else kind
    looks = [_meaning(each, CITYSCAPES, "by their values and looks", form) for each in LIKELY]
    looks = [each for each in looks if kind in (None, each.labels) and _fits(pixels, each)]
    sure = [each for each in looks if form.colors or look_like_streets(samples, each.ids)]
    if len(sure) == 1:
        return sure, ""
    own = _meaning(kind or "ids", _propose(pixels, form), why, form)._replace(is_proposal=True)
    ways = [f"--labels {each.labels}: {LABELS[each.labels]}" for each in [*looks, own]]
    question = (
        "the values of the masks may mean several things, and what they look like does not tell "
        "which. Say it, or list the classes with --classes FILE:"
    )
    return [*looks, own], "\n    ".join([question, *ways]) if looks else ""


def _meaning(labels: str, classes: Classes, why: str, form: Form) -> Meaning:
    whose = "Cityscapes' 19 classes" if classes == CITYSCAPES else f"{len(classes)} classes"
    reason = f"{LABELS[labels]} ({why}): {whose}"
    return Meaning(labels, classes, ids_of(labels, classes), reason, form=form)


def _propose(pixels: Counter, form: Form) -> Classes:
    """A class for each value. Raises ValueError for values that are no classes, or too many."""
    if len(pixels) > MOST_VALUES:
        cure = "have the nearest of a few taken with --nearest-color, or " * form.colors
        raise ValueError(
            f"the masks hold {len(pixels):,} different values: {cure}list the classes with "
            "--classes, or correct the path if these are photographs"
        )
    found = [value for value, _ in pixels.most_common() if value != TRANSPARENT]
    if not found or (found == [255] and not form.colors):
        held = show(pixels, form.colors)
        raise ValueError(f"the masks hold nothing but {held}, which usually means not labelled")
    if form.colors:
        colors = tuple(map(unpack, found))
        names = tuple(f"color {' '.join(map(str, color))}" for color in colors)
        return Classes(names, tuple(range(len(found))), colors)
    ids = sorted(i for i in found if i != 255 or len(found) == 2)  # of 0 and 255 both are classes
    shown = {i: unpack(color) for i, color in enumerate(form.palette) if color is not None}
    colors = tuple(shown.get(i) or color_of(i) for i in ids)
    return Classes(tuple(f"class {i}" for i in ids), tuple(ids), colors)


def _doubt(pixels: Counter, meaning: Meaning, labels: str | None) -> str:
    """A question where no pixel is of a class, or, of ids by a list, none of one class; else ""."""
    classes = meaning.classes
    if not any(meaning.ids.get(value) in classes.ids for value in pixels):
        held, ids = show(pixels, meaning.form.colors), " ".join(map(str, classes.ids))
        return f"no pixel of the masks is of a class: they hold {held}, the list the ids {ids}"
    by_list = meaning.labels == "ids" and labels is None and not meaning.form.names
    if by_list and (question := absent_class(pixels, classes)):
        return f"{question}? Correct the list of classes, or say with --labels ids that it is right"
    return ""


def absent_class(pixels: Counter, classes: Classes) -> str:
    """A question about a class without one pixel, beside a large value of no class; else ""."""
    named = zip(classes.names, classes.ids, strict=True)
    absent = [f"{name} (id {i})" for name, i in named if not pixels[i]]
    others = Counter({v: n for v, n in pixels.items() if v not in (*classes.ids, TRANSPARENT)})
    for value, number in others.most_common(1):
        if absent and number >= LARGE * pixels.total():
            return (
                f"no pixel is of the class {absent[0]}, but {number / pixels.total():.0%} are "
                f"{value}, which no class has: did you mean {value}"
            )
    return ""


def _fits(pixels: Counter, meaning: Meaning) -> bool:
    """Whether all values have a meaning, among them the road and as many of `COMMON` as needed."""
    ids = {meaning.ids.get(value) for value in pixels}
    return None not in ids and ROAD in ids and len(ids & COMMON) >= LIKELY[meaning.labels]


def look_like_streets(masks: list[np.ndarray], ids: dict[int, int]) -> bool:
    """Whether masks, their values taken for ids of Cityscapes, look like pictures of streets.

    Sky above and road below, in connected areas; the lowest fifth is of what streets end in, the
    highest of what stands above them. Labels of other data sets, whose values may fit, do not:
    RailSem19's rails would be riders before the camera.
    """
    rows = [translate(values, ids)[np.arange(50) * len(values) // 50] for values in masks]
    grid = np.concatenate(rows, 1)  # side by side, of one height: (50, sum of the widths)
    sky, road, labelled = grid == SKY, grid == ROAD, np.isin(grid, CITYSCAPES.ids)
    above, below = np.isin(grid, ABOVE)[:10], np.isin(grid, BELOW)[40:]
    parts = (sky[:30], sky), (road[20:], road), (above, labelled[:10]), (below, labelled[40:])
    connected = (grid[:, 1:] == grid[:, :-1]).mean() >= 0.9
    return connected and all(0 < part.sum() >= 0.9 * total.sum() for part, total in parts)


# What smoothed edges and JPEG leave


def strong_values(samples: list[np.ndarray], colored: bool) -> tuple[list[int], Counter]:
    """The values that fill areas, and the pixels of each whose four neighbours have it, too.

    Blends, as smoothing and JPEG leave them, are along edges.
    """
    inside = Counter()
    for values in samples:
        middle = values[1:-1, 1:-1]
        beside = values[:-2, 1:-1], values[2:, 1:-1], values[1:-1, :-2], values[1:-1, 2:]
        inside += count(middle[np.all([middle == each for each in beside], 0)])
    strong, least = [], STRONG * sum(values.size for values in samples)
    for value, number in inside.most_common():
        if number < least:
            break
        near = [np.linalg.norm(split_rgb(value) - split_rgb(other)) < NOISE for other in strong]
        if value != TRANSPARENT and not (colored and any(near)):
            strong.append(value)
    return strong, inside


def refuse_smoothed(samples: list[np.ndarray], colored: bool) -> None:
    """Raise ValueError where most values of some masks are blends of a few, along edges.

    Blends are between the values that they blend, in each channel; thin lines need not be.
    """
    pixels, (strong, inside) = sum(map(count, samples), Counter()), strong_values(samples, colored)
    if not strong:
        return
    low, high, values = split_rgb(strong).min(0), split_rgb(strong).max(0), np.array([*pixels])
    slack = NOISE if colored else 0
    between = ((split_rgb(values) >= low - slack) & (split_rgb(values) <= high + slack)).all(1)
    blends = [v for v in values[between].tolist() if 10 * inside[v] < pixels[v]]
    covered = sum(pixels[value] for value in strong) / pixels.total()
    if covered > 0.5 and len(blends) > max(4, len(pixels) / 2):
        raise ValueError(
            f"the masks hold {len(pixels):,} values, of which {len(strong)} make up {covered:.1%} "
            f"({show(strong, colored)}); the others are blends, as smoothed edges and JPEG leave "
            "them: export the masks without smoothing, or have each pixel take the nearest of "
            "these, or of the colours of --classes, with --nearest-color"
        )

"""What the values of masks mean: which class a value stands for, and whether that is sure."""

import math
from collections import Counter
from collections.abc import Collection, Iterable
from typing import NamedTuple

import numpy as np
import torchvision

from prepare.class_lists import color_of, void_of
from prepare.masks import TRANSPARENT, Form, pack, show, split_rgb, translate, unpack
from prepare.polygons import IGNORED
from utils import CITYSCAPES, Classes

WHAT = {
    "ids": "ids of your own classes",
    "cityscapes": "ids of Cityscapes, 7 road .. 33 bicycle",
    "train-ids": "train ids, of Cityscapes 0 road .. 18 bicycle",
    "colors": "colours",
}
LABELS = tuple(WHAT)
UNLABELED = 0  # of Cityscapes: not scored
BLACK = 0  # a colour
LICENSE_PLATES = 34, 255  # -1 in GTA5's masks, and in a byte
ROAD, SKY = 7, 23  # ids of Cityscapes
COMMON = {11, 21, 23, 26}  # building, vegetation, sky, car
BELOW = ROAD, 8, 22, 21, 26  # what a street's picture ends in: sidewalk, terrain, vegetation, car
ABOVE = SKY, 11, 21, 17, 19, 20  # what it begins with: building, vegetation, pole, lights, signs
MOST_VALUES = 64  # more values than this, without a list of classes, are edges or JPEG's noise
STRONG = 0.002  # the share of the pixels from which a colour is no oversight of a drawing tool
NEAR, NOISE = 3, 12  # how far blends lie from a line between two colours, JPEG's from one, in RGB
LARGE = 0.05  # the share of the pixels from which a value cannot be an oversight


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


class OpenMeaningError(ValueError):
    """What masks mean is not sure; `candidates` has a `Meaning` for each that it may be."""

    def __init__(self, question: str, candidates: list[Meaning]):
        super().__init__(question)
        self.candidates = candidates


def interpret(
    pixels: Counter,
    labels: str | None,
    classes: Classes | None,
    form: Form,
    samples: list[np.ndarray],
    hint: str | None = None,
    palette: list[tuple[int, int, int]] | None = None,
) -> Meaning:
    """What the values of masks stand for.

    Args:
        pixels: value -> number of pixels, of all masks.
        labels: one of `LABELS` if the user says so.
        classes: of the user, or of the data set; None: Cityscapes', or new ones for the values.
        form: as the masks were read.
        samples: some of the masks, which show whether they look like streets.
        hint: what the masks' names say: `cityscapes` ids, `train-ids`, or `own` ids.
        palette: RGB of each value, of masks with a palette.

    Raises OpenMeaningError, and ValueError for more values than masks have, for two classes of one
    colour, for masks in which no pixel is of a class, and for a list of classes that seems to
    mean another value.
    """
    if form.colors:
        meaning = _of_colors(pixels, classes)
    else:
        meaning = _of_bytes(pixels, labels, classes, samples, hint, palette or [])
    scored = sum(n for value, n in pixels.items() if meaning.ids.get(value) in meaning.classes.ids)
    if pixels and not scored:
        raise OpenMeaningError(
            f"no pixel of the masks is of a class: they hold {show(pixels, form.colors)}, the "
            f"classes have the ids {' '.join(map(str, meaning.classes.ids))}: correct the list of "
            "classes",
            [meaning],
        )
    if labels is None and classes is not None and meaning.labels == "ids":
        if question := absent_class(pixels, classes):
            raise OpenMeaningError(
                f"{question}? Correct the list of classes, or say with --labels ids that it is "
                "right, and that the others are not to be scored",
                [meaning],
            )
    void = UNLABELED if meaning.classes == CITYSCAPES else void_of(meaning.classes)
    return meaning._replace(ids=meaning.ids | {TRANSPARENT: void}, form=form)


def _of_colors(pixels: Counter, classes: Classes | None) -> Meaning:
    if classes is not None:
        packed = [pack(color) for color in classes.colors]
        twice = [name for i, name in enumerate(classes.names) if packed[i] in packed[:i]]
        if twice:
            raise ValueError(f"the class {twice[0]} has the color of another: change one")
        ids = {BLACK: void_of(classes)} | dict(zip(packed, classes.ids, strict=True))
        reason = "colours of the given classes; black, unless it is one of them, is not scored"
        return Meaning("colors", classes, ids, reason)
    known = {pack(c.color): c.id for c in torchvision.datasets.Cityscapes.classes if c.id > 0}
    known |= dict(zip(map(pack, CITYSCAPES.colors), CITYSCAPES.ids, strict=True))
    known[BLACK] = UNLABELED
    # A binary mask in red would be all riders: several of the commonest classes must be there.
    found = {known.get(value) for value in pixels if value != TRANSPARENT}
    if None not in found and ROAD in found and len(found & COMMON) >= 2:
        reason = "colours of Cityscapes, as no others occur: its 19 classes are used"
        return Meaning("colors", CITYSCAPES, known, reason)
    refuse_smoothed(pixels, True)
    found = [value for value, _ in pixels.most_common() if value != TRANSPARENT]
    names = tuple(f"color {' '.join(map(str, unpack(value)))}" for value in found)
    ids = {value: i for i, value in enumerate(found)}
    classes = Classes(names, tuple(ids.values()), tuple(map(unpack, found)))
    return Meaning("colors", classes, ids, "colours, each of which is a class", proposed=True)


def _of_bytes(
    pixels: Counter,
    labels: str | None,
    classes: Classes | None,
    samples: list[np.ndarray],
    hint: str | None,
    palette: list[tuple[int, int, int]],
) -> Meaning:
    said = f"as --labels {labels} says" if labels else "by the names of the masks"
    kind = labels or (hint if hint in ("cityscapes", "train-ids") else None)
    if kind == "train-ids":
        return _train_ids(classes, said)
    if kind == "cityscapes" and classes is None:
        return _cityscapes_ids(said)
    if classes is not None:
        reason = "ids of the given classes; others are not scored"
        return Meaning("ids", classes, {i: i for i in range(256)}, reason)
    if kind is None and hint != "own":
        looks = "as the values and what they look like say"
        candidates = [_train_ids(None, looks)] * _like_train_ids(pixels)
        candidates += [_cityscapes_ids(looks)] * _like_cityscapes(pixels)
        fitting = [each for each in candidates if look_like_streets(samples, each.ids)]
        if len(fitting) == 1:
            return fitting[0]
        if candidates:
            own = _proposal(pixels, palette, "a class for each value, which you name")
            candidates.append(own)
            ways = "".join(f"\n    --labels {m.labels}: {WHAT[m.labels]}" for m in candidates)
            raise OpenMeaningError(
                "the values of the masks may mean several things, and what they look like does "
                f"not tell which. Say it, or list the classes with --classes FILE:{ways}",
                candidates,
            )
    return _proposal(pixels, palette, said if labels or hint else "by the values found")


def _train_ids(classes: Classes | None, said: str) -> Meaning:
    target = classes or CITYSCAPES
    void = UNLABELED if target == CITYSCAPES else void_of(target)
    whose = "the given classes" if classes else "Cityscapes: its 19 classes are used"
    ids = dict(enumerate(target.ids)) | {255: void}
    return Meaning("train-ids", target, ids, f"train ids ({said}), of {whose}")


def _cityscapes_ids(said: str) -> Meaning:
    # 255 would be a licence plate; but with it and no id above 18, a file looks like train ids.
    ids = {i: i for i in range(34)} | dict.fromkeys(LICENSE_PLATES, UNLABELED)
    reason = f"ids of Cityscapes ({said}): its 19 classes are used"
    return Meaning("cityscapes", CITYSCAPES, ids, reason)


def _proposal(pixels: Counter, palette: list[tuple[int, int, int]], said: str) -> Meaning:
    refuse_smoothed(pixels, False)
    found = sorted(value for value in pixels if value != TRANSPARENT)
    if found == [255]:
        raise ValueError("the masks hold nothing but 255, which usually means not labelled")
    scored = [i for i in found if i != 255 or len(found) == 2]  # of a mask 0, 255 both are classes
    colors = tuple(palette[i] if i < len(palette) else color_of(i) for i in scored)
    classes = Classes(tuple(f"class {i}" for i in scored), tuple(scored), colors)
    reason = f"ids of classes of your own ({said})"
    return Meaning("ids", classes, {i: i for i in range(256)}, reason, proposed=True)


def of_shapes(form: Form) -> Meaning:
    """What labelme's shapes are drawn as, where nobody lists the classes: each label is one."""
    rows = [(name, i) for name, i in form.names.items() if i != form.names[IGNORED]]
    classes = Classes(*zip(*rows, strict=True), tuple(color_of(i) for _, i in rows))
    ids = {i: i for i in range(256)}
    return Meaning("ids", classes, ids, "the labels of labelme's shapes", form=form)


def _like_train_ids(pixels: Counter) -> bool:
    """Nothing but 0..18 and 255, with road, building, vegetation, sky and car."""
    values = pixels.keys() - {TRANSPARENT}
    return values <= {*range(19), 255} and values >= {0, 2, 8, 10, 13} and bool(values & {18, 255})


def _like_cityscapes(pixels: Counter) -> bool:
    """No other ids, much road, most pixels of a class, two of building, vegetation, sky, car."""
    total, values = pixels.total(), pixels.keys() - {TRANSPARENT, *LICENSE_PLATES}
    scored = sum(pixels[i] for i in CITYSCAPES.ids)
    much = pixels[ROAD] >= 0.05 * total and scored >= 0.6 * total
    return values <= {*range(34)} and much and len(values & COMMON) >= 2


def look_like_streets(masks: list[np.ndarray], ids: dict[int, int]) -> bool:
    """Whether masks, their values taken for ids of Cityscapes, look like pictures of streets.

    Sky above and road below, both connected; the lowest fifth of the pictures is of what streets
    end in, the highest of what stands above them. That tells them from lists of other data sets
    whose values fit: RailSem19's rails would be riders before the camera.
    """
    labelled = [translate(values, ids | {TRANSPARENT: UNLABELED}) for values in masks]

    def count(members: Collection[int], top: float = 0, bottom: float = 1) -> int:
        """The pixels of some ids between two heights of the pictures, 0 the top, 1 the bottom."""
        bands = [each[int(top * len(each)) : math.ceil(bottom * len(each))] for each in labelled]
        return sum(int(np.isin(band, [*members]).sum()) for band in bands)

    scored = CITYSCAPES.ids
    parts = [
        (count([SKY], 0, 0.6), count([SKY])),
        (count([ROAD], 0.4, 1), count([ROAD])),
        (count(ABOVE, 0, 0.2), count(scored, 0, 0.2)),
        (count(BELOW, 0.8, 1), count(scored, 0.8, 1)),
        (  # pixels that are of the class of their neighbour
            sum(int((each[:, 1:] == each[:, :-1]).sum()) for each in labelled),
            sum(each[:, 1:].size for each in labelled),
        ),
    ]
    return all(part > 0 and part >= 0.9 * whole for part, whole in parts)


def absent_class(pixels: Counter, classes: Classes) -> str:
    """A question about a class without one pixel, beside a large value of no class; else ""."""
    absent = [
        (name, i) for name, i in zip(classes.names, classes.ids, strict=True) if not pixels[i]
    ]
    others = [v for v, n in pixels.most_common() if n >= LARGE * pixels.total()]
    others = [value for value in others if value not in (*classes.ids, TRANSPARENT)]
    if not absent or not others:
        return ""
    (name, i), share = absent[0], pixels[others[0]] / pixels.total()
    return (
        f"no pixel is of the class {name} (id {i}), but {share:.0%} are {others[0]}, which no "
        f"class has: did you mean {others[0]}"
    )


def strong_values(pixels: Counter, colored: bool) -> list[int]:
    """The values of at least `STRONG` of the pixels that no smoothing or JPEG explains."""
    strong, total = [], pixels.total()
    for value, number in pixels.most_common(MOST_VALUES * 4):
        stronger = [other for other in strong if pixels[other] >= 4 * number]
        if value == TRANSPARENT or number < STRONG * total or blends([value], stronger, colored):
            continue
        strong.append(value)
    return strong


def blends(values: Iterable[int], strong: list[int], colored: bool) -> list[int]:
    """Those of some values that lie between two of the strong ones, or beside one of them.

    Smoothed edges leave hundreds of values between, JPEG hundreds beside.
    """
    if not strong:
        return []
    ends = split_rgb(np.array(strong)) if colored else np.array(strong, float)[:, None]
    start, stop = ends[:, None], ends[None]
    found = []
    for value in values:
        color = split_rgb(np.array([value])) if colored else np.array([[float(value)]])
        along = ((color - start) * (stop - start)).sum(-1)
        along = (along / np.maximum(((stop - start) ** 2).sum(-1), 1)).clip(0, 1)
        apart = np.linalg.norm(start + along[..., None] * (stop - start) - color, axis=-1)
        if apart.min() <= NEAR or np.diag(apart).min() <= NOISE:
            found.append(value)
    return found


def are_smoothed(others: Collection[int], strong: list[int], colored: bool) -> bool:
    """Whether values beside the strong ones are many, and most of them blends of these.

    Ids lie between each other as well: of bytes, only the edges of two or three far ones count.
    """
    some = [*others][:300]
    if not colored and (len(strong) > 3 or max(strong, default=0) - min(strong, default=0) < 64):
        return False
    enough = len(some) >= max(5, len(strong))
    return enough and len(blends(some, strong, colored)) > len(some) / 2


def refuse_smoothed(pixels: Counter, colored: bool) -> None:
    """Raise ValueError for values that smoothed edges or JPEG left, and for too many."""
    strong = strong_values(pixels, colored)
    others = [value for value in pixels if value not in {*strong, TRANSPARENT}]
    share = sum(pixels[value] for value in strong) / max(pixels.total(), 1)
    if share > 0.5 and are_smoothed(others, strong, colored):
        raise ValueError(
            f"the masks hold {len(pixels):,} values, of which {len(strong)} make up {share:.1%} "
            f"({show(strong, colored)}); the others are blends, as smoothed edges and JPEG leave "
            "them: export the masks without smoothing, or have each pixel take the nearest of "
            "these, or of the colours of --classes, with --nearest-color"
        )
    if len(pixels) > MOST_VALUES:
        raise ValueError(
            f"the masks hold {len(pixels):,} different values: list the classes with --classes, "
            "or correct the path if these are photographs"
        )

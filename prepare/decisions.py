"""What a data set's masks are taken for: decided, shown in a picture, kept for the next call."""

import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from data_io.image_io import image_size, read_image
from data_io.layout import OWN_RECORD
from dataset import read_classes
from figures import overlay
from prepare import class_lists, masks
from prepare.conversion import Item
from prepare.masks import Form, read_values, sample
from prepare.meaning import LABELS, Meaning, ids_of, interpret, refuse_smoothed, strong_values
from prepare.pairs import listing
from prepare.splits import Pair
from runtime.console import in_threads
from runtime.files import atomic_write
from utils import CITYSCAPES, Classes

PREVIEW = "own-preview.jpg"
PROPOSAL = """\
# Proposed by `python -m prepare.own` from the masks in
# {source}.
# Give the classes their names, and remove the lines of what is to be ignored. The images need
# not be converted again.
"""


def find_classes(
    given: Path | None, dst: Path, pairs: list[Pair], sources: list[Path], kind: str | None
) -> tuple[Classes | None, list[str]]:
    """The classes of --classes, of `dst`, of a list in the data set or of labelme's shapes.

    kind: what the masks are, one of `meaning.LABELS`, by the user or by their names. Returns also
    notes on whose they are. Raises ValueError for a list that differs from the classes of `dst`.
    """
    paths = [pair.mask for pair in pairs]
    classes = None if given is None else class_lists.read_class_list(given)
    if any((dst / name).is_file() for name in (OWN_RECORD, "classes.yaml")):
        if classes not in (None, read_classes(dst)):
            raise ValueError(
                f"{given} differs from the classes of {dst}: leave --classes out, and edit "
                f"{dst / 'classes.yaml'}, or choose a new directory"
            )
        return read_classes(dst), []
    are_shapes = paths[0].suffix.lower() == ".json"
    if classes is not None or (kind in ("cityscapes", "train-ids") and not are_shapes):
        return classes, []
    folders = {*sources, *(path.parent for path in paths)}
    if path := class_lists.find_class_list(folders | {folder.parent for folder in folders}):
        return class_lists.read_class_list(path), [f"classes: those of {path}"]
    if are_shapes:
        labels = sorted(set().union(*in_threads(masks.shape_names, paths, "reading shapes")))
        names, ids = (masks.BACKGROUND, *labels), tuple(range(1 + len(labels)))
        colors = tuple(map(class_lists.color_of, ids))
        return Classes(names, ids, colors), ["classes: the labels of shapes"]
    return None, []


def choose_form(
    pairs: list[Pair], kind: str | None, classes: Classes | None, nearest: bool
) -> Form:
    """How the masks are to be read. kind: as in `find_classes`; nearest: with --nearest-color."""
    some = sample([pair.mask for pair in pairs])
    if some[0].suffix.lower() == ".json":
        return Form(names=class_lists.values_of_names(classes))
    if nearest:
        form = Form(colors=True, lossy=True)
        pixels = (masks.count(read_values(path, form)) for path in some)
        strong = [] if classes else strong_values(sum(pixels, Counter()), True)
        listed = [masks.pack(color) for color in ((0, 0, 0), *classes.colors)] if classes else []
        return form._replace(targets=(*strong, *listed))
    if kind == "colors" or (kind is None and masks.are_colored(some)):
        return Form(colors=True)
    return Form(palette=masks.palette_of(some[0]))


def find_meaning(
    pairs: list[Pair],
    results: list[Counter],
    labels: str | None,
    classes: Classes | None,
    form: Form,
    dst: Path,
) -> Meaning:
    """What the masks stand for, by `interpret`; a picture of it, or of what it may be, in `dst`.

    Raises ValueError with the question where it is open.
    """
    pixels = sum(results, Counter())
    some = sample(pairs)
    samples = [read_values(pair.mask, form) for pair in some]
    found, question = interpret(pixels, labels, pairs[0].hint, classes, form, samples)
    write_preview(dst / PREVIEW, sample(some, 3), found)
    if question:
        raise ValueError(f"{question}\n{dst / PREVIEW} shows what that would be")
    return found[0]


def refuse_unknown(items: list[Item], results: list[Counter], meaning: Meaning, dst: Path) -> None:
    """Raise ValueError, with the files, for values that have no meaning."""
    colored, known = meaning.form.colors, meaning.ids.keys()
    files = [
        f"{item.pair.mask}: {masks.show(values, colored)}"
        for item, result in zip(items, results, strict=True)
        if (values := result.keys() - known)
    ]
    if files:
        refuse_smoothed(sum(results, Counter()), colored)
        there = dst / "classes.yaml"
        where = there if there.is_file() else "the file of --classes"
        fault = (
            f"masks hold values that are no {LABELS[meaning.labels]}, and nothing was written: "
            f"choose --labels otherwise, or list all classes in {where}"
        )
        raise ValueError(listing(fault, files))


# The picture


def write_preview(path: Path, pairs: list[Pair], meanings: list[Meaning]) -> None:
    """Write a JPEG: a row for each image, beside it its labels as each meaning has them.

    Values that a meaning lacks are drawn as ignored. Raises as `read_image` and `read_values`.
    """
    columns, (height, width) = 1 + len(meanings), image_size(pairs[0].image)
    size = 5 * columns, (5 * height / width + 0.7) * len(pairs)  # of an image 5 inches wide
    figure = Figure(figsize=size, layout="constrained")
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
    void = class_lists.void_of(meaning.classes)
    ids = dict.fromkeys(np.unique(values).tolist(), void) | meaning.ids
    labels = meaning.classes.train_ids[torch.from_numpy(masks.translate(values, ids)).int()]
    return overlay(image, labels, meaning.classes)


# The record


def read_record(dst: Path) -> Meaning | None:
    """What an earlier call took the masks in `dst` for; None if it is new.

    Colours and names that were added to classes.yaml since then have a meaning, too. Raises
    ValueError if `dst` holds a data set of another origin, or a record that is damaged.
    """
    if not (dst / OWN_RECORD).is_file():
        for name in ("leftImg8bit", "gtFine"):
            if (dst / name).exists():
                raise ValueError(f"{dst / name} is of another data set: choose a new directory")
        return None
    classes = read_classes(dst)
    try:
        record = json.loads((dst / OWN_RECORD).read_text(encoding="utf-8"))
        labels, ids = record["labels"], {int(value): i for value, i in record["ids"].items()}
        names = {str(name): int(value) for name, value in record.get("names", {}).items()}
        targets = tuple(map(int, record.get("targets", ())))
        palette = tuple(map(tuple, record.get("palette", ())))
        if labels not in LABELS or not {*ids.values(), *names.values()} <= {*range(256)}:
            raise ValueError("its labels or ids are invalid")
    except Exception as error:  # parsers raise nearly anything
        raise ValueError(
            f"{dst / OWN_RECORD} is damaged ({error!r}): restore it, or choose a new directory"
        ) from error
    names = class_lists.values_of_names(classes) | names if names else {}
    form = Form(labels == "colors", bool(targets), targets, names, palette)
    return Meaning(labels, classes, ids_of(labels, classes) | ids, "the same as before", form=form)


def write_record(dst: Path, meaning: Meaning, results: list[Counter], source: Path) -> None:
    """Write `OWN_RECORD` and, unless the classes are Cityscapes', `classes.yaml`."""
    dst.mkdir(parents=True, exist_ok=True)
    comments = _shares(results, meaning) if meaning.proposed else {}
    text = PROPOSAL.format(source=source) if meaning.proposed else ""
    text += class_lists.as_yaml(meaning.classes, comments)
    if meaning.classes != CITYSCAPES and not (dst / "classes.yaml").exists():
        atomic_write(dst / "classes.yaml", text.encode())
    record = {"labels": meaning.labels, "ids": meaning.ids, **meaning.form._asdict()}
    atomic_write(dst / OWN_RECORD, json.dumps(record).encode())


def _shares(results: list[Counter], meaning: Meaning) -> dict[int, str]:
    """id -> its share of the pixels and in how many masks it is."""
    pixels, files = sum(results, Counter()), Counter(value for each in results for value in each)
    texts = {}
    for value, number in pixels.items():
        share, among = number / pixels.total(), f"{files[value]} of {len(results)} masks"
        texts[meaning.ids[value]] = f"{share:.2%} of the pixels, in {among}"
    return texts

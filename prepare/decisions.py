"""What a data set's masks are taken for: decided, shown in a picture, kept for the next call."""

import glob
import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from data_io.image_io import IMAGE_SUFFIXES, encode, read_image
from data_io.layout import OWN_RECORD
from dataset import read_classes
from figures import plot_samples
from prepare import class_lists, masks
from prepare.conversion import Item, is_made_of
from prepare.masks import Form, read_values
from prepare.meaning import LABELS, Meaning, ids_of, strong_values
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
    given: Path | None, dst: Path, pairs: list[Pair], sources: list[Path], labels: str | None
) -> tuple[Classes | None, list[tuple[int, int, int]] | None, list[str]]:
    """The classes of --classes, of `dst`, of a list in the data set or of labelme's shapes.

    labels: what the masks are, one of `meaning.LABELS`, by the user. Returns also the colours that
    a list gives to what is ignored, and notes on whose the classes are. Raises ValueError for a
    list that differs from the classes of `dst`. The colours are None without another tool's list.
    """
    classes, voids = (None, None) if given is None else class_lists.read_class_list(given)
    if any((dst / name).is_file() for name in (OWN_RECORD, "classes.yaml")):
        if classes not in (None, read_classes(dst)):
            raise ValueError(
                f"{given} differs from the classes of {dst}: leave --classes out, and edit "
                f"{dst / 'classes.yaml'}, or choose a new directory"
            )
        return read_classes(dst), None, []
    paths = [pair.mask for pair in pairs]
    are_shapes = paths[0].suffix.lower() == ".json"
    if classes is not None or (labels in ("cityscapes", "train-ids") and not are_shapes):
        return classes, voids, []
    folders = {*sources, *(path.parent for path in paths)}
    if found := class_lists.find_class_list(folders | {folder.parent for folder in folders}):
        path, classes, voids = found
        return classes, voids, [f"classes: those of {path}"]
    if not are_shapes:
        return None, None, []
    found = set().union(*in_threads(masks.shape_names, paths, "reading shapes"))
    labels = sorted(label for label in found if label.lower() not in class_lists.VOID)
    names, ids = (masks.BACKGROUND, *labels), tuple(range(1 + len(labels)))
    colors = tuple(map(class_lists.color_of, ids))
    return Classes(names, ids, colors), None, ["classes: the labels of shapes"]


def choose_form(
    paths: list[Path],
    kind: str | None,
    classes: Classes | None,
    voids: list[tuple[int, int, int]] | None,
    nearest: bool,
) -> Form:
    """How masks are to be read.

    kind: one of `meaning.LABELS`, by the user or the masks' names; voids: colours that
    another tool's list gives to what is ignored, None without one; nearest: with --nearest-color.
    """
    if paths[0].suffix.lower() == ".json":
        return Form(names=class_lists.values_of_names(classes))
    if nearest and classes:
        colors = (0, 0, 0), *(voids or ()), *classes.colors
        return Form(colors=True, targets=[masks.pack(color) for color in colors])
    if nearest:
        samples = [read_values(path, Form(colors=True, targets=())) for path in paths]
        return Form(colors=True, targets=strong_values(samples, colored=True)[0])
    if kind == "colors" or (kind is None and masks.are_colored(paths)):
        return Form(colors=True)
    if kind is None and voids is not None and _is_shuffled(paths, classes, voids):
        return Form(colors=True)
    return Form()


def _is_shuffled(paths: list[Path], classes: Classes, voids: list[tuple[int, int, int]]) -> bool:
    """Whether masks have a list's colours in palettes whose indices are not the list's ids.

    Programs that make PNGs smaller turn colours into such palettes.
    """
    listed = dict(zip(classes.ids, map(masks.pack, classes.colors), strict=True))
    shown = set()  # indices and their colours
    for path in paths:
        try:
            used = np.unique(read_values(path, Form())).tolist()
            shown |= {each for each in enumerate(masks.palette_of(path)) if each[0] in used}
        except (OSError, ValueError):  # damaged: it will be named with all others
            return False
    known = {0, *map(masks.pack, voids), *listed.values()}
    is_other = any(color and color != listed.get(i) for i, color in shown)
    return is_other and all(color in known for _, color in shown)


def refuse_unknown(items: list[Item], meaning: Meaning, dst: Path) -> None:
    """Raise ValueError, with the files, for values that have no meaning."""
    unknown = {item.pair.mask: item.pixels.keys() - meaning.ids.keys() for item in items}
    colored, listed = meaning.form.colors, dst / "classes.yaml"
    if files := [f"{path}: {masks.show(v, colored)}" for path, v in unknown.items() if v]:
        where = listed if listed.is_file() else "the file of --classes"
        fault = (
            f"{len(files):,} masks hold values that are no {LABELS[meaning.labels]}, and nothing "
            f"was written: choose --labels otherwise, or list all classes in {where}"
        )
        raise ValueError(listing(fault, files))


def write_preview(path: Path, pairs: list[Pair], meanings: list[Meaning]) -> None:
    """Write a JPEG: for each meaning, images above their labels, and its legend.

    Values that a meaning lacks are drawn as ignored. Raises as `read_image` and `read_values`.
    """
    strips = []
    for meaning in meanings:
        figure = plot_samples([_shown(pair, meaning) for pair in pairs], meaning.classes)
        figure.suptitle(f"--labels {meaning.labels}: {len(meaning.classes)} classes")
        data = io.BytesIO()
        figure.savefig(data, format="png", dpi=100)
        strips.append(np.array(Image.open(data).convert("RGB")))
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, encode(np.concatenate(strips), "jpeg"))


def _shown(pair: Pair, meaning: Meaning) -> tuple[torch.Tensor, torch.Tensor]:
    """An image (3, H, W) uint8 and its train ids (H, W), of some 500 columns."""
    values, classes = read_values(pair.mask, meaning.form), meaning.classes
    step = max(values.shape[1] // 500, 1)
    void = class_lists.void_of(classes)
    ids = dict.fromkeys(np.unique(values).tolist(), void) | meaning.ids
    labels = classes.train_ids[torch.from_numpy(masks.translate(values[::step, ::step], ids)).int()]
    return read_image(pair.image)[:, ::step, ::step], labels


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
        labels, form = record["labels"], Form(**record["form"])
        ids = {int(value): i for value, i in record["ids"].items()}
        if labels not in LABELS or not {*ids.values(), *form.names.values()} <= {*range(256)}:
            raise ValueError("its labels or ids are invalid")
    except Exception as error:  # parsers raise nearly anything
        raise ValueError(
            f"{dst / OWN_RECORD} is damaged ({error!r}): restore it, or choose a new directory"
        ) from error
    if form.names:
        form = form._replace(names=class_lists.values_of_names(classes) | form.names)
    return Meaning(labels, classes, ids_of(labels, classes) | ids, "the same as before", form=form)


def write_record(
    dst: Path, meaning: Meaning, pixels: Counter, images: Path, masks: Path, items: list[Item]
) -> None:
    """Keep in `OWN_RECORD` what masks were taken for and that `dst` has images of `images`.

    Writes also `classes.yaml`, unless it is there or the classes are Cityscapes'. The record of an
    earlier call changes in its directories of images alone. Raises ValueError if the items would
    replace images of another directory.

    pixels: value -> number of pixels, which a proposal shows for each class.
    """
    path, here = dst / OWN_RECORD, str(images.resolve())
    if path.is_file():
        record = json.loads(path.read_text(encoding="utf-8"))
    else:
        record = {"labels": meaning.labels, "ids": meaning.ids, "form": meaning.form._asdict()}
        _write_classes(dst / "classes.yaml", meaning, pixels, masks)
    known = record.setdefault("sources", [])
    others = [source for source in known if source != here]
    taken = [item for item in items if item.image.exists() and not item.is_done()]
    if here in known:  # of which changed images are replaced
        taken = [item for item in taken if is_made_of(item.image, _twins(item.pair, others))]
    if others and taken:
        raise ValueError(
            f"{len(taken):,} images would replace those of {' and '.join(others)}, such as "
            f"{taken[0].image}: choose a new directory; or, if these are the same images, moved, "
            f"change `sources` in {path}"
        )
    if here not in known:
        known.append(here)
        atomic_write(path, json.dumps(record).encode())


def _twins(pair: Pair, sources: list[str]) -> list[Path]:
    """The images that may have a pair's name in other directories of images."""
    found = (Path(each, *pair.folders).glob(f"{glob.escape(pair.stem)}*") for each in sources)
    return [path for paths in found for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]


def _write_classes(path: Path, meaning: Meaning, pixels: Counter, source: Path) -> None:
    if meaning.classes == CITYSCAPES or path.exists():
        return
    comments, text = {}, ""
    if meaning.is_proposal:
        text = PROPOSAL.format(source=source)
        parts = {value: number / pixels.total() for value, number in pixels.items()}
        comments = {meaning.ids[v]: f"{part:.2%} of the pixels" for v, part in parts.items()}
    text += class_lists.as_yaml(meaning.classes, comments)
    atomic_write(path, text.encode(errors="backslashreplace"))

"""What masks are taken for: by the user's word, by the data set's own, or by what they show."""

from collections import Counter
from pathlib import Path

from data_io.layout import OWN_RECORD
from dataset import read_classes
from prepare.class_lists import color_of, find_class_list, read_class_list, values_of_names
from prepare.conversion import Item
from prepare.masks import Form, are_colored, count, pack, palette_of, read_values, sample, show
from prepare.meaning import LABELS, Meaning, interpret
from prepare.pairs import Pair, listing
from prepare.polygons import BACKGROUND, shape_names
from prepare.preview import PREVIEW, write_preview
from prepare.smoothing import refuse_smoothed, strong_values
from runtime.console import in_threads
from utils import Classes


def find_classes(
    given: Path | None, dst: Path, pairs: list[Pair], sources: list[Path], kind: str | None
) -> tuple[Classes | None, list[str]]:
    """The classes of --classes, of `dst`, of a list in the data set or of labelme's shapes.

    kind: what the masks are, one of `meaning.LABELS`, by the user or by their names. Returns also
    notes on whose they are. Raises ValueError for a list that differs from the classes of `dst`.
    """
    masks = [pair.mask for pair in pairs]
    classes = None if given is None else read_class_list(given)
    if any((dst / name).is_file() for name in (OWN_RECORD, "classes.yaml")):
        if classes not in (None, read_classes(dst)):
            raise ValueError(
                f"{given} differs from the classes of {dst}: leave --classes out, and edit "
                f"{dst / 'classes.yaml'}, or choose a new directory"
            )
        return read_classes(dst), []
    are_shapes = masks[0].suffix.lower() == ".json"
    if classes is not None or (kind in ("cityscapes", "train-ids") and not are_shapes):
        return classes, []
    folders = {*sources, *(path.parent for path in masks)}
    if path := find_class_list(folders | {folder.parent for folder in folders}):
        return read_class_list(path), [f"classes: those of {path}"]
    if are_shapes:
        labels = sorted(set().union(*in_threads(shape_names, masks, "reading shapes")))
        names, ids = (BACKGROUND, *labels), tuple(range(1 + len(labels)))
        return Classes(names, ids, tuple(map(color_of, ids))), ["classes: the labels of shapes"]
    return None, []


def choose_form(
    pairs: list[Pair], kind: str | None, classes: Classes | None, nearest: bool
) -> Form:
    """How the masks are to be read. kind: as in `find_classes`; nearest: with --nearest-color."""
    some = sample([pair.mask for pair in pairs])
    if some[0].suffix.lower() == ".json":
        return Form(names=values_of_names(classes))
    if nearest:
        form = Form(colors=True, lossy=True)
        pixels = (count(read_values(path, form)) for path in some)
        strong = [] if classes else strong_values(sum(pixels, Counter()), True)
        listed = [pack(color) for color in ((0, 0, 0), *classes.colors)] if classes else []
        return form._replace(targets=(*strong, *listed))
    if kind == "colors" or (kind is None and are_colored(some)):
        return Form(colors=True)
    return Form(palette=palette_of(some[0]))


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
        f"{item.pair.mask}: {show(values, colored)}"
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

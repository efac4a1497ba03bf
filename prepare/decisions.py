"""What masks are taken for: by the user's word, by the data set's own, or by what they show."""

from collections import Counter
from pathlib import Path

from data_io.layout import OWN_RECORD
from dataset import read_classes
from prepare import masks
from prepare.class_lists import color_of, find_class_list, read_class_list, values_of_names
from prepare.conversion import Item
from prepare.masks import Form
from prepare.meaning import BLACK, LABELS, Meaning, interpret
from prepare.pairs import Pair, listing
from prepare.polygons import BACKGROUND, shape_names
from prepare.preview import PREVIEW, write_preview
from prepare.smoothing import refuse_smoothed, strong_values
from runtime.console import in_threads
from utils import Classes


def find_classes(
    given: Path | None, dst: Path, pairs: list[Pair], sources: list[Path], kind: str | None
) -> tuple[Classes | None, str]:
    """The classes of --classes, of `dst`, or of a list that lies in the data set; and whose.

    kind: what the masks are, one of `meaning.LABELS`, by the user or by their names. Raises
    ValueError for a list that differs from the classes of `dst`.
    """
    classes = None if given is None else read_class_list(given)
    if any((dst / name).is_file() for name in (OWN_RECORD, "classes.yaml")):
        if classes not in (None, read_classes(dst)):
            raise ValueError(
                f"{given} differs from the classes of {dst}: leave --classes out, and edit "
                f"{dst / 'classes.yaml'}, or choose a new directory"
            )
        return read_classes(dst), f"those of {dst}"
    if classes is not None:
        return classes, f"those of {given}"
    if kind in ("cityscapes", "train-ids"):
        return None, ""
    folders = {*sources, *(pair.mask.parent for pair in pairs)}
    if path := find_class_list(folders | {folder.parent for folder in folders}):
        return read_class_list(path), f"those of {path}"
    if pairs[0].mask.suffix.lower() == ".json":
        found = in_threads(shape_names, [pair.mask for pair in pairs], "reading shapes")
        names = [BACKGROUND, *sorted(set().union(*found))]
        ids = range(len(names))
        classes = Classes(tuple(names), tuple(ids), tuple(map(color_of, ids)))
        return classes, "the labels of labelme's shapes"
    return None, ""


def choose_form(
    pairs: list[Pair], kind: str | None, classes: Classes | None, nearest: bool
) -> Form:
    """How the masks are to be read.

    kind: what they are, one of `meaning.LABELS`, by the user or by their names.
    """
    some = masks.sample([pair.mask for pair in pairs])
    if some[0].suffix.lower() == ".json":
        return Form(names=values_of_names(classes))
    if nearest:
        form = Form(colors=True, lossy=True)
        if classes is not None:
            return form._replace(targets=(BLACK, *map(masks.pack, classes.colors)))
        pixels = sum((masks.count(masks.read_values(path, form)) for path in some), Counter())
        return form._replace(targets=tuple(strong_values(pixels, True)))
    return Form(colors=kind == "colors" or (kind is None and masks.are_colored(some)))


def find_meaning(
    pairs: list[Pair],
    pixels: Counter,
    labels: str | None,
    classes: Classes | None,
    form: Form,
    palette: list,
    dst: Path,
) -> Meaning:
    """What the masks stand for, by `interpret`; a picture of it, or of what it may be, in `dst`.

    Raises ValueError with the question where it is open.
    """
    some = masks.sample(pairs)
    samples = [masks.read_values(pair.mask, form) for pair in some]
    found, question = interpret(pixels, labels, pairs[0].hint, classes, form, samples, palette)
    write_preview(dst / PREVIEW, masks.sample(some, 3), found, form)
    if question:
        raise ValueError(f"{question}\n{dst / PREVIEW} shows what that would be")
    return found[0]._replace(form=form)


def refuse_unknown(
    items: list[Item], results: list[Counter], meaning: Meaning, listed_in: Path | str
) -> None:
    """Raise ValueError, with the files, for values that have no meaning.

    listed_in: the file that lists the classes.
    """
    colored, known = meaning.labels == "colors", meaning.ids.keys()
    files = [
        f"{item.pair.mask}: {masks.show(values, colored)}"
        for item, result in zip(items, results, strict=True)
        if (values := result.keys() - known)
    ]
    if files:
        refuse_smoothed(sum(results, Counter()), colored)
        fault = (
            f"masks hold values that are no {LABELS[meaning.labels]}, and nothing was written: "
            f"choose --labels otherwise, or list all classes in {listed_in}"
        )
        raise ValueError(listing(fault, files))

"""What masks are taken for: by the user's word, by the data set's own, or by what they show."""

from collections import Counter
from pathlib import Path

from data_io.layout import OWN_RECORD
from dataset import read_classes
from prepare import masks
from prepare.class_lists import find_class_list, read_class_list, values_of_names
from prepare.conversion import in_threads
from prepare.masks import Form
from prepare.meaning import (
    BLACK,
    Meaning,
    OpenMeaningError,
    are_smoothed,
    interpret,
    of_shapes,
    strong_values,
)
from prepare.pairs import Pair
from prepare.polygons import BACKGROUND, IGNORED, shape_names
from prepare.preview import draw_preview
from runtime.files import atomic_write
from utils import CITYSCAPES, Classes

PREVIEW = "own-preview.jpg"


def find_classes(
    given: Path | None,
    dst: Path,
    pairs: list[Pair],
    sources: tuple[Path, Path],
    kind: str | None,
) -> tuple[Classes | None, list[str]]:
    """The classes of --classes, of `dst`, or of a list that lies in the data set; and a note.

    kind: what the user says that the masks are; a data set's own list is one of ids or colours.
    Raises ValueError for a list that differs from the classes of `dst`, and for one that cannot be
    followed.
    """
    if given is not None and kind == "cityscapes":
        raise ValueError("--labels cityscapes has Cityscapes' classes: leave --classes out")
    classes = None if given is None else read_class_list(given)
    if any((dst / name).is_file() for name in (OWN_RECORD, "classes.yaml")):
        if classes not in (None, read_classes(dst)):
            raise ValueError(
                f"{given} differs from the classes of {dst}: leave --classes out, and edit "
                f"{dst / 'classes.yaml'}, or choose a new directory"
            )
        return read_classes(dst), []
    if classes is not None:
        return classes, []
    if (kind or pairs[0].hint) in ("cityscapes", "train-ids"):
        return None, []
    folders = {*sources, *(pair.mask.parent for pair in pairs)}
    path = find_class_list(folders | {folder.parent for folder in folders})
    return (None, []) if path is None else (read_class_list(path), [f"classes: those of {path}"])


def choose_form(
    pairs: list[Pair], kind: str | None, classes: Classes | None, nearest: bool
) -> Form:
    """How the masks are to be read.

    kind: what the user says that they are, one of `meaning.LABELS`.
    """
    paths = [pair.mask for pair in pairs]
    some = masks.sample(paths)
    if paths[0].suffix.lower() == ".json":
        if classes is not None:
            return Form(names=values_of_names(classes))
        shapes = sorted(set().union(*in_threads(shape_names, paths, "reading shapes")))
        return Form(names={BACKGROUND: 0, IGNORED: 255} | {n: i for i, n in enumerate(shapes, 1)})
    if nearest and classes is not None:
        return Form(True, (BLACK, *map(masks.pack, classes.colors)))
    if nearest:
        found = [masks.count(masks.read_values(path, Form(True, None))) for path in some]
        return Form(True, tuple(strong_values(sum(found, Counter()), True)))
    by_name = pairs[0].hint == "colors"
    return Form(kind == "colors" or by_name or (kind is None and masks.are_colored(some)))


def find_meaning(
    pairs: list[Pair],
    pixels: Counter,
    kind: str | None,
    classes: Classes | None,
    form: Form,
    palette: list,
    dst: Path,
) -> Meaning:
    """`meaning.interpret`; and a picture of what the masks are, or may be, taken for: `PREVIEW`."""
    some = masks.sample(pairs)
    samples = [masks.read_values(pair.mask, form) for pair in some]
    try:
        if form.names and classes is None:
            meaning = of_shapes(form)
        else:
            meaning = interpret(pixels, kind, classes, form, samples, pairs[0].hint, palette)
    except OpenMeaningError as error:
        _write_preview(dst, some, error.candidates, form)
        raise ValueError(f"{error}\n{dst / PREVIEW} shows what that would be") from error
    _write_preview(dst, some, [meaning], form)
    return meaning


def _write_preview(dst: Path, some: list[Pair], meanings: list[Meaning], form: Form) -> None:
    dst.mkdir(parents=True, exist_ok=True)
    atomic_write(dst / PREVIEW, draw_preview(masks.sample(some, 3), meanings, form))


def unknown_values(meaning: Meaning, dst: Path, again: bool, results: list[Counter]) -> str:
    """What is wrong with values that have no meaning, in an earlier call's `dst` if `again`."""
    unknown = {value for result in results for value in result} - meaning.ids.keys()
    if meaning.labels == "train-ids":
        fault = "are neither train ids nor 255 (are they ids? --labels ids)"
    elif meaning.labels == "colors" and are_smoothed(unknown, [*meaning.ids], True):
        fault = (
            f"are no colours of classes, but {len(unknown):,} blends of these, as smoothed edges "
            "leave them (--nearest-color takes each pixel for the nearest)"
        )
    elif meaning.classes == CITYSCAPES:
        what = "colours" if meaning.labels == "colors" else "ids"
        anew = " and a new directory" if again else ""
        fault = f"are not {what} of Cityscapes (list your own classes, with --classes{anew})"
    else:  # ids of own classes all have a meaning
        where = dst / "classes.yaml" if again else "the file of --classes"
        fault = f"are not the colour of a class (add them to {where})"
    return f"masks hold values that {fault}, and nothing was written"

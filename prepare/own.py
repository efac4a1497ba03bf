"""Convert a directory of images and one of masks to Cityscapes' format, to train on them.

    python -m prepare.own IMAGES MASKS DST
    python -m prepare.own bdd100k/images/10k bdd100k/labels/sem_seg/masks data/bdd100k
    python -m prepare.own photos masks data/mine --classes classes.yaml --val val.txt

IMAGES has images of any format and size, also in subdirectories; MASKS has one for each, of the
same name or with an ending such as _mask. A mask's pixel is an id (grey, or the index of a
palette), a train id of Cityscapes, or a colour. Without --labels and --classes it looks at the
masks, says what it assumes, and writes a classes.yaml for you to edit where the classes are not
Cityscapes'. The sources are not changed. The same command again goes on where it stopped, and
converts what was added or changed. See docs/own-data.md.
"""

import argparse
import io
import json
import os
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from shlex import quote

import numpy as np
from PIL import ExifTags, Image
from tqdm import tqdm

from data_io.image_io import image_size, open_image, read_image
from data_io.layout import IMAGE, OWN_RECORD, list_split
from dataset import read_classes
from prepare import class_lists, masks, pairs
from prepare.inspection import size_text
from prepare.masks import LABELS, TRANSPARENT, Form, Meaning, OpenMeaningError
from prepare.pairs import Item, Pair, plan
from prepare.polygons import BACKGROUND, IGNORED, shape_names
from prepare.preview import draw_preview
from prepare.splits import assign_splits
from runtime.console import escape_output
from runtime.files import atomic_write
from utils import CITYSCAPES, Classes

PREVIEW = "own-preview.jpg"  # what the masks are taken for
TELLING = ("train-ids", "colors")  # labels that the names of masks tell apart
PROPOSAL = """\
# Proposed by `python -m prepare.own` from the masks in
# {source}.
# Give the classes their names, and remove the lines of what is not to be scored. The images need
# not be converted again.
"""


def inspect(item: Item, form: Form, palette: list) -> Counter | str:
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


def convert(item: Item, meaning: Meaning, form: Form) -> str | None:
    """Write the two files of an item, unless they are there; returns what went wrong, if it did."""
    try:
        if not item.is_done():
            _write(item, meaning, form)
    except (OSError, ValueError) as error:
        return str(error)


def _write(item: Item, meaning: Meaning, form: Form) -> None:
    changed = {p: p.stat().st_mtime_ns for p in (item.pair.image, item.pair.mask)}  # before reading
    labels = _png(masks.translate(masks.read_values(item.pair.mask, form), meaning.ids))
    rgb = read_image(item.pair.image)
    with open_image(item.pair.image) as image:
        upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        as_it_is = image.format == "PNG" and image.mode in ("L", "RGB") and upright
    pixels = item.pair.image.read_bytes() if as_it_is else _png(rgb.permute(1, 2, 0).numpy())
    written = (item.labels, labels, item.pair.mask), (item.image, pixels, item.pair.image)
    for path, content, source in written:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, content)
        os.utime(path, ns=(changed[source], changed[source]))  # for `is_done`


def _png(pixels: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "png", compress_level=3)
    return data.getvalue()


def in_threads(function: Callable, items: list, what: str) -> list:
    """A function's results for all items, with a progress bar."""
    with ThreadPoolExecutor() as threads:
        results = threads.map(function, items)
        return list(tqdm(results, what, len(items), unit="image", disable=None))


def read_record(dst: Path) -> tuple[Meaning, Form] | None:
    """What an earlier call took the masks in `dst` for; None if it is new.

    Raises ValueError if `dst` holds a data set of another origin, or a record that is damaged.
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
        if labels in ("ids", "palette") and classes == CITYSCAPES:  # of earlier versions
            labels = "cityscapes"
        labels = "ids" if labels == "palette" else labels
        names = {str(name): int(value) for name, value in record.get("names", {}).items()}
        targets = tuple(map(int, record.get("targets", ())))
        if labels not in LABELS or not {*ids.values(), *names.values()} <= {*range(256)}:
            raise ValueError("its labels or ids are invalid")
    except Exception as error:  # parsers raise nearly anything
        raise ValueError(
            f"{dst / OWN_RECORD} is damaged ({error!r}): restore it, or choose a new directory"
        ) from error
    void = 0 if classes == CITYSCAPES else class_lists.void_of(classes)
    if labels == "colors" and classes != CITYSCAPES:  # those that were added to classes.yaml
        ids = dict(zip(map(masks.pack, classes.colors), classes.ids, strict=True)) | ids
    meaning = Meaning(labels, classes, {TRANSPARENT: void} | ids, "the same as before")
    return meaning, Form(labels == "colors", targets, names)


def unknown_values(meaning: Meaning, dst: Path, again: bool, pixels: Counter) -> str:
    """What is wrong with values that have no meaning, in an earlier call's `dst` if `again`."""
    unknown = pixels.keys() - meaning.ids.keys()
    if meaning.labels == "train-ids":
        fault = "are neither train ids nor 255 (are they ids? --labels ids)"
    elif meaning.labels == "colors" and masks.are_smoothed(unknown, [*meaning.ids], True):
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


def write_record(
    dst: Path, meaning: Meaning, form: Form, results: list[Counter], source: Path
) -> None:
    """Write `OWN_RECORD` and, unless the classes are Cityscapes', `classes.yaml`."""
    dst.mkdir(parents=True, exist_ok=True)
    if meaning.classes != CITYSCAPES and not (dst / "classes.yaml").exists():
        comments = describe(results, meaning) if meaning.proposed else {}
        text = class_lists.as_yaml(meaning.classes, comments)
        if meaning.proposed:
            text = PROPOSAL.format(source=source) + text
        atomic_write(dst / "classes.yaml", text.encode())
    record = {"labels": meaning.labels, "ids": meaning.ids, **form._asdict()}
    atomic_write(dst / OWN_RECORD, json.dumps(record).encode())


def describe(results: list[Counter], meaning: Meaning) -> dict[int, str]:
    """id -> its share of the pixels and in how many masks it is."""
    total = sum(result.total() for result in results)
    texts = {}
    for value, i in meaning.ids.items():
        pixels = sum(result[value] for result in results)
        files = sum(result[value] > 0 for result in results)
        if pixels:
            texts[i] = f"{pixels / total:.2%} of the pixels, in {files} of {len(results)} masks"
    return texts


def prepare(
    images: Path,
    labels_dir: Path,
    dst: Path,
    val: str | None = None,
    labels: str | None = None,
    classes: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
    pattern: str | None = None,
    nearest: bool = False,
) -> dict[str, int]:
    """Convert all images and masks; returns the number of images in each split.

    Args:
        images, labels_dir, dst: directories of images, of masks, and to write to.
        val: see `splits.assign_splits`.
        labels: one of `masks.LABELS`; None: as the masks look.
        classes: a file that `class_lists.read_class_list` reads; None: the data set's own list,
            Cityscapes' classes or new ones.
        say: called with each line for the user.
        pattern: how the names of images and masks fit together, see `pairs.parse_pattern`.
        nearest: take each pixel for the nearest colour of a class.

    Raises OSError or ValueError, with the files' names, before anything but `PREVIEW` is written:
    for a file that cannot be read, for images and masks that do not fit together, for values that
    have no meaning or several, and for a `dst` with other data.
    """
    for source in (images, labels_dir):
        if dst.resolve().is_relative_to(source.resolve()):
            raise ValueError(f"{dst} lies in {source}, which is only read: write elsewhere")
    before = read_record(dst)
    if before and labels and labels != before[0].labels:
        raise ValueError(f"{dst} was made with --labels {before[0].labels}: choose a new directory")
    kind = "colors" if nearest else labels or (before and before[0].labels)
    found, notes = pairs.find_pairs(images, labels_dir, kind if kind in TELLING else None, pattern)
    given, of_whom = find_classes(classes, dst, found, images, before is not None)
    splits, how = assign_splits(found, val)
    items = plan(found, splits, dst)
    form = before[1] if before else choose_form(found, kind, given, nearest)
    palette = [] if form.colors else masks.palette_of(found[0].mask)
    look = partial(inspect, form=form, palette=[] if labels else palette)
    results = in_threads(look, items, "checking")
    _refuse("problems, and nothing was written", [r for r in results if isinstance(r, str)])
    if before:
        meaning = before[0]
    else:
        meaning = find_meaning(found, results, kind, given, form, palette, dst)
    pixels = sum(results, Counter())
    unknown = [result.keys() - meaning.ids.keys() for result in results]
    _refuse(
        unknown_values(meaning, dst, before is not None, pixels) if any(unknown) else "",
        [
            f"{item.pair.mask}: {masks.show(values, form.colors)}"
            for item, values in zip(items, unknown, strict=True)
            if values
        ],
    )
    for line in [*notes, *of_whom, f"masks: {meaning.reason}", f"splits: {how}"]:
        say(line)
    if before is None:
        say(f"see {dst / PREVIEW}: what the labels are taken for")
        write_record(dst, meaning, form, results, labels_dir)
    write = partial(convert, meaning=meaning, form=form)
    _refuse(
        "images could not be converted", list(filter(None, in_threads(write, items, "converting")))
    )
    summarise(dst, items, results, meaning, say)
    return dict(Counter(splits))


def find_classes(
    given: Path | None, dst: Path, found: list[Pair], images: Path, again: bool
) -> tuple[Classes | None, list[str]]:
    """The classes of --classes, of `dst`, or of a list that lies in the data set; and a note.

    Raises ValueError for a list that differs from the classes of `dst`.
    """
    classes = None if given is None else class_lists.read_class_list(given)
    if again or (dst / "classes.yaml").is_file():
        if classes not in (None, read_classes(dst)):
            raise ValueError(
                f"{given} differs from the classes of {dst}: leave --classes out, and edit "
                f"{dst / 'classes.yaml'}, or choose a new directory"
            )
        return read_classes(dst), []
    if classes is not None:
        return classes, []
    folders = {images, images.parent, *(pair.mask.parent for pair in found)}
    path = class_lists.find_class_list(folders | {pair.mask.parent.parent for pair in found})
    return (
        (class_lists.read_class_list(path), [f"classes: those of {path}"]) if path else (None, [])
    )


def choose_form(
    found: list[Pair], kind: str | None, classes: Classes | None, nearest: bool
) -> Form:
    """How the masks are to be read, where no earlier call says so."""
    paths = [pair.mask for pair in found]
    if paths[0].suffix.lower() == ".json":
        if classes is None:
            shapes = sorted(set().union(*in_threads(shape_names, paths, "reading shapes")))
            return Form(
                names={BACKGROUND: 0, IGNORED: 255} | {n: i for i, n in enumerate(shapes, 1)}
            )
        return Form(names=class_lists.values_of_names(classes))
    colored = kind == "colors" or found[0].hint == "colors"
    if kind is None and not colored:
        colored = masks.are_colored(masks.sample(paths))
    form = Form(colored)
    if nearest and classes is not None:
        return form._replace(targets=(masks.BLACK, *map(masks.pack, classes.colors)))
    if nearest:
        lossy = form._replace(targets=None)
        seen = sum(
            (masks.count(masks.read_values(p, lossy)) for p in masks.sample(paths)), Counter()
        )
        return form._replace(targets=tuple(masks.strong_values(seen, True)))
    return form


def find_meaning(
    found: list[Pair],
    results: list[Counter],
    kind: str | None,
    classes: Classes | None,
    form: Form,
    palette: list,
    dst: Path,
) -> Meaning:
    """`masks.interpret`; draws what the masks are taken for, or may be taken for, to `PREVIEW`."""
    some = masks.sample(found)
    samples = [masks.read_values(pair.mask, form) for pair in some]
    pixels = sum(results, Counter())
    try:
        if form.names and classes is None:
            meaning = masks.of_shapes(form.names)
        else:
            meaning = masks.interpret(pixels, kind, classes, form, samples, found[0].hint, palette)
    except OpenMeaningError as error:
        write_preview(dst, some, error.candidates, form)
        raise ValueError(f"{error}\n{dst / PREVIEW} shows what that would be") from error
    write_preview(dst, some, [meaning], form)
    return meaning


def write_preview(dst: Path, some: list[Pair], meanings: list[Meaning], form: Form) -> None:
    dst.mkdir(parents=True, exist_ok=True)
    atomic_write(dst / PREVIEW, draw_preview(masks.sample(some, 3), meanings, form))


def _refuse(fault: str, files: Iterable[str]) -> None:
    if files:
        raise ValueError(pairs.listing(fault, files))


def summarise(
    dst: Path,
    items: list[Item],
    results: list[Counter],
    meaning: Meaning,
    say: Callable[[str], None],
) -> None:
    """Say how much of each class is in each split, and what comes next."""
    pixels = defaultdict(Counter)  # split -> id -> number
    for item, result in zip(items, results, strict=True):
        for value, number in result.items():
            pixels[item.split][meaning.ids[value]] += number
    splits = [split for split in ("train", "val", "test") if split in pixels]
    counts = Counter(item.split for item in items)
    say(f"{dst}: " + ", ".join(f"{counts[split]:,} {split}" for split in splits))
    say(f"{'share of the pixels':24}" + "".join(f"{split:>9}" for split in splits))
    ids = dict(zip(meaning.classes.names, meaning.classes.ids, strict=True))
    rest = {i for counter in pixels.values() for i in counter} - {*ids.values()}
    rows = [(name, {i}) for name, i in ids.items()] + [("(not scored)", rest)] * bool(rest)
    for name, members in rows:
        numbers = [sum(pixels[s][i] for i in members) / pixels[s].total() for s in splits]
        say(f"{name:24}" + "".join(f"{number:9.2%}" for number in numbers))
    found = {value for result in results for value in result}
    if void := [value for value in found if meaning.ids[value] in rest]:
        say(f"not scored: {masks.show(void, meaning.labels == 'colors')}")
    planned = {item.image for item in items}
    for split in splits:
        folder = dst / "leftImg8bit" / split
        there = {folder / f"{stem}{IMAGE}" for stem in list_split(folder, IMAGE).stems}
        if old := sorted(there - planned):
            say(f"note: {len(old)} images in {folder} are no longer in the sources: {old[0]}")
    if meaning.proposed:
        say(f"the classes are a proposal: give them their names in {dst / 'classes.yaml'}")
    sizes = [image_size(item.image) or (0, 0) for item in masks.sample(items)]
    downscale = max(1, int(statistics.median(map(max, sizes))) // 800)
    root, run = quote(str(dst)), quote(f"runs/{dst.name}")
    smaller = f" --downscale {downscale}" if downscale > 1 else ""
    say("next:")
    say(f"  python -m prepare.cityscapes {root} --counts any")
    say(f"  python train.py --recipe recipes/camvid.yaml --data_root {root} --run {run}{smaller}")


def main() -> None:
    escape_output()
    parser = argparse.ArgumentParser(
        prog="python -m prepare.own",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("images", type=Path, metavar="IMAGES", help="directory of the images")
    parser.add_argument("masks", type=Path, metavar="MASKS", help="directory of the masks")
    parser.add_argument("dst", type=Path, metavar="DST", help="where to write, such as data/mine")
    parser.add_argument("--val", help="share to validate on (0.2 if not given), or a file of names")
    parser.add_argument(
        "--pairs", metavar="X_rgb.png=X_gt.png", help="names of images and masks, X in common"
    )
    parser.add_argument("--labels", choices=LABELS, help="what the masks' values are")
    parser.add_argument(
        "--nearest-color", action="store_true", help="of smoothed masks in colours, or JPEG"
    )
    parser.add_argument(
        "--classes", type=Path, metavar="FILE", help="classes.yaml, or a list of another tool"
    )
    args = parser.parse_args()
    choices = args.val, args.labels, args.classes
    try:
        prepare(args.images, args.masks, args.dst, *choices, print, args.pairs, args.nearest_color)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; run the same command to go on")


if __name__ == "__main__":
    main()

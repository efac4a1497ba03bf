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
from prepare import masks, pairs
from prepare.inspection import size_text
from prepare.masks import LABELS, Meaning
from prepare.pairs import Item, plan
from runtime.console import escape_output
from runtime.files import atomic_write
from utils import CITYSCAPES

TELLING = ("train-ids", "colors")  # labels that the names of masks tell apart
PROPOSAL = """\
# Proposed by `python -m prepare.own` from the masks in
# {source}.
# Give the classes their names, and remove the lines of what is not to be scored. The images need
# not be converted again.
"""


def inspect(item: Item, colors: bool, palette: list) -> Counter | str:
    """The pixels of each value in a mask; or what is wrong with it, or with the image.

    palette: RGB of each index, which the colours of a mask with a palette must not contradict.
    """
    try:
        values = masks.read_values(item.pair.mask, colors)
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


def convert(item: Item, meaning: Meaning) -> None:
    """Write the two files of an item, unless they are there. Raises OSError or ValueError."""
    if item.is_done():
        return
    changed = {p: p.stat().st_mtime_ns for p in (item.pair.image, item.pair.mask)}  # before reading
    values = masks.read_values(item.pair.mask, meaning.labels == "colors")
    known = np.array(sorted(meaning.ids), dtype=np.int32)
    ids = np.array([meaning.ids[value] for value in known.tolist()], dtype=np.uint8)
    labels = _png(ids[np.searchsorted(known, values)])
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


def in_threads(function: Callable, items: list[Item], what: str) -> list:
    """A function's results for all items, with a progress bar."""
    with ThreadPoolExecutor() as threads:
        results = threads.map(function, items)
        return list(tqdm(results, what, len(items), unit="image", disable=None))


def read_record(dst: Path) -> Meaning | None:
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
        record = json.loads((dst / OWN_RECORD).read_text())
        labels, ids = record["labels"], {int(value): i for value, i in record["ids"].items()}
        labels = "ids" if labels == "palette" else labels  # of earlier versions
        if labels not in LABELS or not {*ids.values()} <= {*range(256)}:
            raise ValueError("its labels or ids are invalid")
    except Exception as error:  # parsers raise nearly anything
        raise ValueError(
            f"{dst / OWN_RECORD} is damaged ({error!r}): restore it, or choose a new directory"
        ) from error
    if labels == "colors" and classes != CITYSCAPES:  # those that were added to classes.yaml
        ids = dict(zip(map(masks.pack, classes.colors), classes.ids, strict=True)) | ids
    return Meaning(labels, classes, ids, "the same as before")


def unknown_values(meaning: Meaning, dst: Path, again: bool) -> str:
    """What is wrong with values that have no meaning, in an earlier call's `dst` if `again`."""
    if meaning.labels == "train-ids":
        fault = "are neither train ids nor 255 (are they ids? --labels ids)"
    elif meaning.classes == CITYSCAPES:
        what = "colours" if meaning.labels == "colors" else "ids"
        anew = " and a new directory" if again else ""
        fault = f"are not {what} of Cityscapes (list your own classes, with --classes{anew})"
    else:  # ids of own classes all have a meaning
        where = dst / "classes.yaml" if again else "the file of --classes"
        fault = f"are not the colour of a class (add them to {where})"
    return f"masks hold values that {fault}, and nothing was written"


def write_record(dst: Path, meaning: Meaning, results: list[Counter], source: Path) -> None:
    """Write `OWN_RECORD` and, unless the classes are Cityscapes', `classes.yaml`."""
    dst.mkdir(parents=True, exist_ok=True)
    if meaning.classes != CITYSCAPES and not (dst / "classes.yaml").exists():
        comments = describe(results, meaning) if meaning.proposed else {}
        text = masks.as_yaml(meaning.classes, comments)
        if meaning.proposed:
            text = PROPOSAL.format(source=source) + text
        atomic_write(dst / "classes.yaml", text.encode())
    record = {"labels": meaning.labels, "ids": meaning.ids}
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
) -> dict[str, int]:
    """Convert all images and masks; returns the number of images in each split.

    Args:
        images, labels_dir, dst: directories of images, of masks, and to write to.
        val: see `pairs.assign_splits`.
        labels: one of `masks.LABELS`; None: as the masks look.
        classes: a file that `masks.read_class_list` reads; None: Cityscapes' or new ones.
        say: called with each line for the user.

    Raises OSError or ValueError, with the files' names, before anything is written: for a file that
    cannot be read, for images and masks that do not fit together, for values that have no meaning,
    and for a `dst` with other data.
    """
    for source in (images, labels_dir):
        if dst.resolve().is_relative_to(source.resolve()):
            raise ValueError(f"{dst} lies in {source}, which is only read: write elsewhere")
    before = read_record(dst)
    given = None if classes is None else masks.read_class_list(classes)
    if before is not None or (dst / "classes.yaml").is_file():
        if given not in (None, read_classes(dst)):
            raise ValueError(
                f"{classes} differs from the classes of {dst}: leave --classes out, and edit "
                f"{dst / 'classes.yaml'}, or choose a new directory"
            )
        given = read_classes(dst)
    if before and labels and labels != before.labels:
        raise ValueError(f"{dst} was made with --labels {before.labels}: choose a new directory")
    kind = labels or (before and before.labels)
    found, notes = pairs.find_pairs(images, labels_dir, kind if kind in TELLING else None)
    splits, how = pairs.assign_splits(found, val)
    items = plan(found, splits, dst)
    colored = kind == "colors"
    if kind is None:
        colored = masks.are_colored(masks.sample([pair.mask for pair in found]))
    palette = [] if colored else masks.palette_of(found[0].mask)
    look = partial(inspect, colors=colored, palette=[] if labels else palette)
    results = in_threads(look, items, "checking")
    _refuse("problems, and nothing was written", [r for r in results if isinstance(r, str)])
    meaning = before
    if before is None:
        pixels = sum(results, Counter())
        meaning = masks.interpret(pixels, labels, given, colored, found[0].hint, palette)
    unknown = [result.keys() - meaning.ids.keys() for result in results]
    _refuse(
        unknown_values(meaning, dst, before is not None),
        [
            f"{item.pair.mask}: {masks.show(values, colored)}"
            for item, values in zip(items, unknown, strict=True)
            if values
        ],
    )
    for line in [*notes, f"masks: {meaning.reason}", f"splits: {how}"]:
        say(line)
    if before is None:
        if labels is None and given is None:
            say("(if they mean something else, say so with --labels or --classes: see --help)")
        write_record(dst, meaning, results, labels_dir)
    failed = [f for f in in_threads(partial(attempt, meaning=meaning), items, "converting") if f]
    _refuse("images could not be converted", failed)
    summarise(dst, items, results, meaning, say)
    return dict(Counter(splits))


def attempt(item: Item, meaning: Meaning) -> str | None:
    """`convert`; returns the message of an error, so that the others are still converted."""
    try:
        convert(item, meaning)
    except (OSError, ValueError) as error:
        return str(error)


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
    parser.add_argument("--labels", choices=LABELS, help="what the masks' values are")
    parser.add_argument(
        "--classes", type=Path, metavar="FILE", help="classes.yaml, or CamVid's label_colors.txt"
    )
    args = parser.parse_args()
    try:
        prepare(args.images, args.masks, args.dst, args.val, args.labels, args.classes, say=print)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; run the same command to go on")


if __name__ == "__main__":
    main()

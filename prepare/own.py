"""Convert a directory of images and one of masks to Cityscapes' format, to train on them.

    python -m prepare.own IMAGES MASKS DST
    python -m prepare.own images/10k labels/sem_seg/masks data/bdd100k --labels train-ids
    python -m prepare.own photos masks data/mine --classes classes.yaml --val val.txt
    python -m prepare.own rgb_anon gt data/acdc --pairs 'X_rgb_anon.png=X_gt_labelIds.png'

IMAGES has images of any format and size, also in subdirectories; MASKS has one for each, of the
same name, with an ending such as _mask, or as --pairs tells. A mask's pixel is an id (grey, or the
index of a palette), a train id of Cityscapes, or a colour. Without --labels and --classes, a list
of classes in the data set counts, or what the masks look like; where that may be several things,
they are not converted. DST/own-preview.jpg shows what they are taken for. A classes.yaml is written
for you to edit where the classes are not known. The sources are not changed. The same command again
goes on where it stopped, and converts what was added or changed. See docs/own-data.md.
"""

import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from shlex import quote

from data_io.image_io import image_size
from data_io.layout import IMAGE, list_split
from prepare import masks
from prepare.conversion import Item, check_all, convert_all, plan
from prepare.decisions import choose_form, find_classes, find_meaning, refuse_unknown
from prepare.meaning import LABELS, Meaning
from prepare.pairs import find_pairs
from prepare.preview import PREVIEW
from prepare.record import read_record, write_record
from prepare.splits import assign_splits
from runtime.console import command_line, escape_output
from utils import CITYSCAPES


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

    `pairs` finds the mask of each image, `splits` what is validated on, `conversion` plans the
    files and reads everything once. `decisions` has the data set's classes (`class_lists`), the
    form in which masks are read (`masks`, `polygons`) and what their values mean (`meaning`), and
    shows it (`preview`). `record` keeps that for the next call, then `conversion` writes.

    Args:
        images, labels_dir, dst: directories of images, of masks, and to write to.
        val: see `splits.assign_splits`.
        labels: one of `meaning.LABELS`; None: as the masks look.
        classes: a file that `class_lists.read_class_list` reads; None: the data set's own list,
            Cityscapes' classes or new ones.
        say: called with each line for the user.
        pattern: how the names of images and masks fit together, see `pairs.parse_pattern`.
        nearest: take each pixel for the nearest colour of a class.

    Raises OSError or ValueError, with the files' names, before anything but `PREVIEW` is written:
    for a file that cannot be read, for images and masks that do not fit together, for values that
    have no meaning or several, for choices that contradict each other, and for a `dst` with other
    data.
    """
    for source in (images, labels_dir):
        if dst.resolve().is_relative_to(source.resolve()):
            raise ValueError(f"{dst} lies in {source}, which is only read: write elsewhere")
    if labels == "cityscapes" and classes is not None:
        raise ValueError("--labels cityscapes has Cityscapes' classes: leave --classes out")
    if nearest and labels not in (None, "colors"):
        raise ValueError("--nearest-color is for colours: leave --labels out")
    before = read_record(dst)
    if before and (labels not in (None, before.labels) or nearest > before.form.lossy):
        raise ValueError(f"{dst} was made with --labels {before.labels}: choose a new directory")
    labels = "colors" if nearest else labels
    pairs, notes = find_pairs(images, labels_dir, labels or (before and before.labels), pattern)
    splits, how = assign_splits(pairs, val)
    items, kind = plan(pairs, splits, dst), labels or pairs[0].hint
    listed, whose = find_classes(classes, dst, pairs, [images, labels_dir], kind)
    form = before.form if before else choose_form(pairs, kind, listed, nearest)
    palette = [] if form.colors else masks.palette_of(pairs[0].mask)
    results = check_all(items, form, [] if labels else palette)
    pixels = sum(results, Counter())
    meaning = before or find_meaning(pairs, pixels, labels, listed, form, palette, dst)
    own_list = before is not None and before.classes != CITYSCAPES
    refuse_unknown(items, results, meaning, dst / "classes.yaml" if own_list else "--classes")
    lines = [f"classes: {whose}"] * bool(whose)
    for line in [*notes, *lines, f"masks: {meaning.reason}", f"splits: {how}"]:
        say(line)
    if before is None:
        say(f"see {dst / PREVIEW}: what the labels are taken for")
        write_record(dst, meaning, results, labels_dir)
    convert_all(items, meaning)
    summarise(dst, items, results, meaning, say)
    return dict(Counter(splits))


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
    rows = [(name, {i}) for name, i in ids.items()] + [("(ignored)", rest)] * bool(rest)
    for name, members in rows:
        numbers = [sum(pixels[s][i] for i in members) / pixels[s].total() for s in splits]
        say(f"{name:24}" + "".join(f"{number:9.2%}" for number in numbers))
    found = {value for result in results for value in result}
    if ignored := [value for value in found if meaning.ids[value] in rest]:
        say(f"ignored: {masks.show(ignored, meaning.labels == 'colors')}")
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
    parser = command_line(__doc__)
    parser.prog = "python -m prepare.own"
    parser.add_argument("images", type=Path, metavar="IMAGES", help="directory of the images")
    parser.add_argument("masks", type=Path, metavar="MASKS", help="directory of the masks")
    parser.add_argument("dst", type=Path, metavar="DST", help="where to write, such as data/mine")
    parser.add_argument(
        "--val",
        help="chance of each image to be validated on (0.2 if not given), or a list of them",
    )
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

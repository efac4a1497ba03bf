"""Convert a directory of images and one of masks to Cityscapes' format, to train on them.

    python -m prepare.own IMAGES MASKS DST
    python -m prepare.own images/10k labels/sem_seg/masks data/bdd100k --labels train-ids
    python -m prepare.own photos masks data/mine --classes classes.yaml --val val.txt
    python -m prepare.own rgb_anon gt data/acdc --pairs 'X_rgb_anon.png=X_gt_labelIds.png'

IMAGES has images of any format and size, also in subdirectories. MASKS has one for each, of the
same name, with an ending such as _mask, or as --pairs says. A pixel of a mask is an id (grey, or
the index of a palette), a train id of Cityscapes, or a colour. DST/own-preview.jpg shows what the
masks are taken for; where that is open, nothing is converted. The sources are not changed. The same
command continues where it stopped, and converts what was added or changed. See docs/own-data.md.
"""

import statistics
from collections import Counter
from pathlib import Path

from data_io.image_io import image_size
from data_io.layout import IMAGE, list_split
from prepare import decisions
from prepare.class_lists import void_of
from prepare.conversion import Item, Say, check_all, common_palette, convert_all, plan
from prepare.masks import pack, read_values, sample, show
from prepare.meaning import LABELS, Meaning, interpret
from prepare.pairs import find_pairs
from prepare.splits import OFFICIAL, assign_splits
from runtime.console import command_line, errors_shown
from runtime.files import quoted


def prepare(
    images: Path,
    masks: Path,
    dst: Path,
    val: str | None = None,
    labels: str | None = None,
    classes: Path | None = None,
    say: Say = lambda line: None,
    pattern: str | None = None,
    nearest: bool = False,
) -> dict[str, int]:
    """Convert all images and masks; returns the number of images in each split.

    Args:
        images, masks, dst: directories of images, of masks, and to write to.
        val: see `splits.assign_splits`.
        labels: one of `meaning.LABELS`; None: by the names, the list of classes or the looks.
        classes: a file that `class_lists.read_class_list` reads; None: the data set's own list,
            Cityscapes' classes or new ones.
        say: called with each line for the user.
        pattern: how the names of images and masks fit together, see `pairs.parse_pattern`.
        nearest: take each pixel for the nearest colour of a class.

    Raises OSError or ValueError, with the files' names, before anything but a preview is written:
    for files that cannot be read or do not fit together, for values that have no meaning or
    several, for choices that contradict each other, and for a `dst` with other data.
    """
    for source in (images, masks):
        if dst.resolve().is_relative_to(source.resolve()):
            raise ValueError(f"{dst} is in {source}, which is only read: write elsewhere")
    if labels == "cityscapes" and classes is not None:
        raise ValueError("--labels cityscapes has Cityscapes' classes: leave --classes out")
    if nearest and labels not in (None, "colors"):
        raise ValueError(f"--nearest-color reads colours: leave --labels {labels} out")
    labels, before = "colors" if nearest else labels, decisions.read_record(dst)
    if before and (labels not in (None, before.labels) or nearest > bool(before.form.targets)):
        raise ValueError(f"{dst} was made with --labels {before.labels}: choose a new directory")
    pairs, notes = find_pairs(images, masks, labels or (before and before.labels), pattern)
    is_added = all(pair.split == "test" for pair in pairs) and all(
        list_split(dst / "leftImg8bit" / split, IMAGE).stems for split in OFFICIAL
    )
    splits, how = assign_splits(pairs, val, is_added)
    items, gone = plan(pairs, splits, dst)
    kind, some = labels or pairs[0].hint, [pair.mask for pair in sample(pairs)]
    listed, voids, whose = decisions.find_classes(classes, dst, pairs, [images, masks], labels)
    form = before.form if before else decisions.choose_form(some, kind, listed, voids, nearest)
    items = check_all(items, form)
    form = form._replace(palette=common_palette(items, form.palette, labels is not None))
    pixels, notes = Counter(), [*notes, *gone, *whose]
    for item in items:
        pixels.update(item.pixels)
    if before is None:
        samples = [read_values(path, form) for path in some]
        found, question = interpret(pixels, labels, pairs[0].hint, listed, form, samples)
        for each in found if form.colors else ():
            ignored = set(voids or ()) - {*each.classes.colors}
            each.ids.update(dict.fromkeys(map(pack, ignored), void_of(each.classes)))
        preview = dst / decisions.PREVIEW
        decisions.write_preview(preview, sample(pairs, 3), found)
        notes.append(f"see {preview}: what the labels are taken for")
        if question:
            raise ValueError(f"{question}\n{preview} shows what that would be")
    meaning = before or found[0]
    decisions.refuse_unknown(items, meaning, dst)
    for line in [*notes, f"masks: {meaning.reason}", f"splits: {how}"]:
        say(line)
    decisions.write_record(dst, meaning, pixels, images, masks, items)
    convert_all(items, meaning, say)
    summarise(dst, items, meaning, say)
    return dict(Counter(splits))


def summarise(dst: Path, items: list[Item], meaning: Meaning, say: Say) -> None:
    """Say how many of the pixels are of each class in each split, and what comes next."""
    images, ignored = Counter(item.split for item in items), set()
    pixels = {split: Counter() for split in ("train", "val", "test") if images[split]}
    names = dict(zip(meaning.classes.ids, meaning.classes.names, strict=True))
    for item in items:
        for value, number in item.pixels.items():
            pixels[item.split][names.get(meaning.ids[value])] += number
        ignored |= {value for value in item.pixels if meaning.ids[value] not in names}
    say(f"{dst}: " + ", ".join(f"{images[split]:,} {split}" for split in pixels))
    say(f"{'pixels of each class':24}" + "".join(f"{split:>9}" for split in pixels))
    for name in [*names.values(), *[None] * bool(ignored)]:
        parts = [counts[name] / counts.total() for counts in pixels.values()]
        say(f"{name or '(ignored)':24}" + "".join(f"{part:9.2%}" for part in parts))
    if ignored:
        say(f"ignored: {show(ignored, meaning.form.colors)}")
    if meaning.is_proposal:
        say(f"the classes are a proposal: give them their names in {dst / 'classes.yaml'}")
    longest = statistics.median(max(image_size(item.image)) for item in sample(items))
    downscale = max(1, int(longest) // 800)
    root, run = quoted(dst), quoted(Path("runs", dst.name))
    smaller = f" --downscale {downscale}" if downscale > 1 else ""
    say("next:")
    say(f"  python -m prepare.cityscapes {root} --counts any")
    say(f"  python train.py --recipe recipes/camvid.yaml --data_root {root} --run {run}{smaller}")


def main() -> None:
    parser = command_line(__doc__)
    add = parser.add_argument
    add("images", type=Path, metavar="IMAGES", help="directory of the images")
    add("masks", type=Path, metavar="MASKS", help="directory of the masks")
    add("dst", type=Path, metavar="DST", help="where to write, such as data/mine")
    add("--val", help="probability that an image goes to val (0.2), or a file that lists them")
    example = "X_rgb.png=X_gt.png"
    add("--pairs", dest="pattern", metavar=example, help="names of both, X in common")
    add("--labels", choices=LABELS, help="what the masks' values are")
    near = "of smoothed masks in colours, or JPEG"
    add("--nearest-color", dest="nearest", action="store_true", help=near)
    add("--classes", type=Path, metavar="FILE", help="classes.yaml, or a list of another tool")
    with errors_shown():
        prepare(**vars(parser.parse_args()), say=print)


if __name__ == "__main__":
    main()

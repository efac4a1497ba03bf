"""Check a data set in Cityscapes' format before training. Downloads nothing, changes nothing.

    python -m prepare.cityscapes ROOT               # train, val and whatever else is there
    python -m prepare.cityscapes ROOT --coarse      # gtCoarse and train_extra must be there, too
    python -m prepare.cityscapes ROOT --counts any  # another data set in Cityscapes' format

The files are ROOT/leftImg8bit/<split>/<city>/<stem>_leftImg8bit.png and
ROOT/gtFine/<split>/<city>/<stem>_gtFine_labelIds.png (gtCoarse likewise), with or without cities,
and ROOT/classes.yaml if the classes are not Cityscapes'. Every image is decoded.
Exit code 0: training can start. 1: the output names what is missing or damaged, and the cure.
"""

import os
import sys
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

from data_io.layout import IMAGE, Listing, archive, is_missing, list_split, unpacked_size
from dataset import find_root, read_classes
from prepare.inspection import NO_CLASS, TRAIN_IDS, Fault, inspect_all, size_text
from prepare.pairs import listing
from runtime.console import command_line, errors_shown
from runtime.files import quoted
from utils import Classes

PACKAGES = {  # archive -> packageID on the download site
    "gtFine_trainvaltest.zip": 1,
    "gtCoarse.zip": 2,
    "leftImg8bit_trainvaltest.zip": 3,
    "leftImg8bit_trainextra.zip": 4,
}
COUNTS = {"train": 2975, "val": 500, "test": 1525, "train_extra": 19998}
PARTS = [("gtFine", split) for split in ("train", "val", "test")]
PARTS += [("gtCoarse", split) for split in ("train", "val", "train_extra")]
BLACK = "troisdorf/troisdorf_000000_000073"  # published as a black image; some users delete it
CLOSED = "directories that cannot be opened"
LEFT_OUT = f"files that are not named *{IMAGE}, which training leaves out"
OTHER_LABELS = "labels under other names than *_labelIds.png, which training does not find"
CONVERT = "python -m prepare.own IMAGES MASKS DST"
HINTS = {  # the cure of faults that no archive cures
    CLOSED: "get the permission to read them (chmod -R u+rX); a link must lead to a directory",
    LEFT_OUT: f"to train on them, rename them to <city>_<seq>_<frame>{IMAGE}, or have them "
    f"converted (`{CONVERT}`); otherwise move them elsewhere",
    OTHER_LABELS: "have them converted: `python -m prepare.own {images} {labels} DST`",
    NO_CLASS: "list your own classes in {root}/classes.yaml (see docs/own-data.md), or have the "
    f"data converted (`{CONVERT}`)",
}
DAMAGED = "damaged archives"
OTHER_SIZES = "images of another size than the rest of their split"


def compare(
    root: Path, kind: str, split: str, images: Listing, labels: Listing, expected: int | None
) -> list[Fault]:
    """Images without labels, labels without an image, files left out, and a wrong number.

    expected: number of images; None: any above 0. BLACK is counted, but need not be there.
    """
    of_images, of_labels = root / "leftImg8bit" / split, root / kind / split
    faults, missing = [], images.stems - labels.stems
    for path in labels.others:
        stem, _, ending = path.relative_to(of_labels).as_posix().partition(f"_{kind}_label")
        if stem in missing and ending.endswith(".png"):
            faults.append(Fault(OTHER_LABELS, path, "there is no *_labelIds.png"))
            missing.remove(stem)
    faults += [
        Fault("images without labels", of_labels / f"{stem}_{kind}_labelIds.png", "missing")
        for stem in sorted(missing)
    ]
    faults += [Fault(LEFT_OUT, path, "another name") for path in images.others]
    others = {path.relative_to(of_images).as_posix() for path in images.others}
    found = {name.partition(Path(IMAGE).stem)[0] for name in others}  # such as a .jpg
    faults += [
        Fault("labels without image", of_images / f"{stem}{IMAGE}", "missing")
        for stem in sorted(labels.stems - images.stems - found - {BLACK})
    ]
    number = len(images.stems | labels.stems)
    if number != expected if expected else not number:
        detail = f"{number:,}, expected {f'{expected:,}' if expected else 'some'}"
        faults.append(Fault("splits with a wrong number of images", of_images, detail))
    return faults


def check_part(
    root: Path,
    kind: str,
    split: str,
    classes: Classes,
    expected: int | None,
    say: Callable[[str], None],
) -> list[Fault]:
    """The faults of the images of a split and their labels, which may be missing for `test`.

    expected: number of images; None for another data set than Cityscapes, with any above 0, and
    with images of any sizes.
    """
    of_images, of_labels = root / "leftImg8bit" / split, root / kind / split
    labelled = not is_missing(of_labels)
    try:
        images = list_split(of_images, IMAGE)
        labels = list_split(of_labels, f"_{kind}_labelIds.png")
    except OSError as error:  # all images in a closed directory would seem to be missing
        return [Fault(CLOSED, Path(error.filename), error.strerror)]
    if not labelled:
        say("note: no gtFine/test: its images are checked alone (its labels are dummies)")
        labels = Listing(images.stems, [])
    if BLACK in images.stems:
        say(f"note: {BLACK} is published as a black image, which does no harm")
    faults = compare(root, kind, split, images, labels, expected)
    stems = sorted(images.stems & labels.stems)
    sizes, found, notes = inspect_all(root, kind, split, stems, labelled, classes)
    common = Counter(sizes.values()).most_common()
    usual = size_text(common[0][0]) if common else "-"
    cities = len({stem.rpartition("/")[0] for stem in images.stems})
    number = len(labels.stems) if labelled else 0
    say(f"{kind:9}{split:12}{cities:7,}{len(images.stems):8,}{number:8,}  {usual}")
    if expected:
        faults += [
            Fault(OTHER_SIZES, image, f"{size_text(size)}, most are {usual}")
            for image, size in sizes.items()
            if size != common[0][0]
        ]
    elif len(common) > 1:
        say(
            f"note: {kind}/{split} has images of {len(common)} sizes, which can be trained on "
            "with a crop (as in recipes/camvid.yaml)"
        )
    for note in notes:
        say(f"note: {kind}/{split}: {note}")
    return faults + found


def check(
    root: str | Path,
    coarse: bool = False,
    counts: dict[str, int] | None = COUNTS,
    say: Callable[[str], None] = lambda line: None,
) -> list[str]:
    """Check a tree; returns its problems, a text each. [] means that training can start.

    Args:
        root: directory of the tree, or of the archives.
        coarse: gtCoarse and train_extra must be there; otherwise they are checked if present.
        counts: images expected in each split; None for another data set: any number above 0.
        say: called with each line of the summary and of the notes.
    """
    try:
        root = find_root(root)
        classes = read_classes(root)
    except (FileNotFoundError, ValueError) as error:
        return [str(error)]
    faults, packed, absent = [], {}, defaultdict(list)
    say(f"{'labels':9}{'split':12}{'cities':>7}{'images':>8}{'labels':>8}  size")
    for kind, split in PARTS:
        of_images, of_labels = root / "leftImg8bit" / split, root / kind / split
        zips = [archive("leftImg8bit", split), archive(kind, split)]
        missing = [path for path in (of_images, of_labels) if is_missing(path)]
        optional = split == "test" or (kind == "gtCoarse" and not coarse)
        begun = of_labels if kind == "gtCoarse" and split != "train_extra" else of_images
        if missing and all(zip_state(root / name) == "complete" for name in zips):
            packed.update(dict.fromkeys(zips))
        elif optional and begun in missing:
            use = "for benchmark submissions" if split == "test" else "with coarse labels"
            absent[use] += [str(path.relative_to(root)) for path in missing]
        elif missing and split != "test":
            faults += [Fault("missing directories", path, "missing") for path in missing]
        else:
            expected = counts and counts.get(split)
            faults += check_part(root, kind, split, classes, expected, say)
    for use, parts in absent.items():
        names = sorted({archive(*part.split(os.sep)) for part in parts}) if counts else []
        brought = f" (brought by {', '.join(names)})" if names else ""
        say(f"note: needed only {use}, and not there: {', '.join(parts)}{brought}")
    cures = {archive_of(root, fault) for fault in faults if fault.headline not in HINTS}
    states = {}
    for name in sorted({*packed, *cures}):
        if (root / name).is_file():
            say(f"reading {name}")
        states[name] = zip_state(root / name, read_all=True)
    damaged = [name for name in packed if states[name] != "complete"]
    if packed and not damaged:
        unzip = " && ".join(f"unzip -o {quoted(root / name)} -d {quoted(root)}" for name in packed)
        say(
            f"note: not unpacked yet, so images not checked: {', '.join(packed)}. "
            f"The first training unpacks them, or: {unzip}"
        )
    faults += [Fault(DAMAGED, root / name, states[name]) for name in damaged]
    return report(root, faults, states, counts is not None)


def zip_state(path: Path, read_all: bool = False) -> str:
    """'absent', 'complete', or what is wrong with an archive. Raises nothing.

    Half an archive lacks its table of contents, which is at the end. Damage inside is found only
    by reading all of it.
    """
    try:
        unpacked_size(path)
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip() if read_all else None
            return f"damaged (in {damaged})" if damaged else "complete"
    except FileNotFoundError:
        return "absent"
    except OSError as error:
        return f"unreadable ({error.strerror})"
    except zipfile.BadZipFile:
        with open(path, "rb") as file:
            page = file.read(100).lstrip().startswith(b"<")
        return "a web page (failed login?)" if page else "not complete (half a download?)"
    except Exception as error:  # decompressors raise several
        return f"damaged ({error})"


def cure(root: Path, name: str, state: str) -> str:
    """How to get the contents of the archive `name`, in the given `zip_state`, into `root`."""
    path, to = quoted(root / name), quoted(root)
    inner = root / name.removesuffix(".zip") / name.removesuffix(".zip").split("_")[0]
    if os.path.isdir(inner):
        return f"unpacked one level too deep: mv {quoted(inner)} {to}"
    unzip, load = f"unzip -o {path} -d {to}", f"csDownload -d {to} {name}"
    if state == "complete":
        return f"{name} is there: {unzip}"
    if state == "absent":
        return f"brought by {name} (packageID {PACKAGES[name]}): {load} && {unzip}"
    if state.startswith("not complete"):
        return f"{name} is {state}: csDownload -r -d {to} {name} (or wget -c) && {unzip}"
    if state.startswith("unreadable"):
        return f"{name} is {state}: chmod u+r {path}"
    remove = f"rm {path}"
    if state.startswith("damaged"):
        remove = f"mv {path} {quoted(root / f'{name}.damaged')}"
    return f"{name} is {state}: {remove} && {load} && {unzip}"


def archive_of(root: Path, fault: Fault) -> str:
    """The archive that brings the file or directory of a fault, or is it."""
    parts = fault.path.relative_to(root).parts
    return parts[0] if len(parts) == 1 else archive(*parts[:2])


def report(root: Path, faults: list[Fault], states: dict[str, str], official: bool) -> list[str]:
    """A text for each kind of fault and archive that cures it.

    official: the tree is Cityscapes itself, so that an archive brings what is missing.
    """
    kinds = defaultdict(dict)  # a dict keeps the order and drops duplicates
    for fault in faults:
        path = fault.path.relative_to(root)
        key = fault.headline, archive_of(root, fault), path.parts[0]
        kinds[key][f"{path}: {fault.detail}"] = None
    texts = []
    for (headline, name, folder), lines in kinds.items():
        images, labels = quoted(root / "leftImg8bit"), quoted(root / folder)
        if headline in HINTS:
            how = HINTS[headline].format(root=quoted(root), images=images, labels=labels)
        elif official or headline == DAMAGED:
            how = cure(root, name, states[name])
        elif headline == TRAIN_IDS:
            how = f"convert them: `python -m prepare.own {images} {labels} DST --labels train-ids`"
        else:
            how = (
                "restore these files, run the script again that made this data set, or convert "
                f"data of another form (`{CONVERT}`)"
            )
        texts.append(listing(f"{headline}: {len(lines):,}", [*lines]) + f"\n  -> {how}")
    return texts


def main() -> int:
    """Print the summary and the problems; returns the exit code, 0 or 1."""
    parser = command_line(__doc__)
    add = parser.add_argument
    place = "directory of leftImg8bit and gtFine; default: $CITYSCAPES_DATASET"
    add("root", nargs="?", default=os.environ.get("CITYSCAPES_DATASET"), help=place)
    add("--coarse", action="store_true", help="need gtCoarse and train_extra")
    another = "any: another data set in this format"
    add("--counts", choices=("cityscapes", "any"), default="cityscapes", help=another)
    args = parser.parse_args()
    if not args.root:
        parser.error("give ROOT or set CITYSCAPES_DATASET")
    counts = COUNTS if args.counts == "cityscapes" else None
    with errors_shown():
        problems = check(args.root, args.coarse, counts, say=lambda line: print(line, flush=True))
        print("\n".join(problems) or "ready: nothing is missing or damaged")
    if problems and counts:
        print("(for another data set in Cityscapes' format, not its download: --counts any)")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

"""Check a data set in Cityscapes' format before training. Downloads nothing, changes nothing.

    python -m prepare.cityscapes ROOT               # train, val and whatever else is there
    python -m prepare.cityscapes ROOT --coarse      # gtCoarse and train_extra must be there, too
    python -m prepare.cityscapes ROOT --counts any  # another data set in Cityscapes' format

The files are ROOT/leftImg8bit/<split>/<city>/<stem>_leftImg8bit.png and
ROOT/gtFine/<split>/<city>/<stem>_gtFine_labelIds.png (gtCoarse likewise). Every image is decoded.
Exit code 0: training can start. 1: the output names what is missing or damaged, and the cure.
"""

import argparse
import os
import sys
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shlex import quote
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from data_io.image_io import image_size, read_grey, read_image
from dataset import are_train_ids, find_root
from utils import CITYSCAPES

COUNTS = {"train": 2975, "val": 500, "test": 1525, "train_extra": 19998}
PACKAGES = {  # archive -> packageID on the download site
    "gtFine_trainvaltest.zip": 1,
    "gtCoarse.zip": 2,
    "leftImg8bit_trainvaltest.zip": 3,
    "leftImg8bit_trainextra.zip": 4,
}
PARTS = [("gtFine", split) for split in ("train", "val", "test")]
PARTS += [("gtCoarse", split) for split in ("train", "val", "train_extra")]
BLACK = "troisdorf/troisdorf_000000_000073"  # published as a black image; some users delete it
TRAIN_ID_LABELS = 10  # so many labels without an id above 18 (vegetation, sky, car) are no chance
EXAMPLES = 10  # files named per kind of fault
CLOSED = "directories that cannot be opened"
AMONG_CITIES = "files among the cities' directories, which stop the training"
LEFT_OUT = "files that are not named *_leftImg8bit.png, which are left out"
HINTS = {  # the cure of faults that no archive cures
    CLOSED: "get the permission to read them (chmod -R u+rX); a link must lead to a directory",
    AMONG_CITIES: "move them elsewhere",
    LEFT_OUT: "rename them if they should be used, else move them elsewhere",
}
DAMAGED = "damaged archives"
TRAIN_IDS = "labels that look like train ids (labelTrainIds saved as labelIds?)"


class Fault(NamedTuple):
    headline: str  # faults of one headline are reported together
    path: Path
    detail: str


# Archives


def archive(kind: str, split: str) -> str:
    """The archive that brings ROOT/kind/split; kind: leftImg8bit, gtFine or gtCoarse."""
    if kind == "leftImg8bit":
        return f"leftImg8bit_{'trainextra' if split == 'train_extra' else 'trainvaltest'}.zip"
    return "gtCoarse.zip" if kind == "gtCoarse" else "gtFine_trainvaltest.zip"


def zip_state(path: Path, read_all: bool = False) -> str:
    """'absent', 'whole', or what is wrong with an archive. Raises nothing.

    Half an archive is recognised at once: its table of contents, which is at the end, is missing.
    Damage inside is found only by reading all of it.
    """
    try:
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip() if read_all else None
            return f"damaged (in {damaged})" if damaged else "whole"
    except FileNotFoundError:
        return "absent"
    except OSError as error:
        return f"unreadable ({error.strerror})"
    except zipfile.BadZipFile:
        with open(path, "rb") as file:
            page = file.read(100).lstrip().startswith(b"<")
        return "a web page (failed login?)" if page else "not whole (half a download?)"
    except Exception as error:  # decompressors raise several
        return f"damaged ({error})"


def cure(root: Path, name: str, state: str) -> str:
    """How to get the contents of the archive `name`, in the given `zip_state`, into `root`."""
    path, to = quote(str(root / name)), quote(str(root))
    inner = root / name.removesuffix(".zip") / name.removesuffix(".zip").split("_")[0]
    if os.path.isdir(inner):
        return f"unpacked one level too deep: mv {quote(str(inner))} {to}"
    unzip, load = f"unzip -o {path} -d {to}", f"csDownload -d {to} {name}"
    if state == "whole":
        return f"{name} is there: {unzip}"
    if state == "absent":
        return f"brought by {name} (packageID {PACKAGES[name]}): {load} && {unzip}"
    if state.startswith("not whole"):
        return f"{name} is {state}: csDownload -r -d {to} {name} (or wget -c) && {unzip}"
    if state.startswith("unreadable"):
        return f"{name} is {state}: chmod u+r {path}"
    remove = f"rm {path}"
    if state.startswith("damaged"):
        remove = f"mv {path} {quote(str(root / name) + '.damaged')}"
    return f"{name} is {state}: {remove} && {load} && {unzip}"


# Directories


def scan(directory: Path, suffix: str) -> tuple[set[str], list[Fault]]:
    """ "city/stem" of each directory/<city>/<stem><suffix>, and the directories that are closed.

    Only two levels are listed, so that links cannot loop. Hidden files are passed over, as in
    training.
    """
    stems, faults = set(), []
    try:
        cities = sorted(os.listdir(directory))
    except OSError as error:
        return stems, [Fault(CLOSED, directory, error.strerror)]
    for city in cities:
        try:
            names = os.listdir(directory / city)
        except NotADirectoryError:
            continue
        except OSError as error:
            faults.append(Fault(CLOSED, directory / city, error.strerror))
            continue
        found = [name for name in names if name.endswith(suffix) and not name.startswith(".")]
        stems |= {f"{city}/{name.removesuffix(suffix)}" for name in found}
    return stems, faults


def is_missing(directory: Path) -> bool:
    """Whether there is no such directory, as opposed to one that cannot be opened."""
    try:
        os.listdir(directory)
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    return False


def strays(directory: Path) -> list[Fault]:
    """Files below the directory of a split's images that are not images of that split."""
    faults = []
    if not os.access(directory, os.R_OK | os.X_OK):
        return faults  # `scan` says so
    for city in sorted(directory.iterdir()):
        if city.is_file():
            faults.append(Fault(AMONG_CITIES, city, "no directory"))
        elif city.is_dir() and os.access(city, os.R_OK | os.X_OK):
            faults += [
                Fault(LEFT_OUT, city / name, "another name")
                for name in sorted(os.listdir(city))
                if not name.endswith("_leftImg8bit.png") and not name.startswith(".")
            ]
    return faults


def compare(
    root: Path, kind: str, split: str, images: set[str], labels: set[str], expected: int | None
) -> list[Fault]:
    """Images without labels, labels without an image, and a wrong number of them.

    expected: number of images; None: any above 0. BLACK is counted, but need not be there.
    """
    of_images, of_labels = root / "leftImg8bit" / split, root / kind / split
    faults = [
        Fault("images without labels", of_labels / f"{stem}_{kind}_labelIds.png", "missing")
        for stem in sorted(images - labels)
    ]
    faults += [
        Fault("labels without image", of_images / f"{stem}_leftImg8bit.png", "missing")
        for stem in sorted(labels - images - {BLACK})
    ]
    number = len(images | labels)
    if number != expected if expected else not number:
        detail = f"{number:,}, expected {f'{expected:,}' if expected else 'some'}"
        faults.append(Fault("splits with a wrong number of images", of_images, detail))
    return faults


# Files


def inspect(
    image: Path, label: Path | None, decode: bool
) -> tuple[tuple[int, int] | None, Tensor | None, list[Fault]]:
    """Read an image, or only its header, and its labels if there are any.

    Returns height and width of the image, or None; which ids are in the labels, (256,) bool, or
    None; and the faults.
    """
    size, present, faults = None, None, []
    try:
        size = tuple(read_image(image).shape[1:]) if decode else image_size(image)
    except (OSError, ValueError) as error:
        faults.append(_unreadable("image files that cannot be used", image, error))
    if label:
        try:
            labels = read_grey(label)
        except (OSError, ValueError) as error:
            faults.append(_unreadable("label files that cannot be used", label, error))
        else:
            present = torch.bincount(labels.flatten(), minlength=256) > 0
            faults += check_ids(label, present)
            if size and size != tuple(labels.shape):
                detail = f"{_format(labels.shape)}, the image is {_format(size)}"
                faults.append(Fault("labels of another size than their image", label, detail))
    return size, present, faults


def check_ids(label: Path, present: Tensor) -> list[Fault]:
    """The faults of the ids that are present in a label file, (256,) bool."""
    unknown = present & ~CITYSCAPES.known_ids
    if unknown.any():
        detail = " ".join(map(str, unknown.nonzero().flatten().tolist()))
        return [Fault("labels with ids outside 0..33", label, detail)]
    if present[255] and are_train_ids(present):
        return [Fault(TRAIN_IDS, label, "255, and else nothing above 18")]
    return []


def _unreadable(headline: str, path: Path, error: Exception) -> Fault:
    return Fault(headline, path, str(error).removeprefix(f"{path} "))


def _format(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def inspect_all(
    root: Path, kind: str, split: str, stems: list[str], labelled: bool
) -> tuple[str, list[Fault]]:
    """`inspect` all images of a split, and their labels if `labelled`.

    Returns the size that most images have, and the faults.
    """
    decode = kind == "gtFine" or split == "train_extra"  # the others are decoded with gtFine
    images = [root / "leftImg8bit" / split / f"{stem}_leftImg8bit.png" for stem in stems]
    labels = [root / kind / split / f"{stem}_{kind}_labelIds.png" for stem in stems]
    with ThreadPoolExecutor() as threads:
        results = threads.map(
            inspect, images, labels if labelled else [None] * len(stems), [decode] * len(stems)
        )
        results = list(tqdm(results, f"{kind}/{split}", len(stems), unit="image", disable=None))
    faults = [fault for _, _, found in results for fault in found]
    sizes = Counter(size for size, _, _ in results if size)
    usual = max(sizes, key=sizes.get, default=None)
    for image, (size, _, _) in zip(images, results, strict=True):
        if size and size != usual:
            detail = f"{_format(size)}, most are {_format(usual)}"
            faults.append(
                Fault("images of another size than the rest of their split", image, detail)
            )
    present = [ids for _, ids, _ in results if ids is not None]
    if split != "test" and len(present) >= TRAIN_ID_LABELS:  # test labels are dummies
        if are_train_ids(torch.stack(present).any(0)):
            detail = f"no id above 18 in {len(present)} labels"
            faults.append(Fault(TRAIN_IDS, root / kind / split, detail))
    return _format(usual) if usual else "-", faults


# The whole


def check_part(
    root: Path, kind: str, split: str, expected: int | None, say: Callable[[str], None]
) -> list[Fault]:
    """The faults of the images of a split and their labels, which may be missing for `test`."""
    of_images, of_labels = root / "leftImg8bit" / split, root / kind / split
    images, closed = scan(of_images, "_leftImg8bit.png")
    labelled = not is_missing(of_labels)
    if labelled:
        labels, closed_labels = scan(of_labels, f"_{kind}_labelIds.png")
        closed = closed + closed_labels
    else:
        say("note: no gtFine/test: its images are checked alone (its labels are dummies)")
        labels = images
    if BLACK in images:
        say(f"note: {BLACK} is published as a black image, which does no harm")
    # All images in a closed directory would seem to be missing.
    faults = closed or compare(root, kind, split, images, labels, expected)
    size, found = inspect_all(root, kind, split, sorted(images & labels), labelled)
    cities = len({stem.split("/")[0] for stem in images})
    number = len(labels) if labelled else 0
    say(f"{kind:9}{split:12}{cities:7,}{len(images):8,}{number:8,}  {size}")
    return faults + strays(of_images) + found


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
    except FileNotFoundError as error:
        return [str(error)]
    faults, packed, absent = [], {}, defaultdict(list)
    say(f"{'labels':9}{'split':12}{'cities':>7}{'images':>8}{'labels':>8}  size")
    for kind, split in PARTS:
        of_images, of_labels = root / "leftImg8bit" / split, root / kind / split
        zips = [archive("leftImg8bit", split), archive(kind, split)]
        missing = [path for path in (of_images, of_labels) if is_missing(path)]
        optional = split == "test" or (kind == "gtCoarse" and not coarse)
        begun = of_labels if kind == "gtCoarse" and split != "train_extra" else of_images
        if missing and all(zip_state(root / name) == "whole" for name in zips):
            packed.update(dict.fromkeys(zips))
        elif optional and begun in missing:
            use = "for benchmark submissions" if split == "test" else "with coarse labels"
            absent[use] += [str(path.relative_to(root)) for path in missing]
        elif missing and split != "test":
            faults += [Fault("missing directories", path, "missing") for path in missing]
        else:
            faults += check_part(root, kind, split, counts and counts.get(split), say)
    for use, parts in absent.items():
        names = sorted({archive(*part.split(os.sep)) for part in parts}) if counts else []
        brought = f" (brought by {', '.join(names)})" if names else ""
        say(f"note: needed only {use}, and not there: {', '.join(parts)}{brought}")
    states = read_archives(root, packed, faults, say)
    damaged = [name for name in packed if states[name] != "whole"]
    if packed and not damaged:
        to = quote(str(root))
        unzip = " && ".join(f"unzip -o {quote(str(root / name))} -d {to}" for name in packed)
        say(
            f"note: not unpacked yet, so images not checked: {', '.join(packed)}. "
            f"The first training unpacks them, or: {unzip}"
        )
    faults += [Fault(DAMAGED, root / name, states[name]) for name in damaged]
    return report(root, faults, states, counts is not None)


def read_archives(
    root: Path, packed: dict[str, None], faults: list[Fault], say: Callable[[str], None]
) -> dict[str, str]:
    """The `zip_state` of the archives that are not unpacked or cure a fault; reads all of them."""
    states = {}
    names = {archive_of(root, fault) for fault in faults if fault.headline not in HINTS}
    for name in sorted({*packed, *names}):
        if (root / name).is_file():
            say(f"reading {name}")
        states[name] = zip_state(root / name, read_all=True)
    return states


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
        line = f"{fault.path.relative_to(root)}: {fault.detail}"
        kinds[fault.headline, archive_of(root, fault)][line] = None
    texts = []
    for (headline, name), lines in kinds.items():
        if headline in HINTS:
            how = HINTS[headline]
        elif official or headline == DAMAGED:
            how = cure(root, name, states[name])
        else:
            how = "restore these files, or run the script again that made this data set"
        more = [f"and {len(lines) - EXAMPLES:,} more"] if len(lines) > EXAMPLES else []
        head = f"{headline}: {len(lines):,}"
        texts.append("\n    ".join([head, *[*lines][:EXAMPLES], *more]) + f"\n  -> {how}")
    return texts


def main() -> int:
    """Print the summary and the problems; returns the exit code, 0 or 1."""
    parser = argparse.ArgumentParser(
        prog="python -m prepare.cityscapes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "root",
        nargs="?",
        default=os.environ.get("CITYSCAPES_DATASET"),
        help="directory of leftImg8bit and gtFine; default: $CITYSCAPES_DATASET",
    )
    parser.add_argument("--coarse", action="store_true", help="need gtCoarse and train_extra")
    parser.add_argument(
        "--counts",
        choices=("cityscapes", "any"),
        default="cityscapes",
        help="any: another data set in this format",
    )
    args = parser.parse_args()
    if not args.root:
        parser.error("give ROOT or set CITYSCAPES_DATASET")
    counts = COUNTS if args.counts == "cityscapes" else None
    problems = check(args.root, args.coarse, counts, say=lambda line: print(line, flush=True))
    print("\n".join(problems) or "ready: nothing is missing or damaged")
    if problems and counts:
        print("(for another data set in Cityscapes' format, not its download: --counts any)")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

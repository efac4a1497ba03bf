"""Checks a Cityscapes download before a night of training. Never downloads or changes anything.

    python prepare/cityscapes.py ROOT               # train, val and whatever else lies there
    python prepare/cityscapes.py ROOT --coarse      # gtCoarse and train_extra must be there, too
    python prepare/cityscapes.py ROOT --counts any  # another data set in Cityscapes' format

The tree: ROOT/leftImg8bit/<split>/<city>/<stem>_leftImg8bit.png and
ROOT/gtFine/<split>/<city>/<stem>_gtFine_labelIds.png (gtCoarse likewise). Every picture is
decoded. Exit code 0: ready. 1: prints what is missing or broken, and how to mend it.
"""

import argparse
import os
import sys
import zipfile
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shlex import quote

from PIL import Image
from tqdm import tqdm

COUNTS = {"train": 2975, "val": 500, "test": 1525, "train_extra": 19998}
PACKAGES = {  # archive -> packageID on the download site
    "gtFine_trainvaltest.zip": 1,
    "gtCoarse.zip": 2,
    "leftImg8bit_trainvaltest.zip": 3,
    "leftImg8bit_trainextra.zip": 4,
}
PARTS = [("gtFine", split) for split in ("train", "val", "test")]
PARTS += [("gtCoarse", split) for split in ("train", "val", "train_extra")]
BLACK = "troisdorf/troisdorf_000000_000073"  # published as a black picture; some users delete it
IDS, TRAIN_IDS = {*range(34), 255}, {*range(19), 255}  # 255: id -1 in a byte; "ignore" as train id
TRAIN_ID_LABELS = 10  # so many labels without an id above 18 (vegetation, sky, car) are no chance
LIKE_TRAIN_IDS = "labels that look like train ids (labelTrainIds saved as labelIds?)"
EXAMPLES = 10  # files named per kind of fault
CLOSED, STRAY = "folders that cannot be opened", "stray files that a loader takes for images"


def archive(kind, split):
    """Name of the archive that brings ROOT/kind/split; kind: leftImg8bit, gtFine or gtCoarse."""
    if kind == "leftImg8bit":
        return f"leftImg8bit_{'trainextra' if split == 'train_extra' else 'trainvaltest'}.zip"
    return "gtCoarse.zip" if kind == "gtCoarse" else "gtFine_trainvaltest.zip"


def zip_state(path):
    """'absent', 'whole', or in words what is wrong with the zip at `path`. Raises nothing."""
    try:
        with zipfile.ZipFile(path):  # the directory of a zip is at its end: half a file has none
            return "whole"
    except FileNotFoundError:
        return "absent"
    except zipfile.BadZipFile:
        with open(path, "rb") as file:
            page = file.read(100).lstrip().startswith(b"<")
        return "a web page (failed login?)" if page else "not whole (half a download?)"
    except OSError as error:
        return f"unreadable ({error.strerror})"


def cure(root, name):
    """One line: how to get the contents of the archive `name` into the folder `root`."""
    path, to, state = quote(str(root / name)), quote(str(root)), zip_state(root / name)
    inner = root / name.removesuffix(".zip") / name.removesuffix(".zip").split("_")[0]
    if os.path.isdir(inner):
        return f"unpacked one level too deep: mv {quote(str(inner))} {to}"
    unzip, load = f"unzip -o {path} -d {to}", f"csDownload -d {to} {name}"
    if state == "whole":
        return f"{name} is there: {unzip}"
    if state == "absent":
        return f"brought by {name} (packageID {PACKAGES[name]}): {load} && {unzip}"
    if "half" in state:
        return f"{name} is {state}: csDownload -r -d {to} {name} (or wget -c) && {unzip}"
    return f"{name} is {state}: rm {path} && {load} && {unzip}"


def scan(folder, suffix):
    """Lists folder/<city>/<stem><suffix>. Two levels only, so loops of links cannot trap it.

    Returns (set of "city/stem", or None if the folder does not exist; paths of stray files;
    faults as in `look`). Raises nothing.
    """
    stems, strays, faults = set(), [], []
    try:
        cities = sorted(os.listdir(folder))
    except FileNotFoundError:
        return None, strays, faults
    except OSError as error:
        return stems, strays, [(CLOSED, folder, error.strerror)]
    for city in cities:
        try:
            names = [name for name in os.listdir(folder / city) if name.endswith(suffix)]
        except NotADirectoryError:
            strays.append(folder / city)
            continue
        except OSError as error:
            faults.append((CLOSED, folder / city, error.strerror))
            continue
        hidden = [name for name in names if name.startswith(".")]  # macOS: ._<name of picture>
        strays += [folder / city / name for name in hidden]
        stems |= {f"{city}/{name.removesuffix(suffix)}" for name in names if name not in hidden}
    return stems, strays, faults


def look(image, label, decode=True):
    """Reads one image and its label, two paths; label may be None. decode=False: image's header.

    Returns (size of the image or None, set of the ids in the label, faults: a list of
    (headline, path, detail)). Raises nothing.
    """
    size, ids, faults, path = None, set(), [], image
    try:
        with Image.open(image) as picture:
            if ";16" in str(picture.tile):
                faults.append(("images of more than 8 bits a channel", image, "save it with 8"))
            size = picture.size
            if decode:
                picture.verify()  # the checksums, of which decoding takes no notice
        if decode:
            with Image.open(image) as picture:
                picture.load()
        if label:
            path = label
            with Image.open(label) as picture:
                picture.verify()
            with Image.open(label) as picture:
                picture.load()
            if picture.size != size:
                detail = "{} x {}, the image {} x {}".format(*picture.size, *size)
                faults.append(("labels of another size than their image", label, detail))
            if picture.format != "PNG":
                headline = "labels that are no PNG, which alone keeps their numbers"
                faults.append((headline, label, str(picture.format)))
            elif picture.mode == "L":
                ids = {value for value, pixels in enumerate(picture.histogram()) if pixels}
                if ids - IDS:
                    detail = " ".join(map(str, sorted(ids - IDS)))
                    faults.append(("labels with ids outside 0..33", label, detail))
                if 255 in ids and ids & {*range(19)} and ids <= TRAIN_IDS:
                    detail = "255, and else nothing above 18"
                    faults.append((LIKE_TRAIN_IDS, label, detail))
            else:
                colour = ", a colour picture?" if picture.mode in ("RGB", "RGBA", "P") else ""
                headline = "labels that are not ids in one 8-bit channel"
                faults.append((headline, label, f"mode {picture.mode}{colour}"))
    except Exception as error:  # a decoder raises nearly anything on a broken picture
        detail = getattr(error, "strerror", None) or str(error) or type(error).__name__
        faults.append(("pictures that cannot be read", path, detail))
    return size, ids, faults


def look_at_all(root, kind, split, stems, labelled):
    """`look` at the pictures of all `stems` (a list), in threads; labelled: at labels, too.

    Returns (Counter of image sizes, faults). Raises nothing.
    """
    decode = kind == "gtFine" or split == "train_extra"  # the rest was decoded with gtFine
    images = [root / "leftImg8bit" / split / f"{stem}_leftImg8bit.png" for stem in stems]
    labels = [root / kind / split / f"{stem}_{kind}_labelIds.png" for stem in stems]
    with ThreadPoolExecutor() as pool:  # Pillow decodes without the GIL
        seen = pool.map(
            look, images, labels if labelled else [None] * len(stems), [decode] * len(stems)
        )
        seen = list(tqdm(seen, f"{kind}/{split}", len(stems), unit="image", disable=None))
    faults = [fault for _, _, found in seen for fault in found]
    sizes = Counter(size for size, _, _ in seen if size)
    usual = max(sizes, key=sizes.get, default=None)
    for image, (size, _, _) in zip(images, seen, strict=True):
        if size and size != usual:
            detail = "{} x {}, most are {} x {}".format(*size, *usual)
            faults.append(("images of another size than the rest of their split", image, detail))
    ids = [ids for _, ids, _ in seen if ids]
    if split != "test" and len(ids) >= TRAIN_ID_LABELS and set().union(*ids) <= TRAIN_IDS:
        detail = f"no id above 18 in {len(ids)} labels"
        faults.append((LIKE_TRAIN_IDS, root / kind / split, detail))
    return sizes, faults


def compare(root, kind, split, images, labels, expected):
    """Faults (as in `look`) of two sets of stems: unpaired ones, and a wrong number of them.

    expected: number of images; None: any above 0. BLACK is counted, but may be deleted.
    """
    of_images, of_labels = root / "leftImg8bit" / split, root / kind / split
    faults = [
        ("images without labels", of_labels / f"{stem}_{kind}_labelIds.png", "missing")
        for stem in sorted(images - labels)
    ]
    faults += [
        ("labels without image", of_images / f"{stem}_leftImg8bit.png", "missing")
        for stem in sorted(labels - images - {BLACK})
    ]
    number = len(images | labels)
    if number != expected if expected else not number:
        detail = f"{number:,}, expected {f'{expected:,}' if expected else 'some'}"
        faults.append(("wrong number of images", of_images, detail))
    return faults


def report(root, faults, official=True):
    """The `faults` (as in `look`) as texts, one per kind of fault and archive that mends it.

    official: the tree is Cityscapes itself, so that an archive brings what is missing.
    """
    kinds, texts = defaultdict(dict), []  # a dict keeps the order and drops what comes twice
    for headline, path, detail in faults:
        path = path.relative_to(root)
        kinds[headline, archive(*path.parts[:2])][f"{path}: {detail}"] = None
    for (headline, name), lines in kinds.items():
        mend = cure(root, name) if official else "run the script again that made this tree"
        if headline in (CLOSED, STRAY):
            mend = "delete them" if headline == STRAY else f"chmod -R u+rX {quote(str(root))}"
        more = [f"and {len(lines) - EXAMPLES:,} more"] if len(lines) > EXAMPLES else []
        head = f"{headline}: {len(lines):,}"
        texts.append("\n    ".join([head, *[*lines][:EXAMPLES], *more]) + f"\n  -> {mend}")
    return texts


def check(root, coarse=False, counts=COUNTS, say=lambda line: None):
    """Checks the tree in `root` and returns its problems, one text each; [] means ready.

    coarse: gtCoarse and train_extra must be there; otherwise they are checked if present.
    counts: {split: images expected}; None for another data set: any number above 0.
    say:    called with each line of the notes and of the summary.
    Raises nothing: what is wrong with files is returned.
    """
    root, faults, packed = Path(root), [], {}
    if not os.path.isdir(root):
        return [f"{root} is not a folder (or a closed one): ROOT holds leftImg8bit and gtFine"]
    say(f"{'labels':9}{'split':12}{'cities':>7}{'images':>8}{'labels':>8}  size")
    for kind, split in PARTS:
        of_images, of_labels = root / "leftImg8bit" / split, root / kind / split
        images, strays, closed_images = scan(of_images, "_leftImg8bit.png")
        labels, _, closed_labels = scan(of_labels, f"_{kind}_labelIds.png")
        zips = [archive("leftImg8bit", split), archive(kind, split)]
        missing = [
            path for path, stems in ((of_images, images), (of_labels, labels)) if stems is None
        ]
        optional = split == "test" or (kind == "gtCoarse" and not coarse)
        begun = labels if kind == "gtCoarse" and split != "train_extra" else images
        if missing and all(zip_state(root / name) == "whole" for name in zips):
            packed.update(dict.fromkeys(zips))  # the first training unpacks the two
            continue
        if optional and begun is None:
            if counts and split in ("test", "train_extra"):
                use = "to hand in results" if split == "test" else "to train on coarse labels"
                say(f"note: no {split} images (in {' + '.join(zips)}): only needed {use}")
            continue
        if missing and split != "test":
            faults += [("missing folders", path, "missing") for path in missing]
            continue
        if BLACK in images:
            say(f"note: {BLACK} is published as a black picture; harmless, may be deleted")
        if missing:
            say("note: no gtFine/test: its images are checked alone (its labels are dummies)")
            labels = images
        # of a closed folder all pictures would seem to be missing
        faults += closed_images + closed_labels or compare(
            root, kind, split, images, labels, counts and counts.get(split)
        )
        faults += [(STRAY, path, "delete it") for path in strays]
        sizes, found = look_at_all(root, kind, split, sorted(images & labels), not missing)
        faults += found
        cities = len({stem.split("/")[0] for stem in images})
        size = "{} x {}".format(*max(sizes, key=sizes.get)) if sizes else "-"
        number = 0 if missing else len(labels)
        say(f"{kind:9}{split:12}{cities:7,}{len(images):8,}{number:8,}  {size}")
    if packed:
        to = quote(str(root))
        unzip = " && ".join(f"unzip -o {quote(str(root / name))} -d {to}" for name in packed)
        say(
            f"note: not unpacked yet, so not read: {', '.join(packed)}. The first training unpacks"
            f" them, or: {unzip}"
        )
    return report(root, faults, counts is not None)


def main():
    """Command line: prints the summary and the problems; returns the exit code, 0 or 1."""
    parser = argparse.ArgumentParser(description="Checks a Cityscapes download; loads nothing.")
    parser.add_argument(
        "root",
        nargs="?",
        default=os.environ.get("CITYSCAPES_DATASET"),
        help="folder of leftImg8bit and gtFine; default: $CITYSCAPES_DATASET",
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
    print("\n".join(problems) or "ready: nothing is missing or broken")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

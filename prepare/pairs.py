"""Images and their masks in two directories: which belong together, their splits and new names."""

import hashlib
import os
import re
import zlib
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

from data_io.image_io import IMAGE_SUFFIXES
from data_io.layout import IMAGE, SYSTEM_FILES

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
ENDINGS = {  # of a mask's name -> what it says of the values; of several masks, the first is taken
    "_labelIds": "ids",  # Cityscapes; CVAT and datumaro, of any classes
    "_labelcsIds": "cityscapes",  # IDD
    "_labelTrainIds": "train-ids",
    "_labelcsTrainIds": "train-ids",
    "_train_id": "train-ids",  # BDD100K, formerly
    "_labelids": "own",
    "_labellevel3Ids": "own",
    "": None,
    "_mask": None,
    "_L": None,  # CamVid
    "_train_color": "colors",
    "_color": "colors",
}
IMAGE_ENDING = Path(IMAGE).stem
GROUND_TRUTH = re.compile(r"_gt(Fine|Coarse)?$")
INSTANCES = re.compile(r"_instance\w*ids$", re.IGNORECASE)  # are no classes
EXAMPLES = 10  # files named per kind of fault


class Pair(NamedTuple):
    image: Path
    mask: Path
    stem: str  # of the image's name
    folders: tuple[str, ...]  # from the directory of the images to the image
    hint: str | None  # of `ENDINGS`

    @property
    def split(self) -> str | None:
        """`train`, `val` or `test` if the image lies in a directory of such a name."""
        return next((SPLITS[name.lower()] for name in self.folders if name.lower() in SPLITS), None)


class Item(NamedTuple):
    """A pair, its split, and the two files that it becomes, the image written last."""

    pair: Pair
    split: str
    image: Path
    labels: Path

    def is_done(self) -> bool:
        """Whether the files are there, with the times of change of their sources.

        A source may be replaced by an older file, which `mv` or `unzip` leave its time.
        """
        try:
            return all(
                made.stat().st_mtime_ns == source.stat().st_mtime_ns
                for made, source in ((self.image, self.pair.image), (self.labels, self.pair.mask))
            )
        except FileNotFoundError:
            return False


def find_files(directory: Path, without: Path) -> tuple[list[Path], str]:
    """All images below a directory, and which other files are there: "7 *.heic and 1 *.txt", or "".

    What is in `without`, if that is another directory, and hidden and system files are passed
    over. Raises FileNotFoundError, and ValueError if there is no image.
    """
    if not directory.is_dir():
        raise FileNotFoundError(f"there is no directory {directory}: correct the path")
    found, seen = [], set()
    if without.resolve() != directory.resolve():
        seen.add(os.path.realpath(without))
    for folder, folders, files in os.walk(directory, followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = [] if real in seen else [name for name in folders if _is_visible(name)]
        if real not in seen:
            found += [Path(folder, name) for name in files if _is_visible(name)]
        seen.add(real)  # links cannot loop
    images = sorted(path for path in found if path.suffix.lower() in IMAGE_SUFFIXES)
    kinds = Counter(f"*{p.suffix}" for p in found if p.suffix.lower() not in IMAGE_SUFFIXES)
    others = " and ".join(f"{n} {kind}" for kind, n in kinds.most_common(3))
    if not images:
        there = f", but {others}" if others else ""
        raise ValueError(
            f"{directory} holds no image of a format that Pillow reads{there}: "
            "correct the path, or convert the files to JPEG or PNG"
        )
    return images, others


def _is_visible(name: str) -> bool:
    return not name.startswith(".") and name not in SYSTEM_FILES


def split_name(path: Path, stems: set[str]) -> tuple[str, str]:
    """The stem of a mask's image, and the ending of the mask's name, one of `ENDINGS`.

    stems: of the images; a mask whose name is one of them has no ending.
    """
    if path.stem in stems:
        return path.stem, ""
    name = Path(path.stem)
    if name.suffix.lower() in IMAGE_SUFFIXES and name.stem in stems:  # street.jpg.png
        return name.stem, ""
    fitting = [ending for ending in ENDINGS if path.stem.endswith(ending)]
    ending = max(fitting, key=len)
    return GROUND_TRUTH.sub("", path.stem.removesuffix(ending)), ending


def find_pairs(images: Path, labels: Path, wanted: str | None) -> tuple[list[Pair], list[str]]:
    """The images with their masks, and notes on what is left out.

    The names pair them, if each is there once; else the paths below the two directories.

    Args:
        images, labels: the directories of images and masks; one may lie in the other, or be it.
        wanted: of several masks of an image, the kind to take first, a value of `ENDINGS`.

    Raises FileNotFoundError or ValueError, with up to ten files, for an image without a mask, for
    images or masks of one name, and for masks of several kinds.
    """
    (of_images, others), (of_labels, _) = find_files(images, labels), find_files(labels, images)
    of_labels = [path for path in of_labels if not INSTANCES.search(path.stem)]
    if images.resolve() == labels.resolve():
        of_labels = [path for path in of_labels if split_name(path, set())[1]]
        of_images = sorted(set(of_images) - set(of_labels))
    keys = {p: (p.parent.relative_to(images), p.stem.removesuffix(IMAGE_ENDING)) for p in of_images}
    chosen = _choose(of_labels, labels, {stem for _, stem in keys.values()}, wanted)
    _refuse_twins(keys)
    twin = next((stem for stem, n in Counter(s for _, s in chosen).items() if n > 1), None)
    twins = [mask for (_, stem), (mask, _) in chosen.items() if stem == twin]
    if not twins and len({stem for _, stem in keys.values()}) == len(keys):
        by_stem = {stem: found for (_, stem), found in chosen.items()}
        chosen = {key: by_stem.pop(key[1]) for key in keys.values() if key[1] in by_stem}
        lone = [mask for mask, _ in by_stem.values()]
    else:
        lone = [mask for key, (mask, _) in chosen.items() if key not in set(keys.values())]
    pairs, without, notes = [], [], []
    if others:
        notes.append(f"note: {images} also holds {others}, which Pillow does not read: left out")
    for path, key in keys.items():
        mask, ending = chosen.get(key, (None, ""))
        pair = Pair(path, mask, key[1], key[0].parts, ENDINGS[ending])
        if mask is not None:
            pairs.append(pair)
        elif pair.split != "test":
            without.append(path)
    if tests := len(keys) - len(pairs) - len(without):
        notes.append(f"note: images of a test split without a mask, which are left out: {tests}")
    if without and twins:
        raise ValueError(
            listing(
                f"images without a mask in the same subdirectory of {labels}, which decides since "
                f"{twins[0]} and {twins[1]} could both be of {twin}: remove or rename one",
                without,
            )
        )
    if without:
        stem = keys[without[0]][1]
        endings = ", ".join(ending for ending in ENDINGS if ending)
        fault = (
            f"images without a mask: below {labels}, none is called {stem}, {stem}_mask or with "
        )
        raise ValueError(listing(f"{fault}another known ending ({endings})", without))
    if not pairs:
        raise ValueError(f"none of the images in {images} has a mask in {labels}")
    if lone:
        notes.append("warning: " + listing("masks without an image, which are left out", lone))
    kinds = {pair.hint: pair.mask for pair in pairs}
    if len(kinds) > 1:
        raise ValueError(
            f"the masks are of several kinds, such as {' and '.join(map(str, kinds.values()))}: "
            "leave only those of one kind in the directory"
        )
    return pairs, notes


def _choose(
    paths: list[Path], labels: Path, stems: set[str], wanted: str | None
) -> dict[tuple[Path, str], tuple[Path, str]]:
    """(directory, stem) -> the best of its masks, and the ending of its name."""
    found = defaultdict(list)
    for path in paths:
        stem, ending = split_name(path, stems)
        found[path.parent.relative_to(labels), stem].append((path, ending))
    order, chosen = list(ENDINGS), {}
    for key, files in found.items():
        best = min(
            files, key=lambda f: (ENDINGS[f[1]] != (wanted or ENDINGS[f[1]]), order.index(f[1]))
        )
        same = [path for path, ending in files if ending == best[1]]
        if len(same) > 1:
            raise ValueError(f"{same[0]} and {same[1]} are masks of one name: move one elsewhere")
        chosen[key] = best
    return chosen


def _refuse_twins(keys: dict[Path, tuple[Path, str]]) -> None:
    first = {}
    for path, key in keys.items():
        if key in first:
            raise ValueError(
                f"{first[key]} and {path} are images of one name: rename one, to "
                f"{path.stem}_mask{path.suffix} if it is the mask of the other"
            )
        first[key] = path


def listing(fault: str, files: list) -> str:
    """A text that counts the files of a fault, and names the first ten."""
    more = [f"and {len(files) - EXAMPLES:,} more"] if len(files) > EXAMPLES else []
    return "\n    ".join([f"{len(files):,} {fault}", *map(str, files[:EXAMPLES]), *more])


def target_name(pair: Pair) -> str:
    """`<city>/<city>_<seq>_<frame>` of a pair, which depends on nothing but its own path.

    The city is the directories of the image, or `own`; a name that is `<city>_<seq>_<frame>` stays
    as it is. Where other characters than letters, digits and hyphens are replaced, a checksum as
    the sequence keeps names apart.
    """
    folders = [name for name in pair.folders if name.lower() not in SPLITS]
    path = "/".join([*(folders or ["own"]), pair.stem])
    city, frame = (re.sub(r"[\W_]+", "-", p) for p in ("/".join(folders) or "own", pair.stem))
    parts = pair.stem.split("_")
    if len(parts) == 3 and all(parts) and (not folders or parts[0] == city):
        if all(re.sub(r"[\W_]+", "-", part) == part for part in parts):
            return f"{parts[0]}/{pair.stem}"
    sequence = 0 if path == f"{city}/{frame}" else zlib.crc32(path.encode()) % 10**6
    return f"{city}/{city}_{sequence:06d}_{frame}"


def assign_splits(pairs: list[Pair], val: str | None = None) -> tuple[list[str], str]:
    """The split of each pair, and how it was found.

    Args:
        pairs: at least two.
        val: the share of the images to validate on, or a text file with their names, a line each.
            None: the directories `train` and `val` of the images if there are both, else 0.2.

    A share is drawn by a hash of each image's name alone, so that the image keeps its split when
    others are added; but of a dozen images or fewer, one may change so that each split has one.

    Raises ValueError for fewer than two pairs outside of `test`, for a `val` that cannot be used,
    and if it leaves a split empty.
    """
    given = [pair.split for pair in pairs]
    if len(pairs) - given.count("test") < 2:
        raise ValueError(
            f"at least two images with masks are needed outside of test, to train on and to "
            f"validate on, not {len(pairs) - given.count('test')}"
        )
    if val is None and {"train", "val"} <= set(given):
        return [split or "train" for split in given], "as the directories of the images say"
    try:
        share = float("0.2" if val is None else val)
    except ValueError:
        chosen = _named(pairs, Path(val))
        how = f"{val} names the images to validate on"
    else:
        if not 0 < share < 1:
            raise ValueError(f"--val {val}: a share is between 0 and 1, such as 0.2")
        draws = [_draw(pair.stem) for pair in pairs]
        least = sorted({draw for draw, split in zip(draws, given, strict=True) if split != "test"})
        limit = min(max(share, least[min(1, len(least) - 1)]), least[-1])
        chosen = [draw < limit for draw in draws]
        how = f"{share:.0%} to validate on, drawn by a hash of their names"
    splits = ["val" if is_val else "train" for is_val in chosen]
    splits = ["test" if s == "test" else split for s, split in zip(given, splits, strict=True)]
    for split in ("train", "val"):
        if split not in splits:
            raise ValueError(f"no image is left for {split}: change --val")
    return splits, how


def _draw(stem: str) -> float:
    digest = hashlib.sha256(f"0:{stem}".encode()).digest()  # 0: as in the first versions
    return int.from_bytes(digest[:6], "big") / 2**48


def _named(pairs: list[Pair], path: Path) -> list[bool]:
    """Whether a file names the image of each pair, by its stem, its file name or its path."""
    try:
        names = {line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()} - {""}
    except (OSError, UnicodeError) as error:
        raise ValueError(
            f"--val {path} is neither a share, such as 0.2, nor a list of names ({error})"
        ) from error
    found = [names & {p.stem, p.image.stem, p.image.name, str(p.image)} for p in pairs]
    if unknown := sorted(names.difference(*found)):
        raise ValueError(
            f"{path} names {unknown[0]}, which is none of the images: a line is the name of one"
        )
    return [bool(each) for each in found]


def plan(found: list[Pair], splits: list[str], dst: Path) -> list[Item]:
    """What is to be written. Raises ValueError where two pairs would become one file, or where an
    image is in another split of `dst`."""
    items, taken = [], {}
    for pair, split in zip(found, splits, strict=True):
        name = target_name(pair)
        image = dst / "leftImg8bit" / split / f"{name}{IMAGE}"
        other = taken.setdefault((split, name.casefold()), pair)
        if other is not pair:
            raise ValueError(f"{other.image} and {pair.image} would both be {image}: rename one")
        labels = dst / "gtFine" / split / f"{name}_gtFine_labelIds.png"
        items.append(Item(pair, split, image, labels))
    for item in items:
        name = item.image.relative_to(dst / "leftImg8bit" / item.split)
        for split in {"train", "val", "test"} - {item.split}:
            planned = (split, name.as_posix().removesuffix(IMAGE).casefold()) in taken
            if not planned and (path := dst / "leftImg8bit" / split / name).exists():
                raise ValueError(
                    f"{item.pair.image} belongs to {item.split}, but was converted before to "
                    f"{path}: choose a new directory"
                )
    return items

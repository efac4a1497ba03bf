"""Which images are to train on and which to validate on."""

import hashlib
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

SPLITS = {  # names of directories
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
LISTS = "", "ImageSets/Segmentation", "splits"  # directories of train.txt and val.txt


class Pair(NamedTuple):
    """An image and its mask; `prepare.pairs` finds them."""

    image: Path
    mask: Path
    stem: str  # of the image's name
    folders: tuple[str, ...]  # from the directory of the images to the image
    hint: str | None = None  # of `ENDINGS`
    split: str | None = None  # by the directories or lists of the tree
    is_official: bool = False  # the tree has train and val


def split_of(folders: tuple[str, ...]) -> str | None:
    """`train`, `val` or `test` if one of some directories has such a name."""
    return next((SPLITS[name.lower()] for name in folders if name.lower() in SPLITS), None)


def split_above(directory: Path) -> str | None:
    """The split that a directory is a part of, such as `training/images`; else None.

    That is one of a tree that has `train` and `val` side by side, which may be converted in two
    calls; a directory that only happens to be called `test` is none.
    """
    for folder in [directory.resolve(), *directory.resolve().parents][:4]:
        if split := SPLITS.get(folder.name.lower()):
            if {"train", "val"} <= {split_of((path.name,)) for path in folder.parent.iterdir()}:
                return split
    return None


def assign_splits(pairs: list[Pair], val: str | None = None) -> tuple[list[str], str]:
    """The split of each pair, and how it was found.

    Args:
        pairs: at least two, unless their splits are official.
        val: the chance with which each image is drawn to validate on, or a text file that names
            them, a line each, by name or path. None: the official splits if the tree has them,
            else 0.2. These are directories `train` and `val`, or lists train.txt and val.txt.

    The draw is a hash of each image's name alone, so that the image keeps its split when others
    are added; but of a dozen images or fewer, one may change so that each split has one.

    Raises ValueError for fewer than two pairs outside of `test`, for a `val` that cannot be used,
    and if it leaves a split empty.
    """
    if val is None and any(pair.is_official for pair in pairs):
        return [pair.split or "train" for pair in pairs], "those of the data set"
    drawn = {i: _draw(pair.stem) for i, pair in enumerate(pairs) if pair.split != "test"}
    if len(drawn) < 2:
        raise ValueError(
            f"at least two images with masks are needed outside of test, to train on and to "
            f"validate on, not {len(drawn)}"
        )
    try:
        chance = float("0.2" if val is None else val)
    except ValueError:
        named, how = _named(Path(val), pairs), f"{val} names the images to validate on"
        for line, found in named:
            if len(found) != 1:
                raise ValueError(
                    f"{val} names {line}, which is {len(found) or 'none'} of the images: a line is "
                    "the name of one, or its path below the directory of the images"
                ) from None
        chosen = set().union(*(found for _, found in named))
    else:
        if not 0 < chance < 1:
            raise ValueError(f"--val {val}: a share is between 0 and 1, such as 0.2")
        least = sorted({*drawn.values()})
        limit = min(max(chance, least[min(1, len(least) - 1)]), least[-1])
        chosen = {i for i, draw in drawn.items() if draw < limit}
        how = (
            f"{len(chosen):,} of {len(drawn):,} to validate on, {len(chosen) / len(drawn):.0%}: "
            f"each was drawn by its name, with a chance of {chance:.0%}"
        )
    splits = [
        "test" if pair.split == "test" else "val" if i in chosen else "train"
        for i, pair in enumerate(pairs)
    ]
    for split in ("train", "val"):
        if split not in splits:
            raise ValueError(f"no image is left for {split}: change --val")
    return splits, how


def _draw(stem: str) -> float:
    digest = hashlib.sha256(f"0:{stem}".encode()).digest()  # 0: as in the first versions
    return int.from_bytes(digest[:6], "big") / 2**48


def official_splits(pairs: list[Pair], above: str | None, directories: list[Path]) -> list[Pair]:
    """The pairs with the splits of their tree as `is_official`, if it has them.

    above: see `split_above`. That are directories train and val, or lists of such names, as VOC
    has them, in one of some directories. An image on none of the lists has the split None.
    """
    splits = {i: pair.split for i, pair in enumerate(pairs)}
    is_official = above is not None or {"train", "val"} <= {*splits.values()}
    for folder in [directory / name for directory in directories for name in LISTS]:
        lists = {split: folder / f"{split}.txt" for split in ("train", "val", "test")}
        lists = {split: path for split, path in lists.items() if path.is_file()}
        if not is_official and {"train", "val"} <= lists.keys():
            named = [(s, found) for s, path in lists.items() for _, found in _named(path, pairs)]
            splits = {i: split for split, found in named for i in found}
            is_official = {"train", "val"} <= {*splits.values()}
    if not is_official:
        return pairs
    return [pair._replace(split=splits.get(i), is_official=True) for i, pair in enumerate(pairs)]


def _named(path: Path, pairs: list[Pair]) -> list[tuple[str, set[int]]]:
    """Each line of a list of images, and the places of the pairs that it names.

    By the end of an image's path, also without suffix; further columns are passed over. Raises
    ValueError if the file is no list.
    """
    owners = defaultdict(set)
    for i, pair in enumerate(pairs):
        image = pair.image.absolute()
        for name in {image.name, image.stem, pair.stem}:
            parts = image.with_name(name).as_posix().split("/")
            for start in range(len(parts)):
                owners["/".join(parts[start:])].add(i)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        raise ValueError(
            f"{path} is neither a share, such as 0.2, nor a list of names ({error})"
        ) from error
    lines = [line.strip().replace("\\", "/").removeprefix("./") for line in lines]
    return [(line, owners[line] or owners[line.split()[0]]) for line in lines if line]

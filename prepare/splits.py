"""Which images are to train on and which to validate on."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prepare.pairs import Pair

SPLITS = {  # names of directories
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
LISTS = "{split}.txt", "ImageSets/Segmentation/{split}.txt", "splits/{split}.txt"


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
            beside = {SPLITS.get(path.name.lower()) for path in folder.parent.iterdir()}
            if {"train", "val"} <= beside:
                return split
    return None


def assign_splits(pairs: list["Pair"], val: str | None = None) -> tuple[list[str], str]:
    """The split of each pair, and how it was found.

    Args:
        pairs: at least two, unless their splits are official.
        val: the share of the images to validate on, or a text file that names them, a line each,
            by name or path. None: the official splits if the tree has them, else 0.2. These are
            directories `train` and `val`, or lists train.txt and val.txt, of the images.

    A share is drawn by a hash of each image's name alone, so that the image keeps its split when
    others are added; but of a dozen images or fewer, one may change so that each split has one.

    Raises ValueError for fewer than two pairs outside of `test`, for a `val` that cannot be used,
    and if it leaves a split empty.
    """
    given = [pair.split for pair in pairs]
    if val is None and any(pair.is_official for pair in pairs):
        return [split or "train" for split in given], "as the directories of the images say"
    number = len(pairs) - given.count("test")
    if number < 2:
        raise ValueError(
            f"at least two images with masks are needed outside of test, to train on and to "
            f"validate on, not {number}"
        )
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
        n = sum(is_val and s != "test" for s, is_val in zip(given, chosen, strict=True))
        how = (
            f"{n:,} of {number:,} to validate on, where each is drawn with a chance of {share:.0%}"
        )
    splits = ["val" if is_val else "train" for is_val in chosen]
    splits = ["test" if s == "test" else split for s, split in zip(given, splits, strict=True)]
    for split in ("train", "val"):
        if split not in splits:
            raise ValueError(f"no image is left for {split}: change --val")
    return splits, how


def _draw(stem: str) -> float:
    digest = hashlib.sha256(f"0:{stem}".encode()).digest()  # 0: as in the first versions
    return int.from_bytes(digest[:6], "big") / 2**48


def _named(pairs: list["Pair"], path: Path) -> list[bool]:
    """Whether a file names each pair's image: by stem, by name, or by the end of its path."""
    owners, chosen = _owners(pairs), set()
    for line in _read_lines(path):
        found = owners.get(line, set())
        if len(found) != 1:
            raise ValueError(
                f"{path} names {line}, which is {len(found) or 'none'} of the images: a line is "
                "the name of one, or its path below the directory of the images"
            )
        chosen |= found
    return [i in chosen for i in range(len(pairs))]


def listed_splits(pairs: list["Pair"], directories: list[Path]) -> list[str | None] | None:
    """The splits of lists train.txt and val.txt in a tree, such as VOC's; None if there are none.

    An image that is on none of them has the split None.
    """
    for folder in directories:
        for pattern in LISTS:
            lists = {s: folder / pattern.format(split=s) for s in ("train", "val", "test")}
            if not (lists["train"].is_file() and lists["val"].is_file()):
                continue
            owners, splits = _owners(pairs), {}
            for split, path in lists.items():
                for line in _read_lines(path) if path.is_file() else ():
                    for i in owners.get(line) or owners.get(line.split()[0], ()):
                        splits[i] = split
            if {"train", "val"} <= {*splits.values()}:
                return [splits.get(i) for i in range(len(pairs))]
    return None


def _owners(pairs: list["Pair"]) -> dict[str, set[int]]:
    """Each end of an image's path, with and without suffix -> the numbers of such pairs."""
    owners = {}
    for i, pair in enumerate(pairs):
        path = pair.image.absolute().as_posix()
        bare = path.removesuffix(pair.image.suffix)
        names = {pair.image.as_posix(), pair.stem, "/".join([*pair.folders, pair.stem])}
        for whole in (path, bare):
            names.add(whole)
            while "/" in whole:
                whole = whole.partition("/")[2]
                names.add(whole)
        for name in names:
            owners.setdefault(name, set()).add(i)
    return owners


def _read_lines(path: Path) -> list[str]:
    """The lines of a list of names, slashes forward. Raises ValueError if it is none."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        raise ValueError(
            f"{path} is neither a share, such as 0.2, nor a list of names ({error})"
        ) from error
    lines = [line.strip().replace("\\", "/").removeprefix("./") for line in lines]
    return [line for line in lines if line]

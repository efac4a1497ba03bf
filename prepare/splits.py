"""Which images are to train on and which to validate on."""

import hashlib
import unicodedata
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

SPLITS = {  # names of directories
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
OFFICIAL = {"train", "val"}
LISTS = "", "ImageSets/Segmentation", "splits"  # directories of train.txt and val.txt


class Pair(NamedTuple):
    """An image and its mask; `prepare.pairs` finds them."""

    image: Path
    mask: Path
    stem: str  # of the image's name
    folders: tuple[str, ...]  # from the directory of the images to the image
    hint: str | None = None  # what the mask's values are by its name, one of `meaning.LABELS`
    split: str | None = None  # `test`, or the official split


def nfc(text: object) -> str:
    """A name or path in the one of Unicode's forms in which names are compared."""
    return unicodedata.normalize("NFC", str(text))


def split_of(folders: tuple[str, ...]) -> str | None:
    """`train`, `val` or `test` if one of some directories has such a name."""
    return next((SPLITS[name.lower()] for name in folders if name.lower() in SPLITS), None)


def split_above(directory: Path) -> str | None:
    """The split that a directory belongs to, such as `training/images`; else None.

    There must be `train` and `val` side by side, which may be converted in two calls. A directory
    that only happens to be called `test` is no split.
    """
    for folder in [directory.resolve(), *directory.resolve().parents][:4]:
        if split := split_of((folder.name,)):
            if {split_of((path.name,)) for path in folder.parent.iterdir()} >= OFFICIAL:
                return split
    return None


def official_splits(
    pairs: list[Pair], above: str | None, directories: list[Path]
) -> tuple[list[Pair], list[str]]:
    """The pairs with their official splits, by directories or by lists as VOC has them; and notes.

    above: see `split_above`. directories: where the lists may be. Images that the lists leave out
    have no split. Without `train` and `val`, only `test` is kept.
    """
    if above or {pair.split for pair in pairs} >= OFFICIAL:
        return pairs, []
    kept, notes = {i: "test" for i, pair in enumerate(pairs) if pair.split == "test"}, []
    for folder in dict.fromkeys(directory / name for directory in directories for name in LISTS):
        lists = {split: folder / f"{split}.txt" for split in ("train", "val", "test")}
        lists = {split: path for split, path in lists.items() if path.is_file()}
        named = [(s, indices) for s, path in lists.items() for _, indices in _read(path, pairs)]
        splits = {i: split for split, indices in named for i in indices}
        if OFFICIAL <= {*splits.values()}:
            return [pair._replace(split=splits.get(i)) for i, pair in enumerate(pairs)], []
        kept |= {i: split for i, split in splits.items() if split == "test"}
        for split in lists.keys() - {*splits.values()}:
            notes.append(f"note: {lists[split]} names none of the images that have masks")
    return [pair._replace(split=kept.get(i)) for i, pair in enumerate(pairs)], notes


def assign_splits(
    pairs: list[Pair], val: str | None = None, is_added: bool = False
) -> tuple[list[str], str]:
    """The split of each pair, and how it was found.

    Args:
        pairs: at least two, unless their splits are official.
        val: the probability with which each image is drawn for validation, or a text file that
            names the images, a line each, by name or path. None: the official splits, else 0.2.
        is_added: all are of test, and the data set has images of train and val already.

    The draw is a hash of the image's path alone, so that an image keeps its split when others are
    added. Where there are a dozen images or fewer, one may change its split to fill an empty one.

    Raises ValueError for fewer than two pairs outside of `test`, for a `val` that cannot be used,
    and if it leaves a split empty.
    """
    if val is None and (is_added or any(pair.split in OFFICIAL for pair in pairs)):
        more = sum(pair.split is None for pair in pairs)
        note = f"; {more:,} images in none of them go to train" if more else ""
        return [pair.split or "train" for pair in pairs], "those of the data set" + note
    draws = {i: _draw(pair) for i, pair in enumerate(pairs) if pair.split != "test"}
    if len(draws) < 2:
        raise ValueError(
            f"at least two images with masks are needed outside of test, to train on and to "
            f"validate on, not {len(draws)}; convert those of test last"
        )
    try:
        probability = float("0.2" if val is None else val)
    except ValueError:
        chosen, how = _named(Path(val), pairs), f"{val} names the images to validate on"
    else:
        if not 0 < probability < 1:
            raise ValueError(f"--val {val}: a probability is between 0 and 1, such as 0.2")
        least = sorted({*draws.values()})
        limit = min(max(probability, least[:2][-1]), least[-1])  # so that no split is empty
        chosen = {i for i, draw in draws.items() if draw < limit}
        how = (
            f"{len(chosen):,} of {len(draws):,} to validate on, {len(chosen) / len(draws):.0%}: "
            f"each was drawn by its path, with a probability of {probability:.0%}"
        )
    splits = ["test" if pair.split == "test" else "train" for pair in pairs]
    for i in chosen & draws.keys():
        splits[i] = "val"
    for split in ("train", "val"):
        if split not in splits:
            raise ValueError(f"no image is left for {split}: change --val")
    return splits, how


def _draw(pair: Pair) -> float:
    path = "/".join([*pair.folders, pair.stem])
    name = f"0:{path}".encode(errors="surrogateescape")  # 0: as in the first versions
    digest = hashlib.sha256(name).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _named(path: Path, pairs: list[Pair]) -> set[int]:
    """The indices of the pairs that a list names. Raises ValueError unless a line names one."""
    named = _read(path, pairs)
    for line, indices in named:
        if len(indices) != 1:
            raise ValueError(
                f"{path} names {line}, which is {len(indices) or 'none'} of the images: a line is "
                "the name of one, or its path below the directory of the images"
            )
    return set().union(*(indices for _, indices in named))


def _read(path: Path, pairs: list[Pair]) -> list[tuple[str, set[int]]]:
    """Each line of a list of images, and the indices of the pairs that it names.

    A line is the end of an image's path, also without suffix; further columns are ignored. Raises
    ValueError if the file is no list.
    """
    owners = defaultdict(set)
    for i, pair in enumerate(pairs):
        image = Path(nfc(pair.image.absolute()))
        for name in {image.name, image.stem, nfc(pair.stem)}:
            parts = image.with_name(name).as_posix().split("/")
            for start in range(len(parts)):
                owners["/".join(parts[start:])].add(i)
    try:
        text = nfc(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeError) as error:
        raise ValueError(
            f"{path} is neither a probability, such as 0.2, nor a list of names ({error})"
        ) from error
    lines = [line.strip().replace("\\", "/").removeprefix("./") for line in text.splitlines()]
    return [(line, owners[line] or owners[line.split()[0]]) for line in lines if line]

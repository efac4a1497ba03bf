"""Cityscapes' directories: which images and labels of a split there are, and which other files.

    leftImg8bit/<split>/<city>/<stem>_leftImg8bit.png
    gtFine|gtCoarse/<split>/<city>/<stem>_gtFine|gtCoarse_labelIds.png

Files directly in a split's directory, without a city, are taken as well.
"""

import errno
import os
import shutil
import stat
import warnings
import zipfile
from pathlib import Path
from typing import NamedTuple

import torchvision

from data_io.walk import but, is_visible
from runtime.files import quoted

IMAGE = "_leftImg8bit.png"
SPLITS = {
    "fine": ("train", "val", "test", "trainval"),
    "coarse": ("train", "val", "trainval", "train_extra"),
}
CHECK = "`python -m prepare.cityscapes {}` says what is wrong and how to fix it"
OWN = "`python -m prepare.own --help` says how to convert other data"
OWN_RECORD = "own.json"  # of `prepare.own`, in the directory of the data set that it wrote
MOST_PACKED = 100  # times; Cityscapes' images are compressed already, its polygons to a tenth


class Listing(NamedTuple):
    """The files of a split's directory.

    Attributes:
        stems: "city/stem" of each file with the suffix that was asked for, or "stem".
        others: files of other names, but for hidden ones and those of the system.
    """

    stems: set[str]
    others: list[Path]


def paths_of(root: Path, split: str, name: str, kind: str = "gtFine") -> tuple[Path, Path]:
    """The files of an image, called "city/stem", and of its labels."""
    image = root / "leftImg8bit" / split / f"{name}{IMAGE}"
    return image, root / kind / split / f"{name}_{kind}_labelIds.png"


def name_of(root: Path, image: str | Path) -> str:
    """The name "split/city/stem" of an image file of a data set."""
    return Path(image).relative_to(root / "leftImg8bit").as_posix().removesuffix(IMAGE)


def list_split(directory: Path, suffix: str) -> Listing:
    """The files <city>/<stem><suffix> and <stem><suffix> in a directory, which need not exist.

    Only two levels are listed, so that links cannot loop. Raises OSError for a directory that
    cannot be opened, and for a link that leads nowhere.
    """
    listing = Listing(set(), [])
    try:
        names = sorted(filter(is_visible, os.listdir(directory)))
    except FileNotFoundError:
        names = []
    for name in names:
        inside = [Path(name)]
        if stat.S_ISDIR((directory / name).stat().st_mode):
            files = sorted(filter(is_visible, os.listdir(directory / name)))
            inside = [Path(name, file) for file in files]
        for path in inside:
            if path.name.endswith(suffix):
                listing.stems.add(path.as_posix().removesuffix(suffix))
            else:
                listing.others.append(directory / path)
    return listing


def find_pairs(root: Path, split: str, mode: str) -> list[tuple[str, str]]:
    """The paths of a split's images and of their labels, in the same order on every machine.

    Archives as downloaded are unpacked by torchvision where the directories are missing. Warns of
    what is left out: labels without an image, and files that are no images.

    Args:
        root: directory of the data set.
        split: one of `SPLITS`; `trainval` is both.
        mode: `fine` or `coarse` labels.

    Raises:
        FileNotFoundError: no such split, or an image without labels.
        OSError: a directory that cannot be opened.
        ValueError: an unknown split or mode, a split without images, a damaged archive.
    """
    if split not in SPLITS.get(mode, ()):
        choices = ", ".join(f"{mode}: {' '.join(splits)}" for mode, splits in SPLITS.items())
        raise ValueError(f"there is no split {split} with {mode} labels: choose among {choices}")
    if split == "trainval":
        return find_pairs(root, "train", mode) + find_pairs(root, "val", mode)
    own = any((root / name).exists() for name in (OWN_RECORD, "classes.yaml"))
    check = CHECK.format(quoted(root) + " --counts any" * own)
    kind = "gtFine" if mode == "fine" else "gtCoarse"
    of_images, of_labels = root / "leftImg8bit" / split, root / kind / split
    suffix = f"_{kind}_labelIds.png"
    if is_missing(of_images) or is_missing(of_labels):
        _unpack(root, split, mode, check)
    try:
        images, labels = list_split(of_images, IMAGE), list_split(of_labels, suffix)
    except OSError as error:
        closed = f"{error.filename} cannot be opened ({error.strerror}): {check}"
        raise OSError(closed) from error
    if not images.stems:
        raise ValueError(
            f"{of_images} holds no <city>/*{IMAGE}{but(images.others, _ending)}: {check}; {OWN}"
        )
    missing = sorted(images.stems - labels.stems)
    if missing:
        path = of_labels / f"{missing[0]}{suffix}"
        like = sorted(path.parent.glob(f"{Path(missing[0]).name}_{kind}_*.png"))
        raise FileNotFoundError(
            f"{len(missing)} of {len(images.stems)} images have no labels, the first {path}"
            f"{but(like, _ending)}: {check}; {OWN}"
        )
    lone = [of_labels / f"{stem}{suffix}" for stem in sorted(labels.stems - images.stems)]
    for files, what in ((lone, "labels have no image"), (images.others, "files are no images")):
        if files:
            message = f"{len(files)} {what} and are left out, the first {files[0]}: {check}"
            warnings.warn(message, stacklevel=3)
    return [tuple(map(str, paths_of(root, split, stem, kind))) for stem in sorted(images.stems)]


def is_missing(directory: Path) -> bool:
    """Whether there is no such directory, as opposed to one that cannot be opened."""
    try:
        os.listdir(directory)
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    return False


def archive(kind: str, split: str) -> str:
    """The archive that brings ROOT/kind/split; kind: leftImg8bit, gtFine or gtCoarse."""
    if kind == "leftImg8bit":
        return f"leftImg8bit_{'trainextra' if split == 'train_extra' else 'trainvaltest'}.zip"
    return "gtCoarse.zip" if kind == "gtCoarse" else "gtFine_trainvaltest.zip"


def unpacked_size(path: Path) -> int:
    """The bytes of an archive's files by its table of contents; no more of them are ever unpacked.

    Raises as `zipfile.ZipFile`, and ValueError for over `MOST_PACKED` times those of the archive.
    """
    with zipfile.ZipFile(path) as file:
        size = sum(each.file_size for each in file.infolist())
    packed = path.stat().st_size
    if size > MOST_PACKED * packed:
        raise ValueError(f"a decompression bomb: {packed:,} bytes would become {size:,}")
    return size


def _unpack(root: Path, split: str, mode: str, check: str) -> None:
    kind = "gtFine" if mode == "fine" else "gtCoarse"
    paths = [root / archive(each, split) for each in ("leftImg8bit", kind)]
    missing = f"{root} holds no {split} split with {mode} labels in Cityscapes' format"
    if not all(map(os.path.isfile, paths)):
        raise FileNotFoundError(f"{missing}: {check}; {OWN}")
    try:
        size, free = sum(map(unpacked_size, paths)), shutil.disk_usage(root).free
        if size > free:
            short = f"{size:,} bytes would be unpacked, {free:,} are free"
            raise OSError(errno.ENOSPC, short, root)
        torchvision.datasets.Cityscapes(root, split, mode, target_type="semantic")
    except FileNotFoundError as error:  # the archives hold other splits
        raise FileNotFoundError(f"{missing}: {check}; {OWN}") from error
    except NotADirectoryError:
        pass  # of files among the cities, `list_split` takes care
    except Exception as error:  # decompressors raise nearly anything
        if isinstance(error, OSError) and error.strerror:
            message = f"{error.filename} cannot be unpacked or opened ({error.strerror}): {check}"
            raise OSError(message) from error
        raise ValueError(f"an archive in {root} is damaged ({error}): {check}") from error


def _ending(path: Path) -> str:
    parts = path.name.split("_")  # <city>_<seq>_<frame>_<ending>
    return "_".join(["*", *parts[3:]]) if len(parts) > 3 else f"*{path.suffix}"

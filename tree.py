"""What is wrong with a directory in Cityscapes' format, in words, and how to mend it.

`dataset.Cityscapes` says this; `prepare/cityscapes.py` looks closer, at every picture.
"""

import os
import warnings
import zipfile
from pathlib import Path

import torchvision


def say_what_is_left_out(
    scenes: torchvision.datasets.Cityscapes, pairs: list[tuple[str, str]]
) -> None:
    """Warn of labels without an image, and of files beside the images that are none.

    Args:
        scenes: as torchvision found them, with all files in `images`.
        pairs: the images and labels that are used.
    """
    used = {path for pair in pairs for path in pair}
    labels = Path(scenes.targets_dir).glob(f"*/[!.]*_{scenes.mode}_labelIds.png")
    lone = sorted(path for path in map(str, labels) if path not in used)
    if lone:
        warnings.warn(
            f"{len(lone)} labels have no image and are left out, the first {lone[0]}: "
            f"unpack {Path(scenes.images_dir).parent} again if they should be used",
            stacklevel=4,
        )
    files = [path for path in scenes.images if not os.path.basename(path).startswith(".")]
    other = sorted(path for path in files if path not in used)
    if other:
        warnings.warn(
            f"{len(other)} files are no *_leftImg8bit.png and are left out, the first {other[0]}: "
            "rename them if they should be used",
            stacklevel=4,
        )


def closed(folder: str | Path) -> Path | None:
    """The outermost of `folder` and those that hold it that may not be entered."""
    chain = [*reversed(Path(folder).parents), Path(folder)]
    return next((p for p in chain if p.is_dir() and not os.access(p, os.R_OK | os.X_OK)), None)


def cannot_open(path: str | Path, why: str) -> str:
    """What to say of a directory that the system does not open, with its reason `why`."""
    return (
        f"{path} cannot be opened ({why}): get the permission to read it (`chmod -R u+rX`), or, "
        "if it is a link, let it lead to the data"
    )


def _archives(split: str, mode: str) -> dict[str, str]:
    """Directory -> the archive that brings it, for a split and its labels."""
    images = "trainextra" if split == "train_extra" else "trainvaltest"
    labels = (
        {"gtFine": "gtFine_trainvaltest.zip"} if mode == "fine" else {"gtCoarse": "gtCoarse.zip"}
    )
    return {"leftImg8bit": f"leftImg8bit_{images}.zip", **labels}


def damaged_archive(root: Path, split: str, mode: str, error: Exception) -> str:
    """What to say where torchvision unpacked the archives of a split and met `error`."""
    paths = [root / name for name in _archives(split, mode).values()]
    bad = [path for path in paths if not zipfile.is_zipfile(path)] or paths
    return (
        f"{' or '.join(map(str, bad))} is damaged or half downloaded ({error}): download it again "
        f"(`wget -c` completes it); `python prepare/cityscapes.py {root}` checks the result"
    )


def what_is_missing(root: Path, split: str, mode: str) -> str:
    """What to say where a split's directories are not found, nor archives that bring them."""
    archives = _archives(split, mode)
    if folder := next(filter(None, (closed(root / name / split) for name in archives)), None):
        return cannot_open(folder, "Permission denied")
    lacking = [f"{name}/{split}" for name in archives if not (root / name / split).is_dir()]
    zips = [zip for zip in archives.values() if not (root / zip).is_file()]
    return (
        f"{root} lacks {' and '.join(lacking)}: prepare the data set again, or, for Cityscapes, "
        f"put {' and '.join(zips)} there"
    )

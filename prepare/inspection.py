"""What is wrong with the images and labels of a split, each file read to its end."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from data_io.image_io import image_size, read_grey, read_image
from data_io.layout import OWN_RECORD, paths_of
from dataset import are_train_ids
from prepare.meaning import absent_class
from runtime.console import in_threads
from utils import CITYSCAPES, Classes

TRAIN_ID_LABELS = 10  # so many labels without an id above 18 (vegetation, sky, car) are no chance
MOSTLY = 0.8  # of the pixels: if fewer are labelled, it is worth a note
NO_CLASS = "splits in which no pixel is of a class"
TRAIN_IDS = "labels that look like train ids (labelTrainIds saved as labelIds?)"


class Fault(NamedTuple):
    headline: str  # faults of one headline are reported together
    path: Path
    detail: str


def inspect(
    image: Path, label: Path | None, decode: bool, classes: Classes
) -> tuple[tuple[int, int] | None, Tensor | None, list[Fault]]:
    """Read an image, or only its header, and its labels if there are any.

    Returns height and width of the image, or None; the labels' pixels of each id, (256,) int64, or
    None; and the faults.
    """
    size, pixels, faults = None, None, []
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
            pixels = torch.bincount(labels.flatten(), minlength=256)
            unknown = (pixels > 0) & ~classes.known_ids
            if unknown.any():
                detail = " ".join(map(str, unknown.nonzero().flatten().tolist()))
                faults.append(Fault("labels with ids outside 0..33", label, detail))
            elif classes == CITYSCAPES and pixels[255] and are_train_ids(pixels > 0):
                faults.append(Fault(TRAIN_IDS, label, "255, and else nothing above 18"))
            if size and size != tuple(labels.shape):
                detail = f"{size_text(labels.shape)}, the image is {size_text(size)}"
                faults.append(Fault("labels of another size than their image", label, detail))
    return size, pixels, faults


def _unreadable(headline: str, path: Path, error: Exception) -> Fault:
    return Fault(headline, path, str(error).removeprefix(f"{path} "))


def size_text(size: tuple[int, int]) -> str:
    """Height and width as "width x height"."""
    return f"{size[1]}x{size[0]}"


def inspect_all(
    root: Path, kind: str, split: str, stems: list[str], labelled: bool, classes: Classes
) -> tuple[dict[Path, tuple[int, int]], list[Fault], list[str]]:
    """`inspect` all images of a split, and their labels if `labelled`.

    Returns height and width of each image that can be read, the faults of files and of the whole
    split, and notes: how much is labelled if much is not, a question about the list of classes.
    """
    decode = kind == "gtFine" or split == "train_extra"  # the others are decoded with gtFine
    files = [paths_of(root, split, stem, kind) for stem in stems]
    files = files if labelled else [(image, None) for image, _ in files]
    results = in_threads(lambda pair: inspect(*pair, decode, classes), files, f"{kind}/{split}")
    sizes = {image: size for (image, _), (size, _, _) in zip(files, results, strict=True) if size}
    faults = [fault for _, _, found in results for fault in found]
    pixels = [counts for _, counts, _ in results if counts is not None]
    if split == "test" or not pixels:  # test labels are dummies
        return sizes, faults, []
    notes, directory, counts = [], root / kind / split, torch.stack(pixels).sum(0)
    converted = (root / OWN_RECORD).exists()  # whose labels are ids, whatever they look like
    labelled_part = counts[list(classes.ids)].sum() / counts.sum()
    many = classes == CITYSCAPES and len(pixels) >= TRAIN_ID_LABELS
    if not labelled_part:
        values = " ".join(map(str, counts.nonzero().flatten().tolist()))
        faults.append(Fault(NO_CLASS, directory, f"the labels hold only {values}"))
    elif many and not converted and are_train_ids(counts > 0):
        faults.append(Fault(TRAIN_IDS, directory, f"no id above 18 in {len(pixels)} labels"))
    if labelled_part < MOSTLY:
        notes.append(f"{labelled_part:.1%} of the pixels are labelled, the others are ignored")
    by_id = Counter(dict(enumerate(counts.tolist())))
    if classes != CITYSCAPES and not converted and (question := absent_class(by_id, classes)):
        notes.append(f"{question}? If so, correct {root / 'classes.yaml'}")
    return sizes, faults, notes

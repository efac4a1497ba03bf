"""Predictions as the Cityscapes benchmark takes them.

For every image of a split one <city>_<seq>_<frame>_pred.png of the same size: a byte per pixel,
Cityscapes' label ids (7 road .. 33 bicycle). cityscapes-dataset.com takes a zip of them; on
Cityscapes, `csEvalPixelLevelSemanticLabeling` (cityscapesscripts) evaluates the directory.
"""

import re
import zipfile
from pathlib import Path

from data_io.image_io import encode
from data_io.layout import IMAGE, list_split
from dataset import find_root
from inference import inference_net, predict
from model import UNet
from runtime.console import progress_bar
from runtime.files import atomic_file, atomic_write
from utils import CITYSCAPES

SUFFIX = "_pred.png"


def write_submission(
    model: UNet,
    data_root: str | Path,
    split: str,
    out: str | Path,
    pack: bool = False,
    tta: bool = False,
    precision: str = "auto",
) -> Path:
    """Predict every image of a split into the directory `out`, with a progress bar.

    Predictions that are in `out` already are removed first, so that those of two models never
    mix, but not before all that can be checked is. No labels are needed.

    Args:
        model: as `load_model` returns it, on the device that is to compute.
        data_root, split: the data set, and its split, `test` too.
        pack: also zip them into `<out>.zip`, atomically.
        tta, precision: as in `inference.predict`.

    Returns what to hand in: the zip, or `out`. Raises FileNotFoundError for a split without images,
    ValueError for an image that cannot be read or whose name the benchmark would not know, for a
    model of other classes, or as `pick_precision`.
    """
    classes = model.classes
    if not classes or not classes.are_cityscapes:
        raise ValueError(
            f"the benchmark has the {len(CITYSCAPES)} classes of Cityscapes, this model has "
            f"{model.settings['num_classes']} of its own: take one that was trained on Cityscapes"
        )
    inference_net(model, precision)  # raises for a precision that the device lacks
    images = list_images(data_root, split)
    names = submission_names(images)
    out = Path(out)
    archive = Path(f"{out}.zip")  # of "runs/sub/", too
    out.mkdir(parents=True, exist_ok=True)
    for path in (archive, *out.glob("*" + SUFFIX)):
        path.unlink(missing_ok=True)
    with progress_bar(len(images), f"predict {split}") as bar:
        for image, name in zip(images, names, strict=True):
            labels = predict(model, image, tta=tta, precision=precision)
            atomic_write(out / name, encode(classes.label_ids[labels.int()].numpy()))
            bar.update()
    if not pack:
        return out
    with atomic_file(archive) as packed, zipfile.ZipFile(packed, "w") as file:
        for name in names:  # PNGs are compressed already
            file.write(out / name, name)
    return archive


def list_images(root: str | Path, split: str) -> list[Path]:
    """The images of a split, whose labels the benchmark keeps secret for `test`.

    Raises FileNotFoundError if `root` has none, or one is a broken link; as `list_split`.
    """
    folder = find_root(root) / "leftImg8bit" / split
    listing = list_split(folder, IMAGE)
    images = [folder / f"{stem}{IMAGE}" for stem in sorted(listing.stems)]
    if not images:
        raise FileNotFoundError(
            f"{folder} holds no <city>/*{IMAGE}: choose another split, prepare the data set "
            "again, or, for Cityscapes, unpack leftImg8bit_trainvaltest.zip"
        )
    if missing := [image for image in images if not image.is_file()]:
        raise FileNotFoundError(f"{missing[0]} is a broken link, or no file: mend or remove it")
    return images


def submission_names(images: list[Path]) -> list[str]:
    """<city>_<seq>_<frame>_pred.png of each image; raises ValueError for other names, or twice."""
    names = {}  # in their order, and quick to look up
    for image in images:
        found = re.fullmatch(r"([^_]+_[^_]+_[^_]+)_leftImg8bit\.png", image.name)
        if found is None or found[1] + SUFFIX in names:
            raise ValueError(
                f"{image}: the benchmark knows an image by a <city>_<seq>_<frame>_leftImg8bit.png "
                "of its own: rename it"
            )
        names[found[1] + SUFFIX] = image
    return list(names)

"""Predictions as the Cityscapes benchmark takes them.

For every image of a split one <city>_<seq>_<frame>_pred.png of the same size: a byte per pixel,
Cityscapes' label ids (7 road .. 33 bicycle). cityscapes-dataset.com takes a zip of them; on
Cityscapes, `csEvalPixelLevelSemanticLabeling` (cityscapesscripts) evaluates the directory.
"""

import re
import zipfile
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from data_io.image_io import encode, read_image
from data_io.layout import IMAGE, list_split
from dataset import downscale, find_root
from engine.loaders import make_loader
from engine.loop import device_of, evaluate
from model import UNet
from runtime.files import atomic_file, atomic_write
from utils import CITYSCAPES, IGNORE_INDEX

SUFFIX = "_pred.png"


class UnlabelledImages(Dataset):
    """The images of a split without their labels, which the benchmark keeps secret for `test`.

    An item is an image (3, H // factor, W // factor) uint8 RGB and, in place of its labels,
    (H, W) uint8 of `IGNORE_INDEX`, of its original size.

    Raises FileNotFoundError if `root` has no such images; of an item, as `read_image`.
    """

    seed, classes = None, CITYSCAPES

    def __init__(self, root: str | Path, split: str, factor: int):
        folder = find_root(root) / "leftImg8bit" / split
        listing = list_split(folder, IMAGE)
        self.images = [f"{folder / stem}{IMAGE}" for stem in sorted(listing.stems)]
        if not self.images:
            raise FileNotFoundError(
                f"{folder} holds no <city>/*{IMAGE}: choose another split, prepare the data set "
                "again, or, for Cityscapes, unpack leftImg8bit_trainvaltest.zip"
            )
        self.factor = factor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = read_image(self.images[index])
        nothing = torch.full(image.shape[1:], IGNORE_INDEX, dtype=torch.uint8)
        return downscale(image, self.factor), nothing


def write_submission(
    model: UNet,
    data_root: str | Path,
    split: str,
    out: str | Path,
    pack: bool = False,
    batch_size: int = 1,
    workers: int = 0,
    tta: bool = False,
    precision: str = "auto",
) -> Path:
    """Predict every image of a split into the directory `out`, by way of `engine.evaluate`.

    Predictions that are in `out` already are removed first, so that those of two models never
    mix. No labels are needed.

    Args:
        model: as `load_model` returns it, on the device that is to compute.
        data_root, split: the data set, and its split, `test` too.
        pack: also zip them into `<out>.zip`, atomically.
        batch_size: rounding depends on it: a pixel in a million may differ between two.
        workers: processes that decode ahead.
        tta, precision: as in `inference.predict`.

    Returns what to hand in: the zip, or `out`. Raises FileNotFoundError for a split without images,
    ValueError for an image that cannot be read or whose name the benchmark would not know, or for
    a model of other classes.
    """
    if model.classes is None or model.classes.ids != CITYSCAPES.ids:
        raise ValueError(
            f"the benchmark has the {len(CITYSCAPES)} classes of Cityscapes, this model has "
            f"{model.settings['num_classes']} of its own: take one that was trained on Cityscapes"
        )
    images = UnlabelledImages(data_root, split, model.downscale)
    names = submission_names(images.images)
    out = Path(out)
    archive = Path(f"{out}.zip")  # of "runs/sub/", too
    out.mkdir(parents=True, exist_ok=True)
    for path in (archive, *out.glob("*" + SUFFIX)):
        path.unlink(missing_ok=True)

    paths = iter(out / name for name in names)

    def save(train_ids: Tensor, _: Tensor) -> None:  # (H, W) uint8
        ids = model.classes.label_ids[train_ids.int()]
        atomic_write(next(paths), encode(ids.numpy()))

    loader = make_loader(images, batch_size, False, workers, device_of(model))
    options = {"precision": precision, "tta": tta, "description": f"predict {split}"}
    evaluate(model, loader, on_prediction=save, **options)
    if not pack:
        return out
    with atomic_file(archive) as packed, zipfile.ZipFile(packed, "w") as file:
        for name in names:  # PNGs are compressed already
            file.write(out / name, name)
    return archive


def submission_names(images: list[str]) -> list[str]:
    """<city>_<seq>_<frame>_pred.png of each image; raises ValueError for other names, or twice."""
    names = {}  # in their order, and quick to look up
    for image in images:
        found = re.fullmatch(r"([^_]+_[^_]+_[^_]+)_leftImg8bit\.png", Path(image).name)
        if found is None or found[1] + SUFFIX in names:
            raise ValueError(
                f"{image}: the benchmark knows an image by a <city>_<seq>_<frame>_leftImg8bit.png "
                "of its own: rename it"
            )
        names[found[1] + SUFFIX] = image
    return list(names)

"""Write predictions as the Cityscapes benchmark takes them.

    python export.py checkpoints/streets.pt data/streets --out runs/val
    python export.py runs/cityscapes/best.pt '$CITYSCAPES_DATASET' --split test --out test --zip

For every picture of the split one <city>_<seq>_<frame>_pred.png of the same size: a byte per
pixel, Cityscapes' label ids (7 road .. 33 bicycle). cityscapes-dataset.com takes the zip; on
Cityscapes, `csEvalPixelLevelSemanticLabeling` (cityscapesscripts) judges the directory.
"""

import argparse
import io
import re
import sys
import zipfile
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.io import encode_png

from checkpoint import write
from dataset import find_root, make_loader
from engine import evaluate, pick_device
from model import UNet, load_model
from pictures import read_picture
from utils import IGNORE_INDEX, LABEL_IDS, downscale

SUFFIX = "_pred.png"


class Pictures(Dataset):
    """The pictures of a split without their labels, which the benchmark keeps back of `test`.

    An item is a picture (3, H // factor, W // factor) uint8 RGB and, in place of its labels,
    (H, W) uint8, all of it `IGNORE_INDEX`: of its original size, and nothing in it is scored.

    Raises FileNotFoundError if `root` has no such pictures; of an item, as `read_picture`.
    """

    seed = None

    def __init__(self, root: str | Path, split: str, factor: int):
        folder = find_root(root) / "leftImg8bit" / split
        found = folder.glob("*/*_leftImg8bit.png")
        self.images = sorted(str(path) for path in found if not path.name.startswith("."))
        if not self.images:
            raise FileNotFoundError(
                f"{folder} holds no <city>/*_leftImg8bit.png: choose another split, prepare the "
                "data set again, or, for Cityscapes, unpack leftImg8bit_trainvaltest.zip"
            )
        self.factor = factor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = read_picture(self.images[index])
        nothing = torch.full(image.shape[1:], IGNORE_INDEX, dtype=torch.uint8)
        return downscale(image, self.factor) if self.factor > 1 else image, nothing


def export_predictions(
    model: UNet,
    data_root: str | Path,
    split: str,
    out: str | Path,
    pack: bool = False,
    batch_size: int = 1,
    workers: int = 0,
) -> Path:
    """Predict every picture of a split into the directory `out`, by way of `engine.evaluate`.

    Predictions that are in `out` already are removed first, so that those of two models never
    mix. No labels are needed.

    Args:
        model: as `load_model` gives it, on the device that is to compute.
        data_root: directory of the data set.
        split: of the data set, `test` too.
        out: made if need be.
        pack: zip them, too, into `<out>.zip`, whole or not at all.
        batch_size: more than 1 needs pictures of one size. Rounding depends on it: a pixel in a
            million may differ from those of an evaluation in other batches.
        workers: processes that decode ahead.

    Returns what to hand in: the zip, or `out`.

    Raises:
        FileNotFoundError: no such pictures.
        ValueError: a picture that cannot be read or whose name the benchmark would not know, or a
            model of other classes.
    """
    classes = model.settings["num_classes"]
    if classes != len(LABEL_IDS):
        raise ValueError(f"the benchmark has {len(LABEL_IDS)} classes, this model {classes}")
    pictures = Pictures(data_root, split, model.downscale)
    names = result_names(pictures.images)
    out = Path(out)
    archive = Path(f"{out}.zip")
    out.mkdir(parents=True, exist_ok=True)
    for path in (archive, *out.glob("*" + SUFFIX)):
        path.unlink(missing_ok=True)

    places = iter(names)

    def keep(train_ids: Tensor) -> None:  # (H, W) uint8
        png = encode_png(LABEL_IDS[train_ids.int()].unsqueeze(0))
        write(out / next(places), png.numpy().tobytes())

    loader = make_loader(pictures, batch_size, train=False, workers=workers)
    device = next(model.parameters()).device
    evaluate(model, loader, device, description=f"export {split}", keep=keep)
    if not pack:
        return out
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as file:  # PNGs are compressed already
        for name in names:
            file.write(out / name, name)
    write(archive, packed.getvalue())
    return archive


def result_names(images: list[str]) -> list[str]:
    """<city>_<seq>_<frame>_pred.png of each picture, by which the benchmark knows it.

    Raises ValueError for a picture of another name, and for two of the same.
    """
    names = {}
    for image in images:
        found = re.fullmatch(r"([^_]+_[^_]+_[^_]+)_leftImg8bit\.png", Path(image).name)
        if found is None:
            raise ValueError(
                f"{image}: the benchmark knows pictures by <city>_<seq>_<frame>_leftImg8bit.png, "
                "rename it"
            )
        name = found[1] + SUFFIX
        if name in names:
            raise ValueError(f"{image} and {names[name]} share a name: rename one")
        names[name] = image
    return list(names)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, help="such as runs/cityscapes/best.pt")
    parser.add_argument("data_root", help="directory of the data set")
    parser.add_argument("--split", default="val", help="val, test or another of it (default: val)")
    parser.add_argument("--out", type=Path, required=True, help="directory for the predictions")
    parser.add_argument("--zip", action="store_true", help="pack them into OUT.zip, too")
    parser.add_argument("--batch_size", type=int, default=1, help="pictures at once (default: 1)")
    parser.add_argument("--workers", type=int, default=2, help="loader processes (default: 2)")
    args = parser.parse_args()
    try:
        model = load_model(args.checkpoint, pick_device())
        done = export_predictions(
            model, args.data_root, args.split, args.out, args.zip, args.batch_size, args.workers
        )
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(f"stopped: {args.out} lacks predictions, repeat the command")
    print(f"{len(list(args.out.glob('*' + SUFFIX)))} predictions: {done}")


if __name__ == "__main__":
    main()

"""What `fuzz` damages: whole files of each kind, who reads them, and what may be raised."""

import hashlib
import io
import json
import os
import random
import tempfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from data_io.cache import Cache
from data_io.image_io import image_size, read_image
from dataset import Cityscapes, read_labels
from engine import Recipe
from inference import load_model, predict
from model import UNet
from prepare import cityscapes, class_lists, decisions, masks, splits
from runtime.checkpoint import CHECKSUM_SIZE, _checksum, load_last, save_checkpoint
from runtime.machine import ROOT
from tests.samples import turned
from tests.stress.mutations import damage, edit, mend_png, replace
from utils import CITYSCAPES, Classes

NOISE = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
IDS = NOISE[..., 0] % 34
FRAME = "a/a_000000_000000"  # of the data sets: city/city_sequence_frame
MISSING = FileNotFoundError, ValueError
UNREADABLE = FileNotFoundError, OSError, ValueError


class Kind(NamedTuple):
    name: str  # that the file gets
    whole: list[bytes]  # the files that are damaged
    readers: list[tuple[Callable[[Path], object], tuple]]  # and what their docstrings may raise
    sealed: bool = False  # by checksums: a reader gives what the file held before, or refuses
    change: Callable = damage  # damages a file, see mutations.py
    mend: Callable[[bytes], bytes] = bytes  # gives a damaged file the right checksums again

    def damaged(self, seed: str) -> bytes:
        chance = random.Random(seed)
        return self.mend(self.change(chance.choice(self.whole), self.whole, chance))


def save(pixels: np.ndarray, form: str, mode: str | None = None, **options) -> bytes:
    data = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(data, form, **options)
    return data.getvalue()


ROTATED = turned(8)
ROTATED[0x010F] = "maker"
FORMS = "BMP DDS GIF ICO IM JPEG JPEG2000 PCX PPM QOI SGI TGA TIFF WEBP AVIF".split()
PNG = [
    *(save(NOISE, "png", mode) for mode in (None, "L", "P", "1", "RGBA")),
    save(NOISE, "png", exif=turned()),
    save(NOISE, "png", compress_level=0),
]
OTHER = [
    *(save(NOISE, form) for form in FORMS if form in Image.SAVE),  # AVIF and others are optional
    *(save(NOISE, form, "P") for form in ("BMP", "GIF", "TIFF", "TGA")),
    *(save(NOISE, "TIFF", compression=how) for how in ("tiff_lzw", "jpeg", "packbits")),
    save(NOISE, "JPEG", progressive=True, exif=ROTATED),
    save(NOISE, "WEBP", lossless=True),
    save(NOISE, "GIF", save_all=True, append_images=[Image.fromarray(NOISE[::-1])]),
    *(save(NOISE, "MPO"), save(NOISE, "JPEG", "CMYK")),
    *PNG,
]
GREY = [save(IDS, "png"), save(IDS, "png", compress_level=0), save(IDS * 0 + 7, "png")]
MASKS = [*PNG[:4], *GREY, save(IDS.astype(np.uint16), "png"), save(IDS % 12, "png")]


def pixels(read: Callable, path: Path) -> object:
    found = np.ascontiguousarray(read(path))
    return found.shape, found.dtype, hashlib.sha256(found.data).hexdigest()


FORMS_OF_MASKS = masks.Form(colors=False), masks.Form(colors=True)
IMAGE = [(partial(pixels, read_image), MISSING), (image_size, ())]
MASK = [
    *((partial(pixels, partial(masks.read_values, form=form)), MISSING) for form in FORMS_OF_MASKS),
    (masks.palette_of, MISSING),
]


def check_classes(path: Path) -> object:
    """The tables of a list of classes, which every use of it needs."""
    classes, _ = class_lists.read_class_list(path)
    tables = classes.palette, classes.train_ids, classes.label_ids, classes.known_ids
    return classes, [table.tolist() for table in tables]


def assign(path: Path) -> object:
    images = [splits.Pair(Path(f"{name}.png"), Path("m.png"), name, (), None) for name in "abcd"]
    return splits.assign_splits(images, str(path))


def checkpoint(sealed: bool, seed: int = 0) -> bytes:
    torch.manual_seed(seed)
    model = UNet(width=1, depth=1)
    model.classes = CITYSCAPES
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.pt"
        recipe = Recipe(width=1, depth=1, data_root="x")
        save_checkpoint(path, model, recipe, [{"epoch": 1, "mIoU": 0.5}])
        if not sealed:
            torch.save(torch.load(path, weights_only=True), path)
        return path.read_bytes()


def seal(content: bytes) -> bytes:
    """With the checksum of the damaged content."""
    content = content[:-CHECKSUM_SIZE]
    return content + _checksum(content)


def use_model(path: Path) -> object:
    model = load_model(path)
    weights = [value.numpy().tobytes() for value in model.state_dict().values()]
    labels = predict(model, torch.zeros(3, 9, 7, dtype=torch.uint8))
    return model.settings, model.classes, model.downscale, weights, labels.tolist()


CHECKPOINT = [(use_model, UNREADABLE)]


def state(path: Path) -> object:
    """What a run goes on from whose `last.pt` is damaged and whose `previous.pt` is whole."""
    path.with_name("previous.pt").write_bytes(SEALED[1])
    found = load_last(path.parent)
    return found["history"], found["recipe"], [w.tolist() for w in found["model"].values()]


def archive(kind: str, content: bytes, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    data = io.BytesIO()
    ending = "leftImg8bit" if kind == "leftImg8bit" else f"{kind}_labelIds"
    with zipfile.ZipFile(data, "w", compression) as file:
        for split in ("train", "val"):
            info = zipfile.ZipInfo(f"{kind}/{split}/{FRAME}_{ending}.png")
            info.compress_type = compression
            file.writestr(info, content)
        file.writestr(zipfile.ZipInfo("README"), "x" * 40)
    return data.getvalue()


def unpack(path: Path) -> object:
    """The first labels of a data set that is unpacked from a damaged archive."""
    images = archive("leftImg8bit", PNG[0])
    path.with_name("leftImg8bit_trainvaltest.zip").write_bytes(images)
    _, labels = Cityscapes(path.parent, "train")[0]
    return labels.tolist()


PAIR = np.moveaxis(NOISE, 2, 0)[:, :8, :4].copy(), IDS[:8, :4].copy()


def read_small_cache(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The one item of a cache, whose sources lie beside its file."""
    sources = folder / "image", folder / "labels"
    for path in sources:
        path.touch()
        os.utime(path, (1, 1))
    cache = Cache(folder, "1/1")
    cache.path = lambda _: folder / "item.cache"
    return cache.read(tuple(map(str, sources)), lambda: PAIR)


def cached() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        read_small_cache(Path(folder))
        return [Path(folder, "item.cache").read_bytes()]


def read_cached(path: Path) -> object:
    return [(part.shape, part.tobytes()) for part in read_small_cache(path.parent)]


OWN = Classes(("a", "b"), (1, 2), ((1, 2, 3), (4, 5, 6)))
TABLES = [class_lists.as_yaml(classes, {}).encode() for classes in (OWN, CITYSCAPES)]
COLORS = [b"128 64 128 road\n0 0 0 void\n# x\n70 70 70 a b\n", b"1 2 3 x\n"]
RECORDS = []
for labels, count in (("ids", 34), ("colors", 2)):
    form = masks.Form(colors=labels == "colors")._asdict()
    record = {"labels": labels, "ids": {str(i): i for i in range(count)}, "form": form}
    RECORDS.append(json.dumps(record).encode())
METHODS = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA
ZIPS = {method: archive("gtFine", GREY[1], method) for method in METHODS}
BAD = (ValueError,)
CLASSES = [(check_classes, BAD)]
RECORD = [(lambda path: decisions.read_record(path.parent), BAD)]
OTHER_MASK = [*MASK, (lambda path: masks.are_colored([path]), ())]
ARCHIVE = [
    (unpack, UNREADABLE),
    (lambda path: cityscapes.zip_state(path, read_all=True) == "complete" or None, ()),
]
RECIPES = [path.read_bytes() for path in sorted((ROOT / "recipes").glob("*.yaml"))]
SEALED = [checkpoint(True), checkpoint(True, seed=1)]
PLAIN = [checkpoint(False), checkpoint(False, seed=1)]  # as older versions wrote them
KINDS = {
    "PNG images": Kind("a.png", PNG, IMAGE, sealed=True),
    "other images": Kind("a.jpg", OTHER, IMAGE, mend=mend_png),
    "labels": Kind("a.png", GREY, [(partial(pixels, read_labels), MISSING)], sealed=True),
    "masks": Kind("a.png", MASKS, MASK, sealed=True),
    "other masks": Kind("a.tif", OTHER + MASKS, OTHER_MASK, mend=mend_png),
    "recipes": Kind("recipe.yaml", RECIPES, [(Recipe.from_file, BAD)], change=edit),
    "class tables": Kind("classes.yaml", TABLES, CLASSES, change=edit),
    "lists of colours": Kind("colors.txt", COLORS, CLASSES, change=edit),
    "records of prepare.own": Kind("own.json", RECORDS, RECORD, change=edit),
    "lists of names": Kind("val.txt", [b"a\nb\n", b"c.png\n"], [(assign, BAD)]),
    "checkpoints": Kind("a.pt", SEALED, CHECKPOINT, sealed=True),
    "checkpoints without a checksum": Kind("a.pt", PLAIN, CHECKPOINT),
    "checkpoints with a new checksum": Kind("a.pt", SEALED, CHECKPOINT, mend=seal),
    "checkpoints of other content": Kind("a.pt", PLAIN, CHECKPOINT, change=replace),
    "runs": Kind("last.pt", SEALED, [(state, ())], sealed=True),
    "archives": Kind("gtFine_trainvaltest.zip", [*ZIPS.values()], ARCHIVE, sealed=True),
    "cache": Kind("item.cache", cached(), [(read_cached, ())], sealed=True),
}

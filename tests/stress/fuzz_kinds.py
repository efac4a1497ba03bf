"""What `fuzz` damages: whole files of each kind, who reads them, and what may be raised."""

import hashlib
import io
import json
import os
import random
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import prepare.camvid
from data_io.cache import Cache
from data_io.image_io import image_size, read_image
from dataset import Cityscapes, read_labels
from engine import Recipe
from inference import load_model, predict
from model import UNet
from prepare import class_lists, masks
from prepare.archives import zip_state
from prepare.pairs import Pair
from prepare.record import read_record
from prepare.splits import assign_splits
from runtime.checkpoint import CHECKSUM_SIZE, _checksum, load_last, save_checkpoint
from runtime.machine import ROOT
from tests.stress.mutations import damage, edit, mend_png, replace
from utils import CITYSCAPES, Classes

NOISE = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
IDS = NOISE[..., 0] % 34
FRAME = "a/a_000000_000000"  # of the data sets: city/city_sequence_frame


MISSING = FileNotFoundError, ValueError
UNREADABLE = FileNotFoundError, OSError, ValueError


@dataclass
class Kind:
    """A kind of files.

    Args:
        name: that the file gets.
        make: makes the files that are damaged.
        readers: each a function of the file's path, and the exceptions that its docstring names.
        sealed: the files have checksums, so that a reader gives what it held before, or refuses.
        change: damages a file, see `mutations.damage`.
        mend: called with the damaged file, to give it the right checksums again.
    """

    name: str
    make: Callable[[], list[bytes]]
    readers: list[tuple[Callable[[Path], object], tuple]]
    sealed: bool = False
    change: Callable = damage
    mend: Callable[[bytes], bytes] = bytes

    @cached_property
    def whole(self) -> list[bytes]:
        return self.make()

    def damaged(self, seed: str) -> bytes:
        chance = random.Random(seed)
        return self.mend(self.change(chance.choice(self.whole), self.whole, chance))


# Images


def save(pixels: np.ndarray, form: str, mode: str | None = None, **options) -> bytes:
    data = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(data, form, **options)
    return data.getvalue()


def png_images() -> list[bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    modes = [save(NOISE, "png", mode) for mode in (None, "L", "P", "1", "RGBA")]
    return [*modes, save(NOISE, "png", exif=exif), save(NOISE, "png", compress_level=0)]


def other_images() -> list[bytes]:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 8, "maker"
    forms = "BMP DDS GIF ICO IM JPEG JPEG2000 PCX PPM QOI SGI TGA TIFF WEBP AVIF".split()
    forms = [form for form in forms if form in Image.SAVE]  # AVIF and others are optional
    found = [save(NOISE, form) for form in forms]
    found += [save(NOISE, form, "P") for form in ("BMP", "GIF", "TIFF", "TGA")]
    found += [save(NOISE, "TIFF", compression=how) for how in ("tiff_lzw", "jpeg", "packbits")]
    found += [save(NOISE, "JPEG", progressive=True, exif=exif), save(NOISE, "WEBP", lossless=True)]
    found += [save(NOISE, "GIF", save_all=True, append_images=[Image.fromarray(NOISE[::-1])])]
    return [*found, save(NOISE, "MPO"), save(NOISE, "JPEG", "CMYK"), *png_images()]


def grey_images() -> list[bytes]:
    return [save(IDS, "png"), save(IDS, "png", compress_level=0), save(IDS * 0 + 7, "png")]


def mask_images() -> list[bytes]:
    wide = IDS.astype(np.uint16)
    return [*png_images()[:4], *grey_images(), save(wide, "png"), save(IDS % 12, "png")]


def mend_some(content: bytes) -> bytes:
    return mend_png(content) if content.startswith(b"\x89PNG") else content


def pixels(read: Callable, path: Path) -> object:
    found = np.ascontiguousarray(read(path))
    return found.shape, found.dtype, hashlib.sha256(found.data).hexdigest()


def read_mask(colors: bool) -> Callable:
    return partial(pixels, partial(masks.read_values, form=masks.Form(colors=colors)))


IMAGE = [(partial(pixels, read_image), MISSING), (image_size, ())]
MASK = [
    (read_mask(colors=False), MISSING),
    (read_mask(colors=True), MISSING),
    (masks.palette_of, MISSING),
    (partial(pixels, prepare.camvid.read_labels), MISSING),
]


# Texts


def recipes() -> list[bytes]:
    return [path.read_bytes() for path in sorted((ROOT / "recipes").glob("*.yaml"))]


def class_tables() -> list[bytes]:
    own = Classes(("a", "b"), (1, 2), ((1, 2, 3), (4, 5, 6)))
    return [class_lists.as_yaml(classes, {}).encode() for classes in (own, CITYSCAPES)]


def color_lists() -> list[bytes]:
    return [b"128 64 128 road\n0 0 0 void\n# x\n70 70 70 a b\n", b"1 2 3 x\n"]


def check_classes(path: Path) -> object:
    """The tables of a list of classes, which every use of it needs."""
    classes = class_lists.read_class_list(path)
    tables = classes.palette, classes.train_ids, classes.label_ids, classes.known_ids
    return classes, [table.tolist() for table in tables]


def records() -> list[bytes]:
    return [
        json.dumps({"labels": labels, "ids": {str(i): i for i in range(count)}}).encode()
        for labels, count in (("ids", 34), ("colors", 2))
    ]


def names() -> list[bytes]:
    return [b"a\nb\n", b"c.png\n"]


def assign(path: Path) -> object:
    images = [Pair(Path(f"{name}.png"), Path("m.png"), name, (), None) for name in "abcd"]
    return assign_splits(images, str(path))


# Checkpoints


def checkpoint(sealed: bool, seed: int = 0) -> bytes:
    torch.manual_seed(seed)
    model = UNet(width=1, depth=1)
    model.classes = CITYSCAPES
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.pt"
        recipe = Recipe(width=1, depth=1, data_root="x")
        save_checkpoint(path, model, recipe, [{"epoch": 1, "mIoU": 0.5}])
        if not sealed:
            found = torch.load(path, weights_only=True)
            del found["sealed"]
            torch.save(found, path)
        return path.read_bytes()


def seal(content: bytes) -> bytes:
    """With the checksum of the damaged content."""
    content = content[:-CHECKSUM_SIZE]
    return content + _checksum(content)


def sealed_checkpoints() -> list[bytes]:
    return [checkpoint(True), checkpoint(True, seed=1)]


def plain_checkpoints() -> list[bytes]:
    """As older versions wrote them, which did not say that they had a checksum."""
    return [checkpoint(False), checkpoint(False, seed=1)]


def use_model(path: Path) -> object:
    model = load_model(path)
    weights = [value.numpy().tobytes() for value in model.state_dict().values()]
    labels = predict(model, torch.zeros(3, 9, 7, dtype=torch.uint8))
    return model.settings, model.classes, model.downscale, weights, labels.tolist()


CHECKPOINT = [(use_model, UNREADABLE)]


def state(path: Path) -> object:
    """What a run goes on from whose `last.pt` is damaged and whose `previous.pt` is whole."""
    path.with_name("previous.pt").write_bytes(_previous())
    found = load_last(path.parent)
    return found["history"], found["recipe"], [w.tolist() for w in found["model"].values()]


_previous = cache(partial(checkpoint, True, seed=1))


# Archives and the cache


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


def archives() -> list[bytes]:
    methods = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA
    return [archive("gtFine", grey_images()[1], method) for method in methods]


def is_whole(path: Path) -> bool | None:
    """None where it is not: that is a refusal, too."""
    return zip_state(path, read_all=True) == "whole" or None


def unpack(path: Path) -> object:
    """The first labels of a data set that is unpacked from a damaged archive."""
    images = archive("leftImg8bit", png_images()[0])
    path.with_name("leftImg8bit_trainvaltest.zip").write_bytes(images)
    _, labels = Cityscapes(path.parent, "train")[0]
    return labels.tolist()


PAIR = np.moveaxis(NOISE, 2, 0)[:, :8, :4].copy(), IDS[:8, :4].copy()


def small_cache(folder: Path) -> Cache:
    """Of one item, whose sources lie beside its file."""
    for name in ("image", "labels"):
        (folder / name).touch()
        os.utime(folder / name, (1, 1))
    cache = Cache(folder, [(str(folder / "image"), str(folder / "labels"))], "1/1")
    cache.path = lambda index: folder / "item.cache"
    return cache


def cached() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        small_cache(Path(folder)).read(0, lambda _: PAIR)
        return [Path(folder, "item.cache").read_bytes()]


def read_cached(path: Path) -> object:
    found = small_cache(path.parent).read(0, lambda _: PAIR)
    return [(part.shape, part.tobytes()) for part in found]


BAD = (ValueError,)
LABELS = [(partial(pixels, read_labels), MISSING)]
OTHER_MASK = [*MASK, (lambda path: masks.are_colored([path]), ())]
CLASSES = [(check_classes, BAD)]
RECORD = [(lambda path: read_record(path.parent), BAD)]
ARCHIVE = [(unpack, UNREADABLE), (is_whole, ())]
KINDS = {
    "PNG images": Kind("a.png", png_images, IMAGE, sealed=True),
    "other images": Kind("a.jpg", other_images, IMAGE, mend=mend_some),
    "labels": Kind("a.png", grey_images, LABELS, sealed=True),
    "masks": Kind("a.png", mask_images, MASK, sealed=True),
    "other masks": Kind(
        "a.tif", lambda: other_images() + mask_images(), OTHER_MASK, mend=mend_some
    ),
    "recipes": Kind("recipe.yaml", recipes, [(Recipe.from_file, BAD)], change=edit),
    "class tables": Kind("classes.yaml", class_tables, CLASSES, change=edit),
    "lists of colours": Kind("colors.txt", color_lists, CLASSES, change=edit),
    "records of prepare.own": Kind("own.json", records, RECORD, change=edit),
    "lists of names": Kind("val.txt", names, [(assign, BAD)]),
    "checkpoints": Kind("a.pt", sealed_checkpoints, CHECKPOINT, sealed=True),
    "checkpoints without a checksum": Kind("a.pt", plain_checkpoints, CHECKPOINT),
    "checkpoints with a new checksum": Kind("a.pt", sealed_checkpoints, CHECKPOINT, mend=seal),
    "checkpoints of other content": Kind("a.pt", plain_checkpoints, CHECKPOINT, change=replace),
    "runs": Kind("last.pt", sealed_checkpoints, [(state, ())], sealed=True),
    "archives": Kind("gtFine_trainvaltest.zip", archives, ARCHIVE, sealed=True),
    "cache": Kind("item.cache", cached, [(read_cached, ())], sealed=True),
}

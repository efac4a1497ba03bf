# ruff: noqa: E501 (a row is a line)
"""Bad input of every kind, each through a way that a user takes, with what must be said of it.

A row is (name, what makes the bad thing in a tree of its own and takes the way, the exception,
what its message must hold: what is wrong, the file or the value, the cure). A command that ends
with another exit code than 0 raises `Refused` with what it printed.
"""

import contextlib
import io
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torchvision import tv_tensors

import prepare.camvid
import prepare.cityscapes
import prepare.streets
import train
from checkpoint import load_checkpoint, save_checkpoint
from dataset import TRAIN_IDS, Cityscapes, make_loader, read_labels
from engine import evaluate
from model import UNet, load_model, predict
from pictures import read_picture
from recipe import Recipe

RECIPE = yaml.safe_load(Path("recipes/streets.yaml").read_text())
TINY = {"downscale": 1, "width": 2, "depth": 1, "epochs": 1, "workers": 0}
NOISE = np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8)
GREY = NOISE[..., 0]


class Refused(Exception):  # noqa: N818 (it is what is wanted)
    """What a command printed that ended with another exit code than 0."""


# Ways that a user takes


def command(main, *args) -> None:
    """A command line, in this process: the same `main`, without the seconds of its imports."""
    said, argv = io.StringIO(), sys.argv
    sys.argv = ["command", *map(str, args)]
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv = argv
    if isinstance(code, str):
        said.write(code)
    assert "Traceback" not in said.getvalue()
    if code:
        raise Refused(said.getvalue())


def process(*args, **options) -> None:
    done = subprocess.run(
        [sys.executable, *map(str, args)], capture_output=True, text=True, timeout=500, **options
    )
    if done.returncode:
        raise Refused(done.stdout + done.stderr)


def train_with(tree, **fields) -> None:
    """train.py with a recipe file of these fields."""
    path = tree.parent / "recipe.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, **TINY, "data_root": str(tree), **fields}))
    command(train.main, "--recipe", path, "--run", tree.parent / "run")


def train_from(tree, text: str | bytes) -> None:
    """train.py with a recipe file of this text."""
    path = tree.parent / "recipe.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    try:
        command(train.main, "--recipe", path, "--data_root", tree, "--run", tree.parent / "run")
    finally:
        assert not (tree.parent / "sprung").exists()
        assert not (tree.parent / "run").exists()


def notebook(name: str, tree, **parameters) -> None:
    args = [x for key, value in parameters.items() for x in ("-p", key, str(value))]
    process("-m", "papermill", "--no-progress-bar", name, tree.parent / "out.ipynb", *args)


def check(tree) -> None:
    command(prepare.cityscapes.main, tree, "--counts", "any")


def convert(tree) -> None:
    command(prepare.camvid.main, tree.parent / "CamVid", tree.parent / "out")


def item(tree):
    return Cityscapes(tree, "train")[0]


def network() -> UNet:
    torch.manual_seed(0)
    return UNet(width=2, depth=1).eval()


# Bad things


def first(tree: Path, kind: str = "leftImg8bit") -> Path:
    return sorted((tree / kind / "train").rglob("*.png"))[0]


def image(tree, *args, **options) -> Path:
    return picture(first(tree), *args, **options)


def labels(tree, *args, **options) -> Path:
    return picture(first(tree, "gtFine"), *args, **options)


def picture(path: Path, pixels, mode: str | None = None, file="PNG", **options) -> Path:
    made = Image.fromarray(pixels)
    (made.convert(mode) if mode else made).save(path, file, **options)
    return path


def png(width: int, height: int, bits: int, data: bytes) -> bytes:
    """A colour PNG of this header and data, its checksums right."""
    header = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for name, body in ((b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b"")):
        content += struct.pack(">I", len(body)) + name + body
        content += struct.pack(">I", zlib.crc32(name + body))
    return content


def flip(path: Path, place: float = 0.5) -> Path:
    """Turn one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 4
    path.write_bytes(data)
    return path


def cut(path: Path, keep: float) -> Path:
    os.truncate(path, int(path.stat().st_size * keep))
    return path


def with_alpha() -> np.ndarray:
    return np.dstack([NOISE, GREY])


def rename_labels(tree) -> None:
    path = first(tree, "gtFine")
    path.rename(path.with_name(path.name.replace("_gtFine", "9_gtFine")))


def train_ids(tree, *, everywhere: bool, with_255: bool) -> None:
    """Labels as train ids, as in *_labelTrainIds.png."""
    for path in sorted((tree / "gtFine" / "train").rglob("*.png"))[: None if everywhere else 1]:
        ids = np.tile(np.arange(19, dtype=np.uint8), 64 * 128)[: 64 * 128].reshape(64, 128)
        ids[:, :9] = 255 if with_255 else 0
        picture(path, ids)


def pack(tree, *kinds: str) -> list[Path]:
    """Put directories of the tree into the archives that bring them."""
    names = {"leftImg8bit": "leftImg8bit_trainvaltest.zip", "gtFine": "gtFine_trainvaltest.zip"}
    for kind in kinds:
        with zipfile.ZipFile(tree / names[kind], "w") as archive:
            for path in sorted((tree / kind).rglob("*.png")):
                archive.write(path, path.relative_to(tree))
        shutil.rmtree(tree / kind)
    return [tree / names[kind] for kind in kinds]


def loop(tree) -> None:
    city = first(tree).parent
    shutil.rmtree(city)
    city.symlink_to(city)


def closed(tree, *parts: str) -> None:
    """A directory that may not be opened, by a user for whom that counts, in a process."""
    code = (
        "import os, sys\n"
        "from dataset import Cityscapes\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: Cityscapes(sys.argv[1], 'train')\n"
        "except OSError as error: sys.exit(f'error: {error}')\n"
    )
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are their owner's alone
        os.chmod(folder, 0o755)  # noqa: S103 (another user is to read it)
        root = Path(shutil.copytree(tree, Path(folder) / "tree"))
        root.joinpath(*parts).chmod(0)
        try:
            process("-c", code, root)
        finally:
            root.joinpath(*parts).chmod(0o755)


def checkpoint(tree, model: UNet | None = None, **recipe) -> Path:
    model = model or network()
    fields = {"width": 2, "depth": 1, "downscale": 1, **recipe}
    save_checkpoint(tree.parent / "model.pt", model, Recipe(**fields), [])
    return tree.parent / "model.pt"


def altered(tree, **settings) -> Path:
    """A checkpoint whose settings were changed and that has no checksum to tell of it."""
    content = load_checkpoint(checkpoint(tree))
    content["settings"] |= settings
    torch.save(content, tree.parent / "model.pt")
    return tree.parent / "model.pt"


class Trap:
    """Makes a directory when it is unpickled."""

    def __init__(self, path: Path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def trapped(tree, path: Path | None = None, save=torch.save) -> Path:
    path = path or tree.parent / "evil.pt"
    path.parent.mkdir(exist_ok=True)
    with open(path, "wb") as file:
        save({"model": Trap(tree.parent / "sprung")}, file)
    return path


def unsprung(tree, call) -> None:
    try:
        call()
    finally:
        assert not (tree.parent / "sprung").exists()


def not_finite(tree) -> Path:
    model = network()
    with torch.no_grad():
        model.conv_1x1.weight.fill_(float("nan"))
    return checkpoint(tree, model)


def another_run(tree, **fields) -> None:
    train_with(tree)
    train_with(tree, **fields)


def judge(tree, model: UNet):
    loader = make_loader(Cityscapes(tree, "val"), 1, train=False, workers=0)
    return evaluate(model, loader, torch.device("cpu"))


def camvid(tree, name="0001TP_000001.png", pixels=NOISE, ids=GREY % 12) -> Path:
    for folder, content in (("train", pixels), ("trainannot", ids)):
        (tree.parent / "CamVid" / folder).mkdir(parents=True, exist_ok=True)
        picture(tree.parent / "CamVid" / folder / name, content)
    return tree.parent / "CamVid"


def rgb16() -> bytes:
    return png(4, 2, 16, 2 * (b"\0" + bytes(range(24))))


IMAGES = [
    ("cut in half", lambda t: cut(first(t), 0.5) and item(t), ValueError, ["its end is missing", "restore it"]),
    ("without its last bytes", lambda t: cut(first(t), 0.9995) and item(t), ValueError, ["_leftImg8bit.png", "its end is missing", "restore it"]),
    ("of zero bytes", lambda t: cut(first(t), 0) and item(t), ValueError, ["_leftImg8bit.png", "0 bytes", "restore it"]),
    ("with one bit turned", lambda t: flip(first(t)) and item(t), ValueError, ["_leftImg8bit.png", "wrong checksum", "restore it"]),
    ("a text", lambda t: first(t).write_text("no picture") and item(t), ValueError, ["_leftImg8bit.png", "of no format that is known", "restore it"]),
    ("of 16-bit grey", lambda t: image(t, GREY.astype(np.uint16) * 257) and item(t), ValueError, ["_leftImg8bit.png", "more than 8 bits", "save it with 8"]),
    ("of 16-bit RGB", lambda t: first(t).write_bytes(rgb16()) and item(t), ValueError, ["_leftImg8bit.png", "more than 8 bits", "save it with 8"]),
    ("of 16 bits, before training", lambda t: first(t).write_bytes(rgb16()) and check(t), Refused, ["more than 8 bits", "_leftImg8bit.png", "save it with 8"]),
    ("with transparent pixels", lambda t: image(t, with_alpha()) and item(t), ValueError, ["_leftImg8bit.png", "transparent", "save it without alpha"]),
    ("of several frames", lambda t: image(t, NOISE, save_all=True, append_images=[Image.fromarray(NOISE[::-1])]) and item(t), ValueError, ["_leftImg8bit.png", "2 frames", "save the one"]),
    ("with an enormous header", lambda t: first(t).write_bytes(png(2**30, 2**30, 8, b"")) and item(t), ValueError, ["_leftImg8bit.png", "1073741824x1073741824", "restore it"]),
    ("with a header that only memory could hold", lambda t: first(t).write_bytes(png(50_000, 50_000, 8, b"")) and item(t), ValueError, ["50000x50000 by its header", "restore it"]),
    ("a bomb", lambda t: first(t).write_bytes(png(20_000, 20_000, 8, bytes(2_000_000))) and item(t), ValueError, ["_leftImg8bit.png", "20000x20000", "restore it"]),
    ("of no pixels", lambda t: first(t).write_bytes(png(0, 5, 8, b"")) and item(t), ValueError, ["0x5 by its header", "restore it"]),
    ("half a JPEG under a .png name", lambda t: image(t, NOISE, file="JPEG") and cut(first(t), 0.5) and item(t), ValueError, ["_leftImg8bit.png", "truncated", "restore it"]),
    ("a directory", lambda t: (p := first(t)).unlink() or p.mkdir() or item(t), ValueError, ["_leftImg8bit.png", "cannot be opened", "must be there"]),
    ("a link to nowhere", lambda t: (p := first(t)).unlink() or p.symlink_to("gone") or item(t), FileNotFoundError, ["no picture at", "_leftImg8bit.png", "restore it"]),
    ("of another size than its labels", lambda t: image(t, NOISE[:32]) and item(t), ValueError, ["_labelIds.png is 128x64", "128x32", "restore both"]),
    ("of another size, before training", lambda t: image(t, NOISE[:32]) and check(t), Refused, ["another size", "_labelIds.png", "128 x 64", "run the script again"]),
    ("of another size than its batch's", lambda t: image(t, NOISE[:32]) and labels(t, GREY[:32] % 34) and train_with(t, batch_size=12), Refused, ["128x32 and 128x64", "give the recipe a crop"]),
    ("damaged, met by a loader's worker", lambda t: flip(first(t)) and train_with(t, workers=1), Refused, ["_leftImg8bit.png", "wrong checksum", "restore it"]),
    ("of one pixel, for valid padding", lambda t: network() and UNet(width=2, padding="valid")(torch.zeros(1, 3, 1, 1)), ValueError, ["1x1 pixels is too small", "at least 188x188", 'padding="same"']),
]  # fmt: skip
LABELS = [
    ("in colours", lambda t: labels(t, NOISE) and item(t), ValueError, ["_labelIds.png", "8-bit RGB", "not a \\*_color.png"]),
    ("in colours with alpha", lambda t: labels(t, with_alpha()) and item(t), ValueError, ["_labelIds.png", "RGB and alpha", "labelIds"]),
    ("in a palette", lambda t: labels(t, NOISE, "P") and item(t), ValueError, ["_labelIds.png", "palette", "labelIds"]),
    ("in a palette, before training", lambda t: labels(t, NOISE, "P") and check(t), Refused, ["_labelIds.png: mode P", "run the script again"]),
    ("of 16 bits", lambda t: labels(t, np.full((64, 128), 7, np.uint16)) and item(t), ValueError, ["_labelIds.png", "16-bit grey", "8-bit grey PNG"]),
    ("a JPEG under a .png name", lambda t: labels(t, GREY % 34, file="JPEG") and item(t), ValueError, ["_labelIds.png", "JPEG file", "8-bit grey PNG"]),
    ("a JPEG, before training", lambda t: labels(t, GREY % 34, file="JPEG") and check(t), Refused, ["_labelIds.png: JPEG", "no PNG", "run the script again"]),
    ("out of range", lambda t: labels(t, np.full((64, 128), 77, np.uint8)) and item(t), ValueError, ["_labelIds.png", r"holds \[77\]", "write it again"]),
    ("train ids", lambda t: train_ids(t, everywhere=False, with_255=True) or item(t), ValueError, ["_labelIds.png", "looks like train ids", "not the \\*_labelTrainIds.png"]),
    ("train ids, before training", lambda t: train_ids(t, everywhere=False, with_255=True) or check(t), Refused, ["look like train ids", "_labelIds.png", "run the script again"]),
    ("train ids without 255, before training", lambda t: train_ids(t, everywhere=True, with_255=False) or check(t), Refused, ["look like train ids", "no id above 18 in 12 labels", "run the script again"]),
    ("missing", lambda t: first(t, "gtFine").unlink() or train_with(t), Refused, ["1 of 12 images have no labels", "_gtFine_labelIds.png", "unpack gtFine again"]),
    ("of another frame", lambda t: rename_labels(t) or train_with(t), Refused, ["1 of 12 images have no labels", "_gtFine_labelIds.png", "unpack gtFine again"]),
    ("with one bit turned", lambda t: flip(first(t, "gtFine")) and item(t), ValueError, ["_labelIds.png", "wrong checksum", "restore it"]),
    ("with one bit turned, before training", lambda t: flip(first(t, "gtFine")) and check(t), Refused, ["cannot be read", "_labelIds.png", "run the script again"]),
]  # fmt: skip
TREES = [
    ("absent", lambda t: shutil.rmtree(t) or train_with(t), Refused, ["no data set at", "/tree", "prepare/streets.py"]),
    ("empty", lambda t: shutil.rmtree(t) or t.mkdir() or train_with(t), Refused, ["/tree lacks leftImg8bit/train and gtFine/train", "prepare the data set again", "_trainvaltest.zip"]),
    ("a file", lambda t: shutil.rmtree(t) or t.write_text("x") and train_with(t), Refused, ["no data set at", "/tree", "prepare/streets.py"]),
    ("without val", lambda t: [shutil.rmtree(t / k / "val") for k in ("leftImg8bit", "gtFine")] and train_with(t), Refused, ["lacks leftImg8bit/val and gtFine/val", "prepare the data set again"]),
    ("without labels, before training", lambda t: shutil.rmtree(t / "gtFine") or check(t), Refused, ["missing folders", "gtFine/train", "run the script again"]),
    ("with an empty split", lambda t: [p.unlink() for p in (t / "leftImg8bit" / "train").rglob("*.png")] and train_with(t), Refused, ["leftImg8bit/train holds no", "unpack the images there"]),
    ("in zips half downloaded", lambda t: [cut(p, 0.5) for p in pack(t, "leftImg8bit", "gtFine")] and train_with(t), Refused, ["leftImg8bit_trainvaltest.zip or .*gtFine_trainvaltest.zip is damaged or half", "wget -c"]),
    ("in zips half downloaded, before training", lambda t: [cut(p, 0.5) for p in pack(t, "leftImg8bit", "gtFine")] and command(prepare.cityscapes.main, t), Refused, ["gtFine_trainvaltest.zip is not whole", "wget -c"]),
    ("in a zip with one bit turned", lambda t: flip(pack(t, "leftImg8bit", "gtFine")[0]) and train_with(t), Refused, ["leftImg8bit_trainvaltest.zip", "damaged", "download it again"]),
    ("in a zip that is the login page", lambda t: pack(t, "leftImg8bit", "gtFine")[1].write_text("<html>") and command(prepare.cityscapes.main, t), Refused, ["gtFine_trainvaltest.zip is a web page", "rm "]),
    ("in one zip of two", lambda t: pack(t, "leftImg8bit", "gtFine")[0].unlink() or train_with(t), Refused, ["lacks leftImg8bit/train", "put leftImg8bit_trainvaltest.zip there"]),
    ("with a city that links to itself", lambda t: loop(t) or train_with(t), Refused, ["leftImg8bit/train/", "cannot be opened", "let it lead to the data"]),
    ("with a directory that may not be opened", lambda t: closed(t, "leftImg8bit", "train"), Refused, ["leftImg8bit/train cannot be opened", "Permission denied", r"chmod -R u\+rX"]),
    ("with a city of labels that may not be opened", lambda t: closed(t, *first(t, "gtFine").parent.relative_to(t).parts), Refused, ["gtFine/train/[a-z]+ cannot be opened", "Permission denied", r"chmod -R u\+rX"]),
    ("with a file among the cities", lambda t: (t / "leftImg8bit" / "train" / "x.txt").touch() or train_with(t), Refused, ["x.txt lies among the cities", "remove it"]),
    ("named by a variable that is not set", lambda t: train_with(t, data_root="$NO_SUCH_VARIABLE/x"), Refused, [r"\$NO_SUCH_VARIABLE/x", "not set", "`export` it"]),
    ("asked for a split that there is not", lambda t: Cityscapes(t, "validation"), ValueError, ["validation", "train", "val"]),
]  # fmt: skip
CHECKPOINTS = [
    ("of five classes", lambda t: judge(t, load_model(checkpoint(t, UNet(3, 5, 2, 1)))), ValueError, ["5 classes", "labels 19", "take a checkpoint"]),
    ("of another width than it says", lambda t: load_model(altered(t, width=4)), ValueError, [r"model.pt: its weights do not fit", "'width': 4", "restore it"]),
    ("of another padding than it says", lambda t: load_model(altered(t, padding="valid")), ValueError, [r"model.pt: padding is 'valid' by its settings and 'same' by its recipe", "restore it"]),
    ("cut short", lambda t: load_model(cut(checkpoint(t), 0.8)), ValueError, ["model.pt", "damaged"]),
    ("with one bit turned", lambda t: load_model(flip(checkpoint(t))), ValueError, ["model.pt is damaged", "checksum", "restore it"]),
    ("that runs code", lambda t: unsprung(t, lambda: load_model(trapped(t))), ValueError, ["evil.pt", "more than plain data"]),
    ("a bare pickle that runs code", lambda t: unsprung(t, lambda: load_model(trapped(t, save=pickle.dump))), ValueError, ["evil.pt", "more than plain data"]),
    ("that runs code, to go on from", lambda t: unsprung(t, lambda: trapped(t, t.parent / "run" / "last.pt") and train_with(t)), Refused, ["last.pt", "more than plain data", "delete .* to start anew"]),
    ("of something else", lambda t: torch.save({"weights": torch.zeros(2)}, t.parent / "x.pt") or load_model(t.parent / "x.pt"), ValueError, ["x.pt is no checkpoint of this project", "lacks"]),
    ("with weights that are no numbers", lambda t: load_model(not_finite(t)), ValueError, ["model.pt", "not all finite", "take an earlier one"]),
    ("absent", lambda t: load_model(t / "no.pt"), FileNotFoundError, ["no checkpoint at .*no.pt"]),
    ("a directory", lambda t: load_model(t), OSError, ["/tree cannot be read", "name a checkpoint"]),
    ("of another recipe, to go on from", lambda t: another_run(t, width=3), Refused, ["/run holds a run of another recipe", "width is 3 here and 2 there", "another run directory"]),
    ("a text, for the notebook", lambda t: (t.parent / "x.pt").write_text("x") and notebook("test.ipynb", t, checkpoint=t.parent / "x.pt"), Refused, ["x.pt is no checkpoint", "damaged"]),
]  # fmt: skip
RECIPES = [
    ("with an unknown key", lambda t: train_from(t, "epoch: 3\n"), Refused, ["recipe.yaml", "no epoch: epochs?", "--help"]),
    ("with a wrong type", lambda t: train_with(t, epochs="many"), Refused, ["epochs", "Expected a <class 'int'>", "many"]),
    ("with half an epoch", lambda t: train_with(t, epochs=2.5), Refused, ["epochs", "Expected a <class 'int'>", "2.5"]),
    ("with NaN", lambda t: train_with(t, lr=float("nan")), Refused, ["lr must be between 1e-12 and 1000", "not nan"]),
    ("with NaN for a share", lambda t: train_with(t, crop_area=[float("nan"), 1.0]), Refused, ["crop_area must rise within 0..1", "nan"]),
    ("with infinity", lambda t: train_with(t, weight_decay=float("inf")), Refused, ["weight_decay must be between", "not inf"]),
    ("with a negative rate", lambda t: train_with(t, lr=-1.0), Refused, ["lr must be between", "not -1"]),
    ("with a batch of zero", lambda t: train_with(t, batch_size=0), Refused, ["batch_size must be between 1 and", "not 0"]),
    ("with a batch of zero, for the notebook", lambda t: notebook("trainer.ipynb", t, data_root=t, run=t.parent / "run", batch_size=0), Refused, ["batch_size must be between 1 and", "not 0"]),
    ("with null", lambda t: train_with(t, lr=None), Refused, ["lr is null", "give it a value"]),
    ("with a crop of one size", lambda t: train_with(t, crop=[64]), Refused, ["crop", "2 elements"]),
    ("with crops that grow to no size", lambda t: train_with(t, crop_start=0.5), Refused, ["recipe: crop_start 0.5", "needs a crop"]),
    ("with crops that shrink", lambda t: train_with(t, crop_start=1.5), Refused, ["crop_start must be between 0.1 and 1"]),
    ("with a crop of one pixel", lambda t: train_with(t, crop=[1, 1]), Refused, ["crop must be two sizes of at least 2", r"not \(1, 1\)"]),
    ("with a padding that there is not", lambda t: train_with(t, padding="full"), Refused, ["padding", "same", "valid", "full"]),
    ("with a number said twice", lambda t: train_from(t, "lr: 0.1\nlr: 0.2\n"), Refused, ["recipe.yaml", "twice what lr is", "keep one"]),
    ("of zero bytes", lambda t: train_from(t, ""), Refused, ["recipe.yaml names no field", "see recipes/"]),
    ("a list", lambda t: train_from(t, "- lr\n- 0.1\n"), Refused, ["recipe.yaml names no field", "see recipes/"]),
    ("of bytes that are no text", lambda t: train_from(t, bytes(range(256))), Refused, ["recipe.yaml is no recipe", "see recipes/"]),
    ("unclosed", lambda t: train_from(t, "crop: [1, 2\n"), Refused, ["recipe.yaml is no recipe", "line 2", "see recipes/"]),
    ("that makes an object", lambda t: train_from(t, f"lr: !!python/object/apply:os.mkdir [{t.parent / 'sprung'}]\n"), Refused, ["recipe.yaml is no recipe", "os.mkdir", "see recipes/"]),
    ("absent", lambda t: command(train.main, "--recipe", t / "no.yaml"), Refused, ["no.yaml cannot be read", "name a recipe"]),
    ("of a field too few", lambda t: Recipe.from_fields({"lr": 0.1}), ValueError, ["epochs", "is missing", "help\\(Recipe\\)"]),
    ("whose rate is too high", lambda t: train_with(t, lr=1000.0, batch_norm=False, depth=4, epochs=9, batch_size=1), Refused, ["epoch \\d/9: the loss is no longer a finite number", "lower `lr`", "last.pt is the state before"]),
    ("whose crop valid padding cannot see", lambda t: train_with(t, padding="valid", depth=4, crop=[16, 16]), Refused, ["too small"]),
]  # fmt: skip
PREDICT = [
    ("of floats", lambda t: predict(network(), torch.rand(3, 8, 8)), ValueError, ["uint8", "not torch.float32"]),
    ("of a batch", lambda t: predict(network(), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)), ValueError, ["one RGB picture", r"not torch.uint8 \(1, 3, 8, 8\)"]),
    ("of nothing", lambda t: predict(network(), torch.zeros(3, 0, 8, dtype=torch.uint8)), ValueError, [r"not torch.uint8 \(3, 0, 8\)"]),
    ("of grey, (H, W)", lambda t: predict(network(), torch.zeros(8, 8, dtype=torch.uint8)), ValueError, ["one RGB picture", r"\(8, 8\)"]),
    ("of grey, (1, H, W)", lambda t: predict(network(), torch.zeros(1, 8, 8, dtype=torch.uint8)), ValueError, ["one RGB picture", r"\(1, 8, 8\)"]),
    ("of RGBA", lambda t: predict(network(), torch.zeros(4, 8, 8, dtype=torch.uint8)), ValueError, ["one RGB picture", r"\(4, 8, 8\)"]),
    ("of (H, W, 3)", lambda t: predict(network(), torch.from_numpy(NOISE)), ValueError, [r"\(3, H, W\)", r"\(64, 128, 3\)"]),
    ("of an array", lambda t: predict(network(), NOISE), ValueError, ["a file or a PIL image", "not ndarray"]),
    ("of None", lambda t: predict(network(), None), ValueError, ["a file or a PIL image", "not NoneType"]),
    ("of a PIL image of 16 bits", lambda t: predict(network(), Image.fromarray(GREY.astype(np.uint16))), ValueError, ["more than 8 bits", "save it with 8"]),
    ("of a PIL image that is transparent", lambda t: predict(network(), Image.fromarray(with_alpha())), ValueError, ["transparent", "save it without alpha"]),
    ("of a file that is not there", lambda t: predict(network(), t / "no.png"), FileNotFoundError, ["no picture at .*no.png", "mend the path"]),
    ("of a file of 16 bits", lambda t: first(t).write_bytes(rgb16()) and predict(network(), first(t)), ValueError, ["_leftImg8bit.png has more than 8 bits", "save it with 8"]),
    ("of a damaged file", lambda t: predict(network(), flip(first(t))), ValueError, ["_leftImg8bit.png", "wrong checksum"]),
]  # fmt: skip
SOURCES = [
    ("no CamVid", lambda t: command(prepare.camvid.main, t / "gtCoarse" / "train", t / "out"), Refused, ["none of the directories", "give the CamVid directory"]),
    ("CamVid without a frame", lambda t: (t.parent / "CamVid" / "train").mkdir(parents=True) or convert(t), Refused, [r"CamVid/train holds no \*.png", "clone it again"]),
    ("CamVid's labels of another size", lambda t: camvid(t, ids=GREY[:32] % 12) and convert(t), Refused, ["trainannot/0001TP_000001.png is 128x32", "128x64", "clone it again"]),
    ("CamVid's labels out of range", lambda t: camvid(t, ids=GREY) and convert(t), Refused, ["trainannot/0001TP_000001.png is no CamVid label", "SegNet tutorial"]),
    ("CamVid's labels missing", lambda t: (camvid(t) / "trainannot" / "0001TP_000001.png").unlink() or convert(t), Refused, ["train/0001TP_000001.png has no labels", "is missing"]),
    ("CamVid's image damaged", lambda t: flip(camvid(t) / "train" / "0001TP_000001.png") and convert(t), Refused, ["train/0001TP_000001.png cannot be read", "clone it again"]),
    ("one frame of CamVid twice", lambda t: camvid(t) and camvid(t, "0001TP_1.png") and convert(t), Refused, ["0001TP_1?.*same frame", "remove one"]),
    ("Streets of odd size", lambda t: command(prepare.streets.main, t.parent / "s", "--size", "127x64"), Refused, ["size is 127x64", "even numbers"]),
    ("Streets of fewer scenes than none", lambda t: command(prepare.streets.main, t.parent / "s", "--train", "-1"), Refused, ["-1", "number of scenes, 0 or more"]),
]  # fmt: skip
ROWS = {"image": IMAGES, "labels": LABELS, "tree": TREES, "checkpoint": CHECKPOINTS}
ROWS |= {"recipe": RECIPES, "predict": PREDICT, "source": SOURCES}


@pytest.fixture
def tree(streets, tmp_path) -> Path:
    """A copy of Streets that a row may spoil."""
    root = Path(shutil.copytree(streets, tmp_path / "tree"))
    (root / "streets.json").unlink()  # or it would be drawn anew
    return root


@pytest.mark.parametrize(
    ("way", "exception", "fragments"),
    [row[1:] for rows in ROWS.values() for row in rows],
    ids=[f"{kind} {row[0]}" for kind, rows in ROWS.items() for row in rows],
)
def test_bad_input_is_refused_with_what_where_and_the_cure(tree, way, exception, fragments):
    with pytest.raises(exception) as refusal:
        way(tree)
    said = " ".join(str(refusal.value).split())
    for fragment in fragments:
        assert re.search(fragment, said), f"{fragment!r} is not in: {said}"


# What must work, and give the right numbers


def grey_as_rgb() -> np.ndarray:
    return np.dstack([GREY] * 3)


FORMS = {
    "RGB": (lambda p: picture(p, NOISE), NOISE),
    "grey": (lambda p: picture(p, GREY), grey_as_rgb()),
    "a palette": (lambda p: picture(p, NOISE // 128 * 255, "P"), NOISE // 128 * 255),
    "opaque alpha": (lambda p: picture(p, NOISE, "RGBA"), NOISE),
    "grey with opaque alpha": (lambda p: picture(p, GREY, "LA"), grey_as_rgb()),
    "one bit": (lambda p: picture(p, GREY // 128 * 255, "1"), grey_as_rgb() // 128 * 255),
    "WebP under a .png name": (lambda p: picture(p, NOISE, file="WEBP", lossless=True), NOISE),
    "one pixel": (lambda p: picture(p, NOISE[:1, :1]), NOISE[:1, :1]),
    "16 bits, of other things": (lambda p: picture(p, NOISE, pnginfo=text(";16")), NOISE),
}


def text(value: str) -> PngInfo:
    info = PngInfo()
    info.add_text("Comment", value)
    return info


@pytest.mark.parametrize("form", FORMS)
def test_a_picture_of_another_form_is_read_as_it_is_seen(form, tmp_path):
    write, pixels = FORMS[form]
    path = write(tmp_path / "a picture, größer.png")
    assert np.array_equal(read_picture(path).permute(1, 2, 0).numpy(), pixels)
    expected = predict(network(), torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous())
    assert torch.equal(predict(network(), path), expected)
    with Image.open(path) as opened:
        assert torch.equal(predict(network(), opened), expected)


def test_a_jpeg_under_a_png_name_is_read_as_the_jpeg_that_it_is(tree):
    image(tree, NOISE, file="JPEG")
    with Image.open(first(tree)) as opened:
        assert np.array_equal(item(tree)[0].permute(1, 2, 0).numpy(), np.array(opened))


def test_predict_heeds_no_layout_of_a_tensor():
    tensor = torch.from_numpy(NOISE).permute(2, 0, 1)
    expected = predict(network(), tensor.contiguous())
    assert not tensor.is_contiguous()
    assert torch.equal(predict(network(), tensor), expected)
    assert torch.equal(predict(network(), tv_tensors.Image(tensor)), expected)
    doubled = tensor.repeat_interleave(2, 2)[:, :, ::2]
    assert torch.equal(predict(network(), doubled), expected)


def test_labels_hold_every_id_and_255_beside_them(tree):
    ids = (np.arange(64 * 128) % 35).astype(np.uint8).reshape(64, 128)
    ids[ids == 34] = 255
    for options in ({}, {"pnginfo": text("x"), "compress_level": 0}, {"transparency": 7}):
        path = labels(tree, ids, **options)
        assert torch.equal(read_labels(path), TRAIN_IDS[torch.from_numpy(ids).int()])


def test_names_of_any_alphabet_with_spaces_train_from_recipe_to_prediction(streets, tmp_path):
    root = Path(shutil.copytree(streets, tmp_path / "Straßen, 街 und mehr" / "tree"))
    for path in sorted(root.rglob("*.png")):
        city = path.parent.with_name("Köln am Rhein")
        city.mkdir(exist_ok=True)
        path.rename(city / path.name.replace(path.name.split("_")[0], "Köln am Rhein", 1))
    for folder in [*root.glob("*/*/*")]:
        if not any(folder.iterdir()):
            folder.rmdir()
    check(root)
    train_with(root)
    model = load_model(root.parent / "run" / "best.pt")
    assert predict(model, first(root)).shape == (64, 128)


def test_links_to_directories_and_back_to_the_root_are_followed_once(tree, streets):
    first(tree).parent.joinpath("up").symlink_to(tree)
    with pytest.warns(UserWarning, match="1 files are no .*_leftImg8bit.png and are left out.*up"):
        assert len(Cityscapes(tree, "train")) == 12
    linked = tree.parent / "linked"
    linked.symlink_to(streets)
    with warnings.catch_warnings(action="error"):
        assert len(Cityscapes(linked, "train")) == 12


def test_labels_without_their_image_are_spoken_of(tree):
    first(tree).unlink()
    with pytest.warns(UserWarning, match="1 labels have no image and are left out.*unpack"):
        assert len(Cityscapes(tree, "train")) == 11


def test_an_archive_unpacks_only_inside_the_tree(tree):
    archives = pack(tree, "leftImg8bit", "gtFine")
    with zipfile.ZipFile(archives[0], "a") as archive:
        archive.writestr("../outside.txt", "x")
        archive.writestr(str(tree.parent / "absolute.txt"), "x")
    assert len(Cityscapes(tree, "train")) == 12
    assert {path.name for path in tree.parent.iterdir()} == {"tree"}


def test_there_are_fifty_kinds():
    assert sum(map(len, ROWS.values())) >= 50

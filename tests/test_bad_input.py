"""Bad input of every kind is refused, with the file or field that is wrong and the cure."""

import contextlib
import ctypes
import math
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
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
import train
from data_io.image_io import read_image
from dataset import Cityscapes, read_labels
from engine import Recipe, evaluate, make_loader
from inference import load_model, predict
from model import UNet
from runtime.checkpoint import load_checkpoint, save_checkpoint
from utils import CITYSCAPES, Classes

NOISE = np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8)
GREY = NOISE[..., 0]
TINY = {"downscale": 1, "width": 2, "depth": 1, "epochs": 1, "workers": 0}
CHECK = "python -m prepare.cityscapes"


@pytest.fixture
def tree(streets, tmp_path) -> Path:
    """A copy of Streets that a test may spoil."""
    root = Path(shutil.copytree(streets, tmp_path / "tree"))
    (root / "streets.json").unlink()  # or it would be drawn anew
    return root


def first(tree: Path, kind: str = "leftImg8bit") -> Path:
    return sorted((tree / kind / "train").rglob("*.png"))[0]


def save(path: Path, pixels: np.ndarray, mode: str | None = None, **options) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **{"format": "PNG", **options})
    return path


def png(width: int, height: int, data: bytes, bits: int = 8) -> bytes:
    """An RGB PNG of this header and data, with the right checksums."""
    header = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for name, body in ((b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b"")):
        content += struct.pack(">I", len(body)) + name + body
        content += struct.pack(">I", zlib.crc32(name + body))
    return content


RGB16 = png(4, 2, 2 * (b"\0" + bytes(range(24))), bits=16)
RGBA = np.dstack([NOISE, GREY])


def flip_bit(path: Path) -> Path:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    return path


def cut(path: Path, keep: float) -> Path:
    os.truncate(path, int(path.stat().st_size * keep))
    return path


def replace_by(make, path: Path) -> None:
    path.unlink()
    make(path)


def refuses(exception, *fragments: str):
    """A block that must raise, with a message in which each regular expression is found."""
    return pytest.raises(exception, match="".join(rf"(?s:(?=.*{each}))" for each in fragments))


def network(**settings) -> UNet:
    torch.manual_seed(0)
    model = UNet(**{"width": 2, "depth": 1, **settings}).eval()
    model.classes = CITYSCAPES
    return model


@contextlib.contextmanager
def without_rights_of_root():
    """This thread may open only what the permissions of files allow, also if it is root's."""
    if sys.platform == "win32":
        pytest.skip("permissions are those of POSIX")
    if sys.platform != "linux":
        yield
        return
    libc = ctypes.CDLL(None)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()  # capset(2)
    libc.capget(header, sets)
    before = sets[0]
    sets[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    libc.capset(header, sets)
    try:
        yield
    finally:
        sets[0] = before
        libc.capset(header, sets)


# Images and labels


@pytest.mark.parametrize(
    ("spoil", "cure"),
    [
        pytest.param(lambda p: cut(p, 0.5), "restore it", id="cut in half"),
        pytest.param(lambda p: cut(p, 0.9995), "restore it", id="without its last bytes"),
        pytest.param(lambda p: cut(p, 0), "restore it", id="empty"),
        pytest.param(flip_bit, "restore it", id="one bit flipped"),
        pytest.param(lambda p: p.write_text("text"), "restore it", id="a text"),
        pytest.param(
            lambda p: save(p, NOISE, format="JPEG") and cut(p, 0.5), "restore it", id="half a JPEG"
        ),
        pytest.param(lambda p: replace_by(Path.mkdir, p), "must be an image", id="a directory"),
        pytest.param(
            lambda p: replace_by(lambda p: p.symlink_to("gone"), p),
            "restore it",
            id="a link to nowhere",
        ),
        pytest.param(
            lambda p: p.write_bytes(png(2**30, 2**30, b"")), "MAX_IMAGE_PIXELS", id="enormous"
        ),
        pytest.param(
            lambda p: p.write_bytes(png(20_000, 20_000, bytes(2_000_000))),
            "MAX_IMAGE_PIXELS",
            id="a decompression bomb",
        ),
        pytest.param(
            lambda p: p.write_bytes(png(10_000, 10_000, b"")), "MAX_IMAGE_PIXELS", id="large"
        ),
        pytest.param(lambda p: p.write_bytes(png(0, 5, b"")), "restore it", id="no pixels"),
        pytest.param(
            lambda p: p.write_bytes(png(50, 50, bytes(1000))), "restore it", id="too few pixels"
        ),
        pytest.param(
            lambda p: save(p, GREY.astype(np.uint16) * 257), "save it with 8", id="16-bit grey"
        ),
        pytest.param(lambda p: p.write_bytes(RGB16), "save it with 8", id="16-bit RGB"),
        pytest.param(lambda p: save(p, RGBA), "without an alpha", id="transparent"),
        pytest.param(
            lambda p: save(p, NOISE, save_all=True, append_images=[Image.fromarray(NOISE[::-1])]),
            "save the one",
            id="several frames",
        ),
    ],
)
def test_a_bad_image_is_named(tree, spoil, cure):
    path = first(tree)
    spoil(path)
    for read in (lambda: Cityscapes(tree, "train")[0], lambda: predict(network(), path)):
        with refuses((ValueError, FileNotFoundError), path.name, cure):
            read()


def write_train_ids(path: Path) -> None:
    """Labels as train ids, as in *_labelTrainIds.png, in all files of the directory."""
    ids = (np.arange(64 * 128) % 20).astype(np.uint8).reshape(64, 128)
    ids[ids == 19] = 255
    for each in path.parent.glob("*.png"):
        save(each, ids)


BAD_LABELS = [
    pytest.param(lambda p: save(p, NOISE), "not a \\*_color.png", id="colours"),
    pytest.param(lambda p: save(p, RGBA), "not a \\*_color.png", id="colours with alpha"),
    pytest.param(lambda p: save(p, NOISE, "P"), "_labelIds", id="a palette"),
    pytest.param(lambda p: save(p, GREY % 2 * 255, "1"), "8-bit grey", id="one bit"),
    pytest.param(lambda p: save(p, GREY.astype(np.uint16)), "8-bit grey", id="16 bits"),
    pytest.param(lambda p: save(p, GREY % 34, format="JPEG"), "8-bit grey PNG", id="a JPEG"),
    pytest.param(lambda p: save(p, GREY % 34 + 44), "0..33", id="ids out of range"),
    pytest.param(write_train_ids, "not the \\*_labelTrainIds", id="train ids"),
    pytest.param(flip_bit, "restore it", id="one bit flipped"),
    pytest.param(lambda p: cut(p, 0.5), "restore it", id="cut in half"),
    pytest.param(lambda p: save(p, GREY[:32] % 34), "restore both", id="another size"),
]


@pytest.mark.parametrize(("spoil", "cure"), BAD_LABELS)
def test_bad_labels_are_named(tree, spoil, cure):
    path = first(tree, "gtFine")
    spoil(path)
    with refuses(ValueError, path.name, cure):
        Cityscapes(tree, "train")[0]


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [pytest.param("gtFine", *row.values[:1], id=f"labels: {row.id}") for row in BAD_LABELS]
    + [
        pytest.param("leftImg8bit", lambda p: p.write_bytes(RGB16), id="image: 16 bits"),
        pytest.param("leftImg8bit", flip_bit, id="image: one bit flipped"),
    ],
)
def test_the_check_before_training_names_them_too(tree, kind, spoil, capsys, monkeypatch):
    path = first(tree, kind)
    spoil(path)
    monkeypatch.setattr(sys, "argv", ["cityscapes", str(tree), "--counts", "any"])
    assert prepare.cityscapes.main() == 1
    assert path.name in capsys.readouterr().out


# Data sets


def remove(tree: Path, *parts: str) -> None:
    shutil.rmtree(tree.joinpath(*parts))


def pack(tree: Path) -> list[Path]:
    """Put the tree into archives as Cityscapes has them."""
    archives = [tree / f"{kind}_trainvaltest.zip" for kind in ("leftImg8bit", "gtFine")]
    for path in archives:
        kind = path.name.split("_")[0]
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted((tree / kind).rglob("*.png")):
                archive.write(file, file.relative_to(tree))
        remove(tree, kind)
    return archives


def link_to_itself(tree: Path) -> None:
    city = first(tree).parent
    shutil.rmtree(city)
    city.symlink_to(city)


@pytest.mark.parametrize(
    ("spoil", "fragments"),
    [
        pytest.param(remove, ["/tree", "python -m prepare.streets"], id="absent"),
        pytest.param(
            lambda t: remove(t) or t.write_text("x"), ["/tree", "prepare.streets"], id="a file"
        ),
        pytest.param(lambda t: remove(t) or t.mkdir(), ["/tree", CHECK], id="empty"),
        pytest.param(
            lambda t: [remove(t, kind, "train") for kind in ("leftImg8bit", "gtFine")],
            ["/tree", "train", CHECK],
            id="without the split",
        ),
        pytest.param(lambda t: remove(t, "gtFine"), ["/tree", CHECK], id="without labels"),
        pytest.param(lambda t: remove(t, "leftImg8bit"), ["/tree", CHECK], id="without images"),
        pytest.param(
            lambda t: [path.unlink() for path in (t / "leftImg8bit" / "train").rglob("*.png")],
            ["leftImg8bit/train", CHECK],
            id="an empty split",
        ),
        pytest.param(
            lambda t: first(t, "gtFine").unlink(),
            ["1 of 12", "_gtFine_labelIds.png", CHECK],
            id="an image without labels",
        ),
        pytest.param(
            lambda t: first(t, "gtFine").rename(first(t, "gtFine").with_name("x_labelIds.png")),
            ["1 of 12", "_gtFine_labelIds.png", CHECK],
            id="labels of another frame",
        ),
        pytest.param(
            lambda t: [cut(path, 0.5) for path in pack(t)],
            ["archive", "/tree", CHECK],
            id="half a download",
        ),
        pytest.param(
            lambda t: flip_bit(pack(t)[0]), ["archive", "/tree", CHECK], id="a damaged archive"
        ),
        pytest.param(
            lambda t: pack(t)[1].write_text("<html>"),
            ["archive", "/tree", CHECK],
            id="a login page for an archive",
        ),
        pytest.param(lambda t: pack(t)[0].unlink(), ["/tree", CHECK], id="one archive of two"),
        pytest.param(
            lambda t: (t / "leftImg8bit" / "train").chmod(0),
            ["leftImg8bit/train", "Permission denied", CHECK],
            id="a closed split",
        ),
        pytest.param(
            lambda t: first(t, "gtFine").parent.chmod(0),
            ["gtFine/train/", "Permission denied", CHECK],
            id="a closed city of labels",
        ),
    ],
)
def test_a_bad_tree_is_refused_at_once(tree, spoil, fragments):
    spoil(tree)
    with without_rights_of_root(), refuses((OSError, ValueError), *fragments):
        Cityscapes(tree, "train")


def test_a_split_that_does_not_exist_is_refused(tree):
    with refuses(ValueError, "validation", "val"):
        Cityscapes(tree, "validation")


def test_a_variable_that_is_not_set_is_named():
    with refuses(FileNotFoundError, r"\$NO_SUCH_VARIABLE/x", "export"):
        Cityscapes("$NO_SUCH_VARIABLE/x", "train")


@pytest.mark.parametrize(
    ("spoil", "count", "left_out"),
    [
        (lambda t: first(t).unlink(), 11, "1 labels.*_labelIds.png"),
        (lambda t: (first(t).parent / "up").symlink_to(t), 12, "1 files.*/up"),
        (lambda t: save(first(t).with_name("x.png"), NOISE), 12, "1 files.*x.png"),
        (lambda t: (t / "leftImg8bit" / "train" / "x.txt").touch(), 12, "1 files.*x.txt"),
    ],
)
def test_what_is_left_out_is_named_in_a_warning(tree, spoil, count, left_out):
    spoil(tree)
    with pytest.warns(UserWarning, match=f"{left_out}.*{CHECK}"):
        assert len(Cityscapes(tree, "train")) == count


def test_a_city_that_is_a_link_to_itself_is_refused(tree):
    link_to_itself(tree)
    with pytest.raises(OSError, match=f"/ahornau.*link.*{CHECK}"):
        Cityscapes(tree, "train")


# CamVid


def camvid(folder: Path) -> Path:
    """A CamVid of one frame; returns its image."""
    for name, pixels in (("trainannot", GREY % 12), ("train", NOISE)):
        (folder / name).mkdir()
        save(folder / name / "0001TP_01.png", pixels)
    return folder / "train" / "0001TP_01.png"


@pytest.mark.parametrize(
    ("spoil", "fragments"),
    [
        pytest.param(lambda p: flip_bit(p), ["train/0001TP_01.png", "restore"], id="damaged"),
        pytest.param(lambda p: p.unlink(), ["train", "clone"], id="no frame"),
        pytest.param(
            lambda p: save(p, NOISE[:32]), ["annot/0001TP_01.png", "clone"], id="another size"
        ),
        pytest.param(
            lambda p: save(p.with_name("0001TP_1.png"), NOISE), ["0001TP_1?", "move"], id="twice"
        ),
    ],
)
def test_a_bad_camvid_is_named(tmp_path, spoil, fragments):
    spoil(camvid(tmp_path))
    with refuses((OSError, ValueError), *fragments):
        prepare.camvid.convert(tmp_path, tmp_path / "out")


# Checkpoints


class Trap:
    """Makes a directory when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("sprung",)


def checkpoint(folder: Path, model: UNet | None = None) -> Path:
    path = folder / "model.pt"
    save_checkpoint(path, model or network(), Recipe(width=2, depth=1, downscale=1), [])
    return path


def altered(folder: Path, **settings) -> Path:
    """A checkpoint without a checksum, with other settings than those of its weights."""
    path = checkpoint(folder)
    content = load_checkpoint(path)
    torch.save({**content, "settings": {**content["settings"], **settings}}, path)
    return path


def not_finite(folder: Path) -> Path:
    model = network()
    torch.nn.init.constant_(model.conv_1x1.weight, math.nan)
    return checkpoint(folder, model)


def dump(folder: Path, content, dump=torch.save) -> Path:
    with open(folder / "model.pt", "wb") as file:
        dump(content, file)
    return folder / "model.pt"


@pytest.mark.parametrize(
    ("make", "fragments"),
    [
        pytest.param(lambda f: altered(f, width=4), ["'width': 4", "restore"], id="other width"),
        pytest.param(
            lambda f: altered(f, padding="valid"), ["padding", "restore"], id="other padding"
        ),
        pytest.param(lambda f: cut(checkpoint(f), 0.8), ["damaged"], id="cut"),
        pytest.param(lambda f: cut(checkpoint(f), 0), ["no checkpoint"], id="empty"),
        pytest.param(lambda f: flip_bit(checkpoint(f)), ["damaged", "restore"], id="one bit"),
        pytest.param(lambda f: dump(f, {"model": Trap()}), ["more than plain data"], id="code"),
        pytest.param(
            lambda f: dump(f, {"model": Trap()}, pickle.dump),
            ["more than plain data"],
            id="code in a bare pickle",
        ),
        pytest.param(
            lambda f: dump(f, {"weights": torch.zeros(2)}), ["this project"], id="something else"
        ),
        pytest.param(not_finite, ["finite", "take an earlier one"], id="weights of nan"),
    ],
)
def test_a_bad_checkpoint_is_named(tmp_path, monkeypatch, make, fragments):
    monkeypatch.chdir(tmp_path)
    path = make(tmp_path)
    with refuses(ValueError, str(path), *fragments):
        load_model(path)
    assert os.listdir() == ["model.pt"]


@pytest.mark.parametrize("name", ["no.pt", ""])
def test_a_checkpoint_that_is_no_file_is_named(tmp_path, name):
    with refuses(OSError, str(tmp_path / name)):
        load_model(tmp_path / name)


def test_a_network_of_other_classes_than_the_labels_is_refused(tree):
    loader = make_loader(Cityscapes(tree, "val"), 1, train=False, workers=0)
    model = network(num_classes=2)
    model.classes = Classes(("paved", "grass"), (7, 22), ((1, 2, 3), (4, 5, 6)))
    with refuses(ValueError, "classes", "paved", "road"):
        evaluate(model, loader)


# What predict takes


@pytest.mark.parametrize(
    ("image", "found"),
    [
        pytest.param(torch.rand(3, 8, 8), "float32", id="floats"),
        pytest.param(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), r"\(1, 3, 8, 8\)", id="a batch"),
        pytest.param(torch.zeros(3, 0, 8, dtype=torch.uint8), r"\(3, 0, 8\)", id="nothing"),
        pytest.param(torch.zeros(8, 8, dtype=torch.uint8), r"\(8, 8\)", id="grey"),
        pytest.param(torch.zeros(1, 8, 8, dtype=torch.uint8), r"\(1, 8, 8\)", id="one channel"),
        pytest.param(torch.zeros(4, 8, 8, dtype=torch.uint8), r"\(4, 8, 8\)", id="four channels"),
        pytest.param(torch.from_numpy(NOISE), r"\(64, 128, 3\)", id="channels last"),
        pytest.param(NOISE, "ndarray", id="an array"),
        pytest.param(None, "NoneType", id="None"),
    ],
)
def test_predict_says_what_it_takes(image, found):
    with refuses(ValueError, r"uint8 \(3, H, W\)", f"not .*{found}"):
        predict(network(), image)


@pytest.mark.parametrize(
    ("pixels", "cure"), [(GREY.astype(np.uint16), "save it with 8"), (RGBA, "without an alpha")]
)
def test_predict_refuses_a_pillow_image_that_rgb_cannot_hold(pixels, cure):
    with refuses(ValueError, cure):
        predict(network(), Image.fromarray(pixels))


# The command line and the notebooks


def train_with(tree: Path, *args: str, **fields) -> None:
    """Run train.py in this process, with a recipe file of these fields."""
    recipe = tree.parent / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({**TINY, "data_root": str(tree), **fields}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", f"--recipe={recipe}", f"--run={tree.parent}/run"])
        sys.argv += args
        train.main()


def train_twice(tree: Path) -> None:
    train_with(tree)
    train_with(tree, width=3)


def trap_run(tree: Path) -> None:
    (tree.parent / "run").mkdir()
    dump(tree.parent / "run", {"model": Trap()}).rename(tree.parent / "run" / "last.pt")
    train_with(tree)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "fragments"),
    [
        pytest.param(lambda t: remove(t) or train_with(t), ["/tree", "prepare"], id="no data"),
        pytest.param(
            lambda t: flip_bit(first(t)) and train_with(t, workers=1),
            ["_leftImg8bit.png", "restore it"],
            id="an image that a worker meets",
        ),
        pytest.param(
            lambda t: (
                save(first(t), NOISE[:32])
                and save(first(t, "gtFine"), GREY[:32] % 34)
                and train_with(t, batch_size=12)
            ),
            ["sizes", "_leftImg8bit.png", "crop"],
            id="a batch of two sizes",
        ),
        pytest.param(
            lambda t: train_with(t, padding="valid", depth=4, crop=[16, 16]),
            ["crop", "16"],
            id="a crop too small for valid padding",
        ),
        pytest.param(lambda t: train_with(t, epoch=3), ["epochs?"], id="an unknown field"),
        pytest.param(lambda t: train_with(t, "--lr=-1"), ["lr must be"], id="a bad value"),
        pytest.param(
            train_twice,
            ["/run ", "width is 3", "another run"],
            id="another recipe",
        ),
        pytest.param(
            trap_run,
            ["last.pt", "plain data", "delete"],
            id="a run that holds code",
        ),
    ],
)
def test_train_py_ends_with_one_line_that_says_so(tree, monkeypatch, way, fragments):
    monkeypatch.chdir(tree.parent)
    with pytest.raises(SystemExit) as end:
        way(tree)
    said = end.value.code
    assert said.startswith("error: ") and "\n" not in said
    for fragment in fragments:
        assert re.search(fragment, said), said
    assert not Path("sprung").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters", "fragment"),
    [
        ("trainer.ipynb", {"batch_size": 0}, "batch_size must be between 1 and"),
        ("test.ipynb", {"checkpoint": __file__}, f"{Path(__file__).name} is no checkpoint"),
    ],
)
def test_a_notebook_says_so_too(tmp_path, name, parameters, fragment):
    args = [part for key, value in parameters.items() for part in ("-p", key, str(value))]
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", name, tmp_path / "out.ipynb"]
    done = subprocess.run([*command, *args], capture_output=True, text=True, timeout=500)
    assert done.returncode != 0
    assert fragment in done.stderr


# What must work, and give the right numbers


def text(value: str) -> PngInfo:
    info = PngInfo()
    info.add_text("Comment", value)
    return info


GREY_RGB = np.dstack([GREY] * 3)


@pytest.mark.parametrize(
    ("write", "pixels"),
    [
        pytest.param(lambda p: save(p, NOISE), NOISE, id="RGB"),
        pytest.param(lambda p: save(p, GREY), GREY_RGB, id="grey"),
        pytest.param(lambda p: save(p, NOISE // 128 * 255, "P"), NOISE // 128 * 255, id="palette"),
        pytest.param(lambda p: save(p, NOISE, "RGBA"), NOISE, id="opaque alpha"),
        pytest.param(lambda p: save(p, GREY, "LA"), GREY_RGB, id="grey with opaque alpha"),
        pytest.param(
            lambda p: save(p, GREY // 128 * 255, "1"), GREY_RGB // 128 * 255, id="one bit"
        ),
        pytest.param(lambda p: save(p, NOISE, format="WEBP", lossless=True), NOISE, id="WebP"),
        pytest.param(lambda p: save(p, NOISE[:1, :1]), NOISE[:1, :1], id="one pixel"),
        pytest.param(lambda p: save(p, NOISE, pnginfo=text(";16")), NOISE, id="a comment of ;16"),
    ],
)
def test_an_image_of_another_form_is_read_as_it_is_seen(tmp_path, write, pixels):
    path = write(tmp_path / "an image, größer.png")
    assert np.array_equal(read_image(path).permute(1, 2, 0).numpy(), pixels)
    expected = predict(network(), torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous())
    assert torch.equal(predict(network(), path), expected)
    with Image.open(path) as opened:
        assert torch.equal(predict(network(), opened), expected)


def test_a_jpeg_under_a_png_name_is_read(tree):
    path = save(first(tree), NOISE, format="JPEG")
    with Image.open(path) as opened:
        expected = np.array(opened)
    assert np.array_equal(Cityscapes(tree, "train")[0][0].permute(1, 2, 0).numpy(), expected)


def test_predict_takes_a_tensor_of_any_layout():
    tensor = torch.from_numpy(NOISE).permute(2, 0, 1)
    expected = predict(network(), tensor.contiguous())
    assert not tensor.is_contiguous()
    assert torch.equal(predict(network(), tensor), expected)
    assert torch.equal(predict(network(), tv_tensors.Image(tensor)), expected)
    assert torch.equal(predict(network(), tensor.repeat_interleave(2, 2)[:, :, ::2]), expected)


@pytest.mark.parametrize(
    "options", [{}, {"pnginfo": text("x"), "compress_level": 0}, {"transparency": 7}]
)
def test_labels_may_hold_every_id_and_255(tree, options):
    ids = (np.arange(64 * 128) % 35).astype(np.uint8).reshape(64, 128)
    ids[ids == 34] = 255
    path = save(first(tree, "gtFine"), ids, **options)
    assert torch.equal(read_labels(path), CITYSCAPES.train_ids[torch.from_numpy(ids).int()])


def test_names_may_have_spaces_and_letters_of_any_alphabet(streets, tmp_path):
    root = Path(shutil.copytree(streets, tmp_path / "Straßen, 街 und mehr" / "tree"))
    for path in sorted(root.rglob("*.png")):
        city = path.parent.with_name("Köln am Rhein")
        city.mkdir(exist_ok=True)
        path.rename(city / path.name.replace(path.name.split("_")[0], "Köln am Rhein", 1))
    for city in root.glob("*/*/*"):
        if not any(city.iterdir()):
            city.rmdir()
    (root / "streets.json").unlink()
    train_with(root)
    model = load_model(root.parent / "run" / "best.pt")
    assert predict(model, first(root)).shape == (64, 128)


def test_the_root_may_be_a_link(streets, tmp_path):
    (tmp_path / "linked").symlink_to(streets)
    with warnings.catch_warnings(action="error"):
        assert len(Cityscapes(tmp_path / "linked", "train")) == 12

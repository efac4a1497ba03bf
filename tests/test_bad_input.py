"""Bad input of every kind is refused, with the file or field that is wrong and the cure."""

import os
import pickle
import re
from functools import partial
from pathlib import Path
from shutil import rmtree

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from data_io.image_io import read_image
from dataset import Cityscapes, read_labels
from engine import Recipe
from inference import load_model, predict
from prepare.cityscapes import check
from runtime.checkpoint import load_checkpoint, save_checkpoint
from tests.processes import TINY
from tests.samples import NOISE, cut, first, flip_bit, png, save
from tests.training import network
from utils import CITYSCAPES

GREY = NOISE[..., 0]
CHECK = "python -m prepare.cityscapes"


@pytest.fixture
def tree(tree) -> Path:
    (tree / "streets.json").unlink()
    return tree.rename(tree.with_name("tree"))  # under the name of Streets it would be drawn anew


TRAIN_IDS = np.where(GREY % 20 == 19, 255, GREY % 20)
RGB16 = png(4, 2, 2 * (b"\0" + bytes(range(24))), bits=16)
RGBA = np.dstack([NOISE, GREY])
FRAMES = {"save_all": True, "append_images": [Image.fromarray(NOISE[::-1])]}


def refuses(exception, *fragments: str):
    """A block that must raise, with a message in which each regular expression is found."""
    return pytest.raises(exception, match="".join(rf"(?s:(?=.*{each}))" for each in fragments))


BAD_IMAGES = {  # how a file is spoilt, and the cure that the error names
    "cut in half": (lambda p: cut(p, 0.5), "restore it"),
    "without its last bytes": (lambda p: cut(p, 0.9995), "restore it"),
    "empty": (lambda p: cut(p, 0), "restore it"),
    "one bit flipped": (flip_bit, "restore it"),
    "a text": (lambda p: p.write_text("text"), "restore it"),
    "half a JPEG": (lambda p: save(p, NOISE, format="JPEG") and cut(p, 0.5), "restore it"),
    "a directory": (lambda p: p.unlink() or p.mkdir(), "must be an image"),
    "a link to nowhere": (lambda p: p.unlink() or p.symlink_to("gone"), "restore it"),
    "enormous": (lambda p: p.write_bytes(png(2**30, 2**30, b"")), "MAX_IMAGE_PIXELS"),
    "a bomb": (lambda p: p.write_bytes(png(20_000, 20_000, bytes(2 * 10**6))), "MAX_IMAGE_PIXELS"),
    "no pixels": (lambda p: p.write_bytes(png(0, 5, b"")), "restore it"),
    "too few pixels": (lambda p: p.write_bytes(png(50, 50, bytes(1000))), "restore it"),
    "16-bit grey": (lambda p: save(p, GREY.astype(np.uint16) * 257), "save it with 8"),
    "16-bit RGB": (lambda p: p.write_bytes(RGB16), "save it with 8"),
    "transparent": (lambda p: save(p, RGBA), "without an alpha"),
    "several frames": (lambda p: save(p, NOISE, **FRAMES), "save the one"),
}
BAD_LABELS = {  # the same, of labels
    "colours": (lambda p: save(p, NOISE), r"not a \*_color.png"),
    "colours with alpha": (lambda p: save(p, RGBA), r"not a \*_color.png"),
    "a palette": (lambda p: save(p, NOISE, "P"), "_labelIds"),
    "one bit": (lambda p: save(p, GREY % 2 * 255, "1"), "8-bit grey"),
    "16 bits": (lambda p: save(p, GREY.astype(np.uint16)), "8-bit grey"),
    "a JPEG": (lambda p: save(p, GREY % 34, format="JPEG"), "8-bit grey PNG"),
    "ids out of range": (lambda p: save(p, GREY % 34 + 44), "0..33"),
    "train ids": (lambda p: save(p, TRAIN_IDS), r"not the \*_labelTrainIds"),
    "one bit flipped": (flip_bit, "restore it"),
    "cut in half": (lambda p: cut(p, 0.5), "restore it"),
    "another size": (lambda p: save(p, GREY[:32] % 34), "restore both"),
}


BAD_FILES = [("leftImg8bit", *each) for each in BAD_IMAGES.values()]
BAD_FILES += [("gtFine", *each) for each in BAD_LABELS.values()]


@pytest.mark.parametrize(("kind", "spoil", "cure"), BAD_FILES, ids=[*BAD_IMAGES, *BAD_LABELS])
def test_a_bad_file_is_named_by_data_set_predict_and_the_check(tree, kind, spoil, cure):
    path = first(tree, kind)
    spoil(path)
    readers = [lambda: Cityscapes(tree, "train")[0], lambda: predict(network(), path)]
    for read in readers[: 2 if kind == "leftImg8bit" else 1]:
        with refuses((ValueError, FileNotFoundError), path.name, cure):
            read()
    assert path.name in "\n".join(check(tree, counts=None))


# Bad archives: see test_prepare_cityscapes, which asks the data set, too, and test_fuzz.
BAD_TREES = {  # how a tree is spoilt, and what the error says
    "absent": (rmtree, ["/tree", "python -m prepare.streets"]),
    "a file": (lambda t: rmtree(t) or t.write_text("x"), ["/tree", "prepare.streets"]),
    "empty": (lambda t: rmtree(t) or t.mkdir(), ["/tree", CHECK]),
    "without the split": (lambda t: rmtree(t / "leftImg8bit/train"), ["/tree", "train", CHECK]),
    "without labels": (lambda t: rmtree(t / "gtFine"), ["/tree", CHECK]),
    "without images": (lambda t: rmtree(t / "leftImg8bit"), ["/tree", CHECK]),
    "an empty split": (
        lambda t: [path.unlink() for path in (t / "leftImg8bit/train").rglob("*.png")],
        ["leftImg8bit/train", CHECK],
    ),
    "an image without labels": (
        lambda t: first(t, "gtFine").unlink(),
        ["1 of 12", "_gtFine_labelIds.png", CHECK],
    ),
}


@pytest.mark.parametrize(("spoil", "fragments"), BAD_TREES.values(), ids=BAD_TREES)
def test_a_bad_tree_is_refused_at_once(tree, spoil, fragments):
    with refuses(ValueError, "validation", "val"):
        Cityscapes(tree, "validation")
    spoil(tree)
    with refuses((OSError, ValueError), *fragments):
        Cityscapes(tree, "train")


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


class Trap:
    def __reduce__(self):
        return os.mkdir, ("sprung",)


def checkpoint(folder: Path, **weights: float) -> Path:
    path, model = folder / "model.pt", network()
    for name, value in weights.items():
        torch.nn.init.constant_(getattr(model, name).weight, value)
    save_checkpoint(path, model, Recipe(width=4, depth=2, downscale=1), [])
    return path


def altered(folder: Path, **parts) -> Path:
    """A checkpoint without a checksum, with other parts; a part that is a dict is changed."""
    path = checkpoint(folder)
    content = load_checkpoint(path)
    for name, part in parts.items():
        both = isinstance(part, dict) and part and name != "model"
        content[name] = {**content[name], **part} if both else part
    torch.save(content, path)
    return path


def dump(folder: Path, content, dump=torch.save) -> Path:
    with open(folder / "model.pt", "wb") as file:
        dump(content, file)
    return folder / "model.pt"


PLAIN, OTHER, UNFIT = "more than plain data", "no checkpoint of this project", "do not fit its"
TABLE = {"names": ("a",), "ids": (1,), "colors": ((1, 2, 3),), "categories": ()}
BAD_PARTS = [
    ({"settings": {"width": 2}}, "'width': 2.*restore"),
    ({"settings": {"padding": "valid"}}, "padding.*restore"),
    ({"settings": {"width": "x"}}, UNFIT),
    ({"settings": {"width": 10**30}}, UNFIT),
    ({"settings": "x"}, OTHER),
    ({"model": {}}, UNFIT),
    ({"model": "x"}, OTHER),
    ({"model": {1: torch.ones(1)}}, OTHER),
    ({"model": {"a": 1}}, OTHER),
    ({"model": {"a": torch.eye(2).to_sparse()}}, OTHER),
    ({"model": {"a": torch.empty(2, device="meta")}}, OTHER),
    ({"recipe": []}, OTHER),
    ({"recipe": {}}, "downscale is None"),
    ({"recipe": {"downscale": "2"}}, "downscale is '2'"),
    ({"classes": {"surprise": 1}}, ""),
    ({"classes": TABLE}, "names 1 classes"),
    ({"classes": TABLE | {"ids": (300,)}}, "0..255"),
    ({"classes": TABLE | {"colors": ((1, 2, "x"),)}}, "color"),
    ({"classes": TABLE | {"categories": ("a", "b")}}, "category"),
]
BAD_CHECKPOINTS = {
    **{str(parts): (partial(altered, **parts), [said]) for parts, said in BAD_PARTS},
    "cut": (lambda f: cut(checkpoint(f), 0.8), ["damaged"]),
    "without a byte": (lambda f: cut(checkpoint(f), -1), ["damaged", "restore"]),
    "without its checksum": (lambda f: cut(checkpoint(f), -71), ["damaged", "restore"]),
    "empty": (lambda f: cut(checkpoint(f), 0), ["no checkpoint"]),
    "one bit": (lambda f: flip_bit(checkpoint(f)), ["damaged", "restore"]),
    "code": (lambda f: dump(f, {"model": Trap()}), [PLAIN]),
    "code in a bare pickle": (lambda f: dump(f, {"model": Trap()}, pickle.dump), [PLAIN]),
    "a text": (lambda f: dump(f, b"no checkpoint", lambda text, file: file.write(text)), []),
    "something else": (lambda f: dump(f, {"weights": torch.zeros(2)}), [OTHER]),
    "not finite": (
        lambda f: checkpoint(f, conv_1x1=torch.nan),
        ["finite", "take an earlier one"],
    ),
}


@pytest.mark.parametrize(("make", "fragments"), BAD_CHECKPOINTS.values(), ids=BAD_CHECKPOINTS)
def test_a_bad_checkpoint_is_named(tmp_path, monkeypatch, make, fragments):
    monkeypatch.chdir(tmp_path)
    path = make(tmp_path)
    with refuses(ValueError, re.escape(str(path)), *fragments):
        load_model(path)
    assert os.listdir() == ["model.pt"]


BYTES, TAKES = torch.from_numpy(NOISE).permute(2, 0, 1), r"uint8 \(3, H, W\).*not .*"
NO_IMAGES = {
    "floats": (BYTES.float(), f"{TAKES}float32"),
    "a batch": (BYTES[None], rf"{TAKES}\(1, 3, 64, 128\)"),
    "nothing": (BYTES[:, :0], rf"{TAKES}\(3, 0, 128\)"),
    "grey": (BYTES[0], rf"{TAKES}\(64, 128\)"),
    "one channel": (BYTES[:1], rf"{TAKES}\(1, 64, 128\)"),
    "channels last": (torch.from_numpy(NOISE), rf"{TAKES}\(64, 128, 3\)"),
    "an array": (NOISE, f"{TAKES}ndarray"),
    "None": (None, f"{TAKES}NoneType"),
    "16 bits": (Image.fromarray(GREY.astype(np.uint16)), "save it with 8"),
    "transparent": (Image.fromarray(RGBA), "without an alpha"),
}


@pytest.mark.parametrize(("image", "said"), NO_IMAGES.values(), ids=NO_IMAGES)
def test_predict_says_what_it_takes(image, said):
    with refuses(ValueError, said):
        predict(network(), image)


@pytest.mark.slow
def test_an_image_that_a_worker_cannot_read_ends_train_py_with_one_line(tree, monkeypatch, command):
    monkeypatch.chdir(tree.parent)
    path = flip_bit(first(tree))
    Path("recipe.yaml").write_text(yaml.safe_dump({**TINY, "data_root": str(tree), "workers": 1}))
    with pytest.raises(SystemExit, match=f"^error: .*{path.name} .*restore it") as end:
        command("train", "--recipe=recipe.yaml", "--run=run")
    assert "\n" not in end.value.code


def text(value: str) -> PngInfo:
    info = PngInfo()
    info.add_text("Comment", value)
    return info


GREY_RGB = np.dstack([GREY] * 3)
BLACK_WHITE = NOISE // 128 * 255
FORMS = {  # what is written, and the pixels that a viewer shows
    "RGB": (lambda p: save(p, NOISE), NOISE),
    "grey": (lambda p: save(p, GREY), GREY_RGB),
    "palette": (lambda p: save(p, BLACK_WHITE, "P"), BLACK_WHITE),
    "opaque alpha": (lambda p: save(p, NOISE, "RGBA"), NOISE),
    "grey with opaque alpha": (lambda p: save(p, GREY, "LA"), GREY_RGB),
    "one bit": (lambda p: save(p, GREY // 128 * 255, "1"), GREY_RGB // 128 * 255),
    "JPEG": (lambda p: save(p, np.full_like(NOISE, 99), format="JPEG"), np.full_like(NOISE, 99)),
    "WebP": (lambda p: save(p, NOISE, format="WEBP", lossless=True), NOISE),
    "one pixel": (lambda p: save(p, NOISE[:1, :1]), NOISE[:1, :1]),
    "a comment of ;16": (lambda p: save(p, NOISE, pnginfo=text(";16")), NOISE),
}


@pytest.mark.parametrize(("write", "pixels"), FORMS.values(), ids=FORMS)
def test_an_image_of_another_form_is_read_as_it_is_seen(tmp_path, write, pixels):
    path = write(tmp_path / "an image, größer.png")
    assert np.array_equal(read_image(path).permute(1, 2, 0).numpy(), pixels)
    expected = predict(network(), torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous())
    assert torch.equal(predict(network(), path), expected)
    with Image.open(path) as opened:
        assert torch.equal(predict(network(), opened), expected)


@pytest.mark.parametrize(
    "options", [{}, {"pnginfo": text("x"), "compress_level": 0}, {"transparency": 7}]
)
def test_labels_may_hold_every_id_and_255(tree, options):
    ids = (np.arange(64 * 128) % 35).astype(np.uint8).reshape(64, 128)
    ids[ids == 34] = 255
    path = save(first(tree, "gtFine"), ids, **options)
    assert torch.equal(read_labels(path), CITYSCAPES.train_ids[torch.from_numpy(ids).int()])

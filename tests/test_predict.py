"""Networks are loaded, images and videos labelled from the shell, and `predict` takes any image."""

import shutil
import sys
from fractions import Fraction
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F

import engine
import inference
import label_files
import tiling
from data_io.image_io import jpeg_damage, read_image
from data_io.video import VideoReader
from data_io.video_writer import VideoWriter
from dataset import resize
from inference import load_model, predict
from model import UNet
from runtime.checkpoint import load_checkpoint, save_checkpoint
from runtime.console import errors_shown
from tests.processes import ROOT, python
from tests.samples import contents, cut, first, patched, turned
from tests.training import network, noise
from utils import CITYSCAPES

CHECKPOINT = ROOT / "checkpoints" / "streets.pt"
SUBMISSION = ["--submission", "data"]
USAGE = "^2$"  # argparse's exit status, after a message on stderr
UNDO = {3: Image.ROTATE_180, 6: Image.ROTATE_90, 8: Image.ROTATE_270}  # orientation tags


@pytest.fixture(scope="module")
def model() -> UNet:
    return load_model(CHECKPOINT)


@pytest.fixture
def photo(streets) -> Path:
    return first(streets, split="val")


@pytest.fixture
def label(command):
    return partial(command, "predict", CHECKPOINT)


@pytest.mark.slow
def test_the_shell_labels_the_photographs_that_a_glob_names(streets, model, tmp_path):
    pattern, out = streets / "leftImg8bit" / "val" / "*" / "*.png", tmp_path / "out"
    python("predict.py", CHECKPOINT, pattern, "--out", out)
    assert len(list(out.glob("*_overlay.jpg"))) == 5
    for path in streets.glob("leftImg8bit/val/*/*.png"):
        labels, expected = Image.open(out / f"{path.stem}_labels.png"), predict(model, path)
        assert np.array_equal(labels, CITYSCAPES.label_ids[expected.int()])
        assert np.array_equal(labels.convert("RGB"), CITYSCAPES.palette[expected.int()])


def test_a_directory_is_labelled_with_all_below_it_but_results(streets, tmp_path, label, capsys):
    """Links are followed, but not in a circle; what is hidden or a preview is passed over."""
    source, elsewhere = tmp_path / "holiday", tmp_path / "elsewhere"
    shutil.copytree(streets / "leftImg8bit" / "val", source / "day 1")
    for place in (elsewhere, source / "day 2.jpg", source / ".thumbnails", source / "@eaDir"):
        place.mkdir()
        shutil.copy(first(streets), place)
    (source / "linked").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(source)
    (source / "notes.txt").touch()
    (source / "._hidden.png").touch()
    files_each = {("--confidence",): 3, ("--confidence", "--overwrite"): 3, ("--overwrite",): 2}
    for options, number in files_each.items():  # no confidence stays beside other labels
        label(source, "--out", source / "out", *options)
        made = [path for path in (source / "out").rglob("*.*") if path.is_file()]
        assert len(made) == number * 7
        said = capsys.readouterr().out
        assert "7 images" in said and "road" in said and "also holds 1 *.txt, left out" in said
    found = {path.relative_to(source / "out").parts[:2] for path in made}
    assert found == {("holiday", name) for name in ("day 1", "day 2.jpg", "linked")}
    (tmp_path / "empty").mkdir()  # is not blamed with the note on the other folder
    with pytest.raises(SystemExit, match="empty: there is no image or video: correct the path"):
        label(source, tmp_path / "empty", "--out", tmp_path / "out")


def test_overlays_are_as_opaque_and_in_the_colours_that_are_asked_for(photo, tmp_path, label):
    plain = np.asarray(Image.open(photo).convert("RGB")).astype(int)
    far, labels = [], set()
    for options in ((), ("--alpha", 0), ("--palette", "safe")):
        label(photo, "--out", tmp_path, "--overwrite", *options)
        drawn = np.asarray(Image.open(tmp_path / f"{photo.stem}_overlay.jpg")).astype(int)
        far.append(np.median(np.abs(drawn[: len(plain)] - plain)))
        labels.add((tmp_path / f"{photo.stem}_labels.png").read_bytes())
    usual, transparent, safe = far
    assert 2 * transparent < usual != safe > 2 * transparent and len(labels) == 1


def test_results_among_the_files_of_a_glob_are_no_images(photo, tmp_path, label, capsys):
    shutil.copy(photo, tmp_path / "a.png")
    for _ in range(2):
        label(tmp_path / "*.*", "--out", tmp_path, "--overwrite")
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"a.png", "a_labels.png", "a_overlay.jpg"}
    assert "2 inputs are results of others, left out" in capsys.readouterr().out


@pytest.mark.parametrize("ending", ["_labels.png", "_overlay.jpg"])
def test_what_another_call_wrote_is_overwritten_only_if_asked(photo, tmp_path, label, ending):
    for name in ("front/000001.png", "rear/000001.png", "more/front/000001.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        shutil.copy(photo, tmp_path / name)
    out = tmp_path / "out"
    for folder in ("front", "rear"):  # of the same names
        label(tmp_path / folder, "--out", out)
    assert len(list(out.rglob("*_labels.png"))) == 2
    kept = out / "front" / f"000001{ending}"
    shutil.rmtree(kept.parent)
    kept.parent.mkdir()
    kept.write_bytes(b"mine")
    before = contents(out)
    with pytest.raises(SystemExit, match=f"(?s){ending}.*--out.*--overwrite"):
        label(tmp_path / "more" / "front", "--out", out)
    assert contents(out) == before
    label(tmp_path / "more" / "front", "--out", out, "--overwrite")
    assert kept.read_bytes() != b"mine"


def test_a_picture_and_a_video_of_one_name_are_both_labelled(photo, tmp_path, label):
    pytest.importorskip("av")
    shutil.copy(photo, tmp_path / "IMG_1.png")  # as phones leave them
    with VideoWriter(tmp_path / "part.mp4", 25) as video:
        video.write(read_image(photo).permute(1, 2, 0))
    (tmp_path / "part.mp4").rename(tmp_path / "IMG_1.MOV")
    label(tmp_path, "--out", tmp_path / "out")
    made = {path.name for path in (tmp_path / "out").rglob("IMG_1_*")}
    assert made == {"IMG_1_labels.png", "IMG_1_overlay.jpg", "IMG_1_overlay.mp4"}


@pytest.mark.parametrize("other", ["a.jpg", "b/A.png"])  # A is a on Windows and macOS
def test_two_images_of_one_name_are_refused_and_nothing_written(photo, tmp_path, label, other):
    (tmp_path / "b").mkdir()
    inputs = tmp_path / "a.png", tmp_path / other
    for path in inputs:
        Image.open(photo).save(path)
    with pytest.raises(SystemExit, match=rf"({other}.*a\.png|a\.png.*{other}).*rename"):
        label(*inputs, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_bad_image_is_named_at_the_end_and_the_others_are_labelled(photo, tmp_path, label):
    shutil.copy(photo, tmp_path / "b.png")
    (tmp_path / "a.png").write_bytes(photo.read_bytes()[:500])
    (tmp_path / "a_link.png").symlink_to(tmp_path / "gone.png")
    Image.new("RGB", (8, 65_499)).save(tmp_path / "tall.png")  # than a JPEG can be, with a legend
    Image.new("RGB", (66_000, 8)).save(tmp_path / "wide.png")
    overlays = r"tall\.png: its overlay.*wide\.png: its overlay"
    said = rf"(?s)4 of 5.*a\.png cannot be read.*no image at .*a_link.*{overlays}"
    with pytest.raises(SystemExit, match=said):
        label(tmp_path, "--out", tmp_path / "out")
    made = {path.name for path in (tmp_path / "out" / tmp_path.name).iterdir()}
    assert made == {"b_labels.png", "b_overlay.jpg"}


def test_too_little_memory_and_ctrl_c_say_how_to_go_on(photo, tmp_path, label, monkeypatch):
    def predict_all_but_a(model, image, **options) -> torch.Tensor:
        return torch.empty(2**60) if image.shape[-1] == 99 else predict(model, image, **options)

    monkeypatch.setattr(label_files, "predict", predict_all_but_a)
    Image.new("RGB", (99, 50)).save(tmp_path / "a.png")
    with pytest.raises(SystemExit, match=r"(?s)1 of 2.*a\.png does not fit into memory.*--scale"):
        label(tmp_path / "a.png", photo, "--out", tmp_path / "out")
    assert (tmp_path / "out" / f"{photo.stem}_labels.png").is_file()
    monkeypatch.setattr(label_files, "predict", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(SystemExit, match=r"stopped: nothing .*--overwrite labels all again"):
        label(photo, "--out", tmp_path)
    monkeypatch.setattr(engine, "write_submission", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(SystemExit, match="stopped: .*--overwrite predicts all again"):
        label(*SUBMISSION, "--out", tmp_path / "submission")
    with pytest.raises(SystemExit, match="^error: out of memory"), errors_shown():
        torch.empty(2**60)  # as of a training


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nowhere.jpg"], "nowhere.jpg"),
        (["drive.mp4"], r"drive\.mp4.*pip install av"),
        *((["x.png", "--scale", n], "scale is a factor .*at most 8") for n in ("0", "nan", "20")),
        (["x.png", "--tile", "100"], "tile"),
        (["x.png", "--precision", "fp16", "--device", "cpu"], "^error: precision fp16 is not for"),
        ([], USAGE),
        *(([*SUBMISSION, "--" + name, "2"], USAGE) for name in ("scale", "tile", "alpha")),
        ([*SUBMISSION, "--palette", "safe"], USAGE),
        (["x.png", "--split", "test"], USAGE),
        (["x.png", "--zip"], USAGE),
        (["x.png", "--max-pixels", "0"], USAGE),
        (["drive.mp4", "--confidence"], "--confidence is for images"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_that_can_do_nothing_is_refused(args, message, tmp_path, label, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "av", None)
    Path("drive.mp4").touch()
    with pytest.raises(SystemExit, match=message):
        label(*args, "--out", tmp_path)


def test_max_pixels_is_the_most_and_out_may_name_the_home(photo, tmp_path, label, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    monkeypatch.setenv("USERPROFILE" if sys.platform == "win32" else "HOME", str(tmp_path))
    with pytest.raises(SystemExit, match="--max-pixels"):
        label(photo, "--out", tmp_path)
    label(photo, "--out=~/out", "--max-pixels", 10000)
    assert (tmp_path / "out" / f"{photo.stem}_labels.png").is_file()


def test_help_is_there_at_once():
    done = python("-X", "importtime", "predict.py", "--help")
    assert "--overwrite" in done.stdout
    assert "argparse" in done.stderr and "torch" not in done.stderr


def test_a_photograph_in_heic_is_read_upright(photo, tmp_path, label):
    heif = pytest.importorskip("pillow_heif")
    path = tmp_path / "IMG_1.HEIC"
    image = heif.from_pillow(Image.open(photo).transpose(UNDO[6]))
    image.save(path, exif=turned(6).tobytes(), quality=95)
    shutil.copy(photo, tmp_path / "b.png")
    label(tmp_path, "--out", tmp_path / "out")
    assert len(list((tmp_path / "out").rglob("*_labels.png"))) == 2
    found = read_image(path)
    assert found.shape == read_image(photo).shape
    assert (found.float() - read_image(photo).float()).abs().mean() < 6


@pytest.mark.slow
def test_without_pillow_heif_the_error_and_the_note_name_it(photo, tmp_path):
    """In a process of its own, whose Pillow does not learn the format."""
    code = "import sys; sys.modules['pillow_heif'] = None; import predict; predict.main()"
    (tmp_path / "IMG_1.HEIC").write_bytes(b"\x00\x00\x00\x24ftypheic" + bytes(500))
    shutil.copy(photo, tmp_path / "a.png")
    for given, status in (("IMG_1.HEIC", 1), ("", 0)):
        args = CHECKPOINT, tmp_path / given, "--out", tmp_path / "out"
        done = python("-c", code, *args, status=status)
        assert "pip install pillow-heif" in done.stdout + done.stderr


@pytest.mark.parametrize("where", [0.3, 0.6])
def test_a_jpeg_with_damaged_data_is_warned_of(photo, model, tmp_path, label, capsys, where):
    path = tmp_path / "a.jpg"
    for progressive in (False, True):
        Image.open(photo).resize((640, 320)).save(path, quality=90, progressive=progressive)
        assert jpeg_damage(path) == ""
        data = path.read_bytes()
        path.write_bytes(data[:-2] + bytes(4) + data[-2:])
        assert jpeg_damage(path) == ""
        path.write_bytes(patched(data, (int(len(data) * where), bytes(512))))  # a sector of a card
        assert "a.jpg is damaged" in jpeg_damage(path)
    with pytest.warns(UserWarning, match="a.jpg is damaged"):
        predict(model, path)
    label(path, "--out", tmp_path)
    assert "a.jpg is damaged" in capsys.readouterr().out


@pytest.mark.slow
def test_a_video_becomes_an_overlay_of_the_same_rate_and_length(streets, tmp_path, label, capsys):
    pytest.importorskip("av")
    images = sorted((streets / "leftImg8bit").rglob("*.png"))
    rate = Fraction(30000, 1001)
    with VideoWriter(tmp_path / "drive.mp4", rate) as video:
        for image in images:
            video.write(read_image(image).permute(1, 2, 0))
    label(tmp_path / "drive.mp4", "--out", tmp_path)
    assert f"1 video, {len(images)} frames in" in capsys.readouterr().out
    (result,) = tmp_path.glob("*_overlay.mp4")
    made = VideoReader(result)
    frames = [frame for _, frame in made]
    assert made.frame_rate == rate
    assert len(frames) == len(images)
    assert frames[0].shape[1] > 64 and frames[0].shape[2] == 128  # the image, and a legend below
    assert not list(tmp_path.glob("*.part"))


def test_of_a_damaged_video_the_rest_is_labelled_and_the_loss_is_told(tmp_path, label, capsys):
    pytest.importorskip("av")
    from test_video import noise, write

    write(tmp_path / "drive.avi", "mpeg4", noise(20))
    cut(tmp_path / "drive.avi", 0.5)
    label(tmp_path / "drive.avi", "--out", tmp_path)
    read = len(list(VideoReader(tmp_path / "drive_overlay.mp4")))
    assert 5 <= read < 15
    assert f"{20 - read} of 20 frames" in capsys.readouterr().out


@pytest.mark.parametrize("orientation", UNDO)
def test_the_orientation_tag_of_a_phone_is_followed(model, photo, tmp_path, orientation):
    path = tmp_path / "phone.png"
    Image.open(photo).transpose(UNDO[orientation]).save(path, exif=turned(orientation))
    for phone in (path, Image.open(path)):
        assert torch.equal(predict(model, phone), predict(model, photo))


def test_probabilities_are_those_of_the_chosen_class(model, photo):
    labels, probability = predict(model, photo, probabilities=True)
    assert torch.equal(labels, predict(model, photo))
    assert probability.shape == labels.shape
    assert 1 / 19 < probability.min() <= probability.max() <= 1


def test_test_time_augmentation_is_the_mean_over_scales_and_mirrored_images(photo, monkeypatch):
    model = load_model(CHECKPOINT)
    model.downscale = 1
    image = read_image(photo)
    monkeypatch.setattr(inference, "TTA_SCALES", (1.0,))
    net, size = inference.inference_net(model), image.shape[-2:]
    (found,) = inference.predict_logits(net, image[None], size, tta=True)
    (one,) = inference.predict_logits(net, image[None], size)
    (other,) = inference.predict_logits(net, image[None].flip(-1), size)
    torch.testing.assert_close(found, (one.float() + other.float().flip(-1)) / 2)


@pytest.fixture
def red(monkeypatch) -> torch.nn.Module:
    """A network whose logits are the red of each pixel, on tiles that overlap by 8 pixels."""
    for module in (inference, tiling):
        monkeypatch.setattr(module, "OVERLAP", 8)
    net = torch.nn.Module()
    net.forward = lambda images, full_image: images[:, :1].float().expand(-1, 3, -1, -1)
    net.register_parameter("p", torch.nn.Parameter(torch.zeros(())))
    return net


@pytest.mark.parametrize("size", [(70, 41), (33, 90), (64, 64), (20, 20)])
def test_tiles_cover_images_of_any_size_and_weigh_one(red, size):
    image = noise(3, *size)
    rows = list(inference.predict_rows(red, image, 1.0, 32))
    torch.testing.assert_close(torch.cat(rows, 1), image[:1].float().expand(3, -1, -1))


@pytest.mark.parametrize("scale", [0.1, 0.37, 0.5, 1.25, 4.0])
def test_bands_are_upsampled_as_the_whole_is(red, monkeypatch, scale):
    monkeypatch.setattr(inference, "MAX_UNTILED", 0)
    image = torch.randint(256, (3, 611, 97), dtype=torch.uint8)
    rows = torch.cat(list(inference.predict_rows(red, image, scale, 32)), 1)
    view = resize(image, [max(int(n * scale), 1) for n in (611, 97)])[:1].float()
    expected = torch.nn.functional.interpolate(view[None], (611, 97), mode="bilinear")[0]
    # Positions near row 600 are rounded to 6e-5 of a row, and rows differ by up to 255.
    torch.testing.assert_close(rows, expected.expand(3, -1, -1), atol=2e-2, rtol=0)


@pytest.mark.processor
@pytest.mark.slow
def test_a_tiled_prediction_agrees_with_the_whole_in_999_of_1000_pixels(camvid):
    model = load_model("checkpoints/camvid.pt")
    for path in sorted((camvid / "leftImg8bit" / "val").rglob("*.png"))[::50]:
        for size in ([1440, 1920], [1080, 1440]):
            image = F.resize(read_image(path), size)
            whole = predict(model, image, tile=max(size))
            assert (predict(model, image, tile=1024) == whole).float().mean() >= 0.999


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_tiles_have_the_logits_of_the_whole(monkeypatch, padding):
    for module in (inference, tiling):  # more than twice what the network sees around
        monkeypatch.setattr(module, "OVERLAP", 96)
    model = UNet(width=2, depth=2, num_classes=3, padding=padding).eval()
    image = torch.randint(256, (3, 251, 333), dtype=torch.uint8)
    net = inference.inference_net(model, "fp32")
    (whole,) = inference.predict_rows(net, image, 1.0, None)
    tiled = torch.cat(list(inference.predict_rows(net, image, 1.0, 203)), 1)
    assert (tiled - whole).abs().max() < 1e-3 * whole.std()


@pytest.mark.processor
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_photograph_of_12_megapixels_takes_less_than_2_and_a_half_gib():
    # The peak that getrusage gives begins with that of the process that started this one.
    code = """
import torch
from inference import load_model, predict
model = load_model("checkpoints/camvid.pt")
image = torch.randint(0, 256, (3, 3000, 4000), dtype=torch.uint8)
assert all(predict(model, image, scale=scale).shape == (3000, 4000) for scale in (1, 0.3))
lines = open("/proc/self/status").read().splitlines()
print(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024)
"""
    assert int(python("-c", code).stdout) < 2.5 * 2**30


def test_a_loaded_network_is_the_saved_one_also_of_an_earlier_version_or_dataparallel(tmp_path):
    path, model = tmp_path / "model.pt", network().eval()
    save_checkpoint(path, model, engine.Recipe(width=4, depth=2, downscale=3), [])
    loaded, x = load_model(path), noise(1, 3, 32, 48)
    assert not loaded.training
    assert loaded.downscale == 3
    assert loaded.classes == CITYSCAPES
    with torch.inference_mode():
        torch.testing.assert_close(loaded(x), model(x), rtol=1e-4, atol=1e-4)
    content = load_checkpoint(path)
    del content["classes"]  # which earlier versions did not save
    content["model"] = torch.nn.DataParallel(model).state_dict()
    assert all(name.startswith("module.") for name in content["model"])
    torch.save(content, path)
    again = load_model(path)
    assert again.classes == CITYSCAPES
    for name, value in loaded.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


@pytest.mark.parametrize("path", sorted(ROOT.glob("checkpoints/*.pt")), ids=lambda path: path.stem)
def test_delivered_checkpoints_load(path):
    model = load_model(path)
    assert len(model.classes) == model.settings["num_classes"]
    assert predict(model, torch.zeros(3, 40, 60, dtype=torch.uint8)).shape == (40, 60)
    if path.stem == "camvid":  # the classes of its validation
        assert len(model.known) == 11 and model.classes.names.index("truck") not in model.known


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("downscale", [1, 2])
@pytest.mark.parametrize("size", [(61, 95), (1, 1), (1, 40)])
def test_predict_gives_a_map_of_the_images_size(padding, downscale, size):
    model = network(width=2, padding=padding)
    model.downscale = downscale
    result = predict(model, noise(3, *size))
    assert result.shape == size and result.dtype == torch.uint8

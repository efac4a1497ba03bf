"""Models that leave home: ONNX files, torch.hub, compiled and half-precision networks."""

import json
import re
import sys

import pytest
import torch
from torch import nn

import export_onnx
import quantize
from dataset import Cityscapes
from inference import load_model, predict
from model import UNet
from tests.processes import ROOT, python
from tests.samples import first
from tests.training import noise

CHECKPOINT = "checkpoints/streets.pt"


@pytest.mark.slow
@pytest.mark.parametrize("logits", [False, True], ids=["labels", "logits"])
def test_an_onnx_file_gives_what_pytorch_gives_at_sizes_of_all_kinds(tmp_path, logits):
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = tmp_path / "made" / "streets.onnx"
    python("export_onnx.py", CHECKPOINT, path, *["--logits"] * logits)
    model = load_model(CHECKPOINT)
    notes = {prop.key: prop.value for prop in onnx.load(path).metadata_props}
    assert [row["name"] for row in json.loads(notes["classes"])] == [*model.classes.names]
    assert int(notes["downscale"]) == model.downscale
    assert "at least 8" in notes["size"]  # 2 ** depth
    model.downscale = 1
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for size in ((64, 128), (61, 77), (8, 300)):
        image = noise(3, *size)
        (found,) = session.run(None, {"images": image[None].numpy()})
        found = torch.from_numpy(found[0])
        same = (found.argmax(0) if logits else found) == predict(model, image, precision="fp32")
        assert same.float().mean() >= 0.9999


@pytest.mark.slow
@pytest.mark.parametrize("precision, least, largest", [("fp16", 0.99, 0.55), ("int8", 0.95, 0.35)])
def test_smaller_files_label_scenes_nearly_the_same(streets, tmp_path, precision, least, largest):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path, options = tmp_path / "streets.onnx", ["--precision", precision, "--size", "64", "128"]
    python("export_onnx.py", CHECKPOINT, path, *options)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [1, 3, 64, 128]
    assert session.get_modelmeta().custom_metadata_map["precision"] == precision
    model = load_model(CHECKPOINT)
    assert path.stat().st_size < largest * 4 * sum(p.numel() for p in model.parameters())
    model.downscale, same = 1, []
    for image, _ in Cityscapes(streets, "val"):
        (found,) = session.run(None, {"images": image[None].numpy()})
        same.append(torch.from_numpy(found[0]) == predict(model, image, precision="fp32"))
    assert torch.stack(same).float().mean() >= least


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_and_nothing_written(missing, tmp_path, monkeypatch, command):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SystemExit, match=rf"{missing}\b.*pip install onnx onnxscript onnxruntime"):
        command(export_onnx.main, CHECKPOINT, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("padding", "size", "message"), [("valid", None, "padding"), ("same", (2, 9), "at least 4 x 4")]
)
def test_what_the_file_would_not_take_is_refused(tmp_path, padding, size, message):
    with pytest.raises(ValueError, match=message):
        export_onnx.export(UNet(width=2, depth=2, padding=padding), tmp_path / "x.onnx", size=size)


def test_what_is_no_onnx_file_is_not_replaced_by_one(tmp_path, command):
    (tmp_path / "street.jpg").write_bytes(b"a photograph")
    with pytest.raises(SystemExit):
        command(export_onnx.main, CHECKPOINT, tmp_path / "street.jpg")
    assert (tmp_path / "street.jpg").read_bytes() == b"a photograph"


def test_a_file_that_labels_other_pixels_ends_in_an_error(tmp_path, monkeypatch, command, capsys):
    monkeypatch.setenv("USERPROFILE" if sys.platform == "win32" else "HOME", str(tmp_path))
    monkeypatch.setattr(export_onnx, "export", lambda _, path, *__: 0.999 * path.is_absolute())
    with pytest.raises(SystemExit, match="less than 99.99%: do not use the file"):
        command(export_onnx.main, CHECKPOINT, "~/x.onnx")
    assert f"{tmp_path / 'x.onnx'}: 99.900%" in capsys.readouterr().out


def test_photographs_to_calibrate_on_are_shrunk_to_what_memory_holds(streets, monkeypatch, capsys):
    monkeypatch.setattr(quantize, "MOST_PIXELS", 2048)
    model, files = load_model(CHECKPOINT), [first(streets, split="val")] * 2
    for factor, shape, said in ((1, (3, 32, 64), "2 of 2.*2,048"), (4, (3, 16, 32), "")):
        model.downscale = factor
        images = quantize.calibration_images(model, files)
        assert [tuple(image.shape) for image in images] == [shape] * 2
        assert re.match(said or "$", capsys.readouterr().out)
    assert quantize.calibration_images(model, files, (50, 60))[0].shape == (3, 50, 60)


def test_up_convolutions_of_the_unets_form_alone_are_exported_as_a_shuffle_of_the_same_sums():
    form, x = {"kernel_size": 2, "stride": 2}, torch.randn(2, 6, 5, 7)
    for bias in (True, False):
        up = nn.ConvTranspose2d(6, 4, bias=bias, **form)
        torch.testing.assert_close(export_onnx.as_shuffle(up)(x), up(x))
        assert export_onnx.as_shuffle(up) is not up
    changes = {"kernel_size": 3, "stride": 1, "padding": 1, "output_padding": 1, "dilation": 2}
    others = [nn.ConvTranspose2d(6, 4, **{**form, name: n}) for name, n in changes.items()]
    others += [nn.ConvTranspose2d(6, 4, groups=2, **form), nn.Upsample(scale_factor=2)]
    others.append(type("Own", (nn.ConvTranspose2d,), {})(6, 4, **form))
    up.register_forward_hook(lambda *_: None)
    for other in [*others, up]:
        assert export_onnx.as_shuffle(other) is other


def test_torch_hub_gives_a_committed_network_that_refuses_other_images():
    net = torch.hub.load(".", "unet", source="local", checkpoint="streets")
    image = noise(1, 3, 64, 128)
    with torch.no_grad():
        logits = net(image, full_image=True)
        assert torch.equal(net(image), net(image / 63.75 - 2))
    net.downscale = 1
    assert (logits[0].argmax(0) == predict(net, image[0], precision="fp32")).float().mean() > 0.999
    for other in (image / 255, image.float(), image.long()):
        for args, kwargs in (([other], {}), ([], {"images": other})):
            with pytest.raises(ValueError, match="uint8, 0..255.*always works"):
                net(*args, **kwargs)


PROGRAM = """
import io, sys
sys.path.insert(0, ".")
import utils, model, dataset
import torch
net = torch.hub.load({repository!r}, "unet", source="local", checkpoint="streets")
import dataset, model, utils
assert utils.MINE and model.MINE and dataset.MINE
image = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
expected = net(image)
assert expected.shape == (1, 19, 32, 32) and net.classes.names[0] == "road"
for name in ("inference", "runtime", "data_io"):
    assert name not in sys.modules
    assert not any(each.startswith(name + ".") for each in sys.modules)
buffer = io.BytesIO()
torch.save(net, buffer)
buffer.seek(0)
assert torch.equal(torch.load(buffer, weights_only=False)(image), expected)
assert torch.equal(torch.compile(net, backend="eager")(image), expected)
"""
TWO = """
import torch
assert torch.hub.load("other", "who", source="local") == "other"
net = torch.hub.load({repository!r}, "unet", source="local", checkpoint="streets")
assert torch.hub.load("other", "who", source="local") == "other"
again = torch.hub.load({repository!r}, "unet", source="local", checkpoint="streets")
image = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
assert torch.equal(net(image), again(image))
import utils
assert utils.WHO == "other"
"""


@pytest.mark.slow
@pytest.mark.parametrize("program", [PROGRAM, TWO], ids=["a user's own", "another repository's"])
def test_torch_hub_works_beside_modules_of_the_same_names(tmp_path, program):
    if program is PROGRAM:
        for name in ("utils", "model", "dataset"):
            (tmp_path / f"{name}.py").write_text("MINE = True")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "utils.py").write_text("WHO = 'other'")
    (tmp_path / "other" / "hubconf.py").write_text("from utils import WHO\ndef who(): return WHO")
    python("-c", program.format(repository=str(ROOT)), cwd=tmp_path)

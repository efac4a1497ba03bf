"""Models that leave home: ONNX files, torch.hub, compiled and half-precision networks."""

import json
import subprocess
import sys

import pytest
import torch

import export_onnx
from inference import load_model, predict
from model import UNet

CHECKPOINT = "checkpoints/streets.pt"


@pytest.mark.slow
@pytest.mark.parametrize("logits", [False, True], ids=["labels", "logits"])
def test_an_onnx_file_gives_what_pytorch_gives_at_sizes_of_all_kinds(tmp_path, logits):
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = tmp_path / "streets.onnx"
    command = [sys.executable, "export_onnx.py", CHECKPOINT, path, *["--logits"] * logits]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    model = load_model(CHECKPOINT)
    notes = {prop.key: prop.value for prop in onnx.load(path).metadata_props}
    assert [row["name"] for row in json.loads(notes["classes"])] == [*model.classes.names]
    assert int(notes["downscale"]) == model.downscale
    assert "at least 8" in notes["size"]  # 2 ** depth
    model.downscale = 1
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(1)
    for size in ((64, 128), (61, 77), (8, 300)):
        image = torch.randint(256, (3, *size), dtype=torch.uint8, generator=generator)
        (found,) = session.run(None, {"images": image[None].numpy()})
        found = torch.from_numpy(found[0])
        same = (found.argmax(0) if logits else found) == predict(model, image, precision="fp32")
        assert same.float().mean() >= 0.9999


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_a_package_that_is_missing_is_named_before_anything_is_written(
    missing, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr(sys, "argv", ["export_onnx.py", CHECKPOINT, str(tmp_path / "x.onnx")])
    with pytest.raises(SystemExit, match=rf"{missing}\b.*pip install onnx onnxscript onnxruntime"):
        export_onnx.main()
    assert not list(tmp_path.iterdir())


def test_a_network_with_valid_padding_is_not_exported(tmp_path):
    pytest.importorskip("onnx")
    with pytest.raises(ValueError, match="padding"):
        export_onnx.export(UNet(width=2, depth=1, padding="valid"), tmp_path / "x.onnx")


def test_torch_hub_loads_a_committed_checkpoint_from_a_checkout():
    net = torch.hub.load(".", "unet", source="local", checkpoint="streets")
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(256, (3, 64, 128), dtype=torch.uint8, generator=generator)
    with torch.no_grad():
        labels = net(image[None], whole=True)[0].argmax(0)
    net.downscale = 1
    same = labels == predict(net, image, precision="fp32")  # folded: other roundings
    assert same.float().mean() > 0.999


@pytest.mark.slow
def test_a_compiled_network_predicts_as_the_network_does():
    model = load_model(CHECKPOINT)
    image = torch.randint(256, (3, 256, 512), dtype=torch.uint8)
    both = torch.compile(model, backend="aot_eager"), model
    for precision, share in (("fp32", 0.9999), ("auto", 0.99)):  # in bf16 sums round otherwise
        found, expected = (predict(net, image, precision=precision) for net in both)
        assert (found == expected).float().mean() > share


@pytest.mark.parametrize("kind", ["half", "bfloat16"])
def test_a_network_in_half_precision_predicts_nearly_the_same(kind):
    model = load_model(CHECKPOINT)
    image = torch.randint(256, (3, 128, 256), dtype=torch.uint8)
    expected = predict(model, image)
    same = predict(getattr(model, kind)(), image) == expected
    assert same.float().mean() > 0.95

"""From a checkpoint to label maps: loading, folding, predicting."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from engine import Recipe
from inference import fold_batch_norm, inference_net, load_model, predict, predict_logits
from model import UNet
from runtime.checkpoint import load_checkpoint, save_checkpoint
from runtime.cpu import convert
from utils import CITYSCAPES, Classes

CHECKPOINTS = Path(__file__).resolve().parent.parent / "checkpoints"


def network(**settings) -> UNet:
    """A U-Net whose batch norms have seen data, so that folding them changes something."""
    torch.manual_seed(0)
    model = UNet(**{"width": 4, "depth": 2, **settings})
    model.classes = CITYSCAPES
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    with torch.no_grad():
        for _ in range(3):
            model(torch.randint(0, 256, (2, 3, 44, 60), dtype=torch.uint8))
    return model


def has_batch_norm(model: nn.Module) -> bool:
    return any("Norm" in type(module).__name__ for module in model.modules())


# Folding


def converted_for_avx2(model: UNet) -> UNet:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
        return convert(model)


@pytest.mark.parametrize(
    "settings", [{}, {"padding": "valid"}, {"batch_norm": False}, {"width": 32, "depth": 1}]
)
@pytest.mark.parametrize(
    "change", [lambda model: model, nn.SyncBatchNorm.convert_sync_batchnorm, converted_for_avx2]
)
def test_folding_batch_norm_changes_no_logit_beyond_rounding(settings, change):
    model = change(network(**settings)).double()
    images = torch.randint(0, 256, (2, 3, 44, 60), dtype=torch.uint8).double() / 64 - 2
    folded = fold_batch_norm(model)
    assert not has_batch_norm(folded)
    assert not folded.training
    with torch.inference_mode():
        torch.testing.assert_close(folded(images, whole=True), model.eval()(images, whole=True))


def test_folding_in_fp32_changes_no_logit_beyond_rounding():
    """In fp32 other layers compute than in float64: those of `runtime.cpu_inference`."""
    model = network().eval()
    images = torch.randint(0, 256, (2, 3, 44, 60), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(
            fold_batch_norm(model)(images), model(images), rtol=1e-4, atol=1e-4
        )


def leaky(model: UNet) -> None:
    for block in [*model.contracting, *(up.convs for up in model.expansive)]:
        for i, layer in enumerate(block):
            if isinstance(layer, nn.ReLU):
                block[i] = nn.LeakyReLU(0.1)


def reflecting(model: UNet) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            module.padding_mode = "reflect"


def dropping(model: UNet) -> None:
    for up in model.expansive:
        up.convs.insert(0, nn.Dropout2d())


def averaging(model: UNet) -> None:
    model.pool = nn.AvgPool2d(2)


def without_bias(model: UNet) -> None:
    model.conv_1x1 = nn.Conv2d(4, 19, 1, bias=False)


def with_3x3(model: UNet) -> None:
    model.conv_1x1 = nn.Conv2d(4, 19, 3, padding=1)


@pytest.mark.parametrize("change", [leaky, reflecting, dropping, averaging, without_bias, with_3x3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_network_whose_layers_somebody_changed_is_folded_too(change, dtype):
    model = network()
    change(model)
    model.eval()
    images = torch.randint(0, 256, (2, 3, 32, 44), dtype=torch.uint8)
    with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
        found, expected = fold_batch_norm(model)(images), model(images)
    tolerance = 1e-4 if dtype == torch.float32 else 0.05 * expected.abs().max().item()
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_a_network_in_training_is_copied_and_goes_on_as_it_was():
    model = network().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    image = torch.randint(0, 256, (3, 40, 56), dtype=torch.uint8)
    found = predict(model, image, precision="fp32")
    assert all(module.training for module in model.modules())
    assert has_batch_norm(model)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    with torch.inference_mode():
        plain = copy.deepcopy(model).eval()(image.unsqueeze(0))[0].argmax(0)
    assert (found == plain).float().mean() > 0.999


def test_a_network_that_is_folded_already_is_not_copied():
    folded = fold_batch_norm(network())
    assert fold_batch_norm(folded) is folded
    assert fold_batch_norm(fold_batch_norm(network(batch_norm=False)).train()).training is False


@pytest.mark.parametrize(
    "block",
    [
        [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.ReLU()],
        [nn.Conv2d(3, 4, 3), nn.LeakyReLU(), nn.Conv2d(4, 4, 1), nn.Dropout(), nn.ReLU()],
        [nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), nn.BatchNorm2d(4), nn.ReLU()],
        [nn.Conv2d(3, 6, 3, stride=2, groups=3, padding=2), nn.ReLU(), nn.Conv2d(6, 4, 1)],
        [nn.Conv2d(3, 4, (2, 4), padding="same"), nn.ReLU()],
        [nn.ReLU(), nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.LeakyReLU()],
    ],
)
def test_folding_computes_the_same_whatever_the_order_of_the_layers(block):
    torch.manual_seed(0)
    model = nn.Sequential(*block)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.weight.data.uniform_(-1, 1)
    images = torch.randn(2, 3, 9, 9)
    with torch.inference_mode():
        expected = model.eval()(images)
        torch.testing.assert_close(fold_batch_norm(model)(images), expected)


def test_a_layer_that_is_used_elsewhere_is_not_changed_there():
    conv = nn.Conv2d(3, 3, 3, padding="same")
    model = nn.Sequential(conv, nn.ReLU(), conv)
    images = torch.randn(1, 3, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(fold_batch_norm(model)(images), model(images))


def test_a_network_with_layers_that_cannot_be_folded_is_copied_once():
    block = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU())
    folded = fold_batch_norm(block)
    assert folded is not block and fold_batch_norm(folded) is folded


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_a_network_in_float64_predicts(precision):
    image = torch.randint(0, 256, (3, 40, 56), dtype=torch.uint8)
    model = network().eval()
    found = predict(copy.deepcopy(model).double(), image, precision=precision)
    assert (found == predict(model, image, precision="fp32")).float().mean() > 0.99


def test_a_folded_network_is_one_graph_to_torch_compile():
    folded = fold_batch_norm(network())
    images = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        compiled = torch.compile(folded, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(images), folded(images), rtol=1e-3, atol=1e-3)


# Checkpoints


@pytest.fixture
def saved(tmp_path):
    """The path of a checkpoint, and the network in it."""
    path, model = tmp_path / "model.pt", network().eval()
    save_checkpoint(path, model, Recipe(width=4, depth=2, downscale=3), [])
    return path, model


def test_a_loaded_network_is_ready_folded_and_predicts_as_the_saved_one(saved):
    path, model = saved
    loaded = load_model(path)
    assert not loaded.training
    assert not has_batch_norm(loaded)
    assert loaded.downscale == 3
    assert loaded.classes == CITYSCAPES
    x = torch.randint(0, 256, (1, 3, 32, 48), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(x), model(x), rtol=1e-4, atol=1e-4)


def test_classes_of_ones_own_come_back(tmp_path):
    model = network(num_classes=2)
    model.classes = Classes(("a", "b"), (7, 9), ((1, 2, 3), (4, 5, 6)), ("x", "x"), (0, 255))
    save_checkpoint(tmp_path / "own.pt", model, Recipe(width=4, depth=2), [])
    assert load_model(tmp_path / "own.pt").classes == model.classes


def test_a_checkpoint_from_before_classes_were_saved_is_of_cityscapes(saved):
    path, _ = saved
    content = load_checkpoint(path)
    del content["classes"]
    torch.save(content, path)
    assert load_model(path).classes == CITYSCAPES


@pytest.mark.parametrize("path", sorted(CHECKPOINTS.glob("*.pt")), ids=lambda path: path.stem)
def test_delivered_checkpoints_load(path):
    model = load_model(path)
    assert len(model.classes) == model.settings["num_classes"]
    assert predict(model, torch.zeros(3, 40, 60, dtype=torch.uint8)).shape == (40, 60)


def test_a_checkpoint_saved_under_dataparallel_loads_without(saved):
    path, model = saved
    plain, expected = load_checkpoint(path), load_model(path).state_dict()
    wrapped = nn.DataParallel(model).state_dict()
    assert all(name.startswith("module.") for name in wrapped)
    torch.save({**plain, "model": wrapped}, path)
    for name, value in load_model(path).state_dict().items():
        assert torch.equal(value, expected[name])


@pytest.mark.parametrize("data", [b"", b"no checkpoint", b"PK\x03\x04 half of one"])
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, data):
    path = tmp_path / "bad.pt"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=str(path)):
        load_model(path)


def test_a_truncated_checkpoint_is_named(saved):
    path, _ = saved
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=str(path)):
        load_model(path)


@pytest.mark.slow
def test_code_in_a_checkpoint_does_not_run(tmp_path):
    trap, path = tmp_path / "sprung", tmp_path / "evil.pt"
    code = (
        "import os, torch\n"
        "class Evil:\n"
        f"    def __reduce__(self): return os.mkdir, ({str(trap)!r},)\n"
        f"torch.save({{'model': Evil()}}, {str(path)!r})\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(ValueError, match=str(path)):
        load_model(path)
    assert not trap.exists()


def spoil_settings(content):
    content["settings"]["width"] = 8


def spoil_padding(content):  # which no weight would tell
    content["settings"]["padding"] = "valid"


def spoil_weights(content):
    content["model"]["conv_1x1.bias"][0] = float("nan")


def spoil_classes(content):
    content["classes"]["surprise"] = 1


@pytest.mark.parametrize("spoil", [spoil_settings, spoil_padding, spoil_weights, spoil_classes])
def test_a_checkpoint_whose_parts_do_not_fit_is_named(saved, spoil):
    path, _ = saved
    content = load_checkpoint(path)
    spoil(content)
    torch.save(content, path)
    with pytest.raises(ValueError, match=str(path)):
        load_model(path)


def test_another_dictionary_is_no_checkpoint(tmp_path):
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=str(tmp_path / "other.pt")):
        load_model(tmp_path / "other.pt")


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "none.pt")):
        load_model(tmp_path / "none.pt")


# Prediction


def test_logits_come_image_by_image_and_are_upsampled_bilinearly():
    net = inference_net(network(), "fp32")
    images = torch.randint(0, 256, (3, 3, 20, 28), dtype=torch.uint8)
    with torch.inference_mode():
        whole = net(images)
    for size in ((20, 28), (40, 57)):
        parts = list(predict_logits(net, images, size))
        assert [tuple(part.shape) for part in parts] == [(1, 19, *size)] * 3
        torch.testing.assert_close(torch.cat(parts), F.interpolate(whole, size, mode="bilinear"))


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("downscale", [1, 2])
def test_predict_gives_a_map_of_the_images_size(padding, downscale):
    model = network(width=2, padding=padding)
    model.downscale = downscale
    image = torch.randint(0, 256, (3, 61, 95), dtype=torch.uint8)
    result = predict(model, image)
    assert result.shape == (61, 95)
    assert result.dtype == torch.uint8


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 40)])
def test_predict_takes_the_smallest_images_too(size):
    model = network(width=2)
    model.downscale = 2
    assert predict(model, torch.full((3, *size), 9, dtype=torch.uint8)).shape == size


def test_predict_takes_file_pillow_image_and_tensor_alike(tmp_path):
    model = network()
    tensor = torch.randint(0, 256, (3, 40, 56), dtype=torch.uint8)
    image = Image.fromarray(tensor.permute(1, 2, 0).numpy())
    image.save(tmp_path / "an image.png")
    expected = predict(model, tensor)
    assert torch.equal(predict(model, tmp_path / "an image.png"), expected)
    assert torch.equal(predict(model, str(tmp_path / "an image.png")), expected)
    assert torch.equal(predict(model, image), expected)
    assert torch.equal(predict(model, image.convert("RGBA")), expected)


@pytest.mark.parametrize(
    "image",
    [
        torch.rand(3, 8, 8),
        torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
        torch.zeros(8, 8, dtype=torch.uint8),
        torch.zeros(4, 8, 8, dtype=torch.uint8),
        torch.zeros(3, 0, 8, dtype=torch.uint8),
        None,
    ],
)
def test_predict_refuses_what_is_no_image_and_says_what_it_takes(image):
    found = type(image).__name__ if image is None else str(image.dtype)
    with pytest.raises(ValueError, match=rf"uint8 \(3, H, W\).*{found}"):
        predict(network(), image)


def test_predict_names_a_file_that_is_missing_or_no_image(tmp_path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "none.png")):
        predict(network(), tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match=str(tmp_path / "text.png")):
        predict(network(), tmp_path / "text.png")

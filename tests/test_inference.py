"""From a checkpoint to label maps: loading and predicting."""

from pathlib import Path

import pytest
import torch
from test_folding import network
from torch import nn
from torch.nn import functional as F

from engine import Recipe
from inference import inference_net, load_model, predict, predict_logits
from runtime.checkpoint import load_checkpoint, save_checkpoint
from utils import CITYSCAPES, Classes

CHECKPOINTS = Path(__file__).resolve().parent.parent / "checkpoints"


# Checkpoints


@pytest.fixture
def saved(tmp_path):
    """The path of a checkpoint, and the network in it."""
    path, model = tmp_path / "model.pt", network().eval()
    save_checkpoint(path, model, Recipe(width=4, depth=2, downscale=3), [])
    return path, model


def test_a_loaded_network_is_ready_and_is_the_saved_one(saved):
    path, model = saved
    loaded = load_model(path)
    assert not loaded.training
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


def test_a_loaded_network_knows_the_classes_of_its_validation():
    model = load_model(CHECKPOINTS / "camvid.pt")
    assert len(model.known) == 11 and model.classes.names.index("truck") not in model.known


def test_a_checkpoint_saved_under_dataparallel_loads_without(saved):
    path, model = saved
    plain, expected = load_checkpoint(path), load_model(path).state_dict()
    wrapped = nn.DataParallel(model).state_dict()
    assert all(name.startswith("module.") for name in wrapped)
    torch.save({**plain, "model": wrapped}, path)
    for name, value in load_model(path).state_dict().items():
        assert torch.equal(value, expected[name])


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

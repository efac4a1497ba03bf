"""From a checkpoint to label maps: loading and predicting."""

import pytest
import torch

from engine import Recipe
from inference import load_model, predict
from runtime.checkpoint import load_checkpoint, save_checkpoint
from tests.processes import ROOT
from tests.training import network, noise
from utils import CITYSCAPES


def test_a_loaded_network_is_the_saved_one_also_of_an_earlier_version_or_dataparallel(tmp_path):
    path, model = tmp_path / "model.pt", network().eval()
    save_checkpoint(path, model, Recipe(width=4, depth=2, downscale=3), [])
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

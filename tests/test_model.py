import subprocess
import sys

import pytest
import torch
from PIL import Image
from torch import nn

from checkpoint import load_checkpoint, save_checkpoint
from convolution import Conv3x3
from model import UNet, load_model, mirror, normalize, predict
from recipe import Recipe


def small(**settings) -> UNet:
    torch.manual_seed(0)
    return UNet(**{"width": 4, **settings}).eval()


def test_valid_padding_turns_572_into_388_as_in_the_paper():
    model = small(in_channels=1, num_classes=2, padding="valid", batch_norm=False)
    assert model.margin == 92
    with torch.inference_mode():
        assert model(torch.randn(1, 1, 572, 572)).shape == (1, 2, 388, 388)


def test_the_papers_network_has_its_known_number_of_parameters():
    paper = UNet(1, 2, 64, padding="valid", batch_norm=False)
    assert sum(p.numel() for p in paper.parameters()) == 31_030_658


def test_width_16_has_the_parameters_that_the_readme_states():
    assert sum(p.numel() for p in UNet(width=16).parameters()) == 1_942_883


@pytest.mark.parametrize(
    "size", [(360, 480), (375, 1242), (1, 1), (16, 16), (17, 31), (33, 100), (5, 200)]
)
def test_same_padding_gives_back_any_height_and_width(size):
    with torch.inference_mode():
        assert small(width=2)(torch.randn(1, 3, *size)).shape[-2:] == size


@pytest.mark.parametrize("size", [(188, 188), (189, 203), (230, 260)])
def test_valid_padding_announces_the_size_it_gives(size):
    model = small(width=2, padding="valid")
    with torch.inference_mode():
        assert model(torch.randn(1, 3, *size)).shape[-2:] == model.output_size(*size)


def test_valid_padding_on_too_small_a_picture_names_the_smallest_that_works():
    with pytest.raises(ValueError, match=r"187x400 pixels is too small.*at least 188x188"):
        small(padding="valid")(torch.randn(1, 3, 187, 400))


@pytest.mark.parametrize("size", [(200, 260), (201, 263), (7, 3)])
def test_a_whole_picture_gets_its_scores_with_valid_padding_too(size):
    with torch.inference_mode():
        assert (
            small(width=2, padding="valid")(torch.randn(1, 3, *size), whole=True).shape[-2:] == size
        )


def test_valid_scores_are_those_of_the_whole_picture_at_the_margin():
    # Where all context is there, extending the picture changes nothing: so crop and margin fit.
    model = small(width=2, padding="valid", depth=2).double()
    x = torch.randn(1, 3, 120, 132, dtype=torch.float64)
    with torch.inference_mode():
        inner, whole = model(x), model(x, whole=True)
    m, (h, w) = model.margin, inner.shape[-2:]
    # Pooling starts at the padded picture's corner: the same grid if the margin is a multiple.
    assert m % 4 == 0
    torch.testing.assert_close(inner, whole[..., m : m + h, m : m + w])


def test_a_shifted_picture_gives_shifted_scores_at_any_parity():
    # Skips that were cropped off-centre would break this for sizes that pooling rounds down.
    model = small(width=2, padding="valid", depth=2).double()
    x = torch.randn(1, 3, 140, 140, dtype=torch.float64)
    with torch.inference_mode():
        a, b = model(x[..., :131, :130]), model(x[..., 4:137, 4:139])
    torch.testing.assert_close(a[..., 4:60, 4:60], b[..., :56, :56])


def test_bytes_are_normalised_by_the_network_itself():
    x = torch.randint(0, 256, (1, 3, 32, 48), dtype=torch.uint8)
    model = small()
    with torch.inference_mode():
        assert torch.equal(model(x), model(normalize(x)))
    assert normalize(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-2, 2]


def test_mirror_reflects_as_often_as_needed():
    x = torch.arange(3.0).view(1, 1, 1, 3)
    assert mirror(x, 1, 9, margin=0)[0, 0, 0].tolist() == [0, 1, 2, 1, 0, 1, 2, 1, 0]
    y = torch.randn(2, 3, 9, 8)
    expected = nn.functional.pad(y, (2, 3, 2, 4), mode="reflect")
    assert torch.equal(mirror(y, 15, 13, margin=2), expected)


def test_weights_start_as_the_paper_says():
    model = UNet(width=64, batch_norm=False)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.weight.numel() > 5000:
            inputs = module.in_channels * (9 if "conv_1x1" not in name and ".up" not in name else 1)
            assert module.weight.std().item() == pytest.approx((2 / inputs) ** 0.5, rel=0.05), name
            assert not module.bias.any()


def test_batch_norm_follows_every_3x3_convolution_or_none():
    def kinds(model):
        return [type(m) for m in model.modules()]

    with_norm, without = kinds(UNet(width=2)), kinds(UNet(width=2, batch_norm=False))
    assert with_norm.count(nn.BatchNorm2d) == 18
    assert without.count(nn.BatchNorm2d) == 0
    assert with_norm.count(Conv3x3) == without.count(Conv3x3) == 18


@pytest.mark.parametrize(
    "settings", [{"padding": "full"}, {"width": 0}, {"depth": 0}, {"num_classes": 0}]
)
def test_settings_that_make_no_network_are_refused_by_name(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        UNet(**{"width": 2, **settings})


# Checkpoints


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "model.pt"
    save_checkpoint(path, small(), Recipe(width=4), [])
    return path


def test_a_loaded_model_predicts_as_the_saved_one(checkpoint):
    x = torch.randint(0, 256, (1, 3, 32, 48), dtype=torch.uint8)
    loaded = load_model(checkpoint)
    assert not loaded.training
    assert loaded.downscale == 2
    with torch.inference_mode():
        assert torch.equal(loaded(x), small()(x))


def test_a_checkpoint_saved_under_dataparallel_loads_without(checkpoint):
    plain = load_checkpoint(checkpoint)
    wrapped = nn.DataParallel(small()).state_dict()
    assert all(name.startswith("module.") for name in wrapped)
    torch.save({**plain, "model": wrapped}, checkpoint)
    for name, value in load_model(checkpoint).state_dict().items():
        assert torch.equal(value, plain["model"][name])


@pytest.mark.parametrize("data", [b"", b"no checkpoint", b"PK\x03\x04 half of one"])
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, data):
    path = tmp_path / "bad.pt"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"bad\.pt is no checkpoint"):
        load_model(path)


def test_a_truncated_checkpoint_is_named(checkpoint):
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model\.pt is no checkpoint"):
        load_model(checkpoint)


def test_code_in_a_checkpoint_does_not_run(tmp_path):
    trap, path = tmp_path / "sprung", tmp_path / "evil.pt"
    code = (
        "import os, torch\n"
        "class Evil:\n"
        f"    def __reduce__(self): return os.mkdir, ({str(trap)!r},)\n"
        f"torch.save({{'model': Evil()}}, {str(path)!r})\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(ValueError, match="more than plain data"):
        load_model(path)
    assert not trap.exists()


def test_a_checkpoint_of_another_shape_than_its_settings_is_named(checkpoint):
    content = load_checkpoint(checkpoint)
    content["settings"]["width"] = 8
    torch.save(content, checkpoint)
    with pytest.raises(ValueError, match=r"model\.pt: its weights do not fit its settings"):
        load_model(checkpoint)


def test_another_dictionary_is_no_checkpoint(tmp_path):
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="lacks history, model, recipe, settings"):
        load_model(tmp_path / "other.pt")


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        load_model(tmp_path / "none.pt")


# Prediction


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("downscale", [1, 2])
def test_predict_gives_a_map_of_the_pictures_size(padding, downscale):
    model = small(width=2, padding=padding)
    model.downscale = downscale
    image = torch.randint(0, 256, (3, 61, 95), dtype=torch.uint8)
    result = predict(model, image)
    assert result.shape == (61, 95)
    assert result.dtype == torch.uint8


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 40)])
def test_predict_takes_the_smallest_pictures_too(size):
    model = small(width=2)
    model.downscale = 2
    assert predict(model, torch.full((3, *size), 9, dtype=torch.uint8)).shape == size


def test_predict_takes_file_pil_image_and_tensor_alike(tmp_path):
    model = small()
    image = torch.randint(0, 256, (3, 40, 56), dtype=torch.uint8)
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    picture.save(tmp_path / "a picture.png")
    expected = predict(model, image)
    assert torch.equal(predict(model, tmp_path / "a picture.png"), expected)
    assert torch.equal(predict(model, str(tmp_path / "a picture.png")), expected)
    assert torch.equal(predict(model, picture), expected)
    assert torch.equal(predict(model, picture.convert("RGBA")), expected)


def test_predict_leaves_the_model_as_it_was():
    model = small().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    predict(model, torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "image",
    [
        torch.rand(3, 8, 8),
        torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
        torch.zeros(8, 8, dtype=torch.uint8),
        torch.zeros(4, 8, 8, dtype=torch.uint8),
        torch.zeros(3, 0, 8, dtype=torch.uint8),
    ],
)
def test_predict_refuses_what_is_no_picture_and_says_what_it_takes(image):
    with pytest.raises(ValueError, match="takes one RGB picture, uint8"):
        predict(small(), image)


def test_predict_names_a_file_that_is_missing_or_no_picture(tmp_path):
    with pytest.raises(FileNotFoundError, match="no picture at"):
        predict(small(), tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"text\.png cannot be read as a picture"):
        predict(small(), tmp_path / "text.png")

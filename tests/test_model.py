"""The U-Net against the paper's sizes, and the properties that follow from its form."""

import pytest
import torch
from torch import nn

from model import UNet
from padding import mirror
from tests.plain import PlainUNet, copy_weights


def small(**settings) -> UNet:
    return UNet(**{"width": 4, **settings}).eval()


def test_the_papers_network_turns_572_into_388_with_its_31_million_parameters():
    paper = UNet(1, 2, padding="valid", batch_norm=False)
    assert sum(p.numel() for p in paper.parameters()) == 31_030_658
    assert paper.margin == 92
    assert paper.output_size(572, 572) == (388, 388)
    image = torch.empty(1, 1, 572, 572, device="meta")
    assert paper.to("meta")(image).shape == (1, 2, 388, 388)


def test_it_computes_what_a_tutorials_unet_computes():
    model, plain = small(width=6, depth=3), PlainUNet(width=6, depth=3).eval()
    copy_weights(model, plain)
    images = torch.randn(2, 3, 24, 40)
    with torch.inference_mode():
        torch.testing.assert_close(model(images), plain(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("size", [(90, 120), (1, 1), (17, 31), (5, 200), (189, 203), (230, 260)])
def test_any_height_and_width_is_given_back_or_announced(padding, size):
    model, image = small(width=2, padding=padding), torch.randn(1, 3, *size)
    with torch.inference_mode():
        assert model(image, full_image=True).shape[-2:] == size
        if padding == "same" or min(size) > 188:
            assert model(image).shape[-2:] == model.output_size(*size)


def test_valid_padding_on_too_small_an_image_names_the_smallest_that_works():
    model = small(padding="valid")
    with pytest.raises(ValueError, match=r"187x400.*\b188x188\b"):
        model(torch.randn(1, 3, 187, 400))
    assert model.output_size(188, 188) == (4, 4)


def test_valid_logits_fit_those_of_the_whole_image_and_move_with_it_at_any_parity():
    model = small(width=2, padding="valid", depth=2).double()
    x = torch.randn(1, 3, 140, 152, dtype=torch.float64)
    with torch.inference_mode():
        inner, whole = model(x), model(x, full_image=True)
        a, b = model(x[..., :131, :130]), model(x[..., 4:137, 4:139])
    # Where all context is there, extending the image changes nothing: so crop and margin fit.
    m, (h, w) = model.margin, inner.shape[-2:]
    # Pooling starts at the padded image's corner: the same grid if the margin is a multiple.
    assert m % 4 == 0
    torch.testing.assert_close(inner, whole[..., m : m + h, m : m + w])
    # Skips that were cropped off-centre would break this for sizes that pooling rounds down.
    torch.testing.assert_close(a[..., 4:60, 4:60], b[..., :56, :56])


def test_mirror_reflects_as_often_as_needed():
    x = torch.arange(3.0).view(1, 1, 1, 3)
    assert mirror(x, 1, 9, margin=0)[0, 0, 0].tolist() == [0, 1, 2, 1, 0, 1, 2, 1, 0]
    y = torch.randn(2, 3, 9, 8)
    expected = nn.functional.pad(y, (2, 3, 2, 4), mode="reflect")
    assert torch.equal(mirror(y, 15, 13, margin=2), expected)


def test_weights_start_as_the_paper_says():
    for name, module in UNet(width=32, batch_norm=False).named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.weight.numel() > 5000:
            inputs = module.in_channels * (9 if "conv_1x1" not in name and ".up" not in name else 1)
            assert module.weight.std().item() == pytest.approx((2 / inputs) ** 0.5, rel=0.05), name
            assert not module.bias.any()


@pytest.mark.parametrize(
    "settings", [{"padding": "full"}, {"width": 0}, {"depth": 0}, {"depth": 9}, {"num_classes": 0}]
)
def test_settings_that_make_no_network_are_refused_by_name(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        UNet(**{"width": 2, **settings})
    with pytest.raises(TypeError, match="witdh"):
        UNet(witdh=2)

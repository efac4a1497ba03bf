"""The convolutions' own backward pass against that of torch.nn."""

import copy

import pytest
import torch
from torch import nn

import convolution
import lean
from convolution import Conv3x3, UpConv2x2, slow
from model import UNet


@pytest.fixture(autouse=True)
def avx2(monkeypatch):
    """As if the processor had AVX2 alone."""
    monkeypatch.setattr(convolution, "has_avx2_alone", lambda: True)


def theirs(layer: nn.Module) -> nn.Module:
    """The layer of torch.nn with the same weights, in float64."""
    c, d = layer.in_channels, layer.out_channels
    if isinstance(layer, UpConv2x2):
        other = nn.ConvTranspose2d(c, d, 2, stride=2)
    else:
        other = nn.Conv2d(c, d, 3, padding=layer.padding, bias=layer.bias is not None)
    other.load_state_dict(layer.state_dict())
    return other.double()


LAYERS = [
    Conv3x3(32, 5, "same", bias=False),
    Conv3x3(40, 48, "valid", bias=False),
    UpConv2x2(32, 7),
]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("size", [(1, 3, 3), (2, 7, 4), (3, 4, 12)])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("part", [1, convolution.CACHE])  # bytes: an image at a time, and all
def test_gradients_are_those_of_torch(layer, size, layout, part, monkeypatch):
    monkeypatch.setattr(convolution, "CACHE", part)
    torch.manual_seed(0)
    n, h, w = size
    x = torch.randn(n, layer.in_channels, h, w).to(memory_format=layout).requires_grad_()
    other, y = theirs(layer), x.detach().double().requires_grad_()
    result, expected = layer(x), other(y)
    assert type(result.grad_fn).__name__ in ("_Conv3x3Backward", "_UpConv2x2Backward")
    torch.testing.assert_close(result, expected.float())
    grad = torch.randn_like(result)
    found = torch.autograd.grad(result, [x, *layer.parameters()], grad)
    wanted = torch.autograd.grad(expected, [y, *other.parameters()], grad.double())
    for ours, its in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, its.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_gradient_of_the_gradient_is_that_of_torch(layer):
    torch.manual_seed(0)
    x = torch.randn(2, layer.in_channels, 4, 5, requires_grad=True)
    other, y = theirs(layer), x.detach().double().requires_grad_()

    def second(layer, x):
        loss = layer(x).square().sum()
        (first,) = torch.autograd.grad(loss, layer.weight, create_graph=True)
        return torch.autograd.grad(first.square().mean(), x)[0]

    expected = second(other, y).float()
    torch.testing.assert_close(second(layer, x), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("large", [0, lean.LARGE])  # by hand, and by autograd
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_network_learns_what_it_learns_with_the_layers_of_torch(large, padding, monkeypatch):
    monkeypatch.setattr(lean, "LARGE", large)
    torch.manual_seed(0)
    model = UNet(width=32, depth=1, padding=padding)
    images = torch.randint(0, 256, (2, 3, 44, 44), dtype=torch.uint8)
    calls = []
    product = convolution.weight_gradient
    monkeypatch.setattr(
        convolution, "weight_gradient", lambda *args: calls.append(args) or product(*args)
    )

    def gradients():
        model.zero_grad()
        model(images).square().mean().backward()
        return [p.grad for p in model.parameters()]

    found = gradients()
    assert len(calls) == 5  # all but the first 3x3 convolution, which sees three channels
    monkeypatch.setattr(convolution, "has_avx2_alone", lambda: False)
    expected = gradients()
    assert len(calls) == 5
    for ours, its in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, its, rtol=1e-3, atol=1e-4)


def test_what_is_not_slow_is_left_to_torch(monkeypatch):
    layer, x = Conv3x3(32, 4, "same", bias=False), torch.zeros(1, 32, 4, 4)
    assert slow(layer, x)
    assert not slow(Conv3x3(16, 4, "same", bias=False), x[:, :16])
    assert not slow(Conv3x3(32, 4, "same", bias=True), x)
    assert not slow(nn.Conv2d(32, 4, 3, bias=False), x)
    assert not slow(copy.deepcopy(layer).double(), x.double())
    assert not slow(layer, x.to("meta"))
    assert not slow(copy.deepcopy(layer).requires_grad_(False), x)  # frozen: it needs no gradient
    with torch.autocast("cpu", torch.bfloat16):
        assert not slow(layer, x)
    assert type(layer.eval()(x).grad_fn).__name__ == "ConvolutionBackward0"
    monkeypatch.setattr(convolution, "has_avx2_alone", lambda: False)
    assert not slow(layer, x)


def test_a_frozen_layer_passes_its_gradient_on():
    x = torch.randn(1, 32, 4, 4, requires_grad=True)
    layer = Conv3x3(32, 32, "same", bias=False).requires_grad_(False)
    layer(x).sum().backward()
    other = theirs(layer)
    y = x.detach().double().requires_grad_()
    other(y).sum().backward()
    assert layer.weight.grad is None
    torch.testing.assert_close(x.grad, y.grad.float())

"""The layer that a folded network predicts with on a CPU, against those of PyTorch."""

import copy
from unittest.mock import Mock

import pytest
import torch
from torch import nn

from folding import ConvReLU, for_prediction
from model import UNet
from runtime.precision import cpu_has_bf16

pytestmark = pytest.mark.processor
onednn = torch.backends.mkldnn.is_available()
needs_onednn = pytest.mark.skipif(not onednn, reason="PyTorch without oneDNN")
needs_bf16 = pytest.mark.skipif(not cpu_has_bf16(), reason="the CPU has no bf16")

CONVOLUTIONS = [
    nn.Conv2d(3, 8, 3, padding="same"),
    nn.Conv2d(8, 5, 3, padding="valid", bias=False),
    nn.Conv2d(4, 1, 3, padding="same"),
    nn.Conv2d(8, 5, 3, padding="same"),
]
bf16 = pytest.param(torch.bfloat16, marks=needs_bf16)


@pytest.mark.parametrize("layer", CONVOLUTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, bf16])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("n", [0, 2])
@pytest.mark.parametrize(("maps", "apart"), [(1, False), (2, False), (2, True)])
def test_a_fused_convolution_computes_both_layers(layer, dtype, layout, n, maps, apart):
    fused = copy.deepcopy(layer)
    fused.__class__ = ConvReLU
    x = torch.randn(n, layer.in_channels, 13, 10).to(memory_format=layout)
    before = x.clone()
    given = x if maps == 1 else tuple(x.tensor_split([2], dim=1))
    if apart:
        given = tuple(each.clone(memory_format=layout) for each in given)
    with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
        found, expected = fused(given), layer(x).relu()
    assert torch.equal(x, before)
    assert found.dtype == dtype and (n == 0 or (found == 0).any())
    rtol = 1e-5 if dtype == torch.float32 else 0.01
    atol = 1e-5 if maps == 1 else rtol  # in bf16 a sum of two is rounded twice
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)


@needs_onednn
@pytest.mark.parametrize("dtype", [torch.float32, bf16])
def test_weights_are_packed_once_and_again_when_they_or_the_image_change(dtype, monkeypatch):
    layer, pack = ConvReLU(16, 16, 3, padding="same"), torch.ops.mkldnn._reorder_convolution_weight
    packed = Mock(side_effect=pack)
    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_convolution_weight", packed)

    def run(side: int = 8) -> int:
        x = torch.rand(1, 16, side, side).to(memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
            found = layer(x)
            torch.testing.assert_close(found, nn.Conv2d.forward(layer, x).relu())
        return packed.call_count

    assert [run(24), run(24), run()] == [1, 1, 2]
    with torch.no_grad():
        layer.weight.mul_(2)
    assert run() == 3
    for calls in (4, 5):  # of one version, that of a new weight
        layer.weight = nn.Parameter(torch.rand_like(layer.weight))
        assert run() == calls
    with torch.inference_mode():
        layer.weight = nn.Parameter(torch.rand_like(layer.weight), requires_grad=False)
    for calls in (6, 7):  # of such weights nobody counts the changes
        with torch.inference_mode():
            layer.weight.mul_(2)
        assert run() == calls


def operators(layer: nn.Module, x) -> set[str]:
    with torch.profiler.profile() as profile:
        layer(x)
    return {event.key for event in profile.key_averages()}


@needs_onednn
def test_a_cpu_computes_convolution_sum_and_relu_at_once_in_inference_alone():
    layer = copy.deepcopy(CONVOLUTIONS[0])
    layer.__class__ = ConvReLU
    x = torch.randn(1, 3, 8, 8)
    assert "aten::relu_" in operators(layer, x)
    layer(x).sum().backward()
    assert layer.weight.grad.abs().sum() > 0
    with torch.no_grad():
        fused = operators(layer, x)
    assert "aten::relu_" not in fused and "mkldnn::_convolution_pointwise" in fused
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    predicting = for_prediction(UNet(width=4, depth=2))
    with torch.inference_mode():
        found = operators(predicting, images)
    assert "mkldnn::_convolution_pointwise_" in found
    assert not {"aten::cat", "aten::relu_"} & found

"""Convolutions that train or predict on a CPU, against torch.nn's, and the memory that is kept."""

import copy
import sys
from unittest.mock import Mock

import pytest
import torch
from torch import nn

from folding import ConvReLU, for_prediction
from model import UNet
from runtime import cpu
from runtime.precision import cpu_has_bf16
from tests.processes import python
from tests.training import noise

pytestmark = pytest.mark.processor


@pytest.fixture(autouse=True)
def avx2(monkeypatch):
    """As if the processor had AVX2 and no AVX512."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")


def converted(layer: nn.Module) -> nn.Module:
    """The layer that `convert` puts in place of a copy of this one."""
    return cpu.convert(nn.Sequential(copy.deepcopy(layer)))[0]


def product_is_used(layer: nn.Module, x: torch.Tensor) -> bool:
    """Whether the layer's own backward pass follows, and not PyTorch's."""
    return type(layer(x).grad_fn).__name__ in ("_Conv3x3Backward", "_UpConv2x2Backward")


LAYERS = [
    nn.Conv2d(32, 5, 3, padding="same", bias=False),
    nn.Conv2d(40, 48, 3, padding="valid", bias=False),
    nn.ConvTranspose2d(32, 7, 2, stride=2),
]


def check_gradients(layer: nn.Module, x: torch.Tensor, dtype: torch.dtype, tolerance: float):
    """The result and all gradients of the converted layer are those of PyTorch's in float64."""
    ours, theirs = converted(layer), copy.deepcopy(layer).double()
    x.requires_grad_()
    y = x.detach().double().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        assert product_is_used(ours, x)
        result = ours(x)
    expected = theirs(y)
    assert result.dtype == dtype
    torch.testing.assert_close(result.double(), expected, rtol=tolerance, atol=tolerance)
    grad = torch.randn_like(result).bfloat16()  # numbers that all dtypes hold
    found = torch.autograd.grad(result, [x, *ours.parameters()], grad.to(dtype))
    wanted = torch.autograd.grad(expected, [y, *theirs.parameters()], grad.double())
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == torch.float32
        most = tolerance * max(b.abs().max().item(), 1)
        torch.testing.assert_close(a, b.float(), rtol=tolerance, atol=most)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("size", [(1, 3, 3), (2, 7, 4), (3, 4, 12)])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("part", [1, cpu.PART_BYTES])  # bytes: an image at a time, and all
def test_gradients_are_those_of_torch_in_float64(layer, size, layout, part, monkeypatch):
    monkeypatch.setattr(cpu, "PART_BYTES", part)
    n, h, w = size
    x = torch.randn(n, layer.in_channels, h, w).to(memory_format=layout)
    check_gradients(layer, x, torch.float32, 1e-4)


@pytest.mark.parametrize("channels", [4, 32])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.03)])
def test_up_convolutions_have_torchs_gradients_on_avx512(channels, dtype, tolerance, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    x = torch.randn(2, channels, 9, 6).to(memory_format=torch.channels_last)
    check_gradients(nn.ConvTranspose2d(channels, 7, 2, stride=2), x, dtype, tolerance)


def test_parameters_names_an_optimizer_and_copies_survive_conversion():
    model = UNet(width=32, depth=1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    before, names = dict(model.named_parameters()), [name for name, _ in model.named_modules()]
    assert cpu.convert(model) is model
    assert {cpu.Conv3x3, cpu.UpConv2x2} <= {type(m) for m in model.modules()}
    assert [name for name, _ in model.named_modules()] == names
    for (name, value), (after, same) in zip(before.items(), model.named_parameters(), strict=True):
        assert name == after and value is same
    other, weight = copy.deepcopy(model), model.contracting[1][0].weight
    start = weight.detach().clone()
    model(noise(1, 3, 16, 16)).mean().backward()
    optimizer.step()
    assert not torch.equal(weight, start)
    assert torch.equal(other.contracting[1][0].weight, start)  # a copy has weights of its own


@pytest.mark.parametrize("capability", ["AVX512", "DEFAULT", "NEON"])
def test_other_processors_keep_the_convolutions_of_torch(capability, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    model = cpu.convert(UNet(width=32, depth=1))
    ours = {type(m) for m in model.modules() if type(m).__module__ == "runtime.cpu"}
    assert ours == {cpu.UpConv2x2}  # whose gradient by the bias is slow with AVX512, too


SAME, TWICE = dict(kernel_size=3, padding="same", bias=False), dict(kernel_size=2, stride=2)
OTHER = [dict(bias=True), dict(padding=2), dict(padding=0, stride=2), dict(dilation=2)]
OTHER += [dict(groups=2), dict(padding_mode="reflect"), dict(kernel_size=1), dict(kernel_size=5)]
OTHER_UP = [dict(bias=False), dict(padding=1), dict(kernel_size=3), dict(groups=2)]
OTHERS = [
    nn.Conv2d(16, 32, **SAME),  # few channels
    type("OwnConv", (nn.Conv2d,), {})(32, 4, **SAME),
    *(nn.Conv2d(32, 4, **SAME | change) for change in OTHER),
    *(nn.ConvTranspose2d(32, 4, **TWICE | up) for up in [*OTHER_UP, dict(output_padding=1)]),
]


@pytest.mark.parametrize("layer", OTHERS, ids=str)
def test_layers_of_another_form_stay_as_they_are(layer):
    assert cpu.convert(nn.Sequential(layer))[0] is layer


@pytest.mark.parametrize("layer", LAYERS)
def test_passes_that_are_not_for_the_products_or_of_no_image_are_those_of_torch(layer):
    ours, x = converted(layer), torch.randn(1, layer.in_channels, 4, 4, requires_grad=True)
    assert product_is_used(ours, x)
    with torch.no_grad():
        assert ours(x).grad_fn is None
    with torch.autocast("cpu", torch.bfloat16):  # the gradient by a bias is slow in bf16, too
        assert product_is_used(ours, x) == isinstance(ours, cpu.UpConv2x2)
    assert not product_is_used(copy.deepcopy(ours).double(), x.double())
    assert not product_is_used(copy.deepcopy(ours).to("meta"), x.to("meta"))
    frozen = copy.deepcopy(ours).requires_grad_(False)
    assert not product_is_used(frozen, x)
    frozen(x).sum().backward()
    y = x.detach().double().requires_grad_()
    copy.deepcopy(layer).double()(y).sum().backward()
    torch.testing.assert_close(x.grad, y.grad.float())
    ours(x[:0]).sum().backward()  # of no image
    assert frozen.weight.grad is None and not ours.weight.grad.any()
    assert not product_is_used(ours.eval(), x)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and is for glibc")
def test_freed_memory_stays_for_the_next_step():
    code = r"""
import re, sys, torch
from runtime.cpu import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
torch.ones(50_000_000)
print(re.search(r"VmRSS:\s+(\d+)", open("/proc/self/status").read())[1])
"""
    kept, plain = (int(python("-c", code, what).stdout) for what in ("keep", "plain"))
    assert kept - plain > 150_000  # of the tensor's 195,000 kB


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

"""The training pass by hand against autograd's, and both against float64."""

import copy
import os
import sys

import pytest
import torch
from torch import nn

import convolution
import lean
import losses
from losses import criterion
from model import UNet, normalize


@pytest.fixture(autouse=True)
def for_small_pictures_too(monkeypatch):
    monkeypatch.setattr(lean, "LARGE", 0)
    monkeypatch.setattr(lean, "_given_back", [])


def network(**settings) -> UNet:
    torch.manual_seed(0)
    model = UNet(**{"width": 4, "depth": 2, **settings})
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, -2, 2)  # negative ones turn around what ReLU keeps
            nn.init.normal_(norm.bias)
    return model


def batch(n=3, height=40, width=56) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    images = torch.randint(0, 256, (n, 3, height, width), dtype=torch.uint8)
    return images, images[:, 0] // 16


def step(model, images, labels) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Logits and gradients, both in float64."""
    logits = model(images)
    model.zero_grad()
    criterion(logits, labels).backward()
    return logits.detach().double(), [p.grad.double() for p in model.parameters()]


def distance(gradients, exact) -> float:
    """The largest error of a gradient, relative to its own norm."""
    return max(((a - b).norm() / b.norm()).item() for a, b in zip(gradients, exact, strict=True))


@pytest.mark.parametrize("cache", [1, 10_000, 1 << 30])  # an image at a time, a few, all
@pytest.mark.parametrize(
    "settings", [{}, {"depth": 1}, {"depth": 4, "width": 2}, {"in_channels": 3, "num_classes": 19}]
)
def test_gradients_are_as_close_to_float64_as_those_of_autograd(settings, cache, monkeypatch):
    monkeypatch.setattr(convolution, "CACHE", cache)
    ours, images, labels = network(**settings), *batch()
    exact, plain = copy.deepcopy(ours).double(), copy.deepcopy(ours)
    assert lean.applies(ours, normalize(images))
    logits, gradients = step(ours, images, labels)
    exact_logits, exact_gradients = step(exact, normalize(images).double(), labels)
    monkeypatch.setattr(lean, "applies", lambda model, images: False)
    plain_logits, plain_gradients = step(plain, images, labels)
    torch.testing.assert_close(logits, exact_logits, rtol=1e-4, atol=1e-4)
    allowed = 3 * distance(plain_gradients, exact_gradients)
    assert distance(gradients, exact_gradients) < allowed < 1e-2
    for (name, a), b in zip(ours.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


def test_sizes_that_poolings_do_not_divide_and_the_workspace_of_a_larger_step():
    model, plain = network(), network().double()
    for height, width in ((64, 80), (37, 53), (64, 80)):
        images, labels = batch(2, height, width)
        logits, gradients = step(model, images, labels)
        exact = step(plain, normalize(images).double(), labels)
        assert logits.shape[-2:] == (height, width)
        torch.testing.assert_close(logits, exact[0], rtol=1e-4, atol=1e-4)
        assert distance(gradients, exact[1]) < 1e-3


def test_two_steps_use_one_workspace_and_two_passes_at_once_have_one_each():
    model, images, labels = network(), *batch()
    expected = step(model, images, labels)[1]
    (space,) = lean._given_back
    first, second = model(images), model(images)
    (first.sum() - first.sum().detach()).backward()
    model.zero_grad()
    criterion(second, labels).backward()
    assert distance([p.grad.double() for p in model.parameters()], expected) < 1e-5
    (kept,) = lean._given_back
    assert len(kept) == len(space)
    step(model, images, labels)
    assert lean._given_back[0].data_ptr() == kept.data_ptr()


def test_a_second_backward_pass_is_refused_with_a_word():
    model, images, labels = network(), *batch()
    loss = criterion(model(images), labels)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="make a forward pass first"):
        loss.backward()
    loss = model(images).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="make a forward pass first"):
        loss.backward()


def test_weights_that_change_between_the_passes_are_noticed_as_by_autograd():
    model, images, _ = network(), *batch()
    loss = model(images).sum()
    with torch.no_grad():
        model.contracting[0][3].weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_backward_pass_that_was_interrupted_is_not_made_again_with_half_of_it(monkeypatch):
    model, images, labels = network(), *batch()
    expected = step(model, images, labels)[1]
    loss, whole = model(images).sum(), lean.unit_backward
    calls = iter([whole])

    def interrupted(*args):
        return next(calls, stop)(*args)

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(lean, "unit_backward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loss.backward(retain_graph=True)
    monkeypatch.setattr(lean, "unit_backward", whole)
    with pytest.raises(RuntimeError, match="make a forward pass first"):
        loss.backward()
    assert distance(step(model, images, labels)[1], expected) < 1e-5


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked by itself")
def test_a_forked_worker_gets_no_copy_of_the_workspace():
    step(network(), *batch())
    space = lean._given_back[0].numpy()  # a fork has none of torch's threads
    assert space.any()
    if (child := os.fork()) == 0:
        os._exit(int(space.any()))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert space.any()


@pytest.mark.parametrize("rows", [1, 7, 1 << 16])
@pytest.mark.parametrize("ignored", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("loss", ["cross_entropy", "cross_entropy+dice"])
def test_the_loss_and_its_gradient_are_those_of_pytorch(loss, ignored, rows, monkeypatch):
    monkeypatch.setattr(losses, "ROWS", rows)
    torch.manual_seed(0)
    scores = 5 * torch.randn(2, 5, 4, 6).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 5, (2, 4, 6), dtype=torch.uint8)
    labels[torch.rand(2, 4, 6) < ignored] = 255
    assert lean.large(scores)
    ours, theirs = scores.clone().requires_grad_(), scores.clone().requires_grad_()
    value = criterion(ours, labels, loss)
    (3 * value).backward()
    monkeypatch.setattr(losses, "large", lambda scores: False)
    expected = criterion(theirs, labels, loss)
    (3 * expected).backward()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(ours.grad, theirs.grad)
    with torch.no_grad():
        torch.testing.assert_close(criterion(scores, labels, loss), expected)


def frozen(model):
    model.contracting[0][0].weight.requires_grad_(False)
    return model


def still(model):
    model.contracting[0][1].eval()
    return model


def exchanged(part: int, layer: nn.Module):
    model = network()
    model.contracting[1][part] = layer
    return model


def hooked():
    model = network()
    model.contracting[1].register_forward_hook(lambda *args: None)
    return model


def watched():
    model = network()
    model.expansive[0].up.weight.register_hook(lambda grad: 2 * grad)
    return model


@pytest.mark.parametrize(
    "model",
    [
        exchanged(2, nn.LeakyReLU()),
        exchanged(0, nn.Conv2d(4, 8, 3, padding=1, bias=True)),
        exchanged(0, nn.Conv2d(4, 8, 3, padding=2, dilation=2, bias=False)),
        exchanged(0, nn.Conv2d(4, 8, 3, padding="same", padding_mode="reflect", bias=False)),
        exchanged(0, nn.utils.parametrizations.spectral_norm(network().contracting[1][0])),
        exchanged(1, nn.BatchNorm2d(8, affine=False)),
        exchanged(1, nn.BatchNorm2d(8, track_running_stats=False)),
        exchanged(1, nn.BatchNorm2d(8, momentum=None)),
        hooked(),
        watched(),
        network(padding="valid"),
        network(batch_norm=False),
        network().double(),
        network().eval(),
        frozen(network()),
        still(network()),
        nn.SyncBatchNorm.convert_sync_batchnorm(network()),
    ],
)
def test_what_it_cannot_do_is_left_to_autograd(model):
    images = torch.rand(2, 3, 64, 64)
    assert lean.applies(network(), images)
    assert not lean.applies(model, images)


def test_small_pictures_are_left_to_autograd_which_is_faster(monkeypatch):
    monkeypatch.undo()
    model = UNet(width=16)
    assert lean.applies(model, torch.zeros(8, 3, 368, 480))
    assert not lean.applies(model, torch.zeros(4, 3, 240, 320))
    assert not lean.large(torch.zeros(240 * 320, 19))


def test_a_network_that_computes_otherwise_is_left_to_autograd(monkeypatch):
    class Doubled(UNet):
        def layers(self, x):
            return 2 * super().layers(x)

    monkeypatch.setattr(lean, "forward", None)
    model = Doubled(width=4, depth=2)
    model(torch.rand(2, 3, 64, 64)).sum().backward()
    assert model.conv_1x1.weight.grad is not None


def test_without_gradients_and_for_gradients_of_the_picture_it_is_left_to_autograd():
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert not lean.applies(network(), images)
    assert not lean.applies(network(), images.requires_grad_())

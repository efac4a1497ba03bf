"""The training pass by hand against autograd's, and both against float64."""

import copy

import pytest
import torch
from torch import nn

import lean
from losses import criterion
from model import UNet, normalize


@pytest.fixture(autouse=True)
def for_small_pictures_too(monkeypatch):
    monkeypatch.setattr(lean, "LARGE", 0)


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
    monkeypatch.setattr(lean, "CACHE", cache)
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
    assert kept.data_ptr() == space.data_ptr() or len(kept) >= len(space)
    step(model, images, labels)
    assert lean._given_back[0].data_ptr() == kept.data_ptr()


def test_a_second_backward_pass_is_refused_with_a_word():
    model, images, labels = network(), *batch()
    loss = criterion(model(images), labels)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="make a forward pass first"):
        loss.backward()


@pytest.mark.parametrize("rows", [1, 7, 1 << 16])
@pytest.mark.parametrize("ignored", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("loss", ["cross_entropy", "cross_entropy+dice"])
def test_the_loss_and_its_gradient_are_those_of_pytorch(loss, ignored, rows, monkeypatch):
    monkeypatch.setattr(lean, "ROWS", rows)
    torch.manual_seed(0)
    scores = 5 * torch.randn(2, 5, 4, 6).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 5, (2, 4, 6), dtype=torch.uint8)
    labels[torch.rand(2, 4, 6) < ignored] = 255
    assert lean.large(scores)
    ours, theirs = scores.clone().requires_grad_(), scores.clone().requires_grad_()
    value = criterion(ours, labels, loss)
    (3 * value).backward()
    monkeypatch.setattr(lean, "large", lambda scores: False)
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


@pytest.mark.parametrize(
    "model",
    [
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


def test_without_gradients_and_for_gradients_of_the_picture_it_is_left_to_autograd():
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert not lean.applies(network(), images)
    assert not lean.applies(network(), images.requires_grad_())

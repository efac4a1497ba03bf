"""The losses against PyTorch's, and against their formulas written out class by class."""

import math

import pytest
import torch
from torch.nn import functional as F

from engine.losses import Loss, make_class_weights

pytestmark = pytest.mark.processor

LOSSES = ["cross_entropy", "cross_entropy+dice", "cross_entropy+lovasz"]


@pytest.mark.parametrize("ignored", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, torch.tensor([0.3, 1.0, 0.0, 2.0, 0.7])])
def test_cross_entropy_is_pytorchs_over_the_labelled_pixels(ignored, smoothing, weights):
    logits, labels = torch.randn(2, 5, 8, 9), torch.randint(0, 5, (2, 8, 9))
    labels[torch.rand(2, 8, 9) < ignored] = 255
    options = {"ignore_index": 255, "label_smoothing": smoothing}
    expected = F.cross_entropy(logits, labels, weights, **options)
    if ignored == 1:
        expected = torch.tensor(0.0)  # where PyTorch says nan
    loss = Loss(class_weights=weights, label_smoothing=smoothing)
    torch.testing.assert_close(loss(logits, labels), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_large_image_has_the_loss_and_gradient_that_all_its_pixels_have_at_once(loss, dtype):
    logits = torch.randn(1, 5, 250, 300, dtype=dtype)  # more pixels than are taken at once
    labels = torch.randint(0, 5, (1, 250, 300))
    labels[0, :30] = 255
    ours, whole = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    Loss(loss)(ours, labels).backward()
    cross_entropy = F.cross_entropy(whole.float(), labels, ignore_index=255)
    terms = {name: Loss(name)(whole, labels) for name in loss.split("+")}
    expected = sum({**terms, "cross_entropy": cross_entropy}[name] for name in terms)
    expected.backward()
    torch.testing.assert_close(Loss(loss)(logits, labels), expected)
    torch.testing.assert_close(ours.grad, whole.grad, atol=1e-9, rtol=1e-2)


def test_dice_loss_is_its_formula_over_the_classes_of_the_batch():
    logits = torch.randn(2, 5, 8, 9)
    labels = torch.randint(0, 3, (2, 8, 9))  # classes 3 and 4 are absent
    labels[0, :3] = 255
    p, kept = logits.softmax(1), labels != 255
    dice = []
    for c in range(3):
        truth = (labels == c).float()
        hits = (p[:, c] * truth).sum()
        dice.append(2 * hits / ((p[:, c] * kept).sum() + truth.sum()))
    expected = 1 - sum(dice) / 3
    torch.testing.assert_close(Loss("dice")(logits, labels), expected)
    both = Loss("cross_entropy+dice")(logits, labels)
    torch.testing.assert_close(both, F.cross_entropy(logits, labels, ignore_index=255) + expected)


def test_dice_loss_counts_every_one_of_millions_of_pixels():
    p = 0.9 + 0.1 * torch.rand(1, 1, 1500, 2000)  # of the right class, of two
    logits = torch.cat([(p / (1 - p)).log(), torch.zeros_like(p)], 1)
    labels = torch.zeros(1, 1500, 2000, dtype=torch.uint8)
    expected = 1 - 2 * p.double().sum() / (p.double().sum() + p.numel())
    assert Loss("dice")(logits, labels).item() == pytest.approx(expected.item(), rel=1e-3)


def test_classes_weigh_by_median_frequency_or_as_in_enet():
    shares = torch.tensor([0.6, 0.3, 0.1, 0.0])
    median = make_class_weights("median_frequency", shares)
    torch.testing.assert_close(median, torch.tensor([0.5, 1.0, 3.0, 0.0]))
    enet = make_class_weights("enet", shares)
    expected = [1 / math.log(1.62), 1 / math.log(1.32), 1 / math.log(1.12), 0.0]
    torch.testing.assert_close(enet, torch.tensor(expected))


def test_lovasz_loss_and_its_gradient_are_the_extension_of_the_lost_iou():
    # By its definition (Berman et al. 2018, equation 8): an integral over thresholds of the loss
    # of the pixels whose error is above, for each class.
    logits, labels = torch.randn(72, 4, requires_grad=True), torch.randint(0, 3, (72,))
    labels[::6] = 255
    counts = labels != 255
    truths = labels[counts]
    errors = (F.one_hot(truths, 4) - logits.softmax(1)[counts]).abs()
    losses = []
    for c in range(3):  # the fourth class does not occur
        truth, thresholds = truths == c, torch.cat([torch.zeros(1), errors[:, c].sort().values])
        value = 0.0
        for low, high in zip(thresholds[:-1], thresholds[1:], strict=True):
            wrong = errors[:, c] > (low + high) / 2
            hits, union = (truth & ~wrong).sum(), (truth | wrong).sum()
            value += (high - low) * (1 - hits / union)
        losses.append(value)
    expected = torch.stack(losses).mean()
    found = Loss("lovasz")(logits.t()[None, :, None], labels[None, None])
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (found, expected)]
    torch.testing.assert_close(*gradients)
    assert not gradients[0][::6].any()


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_without_a_labelled_pixel_gives_a_number_and_no_gradient(loss):
    logits = torch.randn(1, 5, 4, 4, requires_grad=True)
    value = Loss(loss)(logits, torch.full((1, 4, 4), 255))
    value.backward()
    assert value in (0, 1)
    assert not logits.grad.any()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_layout_half_precision_and_bytes_change_neither_loss_nor_gradient(loss, dtype):
    labels = torch.randint(0, 5, (2, 40, 50))
    labels[0, :3] = 255
    plain = (8 * torch.randn(2, 5, 40, 50)).to(dtype).requires_grad_()
    ours = plain.detach().float().to(memory_format=torch.channels_last).requires_grad_()
    first, second = Loss(loss)(plain, labels), Loss(loss)(ours, labels.to(torch.uint8))
    first.backward()
    second.backward()
    assert first.dtype == torch.float32
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(plain.grad, ours.grad.to(dtype))

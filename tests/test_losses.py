"""The losses against PyTorch's, and against their formulas written out class by class."""

import pytest
import torch
from torch.nn import functional as F

from engine.losses import criterion, dice_loss

LOSSES = ["cross_entropy", "cross_entropy+dice"]


def rows(logits, labels):
    """As `dice_loss` wants them: a row of logits a pixel, made without the module under test."""
    return torch.stack([c.flatten() for c in logits.unbind(1)], 1), labels.flatten()


@pytest.mark.parametrize("ignored", [0.0, 0.3, 1.0])
def test_cross_entropy_is_averaged_over_the_scored_pixels(ignored):
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 8, 9)
    labels = torch.randint(0, 5, (2, 8, 9))
    labels[torch.rand(2, 8, 9) < ignored] = 255
    if ignored < 1:
        expected = F.cross_entropy(logits, labels, ignore_index=255)
    else:
        expected = torch.tensor(0.0)  # where PyTorch says nan
    torch.testing.assert_close(criterion(logits, labels), expected)


def test_dice_loss_is_its_formula_over_the_classes_of_the_batch():
    torch.manual_seed(0)
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
    torch.testing.assert_close(dice_loss(*rows(logits, labels)), expected)
    both = criterion(logits, labels, "cross_entropy+dice")
    torch.testing.assert_close(both, F.cross_entropy(logits, labels, ignore_index=255) + expected)


def test_dice_loss_is_0_when_all_is_right_and_heeds_rare_classes_more_than_cross_entropy():
    labels = torch.zeros(1, 50, 50, dtype=torch.long)
    labels[0, 0, 0] = 1
    right = 20 * F.one_hot(labels, 2).permute(0, 3, 1, 2).float()
    assert dice_loss(*rows(right, labels)) < 1e-3
    missed = right.clone()
    missed[0, :, 0, 0] = torch.tensor([20.0, 0.0])  # the only pixel of class 1
    assert dice_loss(*rows(missed, labels)) > 0.49
    assert criterion(missed, labels) < 0.01


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_without_a_scored_pixel_gives_a_number_and_no_gradient(loss):
    logits = torch.randn(1, 5, 4, 4, requires_grad=True)
    value = criterion(logits, torch.full((1, 4, 4), 255), loss)
    value.backward()
    assert value in (0, 1)
    assert not logits.grad.any()


@pytest.mark.parametrize("loss", LOSSES)
def test_bytes_and_the_layout_in_memory_change_neither_loss_nor_gradient(loss):
    torch.manual_seed(0)
    labels = torch.randint(0, 5, (2, 8, 9))
    labels[0, :3] = 255
    plain = torch.randn(2, 5, 8, 9, requires_grad=True)
    ours = plain.detach().to(memory_format=torch.channels_last).requires_grad_()
    first = criterion(plain, labels, loss)
    second = criterion(ours, labels.to(torch.uint8), loss)
    first.backward()
    second.backward()
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(plain.grad, ours.grad)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_lose_nothing_in_the_loss(loss, dtype):
    torch.manual_seed(0)
    logits = (8 * torch.randn(2, 5, 40, 50)).to(dtype)
    labels = torch.randint(0, 5, (2, 40, 50))
    value = criterion(logits, labels, loss)
    assert value.dtype == torch.float32
    assert torch.equal(value, criterion(logits.float(), labels, loss))


@pytest.mark.parametrize("loss", LOSSES)
def test_sums_over_two_parts_of_a_batch_give_the_loss_of_the_whole(loss):
    torch.manual_seed(0)
    logits = torch.randn(3, 5, 8, 9)
    labels = torch.randint(0, 3, (3, 8, 9))
    labels[0, :3] = 255
    sums = []  # of the second part, which the first one then adds to its own

    def record(x):
        sums.append(x)
        return x

    criterion(logits[1:], labels[1:], loss, record)
    value = criterion(logits[:1], labels[:1], loss, lambda x: x + sums.pop(0))
    torch.testing.assert_close(value, criterion(logits, labels, loss))
    assert not sums

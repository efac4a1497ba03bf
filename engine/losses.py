"""Pixel-averaged cross-entropy, with weights for the classes, and the soft Dice and Lovász losses.

They work on a matrix of logits, a row for each pixel. In the channels-last layout that the network
gives, this is a view (unless padding was cut off), and a pixel's classes lie side by side: on a CPU
half the time of PyTorch's cross-entropy over (N, C, H, W), which walks across memory from class to
class.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from utils import CACHED_PIXELS, IGNORE_INDEX

Reduce = Callable[[Tensor], Tensor]


def identity(x: Tensor) -> Tensor:
    return x


def criterion(
    logits: Tensor,
    labels: Tensor,
    loss: str = "cross_entropy",
    reduce: Reduce = identity,
    pixels: Tensor | None = None,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """The recipe's loss: a scalar, differentiable in `logits`.

    Args:
        logits: (N, C, H, W), any floating type; the loss is computed in float32.
        labels: (N, H, W) uint8 or int64, 0..C-1, or `IGNORE_INDEX` for pixels that do not count.
        loss: `cross_entropy`, averaged over the pixels that count (0 if none does), or
            `cross_entropy+dice`, plus `dice_loss`, or `cross_entropy+lovasz`, plus `lovasz_loss`.
        reduce: turns a sum over these pixels into that over the whole batch:
            `distributed.all_reduce_sum` where the batch is divided among processes.
        pixels: `count_pixels` of the whole batch, where `labels` are a part of it; the parts'
            cross-entropies then add up to the batch's.
        class_weights: (C,) float32; the cross-entropy is then averaged with the weight of each
            pixel's class.
        label_smoothing: share of the target that the cross-entropy spreads over all classes
            (Szegedy et al. 2015, section 7, https://arxiv.org/abs/1512.00567).

    A loss for `accumulate` must be a sum over pixels divided by `pixels`, as cross-entropy is.
    Raises ValueError for another loss.
    """
    if loss not in ("cross_entropy", "cross_entropy+dice", "cross_entropy+lovasz"):
        raise ValueError(f"there is no loss {loss}")
    logits = logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1])  # (pixels, C)
    labels = labels.reshape(-1).long()
    if pixels is None:
        pixels = reduce(count_pixels(labels, class_weights))
    total = sum(
        F.cross_entropy(x, y, class_weights, None, IGNORE_INDEX, None, "sum", label_smoothing)
        for x, y in _parts(logits, labels)
    )
    value = reduce(total) / pixels.clamp(min=1e-6)
    if loss == "cross_entropy+dice":
        value = value + dice_loss(logits.float(), labels, reduce)
    elif loss == "cross_entropy+lovasz":
        value = value + lovasz_loss(logits.float(), labels)
    return value


def _parts(logits: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits (pixels, C) in float32 and labels (pixels,), on a CPU in parts that its cache holds.

    In bf16 that takes a third off the cross-entropy's time: the float32 copies of all pixels would
    go to memory and back. A GPU is faster with all at once.
    """
    pixels = CACHED_PIXELS if logits.device.type == "cpu" else max(len(logits), 1)
    for x, y in zip(logits.split(pixels), labels.split(pixels), strict=True):
        yield x.float(), y


def count_pixels(labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """How many `labels` count, each with the weight of its class if there are weights: a scalar."""
    counts = labels != IGNORE_INDEX
    return counts.sum() if class_weights is None else class_weights[labels[counts].long()].sum()


def make_class_weights(kind: str, shares: Tensor) -> Tensor:
    """A weight for each class, by its share of the training data's scored pixels.

    Args:
        kind: `median_frequency`, the median of the shares divided by the class's own, so that all
            classes have the same weight in all (Eigen & Fergus 2015,
            https://arxiv.org/abs/1411.4734; of all images, where they count a class only in those
            that show it), or `enet`,
            1 / ln(1.02 + share), 1.4 to 50 (Paszke et al. 2016, https://arxiv.org/abs/1606.02147).
        shares: (C,), 0..1. Classes that do not occur get no weight.
    """
    present = shares > 0
    if kind == "median_frequency":
        weights = shares[present].median() / shares
    else:
        weights = 1 / (1.02 + shares).log()
    return torch.where(present, weights, 0).float()


def dice_loss(logits: Tensor, labels: Tensor, reduce: Reduce = identity) -> Tensor:
    """Soft Dice loss (Milletari et al. 2016, https://arxiv.org/abs/1606.04797): a scalar, 0..1.

    One minus the mean, over the classes that `labels` contain, of
    2 sum(p t) / (sum(p) + sum(t)), p the softmax of `logits` (pixels, C) float32 and t the one-hot
    `labels` (pixels,) int64. Every class counts alike, however few pixels it has. `reduce` as in
    `criterion`.
    """
    counts = labels != IGNORE_INDEX
    index = labels.masked_fill(~counts, 0)
    weight = counts.to(logits.dtype)
    p = logits.softmax(1)
    p_true = p.gather(1, index.unsqueeze(1)).squeeze(1) * weight
    zeros = logits.new_zeros(logits.shape[1])
    hits = zeros.index_add(0, index, p_true)
    size = zeros.index_add(0, index, weight)
    predicted = weight @ p  # sums over the pixels that count
    hits, size, predicted = reduce(torch.stack([hits, size, predicted]))
    dice = 2 * hits / (predicted + size).clamp(min=1e-6)
    present = size > 0
    return 1 - (dice * present).sum() / present.sum().clamp(min=1)


def lovasz_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The Lovász-softmax loss (Berman et al. 2018, https://arxiv.org/abs/1705.08790): 0..1.

    A surrogate of one minus the mean IoU of the classes that `labels` contain: the errors of the
    pixels, sorted from the largest, each times what the IoU loses if the pixels up to there are
    wrong. Since it sorts all pixels of a batch, its sums over parts do not add up.

    Args:
        logits: (pixels, C) float32.
        labels: (pixels,) int64.
    """
    counts = labels != IGNORE_INDEX
    # Of each class. Ignored pixels have no error, and so no part in the sums.
    p = (logits.t().contiguous().softmax(0) * counts).unbind()
    losses = [0 * logits.sum()]  # of no class, where no pixel counts
    for label in labels[counts].unique().tolist():
        truth = (labels == label).float()
        errors = (truth - p[label]).abs()
        with torch.no_grad():  # the order is constant where it does not change
            # From the largest: floats from 0 on are in the order of their bits read as integers,
            # which PyTorch sorts several times as fast on a CPU.
            order = (~errors.view(torch.int32)).argsort()
            truth = truth.gather(0, order)
            size = truth.sum()
            lost = 1 - (size - truth.cumsum(0)) / (size + (1 - truth).cumsum(0))  # of the IoU
            steps = lost.diff(prepend=lost.new_zeros(1))
            weights = torch.empty_like(steps).scatter_(0, order, steps)
        losses.append((errors * weights).sum())
    return torch.stack(losses).sum() / max(len(losses) - 1, 1)

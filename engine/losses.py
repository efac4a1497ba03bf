"""Pixel-averaged cross-entropy, and the soft Dice loss.

Both work on a matrix of logits, a row for each pixel. In the channels-last layout that the network
gives, this is a view, and a pixel's classes lie side by side: on a CPU half the time of PyTorch's
cross-entropy over (N, C, H, W), which walks across memory from class to class.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from utils import IGNORE_INDEX

Reduce = Callable[[Tensor], Tensor]


def identity(x: Tensor) -> Tensor:
    return x


def criterion(
    logits: Tensor,
    labels: Tensor,
    loss: str = "cross_entropy",
    reduce: Reduce = identity,
    pixels: Tensor | None = None,
) -> Tensor:
    """The recipe's loss: a scalar, differentiable in `logits`.

    Args:
        logits: (N, C, H, W), any floating type; the loss is computed in float32.
        labels: (N, H, W) uint8 or int64, 0..C-1, or `IGNORE_INDEX` for pixels that do not count.
        loss: `cross_entropy`, averaged over the pixels that count (0 if none does), or
            `cross_entropy+dice`, plus `dice_loss`.
        reduce: turns a sum over these pixels into that over the whole batch:
            `distributed.all_reduce_sum` where the batch is divided among processes.
        pixels: how many pixels count in the whole batch, where `labels` are a part of it; the
            parts' cross-entropies then add up to the batch's.

    A loss for `accumulate` must be a sum over pixels divided by `pixels`, as cross-entropy is.
    """
    if loss not in ("cross_entropy", "cross_entropy+dice"):
        raise ValueError(f"there is no loss {loss}")
    logits = logits.float().permute(0, 2, 3, 1).reshape(-1, logits.shape[1])  # (pixels, C)
    labels = labels.reshape(-1).long()
    if pixels is None:
        pixels = reduce((labels != IGNORE_INDEX).sum())
    total = F.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX, reduction="sum")
    value = reduce(total) / pixels.clamp(min=1)
    return value + dice_loss(logits, labels, reduce) if loss == "cross_entropy+dice" else value


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

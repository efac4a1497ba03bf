"""What a training makes small: pixel-averaged cross-entropy, and the soft Dice loss.

Both work on one row of scores a pixel. In the channels-last layout that the network gives, this
is a view, and a pixel's classes lie side by side: on a CPU half the time of PyTorch's loss
over (N, C, H, W), which walks across memory from class to class.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from lean import large
from utils import IGNORE_INDEX

Total = Callable[[Tensor], Tensor]
ROWS = 1 << 16  # pixels whose scores `lean_cross_entropy` works on at once


def itself(x: Tensor) -> Tensor:
    return x


def criterion(
    logits: Tensor, labels: Tensor, loss: str = "cross_entropy", total: Total = itself
) -> Tensor:
    """The recipe's loss: a scalar, differentiable in `logits`.

    Args:
        logits: (N, C, H, W), any floating type; computed in float32.
        labels: (N, H, W) uint8 or int64, 0..C-1, or `IGNORE_INDEX` for pixels that do not count.
        loss: `cross_entropy`, averaged over the pixels that count (0 if none does), or
            `cross_entropy+dice`, plus `dice_loss`.
        total: of a sum over these pixels makes that over the whole batch; `distributed.add_up`
            where the batch is divided among processes.
    """
    scores = logits.float().permute(0, 2, 3, 1).reshape(-1, logits.shape[1])  # (pixels, C)
    labels = labels.reshape(-1).long()
    pixels = total((labels != IGNORE_INDEX).sum()).clamp(min=1)
    if large(scores):
        value = lean_cross_entropy(scores, labels)
    else:
        value = F.cross_entropy(scores, labels, ignore_index=IGNORE_INDEX, reduction="sum")
    value = total(value) / pixels
    return value + dice_loss(scores, labels, total) if loss == "cross_entropy+dice" else value


def dice_loss(scores: Tensor, labels: Tensor, total: Total = itself) -> Tensor:
    """Soft Dice loss (Milletari et al. 2016, https://arxiv.org/abs/1606.04797): a scalar, 0..1.

    One minus the mean, over the classes that `labels` contain, of
    2 sum(p t) / (sum(p) + sum(t)), p the softmax of `scores` (pixels, C) float32 and t the truth
    `labels` (pixels,) int64. Every class counts alike, however few pixels it has. `total` as in
    `criterion`.
    """
    kept = labels != IGNORE_INDEX
    index = labels.masked_fill(~kept, 0)
    weight = kept.to(scores.dtype)
    p = scores.softmax(1)
    p_true = p.gather(1, index.unsqueeze(1)).squeeze(1) * weight
    zeros = scores.new_zeros(scores.shape[1])
    hits = zeros.index_add(0, index, p_true)
    size = zeros.index_add(0, index, weight)
    predicted = weight @ p  # sums over the pixels that count
    hits, size, predicted = total(torch.stack([hits, size, predicted]))
    dice = 2 * hits / (predicted + size).clamp(min=1e-6)
    present = size > 0
    return 1 - (dice * present).sum() / present.sum().clamp(min=1)


def lean_cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of `scores` (pixels, C) float32, summed over the pixels that count: a scalar.

    `labels` (pixels,) are int64, 0..C-1 or `IGNORE_INDEX`. The gradient is made along with it, some
    pixels at a time, and only that is kept, where PyTorch makes four tensors as large as the
    scores. It can be asked for once; RuntimeError says so.
    """
    if not torch.is_grad_enabled():
        scores = scores.detach()  # the gradient is not needed then
    return _LeanCrossEntropy.apply(scores, labels)


class _LeanCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, scores: Tensor, labels: Tensor) -> Tensor:
        grad = torch.empty_like(scores) if ctx.needs_input_grad[0] else None
        value = scores.new_zeros(())
        for start in range(0, len(scores), ROWS):
            part = slice(start, start + ROWS)
            some = scores[part].detach().requires_grad_(grad is not None)
            with torch.set_grad_enabled(grad is not None):
                loss = F.cross_entropy(
                    some, labels[part], ignore_index=IGNORE_INDEX, reduction="sum"
                )
            value += loss.detach()
            if grad is not None:
                (grad[part],) = torch.autograd.grad(loss, some)
        ctx.grad = grad
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx, factor: Tensor) -> tuple[Tensor, None]:
        if ctx.grad is None:
            raise RuntimeError("the backward pass has been made already: make a forward pass first")
        grad, ctx.grad = ctx.grad.mul_(factor), None
        return grad, None

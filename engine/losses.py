"""Pixel-averaged cross-entropy, with weights for the classes, and the soft Dice and Lovász losses.

They work on a matrix of logits, a row for each pixel. In channels-last layout this is a view
(unless padding was cut off), in which a pixel's classes lie side by side: on a CPU that takes half
the time of PyTorch's cross-entropy over (N, C, H, W).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from utils import CACHED_PIXELS, IGNORE_INDEX


def identity(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True, eq=False)
class Loss:
    """A recipe's loss: made once, called with logits and labels.

    Args:
        kind: names from `TERMS`, joined by "+", whose losses are added up.
        class_weights: (C,) float32; the cross-entropy is then averaged with the weight of each
            pixel's class.
        label_smoothing: part of the target that the cross-entropy spreads over all classes
            (Szegedy et al. 2015, section 7, https://arxiv.org/abs/1512.00567).
        reduce: turns a sum over these pixels into that over the full batch:
            `distributed.all_reduce_sum` where the batch is divided among processes.
    """

    kind: str = "cross_entropy"
    class_weights: Tensor | None = None
    label_smoothing: float = 0.0
    reduce: Callable[[Tensor], Tensor] = identity

    def __call__(self, logits: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        """A scalar, differentiable in `logits`.

        Args:
            logits: (N, C, H, W), any floating type; the loss is computed in float32.
            labels: (N, H, W) uint8 or int64, 0..C-1, or `IGNORE_INDEX`.
            weight: `weight` of the full batch, where `labels` are a part of it; the parts'
                cross-entropies then add up to the batch's.
        """
        logits = logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1])  # (pixels, C)
        labels = labels.reshape(-1).long()
        if weight is None:
            weight = self.weight(labels)
        return sum(TERMS[name](self, logits, labels, weight) for name in self.kind.split("+"))

    def weight(self, labels: Tensor) -> Tensor:
        """What the cross-entropy's sum is divided by, of the full batch: a scalar.

        The number of the labelled pixels, each times the weight of its class if there are weights.
        """
        weights = self.class_weights
        if weights is None:
            return self.reduce(count_pixels(labels))
        return self.reduce(weights[labels[labels != IGNORE_INDEX].long()].sum())


def count_pixels(labels: Tensor) -> Tensor:
    """How many pixels are labelled, that is, are not `IGNORE_INDEX`: a scalar."""
    return (labels != IGNORE_INDEX).sum()


def median_frequency(frequencies: Tensor) -> Tensor:
    """Median of the frequencies / a class's own, so that all classes have the same weight in all.

    Eigen & Fergus 2015, https://arxiv.org/abs/1411.4734; here of all images, where they count a
    class only in those that show it.
    """
    return frequencies[frequencies > 0].median() / frequencies


def enet(frequencies: Tensor) -> Tensor:
    """1 / ln(1.02 + frequency), 1.4 to 50 (Paszke et al. 2016, https://arxiv.org/abs/1606.02147)."""
    return 1 / (1.02 + frequencies).log()


CLASS_WEIGHTS = {"median_frequency": median_frequency, "enet": enet}


def make_class_weights(kind: str, frequencies: Tensor) -> Tensor:
    """A weight for each class, (C,) float32, by how frequent it is in the training data.

    Args:
        kind: one of `CLASS_WEIGHTS`.
        frequencies: (C,), 0..1, of the labelled pixels. Classes that do not occur get no weight.
    """
    weights = CLASS_WEIGHTS[kind](frequencies)
    return torch.where(frequencies > 0, weights, 0).float()


# The terms: of logits (pixels, C) of any floating type, which they compute with in float32, and
# labels (pixels,) int64. `weight` is that of the full batch, which counts the class weights in.
# `label_smoothing` and `class_weights` have the effect that a term gives them.


def cross_entropy(loss: Loss, logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """The mean over the labelled pixels, weighted by their classes; 0 if there is none."""
    options = {"ignore_index": IGNORE_INDEX, "label_smoothing": loss.label_smoothing}
    # On a GPU PyTorch's own sum would be the work of a single block of threads.
    options["reduction"] = "sum" if logits.device.type == "cpu" else "none"
    total = sum(
        F.cross_entropy(x, y, loss.class_weights, **options).sum()
        for x, y in _parts(logits, labels)
    )
    return loss.reduce(total) / weight.clamp(min=1e-6)


def _parts(logits: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits (pixels, C) in float32 and labels (pixels,), on a CPU in parts that its cache holds.

    In bf16 that takes a third off the cross-entropy's time: float32 copies stay in the cache.
    """
    pixels = CACHED_PIXELS if logits.device.type == "cpu" else max(len(logits), 1)
    for x, y in zip(logits.split(pixels), labels.split(pixels), strict=True):
        yield x.float(), y


def dice(loss: Loss, logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Soft Dice loss (Milletari et al. 2016, https://arxiv.org/abs/1606.04797): a scalar, 0..1.

    One minus the mean, over the classes that `labels` contain, of
    2 sum(p t) / (sum(p) + sum(t)), p the softmax of the logits and t the one-hot labels. Every
    class counts alike, however few pixels it has.
    """
    labelled = labels != IGNORE_INDEX
    index = labels.masked_fill(~labelled, 0)
    p = logits.float().softmax(1)
    counted = labelled.to(p.dtype)
    p_true = p.gather(1, index.unsqueeze(1)).squeeze(1) * counted
    zeros, sums = p.new_zeros(p.shape[1]), 0
    # In parts, since float32 loses much of the sum of millions: 1.6 % of three.
    for values in zip(*(x.split(CACHED_PIXELS) for x in (index, p_true, counted, p)), strict=True):
        i, hit, count, probability = values
        sizes = zeros.index_add(0, i, count)
        sums += torch.stack([zeros.index_add(0, i, hit), sizes, count @ probability])
    hits, size, predicted = loss.reduce(sums)
    dice_scores = 2 * hits / (predicted + size).clamp(min=1e-6)
    present = size > 0
    return 1 - (dice_scores * present).sum() / present.sum().clamp(min=1)


def lovasz(loss: Loss, logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """The Lovász-softmax loss (Berman et al. 2018, https://arxiv.org/abs/1705.08790): 0..1.

    A surrogate of one minus the mean IoU of the classes that `labels` contain: the errors of the
    pixels, sorted from the largest, each times what the IoU loses if the pixels up to there are
    wrong. Its values for the parts of a batch do not add up.
    """
    labelled = labels != IGNORE_INDEX
    # The probabilities of each class. Ignored pixels have no error, and so no part in the sums.
    p = (logits.float().t().contiguous().softmax(0) * labelled).unbind()
    losses = [0 * logits.float().sum()]  # of no class, where no pixel is labelled
    for label in labels[labelled].unique().tolist():
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


TERMS = {"cross_entropy": cross_entropy, "dice": dice, "lovasz": lovasz}

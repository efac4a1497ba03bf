"""What the other modules measure with: the class table, the confusion matrix, downscaling."""

import torch
import torchvision
from torch import Tensor
from torchvision.transforms.v2.functional import resize
from torchvision.tv_tensors import Mask

IGNORE_INDEX = 255  # train id of what the benchmark does not score

_classes = sorted(
    (c for c in torchvision.datasets.Cityscapes.classes if not c.ignore_in_eval),
    key=lambda c: c.train_id,
)
CLASS_NAMES = [c.name for c in _classes]  # by train id, 0 road .. 18 bicycle
CATEGORIES = [c.category for c in _classes]  # the one of the seven that a class belongs to
LABEL_IDS = torch.tensor([c.id for c in _classes], dtype=torch.uint8)  # as in `labelIds.png`
PALETTE = torch.zeros(256, 3, dtype=torch.uint8)  # RGB by train id; black for the rest
PALETTE[: len(_classes)] = torch.tensor([c.color for c in _classes], dtype=torch.uint8)


class ConfusionMatrix:
    """One accumulator from which every metric follows.

    `matrix[t, p]` counts the pixels of true class t that were predicted as p: int64
    (num_classes, num_classes), on the device of the first batch. Sums of matrices are matrices
    of sums, so that batches, and processes, add up.
    """

    def __init__(self, num_classes: int, ignore_index: int = IGNORE_INDEX):
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self.matrix = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, target: Tensor, prediction: Tensor) -> None:
        """Count a batch: two integer tensors of one shape, of classes.

        Pixels whose target is `ignore_index` are left out. uint8 is the fast type: pairs of
        bytes are counted in one pass. Raises ValueError for shapes that differ and for a class
        that is not in 0..num_classes-1.
        """
        if target.shape != prediction.shape:
            raise ValueError(
                f"target {tuple(target.shape)} and prediction {tuple(prediction.shape)} differ"
            )
        n = self.num_classes
        target, prediction = _bytes(target, "target"), _bytes(prediction, "prediction")
        if prediction.numel() and prediction.max() >= n:
            raise ValueError(f"prediction holds {_range(prediction)}, outside of 0..{n - 1}")
        pairs = (prediction.to(torch.int16 if n <= 128 else torch.int32) << 8) + target
        counts = torch.bincount(pairs.flatten(), minlength=n << 8).view(n, 256).T
        counts[self.ignore_index] = 0
        if counts[n:].any():
            raise ValueError(
                f"target holds {_range(target[target != self.ignore_index])}, outside of "
                f"0..{n - 1} (and not ignore_index {self.ignore_index})"
            )
        self.matrix = self.matrix.to(counts.device) + counts[:n]

    @property
    def pixel_accuracy(self) -> float:
        """Share of the pixels that are predicted right, 0..1; nan if there were none."""
        return (self.matrix.trace() / self.matrix.sum()).item()

    @property
    def iou(self) -> Tensor:
        """Intersection over union of each class: float64 (num_classes,) on the CPU, 0..1.

        TP / (TP + FP + FN), as in the PASCAL VOC challenge (Everingham et al. 2010); nan for a
        class that is in neither truth nor prediction.
        """
        matrix = self.matrix.double().cpu()
        hits = matrix.diagonal()
        return hits / (matrix.sum(0) + matrix.sum(1) - hits)

    @property
    def mean_iou(self) -> float:
        """mIoU, 0..1: the mean of `iou` over the classes for which it is a number."""
        return self.iou.nanmean().item()

    def merged(self, groups: list[str]) -> "ConfusionMatrix":
        """The matrix of coarser classes: of `groups`, a name per class, in order of appearance.

        What is taken for another class of the same group then is right.
        """
        names = list(dict.fromkeys(groups))
        index, size = torch.tensor([names.index(name) for name in groups]), len(names)
        rows = torch.zeros(size, self.num_classes, dtype=torch.int64)
        rows.index_add_(0, index, self.matrix.cpu())
        coarse = ConfusionMatrix(size, self.ignore_index)
        coarse.matrix.index_add_(1, index, rows)
        return coarse


def _bytes(labels: Tensor, name: str) -> Tensor:
    """Classes of any integer type as uint8. Raises ValueError for what is no byte."""
    fits = labels.dtype == torch.uint8 or not labels.numel()
    if not fits and not 0 <= labels.min() <= labels.max() < 256:
        raise ValueError(f"{name} holds {_range(labels)}: classes are 0..255")
    return labels.to(torch.uint8)


def _range(labels: Tensor) -> str:
    return f"{labels.min()}..{labels.max()}"


def downscaled(size: tuple[int, int], factor: int) -> tuple[int, int]:
    """Height and width after `downscale`."""
    return max(size[0] // factor, 1), max(size[1] // factor, 1)


def downscale(picture: Tensor, factor: int) -> Tensor:
    """(..., H, W) uint8 -> (..., H // factor, W // factor), at least 1: bilinear, antialiased.

    Of a `tv_tensors.Mask`, the nearest labels.
    """
    size = downscaled(picture.shape[-2:], factor)
    if min(size) == 1 and not isinstance(picture, Mask):  # PyTorch's path for bytes fails there
        return resize(picture.float(), size, antialias=True).round().to(picture.dtype)
    return resize(picture, size, antialias=True)

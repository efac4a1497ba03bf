"""The class table of a data set, and the confusion matrix from which every metric follows."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
import torchvision
import yaml
from torch import Tensor

IGNORE_INDEX = 255  # train id of the pixels that no loss and no metric counts
CACHED_PIXELS = 2**15  # whose logits of all classes a CPU's caches hold, of some 20 classes


@dataclass(frozen=True)
class Classes:
    """The classes that a network tells apart, in the order of their train ids 0, 1, 2, ...

    Args:
        names: of the classes.
        ids: what stands for each class in the label files, 0..255.
        colors: RGB of each class, 0..255, for figures.
        categories: the coarser class that each belongs to; empty where there are none.
        ignored: further ids that may stand in label files, of ignored pixels. An id that is
            neither a class nor ignored is an error; None ignores all that are no class.

    Raises ValueError or TypeError for anything else, and for a name or an id of two classes.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]
    colors: tuple[tuple[int, int, int], ...]
    categories: tuple[str, ...] = ()
    ignored: tuple[int, ...] | None = None

    def __post_init__(self):
        for values, what in ((self.names, "name"), (self.ids, "id")):
            if twice := [value for i, value in enumerate(values) if value in values[:i]]:
                raise ValueError(
                    f"the {what} {twice[0]} is given to two classes: change one; to merge two, "
                    "change the masks"
                )
        ids = [*self.ids, *(self.ignored or ())]
        if not 0 < len(self.ids) <= IGNORE_INDEX or not all(_is_byte(i) for i in ids):
            raise ValueError(f"give 1 to {IGNORE_INDEX} classes, with ids 0..255")
        if not all(len(c) == 3 and all(map(_is_byte, c)) for c in self.colors):
            raise ValueError("a color is three numbers 0..255, as in [128, 64, 128]")
        texts = (*self.names, *self.categories)
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("names and categories must be strings")
        if {len(self.names), len(self.colors), len(self.categories or self.ids)} != {len(self.ids)}:
            raise ValueError("each class has a name, an id and a color, and all or none a category")

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def from_file(cls, path: str | Path) -> "Classes":
        """The classes that a YAML file lists: for each `name`, `id` (0..255) and `color` (RGB).

        They have train ids in this order; pixels of other ids are ignored. Raises ValueError, with
        the file's name, for anything else.
        """
        try:
            entries = read_yaml(path, yaml.BaseLoader)  # leaves `on`, `010` and `~` as written
            if not isinstance(entries, list):
                raise TypeError("it is no list: each entry begins with a dash")
            entries = entries[: IGNORE_INDEX + 1]  # what more there is would be an error too
            rows = [_read_entry(entry, number) for number, entry in enumerate(entries, 1)]
            names, ids, colors = zip(*rows, strict=True) if rows else ((), (), ())
            return cls(names, ids, colors)
        except Exception as error:  # parsers raise nearly anything
            raise ValueError(
                f"{path} is not a list of classes that can be used "
                f"({' '.join(str(error).split())}): each is a line such as "
                "`- {name: road, id: 7, color: [128, 64, 128]}`"
            ) from error

    @property
    def are_cityscapes(self) -> bool:
        """Whether they are the 19 classes of the benchmark, in any colors."""
        return (self.names, self.ids) == (CITYSCAPES.names, CITYSCAPES.ids)

    @cached_property
    def label_ids(self) -> Tensor:
        """Train id -> id in the label files: (num_classes,) uint8."""
        return torch.tensor(self.ids, dtype=torch.uint8)

    @cached_property
    def palette(self) -> Tensor:
        """Train id -> RGB: (256, 3) uint8, black for what is no class."""
        palette = torch.zeros(256, 3, dtype=torch.uint8)
        palette[: len(self)] = torch.tensor(self.colors, dtype=torch.uint8)
        return palette

    @cached_property
    def train_ids(self) -> Tensor:
        """Id in a label file -> train id, or `IGNORE_INDEX`: (256,) uint8."""
        table = torch.full((256,), IGNORE_INDEX, dtype=torch.uint8)
        table[list(self.ids)] = torch.arange(len(self), dtype=torch.uint8)
        return table

    @cached_property
    def known_ids(self) -> Tensor:
        """Whether an id may stand in a label file: (256,) bool."""
        known = torch.full((256,), self.ignored is None)
        known[[*self.ids, *(self.ignored or ())]] = True
        return known


def _is_byte(value: object) -> bool:
    return isinstance(value, int) and 0 <= value <= 255


def read_yaml(path: str | Path, loader: type) -> object:
    """The content of a YAML file. Raises ValueError for a key that a mapping has twice.

    PyYAML would keep the last, and a forgotten dash would make one entry of two.
    """

    class Loader(loader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
            keys = [key.value for key, _ in node.value]
            if twice := [key for i, key in enumerate(keys) if key in keys[:i]]:
                line = node.start_mark.line + 1
                raise ValueError(f"what begins in line {line} has {twice[0]} twice: keep one")
            return super().construct_mapping(node, deep)

    return yaml.load(Path(path).read_text(encoding="utf-8"), Loader)  # noqa: S506 (as `loader` is)


def _read_entry(entry: object, number: int) -> tuple[str, int, tuple[int, ...]]:
    """Name, id and color of an entry of a `classes.yaml`, whose values are text.

    Raises ValueError or TypeError with the entry's number.
    """
    if not isinstance(entry, dict) or entry.keys() != {"name", "id", "color"}:
        raise TypeError(f"entry {number} must have a name, an id and a color, and nothing else")
    name, color = entry["name"], entry["color"]
    if not isinstance(name, str) or not name.strip():
        raise TypeError(f"entry {number}: its name is no text")
    if not isinstance(color, list):
        raise TypeError(f"entry {number}: a color is three numbers, as in [128, 64, 128]")
    for value in (entry["id"], *color):
        if not isinstance(value, str) or not re.fullmatch("0|[1-9][0-9]*", value):
            shown = repr(value[:40]) if isinstance(value, str) else "what is no value"
            raise ValueError(f"entry {number}: {shown} is no whole number such as 7")
    return name, int(entry["id"]), tuple(map(int, color))


def _cityscapes() -> Classes:
    table = torchvision.datasets.Cityscapes.classes
    known = sorted((c for c in table if not c.ignore_in_eval), key=lambda c: c.train_id)
    return Classes(
        names=tuple(c.name for c in known),
        ids=tuple(c.id for c in known),
        colors=tuple(c.color for c in known),
        categories=tuple(c.category for c in known),
        ignored=tuple(c.id % 256 for c in table if c.ignore_in_eval),  # -1, licence plate: 255
    )


CITYSCAPES = _cityscapes()  # the 19 classes of the benchmark, 0 road .. 18 bicycle


def label_map(logits: Tensor) -> Tensor:
    """The class with the highest logit, of several the first: (N, C, H, W) -> (N, H, W) uint8.

    On a CPU and in bf16 the passes over planes below take 7 ms for 19 planes of 1024x512 where
    `argmax` takes 124, channels-last 16 instead of 23 (2 cores of a Xeon). They compare bits: 0 is
    above -0, and NaN gives some class.
    """
    if logits.device.type != "cpu" or logits.dtype != torch.bfloat16:
        return logits.argmax(1).to(torch.uint8)
    n, classes, height, width = logits.shape
    rows = max(CACHED_PIXELS // max(width, 1), 1)
    # All in 16-bit integers, which are compared in a third of the time that booleans take.
    from_last = torch.arange(classes - 1, -1, -1, dtype=torch.int16).view(-1, 1, 1)
    labels = torch.empty(n, height, width, dtype=torch.uint8)
    for image, found in zip(logits, labels, strict=True):
        for part, out in zip(image.split(rows, 1), found.split(rows), strict=True):
            planes = part if part.stride(-1) == 1 else part.contiguous()
            bits = planes.view(torch.int16)
            # As integers, floats from 0 on keep their order, and negative ones have the reverse.
            highest = bits.amax(0)  # in a quarter of the time that floats take
            highest = torch.where(highest < 0, bits.amin(0), highest)
            hits = torch.eq(bits, highest, out=torch.empty(bits.shape, dtype=bits.dtype))  # 1 or 0
            torch.sub(classes - 1, hits.mul_(from_last).amax(0), out=out)
    return labels


class ConfusionMatrix:
    """One accumulator from which every metric follows.

    `matrix[t, p]` counts the pixels of true class t that were predicted as p: int64
    (num_classes, num_classes), on the device of the first batch. Matrices of parts of the data
    add up to the matrix of all, over batches and over processes.
    """

    def __init__(self, num_classes: int):
        self.num_classes = num_classes
        self.matrix = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, target: Tensor, prediction: Tensor) -> None:
        """Count a batch: two integer tensors of one shape, of classes; uint8 is the fast type.

        Pixels whose target is `IGNORE_INDEX` are left out. Raises ValueError for shapes that
        differ and for a class that is not in 0..num_classes-1.
        """
        if target.shape != prediction.shape:
            raise ValueError(
                f"target {tuple(target.shape)} and prediction {tuple(prediction.shape)} differ"
            )
        n = self.num_classes
        target, prediction = _bytes(target, "target"), _bytes(prediction, "prediction")
        if prediction.numel() and prediction.max() >= n:
            raise ValueError(f"prediction holds {_range(prediction)}, outside of 0..{n - 1}")
        # Pairs of bytes, which are counted in one pass.
        pairs = (prediction.to(torch.int16 if n <= 128 else torch.int32) << 8) + target
        counts = torch.bincount(pairs.flatten(), minlength=n << 8).view(n, 256).T
        counts[IGNORE_INDEX] = 0
        if counts[n:].any():
            labelled = _range(target[target != IGNORE_INDEX])
            raise ValueError(f"target holds {labelled}, outside of 0..{n - 1}")
        self.matrix = self.matrix.to(counts.device) + counts[:n]

    @property
    def pixel_accuracy(self) -> float:
        """Fraction of the pixels that are predicted right, 0..1; nan if there were none."""
        return (self.matrix.trace() / self.matrix.sum()).item()

    @property
    def iou(self) -> Tensor:
        """Intersection over union of each class: float64 (num_classes,) on the CPU, 0..1.

        TP / (TP + FP + FN), as in the PASCAL VOC challenge (Everingham et al. 2010); nan for a
        class that is in neither truth nor prediction.
        """
        matrix = self.matrix.cpu().double()  # Apple's GPU has no float64
        hits = matrix.diagonal()
        return hits / (matrix.sum(0) + matrix.sum(1) - hits)

    @property
    def mean_iou(self) -> float:
        """mIoU, 0..1: the mean of `iou` over the classes for which it is a number."""
        return self.iou.nanmean().item()

    def merged(self, groups: tuple[str, ...]) -> "ConfusionMatrix":
        """The matrix of coarser classes: of `groups`, a name per class, in order of appearance.

        A class that is taken for another of its group is then right.
        """
        names = list(dict.fromkeys(groups))
        index, coarse = torch.tensor(list(map(names.index, groups))), ConfusionMatrix(len(names))
        rows = torch.zeros(len(names), self.num_classes, dtype=torch.int64)
        rows.index_add_(0, index, self.matrix.cpu())
        coarse.matrix.index_add_(1, index, rows)
        return coarse


def metrics(confusion: ConfusionMatrix, classes: Classes) -> dict:
    """The metrics of a validation as plain numbers, 0..1.

    val_accuracy, mIoU (None if no pixel is labelled) and iou (class name -> IoU, None where the
    class is absent); and where the classes have categories, category_mIoU and category_iou of
    these. The official evaluator (cityscapesscripts) calls them averageScoreClasses, classScores,
    averageScoreCategories and categoryScores.
    """

    def number(value: float) -> float | None:
        return None if math.isnan(value) else value  # JSON has no nan

    def of(names: Iterable[str], matrix: ConfusionMatrix, prefix: str = "") -> dict:
        iou = zip(names, map(number, matrix.iou.tolist()), strict=True)
        return {f"{prefix}mIoU": number(matrix.mean_iou), f"{prefix}iou": dict(iou)}

    found = {"val_accuracy": number(confusion.pixel_accuracy), **of(classes.names, confusion)}
    categories = CITYSCAPES.categories if classes.are_cityscapes else classes.categories
    if categories:
        found |= of(dict.fromkeys(categories), confusion.merged(categories), "category_")
    return found


def _bytes(labels: Tensor, name: str) -> Tensor:
    """Classes of any integer type as uint8. Raises ValueError for values outside 0..255."""
    fits = labels.dtype == torch.uint8 or not labels.numel()
    if not fits and not 0 <= labels.min() <= labels.max() < 256:
        raise ValueError(f"{name} holds {_range(labels)}: classes are 0..255")
    return labels.to(torch.uint8)


def _range(labels: Tensor) -> str:
    return f"{labels.min()}..{labels.max()}"

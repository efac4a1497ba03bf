"""Street scenes in the format of Cityscapes (Cordts et al. 2016, https://arxiv.org/abs/1604.01685).

One class reads all data sets: the download from cityscapes-dataset.com, and what `prepare.camvid`,
`prepare.streets` and `prepare.own` write, which is the same tree (see `data_io/layout.py`).
"""

import hashlib
import json
import os
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from data_io.cache import Cache
from data_io.image_io import read_grey, read_image
from data_io.layout import find_pairs
from runtime.files import expand, quoted
from runtime.shared_memory import share
from utils import CITYSCAPES, Classes


class Cityscapes(Dataset):
    """Pairs of an image and its labels, in the same order on every machine.

    An item is a `tv_tensors.Image` (3, H, W) uint8 RGB and a `tv_tensors.Mask` (H, W) uint8 of
    train ids, or 255 for what is ignored.

    Args:
        root: directory of the data set, or of Cityscapes' archives as downloaded.
        split: `train`, `val`, `trainval` (both), `test`, or `train_extra` (coarse only).
        mode: `fine` or `coarse` labels.
        transforms: called with the pair, returns the pair; see `paired_transforms`.
        seed: what `transforms` draws for an item then depends on this, on the item and on the
            epoch (see `set_epoch`) alone, not on the number of workers.
        downscale: divide height and width by this, as `resize`.
        downscale_labels: False keeps the mask at full resolution.
        cache: directory, relative to `root`, for the decoded and downscaled images, so that each
            file is decoded once. None decodes every time.
        cities, hold_out: take only the images in these directories; leave out those in these.

    Attributes:
        images, targets: the paths of the images and of their labels.
        classes: the `utils.Classes` of `classes.yaml` in `root`, or Cityscapes' without one.
        cache: the `data_io.cache.Cache`, or None.

    Raises FileNotFoundError for a missing root, split or label file, OSError for a directory that
    cannot be opened, and ValueError for an unknown split or mode, an empty split, a damaged
    archive or `classes.yaml`. An item raises ValueError for a file that is no image, labels in
    colours, a size that differs from the image's, or an id that the classes do not know.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        mode: str = "fine",
        transforms: Callable | None = None,
        seed: int | None = None,
        downscale: int = 1,
        downscale_labels: bool = True,
        cache: str | Path | None = None,
        cities: Collection[str] = (),
        hold_out: Collection[str] = (),
    ):
        self.root, self.split, self.mode = find_root(root), split, mode
        pairs = _of_cities(find_pairs(self.root, split, mode), cities, hold_out)
        self.images, self.targets = map(list, zip(*pairs, strict=True))
        self.classes = read_classes(self.root)
        self.transforms, self.seed = transforms, seed
        self.epoch = share(torch.zeros((), dtype=torch.int64))  # seen by all workers
        self.downscale, self.downscale_labels = downscale, downscale_labels
        self.cache = None
        if cache:
            size = f"1/{downscale}, labels 1/{downscale if downscale_labels else 1}"
            what = f"{size}, ids {self.classes.ids}"
            self.cache = Cache(self.root / expand(cache, "cache"), what)

    def __len__(self) -> int:
        return len(self.images)

    def fingerprint(self) -> str:
        """Two digests: of the names of the images and of the classes; of the label files' sizes.

        Not of where they lie.
        """
        names = [Path(path).relative_to(self.root).as_posix() for path in self.images]
        # The same in a locale that does not know the letters, where Python escapes them.
        names = [os.fsencode(name).decode("utf-8", "surrogateescape") for name in names]
        content = json.dumps([sorted(names), self.classes.names, self.classes.ids])
        sizes = str(sorted(map(os.path.getsize, self.targets)))
        return " ".join(hashlib.sha256(each.encode()).hexdigest() for each in (content, sizes))

    def cache_size(self) -> int:
        """Bytes of the filled cache, if all images have the first one's size."""
        return len(self) * sum(part.nbytes for part in self.read(0))

    def set_epoch(self, epoch: int) -> None:
        """Make `transforms` draw anew: call before each pass over a data set with a seed."""
        self.epoch.fill_(epoch)

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        return self._transform(index, *self.read(index))

    def __getitems__(self, indices: list[int]) -> list:
        """A batch's items: read by all cores in the training process, by one in a worker."""
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            pairs = list(threads.map(self.read, indices))
        return [self._transform(index, *pair) for index, pair in zip(indices, pairs, strict=True)]

    def _transform(self, index: int, image: Tensor, mask: Tensor) -> tuple:
        if self.transforms is None:
            return image, mask
        if self.seed is None:
            return check_types(*self.transforms(image, mask))
        generator = torch.default_generator  # the one that torchvision's transforms draw from
        state = generator.get_state()
        # One number for seed, epoch and item: 20 bits each for seed and epoch, 24 for the item.
        generator.manual_seed(((self.seed << 20) + int(self.epoch) << 24) + index)
        try:
            return check_types(*self.transforms(image, mask))
        finally:
            generator.set_state(state)

    def read(self, index: int) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        """Item `index` downscaled, before any transform."""
        if self.cache:
            sources = self.images[index], self.targets[index]
            image, mask = self.cache.read(sources, partial(self.decode, index))
        else:
            image, mask = self.decode(index)
        return tv_tensors.Image(torch.from_numpy(image)), tv_tensors.Mask(torch.from_numpy(mask))

    def decode(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Item `index` from its files, downscaled: (3, H, W) and (H, W) uint8."""
        image = read_image(self.images[index])
        mask = read_labels(self.targets[index], self.classes)
        if mask.shape != image.shape[1:]:
            (h, w), (label_h, label_w) = image.shape[1:], mask.shape
            raise ValueError(
                f"{self.targets[index]} is {label_w}x{label_h} but its image is {w}x{h}: "
                "labels must have their image's size, once it is turned upright as its EXIF tag "
                "says; restore both from where they came"
            )
        image = downscale(image, self.downscale)
        if self.downscale_labels:
            mask = downscale(mask, self.downscale)
        return image.contiguous().numpy(), mask.contiguous().numpy()


def _of_cities(pairs: list, cities: Collection[str], hold_out: Collection[str]) -> list:
    """The pairs in some cities, or in all, but for others. Raises ValueError for unknown ones."""
    there = {Path(image).parent.name for image, _ in pairs}
    if unknown := sorted({*cities, *hold_out} - there):
        raise ValueError(f"there is no city {', '.join(unknown)}, only {', '.join(sorted(there))}")
    wanted = set(cities or there) - set(hold_out)
    found = [pair for pair in pairs if Path(pair[0]).parent.name in wanted]
    if not found:
        raise ValueError("no city is left: hold out fewer")
    return found


def find_root(root: str | Path) -> Path:
    """The directory of a data set, `~` and variables expanded. Raises FileNotFoundError."""
    root = expand(root, "data root")
    if not root.is_dir():
        raise FileNotFoundError(
            f"there is no data set at {root}: draw one (`python -m prepare.streets "
            f"{quoted(root)}`), convert your own images and masks (`python -m "
            "prepare.own`), or see the README for CamVid and Cityscapes"
        )
    return root


def read_classes(root: Path) -> Classes:
    """The classes of the data set in `root`: `classes.yaml`, or Cityscapes' without one.

    Raises ValueError as `Classes.from_file`.
    """
    path = root / "classes.yaml"
    return Classes.from_file(path) if path.is_file() else CITYSCAPES


def read_labels(path: str | Path, classes: Classes = CITYSCAPES) -> tv_tensors.Mask:
    """A label file as train ids: (H, W) uint8.

    Raises as `read_grey`, and ValueError for ids that the classes do not know, or for Cityscapes'
    train ids where its ids are expected (see `are_train_ids`).
    """
    ids = read_grey(path)
    present = torch.bincount(ids.flatten(), minlength=256) > 0
    unknown = present & ~classes.known_ids
    if unknown.any():
        raise ValueError(
            f"{path} holds {unknown.nonzero().flatten().tolist()}, which are no ids of Cityscapes "
            "(0..33): write it again with the ids of torchvision.datasets.Cityscapes.classes, or, "
            "for classes of your own, put a classes.yaml beside leftImg8bit"
        )
    if classes == CITYSCAPES and present[255] and are_train_ids(present):
        raise ValueError(
            f"{path} looks like train ids (255, and else nothing above 18), ids are expected: take "
            "the *_labelIds.png, not the *_labelTrainIds.png"
        )
    # numpy looks up bytes several times as fast as torch
    return tv_tensors.Mask(torch.from_numpy(np.take(classes.train_ids.numpy(), ids.numpy())))


def are_train_ids(present: Tensor) -> bool:
    """Whether a label file of Cityscapes holds train ids; `present`, (256,) bool: which values.

    Train ids are 0..18 and 255. As an id, 255 is a licence plate, which comes with its car, 26;
    and nearly every frame has vegetation, sky or a car, all above 18. Without 255, look at several.
    """
    return bool(present[:19].any() and not present[19:255].any())


def downscale(image: Tensor, factor: int) -> Tensor:
    """(..., H, W) uint8 -> (..., H // factor, W // factor), at least 1; as `resize`."""
    return resize(image, [max(n // factor, 1) for n in image.shape[-2:]])


def resize(image: Tensor, size: list[int]) -> Tensor:
    """(..., H, W) uint8 -> (..., *size): bilinear, antialiased.

    A mask takes the nearest pixel, by the pixels' centres. Torchvision's nearest lies up to half a
    pixel of the result above and left of it.
    """
    if tuple(size) == tuple(image.shape[-2:]):
        return image
    if isinstance(image, tv_tensors.Mask):
        rows, columns = (
            (torch.arange(1, 2 * n, 2) * n_before - 1) // (2 * n)
            for n, n_before in zip(size, image.shape[-2:], strict=True)
        )
        return tv_tensors.Mask(image[..., rows, :][..., columns])
    if min(size) == 1:  # PyTorch's uint8 path fails
        return F.resize(image.float(), size, antialias=True).round().to(image.dtype)
    return F.resize(image, size, antialias=True)


def check_types(image: tv_tensors.Image, mask: tv_tensors.Mask) -> tuple:
    """The two as they are; raises TypeError if a transform lost their types.

    Torchvision's transforms know an image and a mask by them: of plain tensors they would flip or
    crop only the first.
    """
    if not isinstance(image, tv_tensors.Image) or not isinstance(mask, tv_tensors.Mask):
        found = f"{type(image).__name__} and {type(mask).__name__}"
        raise TypeError(
            f"transforms gave {found}, not a tv_tensors.Image and a tv_tensors.Mask: let each step "
            "return `torchvision.tv_tensors.wrap(result, like=image)`, and leave ToPureTensor out"
        )
    return image, mask


def paired_transforms(flip: float = 0.5) -> v2.Transform:
    """A horizontal flip of an image and its mask with this probability; see engine/augment.py."""
    return v2.RandomHorizontalFlip(flip)

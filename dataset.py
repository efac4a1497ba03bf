"""Street scenes in the format of Cityscapes (Cordts et al. 2016, https://arxiv.org/abs/1604.01685).

One class reads the three sources of this project: the download from cityscapes-dataset.com,
and what `prepare.camvid` and `prepare.streets` write, which is the same tree:

    leftImg8bit/<split>/<city>/<city>_<seq>_<frame>_leftImg8bit.png
    gtFine|gtCoarse/<split>/<city>/<city>_<seq>_<frame>_gtFine|gtCoarse_labelIds.png
"""

import errno
import os
import warnings
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from data_io.cache import Cache
from data_io.image_io import read_grey, read_image
from utils import CITYSCAPES, Classes

CHECK = "`python -m prepare.cityscapes {root}` says what is wrong and how to mend it"


class Cityscapes(torchvision.datasets.Cityscapes):
    """Pairs of an image and its labels, in the same order on every machine.

    An item is a `tv_tensors.Image` (3, H, W) uint8 RGB and a `tv_tensors.Mask` (H, W) uint8 of
    train ids, 0..18 or 255 for what the benchmark ignores.

    Args:
        root: directory of the tree, or of the archives as downloaded: torchvision unpacks them.
        split: `train`, `val`, `test`, or `train_extra` (coarse only).
        mode: `fine` or `coarse` labels.
        transforms: called with the pair, returns the pair; see `paired_transforms`. A list has one
            for each epoch, the last also for those after it.
        seed: with a seed, what `transforms` draws for an item depends on this, on the item and
            on the epoch (see `set_epoch`) and on nothing else: not on the number of workers.
        downscale: divide height and width by this, bilinearly with antialiasing for the image,
            to the nearest for the mask.
        downscale_labels: False keeps the mask at full resolution.
        cache: directory for the decoded and downscaled images, so that each file is decoded once;
            relative to `root`. None decodes every time.

    Attributes:
        images, targets: paths, as torchvision has them.
        classes: the `utils.Classes` of the labels.
        cache: the `data_io.cache.Cache`, or None.

    Raises:
        FileNotFoundError: no such root, no such split in it, or an image without labels.
        OSError: a directory that cannot be opened.
        ValueError: an unknown split or mode, an empty split, a damaged archive; and of an item:
            a file that is no image, a label image in colours, a size that differs from its
            image's, or a number that is no Cityscapes id.

    Warns of what is left out: labels without an image, and files that are no images.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        mode: str = "fine",
        transforms: v2.Transform | list[v2.Transform] | None = None,
        seed: int | None = None,
        downscale: int = 1,
        downscale_labels: bool = True,
        cache: str | Path | None = None,
    ):
        root = find_root(root)
        check = CHECK.format(root=root)
        try:
            super().__init__(root, split, mode, target_type="semantic", transforms=transforms)
        except (RuntimeError, FileNotFoundError) as error:  # torchvision's "Dataset not found"
            raise FileNotFoundError(
                f"{root} holds no {split} split with {mode} labels in Cityscapes' format: {check}"
            ) from error
        except NotADirectoryError as error:
            raise ValueError(
                f"{error.filename} lies among the cities' directories: move it elsewhere"
            ) from error
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.ELOOP):
                raise
            raise OSError(
                f"{error.filename} cannot be opened ({error.strerror}): {check}"
            ) from error
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ValueError(f"an archive in {root} is damaged ({error}): {check}") from error
        self._pair_up(check)
        self.classes = CITYSCAPES
        self.seed = seed
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # seen by all workers
        self.downscale, self.downscale_labels = downscale, downscale_labels
        self.cache = None
        if cache:
            pairs = [(i, t) for i, (t,) in zip(self.images, self.targets, strict=True)]
            size = f"1/{downscale}, labels 1/{downscale if downscale_labels else 1}"
            self.cache = Cache(root / expand(cache, "cache"), pairs, size)

    def _pair_up(self, check: str) -> None:
        """Sort what torchvision has found, and keep the images that have labels."""
        found = dict(zip(self.images, (target for (target,) in self.targets), strict=True))
        visible = sorted(path for path in found if not os.path.basename(path).startswith("."))
        images = [path for path in visible if path.endswith("_leftImg8bit.png")]
        if not images:
            raise ValueError(f"{self.images_dir} holds no <city>/*_leftImg8bit.png: {check}")
        missing = [found[image] for image in images if not os.path.isfile(found[image])]
        if missing:
            raise FileNotFoundError(
                f"{len(missing)} of {len(images)} images have no labels that can be read, "
                f"the first {missing[0]}: {check}"
            )
        used = {found[image] for image in images}
        labels = Path(self.targets_dir).glob(f"*/[!.]*_{self.mode}_labelIds.png")
        lone = sorted({*map(str, labels)} - used)
        other = sorted({*visible} - {*images})
        for left_out, what in ((lone, "labels have no image"), (other, "files are no images")):
            if left_out:
                warnings.warn(
                    f"{len(left_out)} {what} and are left out, the first {left_out[0]}: {check}",
                    stacklevel=3,
                )
        self.images, self.targets = images, [[found[image]] for image in images]

    def set_epoch(self, epoch: int) -> None:
        """Make `transforms` draw anew: call before each pass over a data set with a seed."""
        self.epoch.fill_(epoch)

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        return self._transform(index, *self.read(index))

    def __getitems__(self, indices: list[int]) -> list:
        """A batch's items, for a loader: read by as many threads as PyTorch computes with.

        That is all cores in the training process, which waits for them, and one in a worker.
        """
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            pairs = list(threads.map(self.read, indices))
        return [self._transform(index, *pair) for index, pair in zip(indices, pairs, strict=True)]

    def _transform(self, index: int, image: Tensor, mask: Tensor) -> tuple:
        transforms = self.transforms
        if isinstance(transforms, list):
            transforms = transforms[min(max(int(self.epoch), 1), len(transforms)) - 1]
        if transforms is None:
            return image, mask
        if self.seed is None:
            return transforms(image, mask)
        generator = torch.default_generator  # the one that torchvision's transforms draw from
        state = generator.get_state()
        # One number for seed, epoch and item: 20 bits each for seed and epoch, 24 for the item.
        generator.manual_seed(((self.seed << 20) + int(self.epoch) << 24) + index)
        try:
            return transforms(image, mask)
        finally:
            generator.set_state(state)

    def read(self, index: int) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        """Item `index` downscaled, before any transform."""
        image, mask = self.cache.read(index, self.decode) if self.cache else self.decode(index)
        return tv_tensors.Image(torch.from_numpy(image)), tv_tensors.Mask(torch.from_numpy(mask))

    def decode(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Item `index` from its files, downscaled: (3, H, W) and (H, W) uint8."""
        image = read_image(self.images[index])
        mask = read_labels(self.targets[index][0], self.classes)
        if mask.shape != image.shape[1:]:
            (h, w), (label_h, label_w) = image.shape[1:], mask.shape
            raise ValueError(
                f"{self.targets[index][0]} is {label_w}x{label_h} but its image is {w}x{h}: "
                "labels must have their image's size, once it is turned upright as its EXIF tag "
                "says; restore both from where they came"
            )
        image = downscale(image, self.downscale)
        if self.downscale_labels:
            mask = downscale(mask, self.downscale)
        return image.contiguous().numpy(), mask.contiguous().numpy()


def find_root(root: str | Path) -> Path:
    """The directory of a data set, `~` and variables expanded. Raises FileNotFoundError."""
    root = expand(root, "data root")
    if not root.is_dir():
        raise FileNotFoundError(
            f"there is no data set at {root}: draw one (`python -m prepare.streets {root}`), "
            "or see the README for CamVid and Cityscapes"
        )
    return root


def expand(path: str | Path, name: str) -> Path:
    """A path with `~` and variables expanded, or as it is where it exists.

    Raises FileNotFoundError, with `name`, what the path is of, for a variable that is not set.
    """
    if Path(path).exists():
        return Path(path)
    expanded = os.path.expandvars(path)
    if "$" in expanded:
        raise FileNotFoundError(
            f"the {name} is {path}, but that variable is not set: "
            "`export` it, or name the directory itself"
        )
    return Path(expanded).expanduser()


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
            f"{path} holds {unknown.nonzero().flatten().tolist()}, which are no ids of "
            "Cityscapes (0..33): write it again with the ids of "
            "torchvision.datasets.Cityscapes.classes"
        )
    if classes == CITYSCAPES and present[255] and are_train_ids(present):
        raise ValueError(
            f"{path} looks like train ids (255, and else nothing above 18), ids are expected: "
            "take the *_labelIds.png, not the *_labelTrainIds.png"
        )
    # numpy looks up bytes several times as fast as torch
    return tv_tensors.Mask(torch.from_numpy(np.take(classes.train_ids.numpy(), ids.numpy())))


def are_train_ids(present: Tensor) -> bool:
    """Whether a label file of Cityscapes holds train ids, by the values that are present.

    Train ids are 0..18 and 255. Among Cityscapes' ids, 255 is a licence plate, which comes with
    its car, 26; and nearly every frame has vegetation, sky or a car, which are all above 18. One
    file with 255 is proof enough; without it, look at several.

    Args:
        present: (256,) bool, whether a value occurs.
    """
    return bool(present[:19].any() and not present[19:255].any())


def downscale(image: Tensor, factor: int) -> Tensor:
    """(..., H, W) uint8 -> (..., H // factor, W // factor), at least 1; as `resize`."""
    return resize(image, [max(n // factor, 1) for n in image.shape[-2:]])


def resize(image: Tensor, size: list[int]) -> Tensor:
    """(..., H, W) uint8 -> (..., *size): bilinear, antialiased; of a mask the nearest."""
    if tuple(size) == tuple(image.shape[-2:]):
        return image
    if min(size) == 1 and not isinstance(image, tv_tensors.Mask):  # PyTorch's uint8 path fails
        return F.resize(image.float(), size, antialias=True).round().to(image.dtype)
    return F.resize(image, size, antialias=True)


def paired_transforms(
    flip: float = 0.0,
    crop: tuple[int, int] | None = None,
    crop_area: tuple[float, float] = (0.25, 1.0),
    jitter: float = 0.0,
) -> v2.Transform:
    """What happens to an image and its mask, to both alike: a function of the pair.

    Args:
        flip: probability of a horizontal flip.
        crop: height and width of what is cut from a random place, or None for the full frame.
        crop_area: a crop shows between these shares of the frame, and is resized to `crop`: so
            things are seen at many sizes (Szegedy et al. 2014, torchvision's RandomResizedCrop).
        jitter: brightness, contrast and saturation are multiplied by up to 1 -+ this.
    """
    steps = []
    if crop is not None:
        aspect = crop[1] / crop[0]
        steps.append(v2.RandomResizedCrop(crop, crop_area, (aspect * 0.8, aspect * 1.25)))
    if flip:
        steps.append(v2.RandomHorizontalFlip(flip))
    if jitter:
        steps.append(v2.ColorJitter(jitter, jitter, jitter))
    return v2.Compose(steps or [v2.Identity()])

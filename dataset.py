"""Street scenes in the format of Cityscapes (Cordts et al. 2016, https://arxiv.org/abs/1604.01685).

One class reads the three sources of this project: the download from cityscapes-dataset.com,
and what `prepare/camvid.py` and `prepare/streets.py` write, which is the same tree:

    leftImg8bit/<split>/<city>/<city>_<seq>_<frame>_leftImg8bit.png
    gtFine|gtCoarse/<split>/<city>/<city>_<seq>_<frame>_gtFine|gtCoarse_labelIds.png
"""

import errno
import os
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler
from torchvision import tv_tensors
from torchvision.transforms import v2

from cache import Cache, open_cache
from distributed import Shares, local_world_size, world_size
from guard import quiet_worker
from pictures import read_grey, read_picture
from tree import cannot_open, closed, damaged_archive, say_what_is_left_out, what_is_missing
from utils import IGNORE_INDEX, downscale, downscaled

OUT_OF_RANGE = 254  # what the table below gives for a number that is no Cityscapes id


def _train_ids() -> Tensor:
    """Cityscapes' ids, as stored in `labelIds.png`, to train ids: (256,) uint8.

    0..18 for the classes that the benchmark scores, `IGNORE_INDEX` for the others and for 255
    (which is id -1, the licence plate, in a byte).
    """
    table = torch.full((256,), OUT_OF_RANGE, dtype=torch.uint8)
    for c in torchvision.datasets.Cityscapes.classes:
        table[c.id] = IGNORE_INDEX if c.ignore_in_eval else c.train_id
    return table


TRAIN_IDS = _train_ids()


class Cityscapes(torchvision.datasets.Cityscapes):
    """Pairs of a picture and its labels, in the same order on every machine.

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
        downscale_labels: False leaves the mask as it is, to be judged at full resolution.
        cache: directory for what was decoded and downscaled, so that each file is decoded once;
            relative to `root`. None decodes every time.

    Raises:
        FileNotFoundError: no such root, no such split in it, or an image without labels.
        OSError: a directory that cannot be opened.
        ValueError: an unknown split or mode, an empty split, a damaged archive; and of an item:
            a file that is no picture, a label picture in colours, a size that differs from its
            image's, or a number that is no Cityscapes id.

    What is left out, labels without an image and files that are no images, is warned of.
    """

    def __init__(
        self,
        root,
        split="train",
        mode="fine",
        transforms=None,
        seed=None,
        downscale=1,
        downscale_labels=True,
        cache=None,
    ):
        root = find_root(root)
        try:
            super().__init__(root, split, mode, target_type="semantic", transforms=transforms)
        except (RuntimeError, FileNotFoundError) as error:  # torchvision's "Dataset not found"
            raise FileNotFoundError(what_is_missing(root, split, mode)) from error
        except NotADirectoryError as error:
            raise ValueError(
                f"{error.filename} lies among the cities' directories: remove it"
            ) from error
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.ELOOP):
                raise
            raise OSError(cannot_open(error.filename, error.strerror)) from error
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ValueError(damaged_archive(root, split, mode, error)) from error
        pairs = sorted(
            (image, target)
            for image, (target,) in zip(self.images, self.targets, strict=True)
            if image.endswith("_leftImg8bit.png") and not os.path.basename(image).startswith(".")
        )
        if not pairs:
            raise ValueError(
                f"{self.images_dir} holds no <city>/*_leftImg8bit.png: "
                f"unpack the images there, or prepare the data set again"
            )
        missing = [target for _, target in pairs if not os.path.isfile(target)]
        if missing:
            if folder := closed(os.path.dirname(missing[0])):
                raise PermissionError(cannot_open(folder, "Permission denied"))
            raise FileNotFoundError(
                f"{len(missing)} of {len(pairs)} images have no labels, the first {missing[0]}: "
                f"unpack {self.mode} again, or remove those images"
            )
        say_what_is_left_out(self, pairs)
        self.images = [image for image, _ in pairs]
        self.targets = [[target] for _, target in pairs]
        self.seed = seed
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # seen by all workers
        self.downscale, self.downscale_labels = downscale, downscale_labels
        self.cache = self._open_cache(root / _expand(cache, "cache")) if cache else None

    def _open_cache(self, folder: Path) -> Cache | None:
        size = next(filter(None, map(_frame, self.images)), None)
        if size is None:
            return None  # no picture among them: whoever reads one will say so
        small = downscaled(size, self.downscale)
        labels = small if self.downscale_labels else size
        name = f"{self.split}-{self.mode}-{self.downscale}" + "-full-labels" * (labels != small)
        pairs = [
            (image, target) for image, (target,) in zip(self.images, self.targets, strict=True)
        ]
        return open_cache(folder, name, pairs, ((3, *small), labels))

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
        image = tv_tensors.Image(read_picture(self.images[index]))
        mask = read_labels(self.targets[index][0])
        if mask.shape != image.shape[1:]:
            raise ValueError(
                f"{self.targets[index][0]} is {_size(mask)} but its image is {_size(image)}: "
                "labels must have their image's size; restore both from their archive"
            )
        if self.downscale > 1:
            image = downscale(image, self.downscale)
            mask = downscale(mask, self.downscale) if self.downscale_labels else mask
        return image.contiguous().numpy(), mask.contiguous().numpy()


def _expand(path: str | Path, name: str) -> Path:
    """A path with its variables and `~` put in. Raises FileNotFoundError for an unset one."""
    if "$" in (expanded := os.path.expandvars(path)):
        raise FileNotFoundError(
            f"the {name} is {path}, but that variable is not set: "
            "`export` it, or name the directory itself"
        )
    return Path(expanded).expanduser()


def _frame(path: str) -> tuple[int, int] | None:
    """Height and width as a picture's header has them; None if it is no picture."""
    try:
        with Image.open(path) as file:
            return file.height, file.width
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def find_root(root: str | Path) -> Path:
    """The directory of a data set, `~` and variables expanded. Raises FileNotFoundError."""
    root = _expand(root, "data root")
    if not root.is_dir():
        raise FileNotFoundError(
            f"there is no data set at {root}: draw one (`python prepare/streets.py {root}`), "
            "or see the README for CamVid and Cityscapes"
        )
    return root


def read_labels(path: str | Path) -> tv_tensors.Mask:
    """A `labelIds.png` as train ids: (H, W) uint8, 0..18 or 255. Raises as `Cityscapes` does.

    Labels that look like train ids are refused too: 255 is in nearly all of those and means a
    licence plate among ids, where something above 18, such as its car, is beside it. Train ids
    that fill a frame without any 255 cannot be told from ids in one file; `prepare/cityscapes.py`
    looks at whole splits.
    """
    ids = read_grey(path)
    present = torch.bincount(ids.flatten(), minlength=256) > 0
    wrong = present & (TRAIN_IDS == OUT_OF_RANGE)
    if wrong.any():
        raise ValueError(
            f"{path} holds {wrong.nonzero().flatten().tolist()}, which are no Cityscapes ids "
            "(0..33): write it again with the ids of torchvision.datasets.Cityscapes.classes"
        )
    if present[255] and present[:19].any() and not present[19:255].any():
        raise ValueError(
            f"{path} looks like train ids (255, and else nothing above 18), ids are expected: "
            "take the *_labelIds.png, not the *_labelTrainIds.png"
        )
    # numpy looks up bytes several times as fast as torch
    return tv_tensors.Mask(torch.from_numpy(np.take(TRAIN_IDS.numpy(), ids.numpy())))


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


def pick_workers() -> int:
    """How many processes of this machine read ahead, for a loader that is not told.

    GPUs wait for their batches: up to 8 for each, as the cores allow. A CPU is busy with the step
    itself, which workers only slow down: none, since a picture from the cache takes a thousandth
    of its step, and those that have to be decoded are read by all cores.
    """
    cores = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0)
    return min(8 * torch.cuda.device_count(), max(len(cores) - 1, 1))


def make_loader(
    dataset: Cityscapes, batch_size: int, train: bool, workers: int | None = None
) -> DataLoader:
    """Batches of uint8 images (N, 3, H, W) and uint8 masks (N, H, W).

    Args:
        train: shuffle, anew in each epoch and alike in each run with the data set's seed.
        workers: processes that read ahead; 0 reads in the loop, None as `pick_workers` says.

    Under `torchrun`, `batch_size` is that of all processes together, and `workers` that of all on
    this machine; this process gets its share of each batch (see `Shares`).

    Raises ValueError for more processes than images a batch, and in the loop for images that
    differ in size, which make no batch.
    """
    if batch_size < world_size():
        raise ValueError(
            f"a batch of {batch_size} images is too small for {world_size()} processes: "
            "raise batch_size (and look at lr again), or start fewer"
        )
    workers = pick_workers() if workers is None else workers
    # The sampler has a generator of its own: what else draws from the loader's depends on workers,
    # and on how often a run was resumed; so that must not be the global one either.
    generator = torch.Generator().manual_seed(dataset.seed or 0)
    sampler = RandomSampler(dataset, generator=generator) if train else SequentialSampler(dataset)
    return DataLoader(
        dataset,
        batch_sampler=Shares(sampler, batch_size, train),
        num_workers=-(-workers // local_world_size()),
        worker_init_fn=quiet_worker,
        generator=torch.Generator(),
        collate_fn=_collate,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
    )


def _collate(pairs: list) -> tuple[Tensor, Tensor]:
    if not pairs:  # an empty share: of a size that any network takes, and that costs nothing
        size = 0, 1 << 14, 1 << 14
        return torch.empty(0, 3, *size[1:], dtype=torch.uint8), torch.empty(size, dtype=torch.uint8)
    sizes = sorted({_size(image) for image, _ in pairs})
    if len(sizes) > 1:
        raise ValueError(
            f"images of {' and '.join(sizes)} make no batch: "
            "give the recipe a crop, and evaluate with batch_size=1"
        )
    images, masks = zip(*pairs, strict=True)
    return torch.stack(images).as_subclass(Tensor), torch.stack(masks).as_subclass(Tensor)


def _size(picture: Tensor) -> str:
    return f"{picture.shape[-1]}x{picture.shape[-2]}"

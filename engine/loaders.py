"""Batches for training and validation."""

import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler, SequentialSampler, get_worker_info

from data_io.image_io import image_size, read_grey
from dataset import Cityscapes, read_labels
from engine.augment import make_transforms
from engine.recipe import Recipe
from runtime.console import in_threads
from runtime.cpu import available_cores
from runtime.distributed import DistributedBatchSampler, local_world_size, world_size
from runtime.precision import pick_device
from runtime.shared_memory import affordable_workers
from utils import IGNORE_INDEX

PREFETCH = 2  # batches that a worker reads ahead


def make_loaders(recipe: Recipe) -> tuple[DataLoader, DataLoader]:
    """Training and validation batches as the recipe wants them.

    Raises as `Cityscapes`, and ValueError for data that cannot be trained on: labels without a
    pixel of any class, or images of several sizes without a crop.
    """
    read = {"downscale": recipe.downscale, "cache": recipe.cache}
    train = Cityscapes(
        *(recipe.data_root, recipe.train_split, recipe.mode, make_transforms(recipe), recipe.seed),
        **read,
        hold_out=recipe.hold_out,
    )
    val = Cityscapes(recipe.data_root, "val", "fine", **read)
    for scenes in (train, val):
        require_labels(scenes)
    if recipe.crop is None and recipe.batch_size > 1:
        require_one_size(train)
    device = pick_device(recipe.device)
    # What a GPU evaluates at once must not grow with the number of processes, as batch_size may.
    return (
        make_loader(train, recipe.batch_size, True, recipe.workers, device),
        make_loader(val, min(recipe.batch_size, 8), False, recipe.workers, device),
    )


def require_labels(scenes: Cityscapes) -> None:
    """Raise ValueError if no pixel of any label file belongs to a class; looks at 50 first."""
    sample = scenes.targets[:: -(-len(scenes) // 50)]
    for target in [*sample, *scenes.targets]:
        if (read_labels(target, scenes.classes) != IGNORE_INDEX).any():
            return
    ids = read_grey(target).unique().tolist()
    raise ValueError(
        f"no pixel of {target} or of the other labels belongs to a class: it holds {ids}, the "
        f"classes have {list(scenes.classes.ids)}; if these are classes of your own, list them in "
        f"{scenes.root / 'classes.yaml'}, or convert your data with `python -m prepare.own`"
    )


def class_frequencies(scenes: Cityscapes) -> Tensor:
    """How frequent each class is among all labelled pixels, 0..1: (num_classes,) float64."""

    def count(target: str) -> Tensor:
        return read_labels(target, scenes.classes).flatten().bincount(minlength=IGNORE_INDEX + 1)

    total = sum(in_threads(count, scenes.targets, "count"))[: len(scenes.classes)]
    return total.double() / total.sum()


def require_one_size(scenes: Cityscapes) -> None:
    """Raise ValueError if the images, by their headers, are of several sizes."""
    with ThreadPoolExecutor() as threads:
        sizes = dict(zip(threads.map(image_size, scenes.images), scenes.images, strict=True))
    sizes.pop(None, None)  # no image: reading it will say so
    if len(sizes) > 1:
        (one, path), (other, other_path) = list(sizes.items())[:2]
        raise ValueError(
            f"{path} and {other_path} are of different sizes ({one} and {other}, height and width)"
            ", which make no batch: give the recipe a crop, or batch_size 1"
        )


def make_loader(
    dataset: Dataset,
    batch_size: int,
    train: bool,
    workers: int | None = None,
    device: torch.device | None = None,
) -> DataLoader:
    """Batches of uint8 images (N, 3, H, W) and uint8 labels (N, H, W).

    Args:
        dataset: a `Cityscapes`, or the like.
        train: shuffle, in another order in each epoch, which depends on the data set's seed.
        workers: processes that read ahead; 0 reads in the loop, None as `pick_workers` says.
            Fewer, with a warning, where shared memory has no room for their batches.
        device: where the batches go; None as `pick_device` says.

    Under `torchrun`, `batch_size` is that of all processes together, and `workers` that of all on
    this machine; this process gets its part of each batch (see `DistributedBatchSampler`). In
    evaluation images of several sizes come as lists of batches of one.

    Raises ValueError in training for more processes than images a batch.
    """
    if train and batch_size < world_size():
        raise ValueError(
            f"a batch of {batch_size} images is too small for {world_size()} processes: "
            "raise batch_size (and look at lr again), or start fewer"
        )
    device = device or pick_device()
    workers = pick_workers(device) if workers is None else workers
    workers = -(-workers // local_world_size())
    if workers:
        images = -(-batch_size // world_size()) if train else batch_size
        size = images * sum(part.nbytes for part in dataset[0])
        workers = affordable_workers(workers, PREFETCH, size, local_world_size())
    # The sampler has a generator of its own: how much is drawn from the loader's and from the
    # global one depends on the workers, and on how often a run was resumed.
    generator = torch.Generator().manual_seed(dataset.seed or 0)
    sampler = RandomSampler(dataset, generator=generator) if train else SequentialSampler(dataset)
    return DataLoader(
        dataset,
        batch_sampler=DistributedBatchSampler(sampler, batch_size, train),
        num_workers=workers,
        prefetch_factor=PREFETCH if workers else None,
        worker_init_fn=leave_interrupts,
        generator=torch.Generator(),
        collate_fn=_collate,
        pin_memory=device.type == "cuda",
        persistent_workers=workers > 0,
    )


def one_size_batches(loader: DataLoader) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of an evaluation, those of several sizes as batches of one image."""
    for images, labels in loader:
        if isinstance(images, list):
            yield from zip(images, labels, strict=True)
        else:
            yield images, labels


def pick_workers(device: torch.device) -> int:
    """How many processes of this machine read ahead for `device`, by default.

    For a GPU, which waits for its batches, up to 8, as the cores allow. For a CPU none: workers
    slow its step down, of which an image from the cache takes a hundredth.
    """
    if device.type != "cuda":
        return 0
    gpus = torch.cuda.device_count() if device.index is None else 1
    return min(8 * gpus, max(available_cores() - 1, 1))


def set_epoch(loader: DataLoader, epoch: int) -> None:
    """Make the order of the images and their augmentation those of this epoch, from 1 on."""
    loader.dataset.set_epoch(epoch)
    # A prime above the number of epochs, so that two seeds share no epoch's order.
    loader.batch_sampler.sampler.generator.manual_seed(
        (loader.dataset.seed or 0) * 1_000_003 + epoch
    )


def leave_interrupts(_: int) -> None:
    """In a loader's worker: leave Ctrl-C, which a shell sends to it too, to the main process.

    The main process may stop while it takes over a batch. The worker prints no traceback of that.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    shown = sys.excepthook

    def show(kind, error, traceback) -> None:
        if not issubclass(kind, ConnectionError | EOFError):
            shown(kind, error, traceback)

    sys.excepthook = show


def _collate(pairs: list) -> tuple[Tensor, Tensor] | tuple[list[Tensor], list[Tensor]]:
    if not pairs:
        # No image, where a process has no part of a short last batch. Its size, which costs
        # nothing, is one that all networks take, also with `valid` padding.
        size = 0, 1 << 14, 1 << 14
        return torch.empty(0, 3, *size[1:], dtype=torch.uint8), torch.empty(size, dtype=torch.uint8)
    images, labels = zip(*pairs, strict=True)
    if len({(image.shape, label.shape) for image, label in pairs}) > 1:
        return [_stack([image]) for image in images], [_stack([label]) for label in labels]
    return _stack(images), _stack(labels)


def _stack(tensors: list[Tensor]) -> Tensor:
    stacked = torch.stack(tensors).as_subclass(Tensor)
    # A worker hands it over in shared memory. PyTorch's queue would move it there, too, but where
    # there is no room it only prints so, and the training would wait for ever.
    return stacked if get_worker_info() is None else stacked.share_memory_()

"""Batches for training and validation."""

import os
import signal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler, SequentialSampler

from dataset import Cityscapes, paired_transforms
from engine.recipe import Recipe
from runtime.distributed import DistributedBatchSampler, local_world_size, world_size


def make_loaders(recipe: Recipe) -> tuple[DataLoader, DataLoader]:
    """Training and validation batches as the recipe wants them; raises as `Cityscapes` does."""
    augment = [
        paired_transforms(recipe.flip, crop, recipe.crop_area, recipe.jitter)
        for crop in crop_sizes(recipe)
    ]
    read = {"downscale": recipe.downscale, "cache": recipe.cache}
    train = Cityscapes(
        recipe.data_root, recipe.train_split, recipe.mode, augment, recipe.seed, **read
    )
    val = Cityscapes(recipe.data_root, "val", "fine", **read)
    # What a GPU evaluates at once must not grow with the number of processes, as batch_size may.
    return (
        make_loader(train, recipe.batch_size, True, recipe.workers),
        make_loader(val, min(recipe.batch_size, 8), False, recipe.workers),
    )


def crop_sizes(recipe: Recipe) -> list[tuple[int, int] | None]:
    """Height and width of each epoch's crops, which poolings halve evenly while they grow.

    A single element stands for all epochs; it is None for full frames.
    """
    if recipe.crop is None or recipe.crop_start == 1:
        return [recipe.crop]
    step = 2**recipe.depth
    shares = torch.linspace(recipe.crop_start, 1, recipe.epochs).tolist()
    growing = [
        tuple(min(max(round(n * share / step), 1) * step, n) for n in recipe.crop)
        for share in shares[:-1]
    ]
    return [*growing, recipe.crop]


def make_loader(
    dataset: Dataset, batch_size: int, train: bool, workers: int | None = None
) -> DataLoader:
    """Batches of uint8 images (N, 3, H, W) and uint8 labels (N, H, W).

    Args:
        dataset: a `Cityscapes`, or the like.
        train: shuffle, anew in each epoch and alike in each run with the data set's seed.
        workers: processes that read ahead; 0 reads in the loop, None as `pick_workers` says.

    Under `torchrun`, `batch_size` is that of all processes together, and `workers` that of all on
    this machine; this process gets its part of each batch (see `DistributedBatchSampler`).

    Raises ValueError for more processes than images a batch, and in the loop for images that
    differ in size, which make no batch.
    """
    if batch_size < world_size():
        raise ValueError(
            f"a batch of {batch_size} images is too small for {world_size()} processes: "
            "raise batch_size (and look at lr again), or start fewer"
        )
    workers = pick_workers() if workers is None else workers
    # The sampler has a generator of its own: how much is drawn from the loader's and from the
    # global one depends on the workers, and on how often a run was resumed.
    generator = torch.Generator().manual_seed(dataset.seed or 0)
    sampler = RandomSampler(dataset, generator=generator) if train else SequentialSampler(dataset)
    return DataLoader(
        dataset,
        batch_sampler=DistributedBatchSampler(sampler, batch_size, train),
        num_workers=-(-workers // local_world_size()),
        worker_init_fn=ignore_interrupt,
        generator=torch.Generator(),
        collate_fn=_collate,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
    )


def pick_workers() -> int:
    """How many processes of this machine read ahead, for a loader that is not told.

    GPUs wait for their batches: up to 8 for each, as the cores allow. A CPU is busy with the step
    itself, which workers only slow down: none, since an image from the cache takes a hundredth
    of its step, and those that have to be decoded are read by all cores.
    """
    cores = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0)
    return min(8 * torch.cuda.device_count(), max(len(cores) - 1, 1))


def set_epoch(loader: DataLoader, epoch: int) -> None:
    """Make the order of the images and their augmentation those of this epoch, from 1 on."""
    loader.dataset.set_epoch(epoch)
    # A prime above the number of epochs, so that two seeds share no epoch's order.
    loader.batch_sampler.sampler.generator.manual_seed(loader.dataset.seed * 1_000_003 + epoch)


def ignore_interrupt(_: int) -> None:
    """In a loader's worker, which a shell's Ctrl-C reaches too: the main process ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _collate(pairs: list) -> tuple[Tensor, Tensor]:
    if not pairs:
        # No image, where a process has no part of a short last batch. Its size costs nothing; it
        # must be one that all networks take, those with `valid` padding and of any depth too.
        size = 0, 1 << 14, 1 << 14
        return torch.empty(0, 3, *size[1:], dtype=torch.uint8), torch.empty(size, dtype=torch.uint8)
    sizes = sorted({f"{image.shape[-1]}x{image.shape[-2]}" for image, _ in pairs})
    if len(sizes) > 1:
        raise ValueError(
            f"images of {' and '.join(sizes)} make no batch: "
            "give the recipe a crop, and evaluate with batch_size=1"
        )
    images, labels = zip(*pairs, strict=True)
    return torch.stack(images).as_subclass(Tensor), torch.stack(labels).as_subclass(Tensor)

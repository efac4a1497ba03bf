"""Our training step, as every benchmark here takes it; the baseline's is `plain.plain_step`."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from engine import Recipe, train_one_epoch
from engine.run import make_trainer
from model import UNet
from runtime.cpu import convert, keep_freed_memory
from runtime.precision import pick_precision

CPU = torch.device("cpu")


def random_batch(batch: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """uint8 images (N, 3, H, W) and labels (N, H, W), as a loader gives them."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (batch, 3, *size), dtype=torch.uint8, generator=generator)
    labels = torch.randint(19, (batch, *size), dtype=torch.uint8, generator=generator)
    labels[:, : size[0] // 10] = 255
    return images, labels


def in_memory(images: Tensor, labels: Tensor) -> DataLoader:
    """A loader of this one batch."""
    return DataLoader(list(zip(images, labels, strict=True)), len(images))


def our_epoch(recipe: Recipe, model: UNet, loader: DataLoader, converted: bool = True) -> Callable:
    """Prepare `model` as `engine.fit` does on a CPU; returns a function that trains an epoch.

    `converted`: with the layers of `runtime.cpu.convert`.
    """
    keep_freed_memory()
    if converted:
        convert(model)
    trainer = make_trainer(recipe, model, loader, pick_precision(recipe.precision, CPU))
    return partial(train_one_epoch, trainer, loader)

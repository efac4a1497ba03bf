"""Our training step, as every benchmark here takes it; `tests.plain` has the baseline's."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from engine import Recipe, train_one_epoch
from engine.run import make_trainer
from runtime.cpu import convert, keep_freed_memory
from runtime.precision import pick_precision

CPU = torch.device("cpu")


class Batches(list):
    """Batches in memory. A `DataLoader` would copy them, and draw random numbers."""

    dataset = ()


def random_batch(batch: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """uint8 images (N, 3, H, W) and labels (N, H, W), as a loader gives them."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (batch, 3, *size), dtype=torch.uint8, generator=generator)
    labels = torch.randint(19, (batch, *size), dtype=torch.uint8, generator=generator)
    labels[:, : size[0] // 10] = 255
    return images, labels


def our_epoch(
    recipe: Recipe, model: nn.Module, loader, device: torch.device = CPU, converted: bool = True
) -> Callable:
    """Prepare `model` on `device` as `engine.fit` does; returns a function that trains an epoch.

    `converted`: on a CPU, with the layers of `runtime.cpu.convert`.
    """
    keep_freed_memory()
    if converted and device.type == "cpu":
        convert(model)
    trainer = make_trainer(recipe, model, loader, pick_precision(recipe.precision, device))
    return partial(train_one_epoch, trainer, loader)

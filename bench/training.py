"""Training steps, as every benchmark here takes them: ours, and those of `tests.plain`."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bench.peers import make
from engine import Recipe, train_one_epoch
from engine.run import make_trainer
from runtime.cpu import convert, keep_freed_memory
from runtime.precision import DTYPES, pick_precision
from tests.plain import plain_step

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


class Mode(NamedTuple):
    """How a network is trained; ours is always channels-last."""

    precision: str = "fp32"
    tf32: bool = False
    channels_last: bool = False
    compiled: bool = False

    def __str__(self) -> str:
        name = "TF32" if self.tf32 and self.precision == "fp32" else self.precision
        return name + ", channels-last" * self.channels_last + ", compiled" * self.compiled


def plain_epoch(model: nn.Module, optimizer, dtype: torch.dtype, loader, device) -> None:
    """An epoch of `plain_step`, in fp16 without a scaler."""
    for batch in loader:
        images, labels = (part.to(device, non_blocking=True) for part in batch)
        loss = plain_step(model, optimizer, images, labels.long(), dtype)
    loss.item()  # waits for the device, as `train_one_epoch` does


def contender(
    name: str,
    mode: Mode,
    device: torch.device,
    batch: tuple[Tensor, Tensor],
    width: int,
    steps: int = 1,
    converted: bool = True,
) -> Callable:
    """For `bench.timing.started`: a turn of some steps of one of `peers.LABELS` on a batch.

    It returns the peak of the card's memory in bytes, 0 on a CPU, or None if the card has not
    enough. `converted` as in `our_epoch`.
    """
    torch.backends.cudnn.benchmark = True  # as `engine.fit` has it for images of one size
    torch.backends.cudnn.allow_tf32 = mode.tf32
    on_gpu = device.type == "cuda"
    if on_gpu:
        batch = tuple(part.pin_memory() for part in batch)
    loader, model = Batches([batch] * steps), make(name, width).to(device).train()
    if mode.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if mode.compiled:
        model.compile()
    if name == "ours":
        epoch = our_epoch(Recipe(precision=mode.precision), model, loader, device, converted)
    else:
        optimizer = torch.optim.Adam(model.parameters(), fused=on_gpu)
        epoch = partial(plain_epoch, model, optimizer, DTYPES[mode.precision], loader, device)

    def turn() -> int | None:
        try:
            epoch()
        except torch.OutOfMemoryError:
            return None
        return torch.cuda.max_memory_allocated() if on_gpu else 0

    return turn

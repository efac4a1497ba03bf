"""A training step: ours, that of a tutorial, and those of two libraries' U-Nets.

python -m bench.training
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bench.timing import Row, against_ours, table, take_turns
from engine import Recipe, train_one_epoch
from engine.run import make_trainer
from model import UNet
from runtime.cpu import convert, keep_freed_memory
from runtime.precision import DTYPES, pick_precision
from tests.plain import PlainUNet, plain_step

BATCH, SIZE, WIDTH, ROUNDS = 8, (368, 480), 16, 3
CPU = torch.device("cpu")
LABELS = {
    "ours": "ours",
    "baseline": "baseline PyTorch",
    "smp": "segmentation-models-pytorch Unet, resnet18",
    "monai": "MONAI BasicUNet",
}


def make(name: str, width: int = WIDTH, seed: int = 0) -> nn.Module:
    """The network of one of `LABELS` for 3 channels and 19 classes, with random weights.

    `width` is for ours and the baseline; the libraries' come with their defaults.
    """
    torch.manual_seed(seed)
    if name in ("ours", "baseline"):
        return (UNet if name == "ours" else PlainUNet)(width=width)
    if name == "smp":
        import segmentation_models_pytorch

        return segmentation_models_pytorch.Unet("resnet18", encoder_weights=None, classes=19)
    from monai.networks.nets import BasicUNet

    return BasicUNet(spatial_dims=2, in_channels=3, out_channels=19)


def count(name: str, width: int, size: tuple[int, int]) -> tuple[int, int]:
    """A network's parameters, and the floating-point operations of a step on one image."""
    with torch.device("meta"):  # shapes without data
        model, images = make(name, width), torch.empty(1, 3, *size)
        with FlopCounterMode(display=False) as counter:
            model(images).sum().backward()
    return sum(p.numel() for p in model.parameters()), counter.get_total_flops()


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


class Mode(NamedTuple):
    """How a network is trained; ours is always channels-last."""

    precision: str = "fp32"
    tf32: bool = False
    channels_last: bool = False
    compiled: bool = False

    def __str__(self) -> str:
        name = "TF32" if self.tf32 and self.precision == "fp32" else self.precision
        return name + ", channels-last" * self.channels_last + ", compiled" * self.compiled


def our_epoch(recipe: Recipe, model: nn.Module, loader, device: torch.device = CPU) -> Callable:
    """Prepare `model` on `device` as `engine.fit` does; returns a function that trains an epoch."""
    keep_freed_memory()
    if device.type == "cpu":
        convert(model)
    trainer = make_trainer(recipe, model, loader, pick_precision(recipe.precision, device))
    return partial(train_one_epoch, trainer, loader)


def plain_epoch(model: nn.Module, optimizer, dtype: torch.dtype, loader, device) -> None:
    """An epoch of `plain_step`, in fp16 without a scaler."""
    for batch in loader:
        images, labels = (part.to(device, non_blocking=True) for part in batch)
        loss = plain_step(model, optimizer, images, labels.long(), dtype)
    loss.item()  # waits for the device, as `train_one_epoch` does


def contender(
    name: str, mode: Mode, device: torch.device, batch: tuple, width: int, steps: int = 1
) -> Callable:
    """For `bench.timing.started`: a turn of some steps of one of `LABELS` on a batch.

    It returns the peak of the card's memory in bytes, 0 on a CPU, or None if the card has not
    enough.
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
        epoch = our_epoch(Recipe(precision=mode.precision), model, loader, device)
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


def measure() -> tuple[list[Row], list[str]]:
    """Rows and notes for `table`, of a step on the CPU."""
    precision, on = pick_precision("auto", CPU), (CPU, random_batch(BATCH, SIZE), WIDTH)
    as_it_comes, tuned = Mode(), Mode(precision, channels_last=True)
    contenders = {"ours": partial(contender, "ours", tuned, *on)}
    for name in ("baseline", "smp", "monai"):
        weights, flop = count(name, WIDTH, SIZE)
        size = f"{weights / 1e6:.1f} M parameters, {flop / 1e9:.0f} GFLOP/image"
        for mode in (as_it_comes, tuned):
            what = f"{LABELS[name]}, {mode} ({size})"
            contenders[what] = partial(contender, name, mode, *on)
    found = take_turns(contenders, ROUNDS)
    goals = ["≥ 3.3", "≥ 1.5"] if precision == "bf16" else ["≥ 2", ""]
    goals = dict(zip([*found][1:3], goals, strict=True))  # of the baseline's
    rows = against_ours(f"Training step, ours in {precision}, against", found, BATCH, goals)
    memory = [f"{each.peak_memory / 2**30:.1f} GiB" for each in found.values()]
    return rows, [
        f"At its peak the training process took {memory[0]} of memory with ours (which keeps freed "
        f"memory for the next step) and {memory[1]} with the baseline: batch {BATCH}, "
        f"{SIZE[0]}x{SIZE[1]}, width {WIDTH}."
    ]


if __name__ == "__main__":
    print(table(*measure()))

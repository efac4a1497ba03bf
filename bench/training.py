"""A training step: ours, that of a tutorial, and those of two libraries' U-Nets.

    python -m bench.training
    python -m bench.training --device cuda

On a GPU it has the size of recipes/cityscapes.yaml; a smaller card takes `--batch 2`. All take
turns, each turn in a process of its own, which has the memory to itself. Nothing else should run.
"""

import os
import statistics
import sys
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bench.timing import started
from engine import Recipe, train_one_epoch
from engine.run import make_trainer
from model import UNet
from runtime.console import command_line, errors_shown, table
from runtime.cpu import convert, keep_freed_memory
from runtime.machine import machine
from runtime.precision import DTYPES, pick_precision, working_device
from tests.plain import PlainUNet, plain_step

BATCH, ROUNDS, GIB = 8, 3, 2**30
CPU = torch.device("cpu")
WORK = {"cpu": ((368, 480), 16, 1), "cuda": ((512, 1024), 64, 20)}  # image, width, steps in a turn
LABELS = {
    "ours": "ours",
    "baseline": "baseline PyTorch",
    "smp": "segmentation-models-pytorch Unet, resnet18",
    "monai": "MONAI BasicUNet",
}


def make(name: str, width: int = 16) -> nn.Module:
    """The network of one of `LABELS` for 3 channels and 19 classes, with random weights.

    `width` is for ours and the baseline; the libraries' come with their defaults.
    """
    torch.manual_seed(0)
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


def plain_epoch(model: nn.Module, optimizer, dtype: torch.dtype, loader, device) -> None:
    """An epoch of `plain_step`, in fp16 without a scaler."""
    for batch in loader:
        images, labels = (part.to(device, non_blocking=True) for part in batch)
        loss = plain_step(model, optimizer, images, labels.long(), dtype)
    loss.item()  # waits for the device, as `train_one_epoch` does


def contender(
    name: str, mode: Mode, device: torch.device, batch: tuple, width: int, steps: int
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
        keep_freed_memory()  # this and the next, as `engine.fit` does
        model = model if on_gpu else convert(model)
        trainer = make_trainer(Recipe(precision=mode.precision), model, loader, mode.precision)
        epoch = partial(train_one_epoch, trainer, loader)
    else:
        optimizer = torch.optim.Adam(model.parameters(), fused=on_gpu or mode.channels_last)
        epoch = partial(plain_epoch, model, optimizer, DTYPES[mode.precision], loader, device)

    def turn() -> int | None:
        try:
            epoch()
        except torch.OutOfMemoryError:
            return None
        return torch.cuda.max_memory_allocated() if on_gpu else 0

    return turn


def contenders(device: torch.device) -> list[tuple[str, Mode]]:
    """Networks and modes: ours first, the others as they come and in what should be best."""
    on_gpu = device.type == "cuda"  # where cuDNN computes in TF32 as it comes
    plain = Mode(tf32=on_gpu)
    tuned = Mode(pick_precision("auto", device), on_gpu, channels_last=True)
    modes = {name: [plain, tuned] for name in LABELS} | {"ours": [tuned]}
    for name in ("ours", "baseline") if on_gpu else ():
        modes[name].append(tuned._replace(compiled=True))
    return [(name, mode) for name, several in modes.items() for mode in several]


def measure(device: torch.device = CPU, batch: int = BATCH, tiny: bool = False) -> str:
    """The table."""
    size, width, steps = ((32, 32), 2, 1) if tiny else WORK[device.type]
    modes = [each for each in contenders(device) if not tiny or each[0] in ("ours", "baseline")]
    data, found = random_batch(batch, size), {each: [] for each in modes}
    for i in range(1 if tiny else ROUNDS):
        for each in modes:
            print(f"round {i + 1}: {each}", file=sys.stderr)
            with started({"it": partial(contender, *each, device, data, width, steps)}) as turn:
                turn("it")  # warm-up
                found[each].append(turn("it"))
    rows, ours = [], None
    for (name, mode), results in found.items():
        parameters, flop = count(name, width, size)
        what = f"{LABELS[name]} ({parameters / 1e6:.1f} M, {flop / 1e12:.2g} TFLOP/image)"
        seconds, resident, peaks = zip(*results, strict=True)
        if None in peaks:
            rows.append([what, mode, "out of memory", "", "", ""])
            continue
        speed = batch * steps / statistics.median(seconds)
        ours = ours or speed
        figures = [f"{speed:.3g}", f"{ours / speed:.2f}", f"{speed * flop / 1e12:.3g}"]
        rows.append([what, mode, *figures, f"{(max(peaks) or max(resident)) / GIB:.1f} GiB"])
    head = ["training step", "mode", "images/s", "speed-up of ours", "TFLOP/s", "peak memory"]
    return table(head, rows, 2) + (
        f"\n\nSteps on {batch} images of {size[0]}x{size[1]} on {device.type}; the median of "
        f"{ROUNDS} turns of {steps}. Ours and the baseline have width {width}. On a CPU the goals "
        "are 3.3 against the baseline and 1.5 against the tuned one in bf16, and 2 in fp32."
    )


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--device", default="cpu", choices=WORK)
    parser.add_argument("--batch", type=int, default=BATCH, help="images a step (8)")
    parser.add_argument("--tiny", action="store_true", help="small, to try this command")
    args = parser.parse_args()
    first, *_ = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")
    os.environ["CUDA_VISIBLE_DEVICES"] = first  # ours would take all GPUs, the others one
    with errors_shown():
        text = measure(working_device(args.device), args.batch, args.tiny)
    print(text, machine(), sep="\n\n")


if __name__ == "__main__":
    main()

"""Plan a training without the hardware: what it needs of a GPU, and how long it would take.

    python bench/plan.py --recipe recipes/cityscapes.yaml --tflops 60 --bandwidth 25

Nothing here is measured. The network's own steps run on fake tensors, which have shapes and no
data, under PyTorch's memory tracker and FLOP counter; times follow from the throughput and the
bandwidth that are given. tests/test_plan.py holds the memory against a real step on a CPU.
"""

import sys
from pathlib import Path

import torch
from jsonargparse import ArgumentParser
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the project's modules

from losses import criterion  # noqa: E402
from model import UNet  # noqa: E402
from recipe import Recipe, make_optimizer  # noqa: E402
from train import Formatter  # noqa: E402
from utils import CLASS_NAMES  # noqa: E402

BATCHES = 1, 2, 4, 8  # images per GPU
CARDS = 12, 16, 24, 40, 80  # GB
GPUS = 1, 8, 32, 256
GIB = 2**30


def ghost(recipe: Recipe) -> UNet:
    """The recipe's network without weights, on the `meta` device."""
    sizes = recipe.width, recipe.depth, recipe.padding, recipe.batch_norm
    with torch.device("meta"):
        return UNet(3, len(CLASS_NAMES), *sizes)


def fake(model: UNet) -> UNet:
    """A ghost whose parameters are made fake ones; call it within a FakeTensorMode.

    They are on a fake CPU: autograd asks the driver about a GPU, even about a fake one.
    """
    for module in model.modules():
        for name, value in module.named_parameters(recurse=False):
            empty = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype)
            module._parameters[name] = nn.Parameter(empty)
        for name, value in module.named_buffers(recurse=False):
            module._buffers[name] = torch.empty(value.shape, dtype=value.dtype)
    return model


def parameter_bytes(model: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in model.parameters())


def picture_size(recipe: Recipe, height: int, width: int) -> tuple[int, int]:
    """Height and width of what the network trains on, for pictures of that size on disk."""
    return recipe.crop or (height // recipe.downscale, width // recipe.downscale)


def memory(recipe: Recipe, batch: int, size: tuple[int, int], bf16: bool) -> dict[str, int]:
    """Bytes at the peak of a training step: parameters, gradients, optimizer, activations, peak.

    `activations` is what is left: the maps kept for the backward pass and what passes through.
    The second step is looked at, when the optimiser's state and the last step's gradients are
    there. As in `engine.train_one_epoch`, `size` height and width.
    """
    model = ghost(recipe)
    with FakeTensorMode():
        fake(model)
        optimizer, _ = make_optimizer(recipe, model, 1)
        images = torch.empty(batch, 3, *size, dtype=torch.uint8)
        truth = torch.empty(batch, *size, dtype=torch.uint8)
        tracker = MemTracker()
        tracker.track_external(model, optimizer, images, truth)
        margin = model.margin
        with tracker:
            for _ in range(2):
                with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                    logits = model(images)
                h, w = logits.shape[-2:]
                labels = truth[:, margin : margin + h, margin : margin + w]
                value = criterion(logits, labels, recipe.loss)
                del logits
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                tracker.reset_mod_stats()
        peak = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]
        found = {getattr(kind, "name", kind): count for kind, count in peak.items()}
    parts = {"parameters": parameter_bytes(model)}
    parts |= {"gradients": found["GRAD"], "optimizer": found["OPT"]}
    return {**parts, "activations": found["Total"] - sum(parts.values()), "peak": found["Total"]}


def flop(recipe: Recipe, size: tuple[int, int]) -> int:
    """Floating-point operations of a training step on one image; a multiply-add counts as two."""
    model = ghost(recipe)
    with FakeTensorMode():
        fake(model)
        images = torch.empty(1, 3, *size, dtype=torch.uint8)
        with FlopCounterMode(display=False) as counter:
            model(images).sum().backward()
    return counter.get_total_flops()


def needed(found: dict[str, int]) -> float:
    """Bytes that a card must have, under DistributedDataParallel.

    To the peak come DDP's buckets, which hold all gradients at all times, 10 % for fragments and
    cuDNN's workspaces, and 1 GiB for CUDA itself. These two are rules of thumb.
    """
    return 1.1 * (found["peak"] + found["parameters"] - found["gradients"]) + GIB


def epoch(
    images: int, batch: int, gpus: int, flop: float, gradients: int, rate: float, bandwidth: float
) -> tuple[float, float]:
    """Seconds of an epoch's training, and the share of them, 0..1, in which gradients travel.

    Args:
        batch: images per GPU and step.
        flop: of a step on one image.
        gradients: bytes. A ring all-reduce sends 2 (n - 1) / n of them from each GPU
            (Patarasuk & Yuan 2009).
        rate: FLOP/s that a GPU sustains.
        bandwidth: bytes/s that each GPU sends while the others do.

    Nothing is taken to overlap, so the share is an upper bound: DDP sends the gradients of one
    layer while it computes those of the next.
    """
    steps = -(-images // (batch * gpus))
    compute = steps * batch * flop / rate
    talk = steps * 2 * (gpus - 1) / gpus * gradients / bandwidth
    return compute + talk, talk / (compute + talk)


def needs_table(recipe: Recipe, size: tuple[int, int]) -> list[str]:
    """Markdown: memory and operations per batch and precision, and the cards that have it."""
    tflop = flop(recipe, size) / 1e12
    lines = [
        "| images per GPU | | parameters | activations | peak memory | TFLOP per image | fits on |",
        "|---|---|---|---|---|---|---|",
    ]
    for bf16 in (False, True):
        for batch in BATCHES:
            found = memory(recipe, batch, size, bf16)
            cards = [f"{card}" for card in CARDS if needed(found) <= card * GIB]
            gib = {name: f"{count / GIB:.2f} GiB" for name, count in found.items()}
            lines.append(
                f"| {batch} | {'bf16' if bf16 else 'fp32'} | {gib['parameters']} "
                f"| {gib['activations']} | {gib['peak']} | {tflop:.2f} "
                f"| {', '.join(cards) + ' GB' if cards else 'none of these'} |"
            )
    return lines


def epochs_table(
    recipe: Recipe, size: tuple[int, int], images: int, tflops: float, bandwidth: float
) -> list[str]:
    """Markdown: the time of an epoch and the share of communication, per number of GPUs."""
    gradients = parameter_bytes(ghost(recipe))
    work = flop(recipe, size)
    lines = [
        "| GPUs | " + " | ".join(f"{batch} per GPU" for batch in BATCHES) + " |",
        "|---" * (len(BATCHES) + 1) + "|",
    ]
    for gpus in GPUS:
        cells = []
        for batch in BATCHES:
            seconds, share = epoch(
                images, batch, gpus, work, gradients, tflops * 1e12, bandwidth * 1e9
            )
            cells.append(f"{seconds:.3g} s, {share:.0%}")
        lines.append(f"| {gpus} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=Formatter)
    parser.add_argument("--recipe", action="config", help="a YAML file with the fields below")
    parser.add_argument(
        "--size", type=tuple[int, int], default=(1024, 2048), help="height and width on disk"
    )
    parser.add_argument("--images", type=int, default=2975, help="of the training split")
    parser.add_argument("--tflops", type=float, help="that one GPU sustains, in 1e12 FLOP/s")
    parser.add_argument("--bandwidth", type=float, help="that one GPU sends at, in 1e9 bytes/s")
    parser.add_class_arguments(Recipe)
    fields = vars(parser.parse_args())
    fields.pop("recipe")
    disk, images, tflops, bandwidth = map(fields.pop, ("size", "images", "tflops", "bandwidth"))
    if (tflops is None) != (bandwidth is None):
        sys.exit("error: --tflops and --bandwidth go together: give both, or neither")
    for name, value in {"images": images, "tflops": tflops, "bandwidth": bandwidth}.items():
        if value is not None and not value > 0:
            sys.exit(f"error: --{name} must be above 0, not {value}")
    try:
        recipe = Recipe(**fields)
        size = picture_size(recipe, *disk)
        print(
            f"Computed, not measured: a training step of a U-Net of width {recipe.width} on "
            f"pictures of {size[0]}x{size[1]}.\n"
        )
        print("\n".join(needs_table(recipe, size)))
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(
        "\n`fits on` adds to the peak the gradients' buckets of DistributedDataParallel, 10 % for "
        "fragments\nand workspaces, and 1 GiB for CUDA."
    )
    if tflops:
        print(
            f"\nComputed, not measured: the training part of an epoch of {images} images, and how "
            f"much of it gradients\ntravel at most, with {tflops:g} TFLOP/s and {bandwidth:g} GB/s "
            "per GPU:\n"
        )
        print("\n".join(epochs_table(recipe, size, images, tflops, bandwidth)))


if __name__ == "__main__":
    main()

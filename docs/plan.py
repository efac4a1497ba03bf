"""Plan a training without the hardware: the GPU memory it needs, and how long it would take.

    python -m docs.plan --recipe recipes/cityscapes.yaml --tflops 60 --bandwidth 25

Nothing here is measured: the training step runs on fake tensors, which have shapes and no data,
under PyTorch's memory tracker and FLOP counter. tests/test_plan.py compares the memory with real
steps.
"""

from contextlib import suppress
from dataclasses import replace
from itertools import product

import torch
from jsonargparse.typing import PositiveFloat, PositiveInt
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils.flop_counter import FlopCounterMode

from bench.training import CPU, Batches
from engine import Loss, Recipe, Trainer, make_model, train_one_epoch
from engine.optimizer import make_optimizer
from engine.recipe import parse_recipe, recipe_parser
from runtime.console import errors_shown, progress_bar, table
from runtime.precision import Autocast

BATCHES = 1, 2, 4, 8  # images per GPU
CARDS = 12, 16, 24, 40, 80  # GB
GPUS = 1, 8, 32, 256
GPUS_PER_NODE = 8
PNG = 11e9 / 5000  # bytes of a frame: Cityscapes' archive has 5000 in 11 GB
DECODE = 0.06  # seconds of a core to read a frame and its labels: bench/table-avx2.md, 2 cores
VAL = 500  # images
RESTART = 60  # seconds from a failure to the next step: assumed
GIB = 2**30


def memory(recipe: Recipe, batch: int, size: tuple[int, int], precision: str) -> dict[str, int]:
    """Bytes at the peak of a training step: parameters, gradients, optimizer, activations, peak.

    `activations` also counts temporary tensors. Of two steps, since the first one finds no
    gradients and no state of the optimizer.

    Args:
        batch: images.
        size: their height and width.
        precision: `fp32` or `bf16`.
    """
    with torch.device("meta"):  # without data, which the fake weights take their shapes from
        model = make_model(recipe)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu")
        optimizer, scheduler = make_optimizer(recipe, model, 1)
        images = torch.empty(batch, 3, *size, dtype=torch.uint8)
        labels = torch.empty(batch, *size, dtype=torch.uint8)
        net, loader = Autocast(model, precision), Batches([(images, labels)])
        trainer = Trainer(
            net, Loss(recipe.loss), optimizer, scheduler, full_image=recipe.crop is None
        )
        tracker = MemTracker()
        tracker.track_external(model, optimizer, images, labels)
        with tracker:
            for _ in range(2):
                # Raised after the step, where the loss is read: a fake one has no value.
                with suppress(DataDependentOutputException):
                    train_one_epoch(trainer, loader)
                tracker.reset_mod_stats()
        peak = tracker.get_tracker_snapshot("peak")[CPU]
    found = {getattr(kind, "name", kind): count for kind, count in peak.items()}
    parts = {"parameters": sum(p.numel() * p.element_size() for p in model.parameters())}
    parts |= {"gradients": found["GRAD"], "optimizer": found["OPT"]}
    return {**parts, "activations": found["Total"] - sum(parts.values()), "peak": found["Total"]}


def flop(recipe: Recipe, size: tuple[int, int]) -> int:
    """Floating-point operations of a training step on one image; a multiply-add counts as two."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        images = torch.empty(1, 3, *size, dtype=torch.uint8)
        model = make_model(recipe)
        model(images, full_image=recipe.crop is None).sum().backward()
    return counter.get_total_flops()


def needed(found: dict[str, int]) -> float:
    """Bytes that a GPU must have, under DistributedDataParallel.

    Added to the peak: DDP's buckets, which hold all gradients; and, as rules of thumb, 10 % for
    fragmentation and cuDNN's workspaces, and 1 GiB for CUDA itself.
    """
    return 1.1 * (found["peak"] + found["parameters"] - found["gradients"]) + GIB


def epoch(
    images: int, batch: int, gpus: int, flop: float, gradients: int, rate: float, bandwidth: float
) -> tuple[float, float]:
    """Seconds to train an epoch, and the part of them, 0..1, spent on communication.

    The part is an upper bound: DDP sends gradients while it computes others. A ring all-reduce
    sends 2 (n - 1) / n of them from each GPU (Patarasuk & Yuan 2009).

    Args:
        batch: images per GPU and step.
        flop: of a step on one image.
        gradients: bytes.
        rate: FLOP/s that a GPU sustains.
        bandwidth: bytes/s that each GPU sends while the others do.
    """
    steps = -(-images // (batch * gpus))
    compute = steps * batch * flop / rate
    talk = steps * 2 * (gpus - 1) / gpus * gradients / bandwidth
    return compute + talk, talk / (compute + talk)


def node(gpus: int, flop: float, forward: float, seconds: float, pixels: int, rate: float) -> list:
    """A row: what each node must read, how long an evaluation takes, how seldom a node must fail.

    Args:
        gpus: of all nodes, eight in each.
        flop: of a training step on one image.
        forward: of predicting one image.
        seconds: an epoch.
        pixels: of an image in the cache, which keeps four bytes of each.
        rate: FLOP/s that a GPU sustains.

    The last are the hours between two failures of one node at which a tenth of all time is lost.
    Any failure stops all nodes, and half an epoch is trained again, on average.
    """
    nodes, images = -(-gpus // GPUS_PER_NODE), min(gpus, GPUS_PER_NODE) * rate / flop
    return [
        gpus,
        f"{images:.0f}/s",
        f"{images * 4 * pixels / 1e9:.2f} GB/s",
        f"{images * PNG / 1e9:.2f} GB/s, {images * DECODE:.0f} cores",
        f"{-(-VAL // gpus) * forward / rate:.2g} s",
        f"{10 * nodes * (seconds / 2 + RESTART) / 3600:.2g} h",
    ]


def main() -> None:
    parser = recipe_parser(__doc__)
    add = parser.add_argument
    add("--size", type=tuple[int, int], default=(1024, 2048), help="height and width on disk")
    add("--images", type=PositiveInt, default=2975, help="of the training split")
    add("--tflops", type=PositiveFloat, default=60.0, help="that a GPU sustains, in 1e12 FLOP/s")
    add("--bandwidth", type=PositiveFloat, default=25.0, help="that a GPU sends, in 1e9 bytes/s")
    with errors_shown():
        recipe, args = parse_recipe(parser)
        if recipe.accumulate > 1:
            raise ValueError("the plan is of steps at once: give --accumulate 1")
        if "lovasz" in recipe.loss:
            raise ValueError("what Lovász-softmax takes depends on the labels: plan another loss")
        recipe = replace(recipe, init=None)  # the weights themselves do not matter
    size = recipe.crop or tuple(side // recipe.downscale for side in args.size)
    work, rows = flop(recipe, size), []
    with progress_bar(2 * len(BATCHES), "steps on fake tensors", "step") as bar:
        for precision, batch in product(("fp32", "bf16"), BATCHES):
            found = memory(recipe, batch, size, precision)
            cards = ", ".join(str(card) for card in CARDS if needed(found) <= card * GIB)
            gib = [f"{found[k] / GIB:.2f} GiB" for k in ("parameters", "activations", "peak")]
            fits = f"{cards} GB" if cards else "none of these"
            rows.append([batch, precision, *gib, f"{work / 1e12:.2f}", fits])
            bar.update()
    head = ["images per GPU", "", "parameters", "activations", "peak memory", "TFLOP per image"]
    memory_table = table([*head, "fits on"], rows, 7)
    rates = found["parameters"], args.tflops * 1e12, args.bandwidth * 1e9
    rows = []
    for gpus in GPUS:
        times = (epoch(args.images, n, gpus, work, *rates) for n in BATCHES)
        rows.append([gpus, *(f"{seconds:.3g} s, {talk:.0%}" for seconds, talk in times)])
    time_table = table(["GPUs", *(f"{n} per GPU" for n in BATCHES)], rows, len(BATCHES) + 1)
    full, rows = tuple(side // recipe.downscale for side in args.size), []
    forward = flop(recipe, full) / 3  # the backward pass takes twice as long
    for gpus in GPUS:
        seconds, _ = epoch(args.images, 1, gpus, work, *rates)
        rows.append(node(gpus, work, forward, seconds, full[0] * full[1], rates[1]))
    head = ["GPUs", "images a node", "from the cache", "from PNG", "evaluation"]
    node_table = table([*head, "a node fails once in"], rows, 6)
    print(f"""Computed, not measured; docs/distributed.md explains the columns.

A training step of a U-Net of width {recipe.width} on images of {size[0]}x{size[1]}:

{memory_table}

An epoch of {args.images} images, and the largest part of it that communication can take, with
{args.tflops:g} TFLOP/s and {args.bandwidth:g} GB/s per GPU:

{time_table}

Each node of {GPUS_PER_NODE} GPUs, and an evaluation of {VAL} images:

{node_table}""")


if __name__ == "__main__":
    main()

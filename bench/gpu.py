"""A training step on a GPU: ours in each precision, the baseline's, and two libraries'.

    pip install --requirement bench/requirements.txt
    python -m bench.gpu

Images of 512x1024, batch 8, width 64, as recipes/cityscapes.yaml has them; a smaller card takes
`--batch 2`. All take turns, each in a process of its own, which has the card to itself; nothing
else should run there. Prints a table and writes it to bench/table-gpu.md.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.amp import GradScaler
from torch.utils.flop_counter import FlopCounterMode

from bench.peers import LABELS, make
from bench.plain import plain_step
from bench.plan import GIB, OneBatch
from bench.timing import machine, started
from bench.training import random_batch
from engine import Loss, Recipe, Trainer, train_one_epoch
from engine.optimizer import make_optimizer
from runtime.precision import DTYPES, Autocast, pick_precision

SIZE, ROUNDS, WARM_UP, STEPS, GEMM_SIZE = (512, 1024), 3, 5, 20, 8192


class Mode(NamedTuple):
    """How a network is trained; ours is always channels-last."""

    precision: str = "fp32"
    tf32: bool = False
    channels_last: bool = False
    compiled: bool = False

    def __str__(self) -> str:
        name = "TF32" if self.tf32 and self.precision == "fp32" else self.precision
        return name + ", channels-last" * self.channels_last + ", compiled" * self.compiled


class Setting(NamedTuple):
    """What all contenders have in common."""

    device: torch.device
    batch: int
    width: int = 64
    size: tuple[int, int] = SIZE
    warm_up: int = WARM_UP
    steps: int = STEPS


def contenders(fast: str) -> list[tuple[str, Mode]]:
    """Networks and modes. `fast` is the precision that the card is fast in.

    The libraries' as they come (cuDNN's default is TF32), and in what should be their best mode.
    """
    ours = [Mode("fp32", False, True), Mode("fp32", True, True)]
    plain = [Mode("fp32"), Mode("fp32", True)]
    peers = [Mode("fp32", True)]
    if fast != "fp32":
        best = Mode(fast, True, True)
        ours += [best, best._replace(compiled=True)]
        plain += [best._replace(channels_last=False), best, best._replace(compiled=True)]
        peers += [best]
    modes = {"ours": ours, "baseline": plain, "smp": peers, "monai": peers}
    return [(name, mode) for name, several in modes.items() for mode in several]


def our_steps(model: nn.Module, mode: Mode, setting: Setting, batch: tuple) -> Callable:
    """A function of n that takes n steps as `engine.fit` does on one GPU."""
    optimizer, scheduler = make_optimizer(Recipe(), model, 1)
    scaler = GradScaler(setting.device.type, enabled=mode.precision == "fp16")
    net = Autocast(model, mode.precision)
    trainer = Trainer(net, Loss(), optimizer, scheduler, scaler)

    def run(n: int) -> None:
        train_one_epoch(trainer, OneBatch([batch] * n))

    return run


def plain_steps(model: nn.Module, mode: Mode, setting: Setting, batch: tuple) -> Callable:
    """A function of n that takes n steps of `plain_step`, in fp16 without a scaler."""
    optimizer, dtype = torch.optim.Adam(model.parameters(), fused=True), DTYPES[mode.precision]
    step = partial(plain_step, model, optimizer, dtype=dtype)

    def run(n: int) -> None:
        for _ in range(n):
            images, labels = (part.to(setting.device, non_blocking=True) for part in batch)
            step(images, labels.long())

    return run


def prepare(name: str, mode: Mode, setting: Setting) -> Callable:
    """The function that is timed: a contender's turn.

    It returns images a second and the peak of memory in bytes, or None if that was not enough.
    """
    torch.backends.cudnn.benchmark = True  # as `engine.fit` has it for images of one size
    torch.backends.cudnn.allow_tf32 = mode.tf32
    batch = random_batch(setting.batch, setting.size)
    if setting.device.type == "cuda":
        batch = tuple(part.pin_memory() for part in batch)
    model = make(name, setting.width).to(setting.device)
    if mode.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if mode.compiled:
        model.compile()
    steps = (our_steps if name == "ours" else plain_steps)(model.train(), mode, setting, batch)

    def turn() -> tuple[float, int] | None:
        try:
            steps(setting.warm_up)
            seconds = timed(partial(steps, setting.steps), setting.device)
        except torch.OutOfMemoryError:
            return None
        on_gpu = setting.device.type == "cuda"
        peak = torch.cuda.max_memory_allocated() if on_gpu else 0
        return setting.batch * setting.steps / seconds, peak

    return turn


def timed(work: Callable, device: torch.device) -> float:
    """Seconds until the device has done `work`."""
    wait = torch.cuda.synchronize if device.type == "cuda" else int
    wait()
    start = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - start


def gemm(precision: str, device: torch.device, n: int) -> Callable:
    """Returns the FLOP/s of products of n x n matrices: what the card's units can do."""

    def turn() -> float:
        a, b = torch.randn(2, n, n, device=device, dtype=DTYPES[precision])
        multiply = partial(torch.matmul, a, b)
        timed(multiply, device)
        return 2 * n**3 / statistics.median(timed(multiply, device) for _ in range(20))

    return turn


def count(name: str, setting: Setting) -> tuple[int, int]:
    """A network's parameters, and the floating-point operations of a step on one image."""
    with torch.device("meta"):  # shapes without data
        model, images = make(name, setting.width), torch.empty(1, 3, *setting.size)
        with FlopCounterMode(display=False) as counter:
            model(images).sum().backward()
    return sum(p.numel() for p in model.parameters()), counter.get_total_flops()


def measure(setting: Setting, rounds: int, fast: str, gemm_size: int = GEMM_SIZE) -> list[str]:
    """The table's lines. Each turn is a process, so that a card's memory is free for the next."""
    turns = {contender: partial(prepare, *contender, setting) for contender in contenders(fast)}
    turns["gemm"] = partial(gemm, fast, setting.device, gemm_size)
    found = {contender: [] for contender in turns}
    for i in range(rounds):
        for contender, preparation in turns.items():
            print(f"round {i + 1} of {rounds}: {contender}", file=sys.stderr)
            with started({"this": preparation}) as turn:
                found[contender].append(turn("this")[2])
    rate = statistics.median(found.pop("gemm"))
    counts = {name: count(name, setting) for name in {name for name, _ in found}}
    (height, width), n = setting.size, gemm_size
    return [
        *table(found, counts, rate),
        "",
        f"A training step on {setting.batch} images of {height}x{width}, width {setting.width} "
        "(ours and the baseline), copied from pinned memory; the median of "
        f"{rounds} turns of {setting.steps} steps, cuDNN's benchmark on. The matrix rate, "
        f"{rate / 1e12:.3g} TFLOP/s, is that of {n}x{n} products in {fast}.",
    ]


def table(found: dict[tuple, list], counts: dict[str, tuple], rate: float) -> list[str]:
    """Markdown, of what the turns and `count` returned, and the FLOP/s of matrix products."""
    lines = [
        "| network | mode | images/s | TFLOP/s | of the matrix rate | peak memory |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for (name, mode), results in found.items():
        parameters, flop = counts[name]
        what = f"{LABELS[name]} ({parameters / 1e6:.1f} M, {flop / 1e12:.2g} TFLOP/image)"
        if None in results:
            lines.append(f"| {what} | {mode} | out of memory | | | |")
            continue
        speed = statistics.median(images for images, _ in results)
        peak = max(peak for _, peak in results) / GIB
        lines.append(
            f"| {what} | {mode} | {speed:.3g} | {speed * flop / 1e12:.3g} "
            f"| {speed * flop / rate:.0%} | {peak:.1f} GiB |"
        )
    return lines


def card(device: torch.device) -> str:
    """The GPU's name, memory and compute capability, and the software."""
    it, version = torch.cuda.get_device_properties(device), torch.backends.cudnn.version()
    return (
        f"{it.name}, {it.total_memory / GIB:.0f} GiB, compute capability {it.major}.{it.minor}; "
        f"CUDA {torch.version.cuda}, cuDNN {version}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=8, help="images a step (8)")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit(
            "error: this measures an NVIDIA GPU, and PyTorch finds none here: run it where "
            "`nvidia-smi` lists one, with a PyTorch for CUDA (`python -m bench` is for CPUs)"
        )
    device = torch.device("cuda")
    setting = Setting(device, args.batch)
    lines = measure(setting, ROUNDS, pick_precision("auto", device))
    text = "\n".join([*lines, "", f"{card(device)}; {machine()}", ""])
    print(text, end="")
    Path(__file__).with_name("table-gpu.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

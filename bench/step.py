"""A training step at batch 8, 368x480: ours, the baseline, and two libraries.

python -m bench.step
"""

from collections.abc import Callable
from functools import partial

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.peers import LABELS, make
from bench.timing import GEMM_FLOP, Row, gemm, table, take_turns
from bench.training import CPU, in_memory, our_epoch, random_batch
from engine import Recipe
from runtime.precision import cpu_has_bf16, pick_precision
from tests.plain import plain_step

BATCH, SIZE, WIDTH, ROUNDS = 8, (368, 480), 16, 3


def our_training(converted: bool = True) -> Callable:
    """Our step; `converted` as in `our_epoch`."""
    loader = in_memory(*random_batch(BATCH, SIZE))
    return our_epoch(Recipe(), make("ours", WIDTH), loader, converted)


def plain_training(name: str, tuned: bool = False) -> Callable:
    """The baseline's step on a contender's network.

    `tuned`: in channels_last layout, and under bf16 autocast where the CPU has bf16.
    """
    model = make(name, WIDTH)
    if tuned:
        model = model.to(memory_format=torch.channels_last)
    images, labels = random_batch(BATCH, SIZE)
    optimizer = torch.optim.Adam(model.parameters())
    dtype = torch.bfloat16 if tuned and cpu_has_bf16() else torch.float32
    return partial(plain_step, model, optimizer, images, labels.long(), dtype)


def count_flop(name: str) -> float:
    """Floating-point operations of a step, per image: forward and backward."""
    model = make(name, WIDTH)
    images = torch.rand(1, 3, *SIZE)
    with FlopCounterMode(display=False) as counter:
        model(images).sum().backward()
    return float(counter.get_total_flops())


def measure() -> tuple[list[Row], list[str]]:
    """Rows and notes for `table`."""
    names = ["baseline", "smp", "monai"]
    contenders = {name: partial(plain_training, name) for name in names}
    contenders |= {f"{name} tuned": partial(plain_training, name, True) for name in names}
    contenders |= {"ours": our_training, "gemm": gemm}
    converts = torch.backends.cpu.get_cpu_capability() == "AVX2"
    if converts:
        contenders["unconverted"] = partial(our_training, converted=False)
    found = take_turns(contenders, ROUNDS)
    rate = GEMM_FLOP / found.pop("gemm")["median"]
    speed = {name: BATCH / times["median"] for name, times in found.items()}
    flop = {name: count_flop(name) for name in ("ours", *names)}
    weights = {name: sum(p.numel() for p in make(name, WIDTH).parameters()) for name in flop}

    precision = pick_precision("auto", CPU)
    bf16 = precision == "bf16"
    goals = {"baseline": "≥ 3.3", "baseline tuned": "≥ 1.5"} if bf16 else {"baseline": "≥ 2"}
    modes = {"": "fp32", " tuned": f"{precision}, channels_last"}
    against = {
        f"{name}{mode}": f"{LABELS[name]}, {what} ({weights[name] / 1e6:.1f} M parameters, "
        f"{flop[name] / 1e9:.0f} GFLOP/image)"
        for name in names
        for mode, what in modes.items()
    }
    if converts:
        against["unconverted"] = "ours without runtime.cpu.convert"
    rows = [
        Row(
            f"Training step, ours in {precision}, against {what}",
            *(speed["ours"], speed[name], "images/s", speed["ours"] / speed[name]),
            goals.get(name, ""),
        )
        for name, what in against.items()
    ]
    ours = flop["ours"] * speed["ours"]
    size = f"{weights['ours'] / 1e6:.1f} M parameters, {flop['ours'] / 1e9:.0f} GFLOP/image"
    what = f"Rate of our step ({size}) against a 2048³ matrix product in {precision}"
    rows.append(Row(what, ours / 1e9, rate / 1e9, "GFLOP/s", ours / rate, "" if bf16 else "≥ 0.8"))
    memory = [f"{found[name]['peak_memory'] / 2**30:.1f} GiB" for name in ("ours", "baseline")]
    return rows, [
        f"At its peak the training process took {memory[0]} of memory with ours (which keeps freed "
        f"memory for the next step) and {memory[1]} with the baseline: batch {BATCH}, "
        f"{SIZE[0]}x{SIZE[1]}, width {WIDTH}."
    ]


if __name__ == "__main__":
    print(table(*measure()))

"""A training step at batch 8, 368x480: ours, the baseline, and two libraries.

python -m bench.step
"""

from collections.abc import Callable
from functools import partial

import torch

from bench.peers import LABELS, count, make
from bench.timing import GEMM_FLOP, Row, gemm, table, take_turns
from bench.training import CPU, Batches, our_epoch, random_batch
from engine import Recipe
from runtime.precision import cpu_has_bf16, pick_precision
from tests.plain import plain_step

BATCH, SIZE, WIDTH, ROUNDS = 8, (368, 480), 16, 3


def our_training(converted: bool = True) -> Callable:
    """Our step; `converted` as in `our_epoch`."""
    loader = Batches([random_batch(BATCH, SIZE)])
    return our_epoch(Recipe(), make("ours", WIDTH), loader, converted=converted)


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
    rate = GEMM_FLOP / found.pop("gemm").seconds
    speed = {name: BATCH / timing.seconds for name, timing in found.items()}

    precision = pick_precision("auto", CPU)
    work = {}  # name -> operations of a step on one image
    against = {}  # contender -> what it is
    for name in ("ours", *names):
        weights, work[name] = count(name, WIDTH, SIZE)
        size = f"{weights / 1e6:.1f} M parameters, {work[name] / 1e9:.0f} GFLOP/image"
        against[name] = f"{LABELS[name]}, fp32 ({size})"
        against[f"{name} tuned"] = f"{LABELS[name]}, {precision}, channels_last ({size})"
    against["unconverted"] = "ours without runtime.cpu.convert"
    goals = {"baseline": "≥ 2"}
    if precision == "bf16":
        goals = {"baseline": "≥ 3.3", "baseline tuned": "≥ 1.5"}
    rows = [
        Row(
            f"Training step, ours in {precision}, against {against[name]}",
            *(speed["ours"], other, "images/s", speed["ours"] / other, goals.get(name, "")),
        )
        for name, other in speed.items()
        if name != "ours"
    ]
    ours, goal = work["ours"] * speed["ours"], "" if precision == "bf16" else "≥ 0.8"
    what = f"Rate of our step against a 2048³ matrix product in {precision}"
    rows.append(Row(what, ours / 1e9, rate / 1e9, "GFLOP/s", ours / rate, goal))
    memory = [f"{found[name].peak_memory / 2**30:.1f} GiB" for name in ("ours", "baseline")]
    return rows, [
        f"At its peak the training process took {memory[0]} of memory with ours (which keeps freed "
        f"memory for the next step) and {memory[1]} with the baseline: batch {BATCH}, "
        f"{SIZE[0]}x{SIZE[1]}, width {WIDTH}."
    ]


if __name__ == "__main__":
    print(table(*measure()))

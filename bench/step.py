"""A training step at batch 8, 368x480: ours, the baseline, and two libraries.

python -m bench.step
"""

from collections.abc import Callable
from functools import partial

import torch

from bench.peers import LABELS, count, make
from bench.timing import GEMM_FLOP, Row, against_ours, gemm, table, take_turns
from bench.training import CPU, Batches, our_epoch, random_batch
from engine import Recipe
from runtime.precision import cpu_has_bf16, pick_precision
from tests.plain import plain_step

BATCH, SIZE, WIDTH, ROUNDS = 8, (368, 480), 16, 3


def our_training(converted: bool = True) -> Callable:
    """Our step; `converted` as in `our_epoch`."""
    loader = Batches([random_batch(BATCH, SIZE)])
    return our_epoch(Recipe(), make("ours", WIDTH), loader, converted=converted)


def plain_training(name: str, tuned: bool) -> Callable:
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
    precision, contenders = pick_precision("auto", CPU), {"ours": our_training, "gemm": gemm}
    for name in ("baseline", "smp", "monai"):
        weights, flop = count(name, WIDTH, SIZE)
        size = f"{weights / 1e6:.1f} M parameters, {flop / 1e9:.0f} GFLOP/image"
        for tuned, how in ((False, "fp32"), (True, f"{precision}, channels_last")):
            what = f"{LABELS[name]}, {how} ({size})"
            contenders[what] = partial(plain_training, name, tuned)
    if torch.backends.cpu.get_cpu_capability() == "AVX2":
        contenders["ours without runtime.cpu.convert"] = partial(our_training, converted=False)
    found = take_turns(contenders, ROUNDS)
    product, mine, plain, *_ = found.pop("gemm"), *found.values()
    goals = ["≥ 3.3", "≥ 1.5"] if precision == "bf16" else ["≥ 2", ""]
    goals = dict(zip([*found][1:3], goals, strict=True))  # of the baseline's
    what = f"Training step, ours in {precision}, against"
    rows = against_ours(what, found, images=BATCH, goals=goals)
    ours = count("ours", WIDTH, SIZE)[1] * BATCH / mine.seconds / 1e9
    rate, goal = GEMM_FLOP / product.seconds / 1e9, "" if precision == "bf16" else "≥ 0.8"
    what = f"Rate of our step against a 2048³ matrix product in {precision}"
    rows.append(Row(what, ours, rate, "GFLOP/s", ours / rate, goal))
    memory = [f"{peak / 2**30:.1f} GiB" for _, peak in (mine, plain)]
    return rows, [
        f"At its peak the training process took {memory[0]} of memory with ours (which keeps freed "
        f"memory for the next step) and {memory[1]} with the baseline: batch {BATCH}, "
        f"{SIZE[0]}x{SIZE[1]}, width {WIDTH}."
    ]


if __name__ == "__main__":
    print(table(*measure()))

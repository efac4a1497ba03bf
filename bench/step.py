"""A training step at batch 8, 368x480: ours, the baseline, and two libraries.

python -m bench.step
"""

from functools import partial

import torch

from bench.peers import LABELS, count
from bench.timing import GEMM_FLOP, Row, against_ours, gemm, table, take_turns
from bench.training import CPU, Mode, contender, random_batch
from runtime.precision import pick_precision

BATCH, SIZE, WIDTH, ROUNDS = 8, (368, 480), 16, 3


def measure() -> tuple[list[Row], list[str]]:
    """Rows and notes for `table`."""
    precision, on = pick_precision("auto", CPU), (CPU, random_batch(BATCH, SIZE), WIDTH)
    as_it_comes, tuned = Mode(), Mode(precision, channels_last=True)
    contenders = {"ours": partial(contender, "ours", tuned, *on), "gemm": gemm}
    for name in ("baseline", "smp", "monai"):
        weights, flop = count(name, WIDTH, SIZE)
        size = f"{weights / 1e6:.1f} M parameters, {flop / 1e9:.0f} GFLOP/image"
        for mode in (as_it_comes, tuned):
            what = f"{LABELS[name]}, {mode} ({size})"
            contenders[what] = partial(contender, name, mode, *on)
    if torch.backends.cpu.get_cpu_capability() == "AVX2":
        what = "ours without runtime.cpu.convert"
        contenders[what] = partial(contenders["ours"], converted=False)
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

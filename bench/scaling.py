"""What distribution costs on this machine: DDP against one process for the same work.

    python -m bench.scaling [--width 16] [--steps 10]

Prints seconds per step, images per second and the bytes that a process sends. All contenders take
the same batch, in turns, and the median over all rounds counts. Goals: with one process, a step
under DDP costs at most 1.05 times the one without; as many processes as cores reach at least 0.9
times the images per second of one process with as many threads.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

from torch import distributed as dist

from bench.training import Batches, our_epoch, random_batch
from engine import Recipe, make_model
from runtime.console import command_line
from runtime.cpu import available_cores
from runtime.distributed import is_distributed, is_main, process_group, rank, world_size
from runtime.machine import ROOT, machine

BATCH, SIZE, ROUNDS, WARM_UP = 8, (240, 320), 3, 2


def work(width: int, steps: int) -> None:
    """Train `steps` steps on random images; the main process prints its times as JSON."""
    with process_group():
        recipe = Recipe(width=width, loss="cross_entropy+dice")
        model = make_model(recipe)
        images, labels = random_batch(BATCH, SIZE)
        mine = slice(rank(), None, world_size())
        step = our_epoch(recipe, model, Batches([(images[mine], labels[mine])]))
        seconds = []
        for _ in range(WARM_UP + steps):
            if is_distributed():
                dist.barrier()
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
        if is_main():
            n = world_size()  # a ring all-reduce sends 2 (n - 1) / n of the gradients
            sent = 4 * sum(p.numel() for p in model.parameters()) * 2 * (n - 1) / n
            print(json.dumps({"seconds": seconds[WARM_UP:], "bytes": sent}))


def launch(processes: int, threads: int, args: list[str]) -> dict:
    """Run `work` in new processes: under torchrun, or for 0 in one without it."""
    command = [sys.executable, "-m"]
    if processes:
        command += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    done = subprocess.run(
        [*command, "bench.scaling", "--work", *args],
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--steps", type=int, default=10, help="in each round")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        return work(args.width, args.steps)

    cores = available_cores()
    contenders = {
        f"one process, {cores} threads": (0, cores),
        f"the same under DDP, {cores} threads": (1, cores),
        f"{cores} processes of 1 thread": (cores, 1),
    }
    found, sent = {name: [] for name in contenders}, {}
    for _ in range(ROUNDS):
        for name, (processes, threads) in contenders.items():
            passed = [f"--width={args.width}", f"--steps={args.steps}"]
            result = launch(processes, threads, passed)
            found[name] += result["seconds"]
            sent[name] = result["bytes"] / 1e6
    alone, ddp, divided = medians = [statistics.median(seconds) for seconds in found.values()]
    print("| | s per step | images/s | against the first | MB that a process sends a step |")
    print("|---|---|---|---|---|")
    for (name, seconds), median in zip(found.items(), medians, strict=True):
        print(
            f"| {name} | {median:.3f} ({min(seconds):.3f}..{max(seconds):.3f}) | "
            f"{BATCH / median:.1f} | {alone / median:.2f} x | {sent[name]:.1f} |"
        )
    print(
        f"\nU-Net of width {args.width}, {BATCH} images of {SIZE[0]}x{SIZE[1]} a step, "
        f"{ROUNDS} rounds of {args.steps} steps; {machine()}\n"
    )
    for goal, met, ratio in (
        ("a step under DDP costs at most 1.05 of one without", ddp <= 1.05 * alone, ddp / alone),
        ("the processes reach 0.9 of the images/s", divided <= alone / 0.9, alone / divided),
    ):
        print(f"{'met' if met else 'MISSED'}: {goal}: {ratio:.3f}")


if __name__ == "__main__":
    main()

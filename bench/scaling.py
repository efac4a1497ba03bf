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
from runtime.console import command_line, table
from runtime.cpu import available_cores
from runtime.distributed import is_distributed, is_main, process_group, rank, world_size
from runtime.machine import ROOT, machine

BATCH, SIZE, ROUNDS, WARM_UP = 8, (240, 320), 3, 2


def work(width: int, steps: int) -> None:
    """Train `steps` steps on random images; the main process prints its times as JSON."""
    with process_group():
        recipe = Recipe(width=width, loss="cross_entropy+dice")
        model = make_model(recipe)
        mine = [part[rank() :: world_size()] for part in random_batch(BATCH, SIZE)]
        step = our_epoch(recipe, model, Batches([mine]))
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
    contenders = {  # processes, threads of each, and the least part of the first's speed
        f"one process, {cores} threads": (0, cores, 1),
        f"the same under DDP, {cores} threads": (1, cores, 1 / 1.05),
        f"{cores} processes of 1 thread": (cores, 1, 0.9),
    }
    passed = [f"--width={args.width}", f"--steps={args.steps}"]
    found = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, (processes, threads, _) in contenders.items():
            found[name].append(launch(processes, threads, passed))
    rows, alone = [], None
    for name, (*_, goal) in contenders.items():
        seconds = [second for each in found[name] for second in each["seconds"]]
        median = statistics.median(seconds)
        alone, sent = alone or median, found[name][0]["bytes"] / 1e6
        spread = f"{median:.3f} ({min(seconds):.3f}..{max(seconds):.3f})"
        speed = f"{alone / median:.2f} (goal: {goal:.2f})"
        rows.append([name, spread, f"{BATCH / median:.1f}", speed, f"{sent:.1f}"])
    head = ["", "s per step", "images/s", "speed against the first", "MB sent by a process a step"]
    print(table(head, rows))
    print(
        f"\nU-Net of width {args.width}, {BATCH} images of {SIZE[0]}x{SIZE[1]} a step, "
        f"{ROUNDS} rounds of {args.steps} steps; {machine()}"
    )


if __name__ == "__main__":
    main()

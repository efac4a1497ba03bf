"""What distribution costs on this machine: DDP against one process for the same work.

    python -m bench.scaling

Prints seconds per step and images per second. All contenders take the same batch, in turns, and the
median over all rounds counts. Goals: with one process, a step under DDP costs at most 1.05 times
the one without; as many processes as cores reach at least 0.9 times the images per second of one
process with as many threads.
"""

import json
import os
import statistics
import subprocess
import sys
import time

from torch import distributed as dist

from bench.training import Batches, our_epoch, random_batch
from engine import Recipe, make_model
from runtime.console import table
from runtime.cpu import available_cores
from runtime.distributed import is_distributed, is_main, process_group, rank, world_size
from runtime.machine import ROOT, machine

BATCH, SIZE, WIDTH = 8, (240, 320), 16
ROUNDS, WARM_UP, STEPS = 3, 2, 10


def work() -> None:
    """Train on random images; the main process prints the seconds of each step as JSON."""
    with process_group():
        recipe = Recipe(width=WIDTH, loss="cross_entropy+dice")
        mine = [part[rank() :: world_size()] for part in random_batch(BATCH, SIZE)]
        step, seconds = our_epoch(recipe, make_model(recipe), Batches([mine])), []
        for _ in range(WARM_UP + STEPS):
            if is_distributed():
                dist.barrier()
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
        if is_main():
            print(json.dumps(seconds[WARM_UP:]))


def launch(processes: int, threads: int) -> list[float]:
    """Run `work` in new processes: under torchrun, or for 0 in one without it."""
    torchrun = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    command = [sys.executable, "-m", *(torchrun if processes else []), "bench.scaling", "--work"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def main() -> None:
    cores = available_cores()
    contenders = {  # processes, threads of each, and the least part of the first's speed
        f"one process, {cores} threads": (0, cores, 1),
        f"the same under DDP, {cores} threads": (1, cores, 1 / 1.05),
        f"{cores} processes of 1 thread": (cores, 1, 0.9),
    }
    found = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, (processes, threads, _) in contenders.items():
            found[name] += launch(processes, threads)
    rows, alone = [], statistics.median(next(iter(found.values())))
    for (name, (*_, goal)), seconds in zip(contenders.items(), found.values(), strict=True):
        median = statistics.median(seconds)
        spread = f"{median:.3f} ({min(seconds):.3f}..{max(seconds):.3f})"
        rows.append([name, spread, f"{BATCH / median:.1f}", f"{alone / median:.2f}", f"{goal:.2f}"])
    print(table(["", "s per step", "images/s", "speed against the first", "goal"], rows))
    print(
        f"\nU-Net of width {WIDTH}, {BATCH} images of {SIZE[0]}x{SIZE[1]} a step, "
        f"{ROUNDS} rounds of {STEPS} steps; {machine()}"
    )


if __name__ == "__main__":
    work() if "--work" in sys.argv else main()

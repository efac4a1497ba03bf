"""What distribution costs on this machine: DDP against one process for the same work.

    python bench/scaling.py [--width 16] [--steps 12]

Prints seconds per step, images per second and what a step sends. Goals: a step under DDP with one
process costs at most 1.05 of the plain one; two processes on two cores reach at least 0.9 of the
images per second of one process with two threads. All take the same batches, in turn, and the
median over the rounds counts.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import distributed as dist

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the project's modules

from distributed import (  # noqa: E402
    add_up,
    is_distributed,
    is_main,
    parallel,
    process_group,
    rank,
    world_size,
)
from losses import criterion  # noqa: E402
from recipe import Recipe, make_model  # noqa: E402
from speed import keep_freed_memory  # noqa: E402


def work(width: int, batch: int, size: tuple[int, int], steps: int) -> None:
    """Train `steps` steps on random pictures; the main process prints its times as JSON."""
    keep_freed_memory()
    with process_group():
        model = make_model(Recipe(width=width))
        sent = {"bytes": 4 * sum(p.numel() for p in model.parameters()) if is_distributed() else 0}
        net = parallel(model)
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(256, (batch, 3, *size), dtype=torch.uint8, generator=generator)
        labels = torch.randint(19, (batch, *size), dtype=torch.uint8, generator=generator)
        images, labels = images[rank() :: world_size()], labels[rank() :: world_size()]
        seconds = []
        for _ in range(steps + 2):
            if is_distributed():
                dist.barrier()
            start = time.perf_counter()
            value = criterion(net(images), labels, "cross_entropy+dice", add_up)
            optimizer.zero_grad()
            (value * world_size()).backward()
            optimizer.step()
            seconds.append(time.perf_counter() - start)
        if is_main():
            print(json.dumps({"seconds": seconds[2:], **sent}))


def launch(processes: int, threads: int, args: list[str]) -> dict:
    """`work` in processes of their own: one as it is for 0, else under torchrun."""
    command = [sys.executable]
    if processes:
        command += ["-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={processes}", "--"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [*command, __file__, "--work", *args], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8, help="images a step, of all processes")
    parser.add_argument("--size", type=int, nargs=2, default=(240, 320))
    parser.add_argument("--steps", type=int, default=10, help="in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        return work(args.width, args.batch, tuple(args.size), args.steps)

    passed = [f"--width={args.width}", f"--batch={args.batch}", f"--steps={args.steps}"]
    passed += ["--size", *map(str, args.size)]
    cores = os.cpu_count()
    setups = {
        f"one process, {cores} threads": (0, cores),
        f"the same under DDP, {cores} threads": (1, cores),
        f"{cores} processes of 1 thread": (cores, 1),
    }
    found = {name: [] for name in setups}
    sent = {}
    for _ in range(args.rounds):
        for name, (processes, threads) in setups.items():
            result = launch(processes, threads, passed)
            found[name] += result["seconds"]
            sent[name] = result["bytes"] * 2 * (processes - 1) / processes if processes else 0
    plain, *_ = medians = [statistics.median(seconds) for seconds in found.values()]
    print(
        f"{cores} cores, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}: U-Net of width "
        f"{args.width}, {args.batch} pictures of {args.size[0]}x{args.size[1]} a step, "
        f"{args.rounds} rounds of {args.steps} steps\n"
    )
    print("| | s per step | images/s | against the first | MB that a process sends a step |")
    print("|---|---|---|---|---|")
    for (name, seconds), median in zip(found.items(), medians, strict=True):
        print(
            f"| {name} | {median:.3f} ({min(seconds):.3f}..{max(seconds):.3f}) | "
            f"{args.batch / median:.1f} | {plain / median:.2f} x | {sent[name] / 1e6:.1f} |"
        )
    goals = (medians[1] / plain <= 1.05, plain / medians[2] >= 0.9)
    for goal, met, value in (
        ("a step under DDP costs at most 1.05 of the plain one", goals[0], medians[1] / plain),
        ("the processes reach at least 0.9 of the images/s", goals[1], plain / medians[2]),
    ):
        print(f"\n{'met' if met else 'MISSED'}: {goal}: {value:.3f}", end="")
    print()


if __name__ == "__main__":
    main()

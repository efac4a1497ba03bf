"""Honest times: every contender in a process of its own, taking turns in one run."""

import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from datetime import date

import torch


def take_turns(contenders: dict[str, Callable], rounds: int, warm_up: int = 1) -> dict[str, dict]:
    """Time each contender `rounds` times, in alternation, so that the machine's moods hit all.

    Args:
        contenders: name -> a picklable function that prepares and returns a function of no
            arguments: what is timed. Each lives in a process of its own, so that none inherits
            another's allocator, threads or caches; only one of them works at a time.

    Returns:
        name -> seconds (all rounds), median, and peak_memory, the process's largest resident set
        in bytes.
    """
    context = multiprocessing.get_context("spawn")
    processes, seconds, peaks = {}, {name: [] for name in contenders}, {}
    for name, prepare in contenders.items():
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, prepare), daemon=True)
        process.start()
        theirs.close()  # so that a contender's death ends `recv` below
        processes[name] = process, ours
        for _ in range(warm_up):
            ours.send("go")
            ours.recv()
    for _ in range(rounds):
        for name, (_, pipe) in processes.items():
            pipe.send("go")
            spent, peaks[name] = pipe.recv()
            seconds[name].append(spent)
    for process, pipe in processes.values():
        pipe.send("stop")
        process.join()
    return {
        name: {"seconds": s, "median": statistics.median(s), "peak_memory": peaks[name]}
        for name, s in seconds.items()
    }


def _serve(pipe, prepare: Callable) -> None:
    run = prepare()
    while pipe.recv() == "go":
        start = time.perf_counter()
        run()
        spent = time.perf_counter() - start
        pipe.send((spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def gemm() -> Callable:
    """A 2048 x 2048 x 2048 float32 matrix product, ten times: what the machine can do at most."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)

    def run() -> None:
        for _ in range(10):
            a @ b

    return run


GEMM_FLOP = 10 * 2 * 2048**3


def row(what: str, ours: float, other: float, unit: str, ratio: float, goal: str) -> dict:
    """A line of the table: `ratio` is how many times better ours is, unless `what` says more."""
    return {
        "what": what,
        "ours": ours,
        "other": other,
        "unit": unit,
        "ratio": ratio,
        "goal": goal,
    }


def table(rows: list[dict]) -> str:
    """Markdown, with the machine under it."""
    lines = ["| what | ours | the other | ratio | goal |", "|---|---:|---:|---:|---:|"]
    for r in rows:
        ours, other = (f"{r[key]:.3g} {r['unit']}".strip() for key in ("ours", "other"))
        lines.append(f"| {r['what']} | {ours} | {other} | {r['ratio']:.2f} | {r['goal']} |")
    return "\n".join([*lines, "", machine()])


def machine() -> str:
    """Cores, processor, PyTorch and date."""
    names = [s.split(":")[1].strip() for s in _cpuinfo() if s.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores ({processor}), PyTorch {torch.__version__}, {date.today()}"


def _cpuinfo() -> list[str]:
    if not os.path.exists("/proc/cpuinfo"):
        return []
    with open("/proc/cpuinfo") as file:
        return file.read().splitlines()

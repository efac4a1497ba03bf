"""Fair timing: every contender in a process of its own, taking turns within one run."""

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from runtime import console
from runtime.machine import commit, machine


class Timing(NamedTuple):
    """The median of a contender's turns, and the largest resident set of its process."""

    seconds: float
    peak_memory: int  # bytes


def take_turns(contenders: dict[str, Callable], rounds: int, warm_up: int = 1) -> dict[str, Timing]:
    """Time each contender `rounds` times, in alternation, so that a slow spell hits them all.

    Args:
        contenders: as `started` takes them.
        warm_up: turns before the first one that counts.
    """
    seconds, peaks = {name: [] for name in contenders}, {}
    with started(contenders) as turn:
        for name in contenders:
            for _ in range(warm_up):
                turn(name)
        for _ in range(rounds):
            for name in contenders:
                spent, peaks[name], _ = turn(name)
                seconds[name].append(spent)
    return {name: Timing(statistics.median(s), peaks[name]) for name, s in seconds.items()}


@contextmanager
def started(contenders: dict[str, Callable]) -> Iterator[Callable]:
    """Start a process for each contender; yields a function that lets one of them take a turn.

    Args:
        contenders: name -> a picklable function that prepares, and returns the function of no
            arguments that is timed. Each has a process of its own, so that none inherits
            another's allocator, threads or caches. Only one of them works at a time.

    Yields `turn(name) -> (seconds, peak memory in bytes, what the timed function returned)`. It
    raises EOFError if the contender died; the contender's own message is on standard error.
    """
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for name, prepare in contenders.items():
        pipes[name], theirs = context.Pipe()
        processes.append(context.Process(target=_serve, args=(theirs, prepare)))
        processes[-1].start()
        theirs.close()  # so that `recv` ends when the contender does

    def turn(name: str) -> tuple:
        pipes[name].send("go")
        return pipes[name].recv()

    try:
        yield turn
    finally:
        for pipe in pipes.values():
            pipe.close()  # ends `_serve`
        for process in processes:
            process.join()


def _serve(pipe, prepare: Callable) -> None:
    run = prepare()
    while True:
        try:
            pipe.recv()
        except EOFError:
            return
        start = time.perf_counter()
        result = run()
        spent = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        pipe.send((spent, peak, result))


class Row(NamedTuple):
    """A line of the table: `ratio` is how many times better ours is, unless `what` says more."""

    what: str
    ours: float
    other: float
    unit: str
    ratio: float
    goal: str = ""


def against_ours(
    what: str, found: dict[str, Timing], images: int = 0, goals: dict | None = None
) -> list[Row]:
    """A row for each contender but ours, in `images` a second or, for 0, milliseconds.

    Args:
        goals: contender -> its goal.
    """
    mine, rows = found["ours"].seconds, []
    for name, (seconds, _) in found.items():
        if name != "ours":
            both = [images / s if images else 1e3 * s for s in (mine, seconds)]
            goal, unit = (goals or {}).get(name, ""), "images/s" if images else "ms"
            rows.append(Row(f"{what} {name}", *both, unit, seconds / mine, goal))
    return rows


def table(rows: list[Row], notes: list[str]) -> str:
    """Markdown, with the notes, the machine and the commit below."""
    cells = [
        [r.what, f"{r.ours:.3g} {r.unit}", f"{r.other:.3g} {r.unit}", f"{r.ratio:.2f}", r.goal]
        for r in rows
    ]
    lines = console.table(["what", "ours", "the other", "ratio", "goal"], cells)
    return "\n\n".join([lines, *notes, f"{machine()}, commit {commit()}"])

"""Fair timing: every contender in a process of its own, taking turns within one run."""

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def take_turns(contenders: dict[str, Callable], rounds: int, warm_up: int = 1) -> dict[str, float]:
    """Seconds of each contender, timed in alternation, so that a slow spell hits them all.

    Args:
        contenders: as `started` takes them.
        rounds: turns, of which the median counts.
        warm_up: turns before the first one that counts.
    """
    seconds = {name: [] for name in contenders}
    with started(contenders) as turn:
        for name in contenders:
            for _ in range(warm_up):
                turn(name)
        for _ in range(rounds):
            for name in contenders:
                seconds[name].append(turn(name)[0])
    return {name: statistics.median(turns) for name, turns in seconds.items()}


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

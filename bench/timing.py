"""Fair timing: every contender in a process of its own, taking turns within one run."""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context

_run = None  # of the contender whose process this is


def take_turns(contenders: dict[str, Callable], rounds: int, warm_up: int = 1) -> dict[str, float]:
    """Seconds of each contender, timed in alternation, so that a slow spell hits them all.

    Args:
        contenders: as `started` takes them.
        rounds: turns, of which the median counts.
        warm_up: turns before the first one that counts.
    """
    seconds = {name: [] for name in contenders}
    with started(contenders) as turn:
        for i in range(warm_up + rounds):
            for name in contenders:
                spent, *_ = turn(name)
                seconds[name] += [spent] * (i >= warm_up)
    return {name: statistics.median(turns) for name, turns in seconds.items()}


@contextmanager
def started(contenders: dict[str, Callable]) -> Iterator[Callable]:
    """A process for each contender; yields a function that lets one of them take a turn.

    Args:
        contenders: name -> a picklable function that prepares, and returns the function of no
            arguments that is timed. Each has a process of its own, so that none inherits
            another's allocator, threads or caches. Only one of them works at a time.

    Yields `turn(name) -> (seconds, peak memory in bytes, what the timed function returned)`. It
    raises BrokenProcessPool if the contender died; its own message is on standard error.
    """
    with ExitStack() as stack:
        pools = {
            name: stack.enter_context(
                ProcessPoolExecutor(1, get_context("spawn"), _prepare, (prepare,))
            )
            for name, prepare in contenders.items()
        }
        yield lambda name: pools[name].submit(_turn).result()


def _prepare(prepare: Callable) -> None:
    global _run
    _run = prepare()


def _turn() -> tuple:
    import resource  # which Windows has not: there docs/plan.py still imports this module

    start = time.perf_counter()
    result = _run()
    spent = time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024
    return spent, unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, result

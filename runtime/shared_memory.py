"""The shared memory through which loader workers hand over their batches; Docker gives 64 MB."""

import errno
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from torch import Tensor

FOLDER = "/dev/shm"  # noqa: S108 (on Linux; on other systems nothing but the memory limits it)
CURE = (
    "give the container more (`docker run --shm-size=8g` or `--ipc=host`), or read without loader "
    "workers (`workers: 0` in a recipe, `--workers 0` in the shell)"
)


def share(value: Tensor) -> Tensor:
    """`value` in shared memory, seen by all processes; on its own where none is left.

    There `affordable_workers` allows no process that could miss a change.
    """
    with suppress(RuntimeError):
        value.share_memory_()
    return value


def free_shared_memory() -> int | None:
    """Bytes that loader workers can fill; None where only the memory itself limits them."""
    if sys.platform != "linux":
        return None
    if not os.access(FOLDER, os.W_OK):  # not there, or closed: no process can pass a batch on
        return 0
    return shutil.disk_usage(FOLDER).free


def affordable_workers(workers: int, prefetch: int, batch_bytes: int, processes: int = 1) -> int:
    """As many of the loader `workers` of each process as shared memory has room for.

    Warns, with the cure, if that is not all of them. The loaders of a process take turns, so that
    each may count on all that is free.

    Args:
        prefetch: batches that a worker reads ahead.
        batch_bytes: of a batch of one process.
        processes: of this machine, each with such workers.
    """
    free = free_shared_memory()
    if free is None:
        return workers
    # Besides what is read ahead, a process holds the batch in use and the one that follows it.
    room = max(free // (processes * max(batch_bytes, 1)) - 2, 0) // prefetch
    if room < workers:
        needed = processes * (prefetch * workers + 2) * batch_bytes
        warnings.warn(
            f"{room} instead of {workers} loader workers: {FOLDER} has {free >> 20} MiB of shared "
            f"memory free, and they need {-(-needed >> 20)} MiB: {CURE}",
            stacklevel=2,
        )
    return min(workers, room)


@contextmanager
def lost_workers_named() -> Iterator[None]:
    """Within, or as a decorator: a loader worker that dies is a ChildProcessError with the cure.

    So is a batch or a queue that finds no shared memory.
    """
    try:
        yield
    except (BrokenPipeError, ChildProcessError):  # of the output, as by `| head`; named already
        raise
    except (RuntimeError, OSError, EOFError) as error:
        text = str(error).strip()
        lost = isinstance(error, ConnectionError | EOFError)  # while it handed over a batch
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC and not error.filename
        if not (lost or full or "DataLoader worker (pid" in text or "</torch_" in text):
            raise
        cause = text.splitlines()[-1] if text else "its connection ended"
        raise ChildProcessError(
            "a loader worker could not go on, most likely for lack of memory or of shared memory "
            f"({cause}): run the same command to go on; {CURE}"
        ) from error

"""What keeps a run whole: one run to a directory, and Ctrl-C between two steps.

The files themselves are `checkpoint.py`'s affair. Imports nothing of the project.
"""

import os
import platform
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, TypeVar

try:
    import fcntl
except ImportError:  # Windows, where two runs on one directory are not told apart
    fcntl = None

T = TypeVar("T")
_held: set[TextIO] = set()  # the lock files that this process holds
_stop_asked = False  # by a SIGINT since `finish_step` began


# One run to a directory


@contextmanager
def lock(run_dir: Path) -> Iterator[None]:
    """Make `run_dir` and hold it for this run alone: flock(2) on `run_dir/lock`.

    The file names the holder, and stays; the kernel lifts the lock when the process ends,
    however it ends. Raises BlockingIOError if another run holds it, OSError if nothing can be
    written there.
    """
    with _take(run_dir / "lock") as file:
        _held.add(file)
        try:
            yield
        finally:
            _held.discard(file)


def _take(path: Path) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+")
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
    except BlockingIOError:
        raise BlockingIOError(
            f"{path.parent} is in use by another run ({path.read_text().strip()}): "
            "wait for its end, stop it, or choose another run directory"
        ) from None
    except OSError as error:
        raise OSError(
            f"cannot write into {path.parent} ({error.strerror}): make room, get the permission "
            "to write there, or choose another run directory"
        ) from error
    return file


def _let_go() -> None:
    """In a loader worker just forked: it may outlive a killed run, and must not hold its lock."""
    while _held:
        _held.pop().close()


if fcntl is not None:
    os.register_at_fork(after_in_child=_let_go)


# Ctrl-C between two steps


@contextmanager
def finish_step() -> Iterator[None]:
    """Within: Ctrl-C (SIGINT, a notebook's *Interrupt*) lets the step at hand be finished.

    KeyboardInterrupt is then raised by `until_stopped`, or at the end of the block: what goes
    to disk in between goes there whole. A second Ctrl-C raises it at once. Where Ctrl-C would
    not raise it anyway (another thread, a handler of the caller's own) nothing is changed.
    """
    global _stop_asked
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _ask_to_stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        asked, _stop_asked = _stop_asked, False
    if asked:
        raise KeyboardInterrupt


def _ask_to_stop(*_) -> None:
    global _stop_asked
    if _stop_asked:
        raise KeyboardInterrupt
    _stop_asked = True


def until_stopped(loader: Iterable[T]) -> Iterator[T]:
    """The batches of `loader`; raises KeyboardInterrupt after the one in which Ctrl-C came."""
    for batch in loader:
        yield batch
        if _stop_asked:
            raise KeyboardInterrupt


def quiet_worker(_: int) -> None:
    """For a loader's workers, which a shell's Ctrl-C reaches too: leave it to the run itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

"""Paths, files written atomically, and the lock of a run's directory."""

import errno
import os
import platform
import shlex
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath, PureWindowsPath
from typing import BinaryIO, TextIO

try:
    import fcntl
except ImportError:  # Windows, where a second run in a directory is not noticed
    fcntl = None

# Some mounts of Lustre and NFS; ENOTSUP on macOS.
NO_FLOCK = errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP
AS_TEXT = {"encoding": "utf-8", "errors": "backslashreplace"}  # in any locale
_held: set[TextIO] = set()  # the lock files that this process holds


def expand(path: str | Path, name: str) -> Path:
    """A path with `~` and variables expanded, or as it is where it exists.

    Raises FileNotFoundError for a variable that is not set or a user without a home directory; it
    calls the path by `name`.
    """
    if Path(path).exists():
        return Path(path)
    expanded = os.path.expanduser(os.path.expandvars(path))
    if "$" in expanded or expanded.startswith("~"):
        raise FileNotFoundError(
            f"the {name} is {path}, but that variable or home directory is not known: `export` the "
            "variable, or name the directory itself"
        )
    return Path(expanded)


def quoted(path: PurePath) -> str:
    """A path as an argument of a command to copy: for cmd.exe and PowerShell on Windows."""
    text = path.as_posix()
    safe = shlex.quote(text)
    return f'"{text}"' if safe != text and isinstance(path, PureWindowsPath) else safe


@contextmanager
def atomic_file(path: Path, keep: Path | None = None) -> Iterator[BinaryIO]:
    """A file to write, under a temporary name, which is flushed to the disk and renamed at the end.

    What was at `path` is renamed to `keep` first, if given: a kill between the two renames leaves
    it there. Raises OSError, and leaves what was at `path` unharmed, if the disk is full or cannot
    be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if keep and path.exists():
            os.replace(path, keep)
        os.replace(part, path)
        _sync_directory(path.parent)
    except OSError as error:
        raise OSError(
            f"{path} cannot be written ({error.strerror}); the file that was there is unharmed: "
            "free some space, get the permission to write, or close the program that has it open "
            "(on Windows), and run the same command again"
        ) from error
    finally:
        with suppress(OSError):  # gives its space back
            part.unlink(missing_ok=True)


def atomic_write(path: Path, *content: bytes, keep: Path | None = None) -> None:
    """Write a file atomically: see `atomic_file`."""
    with atomic_file(path, keep) as file:
        file.writelines(content)


def _sync_directory(path: Path) -> None:
    """Flush the names in a directory to the disk, on POSIX systems, where that takes a call."""
    if os.name == "posix":
        directory = os.open(path, os.O_RDONLY)
        try:
            os.fsync(directory)
        except OSError as error:
            if error.errno != errno.EINVAL:  # SMB and some FUSE mounts flush no directories
                raise
        finally:
            os.close(directory)


@contextmanager
def lock(run_dir: Path) -> Iterator[None]:
    """Make `run_dir` and hold it for this run alone: flock(2) on `run_dir/lock`.

    The file names the holder, and stays; the kernel releases the lock when the process ends,
    however it ends. Warns where the file system has no locks. Raises BlockingIOError if another
    run holds it, OSError if nothing can be written there.
    """
    path = run_dir / "lock"
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+", **AS_TEXT)
        if fcntl is not None:
            _flock(file)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
    except BlockingIOError:
        raise BlockingIOError(
            f"{run_dir} is in use by another run ({path.read_text(**AS_TEXT).strip()}): "
            "wait for its end, stop it, or choose another run directory"
        ) from None
    except OSError as error:
        raise OSError(
            f"cannot write into {run_dir} ({error.strerror}): free some space, get the "
            "permission to write there, or choose another run directory"
        ) from error
    _held.add(file)
    try:
        with file:
            yield
    finally:
        _held.discard(file)


def _flock(file: TextIO) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NO_FLOCK:
            raise
        warnings.warn(
            f"{file.name}: this file system has no locks ({error.strerror}), so that a second run "
            "in the same directory would not be noticed: start only one",
            stacklevel=4,
        )


def _release() -> None:
    """In a loader worker just forked: it may outlive a killed run, and must not hold its lock."""
    while _held:
        _held.pop().close()


if fcntl is not None:
    os.register_at_fork(after_in_child=_release)


def relative_path(path: str | Path, folder: str | Path) -> str:
    """A path as it is seen from a folder, which stays the same when both move together."""
    try:
        return os.path.relpath(path, folder)
    except ValueError:  # on another drive of Windows
        return os.path.abspath(path)

"""Python in a process of its own, also on a machine of other mounts or another environment."""

import ctypes
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STREETS = ROOT / "recipes/streets.yaml"
TINY = {"downscale": 1, "width": 2, "depth": 1, "epochs": 1, "crop": None, "workers": 0}


def python(
    *args, status: int = 0, through=(), cwd: Path = ROOT, **environment
) -> subprocess.CompletedProcess:
    """Run Python to this exit status, through another command, with environment variables."""
    command = [*through, sys.executable, *map(str, args)]
    variables = {name: str(value) for name, value in environment.items()}
    how = {"capture_output": True, "text": True, "timeout": 500, "cwd": cwd}
    done = subprocess.run(command, env={**os.environ, **variables}, **how)
    assert done.returncode == status, done.stdout[-2000:] + done.stderr[-3000:]
    return done


def wait_for(condition: Callable[[], bool], seconds: float = 120, what: str = "") -> None:
    """Raise AssertionError unless a condition comes true in time: a busy machine is slow."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what or condition}"
        time.sleep(0.01)


def options(**fields) -> list[str]:
    """Fields of a recipe for the command line: a tiny network, and those that are given."""
    fields = {**TINY, **fields}
    return [f"--{name}={'null' if value is None else value}" for name, value in fields.items()]


def copy_of(streets: Path, to: Path) -> Path:
    """A copy of Streets that a test may spoil, without its cache."""
    return Path(shutil.copytree(streets, to, ignore=lambda *_: [".cache"]))


def namespace(script: str) -> list[str]:
    """A command that runs another where a shell script has changed the mounts, for it alone."""
    if sys.platform != "linux":
        pytest.skip("namespaces are Linux's")
    start = ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else []), "sh", "-ec"]
    if subprocess.call([*start, f"{script}\nexec true"]):
        pytest.skip("namespaces are not allowed here")
    return [*start, f'{script}\nexec "$@"', "sh"]


@contextmanager
def without_rights_of_root():
    """This thread may open only what the permissions of files allow, also if it is root's."""
    if sys.platform == "win32":
        pytest.skip("permissions are those of POSIX")
    if sys.platform != "linux":
        yield
        return
    libc = ctypes.CDLL(None)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()  # capset(2)
    libc.capget(header, sets)
    before = sets[0]
    sets[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    libc.capset(header, sets)
    try:
        yield
    finally:
        sets[0] = before
        libc.capset(header, sets)

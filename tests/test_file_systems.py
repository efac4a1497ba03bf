"""File systems that lack calls, by a library that stands in front of the C library's."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_places import STREETS, TINY, copy_of, options, python

from engine import Recipe, fit, make_loaders, make_model

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int fails(const char *name) {
    return getenv(name) ? (errno = atoi(getenv(name))) : 0;
}

int flock(int file, int operation) {
    int (*real)(int, int) = dlsym(RTLD_NEXT, "flock");
    return fails("FLOCK") ? -1 : real(file, operation);
}

int fsync(int file) {
    int (*real)(int) = dlsym(RTLD_NEXT, "fsync");
    struct stat found;
    fstat(file, &found);
    return fails(S_ISDIR(found.st_mode) ? "FSYNC_DIRECTORY" : "FSYNC_FILE") ? -1 : real(file);
}

int rename(const char *from, const char *to) {
    int (*real)(const char *, const char *) = dlsym(RTLD_NEXT, "rename");
    return fails("RENAME") ? -1 : real(from, to);
}

ssize_t write(int file, const void *data, size_t size) {  /* a quota for paths with .cache/ */
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    static size_t used = 0;
    char link[64], path[4096] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    if (getenv("QUOTA") && readlink(link, path, sizeof path - 1) > 0 && strstr(path, ".cache/")) {
        size_t left = atoi(getenv("QUOTA")) - used;
        if (left == 0) {
            errno = EDQUOT;
            return -1;
        }
        size = size < left ? size : left;
        used += size;
    }
    return real(file, data, size);
}
"""


@pytest.fixture(scope="session")
def shim(tmp_path_factory) -> Path:
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("needs Linux and a C compiler")
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.c").write_text(SHIM)
    build = [compiler, "-shared", "-fPIC", "-o", folder / "shim.so", folder / "shim.c", "-ldl"]
    subprocess.check_call(build)
    return folder / "shim.so"


LOCK = """
import sys
from pathlib import Path
from runtime.files import lock
with lock(Path(sys.argv[1])):
    print("held")
"""
WRITE = """
import sys
from pathlib import Path
from runtime.files import atomic_write
try:
    atomic_write(Path(sys.argv[1]), b"new")
except OSError as error:
    print(error)
"""


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_run_on_a_file_system_without_locks_starts_and_says_so(shim, tmp_path, code):
    done = python("-c", LOCK, tmp_path / "run", LD_PRELOAD=shim, FLOCK=code)
    assert done.stdout == "held\n", done.stderr
    assert f"{tmp_path}/run/lock: this file system has no locks" in done.stderr
    assert "a second run" in done.stderr


@pytest.mark.parametrize(
    ("call", "code", "said"),
    [
        ("FSYNC_DIRECTORY", errno.EINVAL, ""),
        ("FSYNC_DIRECTORY", errno.EIO, "Input/output error.*free some space"),
        ("FSYNC_FILE", errno.EINVAL, "Invalid argument.*unharmed"),
        ("RENAME", errno.EACCES, "Permission denied.*unharmed.*close the program that has it open"),
    ],
)
def test_a_file_is_written_where_only_its_directory_cannot_be_flushed(
    shim, tmp_path, call, code, said
):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    done = python("-c", WRITE, path, LD_PRELOAD=shim, **{call: code})
    assert re.fullmatch(rf"({path}.*{said}.*)?\n?" if said else "", done.stdout), done.stdout
    assert bool(done.stdout) == bool(said)
    assert path.read_bytes() == (b"new" if call == "FSYNC_DIRECTORY" else b"old")
    assert os.listdir(tmp_path) == ["file"]


def test_the_lock_does_nothing_where_there_is_no_fcntl(tmp_path):
    blocked = "import sys\nsys.modules['fcntl'] = None\n"
    done = python("-c", blocked + LOCK + LOCK, tmp_path)
    assert done.stdout == "held\n" * 2, done.stderr


@pytest.mark.slow
def test_a_share_without_locks_and_with_a_quota_trains_as_any_disk(shim, streets, tmp_path):
    root = copy_of(streets, tmp_path / "tree")
    preloaded = {"LD_PRELOAD": shim, "FLOCK": errno.ENOLCK, "FSYNC_DIRECTORY": errno.EINVAL}
    args = [f"--recipe={STREETS}", *options(data_root=root, run=tmp_path / "run")]
    done = python("train.py", *args, **preloaded, QUOTA=100_000)
    assert done.returncode == 0, done.stderr
    assert "no locks" in done.stderr
    assert done.stderr.count("cannot be filled further (Disk quota exceeded)") == 1
    assert len(list((root / ".cache").glob("*.cache"))) == 3  # of 128 x 64 x 4 bytes each
    assert not list((root / ".cache").glob("*.part"))
    recipe = Recipe.from_file(STREETS, **TINY, data_root=str(streets), cache=None)
    (expected,) = fit(make_model(recipe), *make_loaders(recipe), recipe, tmp_path / "other")
    (found,) = json.loads((tmp_path / "run" / "history.json").read_text())
    assert (found["train_loss"], found["mIoU"]) == (expected["train_loss"], expected["mIoU"])

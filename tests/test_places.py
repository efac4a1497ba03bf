"""Odd places: file systems that lack calls, read-only ones, other starts of processes, no home."""

import errno
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dataset import Cityscapes, paired_transforms
from engine import Recipe, fit, make_loader, make_loaders, make_model
from engine.loaders import set_epoch
from runtime.files import expand

ROOT = Path(__file__).resolve().parent.parent
STREETS = ROOT / "recipes/streets.yaml"
TINY = {"downscale": 1, "width": 2, "depth": 1, "epochs": 1, "crop": None, "workers": 0}

# File systems that lack calls, by a library that stands in front of the C library's.

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


def python(*args, through=(), **environment) -> subprocess.CompletedProcess:
    """Run Python in the repository, through another command, with variables of the environment."""
    return subprocess.run(
        [*through, sys.executable, *map(str, args)],
        env={**os.environ, **{name: str(value) for name, value in environment.items()}},
        capture_output=True,
        text=True,
        timeout=500,
        cwd=ROOT,
    )


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


def options(**fields) -> list[str]:
    fields = {**TINY, **fields}
    return [f"--{name}={'null' if value is None else value}" for name, value in fields.items()]


def copy_of(streets: Path, to: Path) -> Path:
    return Path(shutil.copytree(streets, to, ignore=lambda *_: [".cache"]))


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


# Windows and macOS, as far as Linux can stand for them


def test_the_lock_does_nothing_where_there_is_no_fcntl(tmp_path):
    blocked = "import sys\nsys.modules['fcntl'] = None\n"
    done = python("-c", blocked + LOCK + LOCK, tmp_path)
    assert done.stdout == "held\n" * 2, done.stderr


@pytest.mark.slow
def test_everything_can_be_imported_where_there_is_no_fcntl():
    code = """
import sys
sys.modules["fcntl"] = None
import evaluate, predict, train, prepare.own, prepare.camvid, prepare.cityscapes, prepare.streets
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr


def batches(loader, epoch: int) -> list[torch.Tensor]:
    set_epoch(loader, epoch)
    return [part for pair in loader for part in pair]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_that_are_not_forked_read_the_same_batches(streets, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    transforms = paired_transforms(flip=0.5, crop=(32, 48), jitter=0.2)
    scenes = Cityscapes(streets, "train", transforms=transforms, seed=3, cache=".cache")
    loader, alone = (make_loader(scenes, 5, train=True, workers=workers) for workers in (1, 0))
    loader.multiprocessing_context = method
    for epoch in (1, 2):  # the same worker is told of the second
        pairs = zip(batches(loader, epoch), batches(alone, epoch), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)


# Read-only disks, users without a name or a home, locales


def test_a_home_that_is_not_known_is_named():
    with pytest.raises(FileNotFoundError, match="data root is ~nobody-of-that-name/data.*name"):
        expand("~nobody-of-that-name/data", "data root")


JOURNEY = """
import json, runpy, sys

for name, *args in json.loads(sys.argv[1]):  # one process, since the imports take the longest
    sys.argv = [name, *args]
    run = runpy.run_path if name.endswith(".py") else runpy.run_module
    run(name, run_name="__main__")
"""


def journey(root: Path, out: Path, *first: list, recipe: Path = STREETS) -> list[str]:
    """Python's arguments: train, evaluate with figures, and predict, after other commands."""
    best, image = f"{out}/run/best.pt", next((root / "leftImg8bit" / "val").rglob("*.png"))
    fields = [f"--recipe={recipe}", *options(data_root=root)]
    commands = [
        *([*command, *fields] for command in first),
        ["train.py", *fields, f"--run={out}/run"],
        ["evaluate.py", best, f"--out={out}/figures", "--workers=0"],
        ["predict.py", best, str(image), f"--out={out}/labels"],
    ]
    return ["-c", JOURNEY, json.dumps(commands)]


def results(out: Path) -> set[str]:
    return {path.suffix for folder in ("figures", "labels") for path in (out / folder).iterdir()}


def namespace(script: str) -> list[str]:
    """A command that runs another where a shell script has changed the mounts, for it alone."""
    start = ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else []), "sh", "-ec"]
    if sys.platform != "linux" or subprocess.call([*start, f"{script}\nexec true"]):
        pytest.skip("namespaces are not allowed here")
    return [*start, f'{script}\nexec "$@"', "sh"]


@pytest.mark.slow
@pytest.mark.parametrize("place", ["data", "checkout"])
def test_a_read_only_place_is_enough_to_train_evaluate_and_predict(streets, tmp_path, place):
    root = copy_of(streets, tmp_path / "tree")
    folder = root if place == "data" else ROOT
    script = f"""
        mount --bind {folder} {folder}
        mount -o remount,bind,ro {folder} {folder}
        ! touch {folder}/x 2> /dev/null
        cd {ROOT}"""
    done = python(*journey(root, tmp_path / "out"), through=namespace(script))
    assert done.returncode == 0, done.stderr
    assert results(tmp_path / "out") == {".png", ".json", ".jpg"}
    warned = "cannot be filled further (Read-only file system)" in done.stderr
    assert warned == (place == "data")


@pytest.mark.slow
def test_a_user_without_name_and_home_can_train_evaluate_and_predict(streets, tmp_path):
    root = copy_of(streets, tmp_path / "tree")
    code, *args = journey(root, tmp_path / "out")[1:]
    check = "import os, pwd\nassert os.getuid() not in {user.pw_uid for user in pwd.getpwall()}\n"
    unknown = [*namespace(""), "unshare", "--user", "--map-user=54321"]
    if subprocess.call([*unknown, "true"]):
        pytest.skip("another user's number is not allowed here")
    done = python("-c", check + code, *args, through=unknown, HOME="/nowhere")
    assert done.returncode == 0, done.stderr
    assert results(tmp_path / "out") == {".png", ".json", ".jpg"}


@pytest.mark.slow
def test_in_a_locale_of_ascii_other_letters_do_no_harm_and_a_log_holds_no_progress_bars(
    streets, tmp_path
):
    place = tmp_path / "Straße 街"
    place.mkdir()
    root, recipe = copy_of(streets, place / "tree"), place / "recipe.yaml"
    recipe.write_text("# für die Straße 街\n" + STREETS.read_text(), encoding="utf-8")
    code, *args = journey(root, place / "out", ["prepare.cache"], recipe=recipe)[1:]
    check = "import sys\nassert sys.getfilesystemencoding() == 'ascii'\n"
    ascii_only = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": 0, "PYTHONCOERCECLOCALE": 0}
    done = python("-c", check + code, *args, **ascii_only, PYTHONIOENCODING="ascii:strict")
    log = done.stdout + done.stderr
    assert done.returncode == 0, log
    assert results(place / "out") == {".png", ".json", ".jpg"}
    assert "\r" not in log
    assert not re.search(r"\d+%\||img/s|image/s", log)
    recipe = Recipe.from_file(recipe, **TINY, data_root=str(root))  # and in this locale it goes on
    assert len(list(fit(make_model(recipe), *make_loaders(recipe), recipe, place / "out/run"))) == 1


def test_what_the_output_cannot_hold_is_printed_escaped():
    code = "from runtime.console import escape_output\nescape_output()\nprint('Straße 街')"
    done = python("-c", code, PYTHONIOENCODING="ascii:strict")
    assert done.stdout.strip() == r"Stra\xdfe \u8857", done.stderr

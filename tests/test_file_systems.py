"""File systems that lack calls: these fail as on network shares, for all that Python does."""

import errno
import io
import os
import stat

import pytest

import data_io.cache
from engine import Recipe, fit, make_loaders, make_model
from runtime import files
from runtime.files import atomic_write, lock
from tests.processes import STREETS, TINY, copy_of

fcntl = pytest.importorskip("fcntl")  # not on Windows
NO_LOCKS = "lock: this file system has no locks.*a second run"


@pytest.fixture
def fails(monkeypatch):
    """Lets a call fail: flock, replace, fsync of files, or fsync of directories."""

    def refuse(module, name: str, code: int, of=lambda file: True) -> None:
        real = getattr(module, name)

        def call(file, *args):
            if of(file):
                raise OSError(code, os.strerror(code))
            return real(file, *args)

        monkeypatch.setattr(module, name, call)

    def is_directory(file: int) -> bool:
        return stat.S_ISDIR(os.fstat(file).st_mode)

    calls = {
        "flock": (fcntl, "flock"),
        "replace": (os, "replace"),
        "fsync of a file": (os, "fsync", lambda file: not is_directory(file)),
        "fsync of a directory": (os, "fsync", is_directory),
    }
    return lambda call, code: refuse(*calls[call][:2], code, *calls[call][2:])


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_run_on_a_file_system_without_locks_starts_and_says_so(fails, tmp_path, code):
    fails("flock", code)
    with pytest.warns(UserWarning, match=f"{tmp_path}/run/{NO_LOCKS}"), lock(tmp_path / "run"):
        pass


def test_the_lock_does_nothing_where_there_is_no_fcntl(monkeypatch, tmp_path, recwarn):
    monkeypatch.setattr(files, "fcntl", None)
    with lock(tmp_path), lock(tmp_path):
        assert not recwarn


@pytest.mark.parametrize(
    ("call", "code", "said"),
    [
        ("fsync of a directory", errno.EINVAL, None),
        ("fsync of a directory", errno.EIO, "Input/output error.*free some space"),
        ("fsync of a file", errno.EINVAL, "Invalid argument.*unharmed"),
        ("replace", errno.EACCES, "Permission denied.*unharmed.*close the program that has it"),
    ],
)
def test_a_file_is_written_where_only_its_directory_cannot_be_flushed(
    fails, tmp_path, call, code, said
):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    fails(call, code)
    if said:
        with pytest.raises(OSError, match=f"{path}.*{said}"):
            atomic_write(path, b"new")
    else:
        atomic_write(path, b"new")
    assert path.read_bytes() == (b"new" if call == "fsync of a directory" else b"old")
    assert os.listdir(tmp_path) == ["file"]


class Quota(io.FileIO):
    """A file of a user who may write 100,000 bytes in all."""

    left = 100_000

    def write(self, data) -> int:
        size = min(len(data), Quota.left)
        Quota.left -= super().write(bytes(data)[:size])
        if size < len(data):
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        return size


@pytest.mark.slow
def test_a_share_without_locks_and_with_a_quota_trains_as_any_disk(
    fails, streets, tmp_path, monkeypatch
):
    fields = {**TINY, "data_root": str(streets), "cache": None}

    def train(**changes) -> dict:
        recipe = Recipe.from_file(STREETS, **{**fields, **changes})
        run = tmp_path / str(recipe.cache)
        (record,) = fit(make_model(recipe), *make_loaders(recipe), recipe, run)
        return record

    expected = train()
    fails("flock", errno.ENOLCK)
    fails("fsync of a directory", errno.EINVAL)
    monkeypatch.setattr(data_io.cache, "open", Quota, raising=False)
    root = copy_of(streets, tmp_path / "tree")
    with pytest.warns(UserWarning) as caught:
        found = train(data_root=str(root), cache=".cache")
    assert (found["train_loss"], found["mIoU"]) == (expected["train_loss"], expected["mIoU"])
    said = [str(warning.message) for warning in caught]
    assert sum("has no locks" in text for text in said) == 1
    full = "cannot be filled further (Disk quota exceeded)"
    assert any(full in text for text in said)
    assert len(list((root / ".cache").glob("*.cache"))) == 3  # of 128 x 64 x 4 bytes each
    assert not list((root / ".cache").glob("*.part"))

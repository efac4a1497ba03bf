import hashlib
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from cache import Cache, open_cache
from dataset import Cityscapes
from prepare.decode import fill

FORK = multiprocessing.get_context("fork")
SHAPES = ((3, 256, 512), (256, 512))


@pytest.fixture
def tree(streets, tmp_path) -> Path:
    """A copy of Streets that a test may spoil."""
    return Path(shutil.copytree(streets, tmp_path / "streets", ignore=lambda *_: [".cache"]))


def scenes_of(root: Path, cache=".cache", **sizes) -> Cityscapes:
    return Cityscapes(root, "train", **{"downscale": 2, "cache": cache, **sizes})


def content(scenes: Cityscapes) -> str:
    """A digest of all items, read in another order than that of the files."""
    digest = hashlib.sha256()
    order = sorted(range(len(scenes)), key=lambda i: (i * 7) % len(scenes))
    for i in order:
        for part in scenes[i]:
            digest.update(str(part.shape).encode() + part.contiguous().numpy().tobytes())
    return digest.hexdigest()


def spoil(path: str) -> None:
    """Leave of a picture only its header, in a file of the size and the time that it had."""
    stat = os.stat(path)
    with open(path, "r+b") as file:
        file.seek(64)  # behind the header, which tells the size of the frames
        file.write(bytes(stat.st_size - 64))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def file_of(root: Path) -> Path:
    (path,) = (root / ".cache").glob("*.cache")
    return path


@pytest.fixture
def silence():
    """Warnings are errors in such a test: what goes well is to be without a word."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


# What it serves


@pytest.mark.parametrize(
    "sizes",
    [
        {"downscale": 1},
        {"downscale": 2},
        {"downscale": 3},
        {"downscale": 2, "downscale_labels": False},
        {"downscale": 2, "mode": "coarse"},
    ],
)
def test_the_same_bytes_come_with_and_without_it(tree, sizes, silence):
    truth = content(scenes_of(tree, cache=None, **sizes))
    assert content(scenes_of(tree, **sizes)) == truth  # decoded and kept
    scenes = scenes_of(tree, **sizes)
    assert content(scenes) == truth  # kept
    image, mask = scenes[0]
    assert (image.dtype, mask.dtype) == (torch.uint8, torch.uint8)
    image.zero_(), mask.zero_()  # what is served is a copy
    assert content(scenes) == truth


def test_each_file_is_decoded_once(tree, silence):
    truth = content(scenes_of(tree))
    scenes = scenes_of(tree)
    for i in range(len(scenes)):
        spoil(scenes.images[i])
        spoil(scenes.targets[i][0])
    assert content(scenes) == truth
    assert content(scenes_of(tree)) == truth
    with pytest.raises(ValueError, match="cannot be read as a picture"):
        content(scenes_of(tree, cache=None))


@pytest.mark.parametrize("kind", ["image", "labels"])
@pytest.mark.parametrize("change", ["mtime", "size"])
def test_a_changed_source_is_never_served_stale(tree, kind, change, silence):
    scenes = scenes_of(tree)
    sources = scenes.images if kind == "image" else [target for (target,) in scenes.targets]
    for path in sources[:2]:  # of one size; bytes behind a PNG's end mean nothing
        data = Path(path).read_bytes()
        Path(path).write_bytes(data.ljust(40_000, b"\0"))
    before = content(scenes)
    stat = os.stat(sources[0])
    shutil.copy(sources[1], sources[0])
    if change == "size":
        with open(sources[0], "ab") as file:
            file.write(b"\0")
        os.utime(sources[0], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    else:
        os.utime(sources[0], ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    truth = content(scenes_of(tree, cache=None))
    assert truth != before
    assert content(scenes) == truth
    assert content(scenes_of(tree)) == truth


@pytest.mark.parametrize("kept", [True, False])
def test_a_source_that_vanished_is_named_whether_or_not_it_was_kept(tree, kept):
    scenes = scenes_of(tree)
    if kept:
        content(scenes)
    os.unlink(scenes.targets[3][0])
    with pytest.raises(FileNotFoundError, match="no picture at .*: restore it"):
        scenes[3]


def test_a_frame_that_is_added_or_removed_makes_it_anew(tree):
    content(scenes_of(tree))
    scenes = scenes_of(tree)
    os.unlink(scenes.images[0])
    with pytest.warns(UserWarning, match="of other pictures: it is made anew"):
        fewer = scenes_of(tree)
    assert content(fewer) == content(scenes_of(tree, cache=None))


def test_frames_of_another_size_are_decoded_every_time_and_right(tree):
    scenes = scenes_of(tree)
    for path, size in ((scenes.images[4], (60, 30)), (scenes.targets[4][0], (60, 30))):
        with Image.open(path) as picture:
            picture.resize(size, Image.Resampling.NEAREST).save(path)
    truth = content(scenes_of(tree, cache=None))
    with pytest.warns(UserWarning, match="size is not that of the first"):
        assert content(scenes) == truth
    with pytest.warns(UserWarning, match="size is not that of the first"):
        assert content(scenes) == truth


def test_a_data_set_moves_with_the_cache_that_lies_in_it(tree, silence):
    truth = content(scenes_of(tree))
    moved = tree.rename(tree.with_name("moved"))
    scenes = scenes_of(moved)
    spoil(scenes.images[0])
    assert content(scenes) == truth


def test_two_data_sets_may_share_a_directory(tree, tmp_path, silence):
    other = Path(shutil.copytree(tree, tmp_path / "other"))  # with the very times
    first, second = scenes_of(other).images[:2]
    shutil.copy(second, first)
    for root in (tree, other, tree, other):
        expected = content(scenes_of(root, cache=None))
        assert content(scenes_of(root, cache=tmp_path / "cache")) == expected
    assert len(list((tmp_path / "cache").glob("*.cache"))) == 2


def test_it_says_where_and_how_much_it_takes_and_keeps_out_of_git(tree, capsys):
    scenes_of(tree)
    size = os.path.getsize(file_of(tree))
    assert size >= 12 * 32 * 64 * 4
    said = capsys.readouterr().out
    assert f"{file_of(tree)} takes {size / 1000:.3g} kB" in said
    assert (tree / ".cache" / ".gitignore").read_text() == "*\n"
    scenes_of(tree)
    assert capsys.readouterr().out == ""


# Several processes


def read_all(root: Path, results) -> None:
    results.put(content(scenes_of(root)))


def test_several_processes_that_fill_it_at_once_all_read_the_truth(tree):
    truth = content(scenes_of(tree, cache=None))
    results = FORK.SimpleQueue()
    readers = [FORK.Process(target=read_all, args=(tree, results)) for _ in range(4)]
    for reader in readers:
        reader.start()
    assert [results.get() for _ in readers] == [truth] * 4
    for reader in readers:
        reader.join()
        assert reader.exitcode == 0
    scenes = scenes_of(tree)
    for path in scenes.images:
        spoil(path)
    assert content(scenes) == truth


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_workers_of_a_loader_share_it(tree, method, silence):
    scenes = scenes_of(tree)
    truth = content(scenes_of(tree, cache=None))
    scenes[0]  # it is open when the workers get it
    loader = DataLoader(
        scenes, None, num_workers=2 if method == "fork" else 1, multiprocessing_context=method
    )
    assert len(list(loader)) == 12
    for path in scenes.images:
        spoil(path)
    assert content(scenes) == truth


def numbers(folder: Path) -> Cache:
    """A cache whose sources hold a number each, and whose pictures are of that one number."""
    pairs = [(str(folder / f"{i}.a"), str(folder / f"{i}.b")) for i in range(3)]
    for path in sum(pairs, ()):
        if not os.path.exists(path):
            Path(path).write_text("1")
    return open_cache(folder / "cache", "numbers", pairs, SHAPES)


def pair_of(cache: Cache, index: int) -> tuple[np.ndarray, np.ndarray]:
    values = (int(Path(path).read_text()) for path in cache.pairs[index])
    return tuple(np.full(shape, v, np.uint8) for shape, v in zip(SHAPES, values, strict=True))


def read(cache: Cache, index: int) -> tuple[np.ndarray, np.ndarray]:
    return cache.read(index, lambda index: pair_of(cache, index))


def change_and_read(folder: Path) -> None:
    cache = numbers(folder)
    for step in range(10**9):
        for index in range(3):
            for path in cache.pairs[index]:
                Path(path).write_text(str(step % 10 + 1).ljust(step % 7 + 2))
            read(cache, index)


def test_what_a_killed_process_left_half_written_is_never_served(tmp_path):
    random.seed(0)
    served = 0
    for _ in range(30):
        writer = FORK.Process(target=change_and_read, args=(tmp_path,))
        writer.start()
        time.sleep(random.uniform(0.005, 0.06))
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        assert writer.exitcode == -signal.SIGKILL
        for path in tmp_path.glob("*.?"):
            if not path.read_text().strip():  # killed between opening and writing
                path.write_text("5")
        cache = numbers(tmp_path)
        for index in range(3):
            expected = pair_of(cache, index)
            found = cache.find(index, cache.stamp(index))
            served += found is not None
            for pair in filter(None, (found, read(cache, index))):
                assert all(map(np.array_equal, pair, expected))
    assert served > 10  # else nothing was put to the test


def test_a_half_written_slot_with_the_mark_of_a_whole_one_is_refused(tmp_path):
    cache = numbers(tmp_path)
    read(cache, 0)
    with open(cache.path, "r+b") as file:  # as after a loss of power: some blocks came, some not
        file.seek(cache.slots_at + 4096)
        file.write(bytes(4096))
    with pytest.warns(UserWarning, match="damaged in places"):
        assert cache.find(0, cache.stamp(0)) is None
    with pytest.warns(UserWarning, match="damaged in places"):
        read(cache, 0)
    assert all(map(np.array_equal, cache.find(0, cache.stamp(0)), pair_of(cache, 0)))


def test_it_is_filled_ahead_of_time_by_a_command(tree):
    truth = content(scenes_of(tree))
    shutil.rmtree(tree / ".cache")
    command = [sys.executable, "prepare/decode.py", "--recipe=recipes/streets.yaml"]
    command += ["--data_root", str(tree), "--downscale=2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "decoding train: 100%" in done.stderr
    assert "decoding val: 100%" in done.stderr
    scenes = scenes_of(tree)
    for path in scenes.images:
        spoil(path)
    assert content(scenes) == truth
    with pytest.raises(OSError, match="has no cache to fill: name a directory"):
        fill(scenes_of(tree, cache=None), workers=0)


# Damage, and disks that are full or read-only


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(os.urandom(path.stat().st_size)), "it is made anew"),
        (lambda path: path.write_bytes(b"something else"), "it is made anew"),
        (lambda path: os.truncate(path, path.stat().st_size // 2), "it is made anew"),
        (lambda path: os.truncate(path, 0), None),
        (lambda path: path.unlink(), None),
        (lambda path: path.write_bytes(path.read_bytes()[:4096].ljust(path.stat().st_size)), None),
    ],
)
@pytest.mark.parametrize("when", ["open", "closed"])
def test_a_damaged_file_gives_the_same_pictures(tree, damage, message, when):
    truth = content(scenes_of(tree, cache=None))
    scenes = scenes_of(tree)
    content(scenes)
    damage(file_of(tree))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        assert content(scenes if when == "open" else scenes_of(tree)) == truth
    if message and when == "closed":
        assert message in str(said[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert content(scenes_of(tree)) == truth
    spoil(scenes.images[0])
    assert content(scenes_of(tree)) == truth  # whole again


@pytest.fixture
def mount(tmp_path):
    """Mounts a file system of its own: a function of its options; skips where one may not."""
    where = tmp_path / "mounted"
    where.mkdir()
    mounted = []

    def run(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(where)]
        try:
            done = subprocess.run(command, capture_output=True)
        except FileNotFoundError:
            pytest.skip("there is no mount here")
        if done.returncode:
            pytest.skip("only root may mount")
        mounted.append(where)
        return where

    yield run
    for path in mounted:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.mark.parametrize("place", ["no disk", "read-only", "too small", "a file"])
def test_where_no_cache_can_be_it_says_so_once_and_reads_without(tree, tmp_path, mount, place):
    if place == "no disk":
        folder = Path("/proc/no/cache")
    elif place == "a file":
        folder = tmp_path / "file"
        folder.touch()
    else:
        folder = mount("ro" if place == "read-only" else "size=32k") / "cache"
    with pytest.warns(UserWarning, match="no cache at .*decoded every time; name another") as said:
        scenes = scenes_of(tree, cache=folder)
        assert content(scenes) == content(scenes_of(tree, cache=None))
    assert len([warning for warning in said if warning.category is UserWarning]) == 1
    assert not folder.is_dir() or not list(folder.glob("*.cache"))


def test_a_full_cache_on_a_read_only_disk_is_read(tree, mount, silence):
    folder = mount("size=100M")
    truth = content(scenes_of(tree, cache=folder))
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    scenes = scenes_of(tree, cache=folder)
    spoil(scenes.images[0])
    assert content(scenes) == truth


def read_within(limit: int, root: Path, results) -> None:
    """Read all, twice, when no file may be written beyond `limit` bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        scenes = scenes_of(root)
        digests = [content(scenes), content(scenes)]
    results.put((digests, [str(warning.message) for warning in said]))


@pytest.mark.parametrize(
    ("there", "message"),
    [
        (False, "no cache at .*File too large.*name another"),
        (True, "cannot be filled further .File too large."),
    ],
)
def test_a_disk_that_is_full_is_said_once_and_read_without(tree, there, message):
    truth = content(scenes_of(tree, cache=None))
    if there:
        scenes_of(tree)
    results = FORK.SimpleQueue()
    process = FORK.Process(target=read_within, args=(40_000, tree, results))
    process.start()
    digests, (said,) = results.get()
    process.join()
    assert digests == [truth, truth]
    assert re.search(message, said)
    assert len(list((tree / ".cache").glob("*.cache"))) == there  # nothing half made is left
    assert content(scenes_of(tree)) == truth

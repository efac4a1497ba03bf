"""The cache of decoded images: decoded once, and never taken for whole when it is not."""

import errno
import io
import os
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

import data_io.cache
from data_io.cache import Cache
from dataset import Cityscapes
from engine.fill_cache import fill
from tests.processes import without_rights_of_root
from tests.samples import cut, first

pytestmark = pytest.mark.filterwarnings("error::UserWarning")
FILL = "engine.fill_cache", "--recipe=recipes/streets.yaml", "--downscale=2"


def open_tree(root: Path, cache=".cache", **options) -> Cityscapes:
    return Cityscapes(root, "train", **{"downscale": 2, "cache": cache, **options})


def content(scenes: Cityscapes) -> list:
    return [[(part.shape, part.numpy().tobytes()) for part in pair] for pair in scenes]


def decoded(root: Path, **options) -> list:
    return content(open_tree(root, cache=None, **options))


def blank_sources(scenes: Cityscapes) -> None:
    """Fill the files with zeros, keeping size and mtime: from now on only the cache has them."""
    for path in (*scenes.images, *scenes.targets):
        stat = os.stat(path)
        Path(path).write_bytes(bytes(stat.st_size))
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize(
    "options", [{"downscale": 1}, {"downscale": 3, "mode": "coarse"}, {"downscale_labels": False}]
)
def test_each_file_is_decoded_once_and_its_bits_stay_the_same(tree, options):
    scenes = open_tree(tree, **options)
    for path in (scenes.images[4], scenes.targets[4]):  # of another size than the others
        with Image.open(path) as image:
            image.resize((60, 30), Image.Resampling.NEAREST).save(path)
    truth = decoded(tree, **options)
    assert content(scenes) == truth  # decoded and kept
    blank_sources(scenes)
    for part in scenes[0]:
        part.zero_()  # a copy, which the cache does not notice
    assert content(scenes) == truth
    assert content(open_tree(tree, **options)) == truth
    assert content(pickle.loads(pickle.dumps(scenes))) == truth  # noqa: S301 (our own bytes)
    with pytest.raises(ValueError, match=Path(scenes.images[0]).name):
        decoded(tree)


@pytest.mark.parametrize("kind", ["images", "labels"])
@pytest.mark.parametrize("change", ["mtime", "size"])
def test_a_changed_source_is_decoded_again(tree, kind, change):
    scenes = open_tree(tree)
    sources = scenes.images if kind == "images" else scenes.targets
    for path in sources[:2]:  # of one size: bytes after a PNG's end mean nothing
        Path(path).write_bytes(Path(path).read_bytes().ljust(40_000, b"\0"))
    before = content(scenes)
    stat = os.stat(sources[0])
    Path(sources[0]).write_bytes(Path(sources[1]).read_bytes() + b"\0" * (change == "size"))
    os.utime(sources[0], ns=(stat.st_atime_ns, stat.st_mtime_ns + (change == "mtime")))
    truth = decoded(tree)
    assert truth != before
    assert content(scenes) == truth
    assert content(open_tree(tree)) == truth


@pytest.mark.parametrize("state", ["nothing", "the item", "zeros"])
def test_a_source_that_vanished_is_an_error_whatever_the_cache_holds(tree, state):
    scenes = open_tree(tree)
    if state != "nothing":
        scenes[3]
    if state == "zeros":
        next((tree / ".cache").glob("*.cache")).write_bytes(bytes(64))
    os.unlink(scenes.targets[3])
    with pytest.raises(FileNotFoundError, match=Path(scenes.targets[3]).name):
        scenes[3]


def test_a_data_set_may_move_two_may_share_a_folder_and_reading_is_enough(tree, tmp_path):
    other = Path(shutil.copytree(tree, tmp_path / "other"))  # with the same names and times
    first, second = open_tree(other).images[:2]
    shutil.copy(second, first)
    for root in (tree, other, tree, other):
        assert content(open_tree(root, cache=tmp_path / "cache")) == decoded(root)
    assert len([*(tmp_path / "cache").glob("*.cache")]) == 24
    assert (tmp_path / "cache" / ".gitignore").read_text() == "*\n"
    truth = content(open_tree(tree))
    scenes = open_tree(tree.rename(tree.with_name("moved")))
    blank_sources(scenes)
    assert content(scenes) == truth
    cache = scenes.cache.folder
    for path in [*cache.iterdir(), cache]:
        path.chmod(0o555)
    with without_rights_of_root():
        assert content(scenes) == truth
    cache.chmod(0o755)


def test_several_workers_may_fill_it_at_once_also_for_a_part_of_the_data_set(tree):
    scenes, truth = open_tree(tree), decoded(tree)
    items = [i for i in range(12) for _ in range(2)]  # each by both workers at once
    loaded = content(DataLoader(scenes, None, sampler=items, num_workers=2))
    assert loaded == [truth[i] for i in items]
    blank_sources(scenes)
    assert content(scenes) == truth
    scenes.images, scenes.targets = scenes.images[1::2], scenes.targets[1::2]
    assert content(scenes) == truth[1::2]
    suffixes = sorted(path.suffix for path in (tree / ".cache").iterdir())
    assert suffixes == ["", *[".cache"] * len(truth)]  # and .gitignore


def test_no_damage_to_a_file_is_taken_for_an_image(tmp_path):
    cache, sources = Cache(tmp_path / "cache", "1/1"), (tmp_path / "image", tmp_path / "labels")
    for path in sources:
        path.touch()
    noise = np.random.default_rng(0).integers(0, 256, (4, 3, 4), np.uint8)
    sources, truth = tuple(map(str, sources)), (noise[:3], noise[3])  # a few bytes of one item
    cache.read(sources, lambda: truth)
    (path,) = cache.folder.glob("*.cache")
    whole = path.read_bytes()
    bits = [1 << i for i in range(8 * len(whole))]
    damaged = [(int.from_bytes(whole) ^ bit).to_bytes(len(whole)) for bit in bits]
    for size in range(len(whole)):
        damaged += [whole[:size], whole[:size].ljust(len(whole), b"\0"), bytes(size)]
    damaged += [bytes(len(whole)), whole + b"\0", whole * 2, b"something else"]
    h, w = whole[16:24], whole[24:32]
    assert h != w
    damaged.append(whole[:16] + w + h + whole[32:])
    for sizes in ((2**31, 2**31, 8, 4), (2**63, 2**63, 2**63, 2**63), (0, 0, 2**40, 1)):
        damaged.append(whole[:16] + np.array(sizes, np.uint64).tobytes() + whole[48:])
    refused = 0
    with pytest.warns(UserWarning, match=path.name):
        for data in damaged:
            path.unlink()
            path.write_bytes(data)
            pair = cache.load(path, cache.fingerprint(sources))
            refused += pair is None
            assert pair is None or all(map(np.array_equal, pair, truth))
        assert refused > 0.8 * len(damaged)  # the others are changes of the spare bytes
        path.write_bytes(whole[:-1])
        assert all(map(np.array_equal, cache.read(sources, lambda: truth), truth))
    assert path.read_bytes() == whole  # written again


class Full(io.FileIO):
    """A file on a disk that is full after its first bytes."""

    def write(self, data) -> int:
        super().write(bytes(data)[:20])
        raise OSError(errno.ENOSPC, "no room")


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (lambda patch, folder: patch.setattr(data_io.cache, "RESERVE", 2**60), "left on the disk"),
        (lambda patch, folder: folder.touch(), "Not a directory|File exists"),
        (lambda patch, _: patch.setattr(data_io.cache, "open", Full, raising=False), "no room"),
    ],
)
def test_a_cache_that_cannot_be_written_warns_once(tree, tmp_path, monkeypatch, spoil, cause):
    folder = tmp_path / "cache"
    spoil(monkeypatch, folder)
    truth = decoded(tree)
    scenes = open_tree(tree, cache=folder)
    with pytest.warns(UserWarning) as caught:
        assert content(scenes) == content(scenes) == truth
        loader = DataLoader(open_tree(tree, cache=folder), None, num_workers=1)
        list(loader)
    assert not loader.dataset.cache.writable  # the worker tells all processes
    (warning,) = [w for w in caught if w.category is UserWarning]
    said = f"{re.escape(str(folder))} .*({cause}).*name another directory"
    assert re.search(said, str(warning.message))
    assert not list(tmp_path.rglob("*.part"))


def test_the_command_leaves_nothing_to_decode_in_either_split(tree, command):
    command(*FILL, f"--data_root={tree}")
    for split in ("train", "val"):
        data = Cityscapes(tree, split, downscale=2, cache=".cache")
        pairs = zip(data.images, data.targets, strict=True)
        found = [data.cache.path(pair).stat().st_size for pair in pairs]
        assert data.cache_size() == pytest.approx(sum(found), rel=0.01)
        blank_sources(data)
        assert len(content(data)) == len(found)


def test_a_cache_that_cannot_be_filled_is_named(tree, command):
    with pytest.raises(SystemExit, match="has no cache to fill: name a directory as `cache`"):
        command(*FILL, f"--data_root={tree}", "--cache=null")
    (tree / "file").touch()
    with pytest.warns(UserWarning), pytest.raises(OSError, match="file/below could not be filled"):
        fill(Cityscapes(tree, "val", cache="file/below"))
    path = cut(first(tree, split="val"), -30)
    named = f"^error: {re.escape(str(path))} cannot be read"
    with pytest.raises(SystemExit, match=named) as stop:
        command(*FILL, f"--data_root={tree}")
    assert "\n" not in stop.value.code

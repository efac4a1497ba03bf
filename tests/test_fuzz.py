"""What damaged and malicious files did before they were refused; `stress.fuzz` found most of it."""

import io
import multiprocessing
import os
import resource
import shutil
import struct
import time
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
import torch
from PIL import EpsImagePlugin

from data_io.image_io import image_size, read_image
from dataset import Cityscapes
from engine import Recipe, make_model
from inference import load_model
from prepare import class_lists
from prepare.archives import zip_state
from prepare.decisions import read_record
from tests.stress import fuzz, fuzz_kinds
from tests.stress.fuzz_kinds import NOISE, save
from utils import Classes

# The fuzzing itself


@pytest.mark.slow
def test_ten_seconds_of_damaged_files_are_read_or_refused(tmp_path):
    counts = fuzz.fuzz(10, seed=0, keep=tmp_path)
    assert all(each.total() >= fuzz.BATCH for each in counts.values())
    found = [path.read_text() for path in tmp_path.glob("*.txt")]
    assert not found, "\n\n".join(found)
    assert counts["other images"]["read"] and counts["PNG images"]["refused"]


@pytest.mark.slow
def test_a_process_that_hangs_ends_and_its_pool_is_broken():
    pool = fuzz.new_pool()
    assert pool.submit(fuzz.read_one, 0, "cache", 0).result() == ("read", "")
    with pytest.raises(BrokenProcessPool):
        pool.submit(fuzz.within, 1, time.sleep, 60).result()


def test_what_readers_may_not_do_is_a_failure(tmp_path):
    def outcome(read: Callable, *documented: type, sealed: bool = False) -> tuple[str, str]:
        kind = fuzz_kinds.Kind("a", [b"whole"], [(read, documented)], sealed)
        return fuzz.try_one(kind, "3", [fuzz.outcomes(kind, b"whole", tmp_path)], tmp_path)

    def refuse(path: Path) -> str:
        return "whole" if path.read_bytes() == b"whole" else next(iter([]))

    assert outcome(Path.read_bytes) == ("read", "")
    assert outcome(refuse, StopIteration) == ("refused", "")
    assert "StopIteration" in outcome(refuse)[1]
    assert outcome(Path.read_bytes, sealed=True) == ("failed", "changed silently")
    with pytest.raises(AssertionError, match="outside"):
        outcome(lambda path: path.parent.with_name("beside").touch())


# Texts


VALUES = ["!!timestamp x", "!!int ''", "!!bool x", "[" * 1000, "&a [*a]", "{a: [b]}", "2001-99-99"]
CLASS = "- {name: %s, id: %s, color: [1, 2, 3]}"
COLORS = ["300 0 0 a", "1 2 3 a\n4 5 6 a", "0x1 2 3 a"]
RECORDS = ["{}", "[]", "[" * 5000, '{"labels": "x", "ids": {}}', '{"labels": "ids", "ids": 1}']
TEXTS = [
    *((Recipe.from_file, "file.yaml", f"lr: {value}") for value in VALUES),
    *((Classes.from_file, "file.yaml", CLASS % (value, 1)) for value in (*VALUES[3:6], "[a]")),
    (Classes.from_file, "file.yaml", CLASS % ("a", ".inf")),
    *((class_lists.read_class_list, "colors.txt", text) for text in COLORS),
    *((lambda path: read_record(path.parent), "own.json", text) for text in RECORDS),
]


@pytest.mark.parametrize(
    ("read", "name", "text"), TEXTS, ids=[f"{text[1]}-{i}" for i, text in enumerate(TEXTS)]
)
def test_a_text_that_parsers_trip_over_is_refused_with_the_files_name(tmp_path, read, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=name):
        read(tmp_path / name)


# Images


def test_the_size_of_an_image_that_cannot_be_opened_is_none(tmp_path):
    content = bytearray(save(NOISE, "DDS"))
    content[80:84] = (8192).to_bytes(4, "little")  # flags of its pixels' format
    (tmp_path / "a.png").write_bytes(content)
    assert image_size(tmp_path / "a.png") is None


def test_postscript_under_the_name_of_an_image_is_not_run(tmp_path, monkeypatch):
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path / 'sprung'}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    path = tmp_path / "a.png"
    path.write_bytes(save(NOISE, "EPS"))
    with pytest.raises(ValueError, match="no format that"):
        read_image(path)
    assert image_size(path) is None
    assert not (tmp_path / "sprung").exists()


# Checkpoints


def altered(path: Path, **parts) -> Path:
    """A checkpoint without a checksum, with other parts."""
    content = torch.load(io.BytesIO(fuzz_kinds.PLAIN[0]), weights_only=True)
    torch.save({**content, **parts}, path)
    return path


SETTINGS = {"in_channels": 3, "num_classes": 19, "width": 1, "depth": 1, "padding": "same"}
TABLE = {"names": ("a",), "ids": (1,), "colors": ((1, 2, 3),), "categories": (), "ignored": None}


@pytest.mark.parametrize(
    ("parts", "cause"),
    [
        ({"model": "x"}, "no checkpoint of this project"),
        ({"model": {1: torch.ones(1)}}, "no checkpoint of this project"),
        ({"model": {"a": 1}}, "no checkpoint of this project"),
        ({"model": {"a": torch.eye(2).to_sparse()}}, "no checkpoint of this project"),
        ({"model": {"a": torch.empty(2, device="meta")}}, "no checkpoint of this project"),
        ({"settings": "x"}, "no checkpoint of this project"),
        ({"recipe": []}, "no checkpoint of this project"),
        ({"recipe": {}}, "downscale is None"),
        ({"recipe": {"downscale": "2"}}, "downscale is '2'"),
        ({"recipe": {"width": torch.ones(2), "downscale": 1}}, "do not fit its settings"),
        ({"settings": {**SETTINGS, "width": "x"}}, "do not fit its settings"),
        ({"settings": {**SETTINGS, "width": 10**30}}, "do not fit its settings"),
        ({"classes": TABLE}, "names 1 classes"),
        ({"classes": {**TABLE, "ids": (300,)}}, "0..255"),
        ({"classes": {**TABLE, "colors": ((1, 2, "x"),)}}, "color"),
        ({"classes": {**TABLE, "categories": ("a", "b")}}, "category"),
    ],
    ids=str,
)
def test_a_checkpoint_of_other_parts_is_refused(tmp_path, parts, cause):
    with pytest.raises(ValueError, match=rf"a\.pt.*{cause}"):
        load_model(altered(tmp_path / "a.pt", **parts))


@pytest.mark.parametrize("parts", [{"settings": {"width": "x"}}, {"model": {}}], ids=str)
def test_a_training_does_not_start_from_a_checkpoint_of_other_parts(tmp_path, parts):
    path = altered(tmp_path / "a.pt", **parts)
    with pytest.raises(ValueError, match=r"a\.pt.*settings"):
        make_model(Recipe(width=1, depth=1, init=str(path)))


# Archives


def tree_of(folder: Path, labels: bytes) -> Path:
    """A data set whose archives are not unpacked yet."""
    images = fuzz_kinds.archive("leftImg8bit", fuzz_kinds.PNG[0])
    (folder / "leftImg8bit_trainvaltest.zip").write_bytes(images)
    (folder / "gtFine_trainvaltest.zip").write_bytes(labels)
    return folder


def labels_zip(method: int) -> bytearray:
    return bytearray(fuzz_kinds.archive("gtFine", fuzz_kinds.GREY[1], method))


def damaged_lzma() -> bytes:
    content = labels_zip(zipfile.ZIP_LZMA)
    content[100:140] = bytes(40)
    return bytes(content)


def encrypted() -> bytes:
    content = labels_zip(zipfile.ZIP_STORED)
    for place in (6, content.index(b"PK\x01\x02") + 8):  # flags, in both headers
        content[place] |= 1
    return bytes(content)


@pytest.mark.parametrize("make", [damaged_lzma, encrypted])
def test_an_archive_that_cannot_be_unpacked_is_called_damaged(tmp_path, make):
    with pytest.raises(ValueError, match="an archive in .* is damaged .*prepare.cityscapes"):
        Cityscapes(tree_of(tmp_path, make()), "train")
    assert zip_state(tmp_path / "gtFine_trainvaltest.zip", read_all=True).startswith("damaged")


def test_archives_that_would_fill_the_disk_are_not_unpacked(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=500)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    tree_of(tmp_path, bytes(labels_zip(zipfile.ZIP_STORED)))
    with pytest.raises(OSError, match="bytes would be unpacked, 500 are free"):
        Cityscapes(tmp_path, "train")
    assert len(os.listdir(tmp_path)) == 2


# Bombs: files that ask for far more memory than they have bytes


def huge_png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for name, content in ((b"IHDR", header), *chunks, (b"IDAT", b"x"), (b"IEND", b"")):
        data += struct.pack(">I", len(content)) + name + content
        data += struct.pack(">I", zlib.crc32(name + content))
    return data


def huge_jpeg() -> bytes:
    content = bytearray(save(NOISE, "JPEG"))
    frame = content.index(b"\xff\xc0") + 5  # its height and width
    content[frame : frame + 4] = struct.pack(">HH", 60_000, 60_000)
    return bytes(content)


def text_bomb() -> bytes:
    """A comment of 100 MB."""
    return huge_png(4, 4, (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(10**8), 1)))


IMAGE_BOMBS = {
    "PNG": lambda: huge_png(60_000, 60_000),
    "JPEG": huge_jpeg,
    "GIF": lambda: save(NOISE, "GIF")[:6] + b"\x60\xea\x60\xea" + save(NOISE, "GIF")[10:],
    "a text": text_bomb,
}


def within(memory: int, function: Callable, *args) -> tuple[str, str]:
    """A function's error, name and text, in a process that may take so many more bytes."""

    def run() -> None:
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + 4 * 2**30,) * 2)  # to spare the machine
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            result = "nothing", repr(function(*args))
        except BaseException as error:
            result = type(error).__name__, str(error)
        taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        theirs.send(result if taken <= memory else ("memory", f"{taken:,} bytes"))

    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    try:
        assert ours.poll(120)
        return ours.recv()
    finally:
        process.kill()
        process.join()


@pytest.mark.parametrize("name", IMAGE_BOMBS)
def test_an_image_that_asks_for_gigabytes_is_refused_in_little_memory(tmp_path, name):
    path = tmp_path / "a.png"
    path.write_bytes(IMAGE_BOMBS[name]())
    kind, text = within(50 * 10**6, read_image, path)
    assert kind == "ValueError" and "a.png" in text


def zip_bomb() -> bytes:
    """Labels of 20 MB."""
    return fuzz_kinds.archive("gtFine", bytes(20 * 10**6))


def claim(content: bytes, size: int) -> bytes:
    """A zip archive whose first file would be of another size, by its table of contents."""
    data = bytearray(content)
    place = data.index(b"PK\x01\x02") + 24
    data[place : place + 4] = size.to_bytes(4, "little")
    return bytes(data)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(zip_bomb, id="a bomb"),
        pytest.param(lambda: claim(labels_zip(8), 2**32 - 2), id="claims much"),
        pytest.param(lambda: claim(zip_bomb(), 10), id="claims little"),
    ],
)
def test_an_archive_that_would_unpack_to_gigabytes_is_refused(tmp_path, make):
    tree_of(tmp_path, make())
    kind, text = within(50 * 10**6, Cityscapes, tmp_path, "train")
    assert kind == "ValueError" and "damaged" in text
    state = zip_state(tmp_path / "gtFine_trainvaltest.zip", read_all=True)
    assert state.startswith("damaged")
    assert sum(path.stat().st_size for path in (tmp_path / "gtFine").rglob("*.png")) < 10**6


def compressed(path: Path) -> None:
    """A checkpoint of 400 MB in one of 400 kB."""
    altered(path, model={"a": torch.zeros(10**8)})
    content = path.read_bytes()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(compressed, marks=pytest.mark.slow),
        lambda path: path.write_bytes(claim(altered(path).read_bytes(), 2**32 - 2)),
        lambda path: altered(path, model={"a": torch.ones(1).expand(10**12)}),
        lambda path: altered(path, settings={**SETTINGS, "width": 10**6}),
        lambda path: altered(path, settings={**SETTINGS, "width": 64, "depth": 9}),
        lambda path: altered(path, settings={**SETTINGS, "depth": 10**9}),
    ],
    ids=["compressed", "claims much", "stride 0", "width", "depth", "endless depth"],
)
def test_a_checkpoint_that_asks_for_gigabytes_is_refused_in_little_memory(tmp_path, make):
    path = tmp_path / "a.pt"
    make(path)
    kind, text = within(100 * 10**6, load_model, path)
    assert kind == "ValueError" and "a.pt" in text, text

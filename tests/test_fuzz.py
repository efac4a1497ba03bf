"""What damaged and malicious files did before they were refused; `stress.fuzz` found most of it."""

import ctypes
import io
import multiprocessing
import os
import re
import shutil
import stat
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from PIL import EpsImagePlugin
from test_bad_input import altered

from data_io.image_io import image_size, read_image
from dataset import Cityscapes
from engine import Recipe
from inference import load_model
from prepare import cityscapes, class_lists, decisions
from tests.samples import patched, png
from tests.stress import fuzz, fuzz_kinds
from tests.stress.fuzz_kinds import NOISE, ZIPS, save, unpack
from utils import Classes

resource = pytest.importorskip("resource")  # not on Windows


@pytest.mark.slow
def test_ten_seconds_of_damaged_files_are_read_or_refused(tmp_path):
    counts = fuzz.fuzz(10, seed=0, keep=tmp_path)
    assert all(each.total() >= fuzz.BATCH for each in counts.values())
    found = [path.read_text() for path in tmp_path.glob("*.txt")]
    assert not found, "\n\n".join(found)
    assert counts["other images"]["read"] and counts["PNG images"]["refused"]


VALUES = ["!!timestamp x", "!!int ''", "!!bool x", "[" * 1000, "&a [*a]", "{a: [b]}", "2001-99-99"]
CLASS = "- {name: %s, id: %s, color: [1, 2, 3]}"
COLORS = ["300 0 0 a", "1 2 3 a\n4 5 6 a", "0x1 2 3 a"]
RECORDS = ["{}", "[]", "[" * 5000, '{"labels": "x", "ids": {}}', '{"labels": "ids", "ids": 1}']
TEXTS = [
    *((Recipe.from_file, "file.yaml", f"lr: {value}") for value in VALUES),
    *((Classes.from_file, "file.yaml", CLASS % (value, 1)) for value in (*VALUES[3:6], "[a]")),
    (Classes.from_file, "file.yaml", CLASS % ("a", ".inf")),
    *((class_lists.read_class_list, "colors.txt", text) for text in COLORS),
    *((lambda path: decisions.read_record(path.parent), "own.json", text) for text in RECORDS),
]


@pytest.mark.parametrize(
    ("read", "name", "text"), TEXTS, ids=[f"{text[1]}-{i}" for i, text in enumerate(TEXTS)]
)
def test_a_text_that_parsers_trip_over_is_refused_with_the_files_name(tmp_path, read, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=name):
        read(tmp_path / name)


def test_postscript_is_not_run_and_what_cannot_be_opened_has_no_size(tmp_path, monkeypatch):
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
    flags = 80, (8192).to_bytes(4, "little")  # of its pixels' format
    path.write_bytes(patched(save(NOISE, "DDS"), flags))
    assert image_size(path) is None


def tree_of(folder: Path, labels: bytes) -> Path:
    """A data set whose archives are not unpacked yet."""
    images = fuzz_kinds.archive("leftImg8bit", fuzz_kinds.PNG[0])
    (folder / "leftImg8bit_trainvaltest.zip").write_bytes(images)
    (folder / "gtFine_trainvaltest.zip").write_bytes(labels)
    return folder


def claim(content: bytes, size: int) -> bytes:
    """A zip archive whose first file would be of another size, by its table of contents."""
    return patched(content, (content.index(TABLE) + 24, size.to_bytes(4, "little")))


def test_archives_are_unpacked_only_inside_their_data_set(tmp_path):
    root = tmp_path / "around" / "root"
    root.mkdir(parents=True)
    tree_of(root, ZIPS[zipfile.ZIP_STORED])
    with zipfile.ZipFile(root / "gtFine_trainvaltest.zip", "a") as archive:
        for name in ("../beside", "gtFine/../../beside", "..\\backwards", root.parent / "absolute"):
            archive.writestr(str(name), "evil")
        link = zipfile.ZipInfo("gtFine/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, str(root.parent))
        archive.writestr("gtFine/link/through", "evil")
    with suppress(OSError, ValueError):  # the link may be refused
        Cityscapes(root, "val")
    assert (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir()  # it did unpack
    assert os.listdir(root.parent) == ["root"]


def test_archives_that_would_fill_the_disk_are_not_unpacked(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=500)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    tree_of(tmp_path, ZIPS[zipfile.ZIP_STORED])
    with pytest.raises(OSError, match="bytes would be unpacked, 500 are free"):
        Cityscapes(tmp_path, "train")
    assert len(os.listdir(tmp_path)) == 2


def compressed(folder: Path) -> bytes:
    """A checkpoint of 400 MB in one of 400 kB."""
    path = altered(folder, model={"a": torch.zeros(10**8)})
    with (
        zipfile.ZipFile(io.BytesIO(path.read_bytes())) as old,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return path.read_bytes()


def checkpoint(**parts) -> Callable[[Path], bytes]:
    return lambda folder: altered(folder, **parts).read_bytes()


BOMB, TABLE = fuzz_kinds.archive("gtFine", bytes(20 * 10**6)), b"PK\x01\x02"
ZIP, SIZE = "gtFine_trainvaltest.zip", 2**32 - 2
FLAGS = 6, ZIPS[zipfile.ZIP_STORED].index(TABLE) + 8  # in both headers
ENCRYPTED = patched(ZIPS[zipfile.ZIP_STORED], *((place, b"\1") for place in FLAGS))
JPEG, GIF = save(NOISE, "JPEG"), save(NOISE, "GIF")
HUGE_JPEG = patched(JPEG, (JPEG.index(b"\xff\xc0") + 5, b"\xea\x60\xea\x60"))
GREEDY = {  # what reads it, the name of the file, and its content
    "damaged": (unpack, ZIP, lambda _: patched(ZIPS[zipfile.ZIP_LZMA], (100, bytes(40)))),
    "encrypted": (unpack, ZIP, lambda _: ENCRYPTED),
    "a bomb": (unpack, ZIP, lambda _: BOMB),  # of 20 MB
    "claims much": (unpack, ZIP, lambda _: claim(ZIPS[zipfile.ZIP_DEFLATED], SIZE)),
    "claims little": (unpack, ZIP, lambda _: claim(BOMB, 10)),
    "PNG": (read_image, "a.png", lambda _: png(60_000, 60_000, b"")),
    "JPEG": (read_image, "a.png", lambda _: HUGE_JPEG),
    "GIF": (read_image, "a.png", lambda _: patched(GIF, (6, b"\x60\xea\x60\xea"))),
    "a text of 100 MB": (read_image, "a.png", lambda _: png(4, 4, b"", text=bytes(10**8))),
    "compressed": pytest.param(load_model, "a.pt", compressed, marks=pytest.mark.slow),
    "weights claim much": (load_model, "a.pt", lambda f: claim(altered(f).read_bytes(), SIZE)),
    "stride 0": (load_model, "a.pt", checkpoint(model={"a": torch.ones(1).expand(10**12)})),
    "width": (load_model, "a.pt", checkpoint(settings={"width": 10**6})),
    "depth": (load_model, "a.pt", checkpoint(settings={"width": 64, "depth": 9})),
    "endless depth": (load_model, "a.pt", checkpoint(settings={"depth": 10**9})),
}


def attempt(read: Callable, path: Path) -> tuple[str, str, int]:
    """The error of a reader, its text, and the bytes that it took."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + 4 * 2**30,) * 2)  # to spare the machine
    ctypes.CDLL(None).malloc_trim(0)  # else memory that earlier tests freed would be taken first
    Path("/proc/self/clear_refs").write_text("5")  # begins a new peak
    before, error = kibibytes("VmRSS"), None
    try:
        read(path)
    except BaseException as raised:
        error = raised
    return type(error).__name__, str(error), (kibibytes("VmHWM") - before) * 1024


def kibibytes(name: str) -> int:
    """A figure of this process's memory, now (VmRSS) or at its peak (VmHWM)."""
    return int(re.search(rf"{name}:\s*(\d+) kB", Path("/proc/self/status").read_text())[1])


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="measures memory by /proc")
@pytest.mark.parametrize(("read", "name", "make"), GREEDY.values(), ids=GREEDY)
def test_what_asks_for_gigabytes_is_refused_in_little_memory(tmp_path, read, name, make):
    path = tmp_path / name
    path.write_bytes(make(tmp_path))
    with multiprocessing.get_context("fork").Pool(1) as pool:
        kind, text, taken = pool.apply_async(attempt, (read, path)).get(timeout=120)
    assert kind == "ValueError" and str(tmp_path) in text, text
    assert taken < (100 if read is load_model else 50) * 10**6
    if read is unpack:
        assert "is damaged" in text and "prepare.cityscapes" in text
        assert cityscapes.zip_state(path, read_all=True).startswith("damaged")
        assert sum(each.stat().st_size for each in tmp_path.glob("gtFine/**/*.png")) < 10**6

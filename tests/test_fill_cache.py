"""Filling the cache of decoded images ahead of time."""

import runpy
import sys
from pathlib import Path

import pytest

from dataset import Cityscapes
from engine.fill_cache import fill


def run(monkeypatch, tree: Path, *options: str) -> None:
    """`python -m engine.fill_cache` in this process."""
    fields = ["--recipe=recipes/streets.yaml", f"--data_root={tree}", "--downscale=2", *options]
    monkeypatch.setattr(sys, "argv", ["cache", *fields])
    monkeypatch.delitem(sys.modules, "engine.fill_cache")
    runpy.run_module("engine.fill_cache", run_name="__main__")


def test_the_command_leaves_nothing_to_decode_in_either_split(tree, monkeypatch):
    run(monkeypatch, tree)
    for split, count in (("train", 12), ("val", 5)):
        data = Cityscapes(tree, split, downscale=2, cache=".cache")
        found = [data.cache.path(i).stat().st_size for i in range(count)]
        assert data.cache_size() == pytest.approx(sum(found), rel=0.01)
        monkeypatch.setattr(data, "decode", None)  # would fail
        assert len([data[i] for i in range(len(data))]) == count


def test_a_recipe_without_a_cache_is_refused(tree, monkeypatch):
    with pytest.raises(SystemExit, match="has no cache to fill: name a directory as `cache`"):
        run(monkeypatch, tree, "--cache=null")


def test_a_cache_that_cannot_be_filled_is_named(tree):
    (tree / "file").touch()
    data = Cityscapes(tree, "val", cache="file/below")
    with pytest.warns(UserWarning), pytest.raises(OSError, match="file/below could not be filled"):
        fill(data)


def test_a_damaged_image_ends_the_command_with_one_line(tree, monkeypatch):
    path = next((tree / "leftImg8bit" / "val").rglob("*.png"))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, tree)
    assert f"error: {path} cannot be read" in stop.value.code
    assert "\n" not in stop.value.code

"""Streets: drawn as asked for, exact, reproducible, and like Cityscapes."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import labels as official
from PIL import Image

from prepare.streets import main
from streets import draw_tree, ensure_streets, scene_paths, tree
from tests.processes import ROOT, python, wait_for
from tests.samples import contents, times

IDS = {label.id: label.name for label in official if 0 <= label.trainId < 255}
IGNORED = [0, 1, 4]  # unlabelled, the own vehicle, boxes beside the road
SMALL = dict(size=(128, 64), quiet=True)


def interrupted(root, *args, end, **kwargs):
    """Draw into `root` with the command until three images are there, and end the process."""
    command = [sys.executable, "-m", "prepare.streets", root, "--size", "128x64", *args]
    process = subprocess.Popen([*map(str, command)], cwd=ROOT, **kwargs)
    try:
        wait_for(lambda: len(list(root.glob("leftImg8bit/*/*/*.png"))) >= 3)
    finally:
        end(process)
        process.wait()


def pixels(paths):
    return [np.asarray(Image.open(p)) for p in paths]


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    """The first scenes of the default Streets, 70 and 20, at half its size."""
    root = tmp_path_factory.mktemp("streets") / "default"
    draw_tree(root, train=70, val=20, size=(256, 128), quiet=True)
    return root


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("streets") / "small"
    draw_tree(root, train=4, val=2, workers=1, **SMALL)
    return root


@pytest.mark.slow
def test_every_class_is_drawn_with_the_long_tail_of_cityscapes(default):
    fine = pixels(sorted(default.glob("gtFine/*/*/*_labelIds.png")))
    shares = np.stack([np.bincount(x.ravel(), minlength=34) / x.size for x in fine])
    assert set(IDS) <= set(np.flatnonzero(shares.sum(axis=0))) <= {*IGNORED, *IDS}
    assert (shares > 0).mean(axis=0)[list(IDS)].min() > 0.05  # and none only by luck
    mean = {name: shares[:, i].mean() for i, name in IDS.items()}
    ranked = sorted(mean, key=mean.get, reverse=True)
    assert ranked[:2] == ["road", "building"] and set(ranked[2:4]) == {"vegetation", "sky"}
    assert 0.25 < mean["road"] < 0.40 and 0.16 < mean["building"] < 0.30
    assert mean["rider"] < 0.01 and mean["traffic light"] < 0.01 and mean["bicycle"] < 0.01
    assert shares[:, IGNORED].sum(axis=1).mean() < 0.05  # ignored


@pytest.mark.slow
def test_coarse_labels_agree_with_fine_ones_and_leave_out_borders(default):
    kept, covered = set(), []
    for i in range(20):
        _, fine, coarse = pixels(scene_paths(default, "train", i))
        drawn = coarse > 0
        assert (coarse[drawn] == fine[drawn]).all()
        border = fine[:, 1:] != fine[:, :-1]
        assert not (border & (drawn[:, 1:] | drawn[:, :-1])).any()
        kept |= set(np.unique(coarse))
        covered.append(drawn.mean())
    assert {7, 11, 21, 26} < kept <= {*IGNORED, *IDS}
    assert 0.4 < np.mean(covered) < 0.95


@pytest.mark.slow
def test_the_seed_alone_decides_the_bytes_whatever_the_processes_and_counts(small, tmp_path):
    draw_tree(tmp_path / "two", train=4, val=2, workers=2, **SMALL)
    assert contents(tmp_path / "two") == contents(small)
    draw_tree(tmp_path / "more", train=7, val=1, workers=1, **SMALL)
    more = contents(tmp_path / "more")
    fewer = {name: data for name, data in contents(small).items() if "/train/" in name}
    assert fewer.items() <= more.items() and len(fewer) == 12
    draw_tree(tmp_path / "other", train=1, val=0, seed=1, workers=1, **SMALL)
    a, b = pixels([scene_paths(root, "train", 0)[0] for root in (small, tmp_path / "other")])
    assert (a != b).mean() > 0.5


def test_a_second_call_touches_nothing_and_is_refused_with_other_settings(small, capsys):
    before = times(small)
    ensure_streets(small)
    assert draw_tree(small, train=4, val=2, **SMALL) == 0
    main([str(small), "--train", "4", "--val", "2", "--size", "128x64"])
    assert "already" in capsys.readouterr().out
    for change in (dict(seed=3), dict(train=5), dict(val=0), dict(size=(256, 64))):
        with pytest.raises(FileExistsError, match="other settings.*another directory"):
            draw_tree(small, **{**dict(train=4, val=2), **SMALL, **change})
    assert before == times(small)


def test_the_pixels_of_version_2_stay_the_same_and_its_splits_are_different_cities(small):
    """Results and checkpoints in this repository are of these scenes: see `VERSION`."""
    folders = (small / "leftImg8bit" / split for split in ("train", "val"))
    train, val = ({path.name for path in folder.iterdir()} for folder in folders)
    assert train and val and not train & val
    assert all(name.isalpha() and name.islower() for name in train | val)
    labels = pixels(sorted(small.glob("gt*/*/*/*.png")))
    assert hashlib.sha256(np.stack(labels).tobytes()).hexdigest()[:16] == "cc739bb0888e6410"
    images = np.stack(pixels(sorted(small.glob("leftImg8bit/*/*/*.png"))))
    # within the rounding of another processor and of another build of the JPEG library
    assert images.mean((0, 1, 2)) == pytest.approx([95.546, 95.4, 95.667], abs=0.05)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kills a group of processes")
def test_killed_in_the_middle_and_continued_equals_uninterrupted(tmp_path):
    args = ("--train", "16", "--val", "2", "--workers", "2")
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    end = lambda process: os.killpg(process.pid, signal.SIGKILL)  # noqa: E731
    interrupted(cut, *args, end=end, start_new_session=True)
    images = list(cut.glob("leftImg8bit/*/*/*_leftImg8bit.png"))
    assert 3 <= len(images) < 18
    for image in map(str, images):  # an image always has its labels
        for kind in ("gtFine", "gtCoarse"):
            labels = image.replace("leftImg8bit.png", f"{kind}_labelIds.png")
            assert os.path.exists(labels.replace("leftImg8bit", kind))
    main([str(cut), *args, "--size", "128x64"])
    draw_tree(whole, train=16, val=2, workers=1, **SMALL)
    assert contents(cut) == contents(whole)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kills a process")
def test_drawing_processes_do_not_outlive_the_one_that_is_killed(tmp_path):
    args = ("--train", "2000", "--val", "0", "--workers", "2")
    interrupted(tmp_path / "cut", *args, end=subprocess.Popen.kill)

    def is_quiet():  # by names alone: a file may be renamed between its name and its time
        before = len([*tmp_path.rglob("*")])
        time.sleep(1)
        return len([*tmp_path.rglob("*")]) == before

    wait_for(is_quiet)
    assert len([*tmp_path.rglob("*")]) < 6000


def test_a_file_that_another_process_put_in_place_first_is_no_error(tmp_path, monkeypatch):
    replace = os.replace

    def beaten(part, path):
        replace(part, path)  # the other's
        replace(part, path)  # ours, too late

    monkeypatch.setattr(os, "replace", beaten)
    tree.write(tmp_path / "a.png", b"same bytes")
    assert contents(tmp_path) == {"a.png": b"same bytes"}


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_after_a_killed_start_and_without_a_file_what_lacks_is_drawn(small, kind, tmp_path):
    (tmp_path / "streets.json.part").write_text("{")
    draw_tree(tmp_path, train=4, val=2, workers=1, **SMALL)
    scene_paths(tmp_path, "train", 2)[kind].unlink()
    assert draw_tree(tmp_path, train=4, val=2, workers=1, **SMALL) == 1
    assert contents(tmp_path) == contents(small)


@pytest.mark.parametrize("draw", [draw_tree, ensure_streets])
@pytest.mark.parametrize("note", ["{", "[]", '"x"', '{"train": 1}', "\xff"])
def test_a_directory_of_other_data_or_with_a_broken_note_is_refused(note, draw, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=f"{re.escape(str(tmp_path))} holds other data"):
        draw_tree(tmp_path)
    (tmp_path / "streets.json").write_text(note, encoding="latin-1")
    with pytest.raises(FileExistsError, match="streets.json does not hold.*delete"):
        draw(tmp_path)
    assert [*contents(tmp_path)] == ["precious.txt", "streets.json"]


def test_a_file_in_the_way_and_too_small_a_disk_are_named_before_the_first_scene(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(NotADirectoryError, match="is a file"):
        draw_tree(path, train=1, val=0, quiet=True)
    with pytest.raises(OSError, match="cannot write into .*file"):
        draw_tree(path / "below", train=1, val=0, quiet=True)
    with pytest.raises(OSError, match="1 scenes of .* take some .* GB, and .* has"):
        draw_tree(tmp_path / "new", train=1, val=0, size=(4_000_000, 2_000_000), workers=1)
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize(("size", "says"), [("512", "512x256"), ("511x256", "even")])
def test_the_command_refuses_a_bad_value_with_its_cure(size, says, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path / "new"), "--size", size])
    assert says in f"{stop.value.code} {capsys.readouterr().err}"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        *((dict(size=size), "whole numbers") for size in ((512, float("inf")), "512x256", 512)),
        (dict(size=(32, 16)), "64x32"),
        (dict(train=-1), "train is -1.*0 or more"),
        (dict(train=1.5), "train is 1.5.*0 or more"),
        (dict(seed=None), "seed is None.*0 or more"),
        (dict(workers=0), "workers is 0.*1 or more"),
        (dict(workers="2"), "workers is '2'.*1 or more"),
    ],
)
def test_a_bad_value_is_refused_before_anything_is_written(bad, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        draw_tree(tmp_path / "new", **{**dict(train=1, val=0), **bad})
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("size", [(64, 32), (300, 210), (128, 256), (1024, 512)])
def test_any_size_on_request(size, tmp_path):
    draw_tree(tmp_path / "any", train=1, val=0, size=size, workers=1, quiet=True)
    image, fine, coarse = (Image.open(p) for p in scene_paths(tmp_path / "any", "train", 0))
    assert (image.mode, fine.mode, coarse.mode) == ("RGB", "L", "L")
    assert image.size == fine.size == coarse.size == size
    assert json.loads((tmp_path / "any" / "streets.json").read_text())["size"] == list(size)


def test_ensure_streets_draws_only_where_streets_is_meant(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(tree, "draw_tree", lambda root, **settings: drawn.append((root, settings)))
    ensure_streets(tmp_path / "cityscapes")  # a mistyped path
    (tmp_path / "there" / "streets").mkdir(parents=True)
    ensure_streets(tmp_path / "there" / "streets")  # somebody's own folder
    assert drawn == []
    monkeypatch.setenv("PLACE", str(tmp_path))
    ensure_streets("$PLACE/streets")
    assert drawn == [(tmp_path / "streets", {})]


@pytest.mark.slow
def test_ensure_works_in_a_process_without_a_main_file_as_a_notebook_is(small, tmp_path):
    (tmp_path / "streets.json").write_bytes((small / "streets.json").read_bytes())
    code = "import sys; from streets import ensure_streets; ensure_streets(sys.argv[1])"
    python("-c", code, tmp_path)
    assert contents(tmp_path) == contents(small)

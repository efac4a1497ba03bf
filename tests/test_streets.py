"""Streets: drawn as asked for, exact, reproducible, and like Cityscapes."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prepare.streets import main
from streets import draw_tree, ensure_streets, scene_paths, tree
from streets.canvas import BARS, Camera, Canvas
from streets.develop import Response, develop
from streets.lots import FENCE, WALL
from streets.plan import Light
from streets.scene import draw_scene
from streets.solids import far_to_near

REPOSITORY = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "prepare.streets"]
NAMES = (
    "7 road, 8 sidewalk, 11 building, 12 wall, 13 fence, 17 pole, 19 traffic light, "
    "20 traffic sign, 21 vegetation, 22 terrain, 23 sky, 24 person, 25 rider, 26 car, 27 truck, "
    "28 bus, 31 train, 32 motorcycle, 33 bicycle"
)
IDS = {int(number): name for number, name in (row.split(" ", 1) for row in NAMES.split(", "))}
IGNORED = [0, 1, 4]  # unlabelled, the own vehicle, boxes beside the road
SMALL = dict(size=(128, 64), quiet=True)


def start(*args, **kwargs):
    """Start the command as a user does."""
    command = [*COMMAND, *map(str, args)]
    return subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, **kwargs)


def contents(root):
    """{relative path: bytes} of every file below root."""
    return {
        p.relative_to(root).as_posix(): p.read_bytes()
        for p in sorted(root.rglob("*"))
        if p.is_file()
    }


def wait_for(done):
    """Wait until done(), for two minutes at most: a busy machine starts processes slowly."""
    deadline = time.time() + 120
    while not done():
        assert time.time() < deadline, "waited in vain"
        time.sleep(0.01)


def pixels(paths):
    """The arrays of some image files."""
    return [np.asarray(Image.open(p)) for p in paths]


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    """The first scenes of the default Streets, 70 and 20, at half its size."""
    root = tmp_path_factory.mktemp("streets") / "default"
    draw_tree(root, train=70, val=20, size=(256, 128), quiet=True)
    return root


@pytest.fixture(scope="module")
def shares(default):
    """[scenes, 34]: the share of each id in each fine label image."""
    fine = pixels(sorted(default.glob("gtFine/*/*/*_labelIds.png")))
    return np.stack([np.bincount(x.ravel(), minlength=34) / x.size for x in fine])


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Six small scenes, drawn in this process."""
    root = tmp_path_factory.mktemp("streets") / "small"
    draw_tree(root, train=4, val=2, workers=1, **SMALL)
    return root


def test_ids_are_those_of_the_benchmark():
    labels = pytest.importorskip("cityscapesscripts.helpers.labels").labels
    assert IDS == {label.id: label.name for label in labels if 0 <= label.trainId < 255}


@pytest.mark.slow
def test_every_class_is_drawn_and_nothing_the_benchmark_does_not_know(shares):
    seen = set(np.flatnonzero(shares.sum(axis=0)))
    assert set(IDS) <= seen <= {*IGNORED, *IDS}
    assert (shares > 0).mean(axis=0)[list(IDS)].min() > 0.05  # and none only by luck


@pytest.mark.slow
def test_class_frequencies_have_the_long_tail_of_cityscapes(shares):
    mean = {name: shares[:, i].mean() for i, name in IDS.items()}
    ranked = sorted(mean, key=mean.get, reverse=True)
    assert ranked[:2] == ["road", "building"] and set(ranked[2:4]) == {"vegetation", "sky"}
    assert 0.25 < mean["road"] < 0.40 and 0.16 < mean["building"] < 0.30
    assert mean["rider"] < 0.01 and mean["traffic light"] < 0.01 and mean["bicycle"] < 0.01
    assert shares[:, IGNORED].sum(axis=1).mean() < 0.05  # ignored


def test_train_and_val_are_different_cities(small):
    train, val = (
        {p.name for p in (small / "leftImg8bit" / split).iterdir()} for split in ("train", "val")
    )
    assert train and val and not train & val
    assert all(name.isalpha() and name.islower() for name in train | val)


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
def test_colours_vary_from_scene_to_scene(default):
    bright = [x.mean() for x in pixels(sorted(default.glob("leftImg8bit/train/*/*.png")))]
    assert len(bright) == 70 and np.std(bright) > 10 and 60 < np.mean(bright) < 180
    assert not list(default.rglob("*.part"))


@pytest.mark.slow
def test_same_seed_same_bytes_whatever_the_processes_and_counts(small, tmp_path):
    draw_tree(tmp_path / "two", train=4, val=2, workers=2, **SMALL)
    assert contents(tmp_path / "two") == contents(small)
    draw_tree(tmp_path / "more", train=7, val=1, workers=1, **SMALL)
    more = contents(tmp_path / "more")
    fewer = {name: data for name, data in contents(small).items() if "/train/" in name}
    assert fewer.items() <= more.items() and len(fewer) == 12


def test_a_scene_depends_on_its_generator_alone():
    first, _, again = (draw_scene(np.random.default_rng(seed), (128, 64)) for seed in (1, 2, 1))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_another_seed_draws_other_streets(small, tmp_path):
    draw_tree(tmp_path / "other", train=1, val=0, seed=1, workers=1, **SMALL)
    a, b = pixels([scene_paths(root, "train", 0)[0] for root in (small, tmp_path / "other")])
    assert (a != b).mean() > 0.5


def test_a_second_call_touches_nothing(small, capsys):
    before = {p: p.stat().st_mtime_ns for p in small.rglob("*")}
    ensure_streets(small)
    assert draw_tree(small, train=4, val=2, **SMALL) == 0
    main([str(small), "--train", "4", "--val", "2", "--size", "128x64"])
    assert "already" in capsys.readouterr().out
    assert before == {p: p.stat().st_mtime_ns for p in small.rglob("*")}


def test_the_pixels_of_version_2_stay_the_same(small):
    """Results and checkpoints in this repository are of these scenes: see `VERSION`."""
    labels = pixels(sorted(small.glob("gt*/*/*/*.png")))
    assert hashlib.sha256(np.stack(labels).tobytes()).hexdigest()[:16] == "cc739bb0888e6410"
    images = np.stack(pixels(sorted(small.glob("leftImg8bit/*/*/*.png"))))
    # within the rounding of another processor and of another build of the JPEG library
    assert images.mean((0, 1, 2)) == pytest.approx([95.546, 95.4, 95.667], abs=0.05)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kills a group of processes")
def test_killed_in_the_middle_and_continued_equals_uninterrupted(tmp_path):
    args = ("--train", 16, "--val", 2, "--size", "128x64", "--workers", 2)
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    process = start(cut, *args, start_new_session=True)
    try:
        wait_for(lambda: len(list(cut.glob("leftImg8bit/*/*/*.png"))) >= 3)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    images = list(cut.glob("leftImg8bit/*/*/*_leftImg8bit.png"))
    assert 3 <= len(images) < 18
    for image in images:  # an image always has its labels
        for kind in ("gtFine", "gtCoarse"):
            name = image.name.replace("leftImg8bit.png", f"{kind}_labelIds.png")
            assert (cut / kind / image.relative_to(cut / "leftImg8bit").parent / name).exists()
    main([str(cut), *map(str, args)])
    draw_tree(whole, train=16, val=2, workers=1, **SMALL)
    assert contents(cut) == contents(whole)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kills a process")
def test_drawing_processes_do_not_outlive_the_one_that_is_killed(tmp_path):
    root = tmp_path / "cut"
    process = start(root, "--train", 2000, "--val", 0, "--size", "128x64", "--workers", 2)
    try:
        wait_for(lambda: len(list(root.glob("leftImg8bit/*/*/*.png"))) >= 3)
    finally:
        process.kill()
        process.wait()

    def is_quiet():
        before = len(contents(root))
        time.sleep(1)
        return len(contents(root)) == before

    wait_for(is_quiet)
    assert len(contents(root)) < 6001


@pytest.mark.slow
def test_two_that_draw_the_same_at_once_do_not_disturb_each_other(tmp_path):
    args = (tmp_path / "twice", "--train", 12, "--val", 0, "--size", "64x32", "--workers", 1)
    both = [start(*args) for _ in range(2)]
    for process in both:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    draw_tree(tmp_path / "once", train=12, val=0, size=(64, 32), workers=1, quiet=True)
    assert contents(tmp_path / "twice") == contents(tmp_path / "once")


def test_a_file_that_another_process_put_in_place_first_is_no_error(tmp_path, monkeypatch):
    replace = os.replace

    def beaten(part, path):
        replace(part, path)  # the other's
        replace(part, path)  # ours, too late

    monkeypatch.setattr(os, "replace", beaten)
    tree.write(tmp_path / "a.png", b"same bytes")
    assert contents(tmp_path) == {"a.png": b"same bytes"}


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_a_lost_image_or_label_file_is_drawn_again(small, kind, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(small, copy)
    scene_paths(copy, "train", 2)[kind].unlink()
    assert draw_tree(copy, train=4, val=2, workers=1, **SMALL) == 1
    assert contents(copy) == contents(small)


def test_a_start_killed_while_it_wrote_its_note_can_be_repeated(small, tmp_path):
    (tmp_path / "streets.json.part").write_text("{")
    draw_tree(tmp_path, train=4, val=2, workers=1, **SMALL)
    assert contents(tmp_path) == contents(small)


@pytest.mark.parametrize("change", [dict(seed=3), dict(train=5), dict(val=0), dict(size=(256, 64))])
def test_other_settings_are_refused_and_nothing_is_overwritten(small, change):
    before = contents(small)
    with pytest.raises(FileExistsError, match="other settings.*another directory"):
        draw_tree(small, **{**dict(train=4, val=2), **SMALL, **change})
    assert contents(small) == before


def test_a_directory_of_other_data_is_refused(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=f"{tmp_path} holds other data"):
        draw_tree(tmp_path)
    assert list(contents(tmp_path)) == ["precious.txt"]


@pytest.mark.parametrize("draw", [draw_tree, ensure_streets])
@pytest.mark.parametrize("note", ["{", "[]", '"x"', '{"train": 1}', "\xff"])
def test_a_broken_note_is_refused_and_named(note, draw, tmp_path):
    (tmp_path / "streets.json").write_text(note, encoding="latin-1")
    with pytest.raises(FileExistsError, match="streets.json does not hold.*delete"):
        draw(tmp_path)


def test_a_file_in_the_way_is_named(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(NotADirectoryError, match="is a file"):
        draw_tree(path, train=1, val=0, quiet=True)
    with pytest.raises(OSError, match="cannot write into .*file"):
        draw_tree(path / "below", train=1, val=0, quiet=True)


@pytest.mark.parametrize(
    "bad, says",
    [
        (("--size", "512"), "512x256"),
        (("--size", "511x256"), "even"),
        (("--size", "32x16"), "64x32"),
        (("--train", "-1"), "0 or more"),
        (("--seed", "-1"), "0 or more"),
        (("--workers", "0"), "1 or more"),
    ],
)
def test_the_command_refuses_a_bad_value_with_its_cure(bad, says, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path / "new"), *bad])
    assert says in f"{stop.value.code} {capsys.readouterr().err}"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "bad, says",
    [
        (dict(size=(512.5, 256)), "whole numbers"),
        (dict(size=(512, float("inf"))), "whole numbers"),
        (dict(size="512x256"), "whole numbers"),
        (dict(size=512), "whole numbers"),
        (dict(train=1.5), "train is 1.5.*0 or more"),
        (dict(val="3"), "val is '3'.*0 or more"),
        (dict(seed=None), "seed is None.*0 or more"),
        (dict(workers="2"), "workers is '2'.*1 or more"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_too(bad, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        draw_tree(tmp_path / "new", **{**dict(train=1, val=0), **bad})
    assert not (tmp_path / "new").exists()


def test_more_scenes_than_the_disk_has_room_for_are_refused_before_the_first(tmp_path):
    with pytest.raises(OSError, match="1 scenes of .* take some .* GB, and .* has"):
        draw_tree(tmp_path / "new", train=1, val=0, size=(4_000_000, 2_000_000), workers=1)
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize("size", [(64, 32), (300, 210), (128, 256), (1024, 512)])
def test_any_size_on_request(size, tmp_path):
    draw_tree(tmp_path / "any", train=1, val=0, size=size, workers=1, quiet=True)
    image, fine, coarse = (Image.open(p) for p in scene_paths(tmp_path / "any", "train", 0))
    assert (image.mode, fine.mode, coarse.mode) == ("RGB", "L", "L")
    assert image.size == fine.size == coarse.size == size
    assert json.loads((tmp_path / "any" / "streets.json").read_text())["size"] == list(size)


@pytest.fixture
def wall():
    """A canvas with a red wall, and what is 8 m before it."""
    camera = Camera(focal=512, u0=64, v0=32, height=1.5, roll=0.0, bend=0.0)
    canvas = Canvas((128, 64), camera, sun=None, lamps_lit=False)
    canvas.begin(WALL, 0, 10)
    canvas.upright([(-9, 10), (9, 10)], (0, 9), (250, 20, 20))
    return canvas


def photograph(canvas):
    """The image and the labels of a canvas, in the same light each time."""
    light, response = Light(np.random.default_rng(2)), Response(np.random.default_rng(2), 0)
    return develop(canvas, light, response, np.random.default_rng(0))


def test_one_sees_through_a_fence_and_its_labels_have_no_holes(wall):
    wall.begin(FENCE, 0, 8)
    wall.upright([(-0.8, 8), (0.8, 8)], (1.2, 1.9), (20, 20, 20), material=BARS)
    image, labels = photograph(wall)
    rows, columns = np.nonzero(labels == FENCE)
    assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    seen = image[rows, columns, 0] > 0.7 * image[..., 0].max()  # the wall behind it
    assert 0.3 < seen.mean() < 0.9


def test_wires_hang_in_the_image_and_not_in_the_labels(wall):
    image, labels = photograph(wall)
    wall.wire((-9, 1.8, 8), (9, 1.8, 8), sag=0.2)
    wired, same = photograph(wall)
    np.testing.assert_array_equal(labels, same)
    darker = (image.astype(int) - wired > 20).any(axis=2)
    assert 0.005 < darker.mean() < 0.1


def test_near_things_hide_far_ones():
    wall, tree, car = (8, 20, 5, 40), (6, 7, 10, 11), (2, 4, 8, 12)
    assert far_to_near([car, tree, wall]) == [2, 1, 0]
    assert far_to_near([(-1, 1, 30, 34), (-1, 1, 10, 14), (-1, 1, 60, 64)]) == [2, 0, 1]
    assert far_to_near([]) == []


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
def test_ensure_finishes_a_drawing_with_the_settings_it_records(small, tmp_path, monkeypatch):
    root = tmp_path / "any name"
    shutil.copytree(small, root)
    for split, i in (("train", 1), ("train", 3), ("val", 0)):
        for path in scene_paths(root, split, i):
            path.unlink()
    monkeypatch.setenv("MY_DATA", str(tmp_path))
    ensure_streets("$MY_DATA/any name")
    assert contents(root) == contents(small)


def test_ensure_draws_the_default_set_where_streets_is_asked_for(small, tmp_path, monkeypatch):
    assert draw_tree.__defaults__ == ("data/streets", 600, 100, (512, 256), 0, None, False)
    monkeypatch.setattr(draw_tree, "__defaults__", ("", 4, 2, (128, 64), 0, 1, True))  # or minutes
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    ensure_streets("~/data/streets")
    assert contents(tmp_path / "data" / "streets") == contents(small)


@pytest.mark.slow
def test_ensure_works_in_a_process_without_a_main_file_as_a_notebook_is(small, tmp_path):
    (tmp_path / "streets.json").write_bytes((small / "streets.json").read_bytes())
    code = "import sys; from streets import ensure_streets; ensure_streets(sys.argv[1])"
    command = [sys.executable, "-c", code, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=60)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path) == contents(small)

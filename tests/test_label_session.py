"""Sessions of labelling: what is on disk after each stroke, and after what goes wrong."""

import errno
import io
import json
import os
import shutil
from contextlib import closing
from threading import Event
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image, ImageOps

from data_io.image_io import read_image
from dataset import Cityscapes
from labeling import session as labeling
from labeling.opening import open_data_set, open_session
from labeling.proposals import readable_views
from labeling.widget import LabelWidget, shown_file
from prepare import cityscapes
from prepare.own import prepare
from runtime import files
from tests.processes import python, wait_for
from tests.samples import contents, save, turned
from tests.test_prepare_own import ZERO_ONE, flat, photo

NAMES = ["road", "car", "sky"]


@pytest.fixture
def folder(tmp_path):
    """Seven photographs: a JPEG that is turned, grey, a palette, odd sizes, in two directories."""
    draw, photos = np.random.default_rng(0), tmp_path / "photos"
    (photos / "trip").mkdir(parents=True)

    def noise(height: int, width: int) -> Image.Image:
        return Image.fromarray(draw.integers(0, 255, (height, width, 3), dtype=np.uint8))

    noise(30, 41).save(photos / "a.jpg", exif=turned())
    noise(33, 47).convert("L").save(photos / "b.png")
    noise(20, 20).convert("P").save(photos / "c.gif")
    for i in range(4):
        noise(24, 40).save(photos / "trip" / f"{i}.png")
    return photos


@pytest.fixture
def opened(folder, tmp_path):
    with closing(open_session(folder, tmp_path / "set", NAMES)) as session:
        yield session


def on_disk(session, name: str) -> np.ndarray:
    return np.array(Image.open(session.photos[name].labels))


def test_photographs_of_another_folder_do_not_get_the_masks_of_the_first(folder, tmp_path):
    with closing(open_session(folder, tmp_path / "set", NAMES)) as session:
        session.stroke("b.png", [[0, 5, 1]])
    shutil.copytree(folder, tmp_path / "second")
    with pytest.raises(ValueError, match=r"set has the labels of .*photos, not of .*second"):
        open_session(tmp_path / "second", tmp_path / "set", NAMES)
    for name in ("photos", "set"):  # both move together
        shutil.move(tmp_path / name, tmp_path / "moved" / name)
    with closing(open_session(tmp_path / "moved/photos", tmp_path / "moved/set")) as session:
        assert (on_disk(session, "b.png").reshape(-1)[:5] == 1).all()


def test_a_photograph_with_one_stroke_in_cityscapes_classes_is_read(folder, tmp_path):
    with closing(open_session(folder, tmp_path / "set")) as session:
        session.stroke("b.png", [[0, 5, 7]])
    (labels,) = [labels for _, labels in Cityscapes(tmp_path / "set")]
    assert labels.unique().tolist() == [0, 255]


@pytest.mark.parametrize("name", ["own.json", "streets.json", "corrections.json", "gtFine"])
def test_a_data_set_that_was_not_labelled_here_is_refused(opened, folder, name):
    opened.stroke("b.png", [[0, 5, 1]])
    opened.close()
    (opened.root / "labeling.json").unlink()  # as is advised where it is damaged
    open_session(folder, opened.root).close()
    (opened.root / "labeling.json").unlink()
    if name == "gtFine":
        (opened.root / "classes.yaml").unlink()
    else:
        (opened.root / name).write_text("{}")
    with pytest.raises(ValueError, match=f"not labelled here .*{name}.*another directory"):
        open_session(folder, opened.root)


def test_a_data_set_behind_a_link_or_in_the_home_opens_again(folder, tmp_path, monkeypatch):
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "data").symlink_to(tmp_path / "far" / "away")
    monkeypatch.setenv("HOME", str(tmp_path / "data"))
    for root in tmp_path / "data" / "set", "~/set":
        with closing(open_session(folder, root, NAMES)) as session:
            session.stroke("b.png", [[0, 5, 1]])
    assert (tmp_path / "far" / "away" / "set").is_dir()


@pytest.mark.parametrize(
    ("second", "splits"), [("val", "train val"), ("more", "val train"), ("test", "val test")]
)
def test_directories_decide_the_split_as_val_or_test_beside_train(folder, tmp_path, second, splits):
    for i, name in enumerate(("train", "train", second)):
        (tmp_path / "split" / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "b.png", tmp_path / "split" / name / f"{i}.png")
    with closing(open_session(tmp_path / "split", tmp_path / "set", NAMES)) as session:
        names = "train/0.png", "train/1.png", f"{second}/2.png"
        for name, split in zip(names, ["train", *splits.split()], strict=True):
            session.stroke(name, [[0, 5, 1]])
            assert session.photos[name].labels.parts[-3] == split


def test_a_stroke_is_on_disk_at_the_upright_size_and_the_photograph_is_untouched(opened, folder):
    before = contents(folder)
    opened.stroke("a.jpg", [[5, 10, 0], [300, 2, 2]])
    expected = np.full((41, 30), opened.void, dtype=np.uint8)
    expected.reshape(-1)[5:15], expected.reshape(-1)[300:302] = 0, 2
    assert (on_disk(opened, "a.jpg") == expected).all()
    assert before == contents(folder)


def test_what_was_labelled_is_a_data_set_that_the_check_and_the_loader_take(opened):
    for i, name in enumerate(opened.order):
        opened.stroke(name, [[3, 20, i % 3]])
    opened.flush()
    lines = []
    assert cityscapes.check(opened.root, counts=None, say=lines.append) == []
    splits = {split: Cityscapes(opened.root, split) for split in ("train", "val")}
    assert {split: len(scenes) for split, scenes in splits.items()} == {"train": 5, "val": 2}
    assert all((mask != 255).sum() == 20 for scenes in splits.values() for _, mask in scenes)
    assert splits["train"].classes.names == tuple(NAMES)
    assert any("labelled" in line and "%" in line for line in lines)


def test_undo_and_redo_go_back_and_forth_over_a_hundred_random_strokes(opened):
    draw, name = np.random.default_rng(1), "trip/0.png"
    states = [opened.mask(name).copy()]
    for _ in range(120):
        runs = [[draw.integers(0, 900), draw.integers(1, 60), draw.choice([0, 1, 2, opened.void])]]
        opened.stroke(name, runs)
        states.append(opened.mask(name).copy())
    for state in states[-2::-1]:
        opened.undo(name)
        opened.save()
        assert (on_disk(opened, name) == state).all()
    assert opened.undo(name) is None
    for state in states[1:61]:
        opened.undo(name, redo=True)
        assert (opened.mask(name) == state).all()
    opened.stroke(name, [[0, 1, 1]])
    assert opened.undo(name, redo=True) is None


@pytest.mark.parametrize("killed", [False, True])
def test_a_second_round_opens_where_the_first_stopped_or_was_killed(opened, folder, killed):
    opened.stroke("b.png", [[0, 9, 1]])
    opened.set_done("b.png", True)
    opened.set_order(["trip/3.png", "b.png", "a.jpg"])
    opened.go("b.png")
    opened.flush()
    if killed:  # between the mask and the copy of its photograph
        opened.photos["b.png"].copy.unlink()
    else:
        opened.close()
    with closing(open_session(folder, opened.root)) as again:
        again.flush()
        assert (again.at, again.done, again.classes.names) == ("b.png", {"b.png"}, tuple(NAMES))
        assert (again.order, again.neighbour(1)) == (opened.order, "a.jpg")
        assert (again.mask("b.png").reshape(-1)[:10] == [1] * 9 + [opened.void]).all()
        assert again.photos["b.png"].copy.exists()


@pytest.mark.slow
def test_another_kernel_on_the_same_data_set_is_told_and_the_same_one_takes_over(opened, folder):
    code = "import sys; from labeling.opening import open_session; open_session(*sys.argv[1:])"
    done = python("-c", code, folder, opened.root, status=1)
    assert "is being labelled in another notebook" in done.stderr
    assert f"process {os.getpid()}" in done.stderr
    opened.stroke("b.png", [[0, 9, 1]])
    with closing(open_session(folder, opened.root)) as again:  # of a cell that is run again
        assert (again.mask("b.png").reshape(-1)[:9] == 1).all()
        before = contents(opened.root)
        for change in (lambda: opened.stroke("b.png", [[0, 9, 2]]), lambda: opened.undo("b.png")):
            with pytest.raises(BlockingIOError, match="opened again by another cell"):
                change()  # by the widget of the cell that was run before
        assert contents(opened.root) == before


def test_a_photograph_that_is_half_labelled_stays_open_when_all_are_ranked(opened, folder):
    opened.go("b.png")
    opened.stroke("b.png", [[0, 9, 1]])
    opened.close()
    with closing(open_session(folder, opened.root)) as again:
        again.set_order(["trip/3.png", "a.jpg"])
        assert (again.at, again.order[0]) == ("b.png", "trip/3.png")
        again.set_done("b.png", True)
        again.set_order(["trip/3.png", "a.jpg"])
        assert again.at == "trip/3.png"


@pytest.mark.parametrize("failure", [errno.ENOSPC, errno.EACCES])
def test_a_full_disk_is_named_and_the_stroke_is_saved_later(opened, monkeypatch, failure):
    opened.stroke("b.png", [[0, 9, 1]])
    error = OSError(failure, os.strerror(failure))
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", Mock(side_effect=error))
        with pytest.raises(OSError, match=f"{os.strerror(failure)}.*free some space"):
            opened.stroke("b.png", [[9, 9, 2]])
        assert (on_disk(opened, "b.png").reshape(-1)[:18] == [1] * 9 + [opened.void] * 9).all()
    opened.go("trip/1.png")  # and elsewhere: it is kept, and written with the next stroke
    opened.stroke("trip/1.png", [[0, 1, 1]])
    assert (on_disk(opened, "b.png").reshape(-1)[:18] == [1] * 9 + [2] * 9).all()
    opened.flush()
    assert opened.photos["b.png"].copy.exists()  # whose writing may have failed, too


@pytest.mark.parametrize(
    "runs", [[[-1, 2, 0]], [[1590, 2, 0]], [[0, 1, 9]], [[5, -3, 0]], [[0, 3, 0], [0, 2**31, 1]]]
)
def test_a_stroke_that_does_not_fit_changes_nothing(opened, runs):
    with pytest.raises(ValueError, match="b.png"):
        opened.stroke("b.png", runs)
    assert (opened.mask("b.png") == opened.void).all()
    assert not opened.is_labelled("b.png")


def test_classes_may_be_added_and_reordered_but_not_lost(opened, folder):
    opened.stroke("b.png", [[0, 9, 1], [9, 3, 2]])
    opened.close()
    with closing(open_session(folder, opened.root, ["sky", "pole", "road", "car"])) as more:
        ids = dict(zip(more.classes.names, more.classes.ids, strict=True))
        assert (ids["road"], ids["car"], ids["sky"]) == (0, 1, 2)
        assert ids["pole"] not in (0, 1, 2, more.void)
    with pytest.raises(ValueError, match=r"car is no longer in the list.*classes\.yaml"):
        open_session(folder, opened.root, ["sky", "pole", "road"])
    with closing(open_session(folder, opened.root, ["sky", "car"])) as fewer:  # no mask has a road
        assert fewer.classes.names == ("sky", "car")


def test_ids_of_own_classes_are_kept_even_if_one_is_255(folder, tmp_path):
    listed = tmp_path / "mine.yaml"
    listed.write_text("[{name: a, id: 255, color: [1, 2, 3]}, {name: b, id: 7, color: [4, 5, 6]}]")
    with closing(open_session(folder, tmp_path / "set", str(listed))) as session:
        assert session.classes.ids == (255, 7)
        assert session.void == 254


def test_bad_folders_masks_and_records_say_what_to_do(opened, folder, tmp_path):
    (tmp_path / "empty").mkdir()
    for path, words in ((tmp_path / "empty", "no image"), (tmp_path / "none", "no directory")):
        with pytest.raises((ValueError, FileNotFoundError), match=words):
            open_session(path, tmp_path / "other", NAMES)
    with pytest.raises(ValueError, match="only read: set another data_root"):
        open_session(folder, folder / "trip" / "..", NAMES)
    (folder / "b.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"b\.png.*restore"):
        opened.go("b.png")
    found = readable_views(opened, ["b.png", "a.jpg", "c.gif"], most=2)  # it is passed over
    assert [tuple(view.shape[1:]) for view in found] == [(41, 30), (20, 20)]
    opened.stroke("trip/0.png", [[0, 1, 1]])
    Image.new("L", (5, 5)).save(opened.photos["trip/0.png"].labels)
    opened.go("trip/1.png")
    with pytest.raises(ValueError, match="5x5.*40x24.*restore"):
        opened.go("trip/0.png")
    opened.close()
    (opened.root / "labeling.json").write_text("{")
    with pytest.raises(ValueError, match=r"labeling\.json is damaged.*the masks stay"):
        open_session(folder, opened.root)
    (folder / "trip-0.png").write_bytes((folder / "trip/0.png").read_bytes())
    (folder / "trip+0.png").write_bytes((folder / "trip/0.png").read_bytes())
    (folder / "notes.xyz").write_bytes(b"x")
    with closing(open_session(folder, tmp_path / "third", NAMES)) as session:
        (note,) = session.notes  # on what is no photograph; names may differ in one sign
    assert ".xyz" in note and "left out" in note


def test_correcting_a_data_set_keeps_the_ids_that_are_no_class(tree):
    with closing(open_data_set(tree)) as session:
        name = session.order[3]
        before = session.mask(name).copy()
        session.stroke(name, [[0, 50, 7]])
    after = np.array(Image.open(session.photos[name].labels)).reshape(-1)
    assert (after[:50] == 7).all()
    assert (after[50:] == before.reshape(-1)[50:]).all()
    with closing(open_data_set(tree, [session.order[5], session.order[1]])) as picked:
        assert picked.order == [session.order[5], session.order[1]]
    assert json.loads((tree / "corrections.json").read_text())["void"] == 0
    assert labeling._open == {}


def test_corrections_outlast_the_next_conversion_until_their_mask_is_newer(tmp_path):
    images, masks = flat(tmp_path)
    dst, said = tmp_path / "out", []
    prepare(images, masks, dst)
    with closing(open_data_set(dst)) as session:
        labels = session.photos[session.order[0]].labels
        session.stroke(session.order[0], [[0, 50, 1]])
    before, name = contents(dst), f"{labels.name.split('_')[2]}.png"
    photo(images / "b.png")
    save(masks / "b.png", ZERO_ONE)
    prepare(images, masks, dst, say=said.append)
    assert before.items() < contents(dst).items()
    assert "note: 1 label files were corrected by hand, and are kept" in said
    before = contents(dst)
    save(masks / name, 1 - ZERO_ONE)
    os.utime(masks / name, (os.stat(labels).st_mtime + 1,) * 2)
    with pytest.raises(ValueError, match=f"{name} is newer than .*{labels.name}.*delete"):
        prepare(images, masks, dst)
    assert contents(dst) == before
    labels.unlink()
    prepare(images, masks, dst)
    assert (np.array(Image.open(labels)) == 1 - ZERO_ONE).all()


def test_the_widget_says_what_is_on_disk_and_what_cannot_be_saved(opened, monkeypatch):
    widget, sent = LabelWidget(opened), []
    monkeypatch.setattr(widget, "send", lambda message, buffers=(): sent.append(message))

    def ask(kind: str, number: int = 0, runs: tuple = ()) -> list[str]:
        sent.clear()
        buffers = [np.array(runs, dtype="<u4").tobytes()]
        about = {"photo": "b.png", "number": number, "origin": f"view {number}"}
        widget._answer({"type": kind, **about}, buffers)
        return [message["type"] for message in sent]

    assert ask("stroke", 1, (0, 9, 1)) == ["stroke", "list", "saved"]  # the first for other tabs
    assert sent[-1]["number"] == 1
    assert ask("stroke", 2, (0, 9, 77)) == ["error", "saved"]  # is no class, and never will be
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", Mock(side_effect=OSError(28, "disk full")))
        assert ask("stroke", 3, (9, 9, 1)) == ["error"]
        assert "disk full" in sent[-1]["text"]
        assert ask("undo") == ["patch", "error"]
    assert ask("stroke", 3, (9, 9, 1)) == ["saved"]  # again: it is known, and was undone
    labels = opened.photos["b.png"].labels
    right = labels.read_bytes()
    opened.go("a.jpg")
    Image.new("L", (3, 3)).save(labels)
    assert ask("stroke", 4, (30, 9, 1)) == ["error"]  # the browser keeps it, and what follows
    labels.write_bytes(right)
    assert ask("stroke", 5, (60, 9, 1)) == ["stroke", "saved"] and sent[-1]["number"] == 3
    assert (on_disk(opened, "b.png").reshape(-1)[:18] == [1] * 9 + [opened.void] * 9).all()


def test_of_photographs_that_are_skipped_nothing_is_computed(opened, monkeypatch):
    begun, gate = [], Event()
    monkeypatch.setattr(LabelWidget, "_compute", lambda _, *a: begun.append(a[0]) or gate.wait(60))
    widget = LabelWidget(opened)
    for name in opened.order[:-1]:
        widget._answer({"type": "go", "to": name}, [])
        wait_for(lambda: begun)
    gate.set()
    widget._worker.shutdown()  # once its queue is empty
    assert begun == [opened.order[i] for i in (0, -2, -1)]


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg", "tif"])
def test_a_turned_photograph_reaches_the_browser_upright(tmp_path, suffix):
    path = tmp_path / f"photograph.{suffix}"
    Image.linear_gradient("L").resize((30, 20)).convert("RGB").save(path, exif=turned())
    sent, kind = shown_file(path, read_image(path))
    image = Image.open(io.BytesIO(sent))
    if kind == "image/jpeg":  # which browsers turn
        image = ImageOps.exif_transpose(image)
    assert image.size == (20, 30)
    assert kind == "image/jpeg" or image.getexif().get(0x0112, 1) == 1


def test_a_missing_library_is_named_with_its_cure():
    code = "import sys; sys.modules['anywidget'] = None; import labeling.session"
    done = python("-c", code, status=1)
    assert "needs anywidget: `pip install anywidget scikit-image`" in done.stderr

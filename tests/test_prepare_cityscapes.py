"""The check of a data set in Cityscapes' format, on real images and archives."""

import os
import runpy
import struct
import sys
import warnings
import zipfile
import zlib
from pathlib import Path

import pytest
from PIL import Image

from dataset import Cityscapes
from prepare import cityscapes
from prepare.archives import PACKAGES
from prepare.cityscapes import BLACK, check
from prepare.own import prepare

COUNTS = {"train": 3, "val": 2, "test": 1, "train_extra": 2}
IDS = (7, 11, 23, 26)  # road, building, sky, car


def image_path(root, split, stem):
    return root / "leftImg8bit" / split / f"{stem}_leftImg8bit.png"


def label_path(root, split, stem, kind="gtFine"):
    return root / kind / split / f"{stem}_{kind}_labelIds.png"


def stem_of(number):
    return f"aachen/aachen_000000_{number:06d}"


def draw_image(path, size=(16, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise(size, 50).convert("RGB").save(path)


def draw_label(path, ids=IDS, size=(16, 8), mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("L", size)
    image.putdata([ids[i % len(ids)] for i in range(size[0] * size[1])])
    image.convert(mode).save(path)


def draw_split(root, split, number, kind="gtFine"):
    for i in range(number):
        draw_image(image_path(root, split, stem_of(i)))
        draw_label(label_path(root, split, stem_of(i), kind))


@pytest.fixture
def root(tmp_path):
    """A tree without fault, with COUNTS images, and without test and coarse labels."""
    root = tmp_path / "city scapes"  # commands in the output must quote the space
    draw_split(root, "train", COUNTS["train"])
    draw_split(root, "val", COUNTS["val"])
    return root


def only_problem(root, **options):
    problems = check(root, **{"counts": COUNTS, **options})
    assert len(problems) == 1, problems
    return problems[0]


@pytest.fixture
def run(monkeypatch, capsys):
    """The command line, in this process: exit code and output."""

    def run(*args) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["cityscapes", *map(str, args)])
        code = cityscapes.main()
        return code, capsys.readouterr().out

    return run


def pack(root, folder, name, keep=1.0):
    """Zip root/folder to root/name, of which only the share `keep` is written; remove nothing."""
    with zipfile.ZipFile(root / name, "w") as file:
        for path in sorted((root / folder).rglob("*.png")):
            file.write(path, path.relative_to(root))
    data = (root / name).read_bytes()
    (root / name).write_bytes(data[: int(len(data) * keep)])


def flip_a_bit(path):
    """Damage the pixels of the first image in an archive."""
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 8] ^= 1
    path.write_bytes(data)


def hide(root, *folders):
    for folder in folders:
        (root / folder).rename(root.parent / folder)


def test_a_good_tree_has_no_problems_and_its_summary_counts_it(root):
    lines = []
    assert check(root, counts=COUNTS, say=lines.append) == []
    assert "gtFine train 1 3 3 16x8".split() in [line.split() for line in lines]
    assert "gtFine val 1 2 2 16x8".split() in [line.split() for line in lines]


def test_the_command_runs_as_a_module(root, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["cityscapes", str(root), "--counts", "any"])
    monkeypatch.delitem(sys.modules, "prepare.cityscapes")
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("prepare.cityscapes", run_name="__main__")
    assert stop.value.code == 0
    assert "ready" in capsys.readouterr().out


def test_the_command_exits_0_for_another_data_set_and_names_no_archive(root, run):
    code, output = run(root, "--counts", "any")
    assert code == 0
    assert "ready" in output
    assert "zip" not in output


def test_the_command_takes_the_root_from_the_environment(root, run, monkeypatch):
    monkeypatch.setenv("CITYSCAPES_DATASET", str(root))
    assert run("--counts", "any")[0] == 0
    monkeypatch.setenv("CITYSCAPES_DATASET", "")
    with pytest.raises(SystemExit, match="2"):
        run()


def test_the_command_exits_1_on_too_few_images_for_cityscapes(root, run):
    code, output = run(root)
    assert code == 1 and "ready" not in output
    assert "leftImg8bit/train: 3, expected 2,975" in output
    assert "leftImg8bit/val: 2, expected 500" in output
    assert "leftImg8bit_trainvaltest.zip (packageID 3)" in output
    assert "--counts any" in output  # if it is not Cityscapes


def test_too_many_images_are_a_problem(root):
    draw_split(root, "val", 5)
    assert "leftImg8bit/val: 5, expected 2" in only_problem(root)


def test_an_empty_split_is_a_problem_for_any_counts(root):
    for i in range(COUNTS["val"]):
        image_path(root, "val", stem_of(i)).unlink()
        label_path(root, "val", stem_of(i)).unlink()
    assert "leftImg8bit/val: 0, expected some" in only_problem(root, counts=None)


def test_missing_directories_name_their_archives_ids_and_commands(root):
    hide(root, "gtFine")
    text = "\n".join(check(root))
    assert "gtFine/train" in text and "gtFine/val" in text
    assert "gtFine_trainvaltest.zip (packageID 1)" in text
    assert f"csDownload -d '{root}' gtFine_trainvaltest.zip" in text
    assert "leftImg8bit_trainvaltest.zip (packageID 3): csDownload" not in text


def test_an_empty_root_names_both_archives(tmp_path):
    text = "\n".join(check(tmp_path))
    assert "gtFine_trainvaltest.zip (packageID 1)" in text
    assert "leftImg8bit_trainvaltest.zip (packageID 3)" in text
    assert "gtCoarse" not in text


def test_a_root_that_is_no_directory_is_named(tmp_path, run):
    code, output = run(tmp_path / "nowhere")
    assert code == 1 and f"no data set at {tmp_path / 'nowhere'}" in output


def test_missing_parts_of_another_data_set_do_not_name_archives(root):
    hide(root, "gtFine")
    text = only_problem(root, counts=None)
    assert "gtFine/train" in text and "zip" not in text


def test_two_whole_zips_will_be_unpacked_and_are_no_problem(root, run):
    pack(root, "gtFine", "gtFine_trainvaltest.zip")
    pack(root, "leftImg8bit", "leftImg8bit_trainvaltest.zip")
    hide(root, "gtFine", "leftImg8bit")
    code, output = run(root)
    assert code == 0
    assert "not checked: leftImg8bit_trainvaltest.zip, gtFine_trainvaltest.zip" in output
    assert f"unzip -o '{root}/gtFine_trainvaltest.zip' -d '{root}'" in output


def test_a_zip_with_a_damaged_file_inside_is_kept_and_to_be_downloaded_again(root):
    pack(root, "gtFine", "gtFine_trainvaltest.zip")
    pack(root, "leftImg8bit", "leftImg8bit_trainvaltest.zip")
    hide(root, "gtFine", "leftImg8bit")
    path = root / "leftImg8bit_trainvaltest.zip"
    flip_a_bit(path)
    text = only_problem(root)
    assert "damaged archives: 1" in text and "leftImg8bit_trainvaltest.zip: damaged" in text
    assert f"mv '{path}' '{path}.damaged' && csDownload" in text


def test_half_a_zip_is_recognised_and_resumed(root):
    pack(root, "gtFine", "gtFine_trainvaltest.zip", keep=0.5)
    pack(root, "leftImg8bit", "leftImg8bit_trainvaltest.zip")
    hide(root, "gtFine")
    text = only_problem(root)
    assert "gtFine_trainvaltest.zip is not whole" in text
    assert "csDownload -r" in text and "wget -c" in text


def test_a_login_page_saved_as_a_zip_is_recognised(root):
    hide(root, "gtFine")
    (root / "gtFine_trainvaltest.zip").write_text("\n<!DOCTYPE html><html>Login</html>")
    text = only_problem(root)
    assert "web page" in text and "rm " in text and "csDownload -r" not in text


def test_one_zip_beside_a_missing_zip_must_be_unpacked_by_hand(root):
    # torchvision unpacks only if both zips are there
    pack(root, "gtFine", "gtFine_trainvaltest.zip")
    hide(root, "gtFine")
    text = only_problem(root)
    assert f"unzip -o '{root}/gtFine_trainvaltest.zip' -d '{root}'" in text
    assert "csDownload" not in text


def test_an_archive_unpacked_one_level_too_deep_is_to_be_moved(root):
    (root / "gtFine_trainvaltest").mkdir()
    (root / "gtFine").rename(root / "gtFine_trainvaltest" / "gtFine")
    assert f"mv '{root}/gtFine_trainvaltest/gtFine' '{root}'" in only_problem(root)


def test_an_image_without_label_is_named_with_its_archive(root):
    label_path(root, "train", stem_of(1)).unlink()
    text = only_problem(root)
    assert "images without labels: 1" in text
    assert "gtFine/train/aachen/aachen_000000_000001_gtFine_labelIds.png" in text
    assert "gtFine_trainvaltest.zip (packageID 1)" in text


def test_a_label_without_image_is_named_with_its_archive(root):
    image_path(root, "val", stem_of(1)).unlink()
    text = only_problem(root)
    assert "labels without image: 1" in text
    assert "leftImg8bit/val/aachen/aachen_000000_000001_leftImg8bit.png" in text
    assert "leftImg8bit_trainvaltest.zip (packageID 3)" in text


@pytest.mark.parametrize("path_of, package", [(image_path, 3), (label_path, 1)])
def test_a_truncated_image_file_is_named_with_its_archive(root, path_of, package):
    path = path_of(root, "train", stem_of(2))
    path.write_bytes(path.read_bytes()[:-30])
    text = only_problem(root)
    assert "cannot be used: 1" in text and str(path.relative_to(root)) in text
    assert f"(packageID {package})" in text


@pytest.mark.parametrize("data", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_rubbish_in_place_of_an_image_is_named(root, data):
    image_path(root, "train", stem_of(0)).write_bytes(data)
    assert "aachen_000000_000000_leftImg8bit.png" in only_problem(root)


def test_a_dangling_link_in_place_of_an_image_is_named(root):
    path = image_path(root, "train", stem_of(0))
    path.unlink()
    path.symlink_to(root / "gone.png")
    assert "aachen_000000_000000_leftImg8bit.png" in only_problem(root)


def test_an_image_of_enormous_size_by_its_header_is_named_and_no_crash(root):
    data = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", 2**30, 2**30, 8, 2, 0, 0, 0)
    for name, body in ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")):
        data += struct.pack(">I", len(body)) + name + body
        data += struct.pack(">I", zlib.crc32(name + body))
    image_path(root, "val", stem_of(0)).write_bytes(data)
    text = only_problem(root)
    assert "val/aachen/aachen_000000_000000_leftImg8bit.png: has more than" in text
    assert "pixels by its header" in text


def test_a_label_of_another_size_is_named_with_both_sizes(root):
    draw_label(label_path(root, "train", stem_of(1)), size=(8, 4))
    text = only_problem(root)
    assert "aachen_000000_000001_gtFine_labelIds.png: 8x4, the image is 16x8" in text


def test_an_image_of_another_size_than_the_rest_is_named(root):
    draw_image(image_path(root, "train", stem_of(1)), size=(8, 4))
    draw_label(label_path(root, "train", stem_of(1)), size=(8, 4))
    text = only_problem(root)
    assert "aachen_000000_000001_leftImg8bit.png: 8x4, most are 16x8" in text


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "I;16"])
def test_labels_that_are_not_one_8_bit_channel_are_named(root, mode):
    draw_label(label_path(root, "train", stem_of(0)), mode=mode)
    text = only_problem(root)
    assert f"aachen_000000_000000_gtFine_labelIds.png: is a PNG file of mode {mode}" in text


@pytest.mark.parametrize("mode", ["I;16", "RGBA"])
def test_images_that_8_bit_rgb_cannot_hold_are_named(root, mode):
    path = image_path(root, "train", stem_of(0))
    Image.new(mode, (16, 8)).save(path)
    assert f"{path.relative_to(root)}: has " in only_problem(root)


@pytest.mark.parametrize("wrong", [34, 254])
def test_an_id_out_of_range_is_named(root, wrong):
    draw_label(label_path(root, "val", stem_of(0)), ids=(*IDS, wrong))
    text = only_problem(root)
    assert "outside 0..33" in text and f"000000_gtFine_labelIds.png: {wrong}\n" in text


def test_ids_0_to_33_and_the_byte_of_minus_1_are_in_range(root):
    draw_label(label_path(root, "val", stem_of(0)), ids=(*range(34), 255))
    assert check(root, counts=COUNTS) == []


def test_a_whole_split_of_train_ids_is_recognised(root):
    for i in range(10):
        draw_image(image_path(root, "train", stem_of(i)))
        draw_label(label_path(root, "train", stem_of(i)), ids=(0, 2, 10, 13, 18))
    text = only_problem(root, counts=COUNTS | {"train": 10})
    assert "train ids" in text and "gtFine/train" in text
    draw_label(label_path(root, "train", stem_of(9)), ids=(7, 23))  # one with the sky is enough
    assert check(root, counts=COUNTS | {"train": 10}) == []


def test_a_single_label_file_with_255_and_nothing_above_18_is_taken_for_train_ids(root):
    draw_label(label_path(root, "train", stem_of(1)), ids=(0, 2, 255))
    text = only_problem(root)
    assert "train ids" in text and "aachen_000000_000001_gtFine_labelIds.png" in text


def test_few_labels_without_high_ids_are_not_taken_for_train_ids(root):
    for i in range(3):
        draw_label(label_path(root, "train", stem_of(i)), ids=(7, 11))
    assert check(root, counts=COUNTS) == []


def test_many_faults_of_a_kind_are_counted_and_ten_named(root):
    draw_split(root, "train", 15)
    for i in range(13):
        label_path(root, "train", stem_of(i)).unlink()
    text = only_problem(root, counts=None)
    assert "images without labels: 13" in text and "and 3 more" in text
    assert text.count("labelIds.png") == 10


def test_hidden_and_system_files_that_training_passes_over_are_no_problem(root):
    (root / ".DS_Store").write_bytes(b"x")
    (root / "leftImg8bit" / ".DS_Store").write_bytes(b"x")
    (root / "leftImg8bit" / "train" / "aachen" / ".DS_Store").write_bytes(b"x")
    (root / "leftImg8bit" / "train" / "aachen" / "._a_leftImg8bit.png").write_bytes(b"x")
    (root / "gtFine" / "train" / ".DS_Store").write_bytes(b"x")
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "aachen/Thumbs.db"):
        (root / "leftImg8bit" / "train" / name).write_bytes(b"x")
    draw_image(root / "leftImg8bit" / "train" / "@eaDir" / "x_leftImg8bit.png")
    (root / "gtFine" / "train" / "aachen" / "._x_gtFine_labelIds.png").write_bytes(b"x")
    assert check(root, counts=COUNTS) == []
    assert len(Cityscapes(root, "train")) == COUNTS["train"]


@pytest.mark.parametrize("name", ["holiday.png", "aachen/holiday.png", "aachen/notes.txt"])
def test_stray_files_are_to_be_moved_and_never_deleted(root, name):
    (root / "leftImg8bit" / "train" / name).write_bytes(b"x")
    text = only_problem(root)
    assert f"leftImg8bit/train/{name}: " in text
    assert "rename them" in text and "prepare.own" in text and "move them elsewhere" in text
    assert "delete" not in text and "rm " not in text and "zip" not in text


def test_a_city_that_is_a_loop_of_links_is_named_and_its_images_are_not_missing(root):
    hide(root / "leftImg8bit" / "train", "aachen")
    (root / "leftImg8bit" / "train" / "aachen").symlink_to("aachen")
    text = only_problem(root)
    assert "cannot be opened: 1" in text and "leftImg8bit/train/aachen: " in text


def test_links_back_to_the_root_do_not_hang_and_are_named(root):
    (root / "leftImg8bit" / "train" / "aachen" / "up").symlink_to(root)
    (root / "leftImg8bit" / "train" / "back").symlink_to(root)
    text = only_problem(root)
    assert "leftImg8bit/train/aachen/up" in text and "leftImg8bit/train/back/gtFine" in text


@pytest.mark.parametrize("closed", ["leftImg8bit", "leftImg8bit/train", "gtFine/val/aachen"])
def test_a_closed_directory_is_named_and_its_images_are_not_missing(root, closed, monkeypatch):
    listdir = os.listdir

    def refuse(path):  # as for a user who is not root
        if Path(path).is_relative_to(root / closed):
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)
    monkeypatch.setattr(os, "access", lambda path, _: not Path(path).is_relative_to(root / closed))
    text = "\n".join(check(root, counts=None))
    assert "cannot be opened" in text and closed in text and "Permission denied" in text
    assert "chmod" in text
    assert "images without labels" not in text and "labels without image" not in text


def test_test_images_are_checked_only_where_present(root):
    draw_image(image_path(root, "test", stem_of(0)))
    lines = []
    assert check(root, counts=COUNTS, say=lines.append) == []  # without its dummy labels
    assert any("dummies" in line for line in lines)
    for i in range(10):  # dummies of low ids, which are no train ids
        draw_image(image_path(root, "test", stem_of(i)))
        draw_label(label_path(root, "test", stem_of(i)), ids=(1, 2, 3))
    assert check(root, counts=None) == []
    image_path(root, "test", stem_of(0)).write_bytes(b"broken")
    assert "leftImg8bit/test" in only_problem(root, counts=None)


def test_coarse_parts_are_noted_if_absent_and_a_problem_if_asked_for(root):
    lines = []
    assert check(root, counts=COUNTS, say=lines.append) == []
    note = next(line for line in lines if "train_extra" in line)
    assert "leftImg8bit_trainextra.zip" in note and "gtCoarse.zip" in note
    text = "\n".join(check(root, coarse=True, counts=COUNTS))
    assert "leftImg8bit_trainextra.zip (packageID 4)" in text
    assert "gtCoarse.zip (packageID 2)" in text and "gtCoarse/train_extra" in text


def test_the_coarse_option_of_the_command_asks_for_them(root, run):
    code, output = run(root, "--coarse", "--counts", "any")
    assert code == 1 and "gtCoarse/train_extra" in output


def test_coarse_labels_that_are_present_are_checked_unasked(root):
    for split in ("train", "val", "train_extra"):
        draw_split(root, split, COUNTS[split], "gtCoarse")
    assert check(root, coarse=True, counts=COUNTS) == []
    label_path(root, "train", stem_of(0), "gtCoarse").unlink()
    path = image_path(root, "train_extra", stem_of(1))
    path.write_bytes(path.read_bytes()[:-30])
    text = "\n".join(check(root, counts=COUNTS))
    assert "gtCoarse.zip (packageID 2)" in text
    assert "train_extra/aachen/aachen_000000_000001_leftImg8bit.png" in text
    assert "leftImg8bit_trainextra.zip (packageID 4)" in text


def test_a_broken_image_is_not_reported_again_for_its_coarse_label(root):
    draw_split(root, "train", COUNTS["train"], "gtCoarse")
    path = image_path(root, "train", stem_of(0))
    path.write_bytes(path.read_bytes()[:-30])
    assert "cannot be used: 1" in only_problem(root)


def test_the_black_image_of_troisdorf_may_stay_or_be_deleted(root):
    draw_split(root, "train_extra", 1, "gtCoarse")
    draw_image(image_path(root, "train_extra", BLACK))
    draw_label(label_path(root, "train_extra", BLACK, "gtCoarse"))
    lines = []
    assert check(root, counts=COUNTS, say=lines.append) == []
    assert any("black" in line for line in lines)
    image_path(root, "train_extra", BLACK).unlink()
    assert check(root, counts=COUNTS) == []


def test_nothing_in_the_tree_is_changed(root):
    def state():
        return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in root.rglob("*")}

    before = state()
    check(root, coarse=True)
    assert state() == before


def test_the_package_ids_are_those_of_the_download_site():
    # as linked from the download page
    assert PACKAGES == {
        "gtFine_trainvaltest.zip": 1,
        "gtCoarse.zip": 2,
        "leftImg8bit_trainvaltest.zip": 3,
        "leftImg8bit_trainextra.zip": 4,
    }


# Data of other origin


def other_tree(root, ids, number=3, classes=None):
    """A tree of `number` images a split, with the ids in each label file."""
    for split in ("train", "val"):
        for i in range(number):
            draw_image(image_path(root, split, stem_of(i)))
            draw_label(label_path(root, split, stem_of(i)), ids=ids)
    if classes:
        rows = [f"- {{name: c{i}, id: {i}, color: [{i}, 0, 0]}}\n" for i in classes]
        (root / "classes.yaml").write_text("".join(rows))
    return root


@pytest.mark.parametrize("ids", [(0, 1, 200, 255), (0, 1, 2, 255)])
def test_ids_of_classes_yaml_are_known_and_no_train_ids(tmp_path, ids):
    assert check(other_tree(tmp_path, ids, 10, classes=(0, 1, 200)), counts=None) == []


@pytest.mark.parametrize("classes", [None, (8, 9)])
def test_labels_without_a_pixel_of_any_class_are_named_for_the_whole_split(tmp_path, classes):
    text = "\n".join(check(other_tree(tmp_path, (0, 1, 6), 10, classes), counts=None))
    assert "splits in which no pixel is of a class: 2" in text
    assert "gtFine/train: the labels hold only 0 1 6" in text
    assert f"{tmp_path}/classes.yaml" in text and "prepare.own" in text
    assert "train ids" not in text


def test_a_label_file_without_a_scored_pixel_among_others_is_no_problem(root):
    draw_label(label_path(root, "train", stem_of(0)), ids=(0, 1))
    assert check(root, counts=COUNTS) == []


def test_a_classes_yaml_that_cannot_be_used_is_named(root):
    (root / "classes.yaml").write_text("- {name: road}")
    assert f"{root / 'classes.yaml'} is not a list of classes" in only_problem(root)


def test_a_flat_tree_is_checked_as_one_city(tmp_path):
    other_tree(tmp_path, IDS)
    for path in [*tmp_path.rglob("aachen_*.png")]:
        path.rename(path.parent.parent / path.name)
    for path in [*tmp_path.rglob("aachen")]:
        path.rmdir()
    lines = []
    assert check(tmp_path, counts=None, say=lines.append) == []
    assert "gtFine train 1 3 3 16x8".split() in [line.split() for line in lines]
    assert len(Cityscapes(tmp_path, "train")) == 3


def test_several_sizes_of_another_data_set_are_noted_and_no_problem(root):
    draw_image(image_path(root, "train", stem_of(1)), size=(8, 4))
    draw_label(label_path(root, "train", stem_of(1)), size=(8, 4))
    lines = []
    assert check(root, counts=None, say=lines.append) == []
    assert any("gtFine/train has images of 2 sizes" in line and "crop" in line for line in lines)


@pytest.mark.parametrize("ending", ["labelTrainIds", "labelids", "labelcsIds", "labellevel3Ids"])
def test_labels_of_other_names_are_named_with_the_command_that_converts_them(root, ending):
    for path in [*root.rglob("*_labelIds.png")]:
        path.rename(path.with_name(path.name.replace("labelIds", ending)))
    text = only_problem(root, counts=None)
    assert "labels under other names than *_labelIds.png" in text and ": 5\n" in text
    assert f"gtFine/train/aachen/aachen_000000_000000_gtFine_{ending}.png" in text
    assert f"python -m prepare.own '{root}/leftImg8bit' '{root}/gtFine' DST" in text
    assert "zip" not in text and "delete" not in text


def test_labels_of_other_names_beside_the_right_ones_are_no_problem(root):
    draw_label(root / "gtFine" / "train" / f"{stem_of(0)}_gtFine_labelTrainIds.png", ids=(0, 255))
    draw_label(root / "gtFine" / "train" / f"{stem_of(0)}_gtFine_color.png", mode="RGB")
    assert check(root, counts=COUNTS) == []


@pytest.mark.parametrize("ending", [".jpg", "_foggy_beta_0.02.png"])
def test_images_of_other_names_are_named_and_their_labels_are_not_alone(root, ending):
    for path in [*root.rglob("*_leftImg8bit.png")]:
        path.rename(path.with_name(path.name.replace(".png", ending)))
    text = only_problem(root, counts=None)
    assert f"aachen_000000_000000_leftImg8bit{ending}: another name" in text
    assert "prepare.own" in text and "delete" not in text


def test_whole_splits_of_train_ids_of_another_data_set_name_the_command(tmp_path):
    other_tree(tmp_path, (0, 2, 10, 13, 18), 10)
    text = "\n".join(check(tmp_path, counts=None))
    command = (
        f"python -m prepare.own {tmp_path}/leftImg8bit {tmp_path}/gtFine DST --labels train-ids"
    )
    assert command in text


def test_the_commands_that_the_check_names_mend_the_tree(tmp_path):
    other_tree(tmp_path / "a", (0, 2, 10, 13, 18), 10)
    images, labels = tmp_path / "a" / "leftImg8bit", tmp_path / "a" / "gtFine"
    prepare(images, labels, tmp_path / "b", labels="train-ids")
    assert check(tmp_path / "b", counts=None) == []
    for path in [*labels.rglob("*.png")]:
        path.rename(path.with_name(path.name.replace("labelIds", "labelTrainIds")))
    prepare(images, labels, tmp_path / "c")
    assert check(tmp_path / "c", counts=None) == []


# What the data set refuses or leaves out, the check explains


def without_split(root):
    hide(root / "gtFine", "train")
    return "gtFine/train"


def half_an_archive(root):
    pack(root, "gtFine", "gtFine_trainvaltest.zip", keep=0.5)
    pack(root, "leftImg8bit", "leftImg8bit_trainvaltest.zip")
    hide(root, "gtFine", "leftImg8bit")
    return "gtFine_trainvaltest.zip is not whole"


def damaged_archive(root):
    pack(root, "gtFine", "gtFine_trainvaltest.zip")
    pack(root, "leftImg8bit", "leftImg8bit_trainvaltest.zip")
    hide(root, "gtFine", "leftImg8bit")
    flip_a_bit(root / "gtFine_trainvaltest.zip")
    return "gtFine_trainvaltest.zip: damaged"


def no_images(root):
    for i in range(COUNTS["train"]):
        image_path(root, "train", stem_of(i)).rename(root / f"{i}.png")
    return "leftImg8bit/train/aachen/aachen_000000_000000_leftImg8bit.png: missing"


def image_without_labels(root):
    path = label_path(root, "train", stem_of(1))
    path.unlink()
    return f"{path.relative_to(root)}: missing"


def labels_without_image(root):
    path = image_path(root, "train", stem_of(1))
    path.unlink()
    return f"{path.relative_to(root)}: missing"


def label_that_is_a_dangling_link(root):
    path = label_path(root, "train", stem_of(1))
    path.unlink()
    path.symlink_to(root / "gone.png")
    return f"{path.relative_to(root)}: there is no image"


def file_among_the_cities(root):
    (root / "leftImg8bit" / "train" / "notes.txt").touch()
    return "leftImg8bit/train/notes.txt"


def file_of_another_name(root):
    (root / "leftImg8bit" / "train" / "aachen" / "holiday.png").touch()
    return "leftImg8bit/train/aachen/holiday.png"


def loop_of_links(root):
    hide(root / "leftImg8bit" / "train", "aachen")
    (root / "leftImg8bit" / "train" / "aachen").symlink_to("aachen")
    return "leftImg8bit/train/aachen"


def images_that_are_a_file(root):
    hide(root, "leftImg8bit")
    (root / "leftImg8bit").touch()
    return "leftImg8bit/train: Not a directory"


@pytest.mark.parametrize(
    "spoil",
    [
        without_split,
        half_an_archive,
        damaged_archive,
        no_images,
        image_without_labels,
        labels_without_image,
        label_that_is_a_dangling_link,
        file_among_the_cities,
        file_of_another_name,
        loop_of_links,
        images_that_are_a_file,
    ],
)
def test_what_the_data_set_refuses_or_leaves_out_is_explained(root, spoil):
    explained = spoil(root)
    text = "\n".join(check(root, counts=COUNTS))
    assert explained in text
    with warnings.catch_warnings(), pytest.raises((OSError, ValueError, UserWarning)):
        warnings.simplefilter("error", UserWarning)
        list(Cityscapes(root, "train"))


@pytest.mark.parametrize(("split", "mode"), [("test", "fine"), ("train", "coarse")])
def test_a_part_that_is_missing_but_not_always_needed_is_noted(root, split, mode):
    with pytest.raises(FileNotFoundError):
        Cityscapes(root, split, mode)
    lines = []
    assert check(root, counts=None, say=lines.append) == []
    part = f"gt{mode.capitalize()}/{split}"
    assert any(line.startswith("note: ") and part in line for line in lines)

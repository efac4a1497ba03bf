"""prepare/cityscapes.py: real pictures and zips; exit codes and output of a real process."""

import os
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import pytest
from cityscapes import BLACK, PACKAGES, check
from PIL import Image

SCRIPT = Path(__file__).parents[1] / "prepare" / "cityscapes.py"
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
    picture = Image.new("L", size)
    picture.putdata([ids[i % len(ids)] for i in range(size[0] * size[1])])
    picture.convert(mode).save(path)


def draw_split(root, split, number, kind="gtFine"):
    for i in range(number):
        draw_image(image_path(root, split, stem_of(i)))
        draw_label(label_path(root, split, stem_of(i), kind))


@pytest.fixture
def root(tmp_path):
    """A faultless tree of the numbers in COUNTS, without test and coarse labels."""
    root = tmp_path / "city scapes"  # the space must survive in every command of the output
    draw_split(root, "train", COUNTS["train"])
    draw_split(root, "val", COUNTS["val"])
    return root


def only_problem(root, **options):
    problems = check(root, **{"counts": COUNTS, **options})
    assert len(problems) == 1, problems
    return problems[0]


def run(*args, **env):
    env = {**os.environ, **env}
    command = [sys.executable, str(SCRIPT), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)


def pack(root, folder, name, keep=1.0):
    """Zips root/folder to root/name, of which only the part `keep` is written; removes nothing."""
    with zipfile.ZipFile(root / name, "w") as file:
        for path in sorted((root / folder).rglob("*.png")):
            file.write(path, path.relative_to(root))
    data = (root / name).read_bytes()
    (root / name).write_bytes(data[: int(len(data) * keep)])


def hide(root, *folders):
    for folder in folders:
        (root / folder).rename(root.parent / folder)


def test_a_good_tree_has_no_problems_and_its_summary_counts_it(root):
    lines = []
    assert check(root, counts=COUNTS, say=lines.append) == []
    assert "gtFine train 1 3 3 16 x 8".split() in [line.split() for line in lines]
    assert "gtFine val 1 2 2 16 x 8".split() in [line.split() for line in lines]


def test_the_command_exits_0_and_says_ready_for_any_counts(root):
    done = run(root, "--counts", "any")
    assert (done.returncode, done.stderr) == (0, "")
    assert "ready" in done.stdout
    assert "packageID" not in done.stdout and "note" not in done.stdout


def test_the_command_takes_the_root_from_the_environment(root):
    assert run("--counts", "any", CITYSCAPES_DATASET=str(root)).returncode == 0
    assert run(CITYSCAPES_DATASET="").returncode == 2


def test_the_command_exits_1_on_too_few_images_for_cityscapes(root):
    done = run(root)
    assert done.returncode == 1 and "ready" not in done.stdout
    assert "leftImg8bit/train: 3, expected 2,975" in done.stdout
    assert "leftImg8bit/val: 2, expected 500" in done.stdout
    assert "leftImg8bit_trainvaltest.zip (packageID 3)" in done.stdout
    assert "Traceback" not in done.stderr


def test_too_many_images_are_a_problem(root):
    draw_split(root, "val", 5)
    assert "leftImg8bit/val: 5, expected 2" in only_problem(root)


def test_an_empty_split_is_a_problem_for_any_counts(root):
    for i in range(COUNTS["val"]):
        image_path(root, "val", stem_of(i)).unlink()
        label_path(root, "val", stem_of(i)).unlink()
    assert "leftImg8bit/val: 0, expected some" in only_problem(root, counts=None)


def test_missing_folders_name_their_archives_ids_and_commands(root):
    hide(root, "gtFine")
    done = run(root)
    assert done.returncode == 1
    assert "gtFine/train" in done.stdout and "gtFine/val" in done.stdout
    assert "gtFine_trainvaltest.zip (packageID 1)" in done.stdout
    assert f"csDownload -d '{root}' gtFine_trainvaltest.zip" in done.stdout
    assert "leftImg8bit_trainvaltest.zip (packageID 3): csDownload" not in done.stdout


def test_an_empty_root_names_both_archives(tmp_path):
    text = "\n".join(check(tmp_path))
    assert "gtFine_trainvaltest.zip (packageID 1)" in text
    assert "leftImg8bit_trainvaltest.zip (packageID 3)" in text
    assert "gtCoarse" not in text


def test_a_root_that_is_no_folder_is_a_clear_line(tmp_path):
    done = run(tmp_path / "nowhere")
    assert done.returncode == 1 and "nowhere is not a folder" in done.stdout


def test_missing_parts_of_another_data_set_do_not_name_archives(root):
    hide(root, "gtFine")
    text = only_problem(root, counts=None)
    assert "gtFine/train" in text and "zip" not in text


def test_two_whole_zips_will_be_unpacked_and_are_no_problem(root):
    pack(root, "gtFine", "gtFine_trainvaltest.zip")
    pack(root, "leftImg8bit", "leftImg8bit_trainvaltest.zip")
    hide(root, "gtFine", "leftImg8bit")
    done = run(root)
    assert done.returncode == 0
    assert "yet, so not read: leftImg8bit_trainvaltest.zip, gtFine_trainvaltest" in done.stdout
    assert f"unzip -o '{root}/gtFine_trainvaltest.zip' -d '{root}'" in done.stdout


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
def test_a_truncated_picture_is_named_with_its_archive(root, path_of, package):
    path = path_of(root, "train", stem_of(2))
    path.write_bytes(path.read_bytes()[:-30])
    text = only_problem(root)
    assert "cannot be read: 1" in text and str(path.relative_to(root)) in text
    assert f"(packageID {package})" in text


@pytest.mark.parametrize("data", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_rubbish_in_place_of_a_picture_is_named(root, data):
    image_path(root, "train", stem_of(0)).write_bytes(data)
    assert "aachen_000000_000000_leftImg8bit.png" in only_problem(root)


def test_a_dangling_link_in_place_of_a_picture_is_named(root):
    path = image_path(root, "train", stem_of(0))
    path.unlink()
    path.symlink_to(root / "gone.png")
    assert "aachen_000000_000000_leftImg8bit.png" in only_problem(root)


def test_a_picture_of_enormous_header_is_a_line_and_no_crash(root):
    data = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", 2**30, 2**30, 8, 2, 0, 0, 0)
    for name, body in ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")):
        data += struct.pack(">I", len(body)) + name + body
        data += struct.pack(">I", zlib.crc32(name + body))
    image_path(root, "val", stem_of(0)).write_bytes(data)
    done = run(root, "--counts", "any")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "val/aachen/aachen_000000_000000_leftImg8bit.png: Image size" in done.stdout


def test_a_label_of_another_size_is_named_with_both_sizes(root):
    draw_label(label_path(root, "train", stem_of(1)), size=(8, 4))
    text = only_problem(root)
    assert "aachen_000000_000001_gtFine_labelIds.png: 8 x 4, the image 16 x 8" in text


def test_an_image_of_another_size_than_the_rest_is_named(root):
    draw_image(image_path(root, "train", stem_of(1)), size=(8, 4))
    draw_label(label_path(root, "train", stem_of(1)), size=(8, 4))
    text = only_problem(root)
    assert "aachen_000000_000001_leftImg8bit.png: 8 x 4, most are 16 x 8" in text


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_colour_label_is_recognised(root, mode):
    draw_label(label_path(root, "train", stem_of(0)), mode=mode)
    text = only_problem(root)
    assert f"labelIds.png: mode {mode}, a colour picture?" in text


def test_a_label_of_16_bits_is_a_problem(root):
    draw_label(label_path(root, "train", stem_of(0)), mode="I;16")
    assert "labelIds.png: mode I;16" in only_problem(root)


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
    draw_label(label_path(root, "train", stem_of(9)), ids=(7, 23))  # one true label: not sure
    assert check(root, counts=COUNTS | {"train": 10}) == []


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


def test_files_that_a_loader_passes_over_are_no_problem(root):
    (root / ".DS_Store").write_bytes(b"x")
    (root / "leftImg8bit" / ".DS_Store").write_bytes(b"x")
    (root / "leftImg8bit" / "train" / "aachen" / ".DS_Store").write_bytes(b"x")
    (root / "gtFine" / "train" / ".DS_Store").write_bytes(b"x")
    (root / "gtFine" / "train" / "aachen" / "._x_gtFine_labelIds.png").write_bytes(b"x")
    assert check(root, counts=COUNTS) == []


@pytest.mark.parametrize("name", [".DS_Store", "aachen/._a_leftImg8bit.png"])
def test_files_that_a_loader_takes_for_images_are_to_be_deleted(root, name):
    (root / "leftImg8bit" / "train" / name).write_bytes(b"x")
    text = only_problem(root)
    assert f"leftImg8bit/train/{name}: delete it" in text and "zip" not in text


def test_a_city_that_is_a_loop_of_links_is_named_and_its_images_are_not_missing(root):
    hide(root / "leftImg8bit" / "train", "aachen")
    (root / "leftImg8bit" / "train" / "aachen").symlink_to("aachen")
    text = only_problem(root)
    assert "cannot be opened: 1" in text and "leftImg8bit/train/aachen: " in text


def test_a_link_back_to_the_root_does_not_hang(root):
    (root / "leftImg8bit" / "train" / "aachen" / "up").symlink_to(root)
    (root / "leftImg8bit" / "train" / "back").symlink_to(root)
    assert check(root, counts=COUNTS) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may open all")
def test_a_closed_folder_is_a_clear_line_and_not_missing_images(root):
    (root / "leftImg8bit" / "train" / "aachen").chmod(0)
    text = only_problem(root)
    (root / "leftImg8bit" / "train" / "aachen").chmod(0o700)
    assert "train/aachen: Permission denied" in text and "chmod" in text


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


def test_the_coarse_switch_of_the_command_asks_for_them(root):
    done = run(root, "--coarse", "--counts", "any")
    assert done.returncode == 1 and "gtCoarse/train_extra" in done.stdout


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
    assert "cannot be read: 1" in only_problem(root)


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

"""The check of a data set in Cityscapes' format, on real images and archives."""

import re
import warnings
from contextlib import nullcontext
from unittest.mock import Mock

import numpy as np
import pytest

from dataset import Cityscapes
from prepare import cityscapes
from prepare.cityscapes import BLACK, check
from prepare.own import prepare
from tests.processes import without_rights_of_root
from tests.samples import NOISE, cut, move, pack, save, times

COUNTS = {"train": 3, "val": 2, "test": 1, "train_extra": 2}
IDS = (7, 11, 23, 26)  # road, building, sky, car
CLOSED = [("leftImg8bit", 0), ("leftImg8bit/train", 0), ("gtFine/val/aachen", 0)]
CLOSED += [("leftImg8bit", 0o644), ("leftImg8bit/train", 0o644)]  # names can be read, no more
LABEL_NAMES = ["labelTrainIds", "labelids", "labelcsIds", "labellevel3Ids"]
OTHER_NAMES = [("gtFine_labelIds.png", f"gtFine_{name}.png") for name in LABEL_NAMES]
OTHER_NAMES += [("leftImg8bit.png", f"leftImg8bit{end}") for end in (".jpg", "_foggy_0.02.png")]
GTFINE, LEFT = "gtFine_trainvaltest.zip", "leftImg8bit_trainvaltest.zip"


def image_path(root, split, frame):
    return root / "leftImg8bit" / split / f"aachen/aachen_000000_{frame:06d}_leftImg8bit.png"


def label_path(root, split, frame, kind="gtFine"):
    return root / kind / split / f"aachen/aachen_000000_{frame:06d}_{kind}_labelIds.png"


def draw_image(path, size=(16, 8)):
    save(path, NOISE[: size[1], : size[0]])


def draw_label(path, ids=IDS, size=(16, 8), mode="L"):
    save(path, np.resize(np.uint8(ids), size[::-1]), mode)


def draw_split(root, split, number, kind="gtFine", **options):
    for i in range(number):
        draw_image(image_path(root, split, i))
        draw_label(label_path(root, split, i, kind), **options)


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


def summary(root, counts=COUNTS):
    """The lines that are said of a tree without a problem."""
    lines = []
    assert check(root, counts=counts, say=lines.append) == []
    return lines


@pytest.fixture
def run(command, capsys):
    """The command line, in this process: exit code and output."""
    return lambda *args: (command(cityscapes.main, *args), capsys.readouterr().out)


def hide(root, *folders):
    for folder in folders:
        (root / folder).rename(root.parent / folder)


def packed(root, *hidden):
    """Both archives, and of the tree what is not hidden."""
    pack(root, root)
    hide(root, *hidden)


def test_a_good_tree_has_no_problems_its_summary_counts_it_and_nothing_is_changed(root):
    before = times(root)
    found = [line.split() for line in summary(root)]
    assert "gtFine train 1 3 3 16x8".split() in found
    assert "gtFine val 1 2 2 16x8".split() in found
    check(root, coarse=True)
    assert times(root) == before


def test_the_command_takes_root_from_the_environment_and_counts(root, run, command, monkeypatch):
    with pytest.raises(SystemExit) as stop:
        command("prepare.cityscapes", root, "--counts", "any")
    assert stop.value.code == 0
    monkeypatch.setenv("CITYSCAPES_DATASET", str(root))
    code, output = run("--counts", "any")
    assert code == 0 and "ready" in output and "zip" not in output
    code, output = run("--coarse", "--counts", "any")
    assert code == 1 and "gtCoarse/train_extra" in output
    monkeypatch.setenv("CITYSCAPES_DATASET", "")
    with pytest.raises(SystemExit, match="2"):
        run()
    code, output = run(root)  # too few for Cityscapes
    assert code == 1 and "ready" not in output
    assert "leftImg8bit/train: 3, expected 2,975" in output
    assert "leftImg8bit/val: 2, expected 500" in output
    assert "--counts any" in output  # if it is not Cityscapes


def test_no_or_an_empty_root_is_named_with_both_archives_and_two_whole_ones_suffice(root, run):
    code, output = run(root / "nowhere")
    assert code == 1 and f"no data set at {root / 'nowhere'}" in output
    text = "\n".join(check(root.parent))
    assert f"{GTFINE} (packageID 1)" in text
    assert f"{LEFT} (packageID 3)" in text
    assert "gtCoarse" not in text
    packed(root, "gtFine", "leftImg8bit")
    code, output = run(root)
    assert code == 0
    assert f"not checked: {LEFT}, {GTFINE}" in output
    assert f"unzip -o '{root}/{GTFINE}' -d '{root}'" in output


def damaged_archive(root):
    packed(root, "gtFine", "leftImg8bit")
    data = bytearray((root / LEFT).read_bytes())
    data[data.index(b"IDAT") + 8] ^= 1  # a bit of the first image's pixels
    (root / LEFT).write_bytes(data)


def link(path, to):
    if path.is_dir():
        hide(path.parent, path.name)
    path.symlink_to(to)


def smaller(root):
    draw_image(image_path(root, "train", 1), size=(8, 4))
    draw_label(label_path(root, "train", 1), size=(8, 4))


IMAGES, LABELS = "leftImg8bit/train/aachen", "gtFine/train/aachen"
IMAGE = f"{IMAGES}/aachen_000000_000001_leftImg8bit.png"
LABEL = f"{LABELS}/aachen_000000_000001_gtFine_labelIds.png"
STRAY = ["rename them", "prepare.own", "move them elsewhere", "!delete", "!rm ", "!zip"]
# Bad images and labels: see test_bad_input, which asks the check, too.
FAULTS = {  # what is done, what is said, and with ! what is not
    "labels are missing": (
        lambda root: hide(root, "gtFine"),
        ["gtFine/train", "gtFine/val", f"{GTFINE} (packageID 1)", "!packageID 3"]
        + ["csDownload -d '{root}' " + GTFINE],
    ),
    "a damaged archive": (
        damaged_archive,
        ["damaged archives: 1", f"{LEFT}: damaged"]
        + ["mv '{root}/" + LEFT + "' '{root}/" + LEFT + ".damaged' && csDownload"],
    ),
    "half an archive": (
        lambda root: [packed(root, "gtFine"), cut(root / GTFINE, 0.5)],
        [f"{GTFINE} is not complete", "csDownload -r", "wget -c"],
    ),
    "one archive of two": (  # torchvision unpacks only if both are there
        lambda root: [packed(root, "gtFine"), (root / LEFT).unlink()],
        ["unzip -o '{root}/" + GTFINE + "' -d '{root}'", "!csDownload"],
    ),
    "a login page": (
        lambda root: [hide(root, "gtFine"), (root / GTFINE).write_text("\n<!DOCTYPE html>Login")],
        ["web page", "rm ", "!csDownload -r"],
    ),
    "one level too deep": (
        lambda root: move([root / "gtFine"], lambda path: root / "gtFine_trainvaltest" / path.name),
        ["mv '{root}/gtFine_trainvaltest/gtFine' '{root}'"],
    ),
    "an image without label": (
        lambda root: (root / LABEL).unlink(),
        ["images without labels: 1", f"{LABEL}: missing", f"{GTFINE} (packageID 1)"],
    ),
    "a label without image": (
        lambda root: (root / IMAGE).unlink(),
        ["labels without image: 1", f"{IMAGE}: missing", f"{LEFT} (packageID 3)"],
    ),
    "a pair of another size": (smaller, [f"{IMAGE}: 8x4, most are 16x8"]),
    "an id": (lambda root: draw_label(root / LABEL, (*IDS, 254)), [f"0..33.*{LABEL}: 254\n"]),
    "too many images": (lambda root: draw_split(root, "train", 5), ["train: 5, expected 3"]),
    "an image among the cities": (
        lambda root: (root / IMAGES / "../holiday.png").touch(),
        ["leftImg8bit/train/holiday.png: ", *STRAY],
    ),
    "a loop of links": (lambda root: link(root / IMAGES, "aachen"), [f"opened: 1.*{IMAGES}: "]),
    "links back to the root": (
        lambda root: [link(root / IMAGES / name, root) for name in ("up", "../back")],
        [f"{IMAGES}/up", "leftImg8bit/train/back/gtFine"],
    ),
    "classes.yaml": (
        lambda root: (root / "classes.yaml").write_text("- {name: road}"),
        ["{root}/classes.yaml is not a list of classes"],
    ),
}
TRAINS = {"a pair of another size", "too many images"}  # the data set takes them


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_its_cure_and_the_data_set_refuses_it(root, fault):
    spoil, said = FAULTS[fault]
    spoil(root)
    text = only_problem(root)
    for part in (part.replace("{root}", str(root)) for part in said):
        words = [re.escape(word) for word in part.strip("!").split(".*")]
        assert bool(re.search("(?s:.*)".join(words), text)) != part.startswith("!"), part
    cure = "python -m prepare.cityscapes" if "archive" in fault or "login" in fault else None
    refuses = pytest.raises((OSError, ValueError, UserWarning), match=cure)
    with warnings.catch_warnings(), nullcontext() if fault in TRAINS else refuses:
        warnings.simplefilter("error", UserWarning)
        list(Cityscapes(root, "train"))


def test_ids_0_to_33_and_the_byte_of_minus_1_are_in_range_and_an_empty_split_a_problem(root):
    draw_label(label_path(root, "val", 0), ids=(*range(34), 255))
    draw_label(label_path(root, "train", 0), ids=(0, 1))  # no pixel that counts
    assert check(root, counts=COUNTS) == []
    for path in root.glob("*/val/*/*"):
        path.unlink()
    assert "leftImg8bit/val: 0, expected some" in only_problem(root, counts=None)
    hide(root, "leftImg8bit")
    (root / "leftImg8bit").touch()
    assert "leftImg8bit/train: Not a directory" in "\n".join(check(root, counts=None))


def test_a_whole_split_of_train_ids_is_recognised(root):
    draw_split(root, "train", 10, ids=(0, 2, 10, 13, 18))
    text = only_problem(root, counts=COUNTS | {"train": 10})
    assert "train ids" in text and "gtFine/train" in text
    draw_label(label_path(root, "train", 9), ids=(7, 23))  # one with the sky is enough
    assert check(root, counts=COUNTS | {"train": 10}) == []
    draw_split(root, "val", 2, ids=(7, 11))  # and so few prove nothing
    assert check(root, counts=COUNTS | {"train": 10}) == []


def test_neither_a_linked_root_nor_hidden_and_system_files_are_a_problem(root, tmp_path):
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "aachen/Thumbs.db", "aachen/.DS_Store"):
        (root / "leftImg8bit/train" / name).write_bytes(b"x")
    for name in ("leftImg8bit/.DS_Store", f"{IMAGES}/._a_leftImg8bit.png"):
        (root / name).write_bytes(b"x")
    draw_image(root / "leftImg8bit/train/@eaDir/x_leftImg8bit.png")
    (root / LABELS / "._x_gtFine_labelIds.png").write_bytes(b"x")
    link(tmp_path / "linked", root)
    for tree in (root, tmp_path / "linked"):
        assert check(tree, counts=COUNTS) == []
        with warnings.catch_warnings(action="error"):
            assert len(Cityscapes(tree, "train")) == COUNTS["train"]


@pytest.mark.parametrize(("closed", "mode"), CLOSED)
def test_a_closed_directory_is_named_and_no_image_is_missing(root, closed, mode):
    (root / closed).chmod(mode)
    said = f"{closed}.*Permission denied.*python -m prepare.cityscapes"
    with without_rights_of_root():
        text = "\n".join(check(root, counts=None))
        with pytest.raises(OSError, match=said):
            Cityscapes(root, "val" if "val" in closed else "train")
    (root / closed).chmod(0o755)
    assert "cannot be opened" in text and closed in text and "Permission denied" in text
    assert "chmod" in text
    assert "images without labels" not in text and "labels without image" not in text


def test_a_closed_root_and_ctrl_c_end_the_command_with_one_line(root, run, monkeypatch):
    root.chmod(0o644)
    with without_rights_of_root(), pytest.raises(SystemExit, match="^error: .*Permission denied"):
        run(root)
    root.chmod(0o755)
    monkeypatch.setattr(cityscapes, "check_part", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(SystemExit, match="^stopped"):
        run(root)


def test_parts_that_are_not_always_needed_are_noted_or_checked_and_a_problem_if_asked_for(root):
    notes = [line for line in summary(root) if line.startswith("note: ")]
    for split, mode in (("test", "fine"), ("train", "coarse"), ("train_extra", "coarse")):
        with pytest.raises(FileNotFoundError):
            Cityscapes(root, split, mode)
        assert any(f"gt{mode.capitalize()}/{split}" in note for note in notes)
    assert any("leftImg8bit_trainextra.zip" in note and "gtCoarse.zip" in note for note in notes)
    text = "\n".join(check(root, coarse=True, counts=COUNTS))
    assert "leftImg8bit_trainextra.zip (packageID 4)" in text
    assert "gtCoarse.zip (packageID 2)" in text and "gtCoarse/train_extra" in text
    draw_image(image_path(root, "test", 0))
    assert any("dummies" in line for line in summary(root))  # without its dummy labels
    draw_split(root, "test", 10, ids=(1, 2, 3))  # dummies of low ids, which are no train ids
    assert check(root, counts=None) == []
    image_path(root, "test", 0).write_bytes(b"broken")
    assert "leftImg8bit/test" in only_problem(root, counts=None)


def test_coarse_labels_that_are_present_are_checked_unasked(root):
    for split in ("train", "val", "train_extra"):
        draw_split(root, split, COUNTS[split], "gtCoarse")
    assert check(root, coarse=True, counts=COUNTS) == []
    cut(image_path(root, "train", 2), -30)
    assert "cannot be used: 1" in only_problem(root)  # not again for its coarse label
    draw_image(image_path(root, "train", 2))
    label_path(root, "train", 0, "gtCoarse").unlink()
    cut(image_path(root, "train_extra", 1), -30)
    text = "\n".join(check(root, counts=COUNTS))
    assert "gtCoarse.zip (packageID 2)" in text
    assert "train_extra/aachen/aachen_000000_000001_leftImg8bit.png" in text
    assert "leftImg8bit_trainextra.zip (packageID 4)" in text


def test_the_black_image_of_troisdorf_may_stay_or_be_deleted(root):
    draw_split(root, "train_extra", 1, "gtCoarse")
    image = root / f"leftImg8bit/train_extra/{BLACK}_leftImg8bit.png"
    draw_image(image)
    draw_label(root / f"gtCoarse/train_extra/{BLACK}_gtCoarse_labelIds.png")
    assert any("black" in line for line in summary(root))
    image.unlink()
    assert check(root, counts=COUNTS) == []


def other_tree(root, ids, number=10, classes=None):
    """A tree of `number` images a split, with the ids in each label file."""
    for split in ("train", "val"):
        draw_split(root, split, number, ids=ids)
    if classes:
        rows = [f"- {{name: c{i}, id: {i}, color: [{i}, 0, 0]}}\n" for i in classes]
        (root / "classes.yaml").write_text("".join(rows))
    return root


@pytest.mark.parametrize("ids", [(0, 1, 200, 255), (0, 1, 2, 255)])
def test_ids_of_classes_yaml_are_known_and_no_train_ids(tmp_path, ids):
    assert check(other_tree(tmp_path, ids, classes=(0, 1, 200)), counts=None) == []


@pytest.mark.parametrize("classes", [None, (8, 9)])
def test_labels_without_a_pixel_of_any_class_are_named_for_the_whole_split(tmp_path, classes):
    text = "\n".join(check(other_tree(tmp_path, (0, 1, 6), classes=classes), counts=None))
    assert "splits in which no pixel is of a class: 2" in text
    assert "gtFine/train: the labels hold only 0 1 6" in text
    assert f"{tmp_path}/classes.yaml" in text and "prepare.own" in text
    assert "train ids" not in text


def test_a_flat_tree_is_checked_as_one_city(tmp_path):
    other_tree(tmp_path, IDS, 3)
    move(tmp_path.rglob("aachen_*.png"), lambda path: path.parent.parent / path.name)
    for path in [*tmp_path.rglob("aachen")]:
        path.rmdir()
    assert "gtFine train 1 3 3 16x8".split() in map(str.split, summary(tmp_path, None))
    assert len(list(Cityscapes(tmp_path, "train"))) == 3


def test_what_is_a_fault_of_cityscapes_may_be_none_of_another_data_set(root):
    smaller(root)
    lines = summary(root, None)
    assert any("gtFine/train has images of 2 sizes" in line and "crop" in line for line in lines)
    hide(root, "gtFine")
    text = only_problem(root, counts=None)
    assert "gtFine/train" in text and "zip" not in text


@pytest.mark.parametrize(("old", "new"), OTHER_NAMES)
def test_files_of_other_names_are_named_with_the_command_that_converts_them(root, old, new):
    if old.startswith("gtFine"):
        for name in (new, "gtFine_color.png"):
            draw_label(root / LABELS / f"aachen_000000_000000_{name}", ids=(0, 255), mode="RGB")
        assert check(root, counts=COUNTS) == []  # beside the right ones they are no problem
    move(root.rglob(f"*_{old}"), lambda path: path.with_name(path.name.replace(old, new)))
    with pytest.raises((FileNotFoundError, ValueError), match=f"(?s){new}.*prepare.own"):
        Cityscapes(root, "train")
    text = only_problem(root, counts=None)
    assert "other name" in text and ": 5\n" in text
    assert f"aachen_000000_000000_{new}" in text
    command = f"python -m prepare.own '{root}/leftImg8bit' '{root}/gtFine' DST"
    assert (command if old.startswith("gtFine") else "prepare.own") in text
    assert "zip" not in text and "delete" not in text


def test_the_commands_that_the_check_names_mend_the_tree(tmp_path):
    root = other_tree(tmp_path / "a", (0, 2, 10, 13, 18))
    images, labels = root / "leftImg8bit", root / "gtFine"
    command = f"python -m prepare.own {images} {labels} DST --labels train-ids"
    assert command in "\n".join(check(root, counts=None))
    prepare(images, labels, tmp_path / "b", labels="train-ids")
    assert check(tmp_path / "b", counts=None) == []
    for path in [*labels.rglob("*.png")]:
        path.rename(path.with_name(path.name.replace("labelIds", "labelTrainIds")))
    prepare(images, labels, tmp_path / "c")
    assert check(tmp_path / "c", counts=None) == []

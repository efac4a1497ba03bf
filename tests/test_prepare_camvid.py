from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import name2label
from PIL import Image

from dataset import Cityscapes
from labeling.opening import open_data_set
from prepare.camvid import IDS, convert, frame_name
from tests.samples import contents, cut, save, times
from utils import CITYSCAPES

FRAME, EMPTY = "0001TP_006690.png", np.zeros((4, 4), np.uint8)


def write_frame(root: Path, split: str, name: str, labels: np.ndarray) -> None:
    save(root / split / name, np.full((*labels.shape, 3), 90, np.uint8))
    save(root / f"{split}annot" / name, labels)


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "CamVid"
    labels = (np.arange(12 * 24) % 12).astype(np.uint8).reshape(12, 24)
    write_frame(root, "train", "0001TP_006690.png", labels)
    write_frame(root, "train", "Seq05VD_f00000.png", labels)
    write_frame(root, "val", "0016E5_08640.png", labels.T.copy())
    write_frame(root, "test", "0001TP_008550.png", labels)
    (root / "train" / f"._{FRAME}").write_bytes(b"x")  # of macOS
    return root


def test_each_label_becomes_the_cityscapes_class_of_its_name_and_each_sequence_a_city():
    classes = ["sky", "building", "pole", "road", "sidewalk", "vegetation", "traffic sign", "fence"]
    classes += ["car", "person", "rider", "unlabeled"]
    assert IDS == {i: name2label[name].id for i, name in enumerate(classes)}
    assert frame_name("0001TP_006690") == "0001tp_000000_006690"
    assert frame_name("Seq05VD_f00000") == "seq05vd_000000_000000"


def test_the_tree_reads_back_exactly_the_test_split_too(source, tmp_path):
    assert convert(source, tmp_path / "out") == {"train": 2, "val": 1, "test": 1}
    table = CITYSCAPES.train_ids.numpy()[[IDS[i] for i in range(12)]]
    for split, names in (
        ("train", ["0001TP_006690", "Seq05VD_f00000"]),
        ("test", ["0001TP_008550"]),
    ):
        scenes = Cityscapes(tmp_path / "out", split)
        assert len(scenes) == len(names)
        for (image, mask), name in zip(scenes, names, strict=True):
            truth = np.array(Image.open(source / f"{split}annot" / f"{name}.png"))
            assert np.array_equal(mask.numpy(), table[truth])
            pixels = np.array(Image.open(source / split / f"{name}.png"))
            assert np.array_equal(image.permute(1, 2, 0).numpy(), pixels)


def test_a_second_call_writes_nothing_but_what_is_missing(source, tmp_path):
    convert(source, tmp_path / "out")
    before, whole = times(tmp_path / "out"), contents(tmp_path / "out")
    convert(source, tmp_path / "out")
    assert times(tmp_path / "out") == before
    assert sum(p.suffix == ".png" for p in before) == 8
    image, *_ = (tmp_path / "out" / "leftImg8bit").rglob("*.png")
    image.rename(image.with_name(image.name + ".part"))  # as if killed while it was written
    convert(source, tmp_path / "out")
    assert contents(tmp_path / "out") == whole
    with closing(open_data_set(tmp_path / "out")) as session:
        session.stroke(session.order[0], [[0, 50, 7]])
    before = contents(tmp_path / "out")
    convert(source, tmp_path / "out")
    assert contents(tmp_path / "out") == before != whole


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "trainannot" / FRAME).unlink(), "no image at .*annot"),
        (lambda root: write_frame(root, "train", "0001TP_1.png", EMPTY + 12), "is no label image"),
        (lambda root: write_frame(root, "val", "holiday.png", EMPTY), "is no CamVid frame"),
        (lambda root: cut(root / "trainannot" / FRAME, 0.5), f"trainannot.{FRAME}"),
        (lambda root: cut(root / "train" / FRAME, 0.5), f"train.{FRAME} .*restore"),
        (lambda root: save(root / "train" / FRAME, EMPTY, "RGB"), f"{FRAME} is 24x12, but"),
        (lambda root: (root / "val" / "0016E5_08640.png").unlink(), "val holds no .*clone"),
        (lambda root: write_frame(root, "train", "0001TP_6690.png", EMPTY), "both be .*rename"),
    ],
)
def test_a_bad_source_is_named_with_its_fault(source, tmp_path, spoil, message):
    spoil(source)
    with pytest.raises((OSError, ValueError), match=message):
        convert(source, tmp_path / "out")


@pytest.mark.parametrize("name", ["classes.yaml", "own.json", "streets.json", "x/x_000000_1"])
def test_a_destination_with_another_data_set_is_refused_and_left_alone(source, tmp_path, name):
    other = f"leftImg8bit/val/{name}_leftImg8bit.png" if "/" in name else name
    path = tmp_path / "out" / other
    path.parent.mkdir(parents=True)
    path.touch()
    with pytest.raises(ValueError, match=f"another data set .*{name}.*choose a new directory"):
        convert(source, tmp_path / "out")
    assert [*contents(tmp_path / "out")] == [other]


def test_the_command_says_what_it_wrote_or_what_it_wants(source, tmp_path, command, capsys):
    command("prepare.camvid", source, tmp_path / "out")
    assert "2 train, 1 val, 1 test" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="give the CamVid directory"):
        command("prepare.camvid", tmp_path, tmp_path / "out")


@pytest.mark.slow
def test_the_published_frames_are_all_there_with_eleven_classes(camvid):
    assert {s: len(Cityscapes(camvid, s)) for s in ("train", "val")} == {"train": 367, "val": 101}
    scenes = Cityscapes(camvid, "val")
    assert scenes[0][0].shape == (3, 360, 480)
    seen = set().union(*(scenes[i][1].unique().tolist() for i in range(0, 101, 10)))
    assert seen == {int(CITYSCAPES.train_ids[IDS[i]]) for i in range(12)}

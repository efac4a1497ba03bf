"""Data of other forms, drawn small, becomes a data set that trains: images and labels read back."""

import json
import os
import runpy
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from dataset import Cityscapes
from prepare import conversion, own
from prepare.cityscapes import check
from prepare.conversion import target_name
from prepare.meaning import look_like_streets
from prepare.own import prepare
from prepare.pairs import find_pairs
from prepare.splits import assign_splits
from utils import CITYSCAPES

SIZE = (20, 16)  # height and width
# Ids of Cityscapes from the sky to the road, as a street looks, and the same as train ids.
STREET = [23, 23, 11, 21, 17, 26, 4, 8, 7, 7]
TRAIN_IDS = [10, 10, 2, 8, 5, 13, 255, 1, 0, 0]
ANIMAL, ROAD, SKY, VOID = (64, 128, 64), (128, 64, 128), (128, 128, 128), (0, 0, 0)


def pattern(values, size=SIZE) -> np.ndarray:
    """(H, W, ...) uint8: the values, one after the other."""
    values = np.array(values, np.uint8)
    return values[np.arange(size[0] * size[1]) % len(values)].reshape(*size, *values.shape[1:])


def street(ids, size=SIZE) -> np.ndarray:
    """(H, W) uint8: bands of ids, one below the other."""
    rows = np.array(ids, np.uint8)[np.arange(size[0]) * len(ids) // size[0]]
    return np.tile(rows[:, None], (1, size[1]))


def save(path: Path, pixels: np.ndarray, mode: str | None = None, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if mode == "P":
        image.putpalette([i for n in range(256) for i in (n, 255 - n, n // 2)])
    image.save(path, **options)


def photo(path: Path, size=SIZE, **options) -> None:
    seed = sum(path.name.encode())
    save(path, np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8), **options)


def flat(root: Path, number=5, values=(0, 1), size=SIZE, draw=pattern) -> tuple[Path, Path]:
    """`number` images a0.png, a1.png, ... and their masks, in two directories."""
    for i in range(number):
        photo(root / "images" / f"a{i}.png", size)
        save(root / "masks" / f"a{i}.png", draw(values, size))
    return root / "images", root / "masks"


def masks_of(root: Path, split: str) -> set[int]:
    """All train ids of a split, which must pass the check."""
    assert check(root, counts=None) == []
    return set().union(*(mask.unique().tolist() for _, mask in Cityscapes(root, split)))


def run(monkeypatch, *args) -> None:
    monkeypatch.setattr(sys, "argv", ["own", *map(str, args)])
    own.main()


def expected(ids) -> set[int]:
    return set(CITYSCAPES.train_ids[list(ids)].tolist())


# The forms of known data sets


def test_kitti_semantics_of_several_sizes_is_taken_for_cityscapes_ids(tmp_path):
    for i in range(6):
        size = (20, 16 + i % 2)
        photo(tmp_path / "training/image_2" / f"00000{i}_10.png", size)
        save(tmp_path / "training/semantic" / f"00000{i}_10.png", street(STREET, size))
    lines, dst = [], tmp_path / "out"
    source = tmp_path / "training"
    counts = prepare(source / "image_2", source / "semantic", dst, say=lines.append)
    assert sum(counts.values()) == 6 and set(counts) == {"train", "val"}
    assert not (dst / "classes.yaml").exists()
    assert "ids of Cityscapes" in "\n".join(lines)
    assert masks_of(dst, "train") == expected(STREET)
    assert {image.shape[2] for image, _ in Cityscapes(dst, "trainval")} == {16, 17}


@pytest.mark.parametrize("ending", ["", "_train_id"])
def test_bdd100k_keeps_its_splits_and_its_train_ids_become_ids(tmp_path, ending):
    for split, number in (("train", 3), ("val", 2)):
        for i in range(number):
            photo(tmp_path / "images/10k" / split / f"7d06-{split}{i}.jpg")
            mask = tmp_path / "labels/sem_seg/masks" / split / f"7d06-{split}{i}{ending}.png"
            save(mask, street(TRAIN_IDS))
    photo(tmp_path / "images/10k/test/7d06-x.jpg")  # without a mask, as published
    lines, dst = [], tmp_path / "out"
    labels = tmp_path / "labels/sem_seg/masks"
    counts = prepare(tmp_path / "images/10k", labels, dst, say=lines.append)
    assert counts == {"train": 3, "val": 2}
    assert "train ids" in "\n".join(
        lines
    ) and "test split without a mask, which are left out: 1" in "\n".join(lines)
    assert masks_of(dst, "val") == set(TRAIN_IDS)
    image, mask = Cityscapes(dst, "val")[0]
    assert np.array_equal(mask.numpy(), street(TRAIN_IDS))
    source = np.array(Image.open(tmp_path / "images/10k/val/7d06-val0.jpg"))
    assert np.array_equal(image.permute(1, 2, 0).numpy(), source)


def test_gta5_palette_masks_are_read_by_their_index_and_34_is_not_scored(tmp_path):
    for i in range(4):
        photo(tmp_path / "images" / f"0000{i}.png")
        save(tmp_path / "labels" / f"0000{i}.png", street([*STREET, 34]), "P")
    prepare(tmp_path / "images", tmp_path / "labels", tmp_path / "out")
    assert masks_of(tmp_path / "out", "train") == expected(STREET)


@pytest.mark.parametrize(
    ("kinds", "values", "classes"),
    [
        (["_labelcsIds", "_labellevel3Ids"], [*STREET, 255], None),
        (["_labelids"], [0, 1, 3, 29, 32, 33, 39], 7),
        (["_labellevel3Ids"], [0, 2, 4, 22, 24, 25, 255], 6),
        (["_labellevel3Ids"], STREET, 8),  # though they might be Cityscapes' ids
        (["_labelids"], TRAIN_IDS, 7),  # though they might be train ids
    ],
)
def test_idd_is_converted_from_whichever_labels_lie_there(tmp_path, kinds, values, classes):
    for split in ("train", "val"):
        for number, frame in (("0", "024541"), ("1", "024541"), ("1", "000007")):
            photo(tmp_path / f"leftImg8bit/{split}/{number}/{frame}_leftImg8bit.png")
            folder = tmp_path / f"gtFine/{split}/{number}"
            save(folder / f"{frame}_gtFine_{kinds[0].strip('_')}.png", pattern(values))
            for other in kinds[1:]:
                save(folder / f"{frame}_gtFine{other}.png", pattern([0]))
            save(folder / f"{frame}_gtFine_instanceids.png", pattern([0]))
    lines, dst = [], tmp_path / "out"
    counts = prepare(tmp_path / "leftImg8bit", tmp_path / "gtFine", dst, say=lines.append)
    assert counts == {"train": 3, "val": 3}
    assert "left out" not in "".join(lines)
    assert (dst / "leftImg8bit/val/1/1_000000_024541_leftImg8bit.png").is_file()
    assert (dst / "classes.yaml").exists() == (classes is not None)
    assert len(Cityscapes(dst, "train").classes) == (classes or 19)
    own_ids = {*range(classes or 0)} | {255} & set(values)
    assert masks_of(dst, "train") == (own_ids if classes else expected(STREET))


def camvid(root: Path) -> Path:
    """The form of CamVid as published; returns its list of colours."""
    for i in range(4):
        photo(root / "images" / f"0001TP_00{i}.png")
        save(root / "labels" / f"0001TP_00{i}_L.png", pattern([ANIMAL, ROAD, SKY, VOID]))
    path = root / "label_colors.txt"
    path.write_text("64 128 64\tAnimal\n128 64 128\tRoad\n128 128 128\tSky\n0 0 0\t\tVoid\n")
    return path


def test_camvids_colours_become_the_classes_of_a_classes_yaml(tmp_path):
    camvid(tmp_path)
    classes = tmp_path / "my.yaml"
    classes.write_text(
        "- {name: sky, id: 5, color: [128, 128, 128]}\n"
        "- {name: street, id: 2, color: [128, 64, 128]}\n"
        "- {name: animal, id: 9, color: [64, 128, 64]}\n"
    )
    dst = tmp_path / "out"
    prepare(tmp_path / "images", tmp_path / "labels", dst, labels="colors", classes=classes)
    assert Cityscapes(dst, "val").classes.names == ("sky", "street", "animal")
    _, mask = Cityscapes(dst, "val")[0]
    assert np.array_equal(mask.numpy(), pattern([2, 1, 0, 255]))  # black is not scored


def test_camvids_list_of_colours_is_taken_as_it_is_without_void(tmp_path):
    classes, dst = camvid(tmp_path), tmp_path / "out"
    prepare(tmp_path / "images", tmp_path / "labels", dst, classes=classes)
    assert Cityscapes(dst, "val").classes.names == ("Animal", "Road", "Sky")
    assert masks_of(dst, "train") == {0, 1, 2, 255}


def test_an_unknown_colour_is_refused_with_its_file_and_nothing_is_written(tmp_path):
    classes = camvid(tmp_path)
    save(tmp_path / "labels" / "0001TP_002_L.png", pattern([ROAD, (1, 2, 3)]))
    with pytest.raises(ValueError, match=r"0001TP_002_L.png: \(1, 2, 3\)") as error:
        prepare(tmp_path / "images", tmp_path / "labels", tmp_path / "out", classes=classes)
    assert "add them to the file of --classes" in str(error.value)
    assert {path.name for path in tmp_path.glob("out/*")} == {"own-preview.jpg"}


@pytest.mark.parametrize("splits", [("train", "val"), ("Train", "Validation"), ("default",)])
def test_cvats_flat_export_is_converted_with_the_classes_of_its_label_colors(tmp_path, splits):
    for split in splits:
        for i in range(3):
            photo(tmp_path / "imgsFine/leftImg8bit" / split / f"{split}_{i}_leftImg8bit.png")
            label = tmp_path / "gtFine" / split / f"{split}_{i}_gtFine_labelIds.png"
            save(label, pattern([0, 1, 2]))
            save(label.with_name(f"{split}_{i}_gtFine_color.png"), pattern([VOID, ROAD, SKY]))
            save(label.with_name(f"{split}_{i}_gtFine_instanceIds.png"), pattern([0]))
    classes = tmp_path / "label_colors.txt"
    classes.write_text("0 0 0 background\n128 64 128 road\n128 128 128 sky\n")
    dst = tmp_path / "out"
    images = tmp_path / "imgsFine/leftImg8bit"
    counts = prepare(images, tmp_path / "gtFine", dst)
    assert set(counts) == {"train", "val"} and sum(counts.values()) == 3 * len(splits)
    assert Cityscapes(dst, "val").classes.names == ("background", "road", "sky")
    assert masks_of(dst, "train") == {0, 1, 2}


def test_masks_in_the_colours_of_cityscapes_need_no_list(tmp_path):
    images, masks = flat(tmp_path)
    colors = [CITYSCAPES.colors[i] for i in (0, 2, 8, 13)]
    for i in range(5):
        save(masks / f"a{i}.png", pattern([*colors, VOID]))
    prepare(images, masks, tmp_path / "out")
    assert masks_of(tmp_path / "out", "train") == {0, 2, 8, 13, 255}


@pytest.mark.parametrize("color", [(255, 0, 0), (128, 64, 128)])
def test_one_colour_of_cityscapes_on_black_makes_two_classes(tmp_path, color):
    images, masks = flat(tmp_path)
    for path in masks.iterdir():
        save(path, pattern([color, VOID]))
    prepare(images, masks, tmp_path / "out")
    assert masks_of(tmp_path / "out", "train") == {0, 1}


# What values mean where they might mean several things

RAILS = [10, 10, 2, 8, 13, 5, 0, 15, 12, 17, 18]  # RailSem19: trackbed and rails below
TRAMS = [10, 10, 2, 8, 13, 5, 11, 0, 3, 3, 18]  # tram-tracks before the camera
CARLA = [13, 13, 1, 9, 5, 10, 11, 21, 8, 7, 7, 7, 7, 7, 7]  # road is 7 there, too; sky 13


@pytest.mark.parametrize(
    ("values", "draw", "candidate"),
    [
        (RAILS, street, "train-ids"),
        (TRAMS, street, "train-ids"),
        (CARLA, street, "cityscapes"),
        (TRAIN_IDS, pattern, "train-ids"),  # of no connected areas
        (STREET[::-1], street, "cityscapes"),  # upside down
    ],
)
def test_values_that_only_fit_are_refused_with_what_they_may_be_and_a_picture(
    tmp_path, values, draw, candidate
):
    images, masks = flat(tmp_path, values=values, draw=draw, size=(60, 80))
    with pytest.raises(ValueError, match=f"(?s)--labels {candidate}:.*--labels ids:.*preview"):
        prepare(images, masks, tmp_path / "out")
    assert [path.name for path in tmp_path.glob("out/*")] == ["own-preview.jpg"]
    with Image.open(tmp_path / "out/own-preview.jpg") as preview:
        assert preview.width > 3 * 80 and preview.height > 3 * 60
    prepare(images, masks, tmp_path / "out", labels="ids")
    assert Cityscapes(tmp_path / "out", "val").classes.ids == tuple(sorted({*values} - {255}))


def test_a_list_that_lies_in_the_data_set_is_its_own_word(tmp_path):
    images, masks = flat(tmp_path, values=RAILS, draw=street)
    names = ["road", "sidewalk", "construction", "tram-track", *"abcdef", "sky", "human", "rails"]
    names += ["car", "truck", "trackbed", "on-rails", "rail-raised", "rail-embedded"]
    labels = [{"name": name, "color": [i, 2 * i, 3]} for i, name in enumerate(names)]
    (tmp_path / "rs19-config.json").write_text(json.dumps({"labels": labels}))
    lines = []
    prepare(images, masks, tmp_path / "out", say=lines.append)
    assert any("rs19-config.json" in line for line in lines)
    assert Cityscapes(tmp_path / "out", "val").classes.names == tuple(names)
    prepare(images, masks, tmp_path / "said", labels="train-ids")  # the user's word counts more
    assert not (tmp_path / "said" / "classes.yaml").exists()
    with pytest.raises(ValueError, match="leave --classes out"):
        own_list = tmp_path / "rs19-config.json"
        prepare(images, masks, tmp_path / "x", labels="cityscapes", classes=own_list)


def test_streets_as_they_are_drawn_and_photographed_look_like_streets(streets):
    paths = sorted((streets / "gtFine").rglob("*_labelIds.png"))
    drawn = [np.array(Image.open(path)) for path in paths]
    ids = {i: i for i in range(34)}
    assert look_like_streets(drawn, ids)
    assert not look_like_streets([each[::-1] for each in drawn], ids)
    assert not look_like_streets([each.T for each in drawn], ids)


def test_camvid_looks_like_streets(camvid):
    paths = sorted((camvid / "gtFine" / "val").rglob("*_labelIds.png"))[::10]
    assert look_like_streets(
        [np.array(Image.open(path)) for path in paths], {i: i for i in range(34)}
    )


@pytest.mark.parametrize(("value", "listed"), [(255, 1), (128, 1), (2, 7)])
def test_a_class_without_a_pixel_beside_a_large_unknown_value_is_asked_about(
    tmp_path, value, listed
):
    images, masks = flat(tmp_path, values=(0, value))
    classes = tmp_path / "c.yaml"
    classes.write_text(
        "- {name: background, id: 0, color: [0, 0, 0]}\n"
        f"- {{name: crack, id: {listed}, color: [9, 9, 9]}}\n"
    )
    with pytest.raises(ValueError, match=f"class crack.*did you mean {value}"):
        prepare(images, masks, tmp_path / "out", classes=classes)
    prepare(images, masks, tmp_path / "out", classes=classes, labels="ids")
    (tmp_path / "out/own.json").unlink()
    lines = []
    assert check(tmp_path / "out", counts=None, say=lines.append) == []
    assert any("crack" in line and f"did you mean {value}" in line for line in lines)


def blend(path: Path, colors, smooth: int = 3, **options) -> np.ndarray:
    """Saves areas of some colours with smoothed edges; returns which colour is where."""
    rng = np.random.default_rng(len(path.name) + sum(path.name.encode()))
    areas = np.kron(rng.integers(0, len(colors), (4, 5)), np.ones((32, 32), int))
    image = Image.fromarray(np.array(colors, np.uint8)[areas])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.filter(ImageFilter.GaussianBlur(smooth)).save(path, **options)
    return areas


@pytest.mark.parametrize(
    ("colors", "suffix", "smooth", "listed"),
    [
        ([ROAD, SKY, ANIMAL, (200, 30, 30)], ".png", 0.7, True),
        ([ROAD, SKY, ANIMAL, (200, 30, 30)], ".png", 0.7, False),
        ([VOID, (255, 255, 255)], ".png", 1, True),  # grey
        ([VOID, (255, 255, 255)], ".png", 1, False),
        ([ROAD, SKY, (255, 255, 0)], ".jpg", 0, True),
    ],
)
def test_smoothed_edges_are_named_and_the_nearest_colour_cures_them(
    tmp_path, colors, suffix, smooth, listed
):
    images, masks, options = tmp_path / "images", tmp_path / "masks", {}
    areas = {}
    for i in range(4):
        photo(images / f"a{i}.png", (128, 160))
        areas[f"a{i}"] = blend(masks / f"a{i}{suffix}", colors, smooth)
    if listed:
        rows = [f"- {{name: c{i}, id: {i + 1}, color: {[*c]}}}" for i, c in enumerate(colors)]
        (tmp_path / "c.yaml").write_text("\n".join(rows))
        options = {"classes": tmp_path / "c.yaml", "labels": "colors"}
    with pytest.raises(ValueError, match="--nearest-color") as error:
        prepare(images, masks, tmp_path / "out", **options)
    assert len(str(error.value)) < 1500
    for _ in range(2):  # and once more, as the record says
        prepare(images, masks, tmp_path / "out", nearest=True, **options)
    scenes = Cityscapes(tmp_path / "out", "trainval")
    assert len(scenes.classes) == len(colors)
    of_color = {color: i for i, color in enumerate(scenes.classes.colors)}
    assert {*of_color} == {*colors} or suffix == ".jpg"
    if suffix == ".png":
        for path, (_, mask) in zip(scenes.images, scenes, strict=True):
            expected = np.array([of_color[c] for c in colors])[areas[path.split("_")[-2]]]
            assert (mask.numpy() == expected).mean() > 0.9


@pytest.mark.parametrize("kind", ["colors", "ids"])
def test_what_is_transparent_in_a_mask_is_not_labelled(tmp_path, kind):
    images, masks = flat(tmp_path)
    for path in masks.iterdir():
        one, other = (ROAD, SKY) if kind == "colors" else ((1, 1, 1), (2, 2, 2))
        save(path, pattern([(*one, 255), (*other, 255), (*other, 0)]))
    prepare(images, masks, tmp_path / "out")
    scenes = Cityscapes(tmp_path / "out", "trainval")
    assert len(scenes.classes) == 2
    for _, mask in scenes:
        assert np.array_equal(mask.numpy() == 255, pattern([0, 0, 1]) == 1)


# Own classes


@pytest.mark.parametrize("values", [(0, 1), (0, 255)])
@pytest.mark.parametrize("classes", [None, "given"])
def test_binary_masks_train_on_two_classes(tmp_path, values, classes):
    images, masks = flat(tmp_path, values=values)
    if classes:
        classes = tmp_path / "classes.yaml"
        classes.write_text(
            "- {name: background, id: 0, color: [0, 0, 0]}\n"
            f"- {{name: road, id: {values[1]}, color: [255, 0, 0]}}\n"
        )
    prepare(images, masks, tmp_path / "out", classes=classes)
    scenes = Cityscapes(tmp_path / "out", "val")
    assert len(scenes.classes) == 2 and scenes.classes.ids == values
    assert np.array_equal(scenes[0][1].numpy(), pattern([0, 1]))
    assert check(tmp_path / "out", counts=None) == []


@pytest.mark.parametrize("form", ["1 bit", "4 bits", "16 bits", "grey as RGB", "palette"])
def test_ids_are_the_same_in_every_form_of_png(tmp_path, form):
    images, masks = flat(tmp_path, values=(0, 1))
    values = pattern([0, 1])
    for path in sorted(masks.iterdir()):
        if form == "1 bit":
            save(path, values.astype(bool))
        elif form == "16 bits":
            save(path, values.astype(np.uint16))
        elif form == "grey as RGB":
            save(path, np.stack([values] * 3, -1))
        elif form == "palette":
            save(path, values, "P", bits=1)
        else:  # Pillow writes no four bits of grey: set the type of a palette's PNG
            save(path, values, "P", bits=4)
            data = path.read_bytes()
            plte = data.index(b"PLTE") - 4
            length = int.from_bytes(data[plte : plte + 4], "big") + 12
            header = data[12:25] + b"\0" + data[26:29]
            crc = zlib.crc32(header).to_bytes(4, "big")
            path.write_bytes(data[:12] + header + crc + data[33:plte] + data[plte + length :])
            assert "L;4" in str(Image.open(path).tile)
    prepare(images, masks, tmp_path / "out")
    scenes = Cityscapes(tmp_path / "out", "val")
    assert scenes.classes.ids == (0, 1)
    assert np.array_equal(scenes[0][1].numpy(), values)


def test_a_proposal_gives_each_value_its_share_and_leaves_255_out(tmp_path):
    images, masks = flat(tmp_path, values=[0, 0, 0, 3, 3, 255, 255, 255])
    lines = []
    prepare(images, masks, tmp_path / "out", say=lines.append)
    text = (tmp_path / "out" / "classes.yaml").read_text()
    assert '- {name: "class 0", id: 0, ' in text and "# 37.50% of the pixels, in 5 of 5" in text
    assert "\n# - {name: class 255, id: 255" in text
    assert Cityscapes(tmp_path / "out", "val").classes.ids == (0, 3)
    assert "the classes are a proposal" in "\n".join(lines)
    assert any(line.split() == ["class", "3", "25.00%", "25.00%"] for line in lines)
    assert any(line.split() == ["(not", "scored)", "37.50%", "37.50%"] for line in lines)


def test_a_proposal_for_colours_may_be_edited_and_the_conversion_goes_on(tmp_path):
    camvid(tmp_path)
    images, labels, dst = tmp_path / "images", tmp_path / "labels", tmp_path / "out"
    (tmp_path / "label_colors.txt").unlink()
    prepare(images, labels, dst)
    path = dst / "classes.yaml"
    lines = path.read_text().splitlines()
    sky = next(line for line in lines if str(list(SKY)) in line)
    path.write_text(sky.replace("color 128 128 128", "sky"))
    photo(images / "0001TP_009.png")
    save(labels / "0001TP_009_L.png", pattern([ANIMAL, ROAD, SKY, VOID]))
    assert sum(prepare(images, labels, dst, labels="colors").values()) == 5
    scenes = Cityscapes(dst, "trainval")
    assert scenes.classes.names == ("sky",) and len(scenes) == 5
    assert all(np.array_equal(m.numpy(), pattern([255, 255, 0, 255])) for _, m in scenes)


def test_the_palette_gives_a_proposal_its_colours(tmp_path):
    images, masks = flat(tmp_path)
    for path in masks.iterdir():
        save(path, pattern([0, 3]), "P")
    prepare(images, masks, tmp_path / "out")
    assert Cityscapes(tmp_path / "out", "val").classes.colors == ((0, 255, 0), (3, 252, 1))


def test_palettes_that_differ_in_an_index_that_occurs_are_refused_until_labels_says_what_counts(
    tmp_path,
):
    images, masks = flat(tmp_path)
    for i, path in enumerate(sorted(masks.iterdir())):
        mask = Image.fromarray(pattern([i % 2, 1 - i % 2]))  # the same colours everywhere
        mask.putpalette([*(ROAD, SKY)[i % 2], *(SKY, ROAD)[i % 2], *(i, i, i)])
        mask.save(path)
    with pytest.raises(ValueError, match=r"a1.png has other colours for its indices"):
        prepare(images, masks, tmp_path / "out")
    prepare(images, masks, tmp_path / "colors", labels="colors")
    found = [mask for _, mask in Cityscapes(tmp_path / "colors", "trainval")]
    assert all(np.array_equal(mask, found[0]) for mask in found)
    prepare(images, masks, tmp_path / "ids", labels="ids")
    assert masks_of(tmp_path / "ids", "train") == {0, 1}


def test_a_colour_that_comes_later_is_added_to_the_classes_of_the_data_set(tmp_path):
    camvid(tmp_path)
    images, labels, dst = tmp_path / "images", tmp_path / "labels", tmp_path / "out"
    (tmp_path / "label_colors.txt").unlink()
    prepare(images, labels, dst)
    photo(images / "0001TP_009.png")
    save(labels / "0001TP_009_L.png", pattern([ROAD, (1, 2, 3)]))
    with pytest.raises(ValueError, match=r"add them to .*classes.yaml"):
        prepare(images, labels, dst)
    with (dst / "classes.yaml").open("a") as file:
        file.write("- {name: new, id: 9, color: [1, 2, 3]}\n")
    prepare(images, labels, dst)
    assert sorted(masks_of(dst, "train") | masks_of(dst, "val")) == [0, 1, 2, 3, 4]


def test_ids_that_no_class_has_are_named_as_not_scored(tmp_path):
    images, masks = flat(tmp_path, values=(0, 1))
    prepare(images, masks, tmp_path / "out")
    save(masks / "a0.png", pattern([0, 1, 7]))
    lines = []
    prepare(images, masks, tmp_path / "out", say=lines.append)
    assert "not scored: 7" in lines


def test_train_ids_of_given_classes_become_their_ids(tmp_path):
    images, masks = flat(tmp_path, values=(0, 1, 255))
    classes = tmp_path / "c.yaml"
    classes.write_text("[{name: a, id: 9, color: [1, 1, 1]}, {name: b, id: 4, color: [2, 2, 2]}]")
    prepare(images, masks, tmp_path / "out", labels="train-ids", classes=classes)
    scenes = Cityscapes(tmp_path / "out", "val")
    assert scenes.classes.ids == (9, 4)
    assert np.array_equal(scenes[0][1].numpy(), pattern([0, 1, 255]))


def test_labels_says_what_the_values_are_where_they_look_otherwise(tmp_path):
    images, masks = flat(tmp_path, values=TRAIN_IDS, draw=street)
    prepare(images, masks, tmp_path / "guessed")
    assert not (tmp_path / "guessed" / "classes.yaml").exists()
    prepare(images, masks, tmp_path / "said", labels="ids")
    assert Cityscapes(tmp_path / "said", "val").classes.ids == tuple(sorted({*TRAIN_IDS} - {255}))


def test_the_names_of_masks_tell_train_ids_whatever_values_they_hold(tmp_path):
    images, masks = flat(tmp_path, values=(0, 1))
    for path in [*masks.iterdir()]:
        path.rename(path.with_stem(f"{path.stem}_train_id"))
    prepare(images, masks, tmp_path / "out")
    assert masks_of(tmp_path / "out", "train") == {0, 1}
    assert not (tmp_path / "out" / "classes.yaml").exists()


def test_few_classes_of_cityscapes_pass_the_check_though_their_ids_might_be_train_ids(tmp_path):
    prepare(*flat(tmp_path, 20, values=[0, 1, 2, 4]), tmp_path / "out", labels="train-ids")
    assert masks_of(tmp_path / "out", "train") == {0, 1, 2, 4}  # ids 7, 8, 11 and 13


# Names, pairs and splits


def test_any_names_of_images_become_names_of_the_format_that_stay(tmp_path):
    names = ["Straße 1.jpg", "b.c/x_y.png", "b-c/x_y.png", "b-c/x-y.png", "ulm_000001_000002.png"]
    for name in names:
        photo(tmp_path / "images" / name)
        save((tmp_path / "masks" / name).with_suffix(".png"), pattern([0, 1]))
    pairs, _ = find_pairs(tmp_path / "images", tmp_path / "masks", None)
    found = [target_name(pair.folders, pair.stem) for pair in pairs]
    assert len(set(found)) == len(names)
    assert all(len(name.split("/")[1].split("_")) == 3 for name in found)
    assert {"ulm/ulm_000001_000002", "b-c/b-c_000000_x-y"} <= set(found)
    photo(tmp_path / "images" / "a new one.png")
    save(tmp_path / "masks" / "a new one.png", pattern([0, 1]))
    again, _ = find_pairs(tmp_path / "images", tmp_path / "masks", None)
    assert set(found) < {target_name(pair.folders, pair.stem) for pair in again}


def test_an_image_keeps_its_split_when_others_are_added(tmp_path):
    pairs, _ = find_pairs(*flat(tmp_path, 40), None)
    few = dict(zip(pairs[::2], assign_splits(pairs[::2])[0], strict=True))
    many = dict(zip(pairs, assign_splits(pairs)[0], strict=True))
    assert few.items() <= many.items()
    assert 2 <= list(many.values()).count("val") <= 16
    assert list(assign_splits(pairs, "0.5")[0]).count("val") > list(many.values()).count("val")


@pytest.mark.parametrize("share", ["0.001", "0.999"])
def test_each_split_has_an_image_however_few_there_are(tmp_path, share):
    pairs, _ = find_pairs(*flat(tmp_path, 2), None)
    assert sorted(assign_splits(pairs, share)[0]) == ["train", "val"]


def test_a_list_names_the_images_to_validate_on(tmp_path):
    images, masks = flat(tmp_path)
    (tmp_path / "val.txt").write_text("a1\na3.png\n\n")
    prepare(images, masks, tmp_path / "out", val=str(tmp_path / "val.txt"))
    names = [Path(path).name for path in Cityscapes(tmp_path / "out", "val").images]
    assert names == ["own_000000_a1_leftImg8bit.png", "own_000000_a3_leftImg8bit.png"]


def test_masks_beside_their_images_are_told_by_their_endings(tmp_path):
    for i in range(3):
        photo(tmp_path / "all" / f"x{i}.jpg")
        save(tmp_path / "all" / f"x{i}_mask.png", pattern([0, 1]))
    assert sum(prepare(tmp_path / "all", tmp_path / "all", tmp_path / "out").values()) == 3
    photo(tmp_path / "nested" / "x.jpg")
    photo(tmp_path / "nested" / "y.jpg")
    save(tmp_path / "nested/masks/x.png", pattern([0, 1]))
    save(tmp_path / "nested/masks/y.png", pattern([0, 1]))
    counts = prepare(tmp_path / "nested", tmp_path / "nested/masks", tmp_path / "out2")
    assert counts == {"train": 1, "val": 1}


def test_a_name_that_ends_like_a_mask_is_paired_with_its_own_mask(tmp_path):
    for name in ("left_L.png", "left.png"):
        photo(tmp_path / "images" / name)
        save(tmp_path / "masks" / name, pattern([0, 1]))
    pairs, _ = find_pairs(tmp_path / "images", tmp_path / "masks", None)
    assert [(pair.image.name, pair.mask.name) for pair in pairs] == [
        ("left.png", "left.png"),
        ("left_L.png", "left_L.png"),
    ]


def test_a_mask_may_carry_the_whole_name_of_its_image(tmp_path):
    for i in range(2):
        photo(tmp_path / "images" / f"x{i}.jpg")
        save(tmp_path / "masks" / f"x{i}.jpg.png", pattern([0, 1]))
    assert sum(prepare(tmp_path / "images", tmp_path / "masks", tmp_path / "out").values()) == 2


def test_files_that_are_no_images_are_named(tmp_path):
    images, masks = flat(tmp_path)
    (images / "x.DNG").write_bytes(b"x")
    lines = []
    prepare(images, masks, tmp_path / "out", say=lines.append)
    assert any("also holds 1 *.DNG" in line for line in lines)


def test_images_of_test_do_not_count_where_others_are_drawn_for_val(tmp_path):
    for i in range(12):
        folder = "test" if i % 3 else "more"
        photo(tmp_path / "images" / folder / f"x{i}.png")
        save(tmp_path / "masks" / folder / f"x{i}.png", pattern([0, 1]))
    pairs, _ = find_pairs(tmp_path / "images", tmp_path / "masks", None)
    for share in ("0.001", "0.999"):
        assert set(assign_splits(pairs, share)[0]) == {"train", "val", "test"}


def test_hidden_and_system_files_are_passed_over_and_masks_without_image_named(tmp_path):
    images, masks = flat(tmp_path)
    photo(images / "@eaDir" / "a0.png")
    (images / "._a0.png").write_bytes(b"x")
    (masks / "Thumbs.db").write_bytes(b"x")
    save(masks / "extra.png", pattern([0, 1]))
    lines = []
    assert sum(prepare(images, masks, tmp_path / "out", say=lines.append).values()) == 5
    assert any("1 masks without an image" in line and "extra.png" in line for line in lines)


# Images


def test_a_photograph_turned_by_its_exif_tag_is_written_upright(tmp_path):
    images, masks = flat(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix in (".jpg", ".png"):
        photo(images / f"phone{suffix[1:]}{suffix}", exif=exif)
        save(masks / f"phone{suffix[1:]}.png", pattern([0, 1], SIZE[::-1]))
    prepare(images, masks, tmp_path / "out")
    shapes = [tuple(image.shape[1:]) for image, _ in Cityscapes(tmp_path / "out", "trainval")]
    assert shapes.count(SIZE[::-1]) == 2
    for path in (tmp_path / "out").rglob("*phone*_leftImg8bit.png"):
        assert Image.open(path).size == SIZE and 0x0112 not in Image.open(path).getexif()


def test_a_png_is_copied_byte_for_byte(tmp_path):
    images, masks = flat(tmp_path)
    prepare(images, masks, tmp_path / "out")
    (copy,) = (tmp_path / "out").rglob("own_000000_a0_leftImg8bit.png")
    assert copy.read_bytes() == (images / "a0.png").read_bytes()


# Again, and after an interruption


def state(root: Path) -> dict:
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in root.rglob("*") if p.is_file()}


def test_a_second_call_writes_nothing_and_the_sources_are_never_changed(tmp_path):
    images, masks = flat(tmp_path)
    sources = state(images) | state(masks)
    prepare(images, masks, tmp_path / "out")
    before = state(tmp_path / "out")
    prepare(images, masks, tmp_path / "out")
    assert state(tmp_path / "out") == before
    assert state(images) | state(masks) == sources


@pytest.mark.parametrize("last", ["leftImg8bit", "gtFine_labelIds"])
def test_an_interrupted_conversion_leaves_no_image_without_labels_and_is_completed(
    tmp_path, monkeypatch, last
):
    images, masks = flat(tmp_path)
    prepare(images, masks, tmp_path / "whole")
    write = conversion.atomic_write

    def stop(path, content):
        if path.name == f"own_000000_a3_{last}.png":
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(conversion, "atomic_write", stop)
    with pytest.raises(KeyboardInterrupt):
        prepare(images, masks, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*a3_leftImg8bit.png"))
    monkeypatch.undo()
    prepare(images, masks, tmp_path / "out")

    def content(root):
        return {p.relative_to(root): data for p, (_, data) in state(root).items()}

    assert content(tmp_path / "out") == content(tmp_path / "whole")


@pytest.mark.parametrize("age", [0, 3600])
def test_a_mask_that_was_replaced_is_converted_again_also_by_an_older_file(tmp_path, age):
    images, masks = flat(tmp_path)
    prepare(images, masks, tmp_path / "out")
    save(masks / "a0.png", pattern([1]))
    changed = (masks / "a0.png").stat().st_mtime - age
    os.utime(masks / "a0.png", (changed, changed))
    prepare(images, masks, tmp_path / "out")
    (labels,) = (tmp_path / "out").rglob("own_000000_a0_gtFine_labelIds.png")
    assert np.array_equal(np.array(Image.open(labels)), pattern([1]))


def test_an_image_that_has_left_the_sources_is_named(tmp_path):
    images, masks = flat(tmp_path)
    prepare(images, masks, tmp_path / "out")
    (images / "a0.png").unlink()
    lines = []
    prepare(images, masks, tmp_path / "out", say=lines.append)
    assert any("no longer in the sources" in line and "_a0_" in line for line in lines)


# What is refused, before anything is written


def no_mask(images, masks):
    (masks / "a1.png").unlink()
    return {}, r"1 images without a mask: below .*masks.*\n +.*images.a1.png"


def twin_images(images, masks):
    photo(images / "a1.jpg")
    return {}, r"a1.jpg and .*a1.png are images of one name"


def twin_masks(images, masks):
    save(masks / "a1.tif", pattern([0, 1]))
    return {}, r"2 masks of one name, a1, .*--pairs 'X.jpg=X.png'(?s:.*)a1.png\n.*a1.tif"


def masks_in_two_places(images, masks):
    save(masks / "old" / "a1.png", pattern([0, 1]))
    for path in images.iterdir():
        photo(images / "photos" / path.name)
        path.unlink()
    return {}, r"masks.a1.png and .*old.a1.png could both be of a1"


def mask_of_its_images_name(images, masks):
    photo(images / "b.jpg")
    save(images / "b.png", pattern([0, 1]))
    return {}, r"b_mask.png if it is the mask"


def nothing_labelled(images, masks):
    for path in masks.iterdir():
        save(path, pattern([255]))
    return {}, r"nothing but 255"


def all_in_test(images, masks):
    for path in [*images.iterdir(), *masks.iterdir()]:
        (path.parent / "test").mkdir(exist_ok=True)
        path.rename(path.parent / "test" / path.name)
    return {}, r"at least two images with masks are needed outside of test.* not 0"


def other_size(images, masks):
    save(masks / "a1.png", pattern([0, 1], (4, 4)))
    return {}, r"masks.a1.png is 4x4, but .*images.a1.png is 16x20"


def damaged_mask(images, masks):
    (masks / "a1.png").write_bytes((masks / "a1.png").read_bytes()[:-20])
    return {}, r"masks.a1.png cannot be read"


def damaged_image(images, masks):
    (images / "a1.png").unlink()
    photo(images / "a1.jpg", size=(64, 64))
    save(masks / "a1.png", pattern([0, 1], (64, 64)))
    (images / "a1.jpg").write_bytes((images / "a1.jpg").read_bytes()[:-900])
    return {}, r"images.a1.jpg cannot be read"


def transparent_image(images, masks):
    save(images / "a1.png", np.zeros((*SIZE, 4), np.uint8))
    return {}, r"images.a1.png has transparent pixels"


def jpeg_mask(images, masks):
    (masks / "a1.png").unlink()
    save(masks / "a1.jpg", pattern([0, 1]))
    return {}, r"masks.a1.jpg is a JPEG, which changes values"


def many_values(images, masks):
    save(masks / "a1.png", pattern(range(100)))
    return {}, r"hold 100 different values: list the classes"


def instances(images, masks):
    save(masks / "a1.png", pattern([0, 1]).astype(np.uint16) * 26001)
    return {}, r"masks.a1.png holds values up to 26001: ids are 0..255"


def one_in_colours(images, masks):
    save(masks / "a1.png", pattern([ROAD, SKY]))
    return {"labels": "ids"}, r"masks.a1.png is in colours"


def no_train_ids(images, masks):
    save(masks / "a1.png", pattern([0, 19]))
    return {"labels": "train-ids"}, r"neither train ids nor 255[^\n]*\n +.*a1.png: 19"


def foreign_classes(images, masks):
    path = images.parent / "c.yaml"
    path.write_text("- {name: road, id: 7, color: [1, 2, 3]}")
    return {"classes": path}, r"no pixel of the masks is of a class: they hold 0, 1, the .* ids 7"


def no_list(images, masks):
    return {"val": "nowhere.txt"}, r"nowhere.txt is neither a share"


def list_of_others(images, masks):
    path = images.parent / "val.txt"
    path.write_text("a1\nzebra\n")
    return {"val": str(path)}, r"val.txt names zebra, which is none of the images"


def silly_share(images, masks):
    return {"val": "20"}, r"--val 20: a share is between 0 and 1"


def raw(images, masks):
    for path in images.iterdir():
        path.rename(path.with_suffix(".dng"))
    return {}, r"images holds no image of a format that Pillow reads, but 5 \*.dng"


def mixed_kinds(images, masks):
    (masks / "a1.png").rename(masks / "a1_gtFine_labelTrainIds.png")
    return {}, r"the masks are of several kinds"


def lonely(images, masks):
    for path in [*images.iterdir(), *masks.iterdir()]:
        if path.stem != "a0":
            path.unlink()
    return {}, r"at least two images with masks are needed .* not 1"


@pytest.mark.parametrize(
    "spoil",
    [
        no_mask,
        twin_images,
        twin_masks,
        masks_in_two_places,
        mask_of_its_images_name,
        nothing_labelled,
        all_in_test,
        other_size,
        damaged_mask,
        damaged_image,
        transparent_image,
        jpeg_mask,
        many_values,
        instances,
        one_in_colours,
        no_train_ids,
        foreign_classes,
        no_list,
        list_of_others,
        silly_share,
        raw,
        mixed_kinds,
        lonely,
    ],
)
def test_a_bad_source_is_refused_by_name_before_anything_is_written(tmp_path, spoil):
    images, masks = flat(tmp_path)
    options, message = spoil(images, masks)
    with pytest.raises((OSError, ValueError), match=message):
        prepare(images, masks, tmp_path / "out", **options)
    assert {path.name for path in tmp_path.glob("out/*")} <= {"own-preview.jpg"}


def test_a_destination_with_other_data_is_refused(tmp_path):
    images, masks = flat(tmp_path, values=TRAIN_IDS, draw=street)
    with pytest.raises(ValueError, match="which is only read"):
        prepare(images, masks, masks / "out")
    prepare(images, masks, tmp_path / "out")
    with pytest.raises(
        ValueError, match="was made with --labels train-ids: choose a new directory"
    ):
        prepare(images, masks, tmp_path / "out", labels="ids")
    path = Path(Cityscapes(tmp_path / "out", "train").images[0])
    (tmp_path / "val.txt").write_text(path.name.split("_")[2])
    with pytest.raises(ValueError, match="belongs to val, but was converted before to"):
        prepare(images, masks, tmp_path / "out", val=str(tmp_path / "val.txt"))
    (tmp_path / "c.yaml").write_text("- {name: road, id: 7, color: [1, 2, 3]}")
    with pytest.raises(ValueError, match="c.yaml differs from the classes of"):
        prepare(images, masks, tmp_path / "out", classes=tmp_path / "c.yaml")
    (tmp_path / "out" / "own.json").unlink()
    with pytest.raises(ValueError, match="is of another data set: choose a new directory"):
        prepare(images, masks, tmp_path / "out")


# The command


def test_the_command_runs_as_a_module_and_prints_what_comes_next(tmp_path, monkeypatch, capsys):
    images, masks = flat(tmp_path, values=STREET)
    args = ["own", images, masks, tmp_path / "my data", "--val", "0.4", "--labels", "cityscapes"]
    monkeypatch.setattr(sys, "argv", list(map(str, args)))
    monkeypatch.delitem(sys.modules, "prepare.own")
    runpy.run_module("prepare.own", run_name="__main__")
    output = capsys.readouterr().out
    assert f"python -m prepare.cityscapes '{tmp_path}/my data' --counts any" in output
    assert f"--data_root '{tmp_path}/my data' --run 'runs/my data'" in output
    assert "ids of Cityscapes (as --labels cityscapes says)" in output
    assert json.loads((tmp_path / "my data" / "own.json").read_text())["labels"] == "cityscapes"


def test_the_command_exits_with_the_message_of_an_error(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="error: there is no directory .*nowhere"):
        run(monkeypatch, tmp_path / "nowhere", tmp_path / "masks", tmp_path / "out")


@pytest.mark.parametrize(("width", "option"), [(799, None), (1700, "--downscale 2")])
def test_large_images_are_to_be_trained_on_downscaled(tmp_path, width, option):
    lines = []
    prepare(*flat(tmp_path, 2, size=(2, width)), tmp_path / "out", say=lines.append)
    assert lines[-1].endswith(option or "--run runs/out")

"""Data of other forms, drawn small, becomes a data set that trains: images and labels read back."""

import json
import os
import sys
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from dataset import Cityscapes
from prepare import cityscapes, conversion, meaning, own
from prepare.own import prepare
from prepare.pairs import find_pairs
from prepare.splits import assign_splits
from runtime.files import quoted
from tests.samples import contents, cut, move, patched, png, save, times, turned
from utils import CITYSCAPES

SIZE = (20, 16)  # height and width
# Ids of Cityscapes from the sky to the road, as a street looks, and the same as train ids.
STREET = [23, 23, 11, 21, 17, 26, 4, 8, 7, 7]
TRAIN_IDS = [10, 10, 2, 8, 5, 13, 255, 1, 0, 0]
TO_TRAIN_IDS = CITYSCAPES.train_ids.numpy()
ANIMAL, ROAD, SKY, VOID = (64, 128, 64), (128, 64, 128), (128, 128, 128), (0, 0, 0)


def pattern(values, size=SIZE) -> np.ndarray:
    """(H, W, ...) uint8: the values, one after the other."""
    values = np.array(values, np.uint8)
    return values[np.arange(size[0] * size[1]) % len(values)].reshape(*size, *values.shape[1:])


def street(ids, size=SIZE) -> np.ndarray:
    """(H, W) uint8: bands of ids, one below the other."""
    rows = np.array(ids, np.uint8)[np.arange(size[0]) * len(ids) // size[0]]
    return np.tile(rows[:, None], (1, size[1]))


PALETTE = [i for n in range(256) for i in (n, 255 - n, n // 2)]


def paletted(path: Path, pixels: np.ndarray, palette=PALETTE, **options) -> None:
    image = Image.fromarray(pixels)
    image.putpalette(palette)
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


def convert(images: Path, masks: Path, dst: Path, **options) -> tuple[Cityscapes, str]:
    """All scenes of a data set that passes the check, and what was said of it."""
    lines = []
    prepare(images, masks, dst, say=lines.append, **options)
    assert cityscapes.check(dst, counts=None) == []
    return Cityscapes(dst, "trainval"), "\n".join(lines)


def are_all(scenes: Cityscapes, expected: np.ndarray) -> bool:
    return all(np.array_equal(mask.numpy(), expected) for _, mask in scenes)


def few_greys(path: Path, values: np.ndarray, ascii=False) -> None:
    """Saves a PGM of bytes or of decimal numbers, under any suffix, whose greys end at 33."""
    rows = " ".join(map(str, values.ravel())).encode() if ascii else values.tobytes()
    path.write_bytes(b"P%d %d %d 33\n" % (2 if ascii else 5, *values.shape[::-1]) + rows)


def four_bits(path: Path, values: np.ndarray) -> None:
    """Saves grey of four bits, which Pillow does not write."""
    rows = b"".join(b"\0" + bytes(row[::2] * 16 + row[1::2]) for row in values)
    path.write_bytes(png(*values.shape[::-1], rows, bits=4, color=0))
    assert "L;4" in str(Image.open(path).tile)


ZERO_ONE = pattern([0, 1])
BINARY = "[{{name: other, id: 0, color: [0, 0, 0]}}, {{name: road, id: {}, color: [255, 0, 0]}}]"
NINE_FOUR = "[{name: a, id: 9, color: [1, 1, 1]}, {name: b, id: 4, color: [2, 2, 2]}]"
COMMON = [CITYSCAPES.colors[i] for i in (0, 2, 8, 13)]
ON_BLACK = pattern([1, 0])
HIDDEN = pattern([0, 1, 255])
TRANSPARENT = [(1, 1, 1, 255), (2, 2, 2, 255), (2, 2, 2, 0)]


def means(ids, expected, pixels=None, write=save, ending="", number=3, **options) -> tuple:
    """Ids of the classes, None for Cityscapes', then train ids, and the masks if these differ."""
    return ids, expected, expected if pixels is None else pixels, write, ending, number, options


READ = {
    "KITTI": means(None, TO_TRAIN_IDS[street(STREET)], street(STREET)),
    "GTA5": means(None, TO_TRAIN_IDS[street([*STREET, 34])], street([*STREET, 34]), paletted),
    "BDD": means(None, street(TRAIN_IDS)),
    "BDD's names": means(None, ZERO_ONE, ending="_train_id"),
    "few train ids": means(None, pattern([0, 1, 2, 4]), number=12, labels="train-ids"),
    "said otherwise": means(
        (0, 1, 2, 5, 8, 10, 13),
        street([5, 5, 2, 4, 3, 6, 255, 1, 0, 0]),
        street(TRAIN_IDS),
        labels="ids",
    ),
    "given train ids": means((9, 4), HIDDEN, labels="train-ids", classes=NINE_FOUR),
    "named train ids": means((9, 4), HIDDEN, ending="_labelTrainIds", classes=NINE_FOUR),
    "Cityscapes' colours": means(None, pattern([0, 2, 8, 13, 255]), pattern([*COMMON, VOID])),
    "red on black": means((0, 1), ON_BLACK, pattern([(255, 0, 0), VOID])),
    "the road's colour on black": means((0, 1), ON_BLACK, pattern([ROAD, VOID])),
    "transparent colours": means((0, 1), HIDDEN, pattern([(*ROAD, 255), (*SKY, 255), (*SKY, 0)])),
    "transparent ids": means((1, 2), HIDDEN, pattern(TRANSPARENT)),
    "transparent indices": means(
        (1, 2), HIDDEN, pattern([1, 2, 0]), partial(paletted, transparency=b"\0\x01")
    ),
    "0 and 255": means((0, 255), ZERO_ONE, pattern([0, 255])),
    "listed 0 and 255": means((0, 255), ZERO_ONE, pattern([0, 255]), classes=BINARY.format(255)),
    "listed": means((0, 1), ZERO_ONE, classes=BINARY.format(1)),
    "1 bit": means((0, 1), ZERO_ONE, ZERO_ONE.astype(bool)),
    "a PGM": means((7, 33), ZERO_ONE, pattern([7, 33]), few_greys),
    "an ASCII PGM": means((7, 33), ZERO_ONE, pattern([7, 33]), partial(few_greys, ascii=True)),
    "4 bits": means((0, 1), ZERO_ONE, write=four_bits),
    "16 bits": means((0, 1), ZERO_ONE, ZERO_ONE.astype(np.uint16)),
    "grey as RGB": means((0, 1), ZERO_ONE, np.stack([ZERO_ONE] * 3, -1)),
    "palette": means((0, 1), ZERO_ONE, write=partial(paletted, bits=1)),
}


@pytest.mark.parametrize("case", READ)
def test_masks_become_the_labels_that_they_mean(tmp_path, case):
    ids, expected, pixels, write, ending, number, options = READ[case]
    for i in range(number):  # from ten on the check would notice train ids
        photo(tmp_path / "images" / f"a{i}.png")
        path = tmp_path / "masks" / f"a{i}{ending}.png"
        path.parent.mkdir(exist_ok=True)
        write(path, pixels)
    if "classes" in options:
        (tmp_path / "c.yaml").write_text(options["classes"])
        options = options | {"classes": tmp_path / "c.yaml"}
    scenes, _ = convert(tmp_path / "images", tmp_path / "masks", tmp_path / "out", **options)
    assert (scenes.classes == CITYSCAPES) if ids is None else (scenes.classes.ids == ids)
    assert are_all(scenes, expected)


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
            save(folder / f"{frame}_gtFine{kinds[0]}.png", pattern(values))
            for other in [*kinds[1:], "_instanceids"]:
                save(folder / f"{frame}_gtFine{other}.png", pattern([0]))
    dst = tmp_path / "out"
    scenes, said = convert(tmp_path / "leftImg8bit", tmp_path / "gtFine", dst)
    assert len(scenes) == 6 and "left out" not in said
    assert (dst / "leftImg8bit/val/1/1_000000_024541_leftImg8bit.png").is_file()
    found = scenes.classes.label_ids.tolist()
    assert found == (sorted({*values} - {255}) if classes else [*CITYSCAPES.ids])
    if classes is None:
        assert are_all(scenes, TO_TRAIN_IDS[pattern(values)])


def camvid_tree(root: Path, listed: bool = True) -> tuple[Path, Path]:
    """The form of CamVid as published, with its list of colours beside it."""
    for i in range(4):
        photo(root / "images" / f"0001TP_00{i}.png")
        save(root / "labels" / f"0001TP_00{i}_L.png", pattern([ANIMAL, ROAD, SKY, VOID]))
    if listed:
        text = "64 128 64\tAnimal\n128 64 128\tRoad\n128 128 128\tSky\n0 0 0\t\tVoid\n"
        (root / "label_colors.txt").write_text(text)
    return root / "images", root / "labels"


def test_camvids_colours_become_the_classes_of_a_list(tmp_path):
    images, labels = camvid_tree(tmp_path)
    scenes, _ = convert(images, labels, tmp_path / "as it is")  # without Void
    assert scenes.classes.names == ("Animal", "Road", "Sky")
    assert are_all(scenes, pattern([0, 1, 2, 255]))
    own_list = tmp_path / "my.yaml"
    rows = [("sky", 5, SKY), ("street", 2, ROAD), ("animal", 9, ANIMAL)]
    own_list.write_text(
        "\n".join(f"- {{name: {name}, id: {i}, color: {[*color]}}}" for name, i, color in rows)
    )
    scenes, _ = convert(images, labels, tmp_path / "own", labels="colors", classes=own_list)
    assert scenes.classes.names == ("sky", "street", "animal")
    assert are_all(scenes, pattern([2, 1, 0, 255]))  # black is ignored


# Where values might mean several things

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
def test_values_that_only_fit_are_refused_with_a_picture(tmp_path, values, draw, candidate):
    images, masks = flat(tmp_path, values=values, draw=draw, size=(60, 80))
    with pytest.raises(ValueError, match=f"(?s)--labels {candidate}:.*--labels ids:.*preview"):
        prepare(images, masks, tmp_path / "out")
    assert [path.name for path in tmp_path.glob("out/*")] == ["own-preview.jpg"]
    with Image.open(tmp_path / "out/own-preview.jpg") as preview:
        assert preview.width > 3 * 80 and preview.height > 3 * 60
    scenes, _ = convert(images, masks, tmp_path / "out", labels="ids")
    assert scenes.classes.ids == tuple(sorted({*values} - {255}))


def test_a_list_that_lies_in_the_data_set_is_its_own_word(tmp_path):
    images, masks = flat(tmp_path, values=RAILS, draw=street)
    names = ["road", "sidewalk", "construction", "tram-track", *"abcdef", "sky", "human", "rails"]
    names += ["car", "truck", "trackbed", "on-rails", "rail-raised", "rail-embedded"]
    labels = [{"name": name, "color": [i, 2 * i, 3]} for i, name in enumerate(names)]
    own_list = tmp_path / "rs19-config.json"
    own_list.write_text(json.dumps({"labels": labels}))
    scenes, said = convert(images, masks, tmp_path / "out")
    assert "rs19-config.json" in said and scenes.classes.names == tuple(names)
    scenes, _ = convert(images, masks, tmp_path / "said", labels="train-ids")
    assert scenes.classes == CITYSCAPES  # the user's word counts more
    with pytest.raises(ValueError, match="leave --classes out"):
        prepare(images, masks, tmp_path / "x", labels="cityscapes", classes=own_list)


@pytest.mark.parametrize("data", ["streets", pytest.param("camvid", marks=pytest.mark.slow)])
def test_streets_as_they_are_drawn_and_photographed_look_like_streets(data, request):
    paths = sorted(request.getfixturevalue(data).glob("gtFine/*/*/*_labelIds.png"))
    masks = [np.array(Image.open(path)) for path in paths[:: len(paths) // 12]]
    ids = {i: i for i in range(34)}
    assert meaning.look_like_streets(masks, ids)
    assert not meaning.look_like_streets([each[::-1] for each in masks], ids)
    assert not meaning.look_like_streets([each.T for each in masks], ids)


@pytest.mark.parametrize(("value", "listed"), [(255, 1), (128, 1), (2, 7)])
def test_a_class_without_a_pixel_beside_an_unknown_value_is_asked_about(tmp_path, value, listed):
    images, masks = flat(tmp_path, values=(0, value))
    classes, dst, lines = tmp_path / "c.yaml", tmp_path / "out", []
    classes.write_text(BINARY.format(listed))
    with pytest.raises(ValueError, match=f"class road.*did you mean {value}"):
        prepare(images, masks, dst, classes=classes)
    prepare(images, masks, dst, classes=classes, labels="ids")
    (dst / "own.json").unlink()
    assert cityscapes.check(dst, counts=None, say=lines.append) == []
    assert any("road" in line and f"did you mean {value}" in line for line in lines)


def blend(path: Path, colors, smooth: float) -> np.ndarray:
    """Saves areas of some colours with smoothed edges; returns which colour is where."""
    rng = np.random.default_rng(len(path.name) + sum(path.name.encode()))
    areas = np.kron(rng.integers(0, len(colors), (4, 5)), np.ones((32, 32), int))
    image = Image.fromarray(np.array(colors, np.uint8)[areas])
    save(path, np.array(image.filter(ImageFilter.GaussianBlur(smooth))))
    return areas


@pytest.mark.parametrize(
    ("colors", "suffix", "smooth", "listed"),
    [
        ([ROAD, SKY, ANIMAL, (200, 30, 30)], ".png", 0.7, True),
        ([ROAD, SKY, ANIMAL, (200, 30, 30)], ".png", 0.7, False),
        ([VOID, (255, 255, 255)], ".png", 1, True),  # grey
        ([VOID, (255, 255, 255)], ".png", 1, False),
        ([ROAD, SKY, (255, 255, 0)], ".jpg", 0, True),
        ([ROAD, SKY, (255, 255, 0)], ".webp", 0.7, False),
    ],
)
def test_the_nearest_colour_cures_smoothed_edges(tmp_path, colors, suffix, smooth, listed):
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
        scenes, _ = convert(images, masks, tmp_path / "out", nearest=True, **options)
    assert len(scenes.classes) == len(colors)
    of_color = {color: i for i, color in enumerate(scenes.classes.colors)}
    assert {*of_color} == {*colors} or suffix != ".png"
    if suffix == ".png":
        for path, (_, mask) in zip(scenes.images, scenes, strict=True):
            expected = np.array([of_color[c] for c in colors])[areas[path.split("_")[-2]]]
            assert (mask.numpy() == expected).mean() > 0.9


@pytest.mark.parametrize("colored", [True, False])
def test_lines_of_one_pixel_are_classes_and_no_blends(tmp_path, colored):
    lanes = np.zeros((60, 80), np.uint8)
    lanes[30:] = 1
    lanes[30:, 10::10] = np.arange(2, 9)
    colors = np.array([VOID, ROAD, *((250, 30 * i, 9 * i) for i in range(1, 8))], np.uint8)
    drawn = colors[lanes] if colored else lanes
    scenes, _ = convert(*flat(tmp_path, size=(60, 80), draw=lambda *_: drawn), tmp_path / "out")
    assert len(scenes.classes) == 9


# Proposals, and classes that come later


def test_a_proposal_has_each_values_share_and_palette_colour_and_leaves_255_out(tmp_path):
    images, masks = flat(tmp_path)
    for path in masks.iterdir():
        paletted(path, pattern([0, 0, 0, 3, 3, 255, 255, 255]))
    scenes, said = convert(images, masks, tmp_path / "out")
    text = (tmp_path / "out" / "classes.yaml").read_text()
    assert '- {name: "class 0", id: 0, ' in text and "# 37.50% of the pixels" in text
    assert "\n# - {name: class 255, id: 255" in text
    assert scenes.classes.ids == (0, 3)
    assert scenes.classes.colors == ((0, 255, 0), (3, 252, 1))
    assert "the classes are a proposal" in said
    rows = [line.split() for line in said.splitlines()]
    assert ["class", "3", "25.00%", "25.00%"] in rows and ["(ignored)", "37.50%", "37.50%"] in rows


def test_a_proposal_for_colours_may_be_edited_and_the_conversion_goes_on(tmp_path):
    images, labels = camvid_tree(tmp_path, listed=False)
    dst = tmp_path / "out"
    prepare(images, labels, dst)
    lines = (dst / "classes.yaml").read_text().splitlines()
    sky = next(line for line in lines if str(list(SKY)) in line)
    (dst / "classes.yaml").write_text(sky.replace("color 128 128 128", "sky"))
    photo(images / "0001TP_009.png")
    save(labels / "0001TP_009_L.png", pattern([ANIMAL, ROAD, SKY, VOID]))
    scenes, _ = convert(images, labels, dst, labels="colors")
    assert scenes.classes.names == ("sky",) and len(scenes) == 5
    assert are_all(scenes, pattern([255, 255, 0, 255]))


@pytest.mark.parametrize("listed", [True, False])
def test_an_unknown_colour_is_refused_with_its_file_and_can_be_added(tmp_path, listed):
    images, labels = camvid_tree(tmp_path, listed)
    dst = tmp_path / "out"
    if not listed:  # the classes that were proposed
        prepare(images, labels, dst)
    before = times(dst)
    save(labels / "0001TP_002_L.png", pattern([ROAD, (1, 2, 3)]))
    path = dst / "classes.yaml" if not listed else tmp_path / "label_colors.txt"
    where = "classes.yaml" if not listed else "--classes"
    with pytest.raises(ValueError, match=rf"all classes in .*{where}\n.*002_L.png: \(1, 2, 3\)"):
        prepare(images, labels, dst)
    assert {*times(dst)} - {*before} <= {dst / "own-preview.jpg", dst}
    with path.open("a") as file:
        file.write("1 2 3 new" if listed else "- {name: new, id: 9, color: [1, 2, 3]}\n")
    assert "new" in convert(images, labels, dst)[0].classes.names


@pytest.mark.parametrize("first", [[VOID, ROAD], None])  # or grey
def test_palettes_that_differ_behind_the_first_are_refused_also_later(tmp_path, first):
    images, masks = flat(tmp_path)
    if first:
        paletted(masks / "a0.png", ZERO_ONE, sum(first, ()))
    for name in ("a1", "a2"):
        paletted(masks / f"{name}.png", pattern([0, 1, 2]), (*VOID, *ROAD, *SKY))
    prepare(images, masks, tmp_path / "out")
    paletted(masks / "a3.png", pattern([0, 1, 2]), (*VOID, *ROAD, *ANIMAL))
    for dst in ("out", "new"):
        with pytest.raises(ValueError, match=r"a3.png has other colours for its indices"):
            prepare(images, masks, tmp_path / dst)


def test_palettes_that_differ_are_refused_until_labels_says_what_counts(tmp_path):
    images, masks = flat(tmp_path)
    for i, path in enumerate(sorted(masks.iterdir())):  # the same colours everywhere
        palette = [*(ROAD, SKY)[i % 2], *(SKY, ROAD)[i % 2], *(i, i, i)]
        paletted(path, pattern([i % 2, 1 - i % 2]), palette)
    with pytest.raises(ValueError, match=r"a1.png has other colours for its indices"):
        prepare(images, masks, tmp_path / "out")
    scenes, _ = convert(images, masks, tmp_path / "colors", labels="colors")
    assert are_all(scenes, scenes[0][1].numpy())
    scenes, _ = convert(images, masks, tmp_path / "ids", labels="ids")
    assert scenes.classes.ids == (0, 1) and not are_all(scenes, scenes[0][1].numpy())


# Names, pairs and splits


def test_any_names_of_images_become_names_of_the_format_that_stay(tmp_path):
    found, names = {}, ["Straße 1.jpg", "b.c/x_y.png", "b-c/x_y.png", "b-c/x-y.png"]
    for name in [*names, "ulm_000001_000002.png", "a new one.png"]:
        photo(tmp_path / "images" / name)
        save((tmp_path / "masks" / name).with_suffix(".png"), ZERO_ONE)
        pairs, _ = find_pairs(tmp_path / "images", tmp_path / "masks")
        targets = {pair.image: conversion.target_name(pair.folders, pair.stem) for pair in pairs}
        assert found.items() <= targets.items()
        found = targets
    assert len({*found.values()}) == 6
    assert all(len(name.split("/")[1].split("_")) == 3 for name in found.values())
    assert {"ulm/ulm_000001_000002", "b-c/b-c_000000_x-y"} <= {*found.values()}


def test_an_image_keeps_its_split_when_others_are_added_and_no_split_is_empty(tmp_path):
    pairs, _ = find_pairs(*flat(tmp_path, 40))
    few = dict(zip(pairs[::2], assign_splits(pairs[::2])[0], strict=True))
    splits, how = assign_splits(pairs)
    assert few.items() <= dict(zip(pairs, splits, strict=True)).items()
    assert 2 <= splits.count("val") <= 16
    assert how.startswith(f"{splits.count('val')} of 40 ")
    assert assign_splits(pairs, "0.5")[0].count("val") > splits.count("val")
    two, tests = pairs[:2], [pair._replace(split="test") for pair in pairs[2:9]]
    for share in ("0.001", "0.999"):
        assert sorted(assign_splits(two, share)[0]) == ["train", "val"]
        assert sorted(assign_splits([*tests, *two], share)[0]) == ["test"] * 7 + ["train", "val"]


@pytest.mark.parametrize(
    ("images", "masks", "pairs"),
    [
        (".", ".", {"x0.jpg": "x0_mask.png", "x1.jpg": "x1_mask.png"}),
        (".", "masks", {"x.jpg": "masks/x.png", "y.jpg": "masks/y.png"}),
        ("i", "m", {"i/left.png": "m/left.png", "i/left_L.png": "m/left_L.png"}),
        ("i", "m", {"i/x0.jpg": "m/x0.jpg.png", "i/x1.jpg": "m/x1.jpg.png"}),
        ("i", "m", {"i/0/x.jpg": "m/0/x.png", "i/1/x.jpg": "m/1/x_mask.png"}),
        ("i", "m", {"i/0/x.jpg": "m/a/x.png", "i/1/y.jpg": "m/b/y.png"}),
    ],
    ids=["beside", "below", "names like masks", "whole names", "twice", "other directories"],
)
def test_masks_are_found_wherever_they_lie(tmp_path, images, masks, pairs):
    for image, mask in pairs.items():
        photo(tmp_path / image)
        save(tmp_path / mask, ZERO_ONE)
    found, _ = find_pairs(tmp_path / images, tmp_path / masks)
    expected = {tmp_path / image: tmp_path / mask for image, mask in pairs.items()}
    assert {pair.image: pair.mask for pair in found} == expected


def test_what_is_left_out_is_named_and_what_systems_leave_is_passed_over(tmp_path):
    images, masks = flat(tmp_path)
    photo(images / "@eaDir" / "a0.png")
    photo(images / "test" / "x.jpg")  # as BDD100K is published
    for path in (images / "._a0.png", masks / "Thumbs.db", images / "x.DNG"):
        path.write_bytes(b"x")
    save(masks / "extra.png", ZERO_ONE)
    scenes, said = convert(images, masks, tmp_path / "out")
    assert len(scenes) == 5 and "also holds 1 *.DNG, left out" in said
    assert "images of test without a mask, which are left out: 1" in said
    assert f"1 masks without an image, which are left out\n    {masks / 'extra.png'}\n" in said


def test_images_of_any_size_are_copied_or_written_upright(tmp_path):
    images, masks = flat(tmp_path)
    for suffix in (".jpg", ".png"):
        photo(images / f"phone{suffix[1:]}{suffix}", exif=turned())
        save(masks / f"phone{suffix[1:]}.png", pattern([0, 1], SIZE[::-1]))
    scenes, _ = convert(images, masks, tmp_path / "out")
    assert [tuple(image.shape[1:]) for image, _ in scenes].count(SIZE[::-1]) == 2
    for path in images.glob("phone*"):
        (copy,) = (tmp_path / "out").rglob(f"*_{path.stem}_leftImg8bit.png")
        assert np.array_equal(Image.open(copy), ImageOps.exif_transpose(Image.open(path)))
        assert 0x0112 not in Image.open(copy).getexif()
    (copy,) = (tmp_path / "out").rglob("own_000000_a0_leftImg8bit.png")
    assert copy.read_bytes() == (images / "a0.png").read_bytes()


@pytest.mark.slow
def test_photographs_whose_data_are_damaged_are_counted_and_named(tmp_path):
    images, masks = flat(tmp_path, size=(128, 160))
    for i in range(12):
        photo(images / f"b{i}.jpg", (128, 160))
        save(masks / f"b{i}.png", pattern([0, 1], (128, 160)))
    assert "damaged" not in convert(images, masks, tmp_path / "whole")[1]
    for path in sorted(images.glob("*.jpg"))[1:]:
        sector = path.stat().st_size // 3, bytes(512)  # of a card
        path.write_bytes(patched(path.read_bytes(), sector))
    for _ in range(2):
        scenes, said = convert(images, masks, tmp_path / "out")
        assert "warning: 11 images are damaged\n" in said and len(scenes) == 17
        assert said.count(".jpg is damaged") == 10 and "b0.jpg is damaged" not in said


# Again, and after an interruption


def test_a_second_call_writes_nothing_also_on_a_disk_that_keeps_seconds(tmp_path):
    images, masks = flat(tmp_path)
    sources = times(images) | times(masks)
    prepare(images, masks, tmp_path / "out")
    for unit in (1, 2 * 10**9):  # ns, the latter of FAT
        for path in (tmp_path / "out").rglob("*.png"):
            time = path.stat().st_mtime_ns // unit * unit
            os.utime(path, ns=(time, time))
        before = times(tmp_path / "out")
        prepare(images, masks, tmp_path / "out")
        assert times(tmp_path / "out") == before
    assert times(images) | times(masks) == sources


@pytest.mark.parametrize("last", ["leftImg8bit", "gtFine_labelIds"])
def test_an_interrupted_conversion_leaves_no_image_alone_and_goes_on(tmp_path, monkeypatch, last):
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
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("age", [0, 3600])
def test_a_mask_that_was_replaced_is_converted_again_also_by_an_older_file(tmp_path, age):
    images, masks = flat(tmp_path)
    prepare(images, masks, tmp_path / "out")
    save(masks / "a0.png", pattern([1, 7]))
    changed = (masks / "a0.png").stat().st_mtime - age
    os.utime(masks / "a0.png", (changed, changed))
    (images / "a1.png").unlink()
    said = convert(images, masks, tmp_path / "out")[1]
    (labels,) = (tmp_path / "out").rglob("own_000000_a0_gtFine_labelIds.png")
    assert np.array_equal(np.array(Image.open(labels)), pattern([1, 7]))
    assert "\nignored: 7\n" in said  # which no class has
    assert "1 images in" in said and "have no source now: own/own_000000_a1\n" in said


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="names are Unicode there")
def test_names_that_are_not_utf8_are_converted(tmp_path):
    images, masks = flat(tmp_path)
    for folder in (images, masks):
        (folder / "a0.png").rename(folder / os.fsdecode(b"stra\xdfe.png"))
    assert len(convert(images, masks, tmp_path / "out")[0]) == 5


def test_an_image_that_moved_to_another_split_is_refused(tmp_path):
    sources = {split: flat(tmp_path / "tree" / split) for split in ("train", "val")}
    for images, masks in sources.values():  # a0, a1, ... in both, which are other pictures
        prepare(images, masks, tmp_path / "out")
    for kind in ("images", "masks"):
        train, val = (tmp_path / "tree" / split / kind / "a0.png" for split in ("train", "val"))
        train.replace(val)
    with pytest.raises(ValueError, match="1 images were converted before to .*train"):
        prepare(*sources["val"], tmp_path / "out")


# What is refused, before anything is written


def in_two_places(images, masks):
    save(masks / "old" / "a1.png", ZERO_ONE)
    move(images.iterdir(), lambda path: images / "photos" / path.name)


def mask(pixels: np.ndarray, name: str = "a1.png"):
    return lambda images, masks: [(masks / A).unlink(), save(masks / name, pixels)]


def write(name: str, text: str):
    return lambda images, masks: (images.parent / name).write_text(text)


def case(message: str, spoil=lambda images, masks: None, **options) -> tuple:
    return spoil, options, message


A = "a1.png"
TWINS = NINE_FOUR.replace("[2, 2, 2]", "[1, 1, 1]")
GREY_ROAD = "- {name: road, id: 7, color: [1, 2, 3]}"
CLEAR = np.zeros((*SIZE, 4), np.uint8)
TRAIN_ID_NAME = "a1_gtFine_labelTrainIds.png"
PAGES = {"format": "TIFF", "save_all": True, "append_images": [Image.fromarray(1 - ZERO_ONE)]}

REFUSED = [
    case(
        r"1 images without.*masks,.* called a1,.*\n +.*s.a1.png",
        lambda i, m: (m / A).rename(m / "b.png"),
    ),
    case(r"masks.a1.png holds 2 images: save the one", lambda i, m: save(m / A, ZERO_ONE, **PAGES)),
    case(r"a1.jpg and .*a1.png are .* to a1_mask.png", lambda i, m: photo(i / "a1.jpg")),
    case(r"'X.jpg=X.png'(?s:.*)a1.png\n.*a1.tif", lambda i, m: save(m / "a1.tif", ZERO_ONE)),
    case(r"same subdirectory, as \S+masks.a1.png and \S+old.a1.png have one", in_two_places),
    case(r"nothing but 255", lambda i, m: flat(m.parent, values=[255])),
    case(r"nothing but transparent", lambda i, m: flat(m.parent, values=[(9, 9, 9, 0)])),
    case(
        r"at least two images .* outside of test.* not 0",
        lambda i, m: move(i.parent.glob("*/*"), lambda path: path.parent / "test" / path.name),
    ),
    case(
        r"at least two images with masks are needed .* not 1",
        lambda i, m: [path.unlink() for path in i.parent.glob("*/a[1-9].png")],
    ),
    case(r"masks.a1.png is 4x4, but .*images.a1.png is 16x20", mask(pattern([0, 1], (4, 4)))),
    case(r"masks.a1.png cannot be read", lambda i, m: cut(m / A, -20)),
    case(r"images.a1.png cannot be read", lambda i, m: cut(i / A, -20)),
    case(r"images.a1.png has transparent", lambda i, m: save(i / A, CLEAR)),
    case(r"masks.a1.jpg was saved as JPEG, which changes values", mask(ZERO_ONE, "a1.jpg")),
    case(r"hold 100 different values: list the classes", mask(pattern(range(100)))),
    case(
        r"a1.png holds [\d,]+ colours: correct the path",
        lambda i, m: [photo(folder / A, size=(120, 120)) for folder in (i, m)],
    ),
    case(r"a1.png holds values up to 26001: ids", mask(ZERO_ONE.astype(np.uint16) * 26001)),
    case(r"masks.a1.png is in colours", mask(pattern([ROAD, SKY])), labels="ids"),
    case(r"no train ids[^\n]*\n +.*a1.png: 19", mask(pattern([0, 19])), labels="train-ids"),
    case(r"they hold 0, 1, .* ids 7", write("c.yaml", GREY_ROAD), classes=Path("c.yaml")),
    case(r"have the same color", write("c.yaml", TWINS), classes=Path("c.yaml"), labels="colors"),
    case(r"--nearest-color reads", labels="ids", nearest=True),
    case(r"nowhere is neither a probability", val="nowhere"),
    case(r"--val 20: a probability is between 0 and 1", val="20"),
    case(r"names zebra, which is none of the", write("val.txt", "a1\nzebra\n"), val="val.txt"),
    case(
        r"images holds no image of a format that Pillow reads, but 5 \*.dng",
        lambda i, m: move(i.iterdir(), lambda path: path.with_suffix(".dng")),
    ),
    case(r"the masks are of several kinds", lambda i, m: (m / A).rename(m / TRAIN_ID_NAME)),
]


@pytest.mark.parametrize(("spoil", "options", "message"), REFUSED)
def test_a_bad_source_is_refused_and_not_converted(tmp_path, monkeypatch, spoil, options, message):
    monkeypatch.chdir(tmp_path)
    images, masks = flat(tmp_path)
    spoil(images, masks)
    with pytest.raises((OSError, ValueError), match=message):
        prepare(images, masks, tmp_path / "out", **options)
    assert {path.name for path in tmp_path.glob("out/*")} <= {"own-preview.jpg"}


def test_a_destination_with_other_data_is_refused(tmp_path):
    images, masks = flat(tmp_path, values=TRAIN_IDS, draw=street)
    dst, val, classes = tmp_path / "out", tmp_path / "val.txt", tmp_path / "c.yaml"
    scenes, _ = convert(images, masks, dst)
    val.write_text(Path(Cityscapes(dst, "train").images[0]).name.split("_")[2])
    classes.write_text(GREY_ROAD)
    for target, options, message in (
        (masks / "out", {}, "which is only read"),
        (dst, {"labels": "ids"}, "was made with --labels train-ids: choose a new directory"),
        (dst, {"nearest": True}, "was made with --labels train-ids: choose a new directory"),
        (dst, {"val": str(val)}, "converted before to .* belong to another split"),
        (dst, {"classes": classes}, "c.yaml differs from the classes of"),
    ):
        with pytest.raises(ValueError, match=message):
            prepare(images, masks, target, **options)
    (dst / "own.json").unlink()
    with pytest.raises(ValueError, match="is of another data set: choose a new directory"):
        prepare(images, masks, dst)


def test_paths_in_printed_commands_are_quoted_as_the_systems_shell_takes_them():
    paths = PureWindowsPath(r"C:\my data\new"), PureWindowsPath(r"data\new"), PurePosixPath("a b")
    assert [*map(quoted, paths)] == ['"C:/my data/new"', "data/new", "'a b'"]


def test_the_command_runs_as_a_module_and_prints_what_comes_next(tmp_path, command, capsys):
    images, masks = flat(tmp_path, values=STREET, size=(20, 1700))
    args = [masks, tmp_path / "my data", "--val", "0.4", "--labels", "cityscapes"]
    command("prepare.own", images, *args)
    output = capsys.readouterr().out
    root = tmp_path / "my data"
    assert f"python -m prepare.cityscapes '{root}' --counts any" in output
    assert f"--data_root '{root}' --run 'runs/my data' --downscale 2\n" in output
    assert json.loads((tmp_path / "my data" / "own.json").read_text())["labels"] == "cityscapes"
    with pytest.raises(SystemExit, match="error: there is no directory .*nowhere"):
        command(own.main, tmp_path / "nowhere", *args)

"""Trees, lists and masks as data sets and tools leave them, drawn after their documentation."""

import base64
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset import Cityscapes
from prepare.class_lists import read_class_list
from prepare.own import prepare
from prepare.pairs import find_pairs
from prepare.splits import assign_splits
from tests.samples import contents, move
from tests.test_prepare_own import ZERO_ONE, are_all, convert, flat, paletted, pattern, photo, save

TREES = {  # paths of images and masks below their directories, and the rule of --pairs
    "ACDC": (
        "{split}/GOPR0475/GOPR0475_frame_{i:06d}_rgb_anon.png",
        "{split}/GOPR0475/GOPR0475_frame_{i:06d}_gt_labelIds.png",
        "X_rgb_anon.png=X_gt_labelIds.png",
    ),
    "A2D2": (
        "2018{i}/camera/cam_front_center/2018{i}_camera_frontcenter_{i:06d}.png",
        "2018{i}/label/cam_front_center/2018{i}_label_frontcenter_{i:06d}.png",
        "X/camera/*/*_camera_*.png=X/label/*/*_label_*.png",
    ),
    "SHIFT": (
        "{split}/front/img/0{i}-ab/{i:06d}_img_front.jpg",
        "{split}/front/semseg/0{i}-ab/{i:06d}_semseg_front.png",
        "img/X_img_front.jpg=semseg/X_semseg_front.png",
    ),
    "IDD Lite": ("{split}/{i}/02_image.jpg", "{split}/{i}/02_label.png", "X_image.jpg=X_label.png"),
    "KITTI-360": (
        "drive_{i}/image_00/data_rect/{i:010d}.png",
        "train/drive_{i}/image_00/semantic/{i:010d}.png",
        "X/data_rect/*.png=train/X/semantic/*.png",
    ),
    "numbered": ("a/image_{i}.png", "a/gt_{i}.png", "image_X.png=gt_X.png"),
    "Mapillary": (
        "{split}/images/{i}.jpg",
        "{split}/v1.2/labels/{i}.png",
        "images/X=v1.2/labels/X",
    ),
}


@pytest.mark.parametrize("together", [False, True], ids=["two directories", "one"])
@pytest.mark.parametrize("tree", TREES)
def test_pairs_tells_any_names(tmp_path, tree, together):
    image, mask, rule = TREES[tree]
    images, masks = tmp_path / "images", tmp_path / ("images" if together else "masks")
    drawn = {}
    for i in range(6):
        names = {"split": "val" if i % 3 == 0 else "train", "i": i}
        path = masks / mask.format(**names)
        drawn[images / image.format(**names)] = path
        save(path, pattern([0, 1]))
        save(path.with_name(f"other_{path.name}"), pattern([0]))  # as of instances
    for path in drawn:
        photo(path)
    pairs, _ = find_pairs(images, masks, None, f"'{rule}'")  # as cmd.exe passes it on
    assert {pair.image: pair.mask for pair in pairs} == drawn
    counts = prepare(images, masks, tmp_path / "out", labels="ids", pattern=rule)
    assert sum(counts.values()) == 6
    assert counts == {"train": 4, "val": 2} or "{split}" not in image


@pytest.mark.parametrize(
    "rule", ["X.png", "X.png=Y.png", "a=b", "X_*.png=X.png", "X_rgb.png=X_gt.png", "X=X=X"]
)
def test_a_rule_that_fits_nothing_is_refused(tmp_path, rule):
    with pytest.raises(ValueError, match="--pairs"):
        prepare(*flat(tmp_path), tmp_path / "out", pattern=rule)


@pytest.mark.parametrize(
    ("endings", "chosen"),
    [
        (["_gtFine_labelIds", "_gtFine_labelTrainIds", "_gtFine_color"], "_gtFine_labelIds"),
        (["_gt_labelIds", "_gt_labelColor"], "_gt_labelIds"),
        (["", "_color"], ""),  # ids and a picture of them
        (["_mask", "_color"], "_mask"),
        (["", "_mask"], None),
        (["_mask", "_L"], None),
        (["_mask", "_train_id"], None),
        (["_scribble", "_result"], None),
    ],
)
def test_of_several_masks_the_known_one_is_taken_and_else_none(tmp_path, endings, chosen):
    images, masks = flat(tmp_path)
    for path in [*masks.iterdir()]:
        for i, ending in enumerate(endings):
            values = [i, i + 1, 9] if "olor" not in ending else [(9, 9, 9), (90, 0, 0)]
            save(masks / f"{path.stem}{ending}.png", pattern(values))
        if "" not in endings:
            path.unlink()
    if chosen is None:
        with pytest.raises(ValueError, match="--pairs 'X"):
            prepare(images, masks, tmp_path / "out")
        prepare(images, masks, tmp_path / "out", labels="ids", pattern=f"X.png=X{endings[1]}.png")
        assert Cityscapes(tmp_path / "out", "val").classes.ids == (1, 2, 9)
    else:
        found, _ = find_pairs(images, masks)
        assert {pair.mask.stem for pair in found} == {f"a{i}{chosen}" for i in range(5)}


# Splits


@pytest.mark.parametrize("both", [("train", "val"), ("training", "validation"), ("Train", "Valid")])
def test_official_splits_are_kept_over_two_calls(tmp_path, both):
    *trees, test = [flat(tmp_path / "tree" / name, 3) for name in (*both, "test")]
    with pytest.raises(ValueError, match="convert those of test last"):
        prepare(*test, tmp_path / "out")
    for images, masks in (*trees, test):  # of the same names
        prepare(images, masks, tmp_path / "out")
    for split in ("train", "val", "test"):
        assert len(Cityscapes(tmp_path / "out", split)) == 3
    images, masks = flat(tmp_path / "test")  # which stands alone, and is no split
    assert set(prepare(images, masks, tmp_path / "other")) == {"train", "val"}


@pytest.mark.parametrize("line", ["a{}", "images/a{}.png masks/a{}.png"])
@pytest.mark.parametrize("folder", ["ImageSets/Segmentation", "images"])
def test_lists_are_official_splits_and_what_they_leave_out_is_counted(tmp_path, line, folder):
    images, masks = flat(tmp_path, 10)
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for split, numbers in (("train", range(5)), ("val", range(5, 8))):
        text = "\n".join(line.replace("{}", str(i)) for i in numbers)
        (tmp_path / folder / f"{split}.txt").write_text(text)
    _, said = convert(images, masks, tmp_path / "out")
    assert "those of the data set; 2 images in none of them go to train" in said
    assert [len(Cityscapes(tmp_path / "out", split)) for split in ("train", "val")] == [7, 3]
    (tmp_path / folder / "val.txt").rename(tmp_path / folder / "test.txt")
    (tmp_path / folder / "train.txt").write_text("elsewhere/b0.png")
    _, said = convert(images, masks, tmp_path / "tested")
    tested = [path.split("_")[-2] for path in Cityscapes(tmp_path / "tested", "test").images]
    assert tested == ["a5", "a6", "a7"]
    assert f"note: {tmp_path / folder / 'train.txt'} names none of the images" in said


@pytest.mark.parametrize(
    "line",
    ["b/1.png", "b/1", "images/b/1.png", "./b/1.png", "b\\1.png", "{absolute}", "\nb/1  \n\n"],
)
def test_a_list_for_val_may_name_paths(tmp_path, line):
    for folder in "ab":
        for i in range(3):
            photo(tmp_path / "images" / folder / f"{i}.png")
            save(tmp_path / "masks" / folder / f"{i}.png", ZERO_ONE)
    path = tmp_path / "chosen.txt"
    path.write_text(line.format(absolute=tmp_path / "images/b/1.png"))
    pairs, _ = find_pairs(tmp_path / "images", tmp_path / "masks")
    splits, _ = assign_splits(pairs, str(path))
    val = [pair.image for pair, split in zip(pairs, splits, strict=True) if split == "val"]
    assert val == [tmp_path / "images/b/1.png"]
    path.write_text("1")
    with pytest.raises(ValueError, match="names 1, which is 2 of the images"):
        assign_splits(pairs, str(path))


# Lists of classes

ROAD, SKY = (128, 64, 128), (70, 130, 180)
LABEL = {"name": "road", "color": ROAD, "evaluate": True, "readable": "Road"}
LABELS = [LABEL, LABEL | {"name": "sky", "color": SKY}, LABEL | {"evaluate": False}]
META = {"label_map": {"0": "road", "1": "sky"}, "segmentation_colors": [ROAD, SKY]}
LISTS = {
    "label_colors.txt": "128 64 128\troad\n70 130 180\t\tsky\n0 0 0 Void\n",
    "labelmap.txt": "# label:color_rgb:parts:actions\nroad:128,64,128::\nsky:70,130,180:a,b:\n",
    "class_names.txt": "road\nsky\n",
    "ids.txt": "road 0\nvoid 255\nsky 1\n",
    "labels.txt": "__ignore__\nroad\nsky\n",
    "class_dict.csv": "name,r,g,b\nroad,128,64,128\nsky,70,130,180\n",
    "classes.csv": "name, red, green, blue\nroad, 128, 64, 128\nsky, 70, 130, 180\n",
    "_classes.csv": "Pixel Value, Class\n0, road\n1, sky\n",
    "excel.csv": "name;r;g;b\nroad;128;64;128\nsky;70;130;180\n",
    "RUGD_annotation-colormap.txt": "0 road 128 64 128\n1 sky 70 130 180\n",
    "config.json": json.dumps({"labels": LABELS}),
    "class_list.json": json.dumps({"#804080": "road", "#4682b4": "sky"}),
    "dataset_meta.json": json.dumps(META),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_classes_are_read_as_tools_write_them(tmp_path, name):
    path = tmp_path / name
    path.write_text("\ufeff" + LISTS[name] if name.endswith("csv") else LISTS[name])
    classes, _ = read_class_list(path)
    assert (classes.names, classes.ids) == (("road", "sky"), (0, 1))
    if "128" in LISTS[name] or "80" in LISTS[name]:
        assert classes.colors == (ROAD, SKY)


@pytest.mark.parametrize("name", ["labelmap.txt", "_classes.csv", "class_dict.csv"])
def test_a_list_counts_more_than_names_of_masks_and_two_that_differ_are_refused(tmp_path, name):
    images, masks = flat(tmp_path)
    move(masks.iterdir(), lambda path: path.with_name(f"{path.stem}_labelTrainIds.png"))
    (masks / name).write_text(LISTS[name])
    scenes, said = convert(images, masks, tmp_path / "out")
    assert scenes.classes.names == ("road", "sky") and f"those of {masks / name}" in said
    (tmp_path / "classes.yaml").write_text("- {name: a, id: 0, color: [0, 0, 0]}")
    with pytest.raises(ValueError, match=f"classes.yaml and .*{name} list other classes"):
        prepare(images, masks, tmp_path / "other")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "128 64 road"),
        ("a.txt", "road:128,64,128::\nsky\n"),
        ("a.txt", "road 7\nsky 7"),
        ("a.txt", "road 7\nsky 300"),
        ("a.txt", "road 7 0\nsky 23 10"),
        ("a.txt", "road:128,64\nsky:1,2"),
        ("a.csv", "x,y\n1,2\n"),
        ("a.csv", "road,128,64,128\nsky,1,2,3\n"),
        ("a.csv", "name,id,r,g,b\nroad,7,128,64,128\n"),
        ("a.json", "[1, 2]"),
        ("a.json", '{"categories": [{"id": 1}]}'),
        ("a.json", "{"),
        ("a.txt", ""),
    ],
)
def test_a_file_that_is_no_list_of_classes_is_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match="no list of classes"):
        read_class_list(tmp_path / name)


@pytest.mark.parametrize(("ignored", "label"), [((255, 255, 255), 255), ((1, 2, 3), 0)])
def test_a_list_may_ignore_any_colour_but_that_of_a_class(tmp_path, ignored, label):
    values = [(1, 2, 3), (4, 5, 6), ignored]
    images, masks = flat(tmp_path, values=values)
    lines = "a:1,2,3::", "b:4,5,6::", "ignore:{},{},{}::".format(*ignored)
    (tmp_path / "labelmap.txt").write_text("\n".join(lines))
    scenes, _ = convert(images, masks, tmp_path / "out")
    assert are_all(scenes, pattern([0, 1, label])) and scenes.classes.names == ("a", "b")
    photo(images / "more.png")
    save(masks / "more.png", pattern(values))
    assert are_all(convert(images, masks, tmp_path / "out")[0], pattern([0, 1, label]))


def test_listed_colours_in_palettes_of_another_order_are_read_as_colours(tmp_path):
    images, masks = flat(tmp_path)
    (tmp_path / "labelmap.txt").write_text("a:1,2,3::\nb:4,5,6::\nc:7,8,9::\n")
    orders = [[(7, 8, 9), (1, 2, 3)], [(1, 2, 3), (7, 8, 9)]]  # each mask has its own
    for i, path in enumerate(sorted(masks.iterdir())):
        paletted(path, pattern([i % 2, 1 - i % 2]), sum(orders[i % 2], ()))
    assert are_all(convert(images, masks, tmp_path / "out")[0], pattern([2, 0]))
    for path in masks.iterdir():  # in the list's order the indices are the ids
        paletted(path, pattern([0, 2]), range(1, 10))
    assert are_all(convert(images, masks, tmp_path / "more")[0], pattern([0, 2]))


# What belongs together


def test_images_without_a_mask_are_left_out_and_named_but_a_split_without_any_refused(tmp_path):
    for split in ("train", "val"):
        flat(tmp_path / split)
        for kind in ("images", "masks"):
            move([tmp_path / split / kind], lambda path: tmp_path / path.name / path.parent.name)
            names = (tmp_path / kind / split).iterdir()
            move(names, lambda path: path.with_name(f"{path.parent.name}-{path.name}"))
    (tmp_path / "masks/train/train-a3.png").unlink()
    scenes, said = convert(tmp_path / "images", tmp_path / "masks", tmp_path / "some")
    assert len(scenes) == 9 and "1 images without a mask, which are left out" in said
    assert "a3.png" in said
    (tmp_path / "masks/val").rename(tmp_path / "elsewhere")  # which is not drawn from the others
    with pytest.raises(ValueError, match="6 images without a mask"):
        prepare(tmp_path / "images", tmp_path / "masks", tmp_path / "out")


def test_names_in_either_form_of_unicode_are_the_same(tmp_path):
    images, masks = flat(tmp_path)
    for folder, form in ((images, "NFD"), (masks, "NFC")):
        (folder / "a1.png").rename(folder / unicodedata.normalize(form, "Müller.png"))
    (tmp_path / "val.txt").write_text("Müller\n", encoding="utf-8")
    scenes, _ = convert(images, masks, tmp_path / "out", val=str(tmp_path / "val.txt"))
    assert are_all(scenes, ZERO_ONE)
    assert [len(Cityscapes(tmp_path / "out", split)) for split in ("train", "val")] == [4, 1]


def test_images_of_one_name_in_many_directories_are_drawn_by_their_paths(tmp_path):
    images, masks = tmp_path / "images", tmp_path / "masks"
    for i in range(24):
        for side in ("left", "right"):
            photo(images / f"scene_{i}" / f"{side}.png")
            save(masks / f"scene_{i}" / f"{side}.png", ZERO_ONE)
    convert(images, masks, tmp_path / "out")
    drawn = [Path(path).name.split("_")[-2] for path in Cityscapes(tmp_path / "out", "val").images]
    assert 2 < len(drawn) < 20 and {*drawn} == {"left", "right"}


def test_images_of_another_directory_do_not_replace_those_of_the_first(tmp_path):
    first, masks = flat(tmp_path / "1")
    dst = tmp_path / "out"
    convert(first, masks, dst)
    before = contents(dst)
    second, other_masks = flat(tmp_path / "2")
    for path in second.iterdir():
        save(path, 255 - np.array(Image.open(path)))
    said = r"(?s)5 images would replace those of .*1.images.*own.json"
    with pytest.raises(ValueError, match=said):
        prepare(second, other_masks, dst)
    assert contents(dst) == before
    move((tmp_path / "2").glob("*/*"), lambda path: path.with_name(f"c{path.name}"))
    assert len(convert(second, other_masks, dst)[0]) == 10
    photo(first / "a1.png", quality=5)
    convert(first, masks, dst)  # of the directory that they came from, changed ones do
    before = contents(dst)
    photo(first / "ca0.png", quality=5)
    save(masks / "ca0.png", ZERO_ONE)
    with pytest.raises(ValueError, match="1 images would replace those of .*2.images"):
        prepare(first, masks, dst)
    assert contents(dst) == before


# Masks that are no pictures


def shapes(path: Path, *found: tuple[str, str, list]) -> None:
    rows = [{"label": a, "shape_type": b, "points": c, "flags": {}} for a, b, c in found]
    content = {"version": "5.4.1", "shapes": rows, "imagePath": path.stem + ".jpg"}
    content |= {"imageData": None, "imageHeight": 20, "imageWidth": 16}
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("listed", [True, False])
def test_labelmes_shapes_are_drawn(tmp_path, beside, listed):
    images = tmp_path / "images"
    labels = images if beside else tmp_path / "labels"
    labels.mkdir(exist_ok=True, parents=True)
    for name in ("0_L", "1", "2_mask", "3_color"):
        photo(images / f"{name}.jpg")
        road = ("road", "polygon", [[0, 10], [15, 10], [15, 19], [0, 19]])
        car = ("car", "rectangle", [[4, 12], [7, 15]])
        lost = ("Void" if name == "1" else "__ignore__", "rectangle", [[0, 0], [3, 3]])
        shapes(labels / f"{name}.json", road, car, lost)
    expected = np.zeros((20, 16), np.uint8)
    expected[10:] = 2
    expected[12:16, 4:8] = 1
    expected[:4, :4] = 255
    options, dst = {}, tmp_path / "out"
    if listed:
        (tmp_path / "my.txt").write_text("__ignore__\n_background_\ncar\nroad\nvoid\n")
        options = {"classes": tmp_path / "my.txt"}
    scenes, _ = convert(images, labels, dst, **options)
    assert are_all(scenes, expected)
    assert scenes.classes.names == ("_background_", "car", "road")
    shapes(labels / "1.json", ("tram", "circle", [[5, 5], [5, 8]]))
    with pytest.raises(ValueError, match=r"1\.json.*'tram'"):
        prepare(images, labels, dst)
    with (dst / "classes.yaml").open("a") as file:
        file.write("- {name: tram, id: 7, color: [7, 7, 7]}\n")
    assert 3 in set().union(*(m.unique().tolist() for _, m in convert(images, labels, dst)[0]))


@pytest.mark.parametrize("label", [None, 7, ["road"]])
def test_a_shape_whose_label_is_no_text_is_refused_with_its_file(tmp_path, label):
    images, labels = tmp_path / "images", tmp_path / "labels"
    labels.mkdir()
    for name, found in (("0", "road"), ("1", label)):
        photo(images / f"{name}.jpg")
        shapes(labels / f"{name}.json", (found, "circle", [[5, 5], [5, 8]]))
    with pytest.raises(ValueError, match=r"1\.json: a shape has no label"):
        prepare(images, labels, tmp_path / "out")


@pytest.mark.parametrize("highest", [1, 255])
def test_shapes_of_assistants_and_other_tools_are_drawn_whole(tmp_path, highest):
    images, labels = tmp_path / "images", tmp_path / "labels"
    labels.mkdir(parents=True)
    pixels = save(tmp_path / "found.png", np.full((5, 4), highest, np.uint8))
    drawn = base64.b64encode(pixels.read_bytes()).decode()
    for i in range(2):
        photo(images / f"{i}.jpg")
        corners = [[8, 2], [12, 2], [12, 6], [8, 6]]  # as X-AnyLabeling has them
        turned = ("road", "rotation", [[0, 10], [15, 10], [15, 19], [0, 19]])
        mask = ("car", "mask", [[2, 3], [5, 7]])
        shapes(labels / f"{i}.json", ("car", "rectangle", corners), turned, mask)
        content = json.loads((labels / f"{i}.json").read_text())
        content["shapes"][2]["mask"] = drawn  # of what an AI found
        (labels / f"{i}.json").write_text(json.dumps(content))
    expected = np.zeros((20, 16), np.uint8)
    expected[10:], expected[2:7, 8:13], expected[3:8, 2:6] = 2, 1, 1
    assert are_all(convert(images, labels, tmp_path / "out")[0], expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, bool])
def test_arrays_of_numpy_are_read(tmp_path, dtype):
    images, masks = flat(tmp_path)
    for path in [*masks.iterdir()]:
        np.save(path.with_suffix(".npy"), ZERO_ONE.astype(dtype))
        path.unlink()
    scenes, _ = convert(images, masks, tmp_path / "out")
    assert are_all(scenes, ZERO_ONE)
    full = (np.full((20, 16), value) for value in (300, 0.5))
    for wrong in (np.zeros((3, 20, 16)), pattern([(1, 2, 3)]), *full):
        np.save(masks / "a1.npy", wrong)
        with pytest.raises(ValueError, match=r"a1\.npy"):
            prepare(images, masks, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("instances_train.json", {"images": [], "annotations": [], "categories": []}, "COCO"),
        ("a0.png.json", {"size": {}, "objects": []}, "Supervisely"),
        ("a0_polygons.json", {"imgHeight": 1, "imgWidth": 1, "objects": []}, "polygons of Citysc"),
        ("a0.geojson", {"type": "FeatureCollection", "features": []}, "is GeoJSON"),
        ("export.json", [{"annotations": []}], "not known"),
        ("a0.mat", {}, "MATLAB"),
        ("a0.txt", {}, "YOLO"),
        ("a0.npz", {}, "arrays"),
        ("a0.xml", {}, "XML"),
    ],
)
def test_other_annotations_are_refused_by_what_they_are(tmp_path, name, content, what):
    images, masks = flat(tmp_path)
    for path in masks.iterdir():
        path.unlink()
    (masks / name).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=what):
        prepare(images, masks, tmp_path / "out")

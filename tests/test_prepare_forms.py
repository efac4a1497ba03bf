"""Trees, lists and masks as data sets and tools leave them, drawn after their documentation."""

import json
from pathlib import Path

import numpy as np
import pytest

from dataset import Cityscapes
from prepare.class_lists import read_class_list
from prepare.own import prepare
from prepare.pairs import find_pairs
from prepare.splits import assign_splits
from tests.test_prepare_own import ZERO_ONE, are_all, convert, flat, pattern, photo, save

# Names that --pairs tells

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
    pairs, _ = find_pairs(images, masks, None, rule)
    assert {pair.image: pair.mask for pair in pairs} == drawn
    counts = prepare(images, masks, tmp_path / "out", labels="ids", pattern=rule)
    assert sum(counts.values()) == 6
    assert counts == {"train": 4, "val": 2} or "{split}" not in image


@pytest.mark.parametrize(
    "rule", ["X.png", "X.png=Y.png", "a=b", "X_*.png=X.png", "X_rgb.png=X_gt.png", "X=X=X"]
)
def test_a_rule_that_fits_nothing_is_refused(tmp_path, rule):
    images, masks = flat(tmp_path)
    with pytest.raises(ValueError, match="--pairs"):
        prepare(images, masks, tmp_path / "out", pattern=rule)


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
        rule = f"X.png=X{endings[1]}.png"
        prepare(images, masks, tmp_path / "out", labels="ids", pattern=rule)
        assert Cityscapes(tmp_path / "out", "val").classes.ids == (1, 2, 9)
    else:
        found, _ = find_pairs(images, masks)
        assert {pair.mask.stem for pair in found} == {f"a{i}{chosen}" for i in range(5)}


# Splits


@pytest.mark.parametrize(
    "names", [("train", "val"), ("training", "validation"), ("Train", "Valid")]
)
def test_official_splits_are_kept_over_two_calls(tmp_path, names):
    trees = [flat(tmp_path / "tree" / name, 3) for name in names]  # of the same names
    for images, masks in trees:
        prepare(images, masks, tmp_path / "out")
    for split in ("train", "val"):
        assert len(Cityscapes(tmp_path / "out", split)) == 3


def test_a_directory_that_happens_to_be_called_test_is_no_split(tmp_path):
    images, masks = flat(tmp_path / "test")
    assert set(prepare(images, masks, tmp_path / "out")) == {"train", "val"}


@pytest.mark.parametrize("line", ["a{}", "images/a{}.png masks/a{}.png"])
def test_the_lists_of_a_tree_are_its_official_splits(tmp_path, line):
    images, masks = flat(tmp_path, 8)
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split, numbers in (("train", range(5)), ("val", range(5, 8))):
        (lists / f"{split}.txt").write_text("\n".join(line.replace("{}", str(i)) for i in numbers))
    assert prepare(images, masks, tmp_path / "out") == {"train": 5, "val": 3}


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
LISTS = {
    "label_colors.txt": "128 64 128\troad\n70 130 180\t\tsky\n0 0 0 Void\n",
    "labelmap.txt": "# label:color_rgb:parts:actions\nroad:128,64,128::\nsky:70,130,180:a,b:\n",
    "class_names.txt": "road\nsky\n",
    "labels.txt": "__ignore__\nroad\nsky\n",
    "class_dict.csv": "name,r,g,b\nroad,128,64,128\nsky,70,130,180\n",
    "classes.csv": "name, red, green, blue\nroad, 128, 64, 128\nsky, 70, 130, 180\n",
    "_classes.csv": "Pixel Value, Class\n0, road\n1, sky\n",
    "excel.csv": "name;r;g;b\nroad;128;64;128\nsky;70;130;180\n",
    "RUGD_annotation-colormap.txt": "0 road 128 64 128\n1 sky 70 130 180\n",
    "config.json": json.dumps(
        {"labels": [LABEL, LABEL | {"name": "sky", "color": SKY}, LABEL | {"evaluate": False}]}
    ),
    "class_list.json": json.dumps({"#804080": "road", "#4682b4": "sky"}),
    "dataset_meta.json": json.dumps(
        {"label_map": {"0": "road", "1": "sky"}, "segmentation_colors": [ROAD, SKY]}
    ),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_classes_are_read_as_tools_write_them(tmp_path, name):
    path = tmp_path / name
    path.write_text("\ufeff" + LISTS[name] if name.endswith("csv") else LISTS[name])
    classes = read_class_list(path)
    assert (classes.names, classes.ids) == (("road", "sky"), (0, 1))
    if "128" in LISTS[name] or "80" in LISTS[name]:
        assert classes.colors == (ROAD, SKY)


@pytest.mark.parametrize("name", ["labelmap.txt", "_classes.csv", "class_dict.csv"])
def test_a_list_beside_the_masks_is_found_and_two_that_differ_are_refused(tmp_path, name):
    images, masks = flat(tmp_path)
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
    for i in range(4):
        photo(images / f"{i}.jpg")
        road = ("road", "polygon", [[0, 10], [15, 10], [15, 19], [0, 19]])
        car = ("car", "rectangle", [[4, 12], [7, 15]])
        lost = ("__ignore__", "rectangle", [[0, 0], [3, 3]])
        shapes(labels / f"{i}.json", road, car, lost)
    expected = np.zeros((20, 16), np.uint8)
    expected[10:] = 2
    expected[12:16, 4:8] = 1
    expected[:4, :4] = 255
    options, dst = {}, tmp_path / "out"
    if listed:
        (tmp_path / "my.txt").write_text("__ignore__\n_background_\ncar\nroad\n")
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


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, bool])
def test_arrays_of_numpy_are_read(tmp_path, dtype):
    images, masks = flat(tmp_path)
    for path in [*masks.iterdir()]:
        np.save(path.with_suffix(".npy"), ZERO_ONE.astype(dtype))
        path.unlink()
    scenes, _ = convert(images, masks, tmp_path / "out")
    assert are_all(scenes, ZERO_ONE)
    for wrong in ((3, 20, 16), 300, 0.5, "colours"):
        array = np.zeros(wrong) if isinstance(wrong, tuple) else np.full((20, 16), wrong)
        np.save(masks / "a1.npy", pattern([(1, 2, 3)]) if wrong == "colours" else array)
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

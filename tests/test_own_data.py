"""Own data: classes, images of several sizes, weights to start from, and what is refused."""

import json
import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from dataset import Cityscapes, find_root
from engine import Recipe, best_median_worst, evaluate_split, make_loaders, make_model
from engine.submission import write_submission
from inference import load_model, predict
from runtime.checkpoint import load_checkpoint
from tests import training
from tests.samples import first, save, turned
from tests.training import run as train
from utils import Classes

CLASSES = [
    {"name": "background", "id": 0, "color": [0, 0, 0]},
    {"name": "crack", "id": 7, "color": [255, 0, 0]},
]


def draw(root: Path, ids=(0, 7, 9), sizes=((48, 64),), train: int = 6, val: int = 3) -> Path:
    """A tree whose labels have some ids, in images of these sizes by turns; bright is the last."""
    generator = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for i in range(count):
            labels = generator.choice(ids, sizes[i % len(sizes)]).astype(np.uint8)
            name = f"{split}/town/town_000000_{i:06d}"
            save(root / f"leftImg8bit/{name}_leftImg8bit.png", np.stack([labels * 20] * 3, -1))
            save(root / f"gtFine/{name}_gtFine_labelIds.png", labels)
    return root


def list_classes(root: Path, classes: list) -> Path:
    (root / "classes.yaml").write_text(yaml.safe_dump(classes))
    return root


def own(root: Path, **options) -> Path:
    return list_classes(draw(root, **options), CLASSES)


@pytest.fixture
def root(tmp_path) -> Path:
    return own(tmp_path / "data")


tiny = partial(training.tiny, downscale=1, batch_size=2, epochs=1)


def test_a_tree_with_its_own_classes_is_read_by_them_and_has_a_cache_of_its_own(root):
    scenes = Cityscapes(root, "train", cache=".cache")
    assert scenes.classes.names == ("background", "crack")
    before = scenes[0][1]
    assert before.unique().tolist() == [0, 1, 255]  # 9 is not listed, and so ignored
    list_classes(root, CLASSES[::-1])
    assert torch.equal(Cityscapes(root, "train", cache=".cache")[0][1] == 0, before == 1)


@pytest.mark.slow
def test_metrics_checkpoint_and_commands_follow_the_classes(root, tmp_path, command):
    run = tmp_path / "run"
    history = train(tiny(root, epochs=30, lr=0.01, precision="fp32"), run)
    assert set(history[-1]["iou"]) == {"background", "crack"}
    assert "category_mIoU" not in history[-1]
    assert history[-1]["mIoU"] > 0.9  # a class is a brightness
    model = load_model(run / "best.pt")
    assert model.classes == Classes.from_file(root / "classes.yaml")
    dark = torch.zeros(3, 20, 30, dtype=torch.uint8)
    assert predict(model, dark, precision="fp32").unique().tolist() == [0]
    best = max(record["mIoU"] for record in history)
    _, figures = evaluate_split(model, root)
    assert figures["mIoU"] == pytest.approx(best, rel=2e-3)  # may be bf16
    for name, of in (("evaluate", root), ("predict", first(root, split="val"))):
        command(name, run / "best.pt", of, "--out", tmp_path / name)
    found = json.loads((tmp_path / "evaluate" / "metrics.json").read_text())
    assert set(found["full resolution"]["iou"]) == {"background", "crack"}
    (labels,) = (tmp_path / "predict").glob("*_labels.png")
    assert set(np.unique(Image.open(labels))) <= {0, 7}  # ids of the label files, not train ids
    with pytest.raises(ValueError, match="Cityscapes"):
        write_submission(model, root, "val", tmp_path / "submission")


def test_a_checkpoint_of_other_classes_is_not_evaluated_or_gone_on_with(root, tmp_path, streets):
    train(tiny(root), tmp_path / "run")
    with pytest.raises(ValueError, match="(?s)crack.*road"):
        evaluate_split(load_model(tmp_path / "run" / "best.pt"), streets)
    before = (tmp_path / "run" / "last.pt").read_bytes()
    list_classes(root, [CLASSES[1] | {"id": 0}, CLASSES[0] | {"id": 7}])
    with pytest.raises(ValueError, match="classes"):  # before the first step
        train(tiny(root, epochs=2), tmp_path / "run")
    assert (tmp_path / "run" / "last.pt").read_bytes() == before


A = "- {name: a, id: 1, color: [0, 0, 0]}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "1 to 255 classes"),
        ("{a: 1}", "not a list of classes"),
        ("name: a\nid: 1\ncolor: [0, 0, 0]", "dash"),
        ("- name: a\n  id: 1\n  color: [0, 0, 0]\n  name: b\n  id: 2", "line 1 has name twice"),
        ("- !!python/object/apply:os.system [ls]", "not a list of classes"),
        ("- {name: a, id: 1}", "color"),
        ("- {name: a, id: 1, color: [0, 0, 0], category: flat}", "nothing else"),
        (f"{A}\n- {{name: b, id: 1, color: [0, 0, 1]}}", "id 1"),
        (f"{A}\n- {{name: a, id: 2, color: [0, 0, 1]}}", "name a"),
        (A.replace("a, id", "'', id"), "entry 1"),
        (A.replace("1", "256"), "0..255"),
        (A.replace("1", "010"), "entry 1.*'010' is no whole number"),
        (A.replace("1", "1:30"), "entry 1.*'1:30'"),
        (A.replace("1", "1.9"), "entry 1.*'1.9'"),
        (A.replace("0]", "300]"), "0..255"),
        (A.replace("[0, 0, 0]", "'#804080'"), "entry 1.*three numbers"),
    ],
)
def test_a_class_table_that_cannot_be_used_is_named(tmp_path, content, message):
    (draw(tmp_path) / "classes.yaml").write_text(content)
    with pytest.raises(ValueError, match=f"(?s)classes.yaml.*{message}"):
        Cityscapes(tmp_path)


@pytest.mark.parametrize("name", ["on", "~", "2024-01-02", "0x10", "010", "1.50"])
def test_the_name_of_a_class_is_taken_as_it_is_written(tmp_path, name):
    (tmp_path / "classes.yaml").write_text(A.replace("a, id", f"{name}, id"))
    assert Classes.from_file(tmp_path / "classes.yaml").names == (name,)


def test_a_class_that_is_in_one_of_many_images_is_found(tmp_path):
    root = own(tmp_path / "data", ids=(9,), train=120, val=1)
    for split, stem in (("train", "town_000000_000001"), ("val", "town_000000_000000")):
        path = root / "gtFine" / split / "town" / f"{stem}_gtFine_labelIds.png"
        Image.fromarray(np.full((48, 64), 7, np.uint8)).save(path)
    assert make_loaders(tiny(root))


def test_labels_without_a_labelled_pixel_stop_before_the_first_step(tmp_path):
    root = draw(tmp_path / "data", ids=(0, 1, 2, 6))
    with pytest.raises(ValueError, match=r"(?s)no pixel.*labelIds.png.*classes.yaml"):
        train(tiny(root), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_several_sizes_train_with_a_crop_or_one_by_one(tmp_path):
    root = own(tmp_path / "data", sizes=((48, 64), (50, 70), (33, 47)))
    with pytest.raises(ValueError, match="(?s)different sizes.*crop"):
        train(tiny(root), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert train(tiny(root, batch_size=1), tmp_path / "ones")
    (record,) = train(tiny(root, crop=(32, 32), batch_size=3), tmp_path / "crops")
    assert record["mIoU"] is not None
    assert len(list((root / ".cache").glob("*.cache"))) == 9
    model = load_model(tmp_path / "crops" / "best.pt")
    by_ones, by_threes = (evaluate_split(model, root, batch_size=n)[1] for n in (1, 3))
    assert by_ones == by_threes


def test_an_image_that_lies_on_its_side_is_of_another_size(root):
    path = Path(Cityscapes(root, "train").images[0])
    Image.open(path).save(path, exif=turned())
    with pytest.raises(ValueError, match="different sizes"):
        make_loaders(tiny(root))
    with pytest.raises(ValueError, match="(?s)64x48.*48x64.*EXIF"):
        Cityscapes(root, "train")[0]


def test_init_takes_the_weights_and_of_other_classes_all_but_the_last_layer(root, tmp_path, capsys):
    train(tiny(root), tmp_path / "run")
    list_classes(root, [CLASSES[0], CLASSES[1] | {"color": [1, 2, 3]}])  # which counts nothing
    others = Recipe.from_file("recipes/streets.yaml", init="checkpoints/streets.pt")
    same = tiny(root, init=str(tmp_path / "run" / "best.pt"))
    for recipe, kept in ((same, ()), (others, ("conv_1x1",))):
        capsys.readouterr()
        model = make_model(recipe, Cityscapes(root).classes)
        assert ("last layer" in capsys.readouterr().out) == bool(kept)
        weights = load_checkpoint(recipe.init)["model"]
        for name, value in model.state_dict().items():
            assert torch.equal(value, weights[name]) != name.startswith(kept), name
    with pytest.raises(ValueError, match=r"streets.pt .*\(width is 16, not 8\).*init: null"):
        make_model(replace(others, width=8))


@pytest.mark.slow
def test_a_halving_run_goes_on_for_more_epochs_on_data_that_moved_unchanged(root, tmp_path):
    for schedule in ("halve", "cosine"):
        train(tiny(root, schedule=schedule), tmp_path / schedule)
    at_once = train(tiny(root, schedule="halve", epochs=2), tmp_path / "other")
    moved = root.rename(tmp_path / "moved")
    longer = train(tiny(moved, schedule="halve", epochs=2), tmp_path / "halve")
    assert [r["val_loss"] for r in longer] == [r["val_loss"] for r in at_once]
    with pytest.raises(ValueError, match="epochs is 2 here and 1 there.*init"):
        train(tiny(moved, schedule="cosine", epochs=2), tmp_path / "cosine")
    for path in moved.rglob("*_000001_*.png"):
        path.unlink()
    with pytest.raises(ValueError, match="other training images"):
        train(tiny(moved, schedule="halve", epochs=3), tmp_path / "halve")


@pytest.mark.slow
def test_training_on_train_and_val_keeps_the_last_epoch(root, tmp_path):
    recipe = tiny(root, train_split="trainval", epochs=3, lr=0.05)
    assert len(make_loaders(recipe)[0].dataset) == 9
    history = train(recipe, tmp_path / "run")
    kept = [{k: v for k, v in record.items() if k != "resumed"} for record in history]
    assert load_checkpoint(tmp_path / "run" / "best.pt")["history"] == kept
    assert all(record["trained_on_val"] for record in history)


def test_a_directory_with_a_dollar_in_its_name_is_used_as_it_stands(tmp_path):
    root = own(tmp_path / "cheap $tuff")
    assert len(Cityscapes(root, "train")) == 6
    assert find_root(root) == root
    with pytest.raises(FileNotFoundError, match=r"\$no_such_variable"):
        find_root("$no_such_variable/data")


def test_a_test_split_without_labels_has_no_figures_and_can_still_be_drawn(tmp_path, streets):
    for kind in ("leftImg8bit", "gtFine"):
        shutil.copytree(streets / kind / "val", tmp_path / kind / "test")
    for path in (tmp_path / "gtFine").rglob("*_labelIds.png"):
        Image.fromarray(np.zeros((64, 128), np.uint8)).save(path)
    confusion, figures = evaluate_split(load_model("checkpoints/streets.pt"), tmp_path, "test")
    assert not confusion.matrix.any()
    assert json.loads(json.dumps(figures, allow_nan=False))["mIoU"] is None
    assert figures["cross_entropy"] is None
    assert set(figures["accuracies"].values()) == {None}
    scenes = Cityscapes(tmp_path, "test")
    assert best_median_worst(None, scenes, figures["accuracies"].values()) == []


def test_the_cache_on_another_drive_is_named_by_its_absolute_path(root, tmp_path, monkeypatch):
    error = ValueError("path is on mount 'D:', start on mount 'C:'")  # as Windows says
    monkeypatch.setattr(os.path, "relpath", Mock(side_effect=error))
    scenes = Cityscapes(root, "train", cache=str(tmp_path / "cache"))
    first = scenes[0][0]
    assert torch.equal(scenes[0][0], first)
    assert len(list((tmp_path / "cache").glob("*.cache"))) == 1

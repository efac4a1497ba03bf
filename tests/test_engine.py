import dataclasses
import json

import pytest
import torch
from torch.nn import functional as F
from torchmetrics.classification import MulticlassJaccardIndex

import engine
from checkpoint import load_checkpoint
from dataset import Cityscapes, make_loader
from engine import evaluate, fit, rank_scenes
from model import UNet, load_model, predict
from recipe import Recipe, lr_factor, make_loaders, make_model
from utils import CLASS_NAMES

CPU = torch.device("cpu")


def tiny(streets, **fields) -> Recipe:
    settings = {"downscale": 1, "width": 4, "depth": 2, "batch_size": 4, "epochs": 3, "workers": 0}
    return Recipe(**{"data_root": str(streets), **settings, **fields})


def run(recipe: Recipe, run_dir, stop_after: int | None = None) -> list[dict]:
    records = []
    for record in fit(make_model(recipe), *make_loaders(recipe), recipe, run_dir):
        records.append(record)
        if stop_after is not None and len(records) == stop_after:
            break
    return records


# The schedule


def test_the_reference_schedule_halves_the_rate_every_ten_epochs():
    factor = lr_factor(Recipe(epochs=25), steps_per_epoch=7)
    assert [factor(7 * epoch) for epoch in (0, 9, 10, 19, 20)] == [1, 1, 0.5, 0.5, 0.25]
    assert factor(7 * 10 - 1) == 1


def test_the_cosine_rises_for_a_twentieth_and_falls_to_zero():
    factor = lr_factor(Recipe(schedule="cosine", epochs=10), steps_per_epoch=40)
    values = [factor(step) for step in range(401)]
    assert max(values) == max(values[15:25]) > 0.98
    assert values[0] == pytest.approx(0.05, abs=0.01)
    assert values[400] == pytest.approx(0, abs=1e-9)


# Training


def test_a_handful_of_scenes_is_learnt_by_heart(streets, tmp_path):
    recipe = tiny(streets, width=16, depth=3, flip=0.0, schedule="cosine", lr=1e-2, epochs=100)
    recipe = dataclasses.replace(recipe, loss="cross_entropy+dice", batch_size=1)
    train_loader, val_loader = make_loaders(recipe)
    for dataset in (train_loader.dataset, val_loader.dataset):
        del dataset.images[3:], dataset.targets[3:]
    records = list(fit(make_model(recipe), train_loader, val_loader, recipe, tmp_path))
    assert records[-1]["train_accuracy"] > 0.95


def test_a_record_holds_what_the_notebook_draws(streets, tmp_path):
    records = run(tiny(streets, epochs=2), tmp_path)
    assert [r["epoch"] for r in records] == [1, 2]
    assert set(records[0]) == {
        "epoch", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "mIoU", "iou",
        "category_mIoU", "category_iou", "seconds",
    }  # fmt: skip
    assert list(records[0]["iou"]) == CLASS_NAMES
    assert json.loads((tmp_path / "history.json").read_text()) == records
    assert {p.name for p in tmp_path.iterdir()} == {
        "best.pt", "history.json", "last.pt", "lock", "previous.pt",
    }  # fmt: skip


@pytest.mark.parametrize("settings", [{}, {"padding": "valid", "depth": 1}, {"batch_norm": False}])
def test_every_kind_of_network_trains(streets, tmp_path, settings):
    recipe = tiny(streets, epochs=2, lr=3e-3, **settings)
    records = run(recipe, tmp_path)
    assert records[1]["train_loss"] < records[0]["train_loss"]
    loaded = load_model(tmp_path / "best.pt")
    loader = make_loaders(recipe)[1]
    loss, confusion = evaluate(loaded, loader, CPU)
    best = max(records, key=lambda r: r["mIoU"])
    assert confusion.mean_iou == pytest.approx(best["mIoU"])
    assert loss == pytest.approx(best["val_loss"], rel=1e-5)


def same_state(one, other) -> None:
    a, b = load_checkpoint(one / "last.pt"), load_checkpoint(other / "last.pt")
    for name, value in a["model"].items():
        assert torch.equal(value, b["model"][name]), name
    for i, state in a["training"]["optimizer"]["state"].items():
        for key, value in state.items():
            assert torch.equal(value, b["training"]["optimizer"]["state"][i][key]), (i, key)
    strip = [[{**r, "seconds": 0} for r in c["history"]] for c in (a, b)]
    assert strip[0] == strip[1]


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_resumed_training_equals_one_that_was_never_interrupted(optimizer, streets, tmp_path):
    fields = {"crop": (32, 64), "crop_start": 0.5, "jitter": 0.2, "schedule": "cosine"}
    fields |= {"workers": 2, "optimizer": optimizer}
    recipe = tiny(streets, epochs=3, **fields)
    run(recipe, tmp_path / "whole")
    run(recipe, tmp_path / "parts", stop_after=1)
    torch.rand(11)
    resumed = run(dataclasses.replace(recipe, workers=0), tmp_path / "parts")
    assert [r["epoch"] for r in resumed] == [1, 2, 3]
    same_state(tmp_path / "whole", tmp_path / "parts")


def test_a_run_interrupted_in_mid_epoch_goes_on_from_the_epoch_before(
    streets, tmp_path, monkeypatch
):
    recipe = tiny(streets, epochs=2)
    run(recipe, tmp_path / "whole")
    steps, real = [], engine.criterion

    def interrupted(*args):
        steps.append(1)
        if len(steps) == 6:  # three steps train an epoch, two judge it
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(engine, "criterion", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, tmp_path / "parts")
    monkeypatch.undo()
    run(recipe, tmp_path / "parts")
    same_state(tmp_path / "whole", tmp_path / "parts")


def test_a_finished_run_is_not_trained_again(streets, tmp_path):
    recipe = tiny(streets, epochs=1)
    run(recipe, tmp_path)
    before = (tmp_path / "last.pt").stat().st_mtime_ns
    assert len(run(recipe, tmp_path)) == 1
    assert (tmp_path / "last.pt").stat().st_mtime_ns == before


def test_another_recipe_on_the_same_directory_is_refused_with_the_difference(streets, tmp_path):
    run(tiny(streets, epochs=1), tmp_path)
    with pytest.raises(ValueError, match=r"another recipe \(lr is 0.1 here and 0.001 there\)"):
        run(tiny(streets, epochs=1, lr=0.1), tmp_path)


def test_a_run_from_before_a_field_was_there_goes_on(streets, tmp_path):
    recipe = tiny(streets, epochs=2)
    run(recipe, tmp_path, stop_after=1)
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    del state["recipe"]["crop_start"], state["recipe"]["optimizer"], state["sealed"]
    torch.save(state, tmp_path / "last.pt")
    assert [record["epoch"] for record in run(recipe, tmp_path)] == [1, 2]


def test_a_loss_that_is_not_finite_stops_and_leaves_the_last_good_state(streets, tmp_path):
    recipe = tiny(streets, epochs=5)
    run(recipe, tmp_path, stop_after=1)
    good = (tmp_path / "last.pt").read_bytes()
    train_loader, val_loader = make_loaders(recipe)
    model = make_model(recipe)
    steps = fit(model, train_loader, val_loader, recipe, tmp_path)
    next(steps)
    with torch.no_grad():
        model.conv_1x1.weight.fill_(float("inf"))
    with pytest.raises(FloatingPointError, match=r"epoch 2/5: .*lower `lr`.*last\.pt is the state"):
        next(steps)
    assert (tmp_path / "last.pt").read_bytes() == good


# Evaluation


def test_evaluation_equals_torchmetrics_at_both_resolutions(streets):
    torch.manual_seed(0)
    model = UNet(width=4, depth=2)
    for downscale_labels in (True, False):
        scenes = Cityscapes(streets, "val", downscale=2, downscale_labels=downscale_labels)
        _, confusion = evaluate(model, make_loader(scenes, 2, False, 0), CPU)
        metric = MulticlassJaccardIndex(19, average="none", ignore_index=255)
        for image, mask in scenes:
            with torch.inference_mode():
                logits = model.eval()(image.unsqueeze(0))
            logits = F.interpolate(logits, mask.shape, mode="bilinear")
            metric.update(logits.argmax(1), mask.unsqueeze(0).long())
        assert confusion.matrix.sum() == sum((mask != 255).sum() for _, mask in scenes)
        iou = metric.compute().double()
        seen = ~confusion.iou.isnan()
        torch.testing.assert_close(confusion.iou[seen], iou[seen], atol=1e-6, rtol=1e-6)


def test_predict_is_the_same_as_evaluation_at_full_resolution(streets):
    torch.manual_seed(0)
    model = UNet(width=4, depth=2).eval()
    model.downscale = 2
    scenes = Cityscapes(streets, "val")
    small = Cityscapes(streets, "val", downscale=2, downscale_labels=False)
    _, confusion = evaluate(model, make_loader(small, 1, False, 0), CPU)
    hits = sum(((predict(model, image) == mask) & (mask != 255)).sum() for image, mask in scenes)
    assert confusion.matrix.trace() == hits


def test_scenes_are_ranked_from_the_best_to_the_worst(streets):
    torch.manual_seed(0)
    ranked = rank_scenes(UNet(width=4, depth=2), Cityscapes(streets, "val"))
    assert sorted(index for _, index in ranked) == list(range(5))
    assert [accuracy for accuracy, _ in ranked] == sorted((a for a, _ in ranked), reverse=True)

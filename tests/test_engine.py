"""Training, resuming, evaluating: on a few small scenes."""

import dataclasses
import json
from typing import Literal

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassJaccardIndex

import engine
import runtime.distributed
from dataset import Cityscapes, read_labels
from engine import Loss, Recipe, evaluate, fit, make_loader, make_loaders, make_model
from engine.optimizer import make_optimizer
from inference import load_model, predict
from model import UNet
from runtime.checkpoint import load_checkpoint
from runtime.precision import Autocast
from tests.plain import PlainUNet, copy_weights, plain_step
from tests.samples import contents, first, save
from tests.training import network, run, tiny
from utils import CITYSCAPES, Classes, metrics


def test_the_rate_halves_every_ten_epochs_or_rises_and_falls_as_a_cosine():
    model, cosine = UNet(width=1, depth=1), Recipe(schedule="cosine", epochs=10)
    (factor,) = make_optimizer(Recipe(epochs=25), model, 7)[1].lr_lambdas  # of 7 steps an epoch
    assert [factor(7 * epoch) for epoch in (0, 9, 10, 19, 20)] == [1, 1, 0.5, 0.5, 0.25]
    assert factor(7 * 10 - 1) == 1
    (factor,) = make_optimizer(cosine, model, 40)[1].lr_lambdas
    values = [factor(step) for step in range(401)]
    assert max(values) == max(values[15:25]) > 0.98
    assert values[0] == pytest.approx(0.05, abs=0.01)
    assert values[400] == pytest.approx(0, abs=1e-9)


def test_training_takes_the_steps_of_a_tutorials_loop():
    ours, plain = UNet(width=4, depth=2), PlainUNet(width=4, depth=2)
    copy_weights(ours, plain)
    images = torch.randint(0, 256, (5, 2, 3, 40, 56), dtype=torch.uint8)
    labels = images[:, :, 0].long() // 64
    labels[:, :, :5] = 255
    theirs = torch.optim.Adam(plain.parameters(), 1e-2)
    batches = zip(images, labels, strict=True)
    expected = [plain_step(plain, theirs, *batch).item() for batch in batches]
    optimizer = torch.optim.AdamW(ours.parameters(), 1e-2, weight_decay=0.0, fused=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    trainer, losses = engine.Trainer(ours, Loss(), optimizer, scheduler), []
    for batch in zip(images, labels.to(torch.uint8), strict=True):
        loader = DataLoader(TensorDataset(*batch), batch_size=2)
        losses.append(engine.train_one_epoch(trainer, loader)[0])
    assert losses == pytest.approx(expected, rel=1e-4)
    assert losses[0] != pytest.approx(losses[-1], rel=1e-2)  # it did train


@pytest.mark.slow
@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 5.0, 0.5])])
def test_a_batch_in_parts_takes_the_step_of_the_whole_batch(weights):
    images = torch.randint(256, (5, 3, 16, 24), dtype=torch.uint8)
    labels = torch.randint(4, (5, 16, 24), dtype=torch.uint8)
    labels[:3, 4:] = 255  # the parts have unequal numbers of labelled pixels
    found = {}
    for parts in (1, 3):
        torch.manual_seed(0)
        net = Autocast(UNet(3, 4, width=4, depth=2, batch_norm=False), "fp32")
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
        loss = Loss(class_weights=weights, label_smoothing=0.1)
        trainer = engine.Trainer(net, loss, optimizer, schedule, accumulate=parts)
        means = engine.train_one_epoch(trainer, DataLoader(TensorDataset(images, labels), 5))
        found[parts] = means, net.state_dict()
    assert found[3][0] == pytest.approx(found[1][0])
    torch.testing.assert_close(found[3][1], found[1][1])


@pytest.mark.parametrize(("images", "processes", "sizes"), [(2, 1, [1, 1]), (1, 8, [1])])
def test_each_part_of_a_step_has_an_image_in_some_process(images, processes, sizes, monkeypatch):
    monkeypatch.setattr(engine.loop, "world_size", lambda: processes)  # each has as many images
    monkeypatch.setattr(engine.loop, "all_reduce_sum", lambda count: count * processes)
    net, seen = UNet(3, 4, width=4, depth=2), []
    net.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    labels = torch.zeros(images, 16, 24, dtype=torch.uint8)
    pictures = torch.zeros(images, 3, 16, 24, dtype=torch.uint8)
    engine.Trainer(net, Loss(), optimizer, schedule, accumulate=4).step(pictures, labels)
    assert seen == sizes


def test_records_hold_epoch_rate_and_classes_and_are_kept_as_history(streets, tmp_path):
    records = run(tiny(streets, epochs=2, halve_every=1), tmp_path)
    assert [r["epoch"] for r in records] == [1, 2]
    assert [r["lr"] for r in records] == [1e-3, 5e-4]  # of the epoch's last step
    assert not any(record.pop("resumed") for record in records)
    assert tuple(records[0]["iou"]) == CITYSCAPES.names
    assert json.loads((tmp_path / "history.json").read_text()) == records


def test_a_network_of_other_settings_or_classes_is_refused_before_it_trains(streets, tmp_path):
    recipe = tiny(streets)
    wider = make_model(dataclasses.replace(recipe, width=8))
    two = make_model(recipe, Classes(("a", "b"), (1, 2), ((9, 9, 9), (0, 0, 9))))
    for model, said in (
        (wider, "other settings than the recipe's {'width': 4}"),
        (two, "classes are not the data's"),
    ):
        with pytest.raises(ValueError, match=said):
            next(fit(model, *make_loaders(recipe), recipe, tmp_path))
        assert not (tmp_path / "last.pt").exists()


def test_a_metric_may_not_have_the_name_of_another_field(streets, tmp_path, monkeypatch):
    monkeypatch.setattr(engine.run, "metrics", lambda *_: {"precision": 0.5})
    with pytest.raises(TypeError, match="precision"):
        run(tiny(streets, epochs=1), tmp_path)


def test_numbers_of_numpy_and_pytorch_are_saved_as_pythons(streets, tmp_path, monkeypatch):
    def newer(*args) -> dict:
        return {**metrics(*args), "numpy": np.float64(0.5), "torch": torch.tensor(0.25)}

    monkeypatch.setattr(engine.run, "metrics", newer)
    recipe = tiny(streets, epochs=np.int64(1), lr=np.float64(1e-3), crop=[32, 48])
    (record,) = run(recipe, tmp_path)
    assert (recipe.epochs, record["numpy"], record["torch"]) == (1, 0.5, 0.25)
    for name in ("last.pt", "best.pt"):
        assert load_checkpoint(tmp_path / name)["history"][0]["numpy"] == 0.5


@pytest.mark.parametrize("name", ["loss", "class_weights", "optimizer", "schedule"])
def test_a_choice_that_nobody_implemented_does_not_train_as_another(name, streets, tmp_path):
    namespace = {"__annotations__": {name: Literal["newest"]}, name: "newest"}
    newer = dataclasses.dataclass(frozen=True, kw_only=True)(type("Newer", (Recipe,), namespace))
    with pytest.raises(KeyError, match="newest"):
        run(newer(data_root=str(streets), width=4, depth=2), tmp_path)


@pytest.mark.parametrize("kind", ["median_frequency", "enet"])
def test_classes_are_weighted_by_their_share_of_the_training_pixels(streets, tmp_path, kind):
    fields = {"lr": 1e-12, "batch_norm": False, "flip": 0.0, "precision": "fp32"}
    recipe = tiny(streets, epochs=1, class_weights=kind, batch_size=12, **fields)
    (record,) = run(recipe, tmp_path)
    train_loader, val_loader = make_loaders(recipe)
    counts = torch.zeros(19)
    for path in train_loader.dataset.targets:
        labels = read_labels(path)
        counts += torch.stack([(labels == c).sum() for c in range(19)])
    weights = engine.losses.make_class_weights(kind, counts / counts.sum())
    images, labels = next(iter(train_loader))
    with torch.no_grad():
        logits = make_model(recipe)(images)
    expected = F.cross_entropy(logits, labels.long(), weights, ignore_index=255)
    assert record["train_loss"] == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.slow
def test_valid_padding_trains_on_all_pixels_of_frames_and_inner_ones_of_crops(streets, tmp_path):
    # With hardly any learning rate, the loss in training is that of the network as it was drawn.
    still = {"padding": "valid", "depth": 1, "batch_norm": False, "lr": 1e-12, "epochs": 1}
    frames = tiny(streets, **still, flip=0.0, precision="fp32")
    scenes = Cityscapes(streets, downscale=2)
    loader = make_loader(scenes, 4, train=False, workers=0)
    everywhere, _ = evaluate(make_model(frames), loader, precision="fp32")
    (found,) = run(frames, tmp_path / "frames")
    assert found["train_loss"] == pytest.approx(everywhere, rel=1e-4)

    crops = dataclasses.replace(frames, crop=(32, 64))
    total, pixels, model = 0.0, 0, make_model(crops)
    for image, labels in scenes:  # the crop is the frame
        inner = labels[8:-8, 8:-8].long()  # two convolutions, twice those of the level below
        logits = model(image[None])
        total += F.cross_entropy(logits, inner[None], ignore_index=255, reduction="sum").item()
        pixels += (inner != 255).sum().item()
    (found,) = run(crops, tmp_path / "crops")
    assert found["train_loss"] == pytest.approx(total / pixels, rel=1e-4)
    assert total / pixels != pytest.approx(everywhere, rel=1e-2)


@pytest.mark.slow
def test_a_finished_run_is_left_alone_and_its_weights_are_not_replaced(streets, tmp_path):
    run(tiny(streets, epochs=1), tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=rf"{tmp_path}.*\blr is 0.1 here and 0.001 there"):
        run(tiny(streets, epochs=1, lr=0.1), tmp_path)
    assert run(tiny(streets, epochs=1, workers=1, cache=None, device="cpu"), tmp_path)
    assert contents(tmp_path) == before
    for name in ("last.pt", "previous.pt"):
        (tmp_path / name).unlink()
        del before[name]
    with pytest.raises(ValueError, match="best.pt of an earlier run"):
        run(tiny(streets, epochs=1, seed=1), tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.slow
def test_a_run_goes_on_without_the_checkpoint_that_it_started_from(streets, tmp_path, monkeypatch):
    run(tiny(streets, epochs=1), tmp_path / "first")
    recipe = tiny(streets, epochs=2, init="$RUNS/first/best.pt")
    monkeypatch.setenv("RUNS", str(tmp_path))
    run(recipe, tmp_path / "run", stop_after=1)
    (tmp_path / "first").rename(tmp_path / "elsewhere")
    assert [record["resumed"] for record in run(recipe, tmp_path / "run")] == [True, False]
    with pytest.raises(FileNotFoundError, match="first"):
        run(recipe, tmp_path / "another")


@pytest.mark.slow
def test_a_run_warns_of_labels_that_changed_since_it_began(tree, tmp_path):
    recipe = tiny(tree, epochs=1)
    run(recipe, tmp_path / "run")
    save(first(tree, "gtFine"), np.full((64, 128), 7, np.uint8))
    with pytest.warns(UserWarning, match="labels of .* changed since the run in .*run began"):
        assert run(recipe, tmp_path / "run")[0]["resumed"]


@pytest.mark.slow
def test_a_run_from_before_a_field_was_there_goes_on(streets, tmp_path):
    recipe = tiny(streets, epochs=2)
    run(recipe, tmp_path, stop_after=1)
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    for name in ("label_smoothing", "optimizer", "precision", "device"):
        del state["recipe"][name]
    del state["classes"], state["training"]["scaler"]
    del state["history"][0]["precision"], state["history"][0]["category_mIoU"]
    torch.save(state, tmp_path / "last.pt")
    assert [record["epoch"] for record in run(recipe, tmp_path)] == [1, 2]


def test_a_checkpoint_with_options_of_a_newer_version_says_so(streets, tmp_path):
    recipe, path = tiny(streets, epochs=1), tmp_path / "last.pt"
    run(recipe, tmp_path)
    state = torch.load(path, weights_only=True)
    state["settings"]["of_tomorrow"] = state["recipe"]["of_tomorrow"] = True
    torch.save(state, path)
    for load in (
        lambda: load_model(path),
        lambda: make_model(dataclasses.replace(recipe, init=str(path))),
        lambda: run(recipe, tmp_path),
    ):
        with pytest.raises(ValueError, match="needs .* version: `of_tomorrow`"):
            load()
    state["recipe"]["degrade"] = state["recipe"].pop("of_tomorrow")  # of an older version
    torch.save(state, path)
    with pytest.raises(ValueError, match="`corrupt` replaces `degrade`.*best.pt"):
        run(recipe, tmp_path)


def test_a_loss_that_is_not_finite_stops_and_leaves_the_last_good_state(streets, tmp_path):
    recipe = tiny(streets, epochs=5)
    run(recipe, tmp_path, stop_after=1)
    good = (tmp_path / "last.pt").read_bytes()
    model = make_model(recipe)
    steps = fit(model, *make_loaders(recipe), recipe, tmp_path)
    next(steps)
    with torch.no_grad():
        model.conv_1x1.weight.fill_(float("inf"))
    with pytest.raises(FloatingPointError, match=r"epoch 2/5.*`lr`.*last\.pt"):
        next(steps)
    assert (tmp_path / "last.pt").read_bytes() == good
    with pytest.raises(FloatingPointError, match="epoch 1/5"):  # before there is a best.pt
        next(fit(model, *make_loaders(recipe), recipe, tmp_path / "first"))
    with pytest.raises(ValueError, match="lr is 0.1 here .*, so that nothing is lost$"):
        run(tiny(streets, lr=0.1, epochs=5), tmp_path / "first")


def test_sixteen_processes_train_on_whole_images_and_batches(streets, tmp_path, monkeypatch):
    for module in (engine.loaders, engine.run, runtime.distributed):
        monkeypatch.setattr(module, "world_size", lambda: 16)
    train, val = make_loaders(tiny(streets, batch_size=16))
    assert [len(images) for images, _ in train] == [1] and len(val) == 1
    with pytest.raises(ValueError, match="batch_size"):  # of less than one each
        make_loaders(tiny(streets, batch_size=15))
    with pytest.raises(ValueError, match="Lovász"):  # needs all of a batch in one process
        run(tiny(streets, batch_size=16, loss="cross_entropy+lovasz"), tmp_path)


def test_a_network_without_classes_gets_those_of_data_that_needs_no_seed(streets, tmp_path):
    loader = make_loader(Cityscapes(streets, "train", downscale=2), 4, True, 0)
    recipe = tiny(streets, epochs=1)
    assert len(list(fit(UNet(width=4, depth=2), loader, loader, recipe, tmp_path))) == 1
    assert load_model(tmp_path / "best.pt").classes == CITYSCAPES


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_weights_that_are_not_finite_are_no_evaluation_whatever_their_layer(streets, precision):
    recipe = tiny(streets)
    model = make_model(recipe)
    with torch.no_grad():
        model.contracting[0][0].weight[0] = float("nan")
    with pytest.raises(FloatingPointError, match="`lr`"):
        evaluate(model, make_loaders(recipe)[1], precision=precision)


def test_evaluation_equals_torchmetrics_at_both_resolutions(streets):
    model = network().eval()
    for downscale_labels in (True, False):
        scenes = Cityscapes(streets, "val", downscale=2, downscale_labels=downscale_labels)
        loader = make_loader(scenes, 2, False, 0)
        smoothed = Loss(label_smoothing=0.3)  # in training alone
        loss, confusion = evaluate(model, loader, smoothed, precision="fp32")
        metric = MulticlassJaccardIndex(19, average="none", ignore_index=255)
        total, pixels = 0.0, 0
        for image, mask in scenes:
            with torch.inference_mode():
                logits = model(image.unsqueeze(0))
            logits = F.interpolate(logits, mask.shape, mode="bilinear")
            truth = mask.unsqueeze(0).long()
            metric.update(logits.argmax(1), truth)
            total += F.cross_entropy(logits, truth, ignore_index=255, reduction="sum").item()
            pixels += (mask != 255).sum().item()
        assert confusion.matrix.sum() == pixels
        assert loss == pytest.approx(total / pixels, rel=1e-5)
        iou = metric.compute().double()
        seen = ~confusion.iou.isnan()
        torch.testing.assert_close(confusion.iou[seen], iou[seen], atol=1e-5, rtol=1e-4)


def test_a_split_is_evaluated_at_the_resolution_that_is_asked_for(streets):
    model = network().eval()
    model.downscale = 2
    for full_resolution in (True, False):
        confusion, figures = engine.evaluate_split(model, streets, full_resolution=full_resolution)
        scenes = Cityscapes(streets, "val", downscale=2, downscale_labels=not full_resolution)
        loss, expected = evaluate(model, make_loader(scenes, 8, False, 0))
        assert torch.equal(confusion.matrix, expected.matrix)
        assert figures["cross_entropy"] == loss
        assert figures["mIoU"] == expected.mean_iou


def test_the_best_the_median_and_the_worst_scene_are_drawn_as_they_were_labelled(streets):
    def accuracy(truth: torch.Tensor, prediction: torch.Tensor) -> float:
        return (prediction == truth)[truth != 255].double().mean().item()

    model, scenes = network(), Cityscapes(streets, "val")
    accuracies = [accuracy(truth, predict(model, image)) for image, truth in scenes]
    expected = sorted(accuracies, reverse=True)[::2]
    found = engine.evaluate_split(model, streets)[1]["accuracies"].values()
    assert [*found] == pytest.approx(accuracies)
    rows = engine.best_median_worst(model, scenes, found)
    for row, best in zip(rows, expected, strict=True):
        title, image, truth, prediction = row
        assert f"{best:.1%}" in title
        assert accuracy(truth, prediction) == pytest.approx(best)
        assert torch.equal(image, scenes[accuracies.index(best)][0])
    for _, image, _, prediction in engine.best_median_worst(model, scenes, found, tta=True):
        assert torch.equal(prediction, predict(model, image, tta=True))

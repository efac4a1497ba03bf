"""The case studies: the command on a small data set, and what is made of its records."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import engine
from dataset import Cityscapes
from engine import Recipe, evaluate, make_loader
from inference import load_model
from model import UNet
from studies import common, figures, labels, labels_report, leave_one_out, report, robustness, study
from studies.common import is_of, mean_of_labelled, read
from studies.study import Run, plan, score
from tests.processes import ROOT, options, python
from tests.test_notebooks import outputs, papermill
from tests.training import network
from utils import ConfusionMatrix

SMALL = {
    "DATA": {"streets": {"epochs": 6, "halve_every": 3, "hold_out": ("kastell",)}},
    "BASE": {"downscale": 1, "width": 2, "depth": 2, "precision": "fp32", "workers": 0},
    "LEARNING_RATES": {"batchnorm": (1e-3, 1e3)},
}


DIES = """
def train(*args):
    for record in common.train(*args):
        yield record
        if args[-1].startswith("2/2"):
            os.kill(os.getpid(), 9)

study.train = train
"""


@pytest.fixture(scope="module")
def killed(streets, tmp_path_factory) -> tuple[Path, list[dict], list[dict], str]:
    """A study killed in its second run: folder, runs after that and at the end, later output."""
    folder = tmp_path_factory.mktemp("study")
    settings = "".join(f"study.{name} = {value!r}; " for name, value in SMALL.items())
    records = f"common.RECORDS = pathlib.Path({str(folder / 'records')!r}); "
    code = f"import os, pathlib; from studies import common, study; {settings}{records}"
    args = "padding", "--seeds", "0", "--streets", streets, "--runs", folder / "runs"
    python("-c", f"{code}{DIES}study.main()", *args, status=-9)
    after_kill = read("padding", folder / "records")
    out = python("-c", f"{code}study.main()", *args).stdout
    assert len([*folder.glob("runs/*")]) == 2  # where the runs were before
    return folder, after_kill, read("padding", folder / "records"), out


@pytest.fixture
def small(killed, monkeypatch, command):
    """The small settings in this process, with the records of `killed`; calls the command."""
    for name, value in SMALL.items():
        monkeypatch.setattr(study, name, value)
    monkeypatch.setattr(common, "RECORDS", killed[0] / "records")
    return partial(command, study.main)


@pytest.mark.slow
def test_after_a_kill_only_the_unfinished_run_goes_on(killed, small, streets, tmp_path):
    _, after_kill, runs, out = killed
    assert [(run["arm"], run["seed"]) for run in runs] == [("same", 0), ("valid", 0)]
    assert after_kill == runs[:1]
    assert "padding on streets, same" not in out
    assert "2/2: padding on streets, valid, seed 0: epoch 6 of 6" in out and "h left" in out
    recipe = Recipe(data_root=str(streets), **study.changes(Run("padding", "streets", "valid", 0)))
    whole = study.perform(recipe, tmp_path, "whole")
    assert {name: whole[name] for name in ("history", "scores")}.items() <= runs[1].items()


@pytest.mark.slow
def test_a_record_holds_recipe_seed_history_scores_machine_and_commit(killed, streets):
    run = killed[2][1]
    assert Run(*(run[key] for key in Run._fields)) == Run("padding", "streets", "valid", 0)
    recipe = Recipe(data_root=str(streets), **run["recipe"])
    assert (recipe.padding, recipe.seed, recipe.precision) == ("valid", 0, "fp32")
    assert [record["epoch"] for record in run["history"]] == list(range(1, 7))
    assert [record["lr"] for record in run["history"]] == [1e-3] * 3 + [5e-4] * 3
    last, found = run["history"][-1], run["scores"]["val"]["all"]
    assert found["val_accuracy"] == last["val_accuracy"] and found["mIoU"] == last["mIoU"]
    assert found["loss"] == pytest.approx(last["val_loss"])
    assert set(run["scores"]) == {"val", "unseen"}
    assert sum(run["frequencies"].values()) == pytest.approx(1)
    assert "cores" in run["machine"] and run["seconds"] >= 0
    assert run["command"].startswith("python -m studies.study padding --seeds 0")
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True)
    assert run["commit"] is None or run["commit"].startswith(head.stdout.decode().strip())


@pytest.mark.slow
def test_a_learning_rate_is_chosen_on_another_seed_and_a_run_of_the_same_recipe_is_not_repeated(
    killed, small, streets, monkeypatch, capsys
):
    def make_model(recipe, classes):  # whose training diverges without batch norm at 1000
        model = engine.make_model(recipe, classes)
        if recipe.lr == 1e3 and not recipe.batch_norm:
            model.conv_1x1.weight.data.fill_(torch.nan)
        return model

    monkeypatch.setattr(study, "make_model", make_model)
    small("batchnorm", "--seeds", 0, "--streets", streets, "--runs", killed[0] / "runs")
    runs = read("batchnorm", common.RECORDS)
    tried = [(run["arm"], run["tried"], run["seed"]) for run in runs if run["tried"]]
    assert tried == [(arm, lr, 100) for arm in ("with", "without") for lr in (1e-3, 1e3)]
    with monkeypatch.context() as patch:
        patch.setitem(study.VERSIONS, "streets", 3)
        with pytest.raises(SystemExit, match="runs on version 2 of streets"):
            small("loss", "--seeds", 0, "--streets", streets, "--runs", killed[0] / "runs")
    wild = next(run for run in runs if (run["arm"], run["tried"]) == ("without", 1e3))
    assert wild["scores"] is None and "epoch 1/6" in wild["diverged"]
    counted = {run["arm"]: run for run in runs if run["seed"] == 0}
    best = {run["tried"]: run["scores"]["val"]["all"]["mIoU"] for run in runs[:2] if run["scores"]}
    assert counted["with"]["recipe"]["lr"] == max(best, key=best.get)
    assert counted["without"]["recipe"]["lr"] == 1e-3
    assert "| without | 100 | 1000, tried | diverged |" in report.all_runs(runs)

    capsys.readouterr()
    small("loss", "--seeds", 0, "--streets", streets, "--runs", killed[0] / "runs")
    assert "cross-entropy, seed 0" not in capsys.readouterr().out
    same = {"study": "loss", "arm": "cross-entropy"}
    assert read("loss", common.RECORDS)[0] == {**killed[2][0], **same}


def test_seed_0_of_all_arms_comes_first_and_every_run_differs_in_its_arm_alone(command):
    runs = plan(["padding", "loss", "augmentation", "batchnorm"], [0, 1, 2])
    counted = [run for run in runs if run.tried is None]
    assert [run.seed for run in counted] == sorted(run.seed for run in counted)
    assert len(counted) == 3 * 2 * (2 + 5 + 5 + 2) and len(set(runs)) == len(runs)
    tries = [run for run in runs if run.tried is not None]
    assert len(tries) == 12 and {run.seed for run in tries} == {100}
    for data in ("camvid", "streets"):
        first = runs.index(Run("batchnorm", data, "with", 0))
        assert all(runs.index(run) < first for run in tries if run.data == data)
    setting = {*study.BASE, "epochs", "halve_every", "hold_out", "seed"}
    for run in counted:
        if run.study != "batchnorm":
            arm = study.STUDIES[run.study][run.arm]
            changed = {k: v for k, v in study.changes(run).items() if k not in setting}
            assert changed == {**arm, **({"crop": study.CROPS[run.data]} if "scale" in arm else {})}
            Recipe(data_root="x", **study.changes(run))  # is accepted
    with pytest.raises(SystemExit, match="seed 100 chose"):  # and is not counted
        command(study.main, "batchnorm", "--seeds", "100")


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_inner_pixels_are_those_that_valid_padding_sees_without_reflection(streets, padding):
    model = UNet(width=2, depth=1, padding=padding).eval()
    recipe = Recipe(data_root=str(streets), width=2, depth=1, padding=padding, precision="fp32")
    scenes, inner = Cityscapes(streets, "val"), slice(8, -8)
    counts = {"all": ConfusionMatrix(19), "inner": ConfusionMatrix(19)}
    with torch.inference_mode():
        for image, labels in scenes:
            counts["all"].update(labels, model(image[None], full_image=True).argmax(1)[0])
            seen = model(image[None]).argmax(1)[0]  # of `valid`, what it sees
            seen = seen if padding == "valid" else seen[inner, inner]
            counts["inner"].update(labels[inner, inner], seen)
    found = score(model, scenes, recipe)
    accuracies = {name: confusion.pixel_accuracy for name, confusion in counts.items()}
    for name, accuracy in accuracies.items():
        assert found[name]["val_accuracy"] == pytest.approx(accuracy, abs=1e-3)
    assert accuracies["all"] != pytest.approx(accuracies["inner"], abs=3e-3)


def test_a_class_without_labels_that_is_predicted_somewhere_is_not_in_the_mean():
    confusion = ConfusionMatrix(4)
    confusion.update(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 2, 1, 1]))
    assert mean_of_labelled(confusion) == 0.75 and confusion.mean_iou == 0.5


@pytest.mark.slow
def test_leave_one_out_trains_without_each_city_once(streets, tmp_path, monkeypatch, command):
    monkeypatch.setattr(common, "RECORDS", tmp_path)
    monkeypatch.chdir(tmp_path)
    args = options(data_root=streets, downscale=2)
    command(leave_one_out.main, *args)
    (line,) = read("leave-one-out")
    cities = {image.split("/")[-2] for image in Cityscapes(streets).images}
    assert set(line["mIoU"]) == cities and len(cities) == 6
    assert line["mean"] == pytest.approx(sum(line["mIoU"].values()) / 6, abs=1e-3)
    assert line["recipe"].items() >= {"width": 2, "depth": 1, "epochs": 1}.items()
    for city in cities:
        (run,) = (tmp_path / "runs" / "leave-one-out").glob(f"*-{city}")
        scenes = Cityscapes(streets, cities=[city], downscale=2, downscale_labels=False)
        assert len(scenes) > 1  # all of them are evaluated at the end
        model, loader = load_model(run / "last.pt"), make_loader(scenes, 8, False)
        _, confusion = evaluate(model, loader)
        assert line["accuracy"][city] == pytest.approx(confusion.pixel_accuracy, abs=1e-3)
        assert line["mIoU"][city] == pytest.approx(mean_of_labelled(confusion), abs=1e-3)
    with pytest.raises(SystemExit, match="already"):
        command(leave_one_out.main, *args)
    record = tmp_path / "leave-one-out.jsonl"  # as if of a data set without that city
    record.write_text(record.read_text().replace(f'"{min(cities)}"', '"elsewhere"'))
    monkeypatch.setattr(leave_one_out, "run_fold", lambda *_: sys.exit("trains"))
    with pytest.raises(SystemExit, match="trains"):
        command(leave_one_out.main, *args)


@pytest.mark.parametrize("recorded", [{}, {"crop_area": [0.25, 1.0], "crop_start": 1.0}])
def test_a_record_of_other_fields_is_the_recipes_if_they_have_their_defaults(recorded):
    recipe = Recipe(data_root="x", width=8)
    assert is_of({"width": 8, **recorded}, recipe)
    assert not is_of({"width": 9, **recorded}, recipe)
    assert not is_of({"width": 8, **recorded, "crop_area": [0.7, 1.0]}, recipe)


@pytest.mark.slow
def test_every_recorded_run_is_of_the_recipe_that_its_study_would_train():
    for run in (run for name in study.STUDIES for run in read(name)):
        fields = study.changes(Run(*(run[key] for key in Run._fields)))
        assert is_of(run["recipe"], Recipe(**fields)), (run["study"], run["arm"], run["seed"])


def test_a_held_out_city_is_not_trained_on_and_no_image_is_lost(streets):
    whole = Cityscapes(streets, "train").images
    without = Cityscapes(streets, "train", hold_out=["kastell"]).images
    alone = Cityscapes(streets, "train", cities=["kastell"]).images
    assert sorted(without + alone) == sorted(whole) and alone
    with pytest.raises(ValueError, match="no city atlantis"):
        Cityscapes(streets, "train", hold_out=["atlantis"])


@pytest.mark.slow
def test_each_corruption_changes_the_image_and_is_compared_with_clean_ones(streets, monkeypatch):
    image = torch.randint(40, 200, (3, 40, 60), dtype=torch.uint8)
    for name, corrupt in robustness.CORRUPTIONS.items():
        torch.manual_seed(0)
        got = corrupt(image)
        assert got.dtype == torch.uint8
        assert (got.shape == image.shape) != name.startswith("scale")
        assert name.startswith("scale") or torch.equal(got, image) == (name == "clean"), name
    chosen = {name: robustness.CORRUPTIONS[name] for name in ("clean", "fog 40 %", "scale 0.5")}
    monkeypatch.setattr(robustness, "CORRUPTIONS", chosen)
    found = robustness.measure(network(), streets)
    assert [*robustness.relative(found)] == ["fog 40 %", "scale 0.5"]
    assert len(robustness.plot([{"checkpoint": "x.pt", "found": found}]).axes[0].patches) == 2


def test_the_study_of_labels_has_a_row_for_each_arm_and_a_point_for_each_run():
    runs = []
    for run in labels.plan([0, 1, 2]):
        iou = dict.fromkeys([*labels_report.CLASSES, "truck"], 0.4 + 0.01 * run.seed)
        found = {"iou": iou, "accuracy": 0.8} if (run.count, run.start) != (0, "random") else {}
        runs.append({**run._asdict(), **found, "fills": 30 if run.start == "streets" else None})
    rows = labels_report.table(runs).splitlines()[2:]
    assert "| 0 | no network | none |  |  |  |  |  |" in rows
    assert "| 0 | streets | none |  | 1 | 40.0 | 80.0 | 30 |" in rows
    assert "| 266 | random | at random | 100% | 3 | 41.0 ± 1.0 | 80.0 |  |" in rows
    assert len(rows) == 2 + 2 * len(labels.COUNTS) + 3
    miou, _ = labels_report.plot(runs).axes
    assert len(miou.collections) == 2 * len(labels.COUNTS)
    assert all(len(points.get_offsets()) == 3 for points in miou.collections)


def entry(name: str, arm: str, seed: int, data: str = "camvid", **fields) -> dict:
    """A record whose numbers follow from the seed and the arm."""
    value = 0.5 + 0.01 * seed + 0.03 * list(study.STUDIES[name]).index(arm)
    iou = {"road": value + 0.3, "pole": value - 0.4, "bus": None}
    found = {"val_accuracy": value, "mIoU": value - 0.05, "loss": 1 - value, "iou": iou}
    history = [
        {"epoch": epoch, "train_loss": 1 / epoch - 0.01 * seed, "val_loss": 1.2 / epoch}
        | {"val_accuracy": value - 0.1 / epoch, "precision": "fp32"}
        for epoch in (1, 2, 3)
    ]
    return {
        **{"study": name, "data": data, "arm": arm, "seed": seed, "tried": None},
        "frequencies": {"road": 0.99, "pole": 0.01, "bus": 0.0},
        "history": history,
        "scores": {"val": {"all": found, "inner": found}, "unseen": {"all": found}},
        **{"seconds": 60, "recipe": {"lr": 1e-3}, "machine": "a machine", "commit": "abc"},
        **fields,
    }


def all_arms(name: str, seeds=(0, 1, 2), **fields) -> list[dict]:
    return [entry(name, arm, seed, **fields) for arm in study.STUDIES[name] for seed in seeds]


def test_the_quantiles_are_those_of_students_t():
    stats = pytest.importorskip("scipy.stats")
    assert report.T975 == pytest.approx(stats.t.ppf(0.975, range(1, 10)), abs=1e-4)


@pytest.mark.parametrize(
    ("numbers", "cell"),
    [
        ([0.05, 0.05, 0.06], "5.33 ± 0.58 (**+5.33; +3.90 to +6.77**)"),
        ([-0.05, -0.05, -0.06], "-5.33 ± 0.58 (**-5.33; -6.77 to -3.90**)"),
        ([0.01, 0.02, -0.01], "0.67 ± 1.53 (+0.67; -3.13 to +4.46)"),
        ([0.01], "1.00 (+1.00)"),  # one difference has no interval
        ([], "-"),
    ],
)
def test_only_a_difference_whose_interval_is_without_zero_is_bold(numbers, cell):
    first = dict.fromkeys([0, 1, 2, 7], 0.0)  # of seeds that the other has not, too
    assert report.cell(first, dict(enumerate(numbers)), "mIoU") == cell


def test_the_table_has_means_spreads_and_differences_paired_by_seed_and_precision():
    runs = all_arms("padding")
    _, _, same, valid = report.table("padding", "camvid", runs).splitlines()
    assert same.startswith("| same | 0 1 2 | 51.00 ± 1.00 | 46.00 ± 1.00 | 46.00 ± 1.00 | 51.00 ±")
    assert valid.startswith("| valid | 0 1 2 | 54.00 ± 1.00 (**+3.00; +3.00 to +3.00**) |")
    assert report.table("padding", "streets", runs) == ""
    for run in runs[:2]:  # of `same`, seeds 0 and 1
        run["history"][0]["precision"] = "bf16"
    assert "| 54.00 ± 1.00 (+3.00) |" in report.table("padding", "camvid", runs)  # of seed 2 alone


def test_small_classes_are_averaged_apart_from_the_others_and_absent_ones_left_out():
    value, found = 0.5 + 0.01 + 0.09, report.measure(entry("loss", "+ Dice", 1))
    assert found["mIoU, classes below 2 %"] == pytest.approx(value - 0.4)
    assert found["mIoU, the others"] == pytest.approx(value + 0.3)


@pytest.mark.parametrize("name", study.STUDIES)
def test_nothing_counts_but_finished_runs(name):
    first = next(iter(study.STUDIES[name]))
    lost = [entry(name, first, 0, scores=None), entry(name, first, 100, tried=1e-3)]
    for runs in ([], lost):
        assert figures.figure(name, runs) is None
        assert f"No run counts yet: `python -m studies.study {name}`" in report.tables(name, runs)
    some = [*lost, entry(name, first, 1)]
    assert f"| {first} | 1 |" in report.tables(name, some)
    assert figures.figure(name, some) is not None


def test_iou_is_drawn_from_the_rarest_class_to_the_most_frequent():
    (ax,) = figures.figure("loss", all_arms("loss")).axes
    assert [t.get_text() for t in ax.get_xticklabels()] == ["pole 1.00%", "road 99.00%"]
    points = {bars.get_label(): bars for bars in ax.containers}["median frequency (3 seeds)"]
    x, y = points.lines[0].get_data()
    assert [round(value) for value in x] == [0, 1]
    assert list(y) == pytest.approx([0.54 - 0.4, 0.54 + 0.3])
    low, high = points.lines[2][0].get_segments()[0][:, 1]
    np.testing.assert_allclose([low, high], [0.14 - 0.01, 0.14 + 0.01])  # standard deviation


def test_overfitting_is_drawn_as_both_losses_and_the_miou_on_both_videos():
    train, val, bars = figures.figure("augmentation", all_arms("augmentation")).axes
    for ax, expected in ((train, [0.99, 0.49, 1 / 3 - 0.01]), (val, [1.2, 0.6, 0.4])):
        (line,) = (line for line in ax.lines if line.get_label() == "flip (3 seeds)")
        np.testing.assert_allclose(line.get_ydata(), expected)
    heights = [patch.get_height() for patch in bars.patches]
    np.testing.assert_allclose(heights, 2 * [0.46 + 0.03 * i for i in range(5)])


@pytest.mark.slow
def test_the_notebook_tells_what_is_on_record_and_what_is_not(tmp_path):
    lines = "".join(json.dumps(run) + "\n" for run in all_arms("padding", seeds=(0, 1)))
    (tmp_path / "padding.jsonl").write_text(lines)
    text = outputs(papermill("studies.ipynb", tmp_path, records=tmp_path))
    assert text.count("image/png") == 1
    assert "| CamVid | same | 0 | 0.001 |" in text
    assert text.count("No run counts yet") == 4  # of the other studies
    assert "53.50 \\u00b1 0.71" in text  # of 0.53 and 0.54

"""What chooses and judges recipes, the soak, and what measures a GPU, without one."""

import json
import sys

import pytest
import torch

from bench import gpu, leave_one_out, robustness, soak
from dataset import Cityscapes
from engine import evaluate, make_loader
from inference import load_model
from utils import IGNORE_INDEX

pytestmark = pytest.mark.slow


def test_leave_one_out_trains_without_each_city_and_records_a_run_once(
    streets, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(leave_one_out, "RECORD", tmp_path / "record.jsonl")
    monkeypatch.chdir(tmp_path)
    fields = {"data_root": streets, "width": 2, "depth": 1, "epochs": 1}  # downscale 2
    command = ["x", *(f"--{name}={value}" for name, value in fields.items()), "--workers=0"]
    monkeypatch.setattr(sys, "argv", command)
    leave_one_out.main()
    (line,) = map(json.loads, (tmp_path / "record.jsonl").read_text().splitlines())
    cities = {image.split("/")[-2] for image in Cityscapes(streets).images}
    assert set(line["mIoU"]) == cities and len(cities) == 6
    assert line["mean"] == pytest.approx(sum(line["mIoU"].values()) / 6, abs=1e-3)
    assert line["run"] == {"file": None, "width": 2, "depth": 1, "epochs": 1}
    for city in cities:
        (run,) = (tmp_path / "runs" / "leave-one-out").glob(f"*-{city}")
        scenes = Cityscapes(streets, cities=[city], downscale=2, downscale_labels=False)
        assert len(scenes) > 1  # all of them are judged at the end
        _, confusion = evaluate(load_model(run / "last.pt"), make_loader(scenes, 8, False))
        assert line["accuracy"][city] == pytest.approx(confusion.pixel_accuracy, abs=1e-3)
    with pytest.raises(SystemExit, match="already"):
        leave_one_out.main()


def test_a_held_out_city_is_not_trained_on_and_no_image_is_lost(streets):
    whole = Cityscapes(streets, "train").images
    without = Cityscapes(streets, "train", hold_out=["kastell"]).images
    alone = Cityscapes(streets, "train", cities=["kastell"]).images
    assert sorted(without + alone) == sorted(whole) and alone
    with pytest.raises(ValueError, match="no city atlantis"):
        Cityscapes(streets, "train", hold_out=["atlantis"])


def test_corruptions_keep_the_image_uint8_and_change_it():
    image = torch.randint(40, 200, (3, 40, 60), dtype=torch.uint8)
    for name, corrupt in robustness.CORRUPTIONS.items():
        torch.manual_seed(0)
        got = corrupt(image)
        assert got.dtype == torch.uint8
        assert (got.shape == image.shape) != name.startswith("scale")
        assert name.startswith("scale") or torch.equal(got, image) == (name == "clean"), name


def test_robustness_measures_every_corruption_against_the_clean_images(streets, monkeypatch):
    some = ("clean", "fog 40 %", "scale 0.5")
    chosen = {name: robustness.CORRUPTIONS[name] for name in some}
    monkeypatch.setattr(robustness, "CORRUPTIONS", chosen)
    model = load_model("checkpoints/streets.pt")
    model.downscale = 1
    found = robustness.measure(model, streets)
    assert set(found) == set(some)
    scenes = Cityscapes(streets, "val")
    assert any((labels != IGNORE_INDEX).any() for _, labels in scenes)
    shares = robustness.relative(found)
    assert set(shares) == {"fog 40 %", "scale 0.5"}
    run = {"checkpoint": "streets.pt", "found": found}
    assert len(robustness.plot({"a": run, "b": run}).axes[0].patches) == 4


def test_the_gpus_benchmark_refuses_clearly_where_there_is_none(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["bench.gpu"])
    with pytest.raises(SystemExit, match="NVIDIA GPU.*none here"):
        gpu.main()


def test_the_gpus_benchmark_takes_turns_and_writes_a_row_for_each(monkeypatch):
    two = [("ours", gpu.Mode(channels_last=True)), ("baseline", gpu.Mode(tf32=True))]
    monkeypatch.setattr(gpu, "contenders", lambda fast: two)
    setting = gpu.Setting(torch.device("cpu"), batch=2, width=2, size=(32, 32), warm_up=1, steps=1)
    rows = [line.split(" | ") for line in gpu.measure(setting, 1, "fp32", 32) if "TFLOP/im" in line]
    assert [row[1] for row in rows] == ["fp32, channels-last", "TF32"]
    assert all(float(row[2]) > 0 for row in rows)
    assert rows[0][0].split("(")[1] == rows[1][0].split("(")[1]  # the same work


def test_the_gpus_table_has_rates_and_shares_by_hand_and_says_what_did_not_fit():
    found = {
        ("ours", gpu.Mode("bf16", compiled=True)): [(10.0, 2**31), (12.0, 2**30), (11.0, 2**30)],
        ("smp", gpu.Mode()): [None, None, None],
    }
    counts = {"ours": (2_000_000, 2 * 10**12), "smp": (1_000_000, 10**12)}
    ours, smp = gpu.table(found, counts, 44e12)[2:]
    assert ours == ("| ours (2.0 M, 2 TFLOP/image) | bf16, compiled | 11 | 22 | 50% | 2.0 GiB |")
    assert "| fp32 | out of memory |" in smp


def test_a_contender_that_lacks_memory_says_so(monkeypatch):
    def too_much(*args):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(gpu, "our_steps", lambda *args: too_much)
    for name in ("benchmark", "allow_tf32"):  # which `prepare` sets, for its process
        monkeypatch.setattr(torch.backends.cudnn, name, False)
    setting = gpu.Setting(torch.device("cpu"), batch=1, width=2, size=(32, 32))
    assert gpu.prepare("ours", gpu.Mode(), setting)() is None


@pytest.mark.parametrize(("fast", "rows"), [("fp32", 6), ("fp16", 13), ("bf16", 13)])
def test_the_gpus_benchmark_measures_what_the_card_is_fast_in(fast, rows):
    modes = gpu.contenders(fast)
    assert len(modes) == len({f"{name} {mode}" for name, mode in modes}) == rows
    assert {mode.precision for _, mode in modes} == {"fp32", fast}


def test_a_soak_finds_memory_and_handles_that_grow():
    flat = [soak.Sample((800 + i % 9, 400), (30, 9)) for i in range(100)]
    found = soak.judge(flat)
    assert found["memory flat"] and found["handles flat"]
    leak = [one._replace(memory=(800, 400 + i // 9)) for i, one in enumerate(flat)]
    assert not soak.judge(leak)["memory flat"]  # 2 % of one process, 1 % of both
    assert not soak.judge([*flat[:-1], flat[-1]._replace(handles=(31, 9))])["handles flat"]
    warming = [one._replace(memory=(100, 50)) if i < 10 else one for i, one in enumerate(flat)]
    assert soak.judge(warming)["memory flat"]


def test_a_soak_counts_steps_and_sees_the_workers_and_the_cache(tmp_path):
    found = soak.soak(tmp_path, steps=6, scenes=4)
    assert (found["steps"], found["epochs"]) == (6, 3)
    # At least its own four: other tests of this process may have left workers.
    assert len(found["MB of its workers"]) >= 4 and len(found["handles"]) >= 5
    assert found["files in the cache"] == 14 and found["cache unchanged"]

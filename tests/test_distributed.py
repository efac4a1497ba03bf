"""Training on several processes, each a real one, that torchrun starts: Gloo on this CPU."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import SequentialSampler

from engine import Loss, Recipe, Trainer, evaluate, make_loaders, make_model, train_one_epoch
from inference import load_model
from runtime import distributed
from runtime.distributed import DistributedBatchSampler, all_reduce_sum, unwrap, wrap_model
from tests import training
from tests.processes import ROOT, python, wait_for
from tests.samples import cut

FIELDS = {"downscale": 2, "width": 4, "depth": 2, "workers": 0}
TINY = ["--recipe=recipes/streets.yaml", *(f"--{name}={value}" for name, value in FIELDS.items())]
FIELDS |= {"batch_norm": False, "batch_size": 5}
VARIABLES = {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}


def command(processes: int, *args, restarts: int = 0) -> list[str]:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    start += [f"--max-restarts={restarts}", f"--nproc-per-node={processes}", "--"]
    return [*start, *map(str, args)]


def launch(processes: int, *args, **options) -> subprocess.CompletedProcess:
    return python(*command(processes, *args)[1:], **VARIABLES, **options)


def train(streets: Path, run: Path, *args) -> list[str]:
    return ["train.py", *TINY, f"--data_root={streets}", f"--run={run}", *args]


def history(run: Path) -> list[dict]:
    path = run / "history.json"
    records = json.loads(path.read_text()) if path.exists() else []
    return [{**record, "seconds": 0} for record in records]


def take_steps(streets: str) -> dict:
    """Train two epochs with each loss, batches whole and in parts; returns what came of it.

    By plain gradient descent, which shows a difference between gradients as it is: Adam blows up
    the rounding of those near 0.
    """
    found = {}
    for loss, parts in (("cross_entropy", 1), ("cross_entropy+dice", 1), ("cross_entropy", 2)):
        recipe = Recipe(data_root=streets, **FIELDS)
        train, val = make_loaders(recipe)
        val.batch_sampler.batch_size = 2  # three batches of the five images
        model = make_model(recipe)
        net = wrap_model(model, "fp32")
        before = evaluate(model, val, Loss(loss), precision="fp32")
        optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)
        schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
        reduced = Loss(loss, reduce=all_reduce_sum)
        trainer = Trainer(net, reduced, optimizer, schedule, accumulate=parts)
        means = []
        for epoch in (1, 2):
            train.dataset.set_epoch(epoch)
            train.batch_sampler.sampler.generator.manual_seed(epoch)
            means += train_one_epoch(trainer, train)
        found[f"{loss} in {parts}"] = {
            "means": [*means, before[0]],
            "matrix": before[1].matrix,
            "model": unwrap(net).state_dict(),
        }
    return found


def go_on(streets: str | Path, folder: str | Path, epoch: int) -> None:
    """Train the run in a folder until this epoch."""
    recipe = Recipe(data_root=str(streets), **FIELDS, epochs=3, precision="fp32")
    training.run(recipe, Path(folder), epoch)


STEPS = """
import sys, torch
from runtime.distributed import is_main, process_group
from test_distributed import go_on, take_steps

streets, result, run = sys.argv[1:]
with process_group():
    found = take_steps(streets)
    if is_main():
        torch.save(found, result)
    if run:
        go_on(streets, run, 2)
"""


@pytest.mark.slow
def test_two_and_three_processes_take_the_steps_of_one_and_go_on_with_its_run(streets, tmp_path):
    (tmp_path / "steps.py").write_text(STEPS)
    one, whole, moved = take_steps(str(streets)), tmp_path / "whole", tmp_path / "moved"
    go_on(streets, whole, 3)
    go_on(streets, moved, 1)
    for processes, run in ((2, ""), (3, moved)):
        # 12 images, batches of 5, 5 and 2: the third process has no part of the last.
        result = tmp_path / f"{processes}.pt"
        launch(processes, tmp_path / "steps.py", streets, result, run)
        for loss, found in torch.load(result, weights_only=True).items():
            assert torch.equal(found["matrix"], one[loss]["matrix"])
            assert found["means"] == pytest.approx(one[loss]["means"], rel=1e-5)
            for name, value in one[loss]["model"].items():
                torch.testing.assert_close(found["model"][name], value, atol=1e-5, rtol=0)
    # A run goes on with another number of processes, and with one again.
    assert [record["epoch"] for record in history(moved)] == [1, 2]
    go_on(streets, moved, 3)
    whole, moved = history(whole), history(moved)
    assert [record["epoch"] for record in moved] == [1, 2, 3]
    assert moved[0] == whole[0]
    for name in ("lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy"):
        assert [r[name] for r in moved] == pytest.approx([r[name] for r in whole], rel=1e-3)


LONG = "--epochs=6", "--width=8", "--depth=3"


@pytest.fixture(scope="module")
def undisturbed(streets, tmp_path_factory) -> tuple[Path, str]:
    """A run by two processes, and what it printed."""
    run = tmp_path_factory.mktemp("runs") / "undisturbed"
    return run, launch(2, *train(streets, run, *LONG)).stdout


@pytest.mark.slow
def test_only_the_main_process_prints_and_writes(undisturbed):
    run, printed = undisturbed
    assert printed.count("12 images") == printed.count(str(run)) == 1
    assert re.findall(r"^epoch +(\d)", printed, re.MULTILINE) == [*"123456"]
    assert len(history(run)) == 6
    assert load_model(run / "best.pt").settings["width"] == 8


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for the workers in /proc")
def test_a_process_killed_in_an_epoch_is_restarted_without_a_loss(streets, undisturbed, tmp_path):
    killed, env = tmp_path / "killed", {**os.environ, **VARIABLES}
    args = command(2, *train(streets, killed, *LONG), restarts=1)
    process = subprocess.Popen(args, stdout=subprocess.PIPE, text=True, env=env, cwd=ROOT)
    wait_for(lambda: history(killed), 300)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(workers[-1]), signal.SIGKILL)
    done = len(history(killed))
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0 and 1 <= done < 6
    assert output.count("12 images") == 2
    assert history(killed) == history(undisturbed[0])


@pytest.mark.slow
def test_a_process_that_fails_ends_all_with_its_message(tree, tmp_path):
    broken = sorted(tree.glob("leftImg8bit/val/*/*.png"))[2]
    cut(broken, 0.1)  # in the second batch, which rank 1 reads
    out = launch(2, *train(tree, tmp_path / "run", "--batch_size=2", "--cache=null"), status=1)
    report = out.stderr.split("train.py FAILED")[1]  # of both, where they end at the same time
    failure = report.split("rank      : 1 (local_rank: 1)")[1]
    assert f"ValueError: {broken}" in failure.split("rank      :")[0]
    assert "epoch" not in out.stdout


@pytest.mark.parametrize("images", [12, 10, 1])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_the_batches_of_one_process_are_divided_among_all(images, processes, monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: processes)
    parts = {}
    for train in (True, False):
        parts[train] = []
        for rank in range(processes):
            monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
            sampler = DistributedBatchSampler(SequentialSampler(range(images)), 4, train)
            parts[train].append(list(sampler))
            assert len(sampler) == len(parts[train][-1])
    batches = [list(range(i, min(i + 4, images))) for i in range(0, images, 4)]
    together = [sorted(sum(each, [])) for each in zip(*parts[True], strict=True)]
    assert together == batches  # as many steps in each process, and each image in its own batch
    assert sorted(sum(parts[False], [])) == batches  # whole, and each once

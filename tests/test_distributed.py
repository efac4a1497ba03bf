"""Training on several processes, each a real one, that torchrun starts: Gloo on this CPU."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from model import load_model

ROOT = Path(__file__).resolve().parent.parent
TINY = ["--recipe=recipes/streets.yaml", "--downscale=1", "--width=4", "--depth=2", "--workers=0"]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def command(processes: int, *args, restarts: int = 0) -> list[str]:
    """Under torchrun, or as it is for 0 processes."""
    start = [sys.executable]
    if processes:
        start += ["-m", "torch.distributed.run", "--standalone", f"--max-restarts={restarts}"]
        start += [f"--nproc-per-node={processes}", "--"]
    return [*start, *map(str, args)]


def launch(processes: int, *args) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(processes, *args),
        capture_output=True,
        text=True,
        timeout=400,
        env=environment(),
        cwd=ROOT,
    )


def train(streets: Path, run: Path, *args) -> list[str]:
    return ["train.py", *TINY, f"--data_root={streets}", f"--run={run}", *args]


def history(run: Path) -> list[dict]:
    path = run / "history.json"
    records = json.loads(path.read_text()) if path.exists() else []
    return [{**record, "seconds": 0} for record in records]


# Trains two epochs by plain gradient descent, which shows a difference between gradients as it is
# (Adam blows up the rounding of those near 0). Each process saves what it has; one is looked at.
STEPS = """
import sys, torch
from distributed import is_main, parallel, process_group
from engine import evaluate, train_one_epoch, unwrap
from recipe import Recipe, make_loaders, make_model

root, result = sys.argv[1:]
cpu = torch.device("cpu")
found = {}
with process_group():
    for loss in ("cross_entropy", "cross_entropy+dice"):
        recipe = Recipe(
            root, downscale=1, width=4, depth=2, batch_norm=False, batch_size=5, workers=0
        )
        train, val = make_loaders(recipe)
        val.batch_sampler.batch_size = 2  # three batches of the five images
        net = parallel(make_model(recipe))
        before = evaluate(net, val, cpu, loss)
        optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)
        schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
        means = []
        for epoch in (1, 2):
            train.dataset.set_epoch(epoch)
            train.batch_sampler.sampler.generator.manual_seed(epoch)
            means += train_one_epoch(net, train, optimizer, schedule, cpu, loss)
        found[loss] = {
            "means": [*means, before[0]],
            "matrix": before[1].matrix,
            "model": unwrap(net).state_dict(),
        }
    if is_main():
        torch.save(found, result)
"""


def test_two_and_three_processes_take_the_steps_of_one_and_judge_as_one(streets, tmp_path):
    (tmp_path / "steps.py").write_text(STEPS)
    results = []
    for processes in (0, 2, 3):  # 12 images, batches of 5, 5 and 2: the last share is empty
        out = launch(processes, tmp_path / "steps.py", streets, tmp_path / "result.pt")
        assert out.returncode == 0, out.stderr
        results.append(torch.load(tmp_path / "result.pt", weights_only=True))
    one, *several = results
    for other in several:
        for loss, expected in one.items():
            found = other[loss]
            assert torch.equal(found["matrix"], expected["matrix"])
            assert found["means"] == pytest.approx(expected["means"], rel=1e-5)
            for name, value in expected["model"].items():
                torch.testing.assert_close(found["model"][name], value, atol=1e-5, rtol=0)


def test_only_the_main_process_prints_and_writes(streets, tmp_path):
    out = launch(2, *train(streets, tmp_path / "run", "--epochs=2", "--workers=2"))
    assert out.returncode == 0, out.stderr
    assert out.stdout.count("12 images to train on") == 1
    assert out.stdout.count("epoch   2") == 1
    assert out.stdout.count("best and last checkpoint") == 1
    assert len(history(tmp_path / "run")) == 2
    assert load_model(tmp_path / "run" / "best.pt").settings["width"] == 4


def children(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the workers in /proc")
def test_a_worker_killed_in_mid_epoch_is_restarted_and_nothing_is_lost(streets, tmp_path):
    args = "--epochs=4", "--width=8", "--depth=3"
    out = launch(2, *train(streets, tmp_path / "whole", *args))
    assert out.returncode == 0, out.stderr
    process = subprocess.Popen(
        command(2, *train(streets, tmp_path / "killed", *args), restarts=1),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        cwd=ROOT,
    )
    deadline = time.monotonic() + 300
    while not history(tmp_path / "killed") and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(children(process.pid)[-1], signal.SIGKILL)
    done = len(history(tmp_path / "killed"))
    output, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors
    assert 1 <= done < 4
    assert output.count("12 images to train on") == 2
    assert history(tmp_path / "killed") == history(tmp_path / "whole")


# Goes on with a run for one epoch.
ONE_EPOCH = """
import sys
from distributed import process_group
from engine import fit
from recipe import Recipe, make_loaders, make_model

root, run, done = sys.argv[1:]
recipe = Recipe(
    root, downscale=1, width=4, depth=2, batch_norm=False, batch_size=5, workers=0, epochs=3
)
with process_group():
    for record in fit(make_model(recipe), *make_loaders(recipe), recipe, run):
        if record["epoch"] == int(done):
            break
"""


def test_a_run_goes_on_with_another_number_of_processes(streets, tmp_path):
    (tmp_path / "one_epoch.py").write_text(ONE_EPOCH)
    for processes, done, run in (
        (0, 3, "whole"),
        (0, 1, "moved"),
        (3, 2, "moved"),
        (0, 3, "moved"),
    ):
        out = launch(processes, tmp_path / "one_epoch.py", streets, tmp_path / run, done)
        assert out.returncode == 0, out.stderr
    whole, moved = history(tmp_path / "whole"), history(tmp_path / "moved")
    assert [record["epoch"] for record in moved] == [1, 2, 3]
    assert moved[0] == whole[0]
    for name in ("lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy"):
        assert [r[name] for r in moved] == pytest.approx([r[name] for r in whole], rel=1e-3)


def test_a_process_that_fails_ends_all_with_its_message(streets, tmp_path):
    shutil.copytree(streets, tmp_path / "data")
    broken = sorted((tmp_path / "data").glob("leftImg8bit/val/*/*.png"))[2]
    broken.write_bytes(broken.read_bytes()[:300])  # in the second batch, which rank 1 reads
    out = launch(2, *train(tmp_path / "data", tmp_path / "run", "--batch_size=2"))
    assert out.returncode == 1
    cause = out.stderr.split("Root Cause")[1]
    assert "rank      : 1 (local_rank: 1)" in cause
    assert f"ValueError: {broken}" in cause
    assert "epoch" not in out.stdout


def test_more_processes_than_images_a_batch_are_refused(streets, tmp_path):
    out = launch(2, *train(streets, tmp_path / "run", "--batch_size=1"))
    assert out.returncode == 1
    assert "a batch of 1 images is too small for 2 processes: raise batch_size" in out.stderr

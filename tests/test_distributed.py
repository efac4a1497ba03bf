"""Training on several processes, each a real one, that torchrun starts: Gloo on this CPU."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from checkpoint import load_checkpoint

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


def train(processes: int, streets: Path, run: Path, *args) -> list[dict]:
    out = launch(processes, "train.py", *TINY, f"--data_root={streets}", f"--run={run}", *args)
    assert out.returncode == 0, out.stderr
    return json.loads((run / "history.json").read_text())


def without_seconds(history: list[dict]) -> list[dict]:
    return [{**record, "seconds": 0} for record in history]


# Each process of `STEPS` trains two epochs by plain gradient descent, which shows a difference
# between gradients as it is (Adam blows up the rounding of those near 0), and then evaluates.
STEPS = """
import sys, torch
from distributed import is_main, process_group
from engine import evaluate, parallel, train_one_epoch, unwrap
from recipe import Recipe, make_loaders, make_model

root, result, *loss = sys.argv[1:]
recipe = Recipe(root, downscale=1, width=4, depth=2, batch_norm=False, batch_size=5, workers=0)
with process_group():
    train, val = make_loaders(recipe)
    net = parallel(make_model(recipe))
    optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    cpu = torch.device("cpu")
    found = []
    for epoch in (1, 2):
        train.dataset.set_epoch(epoch)
        train.batch_sampler.sampler.generator.manual_seed(epoch)
        found += train_one_epoch(net, train, optimizer, schedule, cpu, *loss)
    value, confusion = evaluate(net, val, cpu, *loss)
    if is_main():
        state = {"model": unwrap(net).state_dict(), "matrix": confusion.matrix}
        torch.save(state | {"found": [*found, value]}, result)
"""


@pytest.mark.parametrize("loss", ["cross_entropy", "cross_entropy+dice"])
def test_two_and_three_processes_take_the_steps_of_one(streets, tmp_path, loss):
    (tmp_path / "steps.py").write_text(STEPS)
    results = []
    for processes in (0, 2, 3):  # 12 images, batches of 5, 5 and 2: shares of 3 and 2, of 1 and 0
        out = launch(processes, tmp_path / "steps.py", streets, tmp_path / "result.pt", loss)
        assert out.returncode == 0, out.stderr
        results.append(torch.load(tmp_path / "result.pt", weights_only=True))
    one, *several = results
    for other in several:
        for name, value in one["model"].items():
            torch.testing.assert_close(other["model"][name], value, atol=1e-5, rtol=0)
        assert other["found"] == pytest.approx(one["found"], rel=1e-5)

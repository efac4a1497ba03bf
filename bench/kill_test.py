"""Kill a training at random moments, resume it, and check that the result is bit-identical.

    python -m bench.kill_test --kills 100

A small training (`train.py` on Streets, with loader workers, crops and jitter) is killed with
SIGKILL and started again until it ends, over and over. Each kill comes at a moment drawn
uniformly over the length of an undisturbed run; every other one then waits until a file is being
written. A kill is survived if the run ends with exactly the weights, optimizer state and records
of the undisturbed run. tests/test_crash.py does the same for a few kills.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from prepare.streets import draw_tree
from runtime.checkpoint import load_checkpoint

ROOT = Path(__file__).resolve().parent.parent
FIELDS = {  # changes that make recipes/streets.yaml small
    "downscale": 1, "crop": [48, 96], "jitter": 0.2, "width": 4, "depth": 2, "batch_size": 2,
    "epochs": 4, "workers": 2,
}  # fmt: skip
MAY_DIFFER = "seconds", "workers"


def start(data: Path, run: Path, **fields) -> subprocess.Popen:
    """Start `train.py` in its own process group, as a shell does; its output goes to <run>.log."""
    command = [sys.executable, "train.py", "--recipe=recipes/streets.yaml"]
    command += [f"--data_root={data}", f"--run={run}"]
    command += [f"--{name}={value}" for name, value in {**FIELDS, **fields}.items()]
    with open(run.with_suffix(".log"), "w") as log:  # no pipe: orphaned workers would hold it
        return subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )


def wait_for_training(process: subprocess.Popen, run: Path) -> None:
    """Wait until the process holds the run's lock, or has ended."""
    mine = f"process {process.pid} on "
    while process.poll() is None:
        if (run / "lock").exists() and (run / "lock").read_text().startswith(mine):
            return
        time.sleep(0.002)


def finish(process: subprocess.Popen, run: Path) -> float:
    """Wait for the end; returns the seconds of training. Raises RuntimeError if it fails."""
    wait_for_training(process, run)
    begin = time.monotonic()
    if process.wait():
        raise RuntimeError(f"train.py failed:\n{run.with_suffix('.log').read_text()}")
    return time.monotonic() - begin


def being_written(run: Path) -> bool:
    """Whether a file of the run is partly written, or between its two renames."""
    return any(run.glob("*.part")) or (
        (run / "best.pt").exists() and not (run / "last.pt").exists()
    )


def kill(process: subprocess.Popen, run: Path, seconds: float, in_write: bool) -> bool:
    """Kill a training after that many seconds; returns False if it ended before."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        while in_write and process.poll() is None and not being_written(run):
            time.sleep(0.0002)
    process.send_signal(signal.SIGKILL)  # does nothing if it has ended
    return process.wait() == -signal.SIGKILL


def kill_to_the_end(
    data: Path, run: Path, lengths: list[float], chance: random.Random, most: int
) -> tuple[int, int]:
    """Train to the end with up to `most` kills; returns how many, and how many during a write.

    `lengths` are the seconds of undisturbed runs, of which the shortest counts. A run that ends
    before its kill adds its own: the others may have been slow because the machine was busy.
    """
    kills = writes = 0
    while kills < most:
        process = start(data, run)
        wait_for_training(process, run)
        begin = time.monotonic()
        if not kill(process, run, chance.uniform(0, min(lengths)), in_write=kills % 2 == 1):
            break
        kills += 1
        writes += being_written(run)
    else:
        process = start(data, run)
    finish(process, run)
    if not kills:
        lengths.append(time.monotonic() - begin)
    return kills, writes


def differences(one: Path, other: Path) -> list[str]:
    """Where the checkpoints and histories of two runs are not bit-identical."""
    found = []
    for name in ("last.pt", "best.pt"):
        found += _differ(load_checkpoint(one / name), load_checkpoint(other / name), name)
    histories = [json.loads((run / "history.json").read_text()) for run in (one, other)]
    return found + list(_differ(*histories, "history.json"))


def _differ(a: object, b: object, where: str) -> Iterator[str]:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.dtype != b.dtype or a.numpy().tobytes() != b.numpy().tobytes():
            yield where
    elif isinstance(a, dict) and isinstance(b, dict):
        for key in {**a, **b}:
            if key not in MAY_DIFFER:
                yield from _differ(a.get(key), b.get(key), f"{where}/{key}")
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for i, pair in enumerate(zip(a, b, strict=True)):
            yield from _differ(*pair, f"{where}/{i}")
    elif a != b:
        yield f"{where}: {a!r} and {b!r}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100, help="how many (100)")
    parser.add_argument("--seed", type=int, help="of the moments (default: random, printed)")
    args = parser.parse_args()
    seed = random.randrange(10**6) if args.seed is None else args.seed
    chance = random.Random(seed)
    kills = writes = survived = 0
    with tempfile.TemporaryDirectory() as folder, tqdm(total=args.kills, unit="kill") as bar:
        folder = Path(folder)
        data, whole = folder / "streets", folder / "whole"
        draw_tree(data, train=12, val=5, size=(128, 64), quiet=True)
        lengths = [finish(start(data, whole), whole)]
        bar.write(f"seed {seed}; an undisturbed run trains for {lengths[0]:.1f} s")
        while kills < args.kills:
            run = Path(tempfile.mkdtemp(dir=folder))
            hit, in_write = kill_to_the_end(data, run, lengths, chance, args.kills - kills)
            found = differences(whole, run)
            for difference in found:
                bar.write(f"after kill {kills + hit}: {difference}")
            kills, writes = kills + hit, writes + in_write
            survived += 0 if found else hit
            bar.update(hit)
    print(f"{survived} of {kills} kills survived, {writes} of them while a file was being written")
    sys.exit(survived < kills)


if __name__ == "__main__":
    main()

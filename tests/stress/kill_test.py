"""Kill a training at random moments, fill its disk, and check that the result is bit-identical.

    python -m tests.stress.kill_test --kills 100 --full-disks 20

A small training (`train.py` on Streets, with loader workers, crops and jitter) is killed with
SIGKILL and started again until it ends, over and over. Each kill comes at a moment drawn
uniformly over the length of an undisturbed run; every other one then waits until a file is being
written. A disk is full from a random byte of `last.pt` on (see `fill_disk`). Both are survived if
no finished epoch is lost, and if the run ends with exactly the weights, optimizer state and records
of the undisturbed one. The counts go into tests/stress/kill-test.json; Linux only.
"""

import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from runtime.checkpoint import load_last
from runtime.console import command_line
from runtime.machine import ROOT, write_record
from streets import draw_tree
from tests.processes import wait_for
from tests.training import differences

RECORD = Path(__file__).with_name("kill-test.json")
FIELDS = {  # changes that make recipes/streets.yaml small
    "downscale": 1, "crop": [48, 96], "jitter": 0.2, "width": 4, "depth": 2, "batch_size": 2,
    "epochs": 4, "workers": 2,
}  # fmt: skip


def start(data: Path, run: Path, pipe: bool = False, **fields) -> subprocess.Popen:
    """Start `train.py` in its own process group, as a shell does; its output goes to <run>.log."""
    # Or into a pipe, which the orphaned workers of a killed run would hold.
    command = [sys.executable, "train.py", "--recipe=recipes/streets.yaml"]
    command += [f"--data_root={data}", f"--run={run}"]
    command += [f"--{name}={value}" for name, value in {**FIELDS, **fields}.items()]
    with open(run.with_suffix(".log"), "w") as log:
        output = subprocess.PIPE if pipe else log
        return subprocess.Popen(
            command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )


def wait_for_training(process: subprocess.Popen, run: Path) -> None:
    """Wait until the process holds the run's lock, or has ended."""
    lock, mine = run / "lock", f"process {process.pid} on "
    is_mine = lambda: lock.exists() and lock.read_text().startswith(mine)  # noqa: E731
    wait_for(lambda: process.poll() is not None or is_mine())


def finish(process: subprocess.Popen, run: Path) -> float:
    """Wait for the end; returns the seconds of training. Raises RuntimeError if it fails."""
    wait_for_training(process, run)
    begin = time.monotonic()
    if process.wait():
        raise RuntimeError(f"train.py failed:\n{run.with_suffix('.log').read_text()}")
    return time.monotonic() - begin


def being_written(run: Path) -> bool:
    """Whether a file of the run is partly written, or between its two renames."""
    between = (run / "best.pt").exists() and not (run / "last.pt").exists()
    return any(run.glob("*.part")) or between


def kill(process: subprocess.Popen, run: Path, seconds: float, in_write: bool) -> bool:
    """Kill a training after that many seconds; returns False if it ended before."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        while in_write and process.poll() is None:
            if being_written(run):
                process.send_signal(signal.SIGSTOP)  # a write may be over before the kill
                if being_written(run):
                    break
                process.send_signal(signal.SIGCONT)
            time.sleep(0.0002)
    process.send_signal(signal.SIGKILL)  # does nothing if it has ended
    return process.wait() == -signal.SIGKILL


def kill_to_the_end(
    data: Path, run: Path, lengths: list[float], chance: random.Random, most: int
) -> tuple[int, int]:
    """Train to the end with up to `most` kills; returns how many, and how many during a write.

    `lengths` are the seconds of undisturbed runs, of which the shortest counts. A run that ends
    before its kill adds its own: the others may have been slow because the machine was busy.
    Raises RuntimeError if a kill loses finished epochs.
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
        refuse_loss(run)
    else:
        process = start(data, run)
    finish(process, run)
    if not kills:
        lengths.append(time.monotonic() - begin)
    return kills, writes


def refuse_loss(run: Path) -> None:
    """Raise RuntimeError if the state to go on from is older than the records of the run."""
    # Training again from the start would end with the same bits, too.
    if (run / "history.json").exists():
        records = len(json.loads((run / "history.json").read_text()))
        there = len(load_last(run)["history"])
        if there < records:
            raise RuntimeError(f"of {records} epochs in {run}, only {there} are left")


def fill_disk(data: Path, run: Path, size: int) -> str:
    """Train on a disk that is full from some byte on, and to the end on one that is not.

    After the first epoch, no file of the training process may grow beyond `size` bytes
    (RLIMIT_FSIZE): unlike a small disk, that ends a write at any byte, and takes no rights of
    root. Its workers, which share memory by files, are spared.

    Returns the name of the file that could not be written, "" if all were. Raises RuntimeError if
    the training does not say so, or if finished epochs are lost.
    """
    import resource  # not on Windows

    process = start(data, run, pipe=True)
    wait_for(lambda: process.poll() is not None or (run / "history.json").exists())
    if process.poll() is None:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    said = process.communicate()[0].decode()
    if not process.returncode:
        return ""
    found = re.search(rf"error: {run}/(\w+\.pt) cannot be written .*unharmed", said)
    if not found:
        raise RuntimeError(f"train.py failed, and not for its disk:\n{said}")
    refuse_loss(run)
    finish(start(data, run), run)
    return found[1]


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--kills", type=int, default=100, help="how many (100)")
    parser.add_argument("--full-disks", type=int, default=20, help="how many, in last.pt (20)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="default: random")
    args = parser.parse_args()
    chance = random.Random(args.seed)
    found = Counter()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        data, whole = folder / "streets", folder / "whole"
        draw_tree(data, train=12, val=5, size=(128, 64), quiet=True)
        lengths = [finish(start(data, whole), whole)]
        print(f"seed {args.seed}; an undisturbed run trains for {lengths[0]:.1f} s")
        size = (whole / "previous.pt").stat().st_size

        def survived(run: Path, what: str) -> bool:
            different = differences(whole, run)
            print("\n".join(f"after {what}: {each}" for each in different) or f"survived {what}")
            return not different

        while found["kills"] < args.kills:
            run = Path(tempfile.mkdtemp(dir=folder))
            hit, in_write = kill_to_the_end(data, run, lengths, chance, args.kills - found["kills"])
            found["kills"] += hit
            found["survived"] += hit * survived(run, f"{hit} kills")
            found["in the middle of a write"] += in_write
        while found["in last.pt"] < args.full_disks:
            run, byte = Path(tempfile.mkdtemp(dir=folder)), chance.randrange(size)
            if name := fill_disk(data, run, byte):
                found["full disks"] += 1
                found["full disks survived"] += survived(run, f"a disk full at {byte} of {name}")
                found["in last.pt"] += name == "last.pt"
    write_record(RECORD, "tests.stress.kill_test", {**found, "seed": args.seed})
    lost = found["kills"] - found["survived"] + found["full disks"] - found["full disks survived"]
    sys.exit(lost > 0)


if __name__ == "__main__":
    main()

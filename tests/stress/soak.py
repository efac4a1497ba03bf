"""Train for 10,000 steps, and look whether memory or file handles grow, or the cache changes.

    python -m tests.stress.soak

A small network on small scenes of Streets, with what users have: loader workers, the cache, and
after every epoch of 20 steps an evaluation and the checkpoints. After each epoch the memory and the
file handles of the process and of its workers are read from /proc (Linux only). The first tenth is
the warm-up; from there on each process's memory must stay within 2 %, handles and cache as they
are. Writes tests/stress/soak.json, with the minutes it took; the exit code is 1 if something grew.
"""

import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from engine import Recipe, fit, make_loaders, make_model
from runtime.console import command_line
from runtime.machine import ROOT, write_record
from streets import draw_tree
from tests.samples import contents, times
from tests.stress.kill_test import FIELDS

RECORD = Path(__file__).with_name("soak.json")
SCENES = 40  # to train on; with a batch size of 2, 20 steps an epoch
MAY_GROW = 0.02


def sample() -> tuple[list[int], list[int]]:
    """Resident bytes and open files, sockets and pipes, of the process and of each worker."""
    workers = sorted(worker.pid for worker in multiprocessing.active_children())
    processes = [Path(f"/proc/{pid}") for pid in (os.getpid(), *workers)]
    pages = [int((process / "statm").read_text().split()[1]) for process in processes]
    memory = [n * os.sysconf("SC_PAGE_SIZE") for n in pages]
    return memory, [len(os.listdir(process / "fd")) for process in processes]


def soak(folder: Path, steps: int, scenes: int = SCENES) -> dict:
    """Draw the scenes, train on them; returns what `growth` finds, and how long it took."""
    data = folder / "streets"
    draw_tree(data, train=scenes, val=10, size=(128, 64), quiet=True)
    epochs = -(-steps * FIELDS["batch_size"] // scenes)
    fields = {**FIELDS, "data_root": str(data), "epochs": epochs}
    recipe = Recipe.from_file(ROOT / "recipes/streets.yaml", **fields)
    loaders, cache = make_loaders(recipe), data / recipe.cache
    start, samples = time.monotonic(), []
    for record in tqdm(fit(make_model(recipe), *loaders, recipe, folder / "run"), total=epochs):
        samples.append(sample())
        if record["epoch"] == 1:
            full = times(cache), contents(cache)
    return {
        "steps": epochs * len(loaders[0]),
        "epochs": epochs,
        "minutes": round((time.monotonic() - start) / 60, 1),
        **growth(samples),
        "files in the cache": len([*cache.glob("*.cache")]),
        "cache unchanged": (times(cache), contents(cache)) == full,
    }


def growth(samples: list[tuple[list[int], list[int]]]) -> dict:
    """Memory and handles of each process after the warm-up: in a sum, a leak would be lost."""
    after = samples[len(samples) // 10 :]
    memory, handles = map(np.array, zip(*after, strict=True))  # epochs x processes
    numbers = [
        {"first": mb[0], "last": mb[-1], "least": min(mb), "most": max(mb)}
        for mb in (memory.T / 1e6).round(1).tolist()
    ]
    return {
        "MB of the process": numbers[0],
        "MB of its workers": numbers[1:],
        "memory flat": bool((memory.max(0) <= memory.min(0) * (1 + MAY_GROW)).all()),
        "handles": handles.max(0).tolist(),
        "handles flat": bool((handles.max(0) == handles.min(0)).all()),
    }


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--steps", type=int, default=10_000, help="of training (10000)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = soak(Path(folder), args.steps)
    write_record(RECORD, "tests.stress.soak", found)
    sys.exit(not (found["memory flat"] and found["handles flat"] and found["cache unchanged"]))


if __name__ == "__main__":
    main()

"""What a user of Cityscapes waits for, and the memory it takes, as the data set grows to its size.

    python -m prepare.streets data/big --train 240 --val 60 --size 2048x1024
    python -m bench.scale data/big

Makes data sets of 100 to 2,975 images out of the drawn ones, as hard links of other names, with val
and test in Cityscapes' proportions, and runs each command on each of them. Val's images serve as
those of test, and drawn ones are repeated where there are too few. The table tells the time that a
further image takes, from one size to the next: of work that grows as the data does, it stays the
same. bench/scale.json keeps all times and memory; a size that is in it is not measured again.
"""

import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import psutil

from dataset import find_root
from engine import Recipe, fit, make_loaders, make_model
from runtime import console
from runtime.console import command_line, errors_shown
from runtime.files import atomic_write
from runtime.machine import ROOT, commit, machine

RECORD = ROOT / "bench" / "scale.json"
SIZES = (100, 300, 1000, 2975)  # images to train on
PER_TRAIN = {"train": 1, "val": 500 / 2975, "test": 1525 / 2975}  # as in Cityscapes
KINDS = {"leftImg8bit": "leftImg8bit", "gtFine": "gtFine_labelIds"}
PER_CITY = 150
EPOCHS = 10  # that are read: one takes less than its workers' start
NETWORK = {"width": 8, "depth": 4, "crop": [256, 512], "batch_size": 8, "device": "cpu"}


def link_data(drawn: Path, root: Path, train: int) -> dict[str, int]:
    """Make a data set of hard links to drawn scenes; returns the number of images of each split."""
    counts = {split: max(round(train * ratio), 1) for split, ratio in PER_TRAIN.items()}
    for split, count in counts.items():
        source = "train" if split == "train" else "val"
        images = sorted((drawn / "leftImg8bit" / source).rglob("*.png"))
        for i in range(count):
            image = images[i % len(images)]
            city = f"city{i // PER_CITY:03d}"
            for kind in KINDS if split != "test" else ("leftImg8bit",):
                at = image.relative_to(drawn).as_posix().replace("leftImg8bit", kind, 1)
                source_file = drawn / at.replace("_leftImg8bit.png", f"_{KINDS[kind]}.png")
                target = root / kind / split / city / f"{city}_{i:06d}_000019_{KINDS[kind]}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(source_file, target)
    return counts


def first_step(root: str, run: str) -> None:
    """Start a training, and end the process where its first step would begin."""
    recipe = Recipe(**NETWORK, data_root=root)
    loaders = make_loaders(recipe)
    model = make_model(recipe, loaders[0].dataset.classes)
    model.register_forward_pre_hook(lambda *_: sys.exit())
    for _ in fit(model, *loaders, recipe, run):
        pass


def read_epochs(root: str, workers: int, split: str = "train") -> None:
    """Read all batches of `EPOCHS` epochs, as a training does, and do nothing with them."""
    recipe = Recipe(**NETWORK, data_root=root, train_split=split, workers=workers)
    loader, _ = make_loaders(recipe)
    for _ in range(EPOCHS):
        for _ in loader:
            pass


def stages(root: Path, run: Path) -> dict[str, tuple[list, tuple[str, ...]]]:
    """What is run: name -> the arguments of Python, and the splits whose images it works on."""
    recipe = [f"--{name}={value}" for name, value in NETWORK.items()]
    recipe += ["--data_root", root, "--epochs=1", "--run"]
    train, both = ("train",), ("train", "val")
    read = {
        f"reading {EPOCHS} epochs, {workers} workers": (call("read_epochs", root, workers), train)
        for workers in (0, 2, 8)
    }
    torchrun = {
        f"epoch, {n} processes": (
            ["-m", "torch.distributed.run", f"--nproc-per-node={n}", "--", "train.py"]
            + [*recipe, run.with_name(f"run{n}")],
            both,
        )
        for n in (2, 4)
    }
    predict = ["predict.py", run / "last.pt", "--submission", root, "--zip"]
    return {
        "check": (["-m", "prepare.cityscapes", root, "--counts", "any"], (*both, "test")),
        "cache": (["-m", "engine.fill_cache", *recipe[:-1]], both),
        "first step": (call("first_step", root, run.with_name("first")), train),
        **read,
        f"reading {EPOCHS} epochs of trainval": (call("read_epochs", root, 2, "trainval"), both),
        "epoch": (["train.py", *recipe, run], both),
        "resumed epoch": (["train.py", *recipe, run, "--epochs=2"], both),
        **torchrun,
        "evaluation": (["evaluate.py", run / "last.pt"], ("val",)),
        "submission": ([*predict, "--out", run.with_name("out")], ("test",)),
    }


def call(function: str, *arguments: object) -> list[str]:
    """Python's arguments to call a function of this module."""
    given = ", ".join(repr(str(a) if isinstance(a, Path) else a) for a in arguments)
    return ["-c", f"from bench import scale; scale.{function}({given})"]


def resident(process: psutil.Process) -> int:
    """Bytes of a process and its children; of a page that several share, each counts its part."""
    total = 0
    for each in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # one that has just ended
            info = each.memory_full_info()
            total += getattr(info, "pss", info.uss)  # Linux alone has the former
    return total


def timed(arguments: list, log: Path) -> dict:
    """Seconds of a Python process, and the MiB of memory that it and its children take at most.

    Looks twice a second. Raises OSError if the process fails.
    """
    start, most = time.perf_counter(), 0
    with open(log, "a") as out:
        process = psutil.Popen(
            [sys.executable, *map(str, arguments)], cwd=ROOT, stdout=out, stderr=out
        )
        while process.poll() is None:
            with contextlib.suppress(psutil.Error):
                most = max(most, resident(process))
            with contextlib.suppress(psutil.TimeoutExpired):
                process.wait(0.5)
    if process.returncode:
        raise OSError(f"{' '.join(map(str, arguments))} failed:\n{log.read_text()[-2000:]}")
    return {"seconds": round(time.perf_counter() - start, 2), "MiB": round(most / 2**20)}


def measure(drawn: Path, train: int, folder: Path) -> dict:
    """All stages on a data set of `train` images: name -> images, seconds and MiB."""
    root, run = folder / "data set", folder / "run"  # with a space, as many have
    counts, found = link_data(drawn, root, train), {}
    for name, (arguments, splits) in stages(root, run).items():
        images = sum(counts[split] for split in splits)
        found[name] = {"images": images, **timed(arguments, folder / "log")}
        print(f"{train} images, {name}: {found[name]}", flush=True)
    cache = sum(f.stat().st_size for f in (root / ".cache").rglob("*") if f.is_file())
    return {**found, "cache MB": round(cache / 1e6)}


def table(sizes: dict[str, dict]) -> str:
    """Markdown: for each stage the seconds of a further image between two sizes, and the memory."""
    names = list(sizes)
    steps = [f"{a} to {b}" for a, b in zip(names, names[1:], strict=False)]
    rows = []
    for stage in stages(Path(), Path("run")):
        found = [sizes[name][stage] for name in names]
        more = [
            (b["seconds"] - a["seconds"]) / (b["images"] - a["images"])
            for a, b in zip(found, found[1:], strict=False)
        ]
        memory = " / ".join(str(each["MiB"]) for each in found)
        rows.append([stage, *(f"{1000 * s:.0f}" for s in more), memory])
    return console.table(["ms an image", *steps, f"MiB at {' / '.join(names)}"], rows)


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("drawn", type=Path, help="what `prepare.streets` drew")
    args = parser.parse_args()
    with errors_shown():
        find_root(args.drawn)
    commit()  # now: there may be others when this ends
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {"sizes": {}}
    for train in SIZES:
        if str(train) in record["sizes"]:
            continue
        # Beside the drawn scenes, since a hard link does not leave its disk.
        folder = Path(tempfile.mkdtemp(prefix=f"{train}-", dir=args.drawn.resolve().parent))
        try:
            found = measure(args.drawn, train, folder)
        finally:
            shutil.rmtree(folder)
        record["sizes"][str(train)] = {**found, "machine": machine(), "commit": commit()}
        record["network"] = NETWORK
        atomic_write(RECORD, json.dumps(record, indent=1).encode() + b"\n")
    print(table(record["sizes"]))
    for size, found in record["sizes"].items():
        print(f"{size}: {found['machine']}, commit {found['commit']}")


if __name__ == "__main__":
    main()

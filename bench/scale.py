"""What a user of Cityscapes waits for, and the memory it takes, as the data set grows to its size.

    python -m prepare.streets data/big --train 240 --val 60 --size 2048x1024
    python -m bench.scale data/big

Makes data sets of 100 to 2,975 images out of the drawn ones, which are repeated as hard links of
other names, with val and test in Cityscapes' proportions, and runs each command on each of them.
The table tells the seconds that a further image takes, from one size to the next: of work that
grows as the data does, they stay the same. bench/scale.json keeps all times and memory; a size that
is in it is not measured again.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from runtime import console
from runtime.console import command_line
from runtime.files import atomic_write
from runtime.machine import ROOT, commit, machine

RECORD = ROOT / "bench" / "scale.json"
SIZES = (100, 300, 1000, 2975)  # images to train on
PER_TRAIN = {"train": 1, "val": 500 / 2975, "test": 1525 / 2975}  # as in Cityscapes
KINDS = {"leftImg8bit": "leftImg8bit", "gtFine": "gtFine_labelIds"}
PER_CITY = 150
NETWORK = {"width": 8, "depth": 4, "crop": "[256, 512]", "batch_size": 8, "device": "cpu"}
FIRST_STEP = """
import sys, time
from engine import Recipe, fit, make_loaders, make_model
class Reached(Exception): pass
def stop(*_): raise Reached
recipe = Recipe(data_root=sys.argv[1], crop=(256, 512), width=8, device="cpu")
start = time.perf_counter()
loaders = make_loaders(recipe)
model = make_model(recipe, loaders[0].dataset.classes)
model.register_forward_pre_hook(stop)
try:
    for _ in fit(model, *loaders, recipe, sys.argv[2]): pass
except Reached:
    print(f"{time.perf_counter() - start:.2f} s to the first step")
"""


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


def stages(root: Path, run: Path) -> dict[str, tuple[list, tuple[str, ...]]]:
    """What is run: name -> the arguments of Python, and the splits whose images it works on."""
    recipe = [f"--{name}={value}" for name, value in NETWORK.items()]
    recipe += ["--data_root", root]
    last = run / "last.pt"
    return {
        "check": (
            ["-m", "prepare.cityscapes", root, "--counts", "any"],
            ("train", "val", "test"),
        ),
        "cache": (["-m", "engine.fill_cache", *recipe], ("train", "val")),
        "first step": (["-c", FIRST_STEP, root, run.with_name("first")], ("train",)),
        "epoch": (["train.py", *recipe, "--epochs=1", "--run", run], ("train", "val")),
        "resumed epoch": (["train.py", *recipe, "--epochs=2", "--run", run], ("train", "val")),
        "evaluation": (["evaluate.py", last], ("val",)),
        "submission": (
            ["predict.py", last, "--submission", root, "--zip", "--out", run.with_name("out")],
            ("test",),
        ),
    }


def timed(arguments: list, log: Path) -> dict:
    """Seconds, and the largest resident set in MiB, of a Python process; raises if it fails."""
    start = time.perf_counter()
    with open(log, "a") as out:
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)], cwd=ROOT, stdout=out, stderr=out
        )
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise OSError(f"{' '.join(map(str, arguments))} failed:\n{log.read_text()[-2000:]}")
    memory = usage.ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)
    return {"seconds": round(time.perf_counter() - start, 2), "MiB": round(memory)}


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
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    args = parser.parse_args()
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {"sizes": {}}
    for train in args.sizes:
        if str(train) in record["sizes"]:
            continue
        # Beside the drawn scenes, since a hard link does not leave its disk.
        folder = Path(tempfile.mkdtemp(prefix=f"{train}-", dir=args.drawn.resolve().parent))
        try:
            record["sizes"][str(train)] = measure(args.drawn, train, folder)
        finally:
            shutil.rmtree(folder)
        record |= {"machine": machine(), "commit": commit(), "network": NETWORK}
        atomic_write(RECORD, json.dumps(record, indent=1).encode() + b"\n")
    print(table(record["sizes"]))


if __name__ == "__main__":
    main()

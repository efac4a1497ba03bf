"""How many images must one label? The question of `label.ipynb`, on CamVid.

    python -m studies.labels --seeds 0 1 2
    python -m studies.labels --figure

The first trains what is not on record yet; a run that was stopped goes on from its last epoch, in
runs/labels/, with the same command. The second prints the table and draws images/labels.png.

Every run trains recipes/own.yaml on frames of two of CamVid's videos, and its last epoch is
evaluated on the third, 0006R0, at full resolution. All take as many steps: the images of a run are
repeated until they fill an epoch, each with an augmentation of its own. A seed draws other images
and other weights.

- `count`: 5, 10, 20, 50, 100 and all images, from random weights and from those of Streets.
- `choice`: 20 images in the notebook's order, evenly in time, or at random (from `count`).
- `pixels`: all pixels of 20 images (from `count`), or a tenth of them, in segments drawn at random.

Runs from Streets' weights, also after no image, say how many fills an oracle needs to bring a frame
of 0006R0 to 95 % of its labels, from nothing and from their proposal: the median of twenty frames.
"""

import json
from pathlib import Path
from statistics import mean, median
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from PIL import Image
from torch.utils.data import DataLoader

from data_io.image_io import read_grey, read_image
from dataset import Cityscapes
from engine import Recipe, evaluate, fit, make_loader, make_model
from engine.augment import make_transforms
from inference import load_model
from labeling.oracle import accept, fills_needed
from labeling.proposals import choose_order, look, propose, regions, segments, uncertainty
from model import UNet
from runtime.console import command_line, progress_bar
from runtime.files import atomic_write
from runtime.machine import ROOT, commit, machine
from studies.common import RECORDS, errors_shown, identity
from utils import CITYSCAPES, metrics

RECORD = RECORDS / "labels.json"
UNSEEN = "0006r0"
ALL = 0  # stands for all images
COUNTS = 5, 10, 20, 50, 100, ALL
EPOCHS = 16  # of all images, or as many repeated ones
JUDGED = 20  # frames whose fills are counted
VOID = 0


class Run(NamedTuple):
    """A training on `count` images. `start` is `streets` or `random`."""

    count: int
    start: str
    choice: str
    pixels: float
    seed: int

    def __str__(self) -> str:
        images = f"{self.count or 'all'} images, {self.choice}, {self.pixels:.0%} of the pixels"
        return f"{images}, from {self.start} weights, seed {self.seed}"


def plan(seeds: list[int]) -> list[Run]:
    """All runs, seed by seed."""
    runs = []
    for seed in seeds:
        for start in ("streets", "random"):
            runs += [Run(count, start, "at random", 1.0, seed) for count in COUNTS]
        runs += [Run(20, "streets", choice, 1.0, seed) for choice in ("in order", "evenly")]
        runs.append(Run(20, "streets", "at random", 0.1, seed))
    return runs


def read() -> list[dict]:
    """The finished runs; [] if there are none."""
    return json.loads(RECORD.read_text())["runs"] if RECORD.exists() else []


def find(run: Run) -> dict | None:
    """The record of a run, or None."""
    return next((entry for entry in read() if entry["run"] == list(run)), None)


def add(entry: dict) -> None:
    """Write a finished run into the record, whole or not at all."""
    lines = ",\n".join(json.dumps(each) for each in [*read(), entry])
    text = f'{{"repeat": "python -m studies.labels --seeds 0 1 2", "runs": [\n{lines}\n]}}\n'
    atomic_write(RECORD, text.encode())


def choose(run: Run, scenes: Cityscapes, streets: Path) -> list[int]:
    """Which images a run is trained on: their indices."""
    count = run.count or len(scenes)
    if run.choice == "evenly":
        return [(2 * i + 1) * len(scenes) // (2 * count) for i in range(count)]
    generator = torch.Generator().manual_seed(run.seed)
    drawn = torch.randperm(len(scenes), generator=generator).tolist()
    if run.choice == "at random":
        return sorted(drawn[:count])
    # In the notebook's order, of two thirds of the images, so that seeds differ.
    some, model, looks, unsure = sorted(drawn[: len(scenes) * 2 // 3]), load_model(streets), [], []
    with progress_bar(len(some), "look at all") as bar:
        for i in some:
            image = read_image(scenes.images[i])
            looks.append(look(image))
            unsure.append(uncertainty(propose(model, image, segments(image), CITYSCAPES, VOID)))
            bar.update()
    order = choose_order(np.array(unsure), np.stack(looks), np.zeros((0, 768)))
    return sorted(some[i] for i in order[:count])


def label_in_part(run: Run, scenes: Cityscapes, indices: list[int], folder: Path) -> list[str]:
    """Label files of a share of the pixels, in whole segments drawn at random; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    draw, paths = np.random.default_rng(run.seed), []
    for i in indices:
        found, truth = segments(read_image(scenes.images[i])), read_grey(scenes.targets[i]).numpy()
        sizes = np.bincount(found.ravel())
        chosen = draw.permutation(len(sizes))
        chosen = chosen[: int((np.cumsum(sizes[chosen]) < run.pixels * truth.size).sum()) + 1]
        paths.append(str(folder / f"{i}.png"))
        Image.fromarray(np.where(np.isin(found, chosen), truth, VOID)).save(paths[-1])
    return paths


def make_loaders(
    run: Run, recipe: Recipe, streets: Path, folder: Path
) -> tuple[DataLoader, DataLoader, Cityscapes]:
    """Training batches, those of a tenth of the unseen video, and all of that."""
    read_as = {"downscale": recipe.downscale}
    train = Cityscapes(
        *(recipe.data_root, "train", "fine", make_transforms(recipe), recipe.seed),
        hold_out=[UNSEEN],
        **read_as,
    )
    length, indices = len(train), choose(run, train, streets)
    targets = [train.targets[i] for i in indices]
    if run.pixels < 1:
        targets = label_in_part(run, train, indices, folder / "masks")
    images = [train.images[i] for i in indices]
    times = length // len(images) + 1
    train.images, train.targets = ((each * times)[:length] for each in (images, targets))
    few, unseen = (
        Cityscapes(recipe.data_root, cities=[UNSEEN], downscale_labels=False, **read_as)
        for _ in range(2)
    )
    few.images, few.targets = few.images[::10], few.targets[::10]
    loaders = [make_loader(train, recipe.batch_size, True), make_loader(few, 8, False)]
    return *loaders, unseen


def count_fills(model: UNet | None, unseen: Cityscapes) -> float | None:
    """Fills to 95 % of the labels, from a network's proposal or from nothing: the median.

    None where segments are too coarse for most frames.
    """
    counts = []
    for i in range(0, len(unseen), len(unseen) // JUDGED):
        image, truth = read_image(unseen.images[i]), read_grey(unseen.targets[i]).numpy()
        found, mask = segments(image), np.full(truth.shape, VOID, dtype=np.uint8)
        maps = [found]
        if model is not None:
            proposal = propose(model, image, found, CITYSCAPES, VOID)
            maps, mask = [found, regions(proposal)], accept(proposal, mask, VOID)
        counts.append(fills_needed(maps, truth, mask, CITYSCAPES.ids))
    middle = median(np.inf if count is None else count for count in counts)
    return middle if np.isfinite(middle) else None


def perform(run: Run, data_root: str, streets: Path, folder: Path) -> dict:
    """Train, or go on, in `folder`, and evaluate the last epoch; the entry of the record."""
    init = str(streets) if run.start == "streets" else None
    changes = {"data_root": data_root, "init": init, "seed": run.seed, "epochs": EPOCHS}
    recipe = Recipe.from_file(ROOT / "recipes" / "own.yaml", **changes)
    train, few, unseen = make_loaders(run, recipe, streets, folder)
    model, seconds = make_model(recipe, train.dataset.classes), 0.0
    for record in fit(model, train, few, recipe, folder):
        seconds += record["seconds"]
        print(f"{run}: epoch {record['epoch']} of {EPOCHS}, mIoU {record['mIoU']:.1%}", flush=True)
    loader = make_loader(unseen, 8, False)
    _, confusion = evaluate(model, loader, precision=recipe.precision)
    found = metrics(confusion, CITYSCAPES)
    entry = {"run": run, "mIoU": found["mIoU"], "accuracy": found["val_accuracy"]}
    if run.start == "streets":
        entry["fills"] = count_fills(model, unseen)
    entry |= {"seconds": round(seconds), "precision": record["precision"], "iou": found["iou"]}
    return entry | {"recipe": identity(recipe), "machine": machine(), "commit": commit()}


def of(runs: list[dict], figure: str, **wanted) -> list[float]:
    """A figure of the runs with these fields, a seed after the other."""
    runs = [each for each in runs if each["run"]]
    kept = (each for each in runs if wanted.items() <= Run(*each["run"])._asdict().items())
    return [each[figure] for each in kept if each.get(figure) is not None]


def table(runs: list[dict]) -> str:
    """What is on record, as Markdown."""
    fills = next((each["fills"] for each in runs if each["run"] is None), {})
    runs = [each for each in runs if each["run"]]
    lines = ["| images | weights | chosen | pixels | seeds | mIoU | accuracy | fills to 95 % |"]
    lines.append("|---:|---|---|---:|---:|---:|---:|---:|")
    for arm in dict.fromkeys(Run(*each["run"])._replace(seed=0) for each in runs):
        fields = {k: v for k, v in arm._asdict().items() if k != "seed"}
        mious, accuracies = of(runs, "mIoU", **fields), of(runs, "accuracy", **fields)
        spread = f" ± {100 * np.std(mious, ddof=1):.1f}" if len(mious) > 1 else ""
        filled = f"{mean(counts):.0f}" if (counts := of(runs, "fills", **fields)) else ""
        lines.append(
            f"| {arm.count or 'all'} | {arm.start} | {arm.choice} | {arm.pixels:.0%} "
            f"| {len(mious)} | {100 * mean(mious):.1f}{spread} "
            f"| {100 * mean(accuracies):.1f} | {filled} |"
        )
    lines += [f"\nFills without a training, {how}: {n:.0f}." for how, n in fills.items()]
    return "\n".join(lines)


def plot(runs: list[dict], total: int) -> Figure:
    """mIoU and accuracy on the unseen video against the number of labelled images."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for ax, name in zip(figure.subplots(1, 2), ("mIoU", "accuracy"), strict=True):
        for start, color in (("streets", "C0"), ("random", "C1")):
            arm = {"start": start, "choice": "at random", "pixels": 1.0}
            points = {count or total: of(runs, name, count=count, **arm) for count in COUNTS}
            points = {count: values for count, values in points.items() if values}
            for count, values in points.items():
                ax.scatter([count] * len(values), values, s=8, color=color, alpha=0.5)
            ax.plot(
                list(points),
                [mean(v) for v in points.values()],
                color,
                label=f"from {start} weights",
            )
        ax.set(xscale="log", xlabel="labelled images", ylabel=f"{name} on a video not seen")
        ax.set_xticks([count or total for count in COUNTS], [count or total for count in COUNTS])
        ax.yaxis.set_major_formatter(PercentFormatter(1))
        ax.grid(alpha=0.3)
        ax.legend(frameon=False)
    return figure


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--camvid", default="data/camvid", help="made by prepare.camvid")
    parser.add_argument("--streets", type=Path, default=ROOT / "checkpoints" / "streets-512.pt")
    parser.add_argument("--runs", type=Path, default=Path("runs/labels"), help="of checkpoints")
    parser.add_argument("--figure", action="store_true", help="draw what is on record")
    args = parser.parse_args()
    with errors_shown():
        scenes = Cityscapes(args.camvid, hold_out=[UNSEEN])
        if args.figure:
            plot(read(), len(scenes)).savefig(ROOT / "images" / "labels.png", dpi=120)
            print(table(read()))
            return
        unseen = Cityscapes(args.camvid, cities=[UNSEEN])
        if not any(entry["run"] is None for entry in read()):
            fills = {"nothing": count_fills(None, unseen)}
            fills["no image"] = count_fills(load_model(args.streets), unseen)
            add({"run": None, "fills": fills})
        for run in plan(args.seeds):
            if find(run) is None:
                name = "-".join(map(str, run)).replace(" ", "-")
                add(perform(run, args.camvid, args.streets, args.runs / name))
    print("all runs are on record; now: python -m studies.labels --figure")


if __name__ == "__main__":
    main()

"""How many images must one label? The question of `label.ipynb`, on CamVid.

    python -m studies.labels --seeds 0 1 2

Trains what is not on record yet; a run that was stopped goes on from its last epoch, in
runs/labels/, with the same command. `python -m studies.figures` shows what is on record.

Every run trains recipes/own.yaml on frames of two of CamVid's videos, and its last epoch is
evaluated on the third, 0006R0, at full resolution; so are the weights of Streets alone. All take
as many steps: the images of a run are repeated until they fill an epoch, each with an augmentation
of its own. A seed draws other images and other weights.

- `count`: 5, 10, 20, 50, 100 and all images, from random weights and from those of Streets.
- `choice`: 20 images in the notebook's order, evenly in time, or at random (from `count`).
- `pixels`: all pixels of 20 images (from `count`), or a tenth of them, in segments drawn at random.

Runs from Streets' weights, also after no image, say how many fills an oracle needs to bring a frame
of 0006R0 to 95 % of its labels, from nothing and from their proposal: the median of 21 frames.
"""

from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from data_io.image_io import read_grey, read_image
from dataset import Cityscapes
from engine import Recipe, evaluate, make_loader
from engine.augment import make_transforms
from inference import load_model
from labeling.oracle import accept, fills_needed
from labeling.proposals import choose_order, look, propose, regions, segments, uncertainty
from model import UNet
from runtime.console import command_line, errors_shown, progress_bar
from runtime.machine import ROOT
from studies.common import add, find, held_out, identity, train_and_evaluate
from studies.labels_report import COUNTS
from utils import CITYSCAPES, metrics

UNSEEN = "0006r0"
CAMVID, STREETS, RUNS = "data/camvid", "checkpoints/streets-512.pt", Path("runs/labels")
EPOCHS = 12  # of all images, the fewest of the notebook, or as many repeated ones
LR = 0.01  # of recipes/own.yaml when the study began; it has another since (docs/labeling.md)
FRAMES = 20  # whose fills are counted, or one more
VOID = 0


class Run(NamedTuple):
    """A training on `count` images, None for all. `start` is `streets` or `random`.

    After no image, that is the network of Streets, or no network at all.
    """

    count: int | None
    start: str
    choice: str
    pixels: float
    seed: int


def plan(seeds: list[int]) -> list[Run]:
    """All runs, seed by seed."""
    runs = [Run(0, start, "none", 1.0, 0) for start in ("random", "streets")]
    for seed in seeds:
        for start in ("streets", "random"):
            runs += [Run(count, start, "at random", 1.0, seed) for count in COUNTS]
        runs += [Run(20, "streets", choice, 1.0, seed) for choice in ("in order", "evenly")]
        runs.append(Run(20, "streets", "at random", 0.1, seed))
    return runs


def choose(run: Run, scenes: Cityscapes) -> list[int]:
    """Which images a run is trained on: their indices."""
    count = len(scenes) if run.count is None else run.count
    if run.choice == "evenly":
        return [(2 * i + 1) * len(scenes) // (2 * count) for i in range(count)]
    generator = torch.Generator().manual_seed(run.seed)
    drawn = torch.randperm(len(scenes), generator=generator).tolist()
    if run.choice == "at random":
        return sorted(drawn[:count])
    # In the notebook's order, of two thirds of the images, so that seeds differ.
    some, model, looks, unsure = sorted(drawn[: len(scenes) * 2 // 3]), load_model(STREETS), [], []
    with progress_bar(len(some), "look at all") as bar:
        for i in some:
            image = read_image(scenes.images[i])
            looks.append(look(image))
            unsure.append(uncertainty(propose(model, image, segments(image), CITYSCAPES, VOID)))
            bar.update()
    order = choose_order(np.array(unsure), np.stack(looks), np.zeros((0, 768)))
    return sorted(some[i] for i in order[:count])


def label_in_part(run: Run, scenes: Cityscapes, indices: list[int], folder: Path) -> list[str]:
    """Label files of `run.pixels` of the pixels, in segments drawn at random; their paths."""
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


def make_loaders(run: Run, recipe: Recipe, folder: Path) -> tuple[DataLoader, DataLoader]:
    """Training batches, and those of a tenth of the unseen video."""
    options = {"transforms": make_transforms(recipe), "seed": recipe.seed, "hold_out": [UNSEEN]}
    scenes = Cityscapes(recipe.data_root, downscale=recipe.downscale, **options)
    length, indices = len(scenes), choose(run, scenes)
    targets = [scenes.targets[i] for i in indices]
    if run.pixels < 1:
        targets = label_in_part(run, scenes, indices, folder / "masks")
    images = [scenes.images[i] for i in indices]
    times = length // len(images) + 1
    scenes.images, scenes.targets = ((each * times)[:length] for each in (images, targets))
    return make_loader(scenes, recipe.batch_size, True), held_out(recipe, UNSEEN, every=10)


def count_fills(model: UNet | None, unseen: Cityscapes) -> float | None:
    """Fills to 95 % of the labels, from a network's proposal or from nothing: the median.

    None where segments are too coarse for most frames.
    """
    counts = []
    for i in range(0, len(unseen), len(unseen) // FRAMES):
        image, truth = read_image(unseen.images[i]), read_grey(unseen.targets[i]).numpy()
        found, mask = segments(image), np.full(truth.shape, VOID, dtype=np.uint8)
        maps = [found]
        if model is not None:
            proposal = propose(model, image, found, CITYSCAPES, VOID)
            maps, mask = [found, regions(proposal)], accept(proposal, mask, VOID)
        counts.append(fills_needed(maps, truth, mask, CITYSCAPES.ids))
    middle = median(np.inf if count is None else count for count in counts)
    return middle if np.isfinite(middle) else None


def perform(run: Run, unseen: Cityscapes, folder: Path) -> dict:
    """Train, or go on, in `folder`, and evaluate the last epoch; what to record."""
    if run.count == 0 and run.start == "random":
        return {"fills": count_fills(None, unseen)}
    if run.count == 0:
        model = load_model(STREETS)
        _, confusion = evaluate(model, make_loader(unseen, 8, False))
        found = metrics(confusion, CITYSCAPES)
        scores = {"mIoU": found["mIoU"], "iou": found["iou"], "accuracy": found["val_accuracy"]}
        return {**scores, "fills": count_fills(model, unseen)}
    init = STREETS if run.start == "streets" else None
    changes = {"data_root": str(unseen.root), "init": init, "seed": run.seed}
    changes |= {"epochs": EPOCHS, "lr": LR}
    recipe = Recipe.from_file(ROOT / "recipes" / "own.yaml", **changes)
    loaders = make_loaders(run, recipe, folder)
    full = held_out(recipe, UNSEEN)
    model, found = train_and_evaluate(recipe, loaders, full, folder, folder.name)
    return {
        **{name: found[name] for name in ("mIoU", "iou", "precision")},
        "accuracy": found["val_accuracy"],
        "fills": count_fills(model, unseen) if init else None,
        "seconds": round(found["seconds"]),
        "recipe": identity(recipe),
    }


@errors_shown()
def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    args = parser.parse_args()
    unseen = Cityscapes(CAMVID, cities=[UNSEEN])
    for run in plan(args.seeds):
        if find("labels", **run._asdict()) is None:
            count = "all" if run.count is None else run.count
            name = f"{count} images {run.choice}, {run.pixels:.0%}, from {run.start}, {run.seed}"
            found = perform(run, unseen, RUNS / name)
            add("labels", "labels", {**run._asdict(), **found})
    print("all runs are on record; now: python -m studies.figures")


if __name__ == "__main__":
    main()

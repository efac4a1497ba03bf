"""Quality for time: three U-Nets train from scratch on CamVid, in turns, equally long.

    python -m studies.race --minutes 9 --seed 0
    python -m studies.race --minutes 9 --seed 1 --only ours

Ours trains with recipes/camvid-quick.yaml, and is done before nine minutes are over.
segmentation-models-pytorch's Unet (resnet18 encoder, no pretrained weights) and MONAI's BasicUNet
train with the loop of their tutorials: full frames, random flip, batches of 8, Adam at 1e-3,
cross-entropy. All use the same loader with as many workers, and compute in what the processor is
fast in (peers in bf16 also in channels-last layout, which is then their fastest). Only training is
timed, not the evaluation on val, at full resolution, between turns. The result is added to
studies/records/race.jsonl. images/race.png shows the last one of each seed.
"""

import copy
import itertools
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from torch import nn
from torch.nn import functional as F

from bench.timing import started
from bench.training import LABELS, make, our_epoch
from dataset import Cityscapes
from engine import Recipe, evaluate_split, make_loaders, make_model
from engine.loaders import set_epoch
from runtime.console import command_line, errors_shown, table
from runtime.machine import ROOT
from runtime.precision import DTYPES, pick_precision
from studies.common import add, read
from tests.plain import plain_input, plain_step
from utils import CITYSCAPES, IGNORE_INDEX, ConfusionMatrix

RECIPE = ROOT / "recipes/camvid-quick.yaml"
# From random weights, as the peers: what the quick recipe was before it started from drawn scenes.
SCRATCH = {
    "init": None,
    "depth": 4,
    "lr": 0.02,
    "class_weights": "enet",
    "label_smoothing": 0.0,
    "epochs": 12,
}
NAMES = ("ours", "smp", "monai")
TURN = 60  # seconds that a peer trains between two evaluations; ours trains an epoch
GOAL = 0.4  # mIoU


def contender(name: str, data_root: str, seed: int) -> Callable:
    """For `started`: a function that returns the next (seconds of training, mIoU), or None."""
    fields = {"data_root": data_root, "seed": seed}
    if name == "ours":
        return partial(next, train_ours(Recipe.from_file(RECIPE, **SCRATCH, **fields)), None)
    plain = Recipe(downscale=1, **fields)  # full frames, flip, batches of 8
    return partial(next, train_peer(make(name, seed=seed), plain), None)


def train_ours(recipe: Recipe) -> Iterator[tuple[float, float]]:
    """An epoch a turn."""
    model = make_model(recipe)
    train_loader, _ = make_loaders(recipe)
    train = our_epoch(recipe, model, train_loader)
    for epoch in range(1, recipe.epochs + 1):
        set_epoch(train_loader, epoch)
        start = time.perf_counter()
        train()
        spent = time.perf_counter() - start
        yield spent, evaluate_split(model, recipe.data_root)[0].mean_iou


def train_peer(model: nn.Module, recipe: Recipe) -> Iterator[tuple[float, float]]:
    """About `TURN` seconds a turn."""
    train_loader, val_loader = make_loaders(recipe)
    dtype = DTYPES[pick_precision("auto", torch.device("cpu"))]
    if dtype == torch.bfloat16:
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    model.train()
    start = time.perf_counter()
    for epoch in itertools.count(1):
        set_epoch(train_loader, epoch)
        for images, labels in train_loader:
            plain_step(model, optimizer, pad(images), pad(labels, IGNORE_INDEX).long(), dtype)
            if (spent := time.perf_counter() - start) > TURN:
                yield spent, evaluate_peer(model, val_loader)
                start = time.perf_counter()


def pad(batch: torch.Tensor, value: int = 0) -> torch.Tensor:
    """Pad height and width to multiples of 32, as the peers need."""
    height, width = batch.shape[-2:]
    return F.pad(batch, (0, -width % 32, 0, -height % 32), value=value)


@torch.inference_mode()
def evaluate_peer(model: nn.Module, val_loader) -> float:
    """mIoU on val."""
    model = copy.deepcopy(model).eval().to(memory_format=torch.channels_last)  # takes half the time
    confusion = ConfusionMatrix(len(CITYSCAPES))
    for images, labels in val_loader:
        logits = model(plain_input(pad(images)))
        predicted = logits.argmax(1)[..., : labels.shape[-2], : labels.shape[-1]]
        confusion.update(labels, predicted)
    return confusion.mean_iou


def race(contenders: dict[str, Callable], seconds: float) -> dict[str, list]:
    """Let each contender train for `seconds`: name -> [[minutes, mIoU], ...]."""
    curves, spent = {name: [] for name in contenders}, dict.fromkeys(contenders, 0.0)
    with started(contenders) as turn:
        while spent:
            name = min(spent, key=spent.get)  # whoever is behind
            _, _, result = turn(name)
            if result is not None:
                spent[name] += result[0]
                curves[name].append([spent[name] / 60, result[1]])
                print(f"{name:6} {spent[name] / 60:5.1f} min  mIoU {result[1]:.1%}", flush=True)
            if result is None or spent[name] >= seconds:
                del spent[name]
    return curves


def reached(curve: list) -> float | None:
    """Minutes until `GOAL`, or None."""
    return next((minutes for minutes, miou in curve if miou >= GOAL), None)


def plot(runs: list[dict]) -> Figure:
    """mIoU on val against minutes of training, a line for each seed."""
    figure = Figure(figsize=(7, 3.9), layout="constrained")
    ax = figure.subplots()
    shown = set()
    for run in runs:
        for name, curve in run["curves"].items():
            minutes, values = zip(*curve, strict=True)
            label = None if name in shown else LABELS[name]
            shown.add(name)
            ax.plot(minutes, values, marker=".", color=f"C{NAMES.index(name)}", label=label)
    ax.axhline(GOAL, color="0.6", lw=1, ls="--")
    ax.set(xlabel="minutes of training", ylabel="mIoU on CamVid val", ylim=(0, None))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=len(NAMES), frameon=False)
    return figure


def report(runs: dict[int, dict]) -> str:
    """A table of the runs, by their seed."""
    rows = []
    for seed, run in sorted(runs.items()):
        for name, curve in run["curves"].items():
            points = curve[-1], max(curve, key=lambda point: point[1])
            texts = [f"{miou:.1%} after {minutes:.1f} min" for minutes, miou in points]
            when = reached(curve)
            rows.append([seed, LABELS[name], *texts, f"{when:.1f} min" if when else "not reached"])
    head = ["seed", "network", "mIoU at the end", "highest mIoU", f"{GOAL:.0%} after"]
    return table(head, rows, 2)


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--data_root", default="data/camvid", help="made by prepare.camvid")
    parser.add_argument("--minutes", type=float, default=9, help="of training, for each")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and augmentation")
    parser.add_argument("--only", choices=NAMES, nargs="+", default=NAMES, help="contenders")
    args = parser.parse_args()
    with errors_shown():
        Cityscapes(args.data_root, "val")
    contenders = {name: partial(contender, name, args.data_root, args.seed) for name in args.only}
    curves = race(contenders, args.minutes * 60)
    run = {"minutes": args.minutes, "seed": args.seed, "curves": curves}
    run[f"minutes to {GOAL:.0%} mIoU"] = {name: reached(curves[name]) for name in curves}
    add("race", "race", run)
    runs = {each["seed"]: each for each in read("race") if each["minutes"] == args.minutes}
    plot([runs[seed] for seed in sorted(runs)]).savefig(ROOT / "images/race.png", dpi=120)
    print(report(runs))


if __name__ == "__main__":
    main()

"""The case studies: padding, batch norm, losses and augmentation, over several seeds.

    python -m studies.study padding loss augmentation batchnorm --seeds 0 1 2
    python -m studies.figures

The first trains what is not on record yet. The second prints the tables and draws the figures. A
study is a dict of arms, of which each changes the setting below in one thing; an arm that another
study has run with the same recipe is not trained again. Seed 0 of all arms comes first, then seed
1. A run that ends is added at once to studies/records/<study>.jsonl. One that was stopped goes on
from its last epoch, in runs/studies/, with the same command.

The setting is the reference recipe's at a size that two cores can afford, chosen by its time before
any result was known: on two cores with AVX512 a run takes some 5 minutes on CamVid in bf16 and 3.5
on Streets, and half as long again in fp32.

- Width 16. Depth 3, since at depth 4 `valid` padding sees nothing of a frame of 180x240 without
  reflection, and at 3 the inner 92x148.
- CamVid: without the video 0006r0, on which every run is evaluated too. Val is of the same video as
  many of the frames that are trained on.
- Streets: no town of its val is in its train.
- The precision that is fast. Runs of different precisions make no pair.
- The last epoch is evaluated, not the best, which would be chosen on val.

With and without batch norm the learning rate is the best of three, by mIoU on val with a seed that
is not counted, 100, on each data set for itself.
"""

from pathlib import Path
from statistics import mean
from typing import NamedTuple

from torch import Tensor

from dataset import Cityscapes
from engine import Recipe, evaluate, make_loader, make_loaders, make_model
from engine.loaders import class_frequencies
from model import UNet
from runtime.console import command_line, errors_shown
from streets import ensure_streets
from streets.tree import VERSION
from studies.common import RECORDS, add, digest, find, identity, is_of, read, train
from utils import ConfusionMatrix, metrics

BASE = {"downscale": 2, "width": 16, "depth": 3}
DATA = {
    "camvid": {"epochs": 24, "halve_every": 12, "hold_out": ("0006r0",)},
    "streets": {"epochs": 10, "halve_every": 5},
}
CROPS = {"camvid": (180, 240), "streets": (128, 256)}  # as large as the frames, at half resolution
SCALE = {"scale": (0.5, 2.0)}
STUDIES = {
    "padding": {"same": {}, "valid": {"padding": "valid"}},
    "batchnorm": {"with": {}, "without": {"batch_norm": False}},
    "loss": {
        "cross-entropy": {},
        "median frequency": {"class_weights": "median_frequency"},
        "ENet's weights": {"class_weights": "enet"},
        "+ Dice": {"loss": "cross_entropy+dice"},
        "+ Lovász": {"loss": "cross_entropy+lovasz"},
    },
    "augmentation": {
        "none": {"flip": 0.0},
        "flip": {},
        "+ scale and crop": SCALE,
        "+ photometric": {**SCALE, "jitter": 0.3},
        "+ blur, noise, JPEG": {**SCALE, "jitter": 0.3, "corrupt": 0.6},
    },
}
LEARNING_RATES = {"batchnorm": (3e-4, 1e-3, 3e-3)}
TUNING_SEED = 100
VERSIONS = {"camvid": 1, "streets": VERSION}  # of the data; a record that names none is of 1
KEPT = "epoch lr train_loss train_accuracy val_loss val_accuracy mIoU precision".split()


class Run(NamedTuple):
    """A training of an arm. `tried` is a learning rate to choose from; the run is not counted."""

    study: str
    data: str
    arm: str
    seed: int
    tried: float | None = None

    def __str__(self) -> str:
        tried = "" if self.tried is None else f", trying lr {self.tried:g}"
        return f"{self.study} on {self.data}, {self.arm}, seed {self.seed}{tried}"


def plan(studies: list[str], seeds: list[int]) -> list[Run]:
    """All runs, in order: by seed, and what chooses a learning rate before what uses it."""
    runs = []
    for seed in seeds:
        for study in studies:
            for data in DATA:
                for arm in STUDIES[study]:
                    for lr in LEARNING_RATES.get(study, ()) if seed == seeds[0] else ():
                        runs.append(Run(study, data, arm, TUNING_SEED, lr))
                runs += [Run(study, data, arm, seed) for arm in STUDIES[study]]
    return runs


def recorded(run: Run) -> dict | None:
    """The record of a run, or None."""
    return find(run.study, **run._asdict())


def chosen_lr(study: str, data: str, arm: str) -> float | None:
    """The learning rate with the best mIoU on val of those tried; None until all were tried.

    One with which the training diverged is the worst; of equals, the first.
    """
    tried = [recorded(Run(study, data, arm, TUNING_SEED, lr)) for lr in LEARNING_RATES[study]]
    if None in tried:
        return None
    best = max(tried, key=lambda e: e["scores"]["val"]["all"]["mIoU"] if e["scores"] else -1)
    return best["tried"]


def changes(run: Run) -> dict:
    """What a run's recipe changes of the defaults, all but where its data are.

    `lr` is None where it is still to be chosen.
    """
    fields = {**BASE, **DATA[run.data], **STUDIES[run.study][run.arm], "seed": run.seed}
    if "scale" in fields:
        fields["crop"] = CROPS[run.data]
    if run.study in LEARNING_RATES:
        fields["lr"] = run.tried or chosen_lr(run.study, run.data, run.arm)
    return fields


def perform(recipe: Recipe, run_dir: Path, name: str) -> dict:
    """Train, or go on, in `run_dir`, and evaluate the last epoch.

    `name` is what to print of the run. Returns

    - frequencies: class name -> its part of the labelled training pixels, 0..1,
    - history: of each epoch what `KEPT` names,
    - seconds: of all epochs,
    - scores: `score` on `val`, and, if the recipe holds out cities, on these as `unseen`; None if
      the training diverged, and then
    - diverged: when.
    """
    loaders = make_loaders(recipe)
    data, val = (loader.dataset for loader in loaders)
    model, records, result = make_model(recipe, data.classes), [], {"scores": None}
    try:
        for record in train(model, loaders, recipe, run_dir, name):
            records.append(record)
        result["scores"] = {"val": score(model, val, recipe)}
        if recipe.hold_out:
            read_as = {"downscale": recipe.downscale, "cache": recipe.cache}
            unseen = Cityscapes(recipe.data_root, "train", cities=recipe.hold_out, **read_as)
            result["scores"]["unseen"] = score(model, unseen, recipe)
    except FloatingPointError as error:
        result["diverged"] = str(error)
    frequencies = class_frequencies(data).tolist()
    return {
        "frequencies": dict(zip(data.classes.names, frequencies, strict=True)),
        "history": [{name: record[name] for name in KEPT} for record in records],
        "seconds": round(sum(record["seconds"] for record in records)),
        **result,
    }


def score(model: UNet, scenes: Cityscapes, recipe: Recipe) -> dict[str, dict]:
    """What `metrics` gives of a data set whose images are of one size, twice.

    `all` is of all pixels, with the cross-entropy as `loss`; `inner` of those that a network with
    `valid` padding would see without reflection, whatever this network's padding is.
    """
    unpadded = UNet(width=1, depth=recipe.depth, padding="valid")
    height, width = unpadded.output_size(*scenes[0][1].shape)
    rows, columns = (slice(unpadded.margin, unpadded.margin + n) for n in (height, width))
    inner = ConfusionMatrix(len(scenes.classes))

    def count(prediction: Tensor, truth: Tensor) -> None:
        inner.update(truth[rows, columns], prediction[rows, columns])

    loader = make_loader(scenes, recipe.batch_size, train=False, workers=recipe.workers)
    loss, confusion = evaluate(model, loader, precision=recipe.precision, on_prediction=count)
    every = {"loss": loss, **metrics(confusion, scenes.classes)}
    return {"all": every, "inner": metrics(inner, scenes.classes)}


def carry_out(run: Run, data_root: str, folder: Path, name: str) -> None:
    """Record a run: train it, unless one of this recipe on the same data is on record."""
    recipe, version = Recipe(data_root=data_root, **changes(run)), VERSIONS[run.data]
    known = [each for study in STUDIES for each in read(study) if each["data"] == run.data]
    if others := {each.get("version", 1) for each in known} - {version}:
        raise ValueError(
            f"{RECORDS} has runs on version {others.pop()} of {run.data}, and these are of version "
            f"{version}: go on at the commit that the records name, or move the records elsewhere"
        )
    entry = next((each for each in known if is_of(each["recipe"], recipe)), None)
    if entry is None:
        entry = perform(recipe, folder / f"{run.data}-{digest(recipe)}", name)
        entry["recipe"] = identity(recipe)
    add(run.study, "study", {**entry, **run._asdict(), "version": version})


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument(
        "studies", nargs="+", choices=STUDIES, metavar="study", help=f"{[*STUDIES]}"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--camvid", default="data/camvid", help="made by prepare.camvid")
    parser.add_argument("--streets", default="data/streets", help="drawn if it is not there")
    parser.add_argument("--runs", type=Path, default=Path("runs/studies"), help="of checkpoints")
    args = parser.parse_args()
    roots = {"camvid": args.camvid, "streets": args.streets}
    with errors_shown():
        if TUNING_SEED in args.seeds:
            raise ValueError(f"seed {TUNING_SEED} chose the learning rates: take another")
        ensure_streets(args.streets)
        runs = plan(args.studies, args.seeds)
        for run in runs:
            if recorded(run) is not None:
                continue
            left = sum(recorded(each) is None for each in runs)
            if seconds := [each["seconds"] for study in STUDIES for each in read(study)]:
                print(f"at most {left * mean(seconds) / 3600:.1f} h left, if as fast as before")
            name = f"{len(runs) - left + 1}/{len(runs)}: {run}"
            carry_out(run, roots[run.data], args.runs, name)
    print(f"all {len(runs)} runs are on record; now: python -m studies.figures")


if __name__ == "__main__":
    main()

"""Leave one sequence out: how well a recipe does on streets that it never saw.

    python -m studies.leave_one_out --recipe recipes/camvid.yaml --epochs 4 --scale "[0.5, 2]"

Trains the recipe once for each city (of CamVid: video) of the training split, without that city.
Evaluates the last epoch on the city's training images, at full resolution. The mean over the cities
is what recipes are chosen by: CamVid's val lies in the same video as half of train, and its test
split is not to be tuned on. Each run adds a line to studies/records/leave-one-out.jsonl, and is not
repeated. One that was stopped goes on, in runs/leave-one-out/. The command takes any field of a
recipe, as train.py does.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

from torch.utils.data import DataLoader

from dataset import Cityscapes
from engine import Recipe, evaluate, fit, make_loader, make_loaders, make_model
from engine.recipe import parse_recipe, recipe_parser
from runtime.machine import commit, machine
from studies.common import RECORDS, digest, errors_shown, identity, is_of
from utils import metrics

RECORD = RECORDS / "leave-one-out.jsonl"


def differences(recipe: Recipe, path: str | None) -> dict:
    """The fields in which a recipe differs from its file, to look at."""
    base = identity(Recipe.from_file(path) if path else Recipe())
    return {"file": path} | {k: v for k, v in identity(recipe).items() if v != base[k]}


def run_fold(recipe: Recipe, city: str, run: Path) -> dict:
    """Train without a city; the last epoch's metrics on that city's images, at full resolution."""
    recipe = replace(recipe, hold_out=(*recipe.hold_out, city))
    train_loader, _ = make_loaders(recipe)
    # `fit` wants a validation after every epoch: a tenth of the frames, for the curve.
    few, full = held_out(recipe, city, every=10), held_out(recipe, city)
    model, seconds = make_model(recipe, full.dataset.classes), 0
    for record in fit(model, train_loader, few, recipe, run):
        seconds += record["seconds"]
        print(f"{city} epoch {record['epoch']}: mIoU {record['mIoU']:.1%}", flush=True)
    _, confusion = evaluate(model, full, precision=record["precision"])
    return {**record, **metrics(confusion, full.dataset.classes), "seconds": seconds}


def held_out(recipe: Recipe, city: str, every: int = 1) -> DataLoader:
    """Batches of the city's training images, all or one in `every`; labels of full resolution."""
    read = {"downscale": recipe.downscale, "downscale_labels": False}
    scenes = Cityscapes(recipe.data_root, recipe.train_split, cities=[city], **read)
    # There is no cache here, which would know its entries by their index among all images.
    scenes.images, scenes.targets = scenes.images[::every], scenes.targets[::every]
    return make_loader(scenes, min(recipe.batch_size, 8), False, recipe.workers)


def summary(folds: dict[str, dict]) -> dict:
    """Scores of each city, their mean, and the minutes, for the record."""
    mious = {city: fold["mIoU"] for city, fold in folds.items()}
    known = {
        city: {name: round(v, 3) for name, v in fold["iou"].items() if v is not None}
        for city, fold in folds.items()
    }
    return {
        "mean": round(sum(mious.values()) / len(mious), 4),
        "mIoU": {city: round(value, 4) for city, value in mious.items()},
        "accuracy": {city: round(fold["val_accuracy"], 4) for city, fold in folds.items()},
        "iou": known,
        "minutes": round(sum(fold["seconds"] for fold in folds.values()) / 60, 1),
        "precision": sorted({fold["precision"] for fold in folds.values()}),
    }


def main() -> None:
    with errors_shown():
        recipe, args = parse_recipe(recipe_parser(__doc__))
        lines = RECORD.read_text().splitlines() if RECORD.exists() else []
        if any(is_of(json.loads(line)["recipe"], recipe) for line in lines):
            sys.exit(f"this run is in {RECORD.name} already")
        cities = {Path(image).parent.name for image in Cityscapes(recipe.data_root).images}
        folds = {}
        for city in sorted(cities - {*recipe.hold_out}):
            run = Path("runs/leave-one-out") / f"{digest(recipe)}-{city}"
            folds[city] = run_fold(recipe, city, run)
    line = {"run": differences(recipe, args.recipe), "seed": recipe.seed, **summary(folds)}
    line |= {"machine": machine(), "commit": commit(), "recipe": identity(recipe)}
    with open(RECORD, "a") as file:
        file.write(json.dumps(line) + "\n")
    print(f"mean mIoU {line['mean']:.1%} after {line['minutes']} minutes: {RECORD}")


if __name__ == "__main__":
    main()

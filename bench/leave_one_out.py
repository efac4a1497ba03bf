"""Leave one sequence out: how well a recipe does on streets that it never saw.

    python -m bench.leave_one_out --recipe recipes/camvid.yaml --epochs 4 --scale "[0.5, 2]"

Trains the recipe once for each city (of CamVid: video) of the training split, without it, and
evaluates the last epoch on that city's training images, at full resolution. The mean over the
cities is what recipes are chosen by: CamVid's val lies in the same video as half of train, and its
test split is not to be tuned on. Each run adds a line to bench/leave-one-out.jsonl; one that is
there is not repeated, and one that was stopped goes on, in runs/leave-one-out/. Takes any field of
a recipe, as train.py.
"""

import hashlib
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

from torch.utils.data import DataLoader

from bench.timing import commit, machine
from dataset import Cityscapes
from engine import Recipe, evaluate, fit, make_loader, make_loaders, make_model
from engine.recipe import parse_recipe, recipe_parser
from runtime.checkpoint import MAY_CHANGE
from utils import metrics

RECORD = Path(__file__).with_name("leave-one-out.jsonl")


def identity(recipe: Recipe) -> dict:
    """The fields that determine a run's result, as they are read back from JSON."""
    fields = {k: v for k, v in asdict(recipe).items() if k not in MAY_CHANGE}
    return json.loads(json.dumps(fields))


def is_of(recorded: dict, recipe: Recipe) -> bool:
    """Whether a record's `identity` is this recipe's; fields that came later had their default."""
    try:
        recorded = Recipe.updated(recorded, RECORD.name)
    except ValueError:  # of fields that are gone
        return False
    return {**identity(Recipe()), **recorded} == identity(recipe)


def digest(recipe: Recipe) -> str:
    """Eight hexadecimal digits that tell recipes of different results apart."""
    return hashlib.sha256(json.dumps(identity(recipe), sort_keys=True).encode()).hexdigest()[:8]


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
    model = make_model(recipe, full.dataset.classes)
    seconds = 0
    for record in fit(model, train_loader, few, recipe, run):
        seconds += record["seconds"]
        print(f"{city} epoch {record['epoch']}: mIoU {record['mIoU']:.1%}", flush=True)
    _, confusion = evaluate(model, full, precision=record["precision"])
    return {**record, **metrics(confusion, full.dataset.classes), "seconds": seconds}


def held_out(recipe: Recipe, city: str, every: int = 1) -> DataLoader:
    """Batches of the city's training images, all or one in `every`; labels of full resolution."""
    scenes = Cityscapes(
        *(recipe.data_root, recipe.train_split),
        downscale=recipe.downscale,
        downscale_labels=False,
        cities=[city],
    )
    # There is no cache here, which would know its entries by their place among all images.
    scenes.images, scenes.targets = scenes.images[::every], scenes.targets[::every]
    return make_loader(scenes, min(recipe.batch_size, 8), False, recipe.workers)


def summary(folds: dict[str, dict]) -> dict:
    """Scores of each city, their mean, and the minutes, for the record."""
    mious = [fold["mIoU"] for fold in folds.values()]
    return {
        "mean": round(sum(mious) / len(mious), 4),
        "mIoU": {city: round(fold["mIoU"], 4) for city, fold in folds.items()},
        "accuracy": {city: round(fold["val_accuracy"], 4) for city, fold in folds.items()},
        "iou": {
            city: {name: round(v, 3) for name, v in fold["iou"].items() if v is not None}
            for city, fold in folds.items()
        },
        "minutes": round(sum(fold["seconds"] for fold in folds.values()) / 60, 1),
        "precision": sorted({fold["precision"] for fold in folds.values()}),
    }


def main() -> None:
    try:
        recipe, args = parse_recipe(recipe_parser(__doc__))
        lines = RECORD.read_text().splitlines() if RECORD.exists() else []
        known = [json.loads(line) for line in lines]
        if any(is_of(line["recipe"], recipe) for line in known):
            sys.exit(f"this run is in {RECORD.name} already")
        cities = {Path(image).parent.name for image in Cityscapes(recipe.data_root).images}
        folds = {}
        for city in sorted(cities - {*recipe.hold_out}):
            run = Path("runs/leave-one-out") / f"{digest(recipe)}-{city}"
            folds[city] = run_fold(recipe, city, run)
    except (OSError, ValueError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; run the same command to go on")
    line = {"run": differences(recipe, args.recipe), "seed": recipe.seed, **summary(folds)}
    line |= {"machine": machine(), "commit": commit(), "recipe": identity(recipe)}
    with open(RECORD, "a") as file:
        file.write(json.dumps(line) + "\n")
    print(f"mean mIoU {line['mean']:.1%} after {line['minutes']} minutes: {RECORD}")


if __name__ == "__main__":
    main()

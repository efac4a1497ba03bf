"""Leave one sequence out: how well a recipe does on streets that it never saw.

    python -m studies.leave_one_out --recipe recipes/camvid.yaml --epochs 4 --scale "[0.5, 2]"

Trains the recipe once for each city (of CamVid: video) of the training split, without that city.
Evaluates the last epoch on the city's training images, at full resolution. The mean over the cities
is what recipes are chosen by: CamVid's val lies in the same video as half of train, and its test
split is not to be tuned on. Each run adds a line to studies/records/leave-one-out.jsonl, and is not
repeated. One that was stopped goes on, in runs/leave-one-out/. The command takes any field of a
recipe, as train.py does.
"""

import sys
from dataclasses import replace
from pathlib import Path
from statistics import mean

from dataset import Cityscapes
from engine import Recipe, make_loaders
from engine.recipe import parse_recipe, recipe_parser
from runtime.console import errors_shown
from studies.common import add, digest, held_out, identity, is_of, read, train_and_evaluate


def run_fold(recipe: Recipe, city: str) -> dict:
    """Train without a city; the last epoch's metrics on that city's images, at full resolution."""
    run = Path("runs/leave-one-out") / f"{digest(recipe)}-{city}"
    recipe = replace(recipe, hold_out=(*recipe.hold_out, city))
    train_loader, _ = make_loaders(recipe)
    # `fit` wants a validation after every epoch: a tenth of the frames, for the curve.
    few, full = held_out(recipe, city, every=10), held_out(recipe, city)
    return train_and_evaluate(recipe, (train_loader, few), full, run, city)[1]


def summary(folds: dict[str, dict]) -> dict:
    """Figures of each city, the mean of their mIoUs, and the minutes, for the record."""
    return {
        "mean": round(mean(fold["mIoU"] for fold in folds.values()), 4),
        "mIoU": {city: round(fold["mIoU"], 4) for city, fold in folds.items()},
        "accuracy": {city: round(fold["val_accuracy"], 4) for city, fold in folds.items()},
        "iou": {city: fold["iou"] for city, fold in folds.items()},
        "minutes": round(sum(fold["seconds"] for fold in folds.values()) / 60, 1),
        "precision": sorted({fold["precision"] for fold in folds.values()}),
    }


@errors_shown()
def main() -> None:
    recipe, _ = parse_recipe(recipe_parser(__doc__))
    names = {Path(image).parent.name for image in Cityscapes(recipe.data_root).images}
    cities = sorted(names - {*recipe.hold_out})
    recorded = [run for run in read("leave-one-out") if sorted(run["mIoU"]) == cities]
    if any(is_of(run["recipe"], recipe) for run in recorded):
        sys.exit("this run is in leave-one-out.jsonl already")
    folds = {city: run_fold(recipe, city) for city in cities}
    run = {"seed": recipe.seed, **summary(folds)}
    add("leave-one-out", "leave_one_out", {**run, "recipe": identity(recipe)})
    print(f"mean mIoU {run['mean']:.1%} after {run['minutes']} minutes")


if __name__ == "__main__":
    main()

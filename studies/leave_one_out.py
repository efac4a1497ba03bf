"""Leave one sequence out: how well a recipe does on streets that it never saw.

    python -m studies.leave_one_out --recipe recipes/camvid.yaml --epochs 4 --scale "[0.5, 2]"

Trains the recipe once for each city (of CamVid: video) of the training split, without that city.
Evaluates the last epoch on the city's training images, at full resolution. The mean over the cities
is what recipes are chosen by: CamVid's val lies in the same video as half of train, and its test
split is not to be tuned on. Each run adds a line to studies/records/leave-one-out.jsonl, and is not
repeated. One that was stopped goes on, in runs/leave-one-out/. The command takes any field of a
recipe, as train.py does. With --average it evaluates the mean of the weights of such trainings,
which were run before (`engine.average`):

    python -m studies.leave_one_out --recipe recipes/camvid.yaml --epochs 40 --average "[0, 1]"
"""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean

from dataset import Cityscapes
from engine import Recipe, evaluate, make_loaders
from engine.average import average
from engine.recipe import parse_recipe, recipe_parser
from inference import load_model
from runtime.console import errors_shown
from runtime.precision import pick_precision
from studies.common import add, digest, held_out, identity, is_of, read, train_and_evaluate
from utils import metrics


def differences(recipe: Recipe, path: str | None) -> dict:
    """The fields in which a recipe differs from its file, to look at."""
    base = identity(Recipe.from_file(path) if path else Recipe())
    return {"file": path} | {k: v for k, v in identity(recipe).items() if v != base[k]}


def directory(recipe: Recipe, city: str) -> Path:
    """Where a recipe is trained without a city."""
    return Path("runs/leave-one-out") / f"{digest(recipe)}-{city}"


def run_fold(recipe: Recipe, city: str) -> dict:
    """Train without a city; the last epoch's metrics on that city's images, at full resolution."""
    run = directory(recipe, city)
    recipe = replace(recipe, hold_out=(*recipe.hold_out, city))
    train_loader, _ = make_loaders(recipe)
    # `fit` wants a validation after every epoch: a tenth of the frames, for the curve.
    few, full = held_out(recipe, city, every=10), held_out(recipe, city)
    return train_and_evaluate(recipe, (train_loader, few), full, run, city)[1]


def average_fold(recipe: Recipe, city: str, seeds: list[int], keep: float) -> dict:
    """As `run_fold`, of the mean of the weights of this recipe's seeds."""
    runs = [directory(replace(recipe, seed=seed), city) for seed in seeds]
    paths = [str(run / "last.pt") for run in runs]
    model = load_model(paths[0])
    precision = pick_precision(recipe.precision, next(model.parameters()).device)
    model.load_state_dict(average(paths, keep))
    _, confusion = evaluate(model, held_out(recipe, city), precision=precision)
    return {**metrics(confusion, model.classes), "seconds": 0, "precision": precision}


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
    parser = recipe_parser(__doc__)
    parser.add_argument("--average", type=list[int], help="seeds whose weights to average")
    parser.add_argument("--keep", type=float, default=0.0, help="part of `init` in the mean")
    recipe, args = parse_recipe(parser)
    of = {"seeds": args.average, "keep": args.keep} if args.average else None
    known = (run for run in read("leave-one-out") if run.get("average") == of)
    if any(is_of(run["recipe"], recipe) for run in known):
        sys.exit("this run is in leave-one-out.jsonl already")
    cities = {Path(image).parent.name for image in Cityscapes(recipe.data_root).images}
    one = partial(average_fold, **of) if of else run_fold
    folds = {city: one(recipe, city) for city in sorted(cities - {*recipe.hold_out})}
    run = {"run": differences(recipe, args.recipe), "seed": recipe.seed, **summary(folds)}
    run |= {"average": of} if of else {}
    add("leave-one-out", "leave_one_out", {**run, "recipe": identity(recipe)})
    print(f"mean mIoU {run['mean']:.1%} after {run['minutes']} minutes")


if __name__ == "__main__":
    main()

"""Shared by the studies: their records, and a training that prints its progress.

studies/records/<name>.jsonl has a line for each run, with the command that repeats it.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from torch import nn
from torch.utils.data import DataLoader

from dataset import Cityscapes
from engine import Recipe, evaluate, fit, make_loader, make_model
from engine.recipe import as_json
from figures import percent
from model import UNet
from runtime.checkpoint import MAY_CHANGE
from runtime.files import atomic_write
from runtime.machine import commit, provenance
from utils import ConfusionMatrix, metrics

commit()  # now: there may be others when a run ends
RECORDS = Path(__file__).with_name("records")
RENAMED = {"degrade": "corrupt"}  # fields of recipes of earlier versions
GONE = {"crop_area": [0.25, 1.0], "crop_start": 1.0}  # by default


def read(name: str, folder: Path | None = None) -> list[dict]:
    """The runs on record, in the order in which they ended; [] if there are none."""
    path = (folder or RECORDS) / f"{name}.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def find(name: str, **fields) -> dict | None:
    """The last run on record that has these fields, or None."""
    found = (run for run in reversed(read(name)) if fields.items() <= run.items())
    return next(found, None)


def add(name: str, module: str, run: dict) -> None:
    """Add a run of `studies.<module>` to a record, which is written atomically."""
    runs = [*read(name), {**provenance(f"studies.{module}"), **run}]
    RECORDS.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in runs)
    atomic_write(RECORDS / f"{name}.jsonl", lines.encode())


def train(
    model: nn.Module, loaders: tuple[DataLoader, ...], recipe: Recipe, run: Path, name: str
) -> Iterator[dict]:
    """Train `name`, or go on, in the directory `run`; prints and yields the epochs' records."""
    for record in fit(model, *loaders, recipe, run):
        epoch, seconds = f"epoch {record['epoch']} of {recipe.epochs}", f"{record['seconds']:.0f} s"
        print(f"{name}: {epoch}, mIoU {percent(record['mIoU'])}, {seconds}", flush=True)
        yield record


def train_and_evaluate(
    recipe: Recipe, loaders: tuple[DataLoader, ...], full: DataLoader, run: Path, name: str
) -> tuple[UNet, dict]:
    """A trained network (see `train`), and what `metrics` gives of its last epoch on `full`.

    With the `seconds` of all epochs, the `precision`, and the mIoU of `mean_of_labelled`.
    """
    model = make_model(recipe, full.dataset.classes, run)
    records = list(train(model, loaders, recipe, run, name))
    precision = records[-1]["precision"]
    _, confusion = evaluate(model, full, precision=precision)
    seconds = sum(record["seconds"] for record in records)
    found = metrics(confusion, full.dataset.classes)
    found["mIoU"] = mean_of_labelled(confusion)
    return model, {**found, "seconds": seconds, "precision": precision}


def mean_of_labelled(confusion: ConfusionMatrix) -> float:
    """mIoU, 0..1, over the classes that the labels have: others are 0 for one predicted pixel."""
    return confusion.iou[confusion.matrix.sum(1).cpu() > 0].mean().item()


def held_out(recipe: Recipe, city: str, every: int = 1) -> DataLoader:
    """Batches of a city's training images, all or one in `every`; labels of full resolution."""
    read_as = {"downscale": recipe.downscale, "downscale_labels": False}
    scenes = Cityscapes(recipe.data_root, recipe.train_split, cities=[city], **read_as)
    scenes.images, scenes.targets = scenes.images[::every], scenes.targets[::every]
    return make_loader(scenes, min(recipe.batch_size, 8), False, recipe.workers)


def identity(recipe: Recipe) -> dict:
    """The fields that determine a run's result, as they are read back from JSON."""
    return as_json({k: v for k, v in asdict(recipe).items() if k not in MAY_CHANGE})


def is_of(recorded: dict, recipe: Recipe) -> bool:
    """Whether a record's `identity` is this recipe's.

    A field that is in one of them alone, since recipes changed, must have had its default. While
    `crop_area` was a field, `crop` and `jitter` did other things without `scale`.
    """
    recorded = {RENAMED.get(name, name): value for name, value in recorded.items()}
    without_scale = not recorded.get("scale") and (recorded.get("crop") or recorded.get("jitter"))
    if "crop_area" in recorded and without_scale:
        return False
    gone = {name: recorded.pop(name, value) for name, value in GONE.items()}
    return gone == GONE and {**identity(Recipe()), **recorded} == identity(recipe)


def digest(recipe: Recipe) -> str:
    """Eight hexadecimal digits that tell recipes of different results apart."""
    return hashlib.sha256(json.dumps(identity(recipe), sort_keys=True).encode()).hexdigest()[:8]

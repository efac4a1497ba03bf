"""A run: its epochs, and the directory from which the same command goes on."""

import json
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.amp import GradScaler
from torch.utils.data import DataLoader

from engine.loaders import class_frequencies, set_epoch
from engine.loop import Trainer, check_classes, device_of, evaluate, train_one_epoch
from engine.losses import Loss, make_class_weights
from engine.optimizer import make_optimizer
from engine.recipe import Recipe, as_json
from model import UNet
from runtime.checkpoint import resume, save_checkpoint
from runtime.cpu import convert, keep_freed_memory
from runtime.distributed import (
    all_reduce_sum,
    average_buffers,
    broadcast_from_main,
    is_main,
    world_size,
    wrap_model,
)
from runtime.files import atomic_write, lock
from runtime.precision import cudnn_benchmark, pick_device, pick_precision
from runtime.shared_memory import lost_workers_named
from utils import metrics


class Stopped(KeyboardInterrupt):
    """Ctrl-C, or a notebook's stop button; a notebook shows its message and no traceback."""

    def _render_traceback_(self) -> list[str]:  # asked for by IPython
        return [str(self)]


def fit(
    model: UNet,
    train_loader: DataLoader,
    val_loader: DataLoader,
    recipe: Recipe,
    run_dir: str | Path,
) -> Iterator[dict]:
    """Train; yields one record per epoch, and saves everything in `run_dir`.

    A record holds epoch (from 1), lr (of the epoch's last step), train_loss, train_accuracy,
    val_loss (without label smoothing), what `metrics` gives, precision, seconds, trained_on_val
    if the recipe trains on val, too, and resumed.
    `run_dir` gets `last.pt` (the full state, after every epoch), `previous.pt` (the one before
    it), `best.pt` (the weights of the highest mIoU so far) and `history.json` (the records).

    If there is a state already, its records are yielded first, with resumed true; training goes
    on from it, and ends with the same bits as an uninterrupted run. Under `torchrun` all processes
    train and yield; the main one writes. A network without `classes` gets the data's.

    Raises ValueError if `run_dir` holds a run of another recipe, the device cannot do what the
    recipe asks for or the network has other settings, BlockingIOError if another process trains
    there, OSError if it cannot be written, ChildProcessError (an OSError) if a loader worker is
    lost, FloatingPointError if the loss is not finite, Stopped (a KeyboardInterrupt) if it is
    interrupted. `run_dir` then holds the state after the last good epoch.
    """
    differ = {k: v for k, v in recipe.network().items() if model.settings.get(k, v) != v}
    if differ:
        raise ValueError(f"the network was made with other settings than the recipe's {differ}")
    classes = train_loader.dataset.classes
    if model.classes is None and model.settings["num_classes"] == len(classes):
        model.classes = classes
    check_classes(model, classes)
    device = pick_device(recipe.device)
    precision = pick_precision(recipe.precision, device)
    run_dir = Path(run_dir)
    with lock(run_dir) if is_main() else nullcontext(), lost_workers_named():
        keep_freed_memory()
        model.to(device)
        if device.type == "cpu":
            convert(model)
        trainer = make_trainer(recipe, model, train_loader, precision)
        data = train_loader.dataset.fingerprint()
        run = Run(run_dir, model, recipe, trainer, precision, data)
        run.resume()
        yield from [{**record, "resumed": True} for record in run.history]
        for epoch in range(len(run.history) + 1, recipe.epochs + 1):
            set_epoch(train_loader, epoch)
            with errors_of_epoch(epoch, recipe, train_loader, val_loader):
                record = train_and_evaluate(run, epoch, train_loader, val_loader)
            run.save(record)
            yield {**record, "resumed": False}


def make_trainer(recipe: Recipe, model: UNet, loader: DataLoader, precision: str) -> Trainer:
    """What a recipe trains `model` with, which is on the device that is to compute.

    Raises ValueError for a loss that is not for several processes.
    """
    device = device_of(model)
    net = wrap_model(model, precision)
    optimizer, scheduler = make_optimizer(recipe, model, len(loader))
    scaler = GradScaler(device.type, enabled=precision == "fp16")
    loss = make_loss(recipe, loader, device)
    return Trainer(net, loss, optimizer, scheduler, scaler, recipe.accumulate, recipe.crop is None)


def make_loss(recipe: Recipe, loader: DataLoader, device: torch.device) -> Loss:
    """The recipe's loss, with the weights that it gives the classes of the training data."""
    if world_size() > 1 and "lovasz" in recipe.loss:
        raise ValueError(
            "recipe: the Lovász loss sorts the pixels of the full batch, which processes do not "
            "see: train with one process, or with cross_entropy+dice"
        )
    weights = None
    if recipe.class_weights is not None:
        # One process reads all labels.
        frequencies = broadcast_from_main(class_frequencies, loader.dataset)
        weights = make_class_weights(recipe.class_weights, frequencies).to(device)
    return Loss(
        kind=recipe.loss,
        class_weights=weights,
        label_smoothing=recipe.label_smoothing,
        reduce=all_reduce_sum,
    )


@contextmanager
def errors_of_epoch(epoch: int, recipe: Recipe, *loaders: DataLoader) -> Iterator[None]:
    """Within, errors name the epoch.

    After an error the loaders forget their workers, so that a notebook's cell that is run again is
    not given the rest of this epoch's batches.
    """
    try:
        yield
    except BaseException as error:
        for loader in loaders:
            loader._iterator = None
        if isinstance(error, KeyboardInterrupt):
            raise Stopped(
                f"stopped after epoch {epoch - 1} of {recipe.epochs}: run the same again to go on"
            ) from None
        if isinstance(error, FloatingPointError):
            message = f"epoch {epoch}/{recipe.epochs}: {error}; last.pt is the state before it"
            raise FloatingPointError(message) from error
        raise


def train_and_evaluate(
    run: "Run", epoch: int, train_loader: DataLoader, val_loader: DataLoader
) -> dict:
    """An epoch of training and one of validation; returns its record."""
    start, name = time.perf_counter(), f"epoch {epoch}/{run.recipe.epochs}"
    # cuDNN may time its algorithms where the images are all of one size.
    with cudnn_benchmark(run.recipe.crop is not None or run.recipe.batch_size > 1):
        train_loss, train_accuracy = train_one_epoch(run.trainer, train_loader, name)
    average_buffers(run.model)
    options = {"precision": run.precision, "description": f"{name} val"}
    val_loss, confusion = evaluate(run.model, val_loader, run.trainer.loss, **options)
    record = dict(  # raises TypeError for a metric that has the name of another field
        epoch=epoch,
        lr=run.trainer.lr,
        train_loss=train_loss,
        train_accuracy=train_accuracy,
        val_loss=val_loss,
        **metrics(confusion, val_loader.dataset.classes),
        precision=run.precision,
        seconds=round(time.perf_counter() - start, 1),
    )
    return record | {"trained_on_val": True} if run.recipe.train_split == "trainval" else record


@dataclass
class Run:
    """The directory of a run: the state that it goes on from, and its history.

    Args:
        directory: of the run; must be locked.
        data: the fingerprint of the training data.
        history: the records of all epochs so far.
    """

    directory: Path
    model: UNet
    recipe: Recipe
    trainer: Trainer
    precision: str
    data: str
    history: list[dict] = field(default_factory=list)

    def resume(self) -> None:
        """Go back to the last state in the directory, or write the first.

        Raises as `checkpoint.resume`.
        """
        training = self.trainer.state()
        found = resume(self.directory, self.model, self.recipe, training, self.data)
        self.history = found or []
        if not is_main():
            return
        for part in self.directory.glob("*.part"):  # of a write that was killed
            part.unlink()
        if found is None:
            if (self.directory / "best.pt").exists():
                raise ValueError(
                    f"{self.directory} holds best.pt of an earlier run, and no last.pt to go on "
                    "from: move it, or choose another run directory"
                )
            self._save("last.pt", training)
        elif found:
            self._write_history()  # a kill between the two leaves it an epoch behind
            before = found[-1].get("precision", self.precision)
            if before != self.precision and len(found) < self.recipe.epochs:
                warnings.warn(
                    f"{self.directory} was trained in {before} and goes on in {self.precision}, "
                    f"which this device is fast in: `precision: {before}` would keep that",
                    stacklevel=3,
                )

    def save(self, record: dict) -> None:
        """Add an epoch's record, and write its files.

        `last.pt` follows `best.pt`: after a kill between them the epoch is trained again, with the
        same result, and both are written.
        """
        record = as_json(record)
        self.history.append(record)
        if not is_main():
            return
        best = max(self.history, key=lambda each: each["mIoU"] or 0)  # None: no pixel is labelled
        if self.recipe.train_split == "trainval" or record is best:
            self._save("best.pt")
        self._save("last.pt", self.trainer.state())
        self._write_history()

    def _save(self, name: str, training: dict | None = None) -> None:
        data = self.data if training else ""
        path = self.directory / name
        save_checkpoint(path, self.model, self.recipe, self.history, training, data)

    def _write_history(self) -> None:
        content = json.dumps(self.history, indent=1).encode()
        atomic_write(self.directory / "history.json", content)

"""Training and evaluation: an epoch of each, and the loop over the epochs."""

import json
import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.utils.data import DataLoader

from engine.loaders import class_shares, one_size_batches, set_epoch
from engine.losses import count_pixels, criterion, make_class_weights
from engine.optimizer import make_optimizer
from engine.recipe import Recipe
from inference import has_finite_weights, inference_net, predict_logits
from model import UNet
from runtime.checkpoint import resume, save_checkpoint
from runtime.console import progress_bar
from runtime.cpu import convert, keep_freed_memory
from runtime.distributed import (
    all_reduce_sum,
    average_buffers,
    broadcast_from_main,
    is_main,
    reduced_after,
    unwrap,
    world_size,
    wrap_model,
)
from runtime.files import atomic_write, lock
from runtime.precision import cudnn_benchmark, pick_device, pick_precision
from runtime.shared_memory import lost_workers_named
from utils import Classes, ConfusionMatrix, label_map, metrics

CURE = "lower `lr`, or look at the labels"  # of a training that diverges


def zeros(device: torch.device, *size: int) -> Tensor:
    """Sums to add to: float64 where the device has it."""
    dtype = torch.float32 if device.type == "mps" else torch.float64
    return torch.zeros(size, dtype=dtype, device=device)


def to_device(batch: Tensor, device: torch.device) -> Tensor:
    """The batch on `device`; a copy from pinned memory, as for CUDA, goes on beside the CPU."""
    return batch.to(device, non_blocking=device.type == "cuda")


@lost_workers_named()
def train_one_epoch(
    net: nn.Module,
    loader: DataLoader,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    device: torch.device,
    loss: str = "cross_entropy",
    scaler: GradScaler | None = None,
    accumulate: int = 1,
    class_weights: Tensor | None = None,
    description: str = "train",
    whole: bool = False,
    label_smoothing: float = 0.0,
) -> tuple[float, float]:
    """One pass over the training data; returns its mean loss and pixel accuracy (0..1).

    Both are means over the scored pixels, taken while the weights change.

    Args:
        net: a `UNet`, or what `wrap_model` makes of one.
        scaler: for fp16.
        accumulate: parts in which a batch passes the network, to save memory; the step is that
            of the whole batch, but batch norm sees the parts.
        class_weights, label_smoothing: as `criterion` takes them.
        whole: with `valid` padding, extend the images by reflection and train on all their
            pixels; False trains on those that the network sees without. No effect with `same`.

    Raises FloatingPointError if the loss is not finite, ChildProcessError if a worker is lost.
    """
    net.train()
    scaler = scaler or GradScaler(device.type, enabled=False)
    margin = unwrap(net).margin
    totals = zeros(device, 3)  # loss * pixels, hits, pixels
    with progress_bar(len(loader.dataset), description) as bar:
        shown_at = time.monotonic()
        for images, labels in loader:
            images, labels = to_device(images, device), to_device(labels, device)
            if not whole:
                h, w = unwrap(net).output_size(*images.shape[-2:])  # smaller if padding is `valid`
                labels = labels[:, margin : margin + h, margin : margin + w]
            pixels = weighted = count_pixels(labels)
            if class_weights is not None:
                weighted = count_pixels(labels, class_weights)
            batch_pixels = all_reduce_sum(weighted)
            optimizer.zero_grad()
            for i in range(accumulate):
                truth = labels[i::accumulate]
                if not len(truth) and world_size() == 1:  # other processes may have an image here
                    continue
                with reduced_after(net, last=i == accumulate - 1):
                    logits = net(images[i::accumulate], whole=whole)
                    value = criterion(
                        logits,
                        truth,
                        loss,
                        all_reduce_sum,
                        batch_pixels,
                        class_weights,
                        label_smoothing,
                    )
                    with torch.no_grad():
                        hits = (label_map(logits) == truth).sum()
                        value_sum = value.detach().to(totals.dtype) * pixels
                        totals += torch.stack([value_sum, hits, count_pixels(truth)])
                    del logits  # room for the backward pass
                    # The loss is the mean over the pixels of all processes, and DDP divides the
                    # sum of their gradients by their number, so that this must be multiplied in.
                    scaler.scale(value * world_size()).backward()
            scaler.step(optimizer)
            scaler.update()
            scheduler.step()
            bar.update(len(images) * world_size())
            if time.monotonic() - shown_at > 1:  # reading the sums makes a GPU wait
                bar.set_postfix(loss=f"{_means(totals)[0]:.3f}", refresh=False)
                shown_at = time.monotonic()
    return tuple(_means(all_reduce_sum(totals)))


def _means(totals: Tensor) -> list[float]:
    """Sums divided by the last of them, a number of pixels; FloatingPointError if not finite."""
    *sums, pixels = totals.tolist()
    if not all(map(math.isfinite, sums)):
        raise FloatingPointError(f"the loss is no longer a finite number: {CURE}")
    return [value / max(pixels, 1) for value in sums]


@lost_workers_named()
@torch.inference_mode()
def evaluate(
    model: UNet,
    loader: DataLoader,
    device: torch.device,
    loss: str = "cross_entropy",
    precision: str = "auto",
    class_weights: Tensor | None = None,
    description: str = "evaluate",
    on_prediction: Callable[[Tensor], None] | None = None,
    tta: bool = False,
) -> tuple[float, ConfusionMatrix]:
    """Mean loss over the scored pixels, and the confusion matrix, of a whole data set.

    The loss is computed image by image, so that it does not depend on the batches. Where the
    labels are larger than the images (`downscale_labels=False`) the logits are upsampled
    bilinearly first. With `valid` padding the images are extended by reflection, so that every
    label is judged. `on_prediction` is called with each predicted label map, in the loader's
    order: uint8 (H, W) train ids on the CPU. `tta` as in `predict_logits`.

    Raises ValueError for a network of other classes than the data's, FloatingPointError if the
    loss or a weight is not finite.
    """
    check_classes(model, loader.dataset.classes)
    if not has_finite_weights(model):  # a ReLU that oneDNN fuses makes 0 of NaN: no loss would show
        raise FloatingPointError(f"the weights are no longer finite numbers: {CURE}")
    net = inference_net(model, precision)
    confusion = ConfusionMatrix(model.settings["num_classes"])
    total = zeros(device)  # loss * pixels
    with progress_bar(len(loader.dataset), description) as bar:
        for images, labels in one_size_batches(loader):
            images, labels = to_device(images, device), to_device(labels, device)
            predictions = predict_logits(net, images, labels.shape[-2:], tta)
            for logits, truth in zip(predictions, labels.split(1), strict=True):
                pixels = count_pixels(truth)
                value = criterion(logits, truth, loss, class_weights=class_weights)
                total += value.to(total.dtype) * pixels
                prediction = label_map(logits)
                confusion.update(truth, prediction)
                if on_prediction is not None:
                    on_prediction(prediction[0].cpu())
            bar.update(len(images) * world_size())
    confusion.matrix = all_reduce_sum(confusion.matrix.to(device))
    pixels = confusion.matrix.sum().to(total.dtype)
    return _means(torch.stack([all_reduce_sum(total), pixels]))[0], confusion


def check_classes(model: UNet, classes: Classes) -> None:
    """Raise ValueError, with the classes that differ, if a network has others than the data."""
    if model.classes is None and model.settings["num_classes"] == len(classes):
        return
    ours = model.classes.names if model.classes else (f"{model.settings['num_classes']} others",)
    if ours != classes.names:
        only = [name for name in ours if name not in classes.names]
        others = [name for name in classes.names if name not in ours]
        differences = (
            f"only the network has {', '.join(only[:5]) or 'none'}; only the data has "
            f"{', '.join(others[:5]) or 'none'}"
            if only or others
            else "they are in another order"
        )
        raise ValueError(
            f"the network's classes are not the data's ({differences}): take a checkpoint that was "
            "trained on these classes, or start from its weights with `init`"
        )


def fit(
    model: UNet,
    train_loader: DataLoader,
    val_loader: DataLoader,
    recipe: Recipe,
    run_dir: str | Path,
) -> Iterator[dict]:
    """Train; yields one record per epoch, and saves everything in `run_dir`.

    A record holds epoch (from 1), lr (which the next step would take), train_loss,
    train_accuracy, val_loss, what `metrics` gives, precision, seconds, and trained_on_val if the
    recipe trains on val, too.
    `run_dir` gets `last.pt` (the full state, after every epoch), `previous.pt` (the one before
    it), `best.pt` (the weights of the highest mIoU so far) and `history.json` (the records).

    If there is a state already, its records are yielded first (so that a log of them must expect
    each again) and training goes on from it, and ends with the same bits as an uninterrupted run.
    Under `torchrun` all processes train and yield; the main one writes. A network without
    `classes` gets the data's.

    Raises ValueError if `run_dir` holds a run of another recipe or the device cannot do what the
    recipe asks for, BlockingIOError if another process trains there, OSError if it cannot be
    written, ChildProcessError (an OSError) if a loader worker is lost, FloatingPointError if the
    loss is not finite; what is in `run_dir` is then still the state after the last good epoch.
    """
    run_dir = Path(run_dir)
    classes = train_loader.dataset.classes
    if model.classes is None and model.settings["num_classes"] == len(classes):
        model.classes = classes
    if world_size() > 1 and recipe.loss == "cross_entropy+lovasz":
        raise ValueError(
            "recipe: the Lovász loss sorts the pixels of the whole batch, which processes do not "
            "see: train with one process, or with cross_entropy+dice"
        )
    device = pick_device(recipe.device)
    precision = pick_precision(recipe.precision, device)
    with lock(run_dir) if is_main() else nullcontext(), lost_workers_named():
        keep_freed_memory()
        model.to(device)
        net = wrap_model(convert(model) if device.type == "cpu" else model, precision)
        optimizer, scheduler = make_optimizer(recipe, model, len(train_loader))
        scaler = GradScaler(device.type, enabled=precision == "fp16")
        training = {"optimizer": optimizer, "scheduler": scheduler, "scaler": scaler}
        weights = class_weights_of(recipe, train_loader, device)
        data = train_loader.dataset.fingerprint()
        history = start_or_resume(run_dir, model, recipe, training, precision, data)
        yield from history
        # A new size would be timed anew, growing crops in every epoch.
        one_size = recipe.crop_start == 1 and (recipe.crop is not None or recipe.batch_size > 1)
        for epoch in range(len(history) + 1, recipe.epochs + 1):
            start, name = time.perf_counter(), f"epoch {epoch}/{recipe.epochs}"
            set_epoch(train_loader, epoch)
            try:
                with cudnn_benchmark(one_size):
                    train_loss, train_accuracy = train_one_epoch(
                        *(net, train_loader, optimizer, scheduler, device),
                        *(recipe.loss, scaler, recipe.accumulate, weights, name),
                        whole=recipe.crop is None,
                        label_smoothing=recipe.label_smoothing,
                    )
                average_buffers(model)
                val_loss, confusion = evaluate(
                    *(model, val_loader, device, recipe.loss, precision, weights),
                    description=f"{name} val",
                )
            except FloatingPointError as error:
                message = f"{name}: {error}; last.pt is the state before it"
                raise FloatingPointError(message) from error
            except (KeyboardInterrupt, RuntimeError, OSError, EOFError):
                # A notebook's cell that is run again must not be given the rest of this epoch, nor
                # the workers of which one was lost.
                train_loader._iterator = val_loader._iterator = None
                raise
            record = {
                "epoch": epoch,
                "lr": scheduler.get_last_lr()[0],
                "train_loss": train_loss,
                "train_accuracy": train_accuracy,
                "val_loss": val_loss,
                **metrics(confusion, val_loader.dataset.classes),
                "precision": precision,
                "seconds": round(time.perf_counter() - start, 1),
            }
            if recipe.train_split == "trainval":
                record["trained_on_val"] = True
            history.append(record)
            if is_main():
                save_epoch(run_dir, model, recipe, history, training, data)
            yield record


def class_weights_of(recipe: Recipe, loader: DataLoader, device: torch.device) -> Tensor | None:
    """The weights that the recipe gives the classes of the training data, if any."""
    if recipe.class_weights is None:
        return None
    shares = broadcast_from_main(class_shares, loader.dataset)  # one process reads all labels
    return make_class_weights(recipe.class_weights, shares).to(device)


def start_or_resume(
    run_dir: Path, model: UNet, recipe: Recipe, training: dict, precision: str, data: str
) -> list[dict]:
    """Go back to the last state in `run_dir`, or write the first; returns the history so far."""
    history = resume(run_dir, model, recipe, training, data)
    if is_main():
        for part in run_dir.glob("*.part"):  # of a write that was killed
            part.unlink()
        if history is None:
            save_checkpoint(run_dir / "last.pt", model, recipe, [], training, data)
        elif history:
            write_history(run_dir, history)  # a kill between the two leaves it an epoch behind
            before = history[-1].get("precision", precision)
            if before != precision and len(history) < recipe.epochs:
                warnings.warn(
                    f"{run_dir} was trained in {before} and goes on in {precision}, which this "
                    f"device is fast in: `precision: {before}` would keep that",
                    stacklevel=3,
                )
    return history or []


def save_epoch(
    run_dir: Path, model: UNet, recipe: Recipe, history: list[dict], training: dict, data: str
) -> None:
    """Write an epoch's files.

    `last.pt` follows `best.pt`: after a kill between them the epoch is trained again, with the
    same result, and both are written.
    """
    best = max(history, key=lambda record: record["mIoU"] or 0)  # None: no pixel was scored
    if recipe.train_split == "trainval" or history[-1] is best:
        save_checkpoint(run_dir / "best.pt", model, recipe, history)
    save_checkpoint(run_dir / "last.pt", model, recipe, history, training, data)
    write_history(run_dir, history)


def write_history(run_dir: Path, history: list[dict]) -> None:
    """The records as JSON."""
    atomic_write(run_dir / "history.json", json.dumps(history, indent=1).encode())

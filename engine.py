"""Training and evaluation: the steps, and the loop over epochs."""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from checkpoint import resume, save_checkpoint, write
from dataset import Cityscapes
from distributed import add_up, average_buffers, is_main, parallel, world_size
from guard import finish_step, lock, until_stopped
from losses import criterion
from model import UNet, predict
from recipe import Recipe, make_optimizer
from speed import fold_batch_norm, keep_freed_memory
from utils import CATEGORIES, CLASS_NAMES, IGNORE_INDEX, ConfusionMatrix


def pick_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 where the GPU computes in it; off elsewhere."""
    on = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=on)


def unwrap(model: nn.Module) -> UNet:
    """The network itself, whether or not it is under `distributed.parallel`."""
    return getattr(model, "module", model)


def progress(loader: DataLoader, description: str) -> tqdm:
    """A bar of the images of all processes, which the main one shows where someone looks."""
    disable = None if is_main() else True
    images = len(loader.dataset)
    return tqdm(total=images, desc=description, unit="img", leave=False, disable=disable)


def train_one_epoch(
    model: nn.Module,
    loader: DataLoader,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    device: torch.device,
    loss: str = "cross_entropy",
    description: str = "train",
) -> tuple[float, float]:
    """One pass over the training data; returns its mean loss and pixel accuracy (0..1).

    Both are means over the scored pixels, as they came while the weights changed. Raises
    FloatingPointError if the loss is not finite.
    """
    model.train()
    margin = unwrap(model).margin
    totals = torch.zeros(3, dtype=torch.float64, device=device)  # loss * pixels, hits, pixels
    with progress(loader, description) as bar:
        read_at = time.monotonic()
        for images, labels in until_stopped(loader):
            images = images.to(device, non_blocking=True)
            labels = labels.to(device, non_blocking=True)
            with autocast(device):
                logits = model(images)
            h, w = logits.shape[-2:]  # smaller than the picture if padding is `valid`
            labels = labels[:, margin : margin + h, margin : margin + w]
            value = criterion(logits, labels, loss, add_up)  # of the batch of all processes
            with torch.no_grad():
                pixels = (labels != IGNORE_INDEX).sum()
                hits = (logits.argmax(1) == labels).sum()
                totals += torch.stack([value.detach().double() * pixels, hits, pixels])
            del logits  # room for the backward pass
            optimizer.zero_grad()
            (value * world_size()).backward()  # the gradients' mean over them so is their sum
            optimizer.step()
            scheduler.step()
            bar.update(len(images) * world_size())
            if time.monotonic() - read_at > 1:  # a look at the sums makes a GPU wait
                bar.set_postfix(loss=f"{_means(*totals)[0]:.3f}", refresh=False)
                read_at = time.monotonic()
    return tuple(_means(*add_up(totals)))


def _means(*totals: Tensor) -> list[float]:
    """Sums divided by the last of them, a number of pixels; FloatingPointError if not finite."""
    *sums, pixels = torch.stack([total.double().cpu() for total in totals]).tolist()
    if not all(map(math.isfinite, sums)):
        raise FloatingPointError(
            "the loss is no longer a finite number: lower `lr`, or look at the labels"
        )
    return [value / max(pixels, 1) for value in sums]


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    loader: DataLoader,
    device: torch.device,
    loss: str = "cross_entropy",
    description: str = "evaluate",
    keep: Callable[[Tensor], None] | None = None,
) -> tuple[float, ConfusionMatrix]:
    """Mean loss over the scored pixels, and the confusion matrix, of a whole data set.

    The loss is computed picture by picture, so that it does not depend on the batches. Where the
    labels are larger than the pictures (`downscale_labels=False`) the logits are upsampled
    bilinearly first. With `valid` padding the pictures are extended by reflection, so that every
    label is judged. `keep` is called with what is judged, picture by picture in the loader's
    order: uint8 (H, W) train ids on the CPU.
    """
    net = fold_batch_norm(unwrap(model))
    if isinstance(model, nn.DataParallel):
        net = nn.DataParallel(net)
    if (classes := unwrap(model).settings["num_classes"]) != len(CLASS_NAMES):
        raise ValueError(
            f"the network tells {classes} classes apart, the labels {len(CLASS_NAMES)}: "
            "take a checkpoint that was trained on them"
        )
    confusion = ConfusionMatrix(classes)
    total = torch.zeros((), dtype=torch.float64, device=device)  # loss * pixels
    with progress(loader, description) as bar:
        for images, labels in until_stopped(loader):
            images = images.to(device, non_blocking=True)
            labels = labels.to(device, non_blocking=True)
            with autocast(device):
                batch = net(images, whole=True)
            # One by one: a batch's logits at Cityscapes' full resolution are gigabytes.
            for logits, truth in zip(batch.split(1), labels.split(1), strict=True):
                logits = logits.float()
                if logits.shape[-2:] != truth.shape[-2:]:
                    logits = F.interpolate(logits, truth.shape[-2:], mode="bilinear")
                total += criterion(logits, truth, loss).double() * (truth != IGNORE_INDEX).sum()
                prediction = logits.argmax(1).to(torch.uint8)
                confusion.update(truth, prediction)
                if keep is not None:
                    keep(prediction[0].cpu())
            bar.update(len(images) * world_size())
    confusion.matrix = add_up(confusion.matrix.to(device))
    return _means(add_up(total), confusion.matrix.sum())[0], confusion


def rank_scenes(model: UNet, scenes: Cityscapes) -> list[tuple[float, int]]:
    """(pixel accuracy, index) of every scene at full resolution, the best first.

    Scenes without a scored pixel are left out.
    """
    ranked = []
    model = fold_batch_norm(model)  # here, not for each of them
    for index in tqdm(range(len(scenes)), desc="rank", unit="img", leave=False, disable=None):
        image, labels = scenes[index]
        confusion = ConfusionMatrix(model.settings["num_classes"])
        confusion.update(labels, predict(model, image))
        if confusion.matrix.any():
            ranked.append((confusion.pixel_accuracy, index))
    return sorted(ranked, reverse=True)


def fit(
    model: UNet,
    train_loader: DataLoader,
    val_loader: DataLoader,
    recipe: Recipe,
    run_dir: str | Path,
) -> Iterator[dict]:
    """Train; yields one record per epoch, and keeps everything in `run_dir`.

    A record holds epoch (from 1), lr (at its end), train_loss, train_accuracy, val_loss, what
    `metrics` gives, and seconds. `run_dir` gets `last.pt` (the full state, after every epoch),
    `previous.pt` (the one before it), `best.pt` (the weights of the highest mIoU so far) and
    `history.json` (the records). If there is a state already, its records are yielded first and
    training goes on behind them, to the bits that it would have reached in one go. On Ctrl-C it
    finishes the step at hand. Under `torchrun` all processes train and yield; the main one writes.

    Raises ValueError if `run_dir` holds a run of another recipe, BlockingIOError if another
    process trains there, OSError if it cannot be written, FloatingPointError if the loss is not
    finite; what is in `run_dir` then still is the state after the last good epoch.
    """
    run_dir = Path(run_dir)
    with lock(run_dir) if is_main() else nullcontext():
        keep_freed_memory()
        device = pick_device()
        model.to(device)
        net = parallel(model)
        optimizer, scheduler = make_optimizer(recipe, model, len(train_loader))
        training = {"optimizer": optimizer, "scheduler": scheduler}
        history = start_or_resume(run_dir, model, recipe, training)
        yield from history
        for epoch in range(len(history) + 1, recipe.epochs + 1):
            with finish_step():
                history.append(
                    run_epoch(
                        epoch, net, train_loader, val_loader, recipe, optimizer, scheduler, device
                    )
                )
                if is_main():
                    keep_epoch(run_dir, model, recipe, history, training)
            yield history[-1]


def start_or_resume(run_dir: Path, model: UNet, recipe: Recipe, training: dict) -> list[dict]:
    """Go back to the last state in `run_dir`, or write the first; returns the history so far."""
    history = resume(run_dir, model, recipe, training)
    if is_main():
        for part in run_dir.glob("*.part"):  # of a write that was killed
            part.unlink()
        if history is None:
            save_checkpoint(run_dir / "last.pt", model, recipe, [], training)
        elif history:
            write_history(run_dir, history)  # a kill between the two leaves it an epoch behind
    return history or []


def start_epoch(train_loader: DataLoader, recipe: Recipe, epoch: int) -> None:
    """Make the order of the images and their augmentation those of this epoch, from 1 on."""
    train_loader.dataset.set_epoch(epoch)
    train_loader.batch_sampler.sampler.generator.manual_seed(recipe.seed * 1_000_003 + epoch)


def run_epoch(
    epoch: int,
    net: nn.Module,
    train_loader: DataLoader,
    val_loader: DataLoader,
    recipe: Recipe,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    device: torch.device,
) -> dict:
    """Train an epoch and judge it: its record, as in `fit`."""
    start = time.perf_counter()
    start_epoch(train_loader, recipe, epoch)
    name = f"epoch {epoch}/{recipe.epochs}"
    try:
        train_loss, train_accuracy = train_one_epoch(
            net, train_loader, optimizer, scheduler, device, recipe.loss, name
        )
        average_buffers(unwrap(net))
        val_loss, confusion = evaluate(net, val_loader, device, recipe.loss, f"{name} val")
    except FloatingPointError as error:
        raise FloatingPointError(f"{name}: {error}; last.pt is the state before it") from error
    return {
        "epoch": epoch,
        "lr": scheduler.get_last_lr()[0],
        "train_loss": train_loss,
        "train_accuracy": train_accuracy,
        "val_loss": val_loss,
        **metrics(confusion),
        "seconds": round(time.perf_counter() - start, 1),
    }


def keep_epoch(
    run_dir: Path, model: UNet, recipe: Recipe, history: list[dict], training: dict
) -> None:
    """Write an epoch's files.

    `last.pt` follows `best.pt`: after a kill between them the epoch is trained again, to the
    same bits, and both are written.
    """
    if history[-1] is max(history, key=lambda record: record["mIoU"]):
        save_checkpoint(run_dir / "best.pt", model, recipe, history)
    save_checkpoint(run_dir / "last.pt", model, recipe, history, training)
    write_history(run_dir, history)


def write_history(run_dir: Path, history: list[dict]) -> None:
    """The records as JSON."""
    write(run_dir / "history.json", json.dumps(history, indent=1).encode())


def metrics(confusion: ConfusionMatrix) -> dict:
    """The figures of a validation as plain numbers, 0..1.

    val_accuracy, mIoU and iou (class name -> IoU, None where the class is absent), and
    category_mIoU and category_iou, the same of Cityscapes' seven categories: what its own
    evaluator (cityscapesscripts) calls averageScoreClasses, classScores, averageScoreCategories
    and categoryScores.
    """
    categories = confusion.merged(CATEGORIES)

    def named(names: Iterable[str], iou: Tensor) -> dict[str, float | None]:
        pairs = zip(names, iou.tolist(), strict=True)
        return {name: None if math.isnan(value) else value for name, value in pairs}

    return {
        "val_accuracy": confusion.pixel_accuracy,
        "mIoU": confusion.mean_iou,
        "iou": named(CLASS_NAMES, confusion.iou),
        "category_mIoU": categories.mean_iou,
        "category_iou": named(dict.fromkeys(CATEGORIES), categories.iou),
    }

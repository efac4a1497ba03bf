"""An epoch of training, and one of evaluation."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from engine.loaders import one_size_batches
from engine.losses import Loss, count_pixels, identity
from inference import has_finite_weights, inference_net, predict_logits
from model import UNet
from runtime.console import progress_bar
from runtime.distributed import all_reduce_sum, reduced_after, unwrap, world_size
from runtime.shared_memory import lost_workers_named
from utils import Classes, ConfusionMatrix, label_map

CURE = "lower `lr`, or look at the labels"  # of a training that diverges
CROSS_ENTROPY = Loss()


def zeros(device: torch.device, *size: int) -> Tensor:
    """Sums to add to: float64 where the device has it."""
    dtype = torch.float32 if device.type == "mps" else torch.float64
    return torch.zeros(size, dtype=dtype, device=device)


def to_device(batch: Tensor, device: torch.device) -> Tensor:
    """The batch on `device`; a copy from pinned memory, as for CUDA, goes on beside the CPU."""
    return batch.to(device, non_blocking=device.type == "cuda")


def device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


@dataclass
class Trainer:
    """A network, its loss, and what changes its weights.

    Args:
        net: a `UNet`, or what `wrap_model` makes of one.
        scheduler: stepped after each batch.
        scaler: for fp16.
        accumulate: as in a `Recipe`.
        full_image: with `valid` padding, extend the images by reflection and train on all their
            pixels; False trains on those that the network sees without. No effect with `same`.

    Attributes:
        lr: the learning rate of the last step.
    """

    net: nn.Module
    loss: Loss
    optimizer: Optimizer
    scheduler: LRScheduler
    scaler: GradScaler | None = None
    accumulate: int = 1
    full_image: bool = False

    def __post_init__(self):
        self.scaler = self.scaler or GradScaler(device_of(self.net).type, enabled=False)
        self.lr = self.scheduler.get_last_lr()[0]

    def state(self) -> dict:
        """What a checkpoint needs besides the weights, by name."""
        return {"optimizer": self.optimizer, "scheduler": self.scheduler, "scaler": self.scaler}

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """Take a step on a batch; returns the sums of loss * pixels, hits and labelled pixels.

        Args:
            images: (N, 3, H, W) uint8, on the network's device.
            labels: (N, H, W) uint8.
        """
        if not self.full_image:
            network = unwrap(self.net)
            h, w = network.output_size(*images.shape[-2:])  # smaller if padding is `valid`
            labels = labels[:, network.margin :, network.margin :][:, :h, :w]
        pixels, weight = count_pixels(labels), self.loss.weight(labels)
        sums = zeros(images.device, 3)
        self.optimizer.zero_grad()
        parts = self._parts(len(images), images.device)
        for i in range(parts):
            part = labels[i::parts]
            with reduced_after(self.net, last=i == parts - 1):
                logits = self.net(images[i::parts], full_image=self.full_image)
                loss = self.loss(logits, part, weight)
                with torch.no_grad():
                    hits = (label_map(logits) == part).sum()
                    loss_sum = loss.detach().to(sums.dtype) * pixels
                    sums += torch.stack([loss_sum, hits, count_pixels(part)])
                del logits  # room for the backward pass
                # The loss is the mean over the pixels of all processes, and DDP divides the
                # sum of their gradients by their number, so that this must be multiplied in.
                self.scaler.scale(loss * world_size()).backward()
        self.lr = self.scheduler.get_last_lr()[0]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        return sums

    def _parts(self, images: int, device: torch.device) -> int:
        """The number of parts of a step: `accumulate`, or fewer, so that none is empty.

        Batch norm of a part that is empty in all processes would spoil its running statistics.
        """
        if self.accumulate == 1:
            return 1
        total = int(all_reduce_sum(torch.tensor(images, device=device)))
        most = -(-total // world_size())  # images of a process
        return min(self.accumulate, most)


@lost_workers_named()
def train_one_epoch(
    trainer: Trainer, loader: DataLoader, description: str = "train"
) -> tuple[float, float]:
    """One pass over the training data; returns its mean loss and pixel accuracy (0..1).

    Both are means over the labelled pixels, taken while the weights change. Raises
    FloatingPointError if the loss is not finite, ChildProcessError if a worker is lost.
    """
    trainer.net.train()
    device = device_of(trainer.net)
    totals = zeros(device, 3)  # loss * pixels, hits, pixels
    with progress_bar(len(loader.dataset), description) as bar:
        shown_at = time.monotonic()
        for images, labels in loader:
            totals += trainer.step(to_device(images, device), to_device(labels, device))
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
    loss: Loss = CROSS_ENTROPY,
    *,
    precision: str = "auto",
    tta: bool = False,
    on_prediction: Callable[[Tensor, Tensor], None] | None = None,
    description: str = "evaluate",
) -> tuple[float, ConfusionMatrix]:
    """Mean loss over the labelled pixels, and the confusion matrix, of a data set.

    Args:
        model: on the device that is to compute.
        loader: of `make_loader`. Where the labels are larger than the images
            (`downscale_labels=False`) the logits are upsampled bilinearly first.
        loss: computed image by image, so that it does not depend on the batches, and without
            label smoothing.
        precision, tta: as in `pick_precision` and `predict_logits`.
        on_prediction: called with each predicted label map and the labels, in the loader's order:
            uint8 (H, W) train ids on the CPU.

    With `valid` padding the images are extended by reflection, so that every label counts.

    Raises ValueError for a network of other classes than the data's, FloatingPointError if the
    loss or a weight is not finite.
    """
    check_classes(model, loader.dataset.classes)
    if not has_finite_weights(model):  # a ReLU that oneDNN fuses makes 0 of NaN: no loss would show
        raise FloatingPointError(f"the weights are no longer finite numbers: {CURE}")
    device, net = device_of(model), inference_net(model, precision)
    loss = replace(loss, label_smoothing=0.0, reduce=identity)
    confusion = ConfusionMatrix(model.settings["num_classes"])
    total = zeros(device)  # loss * pixels
    with progress_bar(len(loader.dataset), description) as bar:
        for images, labels in one_size_batches(loader):
            images, labels = to_device(images, device), to_device(labels, device)
            predictions = predict_logits(net, images, labels.shape[-2:], tta)
            for logits, truth in zip(predictions, labels.split(1), strict=True):
                total += loss(logits, truth).to(total.dtype) * count_pixels(truth)
                prediction = label_map(logits)
                confusion.update(truth, prediction)
                if on_prediction is not None:
                    on_prediction(prediction[0].cpu(), truth[0].cpu())
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
        names = (*ours, *classes.names)
        one = [name for name in names if (name in ours) != (name in classes.names)]
        differences = f"only one has {', '.join(one[:10])}" if one else "their order differs"
        raise ValueError(
            f"the network's classes are not the data's ({differences}): take a checkpoint that was "
            "trained on these classes, or start from its weights with `init`"
        )

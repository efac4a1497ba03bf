"""The metrics of a checkpoint on a data set: what test.ipynb and evaluate.py show."""

from pathlib import Path

from torch import Tensor

from dataset import Cityscapes
from engine.loaders import make_loader
from engine.loop import device_of, evaluate
from inference import predict
from model import UNet
from runtime.console import progress_bar
from utils import ConfusionMatrix, metrics


def evaluate_split(
    model: UNet,
    data_root: str | Path,
    split: str = "val",
    full_resolution: bool = True,
    batch_size: int = 8,
    workers: int = 0,
    tta: bool = False,
) -> tuple[ConfusionMatrix, dict]:
    """The confusion matrix of a split, and its cross_entropy and what `metrics` gives.

    The network always sees images downscaled by `model.downscale`. At full resolution its logits
    are upsampled and compared with the original labels, as a benchmark does; otherwise the labels
    are downscaled like the images, as in training. `tta` as in `predict_logits`. For a split
    without labels all metrics are None.
    """
    scenes = Cityscapes(
        data_root, split, downscale=model.downscale, downscale_labels=not full_resolution
    )
    loader = make_loader(scenes, batch_size, False, workers, device_of(model))
    loss, confusion = evaluate(model, loader, tta=tta, description=f"evaluate {split}")
    loss = loss if confusion.matrix.any() else None
    return confusion, {"cross_entropy": loss, **metrics(confusion, scenes.classes)}


def best_median_worst(
    model: UNet, scenes: Cityscapes, tta: bool = False
) -> list[tuple[str, Tensor, Tensor, Tensor]]:
    """Rows for `figures.plot_predictions`: the scenes where the network does best and worst.

    They are ranked by pixel accuracy, at full resolution if `scenes` are not downscaled, and the
    median is between them. Scenes without a labelled pixel are left out.
    """
    ranked = []  # accuracy and index
    with progress_bar(len(scenes), "rank") as bar:
        for index in range(len(scenes)):
            image, labels = scenes[index]
            confusion = ConfusionMatrix(model.settings["num_classes"])
            confusion.update(labels, predict(model, image, tta=tta))
            if confusion.matrix.any():
                ranked.append((confusion.pixel_accuracy, index))
            bar.update()
    ranked.sort(reverse=True)
    rows, ranks = [], {"best": 0, "median": len(ranked) // 2, "worst": len(ranked) - 1}
    for name, rank in ranks.items() if ranked else ():
        accuracy, index = ranked[rank]
        image, truth = scenes[index]
        rows.append((f"{name}, {accuracy:.1%}", image, truth, predict(model, image, tta=tta)))
    return rows

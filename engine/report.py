"""The metrics of a checkpoint on a data set: what test.ipynb and evaluate.py show."""

from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from data_io.layout import name_of
from dataset import Cityscapes
from engine.loaders import make_loader
from engine.loop import device_of, evaluate
from inference import predict
from model import UNet
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
    """The confusion matrix of a split; its cross_entropy, what `metrics` gives, and accuracies.

    The network always sees images downscaled by `model.downscale`. At full resolution its logits
    are upsampled and compared with the original labels, as a benchmark does; otherwise the labels
    are downscaled like the images, as in training. `tta` as in `predict_logits`. `accuracies` has
    the pixel accuracy of each image by split/city/name. For a split without labels all are None.
    """
    scenes = Cityscapes(
        data_root, split, downscale=model.downscale, downscale_labels=not full_resolution
    )
    loader = make_loader(scenes, batch_size, False, workers, device_of(model))
    names = (name_of(scenes.root, image) for image in scenes.images)
    accuracies = {}

    def note_accuracy(prediction: Tensor, truth: Tensor) -> None:
        one = ConfusionMatrix(len(scenes.classes))
        one.update(truth, prediction)
        accuracies[next(names)] = one.pixel_accuracy if one.matrix.any() else None

    options = {"tta": tta, "on_prediction": note_accuracy, "description": f"evaluate {split}"}
    loss, confusion = evaluate(model, loader, **options)
    loss = loss if confusion.matrix.any() else None
    found = metrics(confusion, scenes.classes)
    return confusion, dict(cross_entropy=loss, **found, accuracies=accuracies)


def best_median_worst(
    model: UNet, scenes: Cityscapes, accuracies: Iterable[float | None], tta: bool = False
) -> list[tuple[str, Tensor, Tensor, Tensor]]:
    """Rows for `figures.plot_predictions`: the scenes where the network does best and worst.

    By the pixel accuracy of each scene, from `evaluate_split`; the median is between them. Scenes
    without a labelled pixel, of which it is None, are left out.
    """
    ranked = sorted(((a, i) for i, a in enumerate(accuracies) if a is not None), reverse=True)
    rows, ranks = [], {"best": 0, "median": len(ranked) // 2, "worst": len(ranked) - 1}
    for name, rank in ranks.items() if ranked else ():
        accuracy, index = ranked[rank]
        image, truth = scenes[index]
        rows.append((f"{name}, {accuracy:.1%}", image, truth, predict(model, image, tta=tta)))
    return rows

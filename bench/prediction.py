"""Prediction and the confusion matrix at 512x1024.

python -m bench.prediction
"""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from bench.plain import PlainUNet, copy_weights, plain_input
from bench.timing import row, table, take_turns

SIZE, WIDTH, ROUNDS, TIMES = (512, 1024), 16, 7, 50


def picture() -> torch.Tensor:
    """uint8 (3, 512, 1024)."""
    return torch.randint(
        0, 256, (3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def ours() -> Callable:
    from model import UNet, predict

    torch.manual_seed(0)
    return partial(predict, UNet(width=WIDTH).eval(), picture())


def plain() -> Callable:
    from model import UNet

    model = PlainUNet(width=WIDTH)
    torch.manual_seed(0)
    copy_weights(UNet(width=WIDTH), model)
    model.eval()
    image = picture().unsqueeze(0)

    def run() -> torch.Tensor:
        with torch.no_grad():
            return model(plain_input(image)).argmax(1)[0]

    return run


def maps() -> tuple[torch.Tensor, torch.Tensor]:
    """Truth and prediction, uint8 (512, 1024), that agree on most pixels."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 19, (32, 64), dtype=torch.uint8, generator=generator)
    truth = truth.repeat_interleave(16, 0).repeat_interleave(16, 1)
    wrong = torch.rand(SIZE, generator=generator) < 0.1
    return truth, torch.where(wrong, (truth + 1) % 19, truth)


def our_matrix() -> Callable:
    from utils import ConfusionMatrix

    return partial(ConfusionMatrix(19).update, *maps())


def their_matrix() -> Callable:
    from torchmetrics.classification import MulticlassConfusionMatrix

    metric = MulticlassConfusionMatrix(19, ignore_index=255)
    truth, prediction = (labels.long() for labels in maps())
    return partial(metric.update, prediction, truth)


def official_matrix() -> Callable:
    """What the official evaluator does with a pair of maps once they are read."""
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official  # noqa: N813
    from cityscapesscripts.helpers.labels import trainId2label

    ids = np.array([trainId2label[i].id for i in range(19)], dtype=np.uint8)
    truth, prediction = (ids[labels.numpy()] for labels in maps())
    official.args.evalLabels = sorted(official.id2label)
    matrix = official.generateMatrix(official.args)

    def run() -> None:
        if official.CSUPPORT:
            official.addToConfusionMatrix.cEvaluatePair(
                prediction, truth, matrix, official.args.evalLabels
            )
            return
        # As in its evaluatePair, where no C extension was built.
        values = np.unique(truth.astype(np.int32) * 256 + prediction, return_counts=True)
        for value, count in zip(*values, strict=True):
            matrix[value // 256][value % 256] += count

    return run


def often(prepare: Callable) -> Callable:
    """`TIMES` updates in a row, as an evaluation makes them: one is too short to time."""
    update = prepare()

    def run() -> None:
        for _ in range(TIMES):
            update()

    return run


def rows() -> list[dict]:
    found = take_turns({"ours": ours, "plain": plain}, ROUNDS)
    same = (ours()() == plain()()).float().mean().item()
    makers = {"ours": our_matrix, "torchmetrics": their_matrix, "official": official_matrix}
    matrices = take_turns({name: partial(often, make) for name, make in makers.items()}, ROUNDS)
    each = {name: times["median"] / TIMES for name, times in matrices.items()}
    mine, seconds = found["ours"]["median"], each["ours"]
    lines = [
        row(
            f"prediction at 512x1024 against the plain forward and argmax ({same:.3%} same)",
            1 / mine,
            1 / found["plain"]["median"],
            "images/s",
            found["plain"]["median"] / mine,
            "1.8",
        )
    ]
    for name, label in (("torchmetrics", "torchmetrics"), ("official", "the official evaluator")):
        other = each[name]
        what = f"confusion matrix of a 512x1024 map against {label}"
        lines.append(row(what, seconds * 1e3, other * 1e3, "ms", other / seconds, "5"))
    what = "confusion matrix as a share of evaluating the picture (less is better)"
    lines.append(row(what, seconds * 1e3, mine * 1e3, "ms", seconds / mine, "at most 0.02"))
    return lines


if __name__ == "__main__":
    start = time.perf_counter()
    print(table(rows()))
    print(f"{time.perf_counter() - start:.0f} s")

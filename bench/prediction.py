"""Prediction and the confusion matrix at 512x1024.

python -m bench.prediction
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from bench.peers import make
from bench.plain import copy_weights, plain_input
from bench.timing import Row, table, take_turns
from runtime.precision import cpu_has_bf16

SIZE, ROUNDS, UPDATES = (512, 1024), 7, 50  # UPDATES: of a confusion matrix, in a turn


def random_image() -> torch.Tensor:
    """uint8 (3, 512, 1024)."""
    return torch.randint(
        0, 256, (3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def ours() -> Callable:
    from inference import fold_batch_norm, predict

    model = fold_batch_norm(make("ours").eval())  # as `load_model` returns it
    return partial(predict, model, random_image())


def baseline() -> Callable:
    model = make("baseline")
    copy_weights(make("ours"), model)
    model.eval()
    image = random_image().unsqueeze(0)

    def run() -> torch.Tensor:
        with torch.no_grad():
            return model(plain_input(image)).argmax(1)[0]

    return run


def maps() -> tuple[torch.Tensor, torch.Tensor]:
    """Truth and prediction, uint8 (512, 1024), that agree on nine tenths of the pixels."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 19, (32, 64), dtype=torch.uint8, generator=generator)
    truth = truth.repeat_interleave(16, 0).repeat_interleave(16, 1)
    wrong = torch.rand(SIZE, generator=generator) < 0.1
    return truth, torch.where(wrong, (truth + 1) % 19, truth)


def our_matrix() -> Callable:
    from utils import ConfusionMatrix

    return partial(ConfusionMatrix(19).update, *maps())


def torchmetrics_matrix() -> Callable:
    from torchmetrics.classification import MulticlassConfusionMatrix

    metric = MulticlassConfusionMatrix(19, ignore_index=255)
    truth, prediction = (labels.long() for labels in maps())
    return partial(metric.update, prediction, truth)


def official_matrix() -> Callable:
    """What the official evaluator does with a pair of label maps once they are read."""
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


def repeated(prepare: Callable) -> Callable:
    """`UPDATES` in a row, as an evaluation makes them: one is too short to time."""
    update = prepare()

    def run() -> None:
        for _ in range(UPDATES):
            update()

    return run


def measure() -> tuple[list[Row], list[str]]:
    """Rows and notes for `table`."""
    found = take_turns({"ours": ours, "baseline": baseline}, ROUNDS)
    same = (ours()() == baseline()()).float().mean().item()
    makers = {"ours": our_matrix, "torchmetrics": torchmetrics_matrix, "official": official_matrix}
    contenders = {name: partial(repeated, maker) for name, maker in makers.items()}
    matrices = take_turns(contenders, ROUNDS)
    ms = {name: 1e3 * times["median"] / UPDATES for name, times in matrices.items()}
    mine, other = found["ours"]["median"], found["baseline"]["median"]
    what = f"Prediction at 512x1024 against the baseline's ({same:.3%} of the pixels equal)"
    goal = "≥ 4.5" if cpu_has_bf16() else "≥ 2.3"
    rows = [Row(what, 1 / mine, 1 / other, "images/s", other / mine, goal)]
    for name, label in (("torchmetrics", "torchmetrics"), ("official", "the official evaluator")):
        what = f"Confusion matrix of a 512x1024 label map against {label}"
        rows.append(Row(what, ms["ours"], ms[name], "ms", ms[name] / ms["ours"], "≥ 5"))
    what = "Confusion matrix as a share of predicting the image (less is better)"
    rows.append(Row(what, ms["ours"], 1e3 * mine, "ms", ms["ours"] / mine / 1e3, "≤ 0.02"))
    return rows, []


if __name__ == "__main__":
    print(table(*measure()))

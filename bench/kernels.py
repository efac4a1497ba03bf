"""The confusion matrix, a step of Muon, and the matrix product that bounds a training step.

python -m bench.kernels
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from bench.timing import take_turns
from engine import Recipe, make_model
from engine.muon import Muon
from runtime.console import table
from runtime.precision import DTYPES, pick_precision
from utils import CITYSCAPES, ConfusionMatrix

SIZE, ROUNDS = (512, 1024), 9
UPDATES, PRODUCTS = 50, 10  # in a turn: one is too short to time


def label_maps() -> tuple[Tensor, Tensor]:
    """Labels and prediction, uint8 (512, 1024), that agree on nine tenths of the pixels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 19, (32, 64), dtype=torch.uint8, generator=generator)
    labels = labels.repeat_interleave(16, 0).repeat_interleave(16, 1)
    wrong = torch.rand(SIZE, generator=generator) < 0.1
    return labels, torch.where(wrong, (labels + 1) % 19, labels)


def our_matrix() -> Callable:
    return partial(repeat, UPDATES, partial(ConfusionMatrix(19).update, *label_maps()))


def torchmetrics_matrix() -> Callable:
    from torchmetrics.classification import MulticlassConfusionMatrix

    labels, prediction = (each.long() for each in label_maps())
    matrix = MulticlassConfusionMatrix(19, ignore_index=255)
    return partial(repeat, UPDATES, partial(matrix.update, prediction, labels))


def official_matrix() -> Callable:
    """What Cityscapes' evaluator does with a pair of label maps once they are read."""
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official  # noqa: N813

    ids = np.array(CITYSCAPES.ids, dtype=np.uint8)
    labels, prediction = (ids[each.numpy()] for each in label_maps())
    official.args.evalLabels = sorted(official.id2label)
    matrix = official.generateMatrix(official.args)

    def update() -> None:  # as in its `evaluatePair` without its C extension, which PyPI lacks
        pairs = labels.astype(np.int32) * 256 + prediction
        for value, count in zip(*np.unique(pairs, return_counts=True), strict=True):
            matrix[value // 256][value % 256] += count

    return partial(repeat, UPDATES, update)


def repeat(times: int, function: Callable) -> None:
    for _ in range(times):
        function()


def our_muon() -> Callable:
    model = make_model(Recipe(width=16, depth=5))
    return stepping(list(model.parameters()), Muon(model, 1e-3, 0.05))


def torch_muon() -> Callable:
    """PyTorch's, which takes matrices and computes in bf16; AdamW for the rest."""
    model = make_model(Recipe(width=16, depth=5))
    rest, convs = (group["params"] for group in Muon(model, 1e-3, 0.05).param_groups)
    matrices = [nn.Parameter(conv.detach().flatten(1)) for conv in convs]
    muon = torch.optim.Muon(matrices, 1e-3, 0.05, adjust_lr_fn="match_rms_adamw")
    return stepping([*matrices, *rest], muon, torch.optim.AdamW(rest, fused=True))


def stepping(parameters: list[nn.Parameter], *optimizers: torch.optim.Optimizer) -> Callable:
    """A step with the same random gradients each time."""
    generator = torch.Generator().manual_seed(0)
    grads = [torch.randn(p.shape, generator=generator) for p in parameters]

    def step() -> None:
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = grad
        for optimizer in optimizers:
            optimizer.step()

    return step


def matrix_product() -> Callable:
    """Products of 2048 x 2048 matrices in the precision of training."""
    dtype = DTYPES[pick_precision("auto", torch.device("cpu"))]
    a, b = torch.randn(2, 2048, 2048).to(dtype)
    return partial(repeat, PRODUCTS, partial(torch.matmul, a, b))


def measure() -> str:
    """The table, and the rate of the matrix product."""
    makers = {
        "confusion matrix of 512x1024, ours": our_matrix,
        "confusion matrix, torchmetrics": torchmetrics_matrix,
        "confusion matrix, the official evaluator": official_matrix,
        "step of Muon, 7.8 M parameters, ours": our_muon,
        "step of Muon, torch.optim.Muon in bf16": torch_muon,
        "matrix product": matrix_product,
    }
    if not hasattr(torch.optim, "Muon"):  # before PyTorch 2.9
        del makers["step of Muon, torch.optim.Muon in bf16"]
    found, rows, ours = take_turns(makers, ROUNDS, warm_up=2), [], 0.0
    product = found.pop("matrix product") / PRODUCTS
    for name, seconds in found.items():
        seconds /= UPDATES if "matrix" in name else 1
        ours = seconds if name.endswith("ours") else ours
        goal = "5" if "matrix" in name and seconds != ours else ""
        rows.append([name, f"{1e3 * seconds:.3g}", f"{seconds / ours:.2f}", goal])
    rate = 2 * 2048**3 / product / 1e12
    return table(["inner loop", "ms", "speed-up of ours", "goal"], rows) + (
        f"\n\nA product of two 2048x2048 matrices reaches {rate:.3g} TFLOP/s in the precision of "
        "training. Of that, a step was to reach 0.8."
    )


if __name__ == "__main__":
    print(measure())

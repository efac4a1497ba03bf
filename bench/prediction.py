"""Prediction and the confusion matrix at 512x1024.

python -m bench.prediction

Against the baseline, and against two runtimes that are made to predict fast: ONNX Runtime, which
has no bf16 convolution for CPUs, and OpenVINO, both with the file that export_onnx.py writes.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bench.peers import make
from bench.timing import Row, against_ours, table, take_turns
from dataset import Cityscapes
from inference import load_model, predict
from runtime.machine import ROOT
from runtime.precision import cpu_has_bf16, pick_precision
from streets import draw_tree
from tests.plain import copy_weights, plain_input
from utils import CITYSCAPES, ConfusionMatrix

SIZE, ROUNDS, UPDATES = (512, 1024), 7, 50  # UPDATES: of a confusion matrix, in a turn
Labeller = Callable[[Tensor], Tensor]  # uint8 (3, H, W) -> train ids, uint8 (H, W)


def our_model() -> nn.Module:
    """As `load_model` returns it."""
    model = make("ours")
    model.classes = CITYSCAPES
    return model.eval()


def ours(precision: str = "auto", checkpoint: Path | None = None) -> Labeller:
    model = load_model(checkpoint) if checkpoint else our_model()
    return partial(predict, model, precision=precision)


def baseline() -> Labeller:
    model = make("baseline")
    copy_weights(make("ours"), model)
    model.eval()
    return torch.no_grad()(lambda image: model(plain_input(image[None])).argmax(1)[0].byte())


def onnxruntime(file: Path) -> Labeller:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda image: torch.from_numpy(session.run(None, {"images": image[None].numpy()})[0][0])


def openvino(file: Path, size: tuple[int, int], precision: str = "f32") -> Labeller:
    import openvino

    model = openvino.Core().read_model(file)
    model.reshape([1, 3, *size])
    hints = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.compile_model(model, "CPU", hints)
    return lambda image: torch.from_numpy(compiled(image[None].numpy())[0][0].copy())


def on_noise(size: tuple[int, int], maker: Callable[..., Labeller], *args) -> Callable:
    """For `take_turns`: labelling an image of random bytes."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator)
    return partial(maker(*args), image)


def agreement_with_fp32() -> float:
    """Of the pixels of drawn scenes, how many a trained network labels as it does in fp32, 0..1."""
    model = load_model(ROOT / "checkpoints/streets.pt")
    with tempfile.TemporaryDirectory() as folder:
        draw_tree(Path(folder), train=0, val=4, size=(1024, 512), quiet=True)
        images = [image for image, _ in Cityscapes(folder, "val")]
    same = [predict(model, image) == predict(model, image, precision="fp32") for image in images]
    return torch.stack(same).float().mean().item()


def maps() -> tuple[Tensor, Tensor]:
    """Truth and prediction, uint8 (512, 1024), that agree on nine tenths of the pixels."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 19, (32, 64), dtype=torch.uint8, generator=generator)
    truth = truth.repeat_interleave(16, 0).repeat_interleave(16, 1)
    wrong = torch.rand(SIZE, generator=generator) < 0.1
    return truth, torch.where(wrong, (truth + 1) % 19, truth)


def our_matrix() -> Callable:
    return partial(ConfusionMatrix(19).update, *maps())


def torchmetrics_matrix() -> Callable:
    from torchmetrics.classification import MulticlassConfusionMatrix

    truth, prediction = (labels.long() for labels in maps())
    return partial(MulticlassConfusionMatrix(19, ignore_index=255).update, prediction, truth)


def official_matrix() -> Callable:
    """What the official evaluator does with a pair of label maps once they are read."""
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official  # noqa: N813
    from cityscapesscripts.helpers.labels import trainId2label

    ids = np.array([trainId2label[i].id for i in range(19)], dtype=np.uint8)
    truth, prediction = (ids[labels.numpy()] for labels in maps())
    official.args.evalLabels = labels = sorted(official.id2label)
    matrix = official.generateMatrix(official.args)
    if official.CSUPPORT:
        add = official.addToConfusionMatrix.cEvaluatePair
        return partial(add, prediction, truth, matrix, labels)

    def run() -> None:  # as in its `evaluatePair`, where no C extension was built
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
    from export_onnx import export

    bf16, precision = cpu_has_bf16(), pick_precision("auto", torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "unet.onnx"
        export(our_model(), file)
        makers = {"ours": (ours,), "baseline": (baseline,)}
        makers["ONNX Runtime, fp32"] = onnxruntime, file
        makers["OpenVINO, fp32"] = openvino, file, SIZE
        if bf16:
            makers["ours in fp32"] = ours, "fp32"
            makers["OpenVINO, bf16"] = openvino, file, SIZE, "bf16"
        contenders = {name: partial(on_noise, SIZE, *maker) for name, maker in makers.items()}
        found = take_turns(contenders, ROUNDS, warm_up=2)
    mine = 1e3 * found["ours"].seconds
    what = f"Prediction at 512x1024, ours in {precision}, against"
    goals = {"baseline": "≥ 4.5" if bf16 else "≥ 2.3", "OpenVINO, bf16": "≥ 0.95 (1 / 1.05)"}
    rows = against_ours(what, found, images=1, goals=goals)
    makers = {
        "ours": our_matrix,
        "torchmetrics": torchmetrics_matrix,
        "the official evaluator": official_matrix,
    }
    found = take_turns({name: partial(repeated, maker) for name, maker in makers.items()}, ROUNDS)
    what, goals = "Confusion matrix of a 512x1024 label map against", dict.fromkeys(found, "≥ 5")
    rows += against_ours(what, found, repeats=UPDATES, goals=goals)
    matrix, what = 1e3 * found["ours"].seconds / UPDATES, "Confusion matrix as a part of predicting"
    rows.append(Row(f"{what} (less is better)", matrix, mine, "ms", matrix / mine, "≤ 0.02"))
    note = (
        f"In bf16, {agreement_with_fp32():.3%} of the pixels of four scenes are labelled as in "
        "fp32 (checkpoints/streets.pt, 512x1024)."
    )
    return rows, [note] * bf16


if __name__ == "__main__":
    print(table(*measure()))

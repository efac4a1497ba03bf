"""Prediction by the published network, of checkpoints/camvid.pt, and its mIoU on CamVid val.

python -m bench.prediction

Against the baseline, and against two runtimes that are made to predict fast: ONNX Runtime, which
has no bf16 convolution for CPUs, and OpenVINO, both in fp32 and in int8, with the files that
export_onnx.py writes. mIoU needs CamVid in data/camvid (see docs/data-format.md), and is left out
without.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from bench.timing import Row, against_ours, table, take_turns
from dataset import Cityscapes
from export_onnx import export
from inference import load_model, predict
from runtime.machine import ROOT
from runtime.precision import cpu_has_bf16, pick_precision
from tests.plain import PlainUNet, copy_weights, plain_input
from utils import ConfusionMatrix

CHECKPOINT, CAMVID = ROOT / "checkpoints/camvid.pt", ROOT / "data/camvid"
SIZES, ROUNDS = ((512, 1024), (360, 480)), 7
GOALS = {"baseline": "≥ 4.5", "OpenVINO, bf16": "≥ 0.95 (1 / 1.05)"}  # where there is bf16
Labeller = Callable[[Tensor], Tensor]  # uint8 (3, H, W) -> train ids, uint8 (H, W)


def ours(precision: str = "auto") -> Labeller:
    return partial(predict, load_model(CHECKPOINT), precision=precision)


def baseline() -> Labeller:
    source = load_model(CHECKPOINT)
    model = PlainUNet(width=source.settings["width"], depth=source.depth).eval()
    copy_weights(source, model)
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


def miou(label: Labeller, scenes: Cityscapes) -> float:
    confusion = ConfusionMatrix(len(scenes.classes))
    for image, target in scenes:
        confusion.update(target, label(image.as_subclass(Tensor)))
    return confusion.mean_iou


def measure() -> tuple[list[Row], list[str]]:
    """Rows and notes for `table`."""
    precision, rows = pick_precision("auto", torch.device("cpu")), []
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.onnx" for name in ("fp32", "int8")}
        for name, file in files.items():
            export(load_model(CHECKPOINT), file, precision=name)
        for size in SIZES:
            makers = {"ours": (ours,), "baseline": (baseline,)}
            makers |= {f"ONNX Runtime, {name}": (onnxruntime, files[name]) for name in files}
            makers |= {f"OpenVINO, {name}": (openvino, files[name], size) for name in files}
            if cpu_has_bf16():
                makers["ours in fp32"] = ours, "fp32"
                makers["OpenVINO, bf16"] = openvino, files["fp32"], size, "bf16"
            contenders = {name: partial(on_noise, size, *maker) for name, maker in makers.items()}
            found = take_turns(contenders, ROUNDS, warm_up=2)
            what = f"Labels of {size[1]}x{size[0]}, ours in {precision}, against"
            goals = GOALS if cpu_has_bf16() else {"baseline": "≥ 2.3"}
            rows += against_ours(what, found, goals=goals)
        note = "mIoU was not measured: CamVid is not in data/camvid."
        if CAMVID.is_dir():
            scenes = Cityscapes(CAMVID, "val")
            mious = {name: miou(maker(*args), scenes) for name, (maker, *args) in makers.items()}
            told = "; ".join(f"{name} {100 * value:.2f} %" for name, value in mious.items())
            note = f"mIoU of checkpoints/camvid.pt on CamVid val: {told}."
    return rows, [note]


if __name__ == "__main__":
    print(table(*measure()))

"""The published network in 8-bit integers, at 480x360: speed, and mIoU on CamVid val.

python -m bench.int8

ONNX Runtime and OpenVINO run what `export_onnx.py --precision int8` writes, and both in fp32,
beside ours. mIoU needs CamVid in data/camvid (see docs/data-format.md), and is left out without.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from bench.timing import Row, table, take_turns
from dataset import Cityscapes
from export_onnx import export
from inference import load_model, predict
from runtime.machine import ROOT
from runtime.precision import cpu_has_bf16, pick_precision
from utils import ConfusionMatrix

CHECKPOINT, CAMVID = ROOT / "checkpoints/camvid.pt", ROOT / "data/camvid"
SIZE, ROUNDS = (360, 480), 7


def ours(precision: str) -> Callable[[Tensor], Tensor]:
    return partial(predict, load_model(CHECKPOINT), precision=precision)


def onnxruntime(file: Path) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda image: torch.from_numpy(session.run(None, {"images": image[None].numpy()})[0][0])


def openvino(file: Path) -> Callable[[Tensor], Tensor]:
    import openvino

    model = openvino.Core().read_model(file)
    model.reshape([1, 3, *SIZE])
    hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.compile_model(model, "CPU", hints)
    return lambda image: torch.from_numpy(compiled(image[None].numpy())[0][0].copy())


def on_noise(make: Callable, *args) -> Callable[[], None]:
    """What `take_turns` times: labelling one image."""
    label, generator = make(*args), torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8, generator=generator)

    def run() -> None:
        label(image)

    return run


def miou(label: Callable[[Tensor], Tensor], scenes: Cityscapes) -> float:
    confusion = ConfusionMatrix(len(scenes.classes))
    for image, target in scenes:
        confusion.update(target, label(image.as_subclass(Tensor)))
    return confusion.mean_iou


def measure() -> tuple[list[Row], list[str]]:
    """Rows and notes for `table`."""
    precision = pick_precision("auto", torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.onnx" for name in ("fp32", "int8")}
        for name, file in files.items():
            export(load_model(CHECKPOINT), file, precision=name)
        makers = {"ours": (ours, precision)}
        if cpu_has_bf16():
            makers["ours in fp32"] = ours, "fp32"
        for name, file in files.items():
            makers[f"ONNX Runtime, {name}"] = onnxruntime, file
            makers[f"OpenVINO, {name}"] = openvino, file
        found = take_turns({k: partial(on_noise, *v) for k, v in makers.items()}, ROUNDS, 2)
        notes = ["mIoU of int8 was not measured: CamVid is not in data/camvid."]
        if CAMVID.is_dir():
            scenes = Cityscapes(CAMVID, "val")
            shares = {name: miou(make(arg), scenes) for name, (make, arg) in makers.items()}
            told = "; ".join(f"{name} {100 * share:.2f} %" for name, share in shares.items())
            notes = [f"mIoU of checkpoints/camvid.pt on CamVid val: {told}."]
    seconds = {name: timing.seconds for name, timing in found.items()}
    mine = seconds.pop("ours")
    what = f"Labels of 480x360 by checkpoints/camvid.pt, ours in {precision}, against"
    rows = [
        Row(f"{what} {name}", 1e3 * mine, 1e3 * other, "ms", other / mine)
        for name, other in seconds.items()
    ]
    return rows, notes


if __name__ == "__main__":
    print(table(*measure()))

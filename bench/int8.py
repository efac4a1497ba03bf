"""The published network in 8-bit integers, at 480x360: speed, and mIoU on CamVid val.

python -m bench.int8

ONNX Runtime and OpenVINO run what `export_onnx.py --precision int8` writes, and both in fp32,
beside ours. mIoU needs CamVid in data/camvid (see docs/data-format.md), and is left out without.
"""

import tempfile
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from bench.prediction import Labeller, on_noise, onnxruntime, openvino, ours
from bench.timing import Row, against_ours, table, take_turns
from dataset import Cityscapes
from export_onnx import export
from inference import load_model
from runtime.machine import ROOT
from runtime.precision import cpu_has_bf16, pick_precision
from utils import ConfusionMatrix

CHECKPOINT, CAMVID = ROOT / "checkpoints/camvid.pt", ROOT / "data/camvid"
SIZE, ROUNDS = (360, 480), 7


def miou(label: Labeller, scenes: Cityscapes) -> float:
    confusion = ConfusionMatrix(len(scenes.classes))
    for image, target in scenes:
        confusion.update(target, label(image.as_subclass(Tensor)))
    return confusion.mean_iou


def measure() -> tuple[list[Row], list[str]]:
    """Rows and notes for `table`."""
    precision = pick_precision("auto", torch.device("cpu"))
    makers = {"ours": (ours, precision, CHECKPOINT)}
    if cpu_has_bf16():
        makers["ours in fp32"] = ours, "fp32", CHECKPOINT
    with tempfile.TemporaryDirectory() as folder:
        for name in ("fp32", "int8"):
            file = Path(folder) / f"{name}.onnx"
            export(load_model(CHECKPOINT), file, precision=name)
            makers[f"ONNX Runtime, {name}"] = onnxruntime, file
            makers[f"OpenVINO, {name}"] = openvino, file, SIZE
        contenders = {name: partial(on_noise, SIZE, *maker) for name, maker in makers.items()}
        found = take_turns(contenders, ROUNDS, warm_up=2)
        note = "mIoU of int8 was not measured: CamVid is not in data/camvid."
        if CAMVID.is_dir():
            scenes = Cityscapes(CAMVID, "val")
            mious = {name: miou(maker(*args), scenes) for name, (maker, *args) in makers.items()}
            told = "; ".join(f"{name} {100 * value:.2f} %" for name, value in mious.items())
            note = f"mIoU of checkpoints/camvid.pt on CamVid val: {told}."
    what = f"Labels of 480x360 by checkpoints/camvid.pt, ours in {precision}, against"
    return against_ours(what, found), [note]


if __name__ == "__main__":
    print(table(*measure()))

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
from torch.nn import functional as F

from bench.timing import take_turns
from dataset import Cityscapes
from export_onnx import export
from inference import load_model, predict
from runtime.console import table
from runtime.machine import ROOT
from runtime.precision import cpu_has_bf16, pick_precision
from tests.plain import PlainUNet, copy_weights, plain_input
from utils import ConfusionMatrix

CHECKPOINT, CAMVID = ROOT / "checkpoints/camvid.pt", ROOT / "data/camvid"
SIZES, ROUNDS = ((512, 1024), (360, 480)), 7
Labeller = Callable[[Tensor], Tensor]  # uint8 (3, H, W) -> train ids, uint8 (H, W)


def ours(precision: str = "auto") -> Labeller:
    return partial(predict, load_model(CHECKPOINT), precision=precision)


def baseline() -> Labeller:
    source = load_model(CHECKPOINT)
    model = PlainUNet(width=source.settings["width"], depth=source.depth).eval()
    copy_weights(source, model)

    @torch.no_grad()
    def label(image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        unit = 2**source.depth  # of which its sizes must be multiples
        x = F.pad(plain_input(image[None]), (0, -width % unit, 0, -height % unit))
        return model(x)[0, :, :height, :width].argmax(0).byte()

    return label


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


def measure() -> str:
    """The tables, one for each size."""
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.onnx" for name in ("fp32", "int8")}
        for name, file in files.items():
            export(load_model(CHECKPOINT), file, precision=name)
        return "\n\n".join(at_size(size, files) for size in SIZES)


def at_size(size: tuple[int, int], files: dict[str, Path]) -> str:
    """The table for one size; `files`: of the network, by precision."""
    precision = pick_precision("auto", torch.device("cpu"))
    makers = {f"ours, {precision}": (ours,), "baseline, fp32": (baseline,)}
    for name, file in files.items():
        makers[f"ONNX Runtime, {name}"] = onnxruntime, file
        makers[f"OpenVINO, {name}"] = openvino, file, size
    goals = {"baseline, fp32": "2.3"}
    if cpu_has_bf16():
        makers["ours, fp32"] = ours, "fp32"
        makers["OpenVINO, bf16"] = openvino, files["fp32"], size, "bf16"
        goals = {"baseline, fp32": "4.5", "OpenVINO, bf16": "1"}
    contenders = {name: partial(on_noise, size, *maker) for name, maker in makers.items()}
    found = take_turns(contenders, ROUNDS, warm_up=2)
    fastest, rows = found[f"ours, {precision}"], []
    scenes = Cityscapes(CAMVID, "val") if CAMVID.is_dir() and size == (360, 480) else None
    for name, (maker, *args) in makers.items():
        ratio, score = f"{found[name] / fastest:.2f}", ""
        if scenes is not None:
            score = f"{100 * miou(maker(*args), scenes):.2f} %"
        rows.append([name, f"{1e3 * found[name]:.3g}", ratio, goals.get(name, ""), score])
    return table(
        [f"labels of {size[1]}x{size[0]}", "ms", "speed-up of ours", "goal", "mIoU, CamVid"], rows
    )


if __name__ == "__main__":
    print(measure())

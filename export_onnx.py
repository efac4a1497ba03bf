"""Export a trained network as ONNX, for programs without PyTorch.

    pip install onnx onnxscript onnxruntime
    python export_onnx.py checkpoints/camvid.pt camvid.onnx

The file takes `images`, uint8 (N, 3, H, W) RGB with any N, and with H and W of at least 2^depth,
and gives `labels`, uint8 (N, H, W) train ids, or with --logits `logits`, float32 (N, num_classes,
H, W). Normalisation and the padding to multiples of 2^depth are inside. Its metadata has the
classes (name, id and colour of each train id), the normalisation, the sizes that it takes, and
`downscale`: by how much images are to be downscaled first. After writing, it is run with ONNX
Runtime on images of three sizes, and must give what PyTorch gives in at least 99.99 % of the
pixels.
"""

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from inference import load_model
from model import UNet, normalize
from runtime.console import escape_output

SIZES = (1, 120, 160), (2, 97, 131), (1, 360, 480)  # N, H, W that the file is checked with


class Exported(nn.Module):
    """The network without branches on sizes, so that one graph serves all of them."""

    def __init__(self, model: UNet, logits: bool):
        super().__init__()
        self.model, self.logits = model, logits

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (N, 3, H, W) -> uint8 (N, H, W), or float32 (N, num_classes, H, W)."""
        height, width = images.shape[-2:]
        step = 2**self.model.depth
        x = F.pad(normalize(images), (0, -width % step, 0, -height % step), mode="reflect")
        logits = self.model.layers(x)[..., :height, :width]
        return logits if self.logits else logits.argmax(1).to(torch.uint8)


def export(model: UNet, path: Path, logits: bool = False) -> None:
    """Write the file. Raises ValueError for `valid` padding, whose sizes are not free."""
    import onnx

    if model.padding != "same":
        raise ValueError('only networks with padding "same" take images of any size: train one')
    net = Exported(model, logits).eval()
    step = 2**model.depth
    images = torch.zeros(2, 3, step + 96, step + 128, dtype=torch.uint8)
    sizes = {0: Dim("N"), 2: Dim("H", min=step), 3: Dim("W", min=step)}
    program = torch.onnx.export(
        net,
        (images,),
        input_names=["images"],
        output_names=["logits" if logits else "labels"],
        dynamic_shapes=(sizes,),
        dynamo=True,
        verbose=False,
    )
    program.save(path)
    file = onnx.load(path)
    classes = model.classes
    table = zip(classes.names, classes.ids, classes.colors, strict=True)
    notes = {
        "classes": json.dumps([{"name": n, "id": i, "color": c} for n, i, c in table]),
        "downscale": str(model.downscale),
        "normalization": "inside: (value / 63.75) - 2",
        "size": f"H and W of at least {step}, padded inside to multiples of it",
    }
    onnx.helper.set_model_props(file, notes)
    onnx.save(file, path)


def agreement(model: UNet, path: Path, logits: bool) -> float:
    """The smallest share of pixels, over `SIZES`, whose class is that of `model` itself."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    generator, shares = torch.Generator().manual_seed(0), []
    for n, *size in SIZES:
        height, width = (max(side, 2**model.depth) for side in size)
        coarse = torch.randint(256, (n, 3, height // 8 + 1, width // 8 + 1), generator=generator)
        images = F.interpolate(coarse.float(), (height, width), mode="bilinear").byte()
        (found,) = session.run(None, {"images": images.numpy()})
        labels = torch.from_numpy(found)
        labels = labels.argmax(1) if logits else labels
        with torch.inference_mode():
            expected = model(images).argmax(1)
        shares.append((labels == expected).float().mean().item())
    return min(shares)


def main() -> None:
    escape_output()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, help="such as checkpoints/camvid.pt")
    parser.add_argument("onnx", type=Path, help="file to write")
    parser.add_argument("--logits", action="store_true", help="logits instead of train ids")
    args = parser.parse_args()
    try:
        for package in ("onnx", "onnxscript", "onnxruntime"):
            import_module(package)
        model = load_model(args.checkpoint)
        export(model, args.onnx, args.logits)
        share = agreement(model, args.onnx, args.logits)
    except ImportError as error:
        sys.exit(f"error: {error}: `pip install onnx onnxscript onnxruntime`")
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"{args.onnx}: {share:.3%} of the pixels as in PyTorch")
    if share < 0.9999:
        sys.exit("error: that is less than 99.99 %: do not use the file")


if __name__ == "__main__":
    main()

"""Export a trained network as ONNX, for programs without PyTorch.

    pip install onnx onnxscript onnxruntime
    python export_onnx.py checkpoints/camvid.pt camvid.onnx
    python export_onnx.py checkpoints/camvid.pt camvid-int8.onnx --precision int8

The file takes `images`, uint8 (N, 3, H, W) RGB with any N, and with H and W of at least 2^depth,
and gives `labels`, uint8 (N, H, W) train ids, or with --logits `logits`, float32 (N, num_classes,
H, W). Normalisation and padding are inside; --size fixes H and W, and N at 1. Its metadata has the
classes (name, id and colour of each train id), the normalisation, the sizes that it takes, the
precision, and `downscale`: by how much images are to be downscaled first.

--precision fp16 halves the file, for GPUs and downloads; int8 quarters it and is faster on most
processors (`quantize.py`), with ranges from --calibrate or from drawn scenes. The file is then run
with ONNX Runtime on images of three sizes, or of the one, and must give what PyTorch gives in fp32
in at least 99.99 % of the pixels (fp16: 99.5 %; int8: 95 %, of the images that gave the ranges).
"""

import copy
import json
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from folding import is_untouched
from inference import load_model
from model import UNet, normalize
from quantize import calibration_images, quantize
from runtime.console import command_line, errors_shown
from runtime.cpu import is_plain
from runtime.files import expand

SIZES = (1, 120, 160), (2, 97, 131), (1, 360, 480)  # N, H, W that the file is checked with
PACKAGES = "onnx", "onnxscript", "onnxruntime"  # not in requirements.txt
LEAST = {"fp32": 0.9999, "fp16": 0.995, "int8": 0.95}  # fraction of the pixels that must agree


class Exported(nn.Module):
    """The network without branches on sizes, so that one graph serves all of them."""

    def __init__(self, model: UNet, logits: bool, half: bool = False):
        super().__init__()
        self.model, self.logits, self.half_precision = copy.deepcopy(model), logits, half
        for level in self.model.expansive:
            level.up = as_shuffle(level.up)
        if half:
            self.model.half()

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (N, 3, H, W) -> uint8 (N, H, W), or float32 (N, num_classes, H, W)."""
        height, width = images.shape[-2:]
        step = 2**self.model.depth
        x = F.pad(normalize(images), (0, -width % step, 0, -height % step), mode="reflect")
        x = x.half() if self.half_precision else x
        logits = self.model.layers(x)[..., :height, :width].float()
        return logits if self.logits else logits.argmax(1).to(torch.uint8)


def as_shuffle(up: nn.Module) -> nn.Module:
    """A 2x2 up-convolution of stride 2 as a 1x1 convolution whose channels become pixels.

    The same sums (Shi et al. 2016, https://arxiv.org/abs/1609.07009), but a layer that runtimes are
    fast at, in int8, too. Other layers are returned as they are.
    """
    if type(up) is not nn.ConvTranspose2d or not (is_plain(up) and is_untouched(up)):
        return up
    unpadded = up.padding == up.output_padding == (0, 0)
    if not (unpadded and up.kernel_size == up.stride == (2, 2)):
        return up
    conv = nn.Conv2d(up.in_channels, 4 * up.out_channels, 1, bias=up.bias is not None)
    with torch.no_grad():
        conv.weight.copy_(up.weight.permute(1, 2, 3, 0).reshape(conv.weight.shape))
        if up.bias is not None:
            conv.bias.copy_(up.bias.repeat_interleave(4))
    return nn.Sequential(conv, nn.PixelShuffle(2))


def export(
    model: UNet,
    path: Path,
    logits: bool = False,
    precision: str = "fp32",
    size: tuple[int, int] | None = None,
    calibrate: list[Path] = (),
) -> float:
    """Write the file; returns the fraction of the pixels that it labels as the network does.

    Args:
        model: as `load_model` returns it.
        path: of the file.
        logits: give logits instead of train ids.
        precision: fp32, fp16 or int8, of which `LEAST` has the fraction to expect.
        size: fixed height and width, or None for any.
        calibrate: images for the ranges of int8; none takes drawn scenes.

    Raises ValueError for a missing package, for `valid` padding, whose sizes are not free, or a
    size that is too small; and as `read_image`.
    """
    if model.padding != "same":
        raise ValueError('only networks with padding "same" take images of any size: train one')
    if size and min(size) < 2**model.depth:
        raise ValueError(f"give a size of at least {2**model.depth} x {2**model.depth}, not {size}")
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise ValueError(f"missing: {', '.join(missing)}; `pip install {' '.join(PACKAGES)}`")
    path.parent.mkdir(parents=True, exist_ok=True)  # before the work, which would be lost
    if precision == "int8":
        images = calibration_images(model, calibrate, size)
        batches = [image.unsqueeze(0) for image in images]
        with tempfile.TemporaryDirectory() as folder:
            _write(Exported(model, logits), Path(folder) / "fp32.onnx", size)
            quantize(Path(folder) / "fp32.onnx", path, images)
    else:
        batches = noise(model, size)
        _write(Exported(model, logits, precision == "fp16"), path, size)
    _annotate(model, path, precision, size)
    return agreement(model, path, logits, batches)


def _write(net: Exported, path: Path, size: tuple[int, int] | None) -> None:
    step = 2**net.model.depth
    shape = (1, 3, *size) if size else (2, 3, step + 96, step + 128)
    free = {0: Dim("N"), 2: Dim("H", min=step), 3: Dim("W", min=step)}
    program = torch.onnx.export(
        net.eval(),
        (torch.zeros(shape, dtype=torch.uint8),),
        input_names=["images"],
        output_names=["logits" if net.logits else "labels"],
        dynamic_shapes=None if size else (free,),
        dynamo=True,
        verbose=False,
    )
    program.save(path)


def _annotate(model: UNet, path: Path, precision: str, size: tuple[int, int] | None) -> None:
    """Write what a program must know of the network into the file's metadata."""
    import onnx

    file, classes, step = onnx.load(path), model.classes, 2**model.depth
    table = zip(classes.names, classes.ids, classes.colors, strict=True)
    notes = {
        "classes": json.dumps([{"name": n, "id": i, "color": c} for n, i, c in table]),
        "downscale": str(model.downscale),
        "normalization": "inside: (value / 63.75) - 2",
        "precision": precision,
        "size": f"H and W of at least {step}, padded inside to multiples of it",
    }
    if size:
        notes["size"] = "{} {}".format(*size)
    onnx.helper.set_model_props(file, notes)
    onnx.save(file, path)


def noise(model: UNet, size: tuple[int, int] | None) -> list[Tensor]:
    """Batches of smooth noise, uint8 (N, 3, H, W), of `SIZES`, or of one fixed size."""
    generator, batches = torch.Generator().manual_seed(0), []
    for n, *sides in [(1, *size)] if size else SIZES:
        height, width = (max(side, 2**model.depth) for side in sides)
        coarse = torch.randint(256, (n, 3, height // 8 + 1, width // 8 + 1), generator=generator)
        batches.append(F.interpolate(coarse.float(), (height, width), mode="bilinear").byte())
    return batches


def agreement(model: UNet, path: Path, logits: bool, batches: list[Tensor]) -> float:
    """The smallest fraction of pixels, over the batches, whose class is that of `model` itself."""
    import onnxruntime

    session, same = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]), []
    for images in batches:
        (found,) = session.run(None, {"images": images.numpy()})
        labels = torch.from_numpy(found)
        labels = labels.argmax(1) if logits else labels
        with torch.inference_mode():
            expected = model(images).argmax(1)
        same.append((labels == expected).float().mean().item())
    return min(same)


def main() -> None:
    parser = command_line(__doc__)
    add = parser.add_argument
    add("checkpoint", type=Path, help="such as checkpoints/camvid.pt")
    add("onnx", type=Path, help="file to write")
    add("--logits", action="store_true", help="logits instead of train ids")
    add("--precision", default="fp32", choices=LEAST, help="(default: fp32)")
    add("--size", type=int, nargs=2, metavar=("H", "W"), help="(default: any)")
    ranges = "images for the ranges of int8 (default: drawn scenes)"
    add("--calibrate", type=Path, nargs="+", metavar="IMAGE", default=[], help=ranges)
    args = parser.parse_args()
    if args.calibrate and args.precision != "int8":
        parser.error("--calibrate is for --precision int8")
    if args.onnx.suffix.lower() != ".onnx":  # a file that was meant to be read would be replaced
        parser.error(f"the file to write ends in .onnx: {args.onnx} does not")
    with errors_shown():
        path, model = expand(args.onnx, "file to write"), load_model(args.checkpoint)
        agree = export(model, path, args.logits, args.precision, args.size, args.calibrate)
    print(f"{path}: {agree:.3%} of the pixels as in PyTorch")
    if agree < LEAST[args.precision]:
        sys.exit(f"error: that is less than {LEAST[args.precision]:.2%}: do not use the file")


if __name__ == "__main__":
    main()

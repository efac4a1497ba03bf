"""How robust a network is to blur, noise, compression, light, and another size of the images.

    python -m studies.robustness checkpoints/camvid.pt data/camvid

mIoU and pixel accuracy on val, clean and under each corruption; the same random numbers in each
call. Prints a table, adds a line to studies/records/robustness.jsonl, and draws
images/robustness.png of all that are there: mIoU in per cent of the clean one's.
"""

import hashlib
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from PIL import ImageFilter
from torch import Tensor
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import Image as ImageTensor

from dataset import Cityscapes, find_root, resize
from engine import evaluate, make_loader
from engine.augment import to_bytes
from figures import COLORS
from inference import load_model
from model import UNet
from runtime.console import command_line, errors_shown
from runtime.machine import ROOT
from runtime.precision import pick_device
from studies.common import add, read


def filtered(kind: ImageFilter.Filter) -> Callable:
    return lambda image: F.pil_to_tensor(F.to_pil_image(image).filter(kind))


def noisy(level: float) -> Callable:
    return lambda image: to_bytes(image, torch.randn(image.shape) * level + image)


def scaled(factor: float) -> Callable:
    return lambda image: resize(image, [round(n * factor) for n in image.shape[-2:]])


CORRUPTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "clean": torch.clone,
    **{f"Gaussian blur {r} px": filtered(ImageFilter.GaussianBlur(r)) for r in (0.5, 1, 2)},
    "unsharp mask 2 px, 150 %": filtered(ImageFilter.UnsharpMask(2, 150, 0)),
    **{f"Gaussian noise {level}": noisy(level) for level in (8, 16)},
    **{f"JPEG quality {q}": lambda image, q=q: F.jpeg(image, q) for q in (30, 15)},
    **{f"brightness x {f}": lambda x, f=f: F.adjust_brightness(x, f) for f in (0.5, 1.5)},
    **{f"contrast x {f}": lambda x, f=f: F.adjust_contrast(x, f) for f in (0.5, 1.5)},
    **{f"gamma {g}": lambda x, g=g: F.adjust_gamma(x, g) for g in (0.6, 1.6)},
    "fog 40 %": lambda image: to_bytes(image, image * 0.6 + 200 * 0.4),
    **{f"scale {f}": scaled(f) for f in (0.5, 0.75, 1.5)},
}


def measure(model: UNet, data_root: str) -> dict[str, dict[str, float]]:
    """mIoU and accuracy, 0..1, on val under each corruption; printed as they come."""
    found = {}
    for name, corrupt in CORRUPTIONS.items():

        def transform(image: Tensor, mask: Tensor, corrupt: Callable = corrupt) -> tuple:
            return ImageTensor(corrupt(image)), mask

        scenes = Cityscapes(data_root, "val", transforms=transform, seed=0)
        loader = make_loader(scenes, 1, train=False, workers=0)
        confusion = evaluate(model, loader, description=name)[1]
        found[name] = {"mIoU": confusion.mean_iou, "accuracy": confusion.pixel_accuracy}
        of_clean = confusion.mean_iou / found["clean"]["mIoU"]
        print(f"{name:26}{confusion.mean_iou:7.1%}{of_clean:7.0%} of clean", flush=True)
    return found


def relative(found: dict) -> dict[str, float]:
    """mIoU under each corruption, as a part of the clean one's."""
    clean = found["clean"]["mIoU"]
    return {name: f["mIoU"] / clean for name, f in found.items() if name != "clean"}


def plot(runs: list[dict]) -> Figure:
    """A group of bars for each corruption, a bar for each checkpoint."""
    figure = Figure(figsize=(8, 6), layout="constrained")
    ax = figure.subplots()
    height = 0.8 / len(runs)
    for i, run in enumerate(runs):
        kept = relative(run["found"])
        label = f"{run['checkpoint']}, clean {run['found']['clean']['mIoU']:.1%}"
        places = [n + i * height for n in range(len(kept))]
        ax.barh(places, kept.values(), height, label=label, color=COLORS[i % len(COLORS)])
    ax.set_yticks([n + 0.4 - height / 2 for n in range(len(kept))], kept)
    ax.invert_yaxis()
    ax.axvline(1, color="0.3", lw=1)
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.set(xlabel="mIoU on val, relative to that on clean images")
    figure.legend(loc="outside upper center", frameon=False)
    return figure


@errors_shown()
def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data_root", nargs="?", default="data/camvid")
    args = parser.parse_args()
    model = load_model(args.checkpoint, pick_device())
    if model.downscale > 1:
        raise ValueError(f"{args.checkpoint} sees downscaled images: take one that does not")
    found = measure(model, args.data_root)
    kept = relative(found)
    worst = min(kept, key=kept.get)
    mean = statistics.mean(kept.values())
    print(f"mean {mean:.1%} of clean, worst {kept[worst]:.1%} ({worst})")
    digest = hashlib.sha256(args.checkpoint.read_bytes()).hexdigest()[:12]
    data = find_root(args.data_root).resolve().name
    run = {"checkpoint": args.checkpoint.name, "sha256": digest, "data": data, "found": found}
    add("robustness", "robustness", run)
    of_data = [run for run in read("robustness") if run.get("data", "camvid") == data]
    latest = {run["sha256"]: run for run in of_data}
    plot([*latest.values()]).savefig(ROOT / "images/robustness.png", dpi=120)


if __name__ == "__main__":
    main()

"""Reading Cityscapes' frames, 2048x1024 PNGs of 2.6 MB, at half resolution, in one process.

python -m bench.loading

Compared with torchvision's usual pipeline: its own data set, decoded by Pillow, `v2.Resize`, flip,
float, normalise. Our batches are bytes, which the model normalises on its device. Each process has
PyTorch's default number of threads: ours decodes the images of a batch in parallel, torchvision's
one after the other.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import torch
import torchvision
from PIL import Image, ImageFilter
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

from bench.timing import take_turns
from engine import Recipe, make_loaders
from runtime.console import table
from streets import draw_tree

FRAMES, ROUNDS, PASSES = 8, 7, 20  # PASSES: over the cached frames, in a turn


def draw_frames(root: Path) -> None:
    """Scenes of Streets as large as Cityscapes' frames, blurred so that their PNGs are, too."""
    draw_tree(root, train=FRAMES, val=1, size=(2048, 1024), quiet=True)
    for path in root.rglob("*_leftImg8bit.png"):
        Image.open(path).convert("RGB").filter(ImageFilter.GaussianBlur(0.8)).save(path)


def read(batches: Iterable, passes: int = 1) -> None:
    for _ in range(passes):
        for _ in batches:
            pass


def reference(root: Path) -> Callable:
    """torchvision's pipeline: images (N, 3, 512, 1024) float32, labels (N, 512, 1024) uint8."""
    steps = [
        v2.ToImage(),
        v2.Resize((512, 1024)),
        v2.RandomHorizontalFlip(0.5),
        v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
        v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
    scenes = torchvision.datasets.Cityscapes(
        root, "train", target_type="semantic", transforms=v2.Compose(steps)
    )
    scenes = torchvision.datasets.wrap_dataset_for_transforms_v2(scenes)
    return partial(read, DataLoader(scenes, FRAMES))


def reading(root: Path, cache: str | None = None, passes: int = 1) -> Callable:
    """Our training batches, the cache filled."""
    recipe = Recipe(data_root=str(root), cache=cache, workers=0, batch_size=FRAMES)
    loader, _ = make_loaders(recipe)
    if cache:
        read(loader)
    return partial(read, loader, passes)


def first_epoch(root: Path) -> Callable:
    again = reading(root, "first")

    def run() -> None:
        shutil.rmtree(root / "first")
        again()

    return run


def measure() -> str:
    """The table."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        draw_frames(root)
        readers = {
            "torchvision": partial(reference, root),
            "ours without the cache": partial(reading, root),
            "ours in the first epoch, which fills the cache": partial(first_epoch, root),
            "ours in later epochs": partial(reading, root, "later", PASSES),
        }
        found = take_turns(readers, ROUNDS)
    found["ours in later epochs"] /= PASSES
    rows = [
        [name, f"{1e3 * seconds / FRAMES:.3g}", f"{found['torchvision'] / seconds:.3g}", goal]
        for (name, seconds), goal in zip(found.items(), ("", "0.87", "0.87", "50"), strict=True)
    ]
    return table(["reading a frame", "ms", "speed-up", "goal"], rows)


if __name__ == "__main__":
    print(measure())

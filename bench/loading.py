"""Reading Cityscapes' frames, 2048x1024 PNGs of 2.6 MB, at half resolution, in one process.

python -m bench.loading

Compared with torchvision's usual pipeline: its own data set, decoded by Pillow, `v2.Resize`, flip,
float, normalise. Our batches are bytes, which the model normalises on its device; a row of its own
adds what that costs on a CPU. Each process has PyTorch's default number of threads: ours decodes
the images of a batch in parallel, torchvision's one after the other.
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

from bench.peers import make
from bench.plan import flop
from bench.timing import Row, table, take_turns
from bench.training import in_memory, our_epoch
from dataset import Cityscapes, paired_transforms
from engine import Recipe, make_loader
from engine.augment import make_transforms
from model import normalize
from prepare.streets import draw_tree
from runtime.cpu import available_cores

GPUS = {"H100s": 400, "T4s": 26}  # 1e12 FLOP/s, 40 % of their data sheets' dense bf16 and fp16
FRAMES, ROUNDS, PASSES = 8, 7, 20  # PASSES: over the cached frames, in a turn


def draw_frames(root: Path) -> None:
    """Scenes of Streets as large as Cityscapes' frames, blurred so that their PNGs are, too."""
    draw_tree(root, train=FRAMES, val=0, size=(2048, 1024), quiet=True)
    for path in root.rglob("*_leftImg8bit.png"):
        Image.open(path).convert("RGB").filter(ImageFilter.GaussianBlur(0.8)).save(path)


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


def our_loader(root: Path, cache: str | None) -> DataLoader:
    """Batches as a recipe with these settings has them, without workers."""
    flip = paired_transforms(flip=0.5)
    scenes = Cityscapes(root, "train", transforms=flip, seed=0, downscale=2, cache=cache)
    return make_loader(scenes, FRAMES, train=True, workers=0)


def decoding(root: Path) -> Callable:
    return partial(read, our_loader(root, None))


def first_epoch(root: Path) -> Callable:
    def run() -> None:
        shutil.rmtree(root / "first", ignore_errors=True)
        read(our_loader(root, "first"))

    return run


def later_epochs(root: Path, normalized: bool) -> Callable:
    cache = f"later-{normalized}"
    read(our_loader(root, cache))
    loader = our_loader(root, cache)

    def run() -> None:
        for _ in range(PASSES):
            read((normalize(images) for images, _ in loader) if normalized else loader)

    return run


def training(root: Path, workers: int | None) -> Callable:
    """An epoch at 368x480 from the cache; for None, of a batch that is in memory."""
    augment = make_transforms(Recipe(crop=(368, 480), jitter=0.3))
    scenes = Cityscapes(root, "train", transforms=augment, seed=0, downscale=2, cache="training")
    loader = make_loader(scenes, FRAMES, train=True, workers=workers or 0)
    if workers is None:
        loader = in_memory(*next(iter(loader)))
    return our_epoch(Recipe(), make("ours"), loader)


def augmented(root: Path, workers: int | None) -> Callable:
    """Crops of 512x512 from the cache, as recipes with `scale` take them."""
    recipe = Recipe(crop=(512, 512), scale=(0.5, 2), jitter=0.3, corrupt=0.6)
    transform = make_transforms(recipe)
    scenes = Cityscapes(root, "train", transforms=transform, seed=0, downscale=2, cache="augmented")
    loader = make_loader(scenes, 2, train=True, workers=workers)
    read(loader)

    def run() -> None:
        for _ in range(PASSES):
            read(loader)

    return run


def read(batches: Iterable) -> None:
    for _ in batches:
        pass


def measure() -> tuple[list[Row], list[str]]:
    """Rows and notes for `table`."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        draw_frames(root)
        contenders = {
            "other": partial(reference, root),
            "decoding": partial(decoding, root),
            "first": partial(first_epoch, root),
            "later": partial(later_epochs, root, False),
            "normalized": partial(later_epochs, root, True),
        }
        found = take_turns(contenders, ROUNDS)
        steps = {"in memory": None, "0 workers": 0, "2 workers": 2}
        steps = {name: partial(training, root, workers) for name, workers in steps.items()}
        found |= take_turns(steps, 3)
        cores = available_cores()
        found |= take_turns({"augmented": partial(augmented, root, cores)}, 3)
    passes = {"later": PASSES, "normalized": PASSES, "augmented": PASSES}
    ms = {name: 1e3 * f["median"] / FRAMES / passes.get(name, 1) for name, f in found.items()}
    rows = [
        Row(f"Reading a frame, {what}", ms[name], ms["other"], "ms", ms["other"] / ms[name], goal)
        for name, what, goal in (
            ("decoding", "without the cache", "≥ 0.87 (1 / 1.15)"),
            ("first", "first epoch, which fills the cache", "≥ 0.87 (1 / 1.15)"),
            ("later", "later epochs", "≥ 50"),
            ("normalized", "later epochs, normalised on the CPU", ""),
        )
    ]
    rows += [
        Row(
            f"Training on a frame from the cache, {name}, against a batch in memory",
            *(ms[name], ms["in memory"], "ms", ms["in memory"] / ms[name], goal),
        )
        for name, goal in (("0 workers", "≥ 0.97"), ("2 workers", ""))
    ]
    rate, work = 1e3 / ms["augmented"], flop(Recipe(), (512, 512))
    fed = ", ".join(f"{rate * work / 1e12 / tflops:.2g} {card}" for card, tflops in GPUS.items())
    notes = [
        f"With the strong augmentation (scale, colour, corruption), {cores} cores read {rate:.0f} "
        f"crops of 512x512 a second from the cache. That feeds {fed} at width 64, if these "
        f"sustain {' and '.join(f'{tflops} TFLOP/s' for tflops in GPUS.values())}, which is "
        "assumed (40 % of their data sheets' rates), not measured."
    ]
    return rows, notes


if __name__ == "__main__":
    print(table(*measure()))

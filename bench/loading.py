"""Reading Cityscapes' frames, 2048x1024 PNGs of 2.6 MB, at half resolution, in one process.

python -m bench.loading

The other is torchvision's usual pipeline: its own data set, decoded by Pillow, `v2.Resize`, flip,
float, normalise. Ours hands over bytes, which the model normalises on its device; a row of its own
adds what that costs on a CPU. Each process has PyTorch's own number of threads: ours decodes the
pictures of a batch side by side, torchvision's one after the other.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

import torch
import torchvision
from PIL import Image, ImageFilter
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

from bench.timing import row, table, take_turns
from dataset import Cityscapes, make_loader, paired_transforms
from model import normalize
from prepare.streets import draw_tree

FRAMES, ROUNDS, TIMES = 8, 7, 20  # TIMES: passes in a turn over what is already kept


def draw_frames(root: Path) -> None:
    """Streets as large as Cityscapes' frames, a little blurred, for their PNGs to be as large."""
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
    """What a recipe with these settings reads, in the loop itself."""
    flip = paired_transforms(flip=0.5)
    with redirect_stdout(None):  # the cache says what it takes
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
        for _ in range(TIMES):
            read(map(normalize, (images for images, _ in loader)) if normalized else loader)

    return run


def training(root: Path, workers: int | None) -> Callable:
    """Steps at 368x480 from the cache; without a loader at all, on one batch, for None."""
    from losses import criterion
    from model import UNet
    from speed import keep_freed_memory

    keep_freed_memory()
    torch.manual_seed(0)
    augment = paired_transforms(flip=0.5, crop=(368, 480), jitter=0.3)
    scenes = Cityscapes(root, "train", transforms=augment, seed=0, downscale=2, cache="training")
    loader = make_loader(scenes, FRAMES, train=True, workers=workers or 0)
    batches = loader if workers is not None else list(loader)
    model = UNet(width=16).train()
    optimizer = torch.optim.AdamW(model.parameters())

    def run() -> None:
        for images, labels in batches:
            loss = criterion(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return run


def read(batches: Iterable) -> None:
    for _ in batches:
        pass


def rows() -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        draw_frames(root)
        contenders = {
            "other": partial(reference, root),
            "decoding": partial(decoding, root),
            "first": partial(first_epoch, root),
            "later": partial(later_epochs, root, False),
            "normalised": partial(later_epochs, root, True),
        }
        found = take_turns(contenders, ROUNDS)
        steps = {"alone": None, "0 workers": 0, "2 workers": 2}
        steps = {name: partial(training, root, workers) for name, workers in steps.items()}
        found |= take_turns(steps, 3)
    passes = {"later": TIMES, "normalised": TIMES}
    ms = {name: 1e3 * f["median"] / FRAMES / passes.get(name, 1) for name, f in found.items()}
    return [
        row(f"Reading a frame, {what}", ms[name], ms["other"], "ms", ms["other"] / ms[name], goal)
        for name, what, goal in (
            ("decoding", "without the cache", "≥ 1.4"),
            ("first", "first epoch, which fills the cache", "≥ 0.87 (1 / 1.15)"),
            ("later", "later epochs", "≥ 50"),
            ("normalised", "later epochs, and normalising it on the CPU", ""),
        )
    ] + [
        row(
            f"Training on a frame from the cache, {name} (other: without a loader)",
            *(ms[name], ms["alone"], "ms", ms["alone"] / ms[name], goal),
        )
        for name, goal in (("0 workers", "≥ 0.97"), ("2 workers", ""))
    ]


if __name__ == "__main__":
    print(table(rows()))

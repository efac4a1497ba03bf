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
from bench.timing import Row, table, take_turns
from bench.training import Batches, our_epoch
from engine import Recipe, make_loaders
from model import normalize
from runtime.cpu import available_cores
from streets import draw_tree

FRAMES, ROUNDS, PASSES = 8, 7, 20  # PASSES: over the cached frames, in a turn
STRONG = {"scale": (0.5, 2), "jitter": 0.3}


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


def our_loader(root: Path, cache: str | None, **fields) -> DataLoader:
    """Training batches of a recipe with these fields, its cache filled."""
    fields = {"workers": 0, "batch_size": FRAMES, **fields}
    loader, _ = make_loaders(Recipe(data_root=str(root), cache=cache, **fields))
    if cache:
        read(loader)
    return loader


def reading(root: Path, cache: str | None = None, passes: int = 1, **fields) -> Callable:
    return partial(read, our_loader(root, cache, **fields), passes)


def first_epoch(root: Path) -> Callable:
    loader = our_loader(root, "first")

    def run() -> None:
        shutil.rmtree(root / "first")
        read(loader)

    return run


def normalized(root: Path) -> Callable:
    loader = our_loader(root, "normalized")
    return lambda: [read(normalize(images) for images, _ in loader) for _ in range(PASSES)]


def training(root: Path, workers: int | None) -> Callable:
    """An epoch at 368x480 from the cache; for None, of a batch that is in memory."""
    fields = {"crop": (368, 480), **STRONG}
    loader = our_loader(root, "training", **fields, workers=workers or 0)
    return our_epoch(Recipe(**fields), make("ours"), Batches(loader) if workers is None else loader)


def measure() -> tuple[list[Row], list[str]]:
    """Rows and notes for `table`."""
    # Crops of 512x512 from the cache, read by all cores.
    crops = {"crop": (512, 512), "corrupt": 0.6, **STRONG, "batch_size": 2, "workers": None}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        draw_frames(root)
        readers = {
            "other": partial(reference, root),
            "decoding": partial(reading, root),
            "first": partial(first_epoch, root),
            "later": partial(reading, root, "later", PASSES),
            "normalized": partial(normalized, root),
        }
        steps = {"in memory": None, "0 workers": 0, "2 workers": 2}
        found = take_turns(readers, ROUNDS)
        found |= take_turns({name: partial(training, root, n) for name, n in steps.items()}, 3)
        augmented = {"augmented": partial(reading, root, "augmented", PASSES, **crops)}
        found |= take_turns(augmented, 3)
    passes = dict.fromkeys(("later", "normalized", "augmented"), PASSES)
    ms = {name: 1e3 * f.seconds / FRAMES / passes.get(name, 1) for name, f in found.items()}
    read_, train = "Reading a frame", "Training on a frame from the cache"
    rows = [
        Row(f"{what}, {how}", ms[name], ms[other], "ms", ms[other] / ms[name], goal)
        for name, other, what, how, goal in (
            ("decoding", "other", read_, "without the cache", "≥ 0.87 (1 / 1.15)"),
            ("first", "other", read_, "first epoch, which fills the cache", "≥ 0.87 (1 / 1.15)"),
            ("later", "other", read_, "later epochs", "≥ 50"),
            ("normalized", "other", read_, "later epochs, normalised on the CPU", ""),
            ("0 workers", "in memory", train, "0 workers, against a batch in memory", "≥ 0.97"),
            ("2 workers", "in memory", train, "2 workers, against a batch in memory", ""),
        )
    ]
    note = (
        f"With the strong augmentation (scale, colour, corruption), {available_cores()} cores "
        f"read {1e3 / ms['augmented']:.0f} crops of 512x512 a second from the cache."
    )
    return rows, [note]


if __name__ == "__main__":
    print(table(*measure()))

"""Small trainings: recipes of a tiny network, runs that stop, and networks to predict with."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import nn

from engine import Recipe, fit, make_loaders, make_model
from model import UNet
from runtime.checkpoint import load_checkpoint
from utils import CITYSCAPES


def tiny(root: Path, **fields) -> Recipe:
    """The recipe of a training on a small data set, of three epochs."""
    sizes = {"downscale": 2, "width": 4, "depth": 2, "batch_size": 4, "epochs": 3, "workers": 0}
    return Recipe(**{"data_root": str(root), **sizes, **fields})


def run(recipe: Recipe, folder: Path, stop_after: int | None = None) -> list[dict]:
    """Train a recipe, or go on, until so many epochs are done; returns their records."""
    loaders = make_loaders(recipe)
    model = make_model(recipe, loaders[0].dataset.classes, folder)
    return [*islice(fit(model, *loaders, recipe, folder), stop_after)]


def noise(*size: int, seed: int = 0) -> torch.Tensor:
    """Random bytes: uint8."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)


def network(seed: int = 0, **settings) -> UNet:
    """A U-Net whose batch norms have seen data, so that folding them changes something."""
    torch.manual_seed(seed)
    model = UNet(**{"width": 4, "depth": 2, **settings})
    model.classes = CITYSCAPES
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    with torch.no_grad():
        for _ in range(3):
            model(noise(2, 3, 44, 60))
    return model


def differences(one: Path, other: Path) -> list[str]:
    """Where the checkpoints and histories of two runs are not bit-identical."""
    found = []
    for name in ("last.pt", "best.pt"):
        found += _differ(load_checkpoint(one / name), load_checkpoint(other / name), name)
    histories = [json.loads((run / "history.json").read_text()) for run in (one, other)]
    return found + list(_differ(*histories, "history.json"))


def _differ(a: object, b: object, where: str) -> Iterator[str]:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        if a.dtype != b.dtype or a.numpy().tobytes() != b.numpy().tobytes():
            yield where
    elif isinstance(a, dict) and isinstance(b, dict):
        for key in {**a, **b}:
            if key not in ("seconds", "workers"):
                yield from _differ(a.get(key), b.get(key), f"{where}/{key}")
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for i, pair in enumerate(zip(a, b, strict=True)):
            yield from _differ(*pair, f"{where}/{i}")
    elif a != b:
        yield f"{where}: {a!r} and {b!r}"

"""Recipes: what decides how a training goes, and what is made from it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, get_args, get_type_hints

import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser
from torch.utils.data import DataLoader

from dataset import Cityscapes, make_loader, paired_transforms
from model import UNet
from muon import Muon
from utils import CLASS_NAMES


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a training gives, on a given machine.

    The defaults are the reference recipe for Cityscapes.

    Args:
        data_root: directory of the data set, in Cityscapes' format; may name a variable of the
            environment, such as the official $CITYSCAPES_DATASET.
        mode: which labels to train on; validation is always on fine ones.
        train_split: `train`, or `train_extra` with coarse labels.
        downscale: divide the pictures' height and width by this.
        crop: height and width of the training crops; null trains on full frames.
        crop_area: smallest and largest share of the frame that a crop shows.
        crop_start: crops grow from this share of `crop`'s height and width in the first epoch to
            all of it in the last: small pictures are learned from sooner (progressive learning,
            Tan & Le 2021, section 4, https://arxiv.org/abs/2104.00298).
        flip: probability of a horizontal flip.
        jitter: brightness, contrast and saturation vary by this share.
        width: channels of the U-Net's first level.
        depth: poolings of the U-Net.
        padding: of the convolutions.
        batch_norm: normalise after every convolution.
        loss: pixel-averaged cross-entropy, alone or plus the soft Dice loss.
        optimizer: `adam`, or `muon` for the 3x3 convolutions, which learn in fewer steps; see
            muon.py.
        lr: learning rate at the start.
        weight_decay: decoupled from the gradient; at 0, AdamW is Adam.
        schedule: `halve` the learning rate every `halve_every` epochs, or let it rise over the
            first twentieth of the steps and fall to 0 as half a `cosine`.
        halve_every: epochs.
        batch_size: images a step, of all processes together.
        epochs: passes over the training split.
        seed: of the weights, the order of the images and their augmentation.
        workers: processes of a machine that read images ahead, null for as many as suit it; does
            not change the result.
        cache: directory for the pictures as decoded and downscaled, relative to data_root, so
            that each is decoded once; null decodes every time. Does not change the result.
    """

    data_root: str = "$CITYSCAPES_DATASET"
    mode: Literal["fine", "coarse"] = "fine"
    train_split: Literal["train", "train_extra"] = "train"
    downscale: int = 2
    crop: tuple[int, int] | None = None
    crop_area: tuple[float, float] = (0.25, 1.0)
    crop_start: float = 1.0
    flip: float = 0.5
    jitter: float = 0.0
    width: int = 64
    depth: int = 4
    padding: Literal["same", "valid"] = "same"
    batch_norm: bool = True
    loss: Literal["cross_entropy", "cross_entropy+dice"] = "cross_entropy"
    optimizer: Literal["adam", "muon"] = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    schedule: Literal["halve", "cosine"] = "halve"
    halve_every: int = 10
    batch_size: int = 8
    epochs: int = 20
    seed: int = 0
    workers: int | None = None
    cache: str | None = ".cache"

    @classmethod
    def from_fields(cls, fields: dict) -> "Recipe":
        """The recipe whose fields are among `fields`; further names are let be.

        Types are checked and converted as on `train.py`'s command line. Raises ValueError, with
        the field's name, if one is missing or has the wrong type.
        """
        missing = [name for name in cls.__dataclass_fields__ if name not in fields]
        if missing:
            raise ValueError(f"recipe: {', '.join(missing)} is missing: see `help(Recipe)`")
        return cls(**{name: fields[name] for name in cls.__dataclass_fields__})

    def __post_init__(self):
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(type(self))
        try:
            parsed = vars(parser.parse_object(vars(self)))
        except ArgumentError as error:
            raise ValueError(f"recipe: {' '.join(str(error).split())}") from error
        kinds = get_type_hints(type(self))
        for name, value in parsed.items():  # jsonargparse lets null pass for any field
            if value is None and type(None) not in get_args(kinds[name]):
                raise ValueError(f"recipe: {name} is null: give it a value, or leave it out")
            object.__setattr__(self, name, value)  # a list from a file is now a tuple
        for name, low, high in (
            ("downscale", 1, 64),
            ("crop_start", 0.1, 1),
            ("flip", 0, 1),
            ("jitter", 0, 1),
            ("width", 1, 4096),
            ("depth", 1, 8),
            ("lr", 1e-12, 1e3),
            ("weight_decay", 0, 1e3),
            ("halve_every", 1, math.inf),
            ("batch_size", 1, math.inf),
            ("epochs", 1, math.inf),
            ("seed", 0, 2**20 - 1),
            ("workers", 0, 256),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:  # also refuses nan
                raise ValueError(f"recipe: {name} must be between {low} and {high}, not {value}")
        if self.crop is not None and min(self.crop) < 2:
            raise ValueError(f"recipe: crop must be two sizes of at least 2, not {self.crop}")
        if self.crop_start < 1 and (self.crop is None or self.padding == "valid"):
            raise ValueError(
                f"recipe: crop_start {self.crop_start} lets crops grow, which needs a crop and "
                'padding "same": give both, or leave it at 1'
            )
        small, large = self.crop_area
        if not 0 < small <= large <= 1:
            raise ValueError(f"recipe: crop_area must rise within 0..1, not {self.crop_area}")


def check_file(path: str | Path) -> None:
    """Raise ValueError, with the file's name, if it is no YAML that names fields of a recipe.

    `Recipe` checks their values. Nothing that the file says is made an object of.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        yaml.safe_load(text)  # refuses the tags that make objects
        content = yaml.compose(text, yaml.SafeLoader)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): name a recipe") from error
    except (yaml.YAMLError, UnicodeError) as error:
        cause = " ".join(str(error).split())
        raise ValueError(f"{path} is no recipe ({cause}): see recipes/ for some") from error
    if not isinstance(content, yaml.MappingNode):
        raise ValueError(f"{path} names no field, as in `lr: 0.001`: see recipes/ for some")
    known, seen = [*Recipe.__dataclass_fields__, "run"], set()
    for name in (key.value for key, _ in content.value):
        if name not in known:
            like = "".join(f"{meant}? Or " for meant in get_close_matches(str(name), known, 1))
            raise ValueError(f"{path}: a recipe has no {name}: {like}see `train.py --help`")
        if name in seen:
            raise ValueError(f"{path} says twice what {name} is: keep one of them")
        seen.add(name)


def make_model(recipe: Recipe) -> UNet:
    """The recipe's U-Net for the 19 classes, its weights drawn with the recipe's seed."""
    torch.manual_seed(recipe.seed)
    model = UNet(3, len(CLASS_NAMES), recipe.width, recipe.depth, recipe.padding, recipe.batch_norm)
    model.downscale = recipe.downscale
    return model


def make_loaders(recipe: Recipe) -> tuple[DataLoader, DataLoader]:
    """Training and validation batches as the recipe wants them; raises as `Cityscapes` does."""
    augment = [
        paired_transforms(recipe.flip, crop, recipe.crop_area, recipe.jitter)
        for crop in crop_sizes(recipe)
    ]
    read = {"downscale": recipe.downscale, "cache": recipe.cache}
    train = Cityscapes(
        recipe.data_root, recipe.train_split, recipe.mode, augment, recipe.seed, **read
    )
    val = Cityscapes(recipe.data_root, "val", "fine", **read)
    # What a GPU evaluates at once must not grow with the number of processes, as batch_size may.
    return (
        make_loader(train, recipe.batch_size, True, recipe.workers),
        make_loader(val, min(recipe.batch_size, 8), False, recipe.workers),
    )


def crop_sizes(recipe: Recipe) -> list[tuple[int, int] | None]:
    """Height and width of each epoch's crops, which poolings halve evenly while they grow.

    A single element stands for all epochs; it is None for full frames.
    """
    if recipe.crop is None or recipe.crop_start == 1:
        return [recipe.crop]
    step = 2**recipe.depth
    shares = torch.linspace(recipe.crop_start, 1, recipe.epochs).tolist()
    growing = [
        tuple(min(max(round(n * share / step), 1) * step, n) for n in recipe.crop)
        for share in shares[:-1]
    ]
    return [*growing, recipe.crop]


def make_optimizer(
    recipe: Recipe, model: UNet, steps_per_epoch: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """What changes the weights, and the schedule of its learning rate, stepped once a batch."""
    if recipe.optimizer == "muon":
        optimizer = Muon(model, recipe.lr, recipe.weight_decay)
    else:
        decay = recipe.weight_decay
        optimizer = torch.optim.AdamW(model.parameters(), recipe.lr, weight_decay=decay, fused=True)
    factor = lr_factor(recipe, steps_per_epoch)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def lr_factor(recipe: Recipe, steps_per_epoch: int) -> Callable[[int], float]:
    """The schedule: a function of the step, 0 at the start, that multiplies the recipe's lr."""
    steps = recipe.epochs * steps_per_epoch
    warmup = max(steps // 20, 1)

    def factor(step: int) -> float:
        if recipe.schedule == "halve":
            return 0.5 ** (step // steps_per_epoch // recipe.halve_every)
        rise = min((step + 1) / warmup, 1)
        return rise * (1 + math.cos(math.pi * min(step / steps, 1))) / 2

    return factor

"""Recipes: all settings of a training, from a file and the command line."""

import json
import re
from argparse import Namespace, RawDescriptionHelpFormatter
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, NoReturn, get_args, get_type_hints

import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser, DefaultHelpFormatter

from inference import load_model
from model import NetworkSettings, UNet, bounded
from runtime.checkpoint import REPLACED, has_state
from runtime.distributed import broadcast_from_main, is_main
from runtime.files import expand
from utils import CITYSCAPES, Classes, read_yaml


@dataclass(frozen=True, kw_only=True)
class Recipe(NetworkSettings):
    """All settings that determine the result of a training, on a given machine.

    The defaults are the reference recipe for Cityscapes. A new field is a line below, with its
    bounds, and a line here; the command line, the checks and the checkpoints follow. The network's
    are in `model.NetworkSettings`.

    Args:
        data_root: directory of the data set, in Cityscapes' format; may name a variable of the
            environment, such as the official $CITYSCAPES_DATASET.
        mode: which labels to train on; validation is always on fine ones.
        train_split: `train`, `train_extra` with coarse labels, or `trainval`, for a last training
            on everything: its validation figures are then of images that it was trained on, and
            the last epoch is kept as the best.
        downscale: divide the images' height and width by this.
        crop: height and width of the training crops; null trains on full frames.
        scale: frames are resized by a factor between these before a crop is cut out, and padded
            where they are smaller (see engine/augment.py); null does not resize them.
        keep_scale: with `scale`, the fraction of crops that are not resized.
        flip: probability of a horizontal flip.
        jitter: gamma, brightness, contrast and saturation vary by up to this much, hue by a sixth.
        corrupt: probability of blur, sharpening, noise or JPEG compression.
        hold_out: cities of the training split that are left out, for example to evaluate on them.
        init: a checkpoint whose weights the training starts from; null draws them. The last layer
            is drawn if its classes are not the data's.
        loss: pixel-averaged cross-entropy, alone or plus the soft Dice or the Lovász-softmax loss
            (see engine/losses.py).
        class_weights: of the cross-entropy, by how frequent the classes are in the training data.
        label_smoothing: part of the cross-entropy's target that is spread over all classes, so
            that the network is less sure of every pixel; validation losses are without.
        optimizer: `adam`, or `muon` for the 3x3 convolutions, which learn in fewer steps; see
            engine/muon.py.
        lr: learning rate at the start, with `cosine` at its highest.
        weight_decay: decoupled from the gradient; at 0, AdamW is Adam.
        schedule: `halve` the learning rate every `halve_every` epochs, or let it rise over the
            first twentieth of the steps and fall to 0 as half a `cosine`.
        halve_every: epochs.
        batch_size: images a step, of all processes together.
        accumulate: parts in which a batch passes the network, to save memory. The step is that of
            the full batch, but batch norm sees the parts.
        epochs: passes over the training split.
        seed: of the weights, the order of the images and their augmentation.
        precision: of the network's arithmetic; `auto` takes what the device is fast in (see
            runtime/precision.py).
        device: such as `cuda` or `cpu`; null takes the GPU where there is one. `cuda` and `cuda:0`
            take all GPUs, unless CUDA_VISIBLE_DEVICES=0 is in the environment; `cuda:1` takes one.
        workers: processes of a machine that read images ahead, null for as many as suit it; does
            not change the result.
        cache: directory for the decoded and downscaled images, relative to data_root, so that
            each is decoded once; null decodes every time. Does not change the result.
    """

    data_root: str = "$CITYSCAPES_DATASET"
    mode: Literal["fine", "coarse"] = "fine"
    train_split: Literal["train", "trainval", "train_extra"] = "train"
    downscale: int = bounded(2, 1, 64)
    crop: tuple[int, int] | None = bounded(None, 2)
    scale: tuple[float, float] | None = bounded(None, 0.1, 10)
    keep_scale: float = bounded(0.3, 0, 1)
    flip: float = bounded(0.5, 0, 1)
    jitter: float = bounded(0.0, 0, 1)
    corrupt: float = bounded(0.0, 0, 1)
    hold_out: tuple[str, ...] = ()
    init: str | None = None
    loss: Literal["cross_entropy", "cross_entropy+dice", "cross_entropy+lovasz"] = "cross_entropy"
    class_weights: Literal["median_frequency", "enet"] | None = None
    label_smoothing: float = bounded(0.0, 0, 0.99)
    optimizer: Literal["adam", "muon"] = "adam"
    lr: float = bounded(1e-3, 1e-12, 1e3)
    weight_decay: float = bounded(0.0, 0, 1e3)
    schedule: Literal["halve", "cosine"] = "halve"
    halve_every: int = bounded(10, 1)
    batch_size: int = bounded(8, 1)
    accumulate: int = bounded(1, 1)
    epochs: int = bounded(20, 1)
    seed: int = bounded(0, 0, 2**20 - 1)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    device: str | None = None
    workers: int | None = bounded(None, 0, 256)
    cache: str | None = ".cache"

    @classmethod
    def from_file(cls, path: str | Path, **changes) -> "Recipe":
        """The recipe of a YAML file, with some fields changed; what it leaves out is default.

        Raises ValueError, with the file's name, if the file is no YAML that names fields of a
        recipe, and as `Recipe` for their values.
        """
        return cls(**{**_read_fields(path), **changes})

    def __post_init__(self):
        try:
            self._parse()
            super().__post_init__()
            self._check_combinations()
        except ValueError as error:
            raise ValueError(f"recipe: {error}") from error

    def _parse(self) -> None:
        """Give the fields the types that they are declared with; raises ValueError."""
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(type(self))
        try:
            parsed = vars(parser.parse_object(as_json(vars(self))))
        except ArgumentError as error:
            raise ValueError(" ".join(str(error).split())) from error
        kinds = get_type_hints(type(self))
        for name, value in parsed.items():  # jsonargparse lets null pass for any field
            optional = type(None) in get_args(kinds[name])
            if value is None and not optional:
                raise ValueError(f"{name} is null: give it a value, or leave it out")
            if value == "None" and optional:  # Python's word for null, as in `--cache None`
                value = None
            object.__setattr__(self, name, value)  # a list from a file is now a tuple

    def _check_combinations(self) -> None:
        """Raise ValueError for a field that has no effect, and for values that do not go together.

        A field that has its default counts as not given.
        """
        defaults = {each.name: each.default for each in fields(self)}
        for name, (has_effect, other) in NEEDS.items():
            if getattr(self, name) != defaults[name] and not has_effect(self):
                raise ValueError(f"{name} needs {other}: give both, or leave {name} out")
        if self.scale and self.scale[0] > self.scale[1]:
            raise ValueError(f"scale must rise, not {self.scale}")
        if self.accumulate > self.batch_size:
            raise ValueError(f"accumulate is {self.accumulate}, above batch_size: lower it")
        if self.crop and self.batch_norm and max(self.crop) <= 2**self.depth:
            raise ValueError(
                f"the deepest level sees one pixel of a crop of {self.crop}, which batch norm "
                "cannot normalise: raise crop, or lower depth"
            )


# What a field needs to have an effect: field -> (whether a recipe has that, its name).
NEEDS = {
    "scale": (
        lambda recipe: recipe.crop and recipe.keep_scale < 1,
        "a crop, for images of one size, and keep_scale below 1",
    ),
    "keep_scale": (lambda recipe: recipe.scale not in (None, (1, 1)), "a scale other than [1, 1]"),
    "halve_every": (lambda recipe: recipe.schedule == "halve", "schedule: halve"),
    "accumulate": (
        lambda recipe: recipe.loss == "cross_entropy",
        "loss: cross_entropy; the others do not add up over the parts of a batch",
    ),
}

# How a field that takes several values is written on the command line.
LISTS = {
    "crop": "--crop [256,512]",
    "scale": "--scale [0.5,2]",
    "hold_out": """--hold_out '["aachen","0016e5"]'""",  # without quotes, 0016e5 is a number
}


def as_json(value: object) -> object:
    """A value as it is read back from JSON: numpy's and PyTorch's numbers become Python's.

    Checkpoints hold nothing else, since they are read without running code. Raises TypeError for
    anything else.
    """

    def plain(each: object) -> object:
        if isinstance(each, Path):
            return str(each)
        if hasattr(each, "tolist"):  # also arrays and tensors
            return each.tolist()
        raise TypeError(f"{each!r} is no plain value, which a checkpoint could hold")

    return json.loads(json.dumps(value, default=plain))


def given(**fields) -> dict:
    """The fields that are not None: in a notebook, None stands for what the recipe's file says."""
    return {name: value for name, value in fields.items() if value is not None}


def _read_fields(path: str | Path) -> dict:
    """The fields that a recipe's file names. Nothing in it is made an object of Python's."""
    try:
        content = read_yaml(path, yaml.SafeLoader)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): name a recipe") from error
    except Exception as error:  # parsers raise nearly anything
        cause = " ".join(str(error).split())
        raise ValueError(f"{path} is no recipe ({cause}): see recipes/ for some") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} names no field, as in `lr: 0.001`: see recipes/ for some")
    known = [each.name for each in fields(Recipe)]
    for name, value in content.items():
        if name not in known:
            meant = get_close_matches(REPLACED.get(name, str(name)), known, 1)
            like = f"{meant[0]}? Or " if meant else ""
            raise ValueError(f"{path}: a recipe has no {name}: {like}see `train.py --help`")
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(each, str | int | float | None) for each in values):
            raise ValueError(f"{path}: {name} is neither a value nor a list of values")
    return content


class _Parser(ArgumentParser):
    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """End with one line, and the option that was meant, instead of a list of all options."""
        known = [option for action in self._actions for option in action.option_strings]
        words = [word.partition("=")[0] for word in message.split()]
        unknown = [word for word in words if word.startswith("--") and word not in known]
        meant = [like for word in unknown for like in get_close_matches(word, known, 1)]
        hint = f"did you mean {meant[0]}?" if meant else f"see `{self.prog} --help`"
        refused = re.search(r'Parser key "(\w+)".* value: (.*)', message, re.DOTALL)
        if refused and (like := LISTS.get(refused[1])):
            message, hint = f"--{refused[1]} {refused[2]}", f"write a list, as in {like}"
        self.exit(2, f"error: {' '.join(message.split())}: {hint}\n")


class _Formatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Keeps the lines of the description as they are written."""


def recipe_parser(description: str) -> ArgumentParser:
    """A command line of `--recipe FILE` and an option for each field; more can be added."""
    parser = _Parser(description=description, formatter_class=_Formatter)
    parser.add_argument("--recipe", metavar="FILE", help="a YAML file with the fields below")
    parser.add_class_arguments(Recipe)
    return parser


def parse_recipe(parser: ArgumentParser) -> tuple[Recipe, Namespace]:
    """The recipe of this process's command line, and all arguments; raises as `from_file`."""
    args = parser.parse_args()
    names = {each.name for each in fields(Recipe)}
    changes = {k: v for k, v in vars(parser.parse_args(defaults=False)).items() if k in names}
    return Recipe.from_file(args.recipe, **changes) if args.recipe else Recipe(**changes), args


def make_model(
    recipe: Recipe, classes: Classes = CITYSCAPES, run_dir: str | Path | None = None
) -> UNet:
    """The recipe's U-Net for a data set's classes.

    Its weights are drawn with the recipe's seed, or are those of the checkpoint `recipe.init`,
    which a run that goes on in `run_dir` needs no more. Raises as `load_model`, and ValueError for
    a checkpoint of another network.
    """
    torch.manual_seed(recipe.seed)
    model = UNet(3, len(classes), **recipe.network())
    model.classes, model.downscale = classes, recipe.downscale
    if recipe.init is not None:
        if run_dir is None or not broadcast_from_main(has_state, Path(run_dir)):
            _load_weights(model, recipe.init)
    return model


def _load_weights(model: UNet, path: str) -> None:
    source = load_model(expand(path, "checkpoint of init"))
    theirs, ours = ({**m.settings, "num_classes": None} for m in (source, model))
    if differ := [f"{n} is {theirs[n]!r}, not {ours[n]!r}" for n in ours if theirs[n] != ours[n]]:
        raise ValueError(
            f"{path} is of another network than the recipe's ({'; '.join(differ)}): make them "
            "equal, or draw the weights with `init: null`"
        )
    weights = source.state_dict()
    if source.classes is None or source.classes.names != model.classes.names:
        for name, drawn in model.state_dict().items():
            if name.startswith("conv_1x1") or drawn.shape != weights[name].shape:  # as of heads
                weights[name] = drawn
        if is_main():
            print(f"{path} has other classes: the last layer starts from random weights")
    model.load_state_dict(weights)

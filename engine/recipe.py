"""Recipes: all settings of a training, from a file and the command line."""

from argparse import Namespace
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, get_args, get_type_hints

import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser, DefaultHelpFormatter

from model import NetworkSettings, UNet, check_settings
from runtime.checkpoint import checkpoint_classes, load_checkpoint
from runtime.distributed import is_main
from utils import CITYSCAPES, Classes, bounded


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
        crop_area: smallest and largest share of the frame that a crop shows.
        crop_start: crops grow from this share of `crop`'s height and width in the first epoch to
            all of it in the last, since epochs on small crops are faster (progressive learning,
            Tan & Le 2021, section 4, https://arxiv.org/abs/2104.00298).
        scale: frames are resized by a factor between these before a crop is cut out, and padded
            where they are smaller (engine/augment.py); null crops by `crop_area` instead.
        keep_scale: with `scale`, the share of crops that are not resized.
        flip: probability of a horizontal flip.
        jitter: brightness, contrast and saturation vary by this share; with `scale`, gamma does
            too, and hue by a sixth of it.
        degrade: with `scale`, the share of crops that are blurred, sharpened, made noisy or
            compressed as JPEG.
        hold_out: cities of the training split that are left out, for example to evaluate on them.
        init: a checkpoint whose weights the training starts from; null draws them. With other
            classes than the data's, all but the last layer's.
        loss: pixel-averaged cross-entropy, alone or plus the soft Dice or the Lovász-softmax loss
            (see engine/losses.py).
        class_weights: of the cross-entropy, by the classes' shares of the training pixels.
        label_smoothing: share of the cross-entropy's target that is spread over all classes, so
            that the network is less sure of every pixel; validation losses are without.
        optimizer: `adam`, or `muon` for the 3x3 convolutions, which learn in fewer steps; see
            engine/muon.py.
        lr: learning rate at the start.
        weight_decay: decoupled from the gradient; at 0, AdamW is Adam.
        schedule: `halve` the learning rate every `halve_every` epochs, or let it rise over the
            first twentieth of the steps and fall to 0 as half a `cosine`.
        halve_every: epochs.
        batch_size: images a step, of all processes together.
        accumulate: parts in which a batch passes the network, to save memory. The step is that of
            the whole batch, but batch norm sees the parts.
        epochs: passes over the training split.
        seed: of the weights, the order of the images and their augmentation.
        precision: of the network's arithmetic; `auto` takes what the device is fast in (see
            runtime/precision.py).
        device: such as `cuda` or `cpu`; null takes the GPU where there is one.
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
    crop_area: tuple[float, float] = bounded((0.25, 1.0), 1e-6, 1)
    crop_start: float = bounded(1.0, 0.1, 1)
    scale: tuple[float, float] | None = bounded(None, 0.1, 10)
    keep_scale: float = bounded(0.3, 0, 1)
    flip: float = bounded(0.5, 0, 1)
    jitter: float = bounded(0.0, 0, 1)
    degrade: float = bounded(0.0, 0, 1)
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

    def extends(self, epochs: int) -> bool:
        """Whether a run of so many epochs may go on with this recipe's, if they are more.

        Not if the learning rate or the crops depend on the number of epochs.
        """
        return self.epochs >= epochs and self.schedule == "halve" and self.crop_start == 1

    def __post_init__(self):
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(type(self))
        try:
            values = {k: str(v) if isinstance(v, Path) else v for k, v in vars(self).items()}
            parsed = vars(parser.parse_object(values))
        except ArgumentError as error:
            raise ValueError(f"recipe: {' '.join(str(error).split())}") from error
        kinds = get_type_hints(type(self))
        for name, value in parsed.items():  # jsonargparse lets null pass for any field
            optional = type(None) in get_args(kinds[name])
            if value is None and not optional:
                raise ValueError(f"recipe: {name} is null: give it a value, or leave it out")
            if value == "None" and optional:  # Python's word for null, as in `--cache None`
                value = None
            object.__setattr__(self, name, value)  # a list from a file is now a tuple
        super().__post_init__()
        if self.crop_start < 1 and (self.crop is None or self.padding == "valid"):
            raise ValueError(
                f"recipe: crop_start {self.crop_start} lets crops grow, which needs a crop and "
                'padding "same": give both, or leave it at 1'
            )
        if self.crop and self.batch_norm and max(self.crop) <= 2**self.depth:
            raise ValueError(
                f"recipe: of a crop of {self.crop} the deepest of {self.depth + 1} levels sees one "
                f"pixel, which batch norm cannot normalise: crop more than {2**self.depth}"
            )
        for name in ("crop_area", "scale"):
            values = getattr(self, name)
            if values and values[0] > values[1]:
                raise ValueError(f"recipe: {name} must rise, not {values}")
        if self.accumulate > 1 and self.loss != "cross_entropy":
            raise ValueError(
                "recipe: accumulate is for cross_entropy, the only loss that is a sum over pixels"
            )
        if self.accumulate > self.batch_size:
            raise ValueError(
                f"recipe: a batch of {self.batch_size} has fewer than {self.accumulate} parts"
            )
        if self.crop is None and self.scale is not None:
            raise ValueError("recipe: scale needs a crop, for images of one size: give both")
        if self.scale is None and self.degrade:
            raise ValueError("recipe: degrade needs scale: give both, as in [1, 1]")
        if self.scale and (self.crop_start < 1 or self.crop_area != (0.25, 1.0)):
            raise ValueError(
                "recipe: crop_area and crop_start are not used with scale: leave them out"
            )


def given(**fields) -> dict:
    """The fields that are not None: in a notebook, None stands for what the recipe's file says."""
    return {name: value for name, value in fields.items() if value is not None}


def _read_fields(path: str | Path) -> dict:
    """The fields that a recipe's file names. Nothing in it is made an object of Python's."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        content = yaml.safe_load(text)
        tree = yaml.compose(text, yaml.SafeLoader)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): name a recipe") from error
    except Exception as error:  # parsers raise nearly anything
        cause = " ".join(str(error).split())
        raise ValueError(f"{path} is no recipe ({cause}): see recipes/ for some") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} names no field, as in `lr: 0.001`: see recipes/ for some")
    known = [each.name for each in fields(Recipe)]
    names = [key.value for key, _ in tree.value]
    for i, name in enumerate(names):
        if name not in known:
            like = "".join(f"{meant}? Or " for meant in get_close_matches(str(name), known, 1))
            raise ValueError(f"{path}: a recipe has no {name}: {like}see `train.py --help`")
        if name in names[:i]:
            raise ValueError(f"{path} gives {name} twice: keep one")
    for name, value in content.items():
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(each, str | int | float | None) for each in values):
            raise ValueError(f"{path}: {name} is neither a value nor a list of values")
    return content


class _Formatter(DefaultHelpFormatter):
    """Keeps the lines of the description as they are written."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "".join(indent + line for line in text.splitlines(keepends=True))


def recipe_parser(description: str) -> ArgumentParser:
    """A command line of `--recipe FILE` and an option for each field; more can be added."""
    parser = ArgumentParser(description=description, formatter_class=_Formatter)
    parser.add_argument("--recipe", metavar="FILE", help="a YAML file with the fields below")
    parser.add_class_arguments(Recipe)
    return parser


def parse_recipe(parser: ArgumentParser) -> tuple[Recipe, Namespace]:
    """The recipe of this process's command line, and all arguments; raises as `from_file`."""
    args = parser.parse_args()
    names = {each.name for each in fields(Recipe)}
    changes = {k: v for k, v in vars(parser.parse_args(defaults=False)).items() if k in names}
    return Recipe.from_file(args.recipe, **changes) if args.recipe else Recipe(**changes), args


def make_model(recipe: Recipe, classes: Classes = CITYSCAPES) -> UNet:
    """The recipe's U-Net for a data set's classes, its weights drawn with the recipe's seed.

    Or those of the checkpoint `recipe.init`. Raises as `load_checkpoint`, and ValueError for a
    checkpoint of another network.
    """
    torch.manual_seed(recipe.seed)
    model = UNet(3, len(classes), **recipe.network())
    model.classes, model.downscale = classes, recipe.downscale
    if recipe.init is not None:
        _load_weights(model, recipe.init)
    return model


def _load_weights(model: UNet, path: str) -> None:
    checkpoint = load_checkpoint(path)
    check_settings(checkpoint["settings"], path)
    try:
        with torch.device("meta"):  # takes no memory, whatever the settings ask for
            settings = UNet(**checkpoint["settings"]).settings  # with the defaults of today
    except (OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} has settings that make no network ({error})") from error
    if {**settings, "num_classes": model.settings["num_classes"]} != model.settings:
        raise ValueError(
            f"{path} is of a network with {settings}, the recipe's has {model.settings}: make "
            "them equal, or leave init out"
        )
    weights, classes = checkpoint["model"], checkpoint_classes(checkpoint)
    if classes is None or classes.names != model.classes.names:
        last_layer = {n: w for n, w in model.state_dict().items() if n.startswith("conv_1x1")}
        weights = {**weights, **last_layer}
        if is_main():
            print(f"{path} has other classes: the last layer starts from random weights")
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"{path}: its weights do not fit its settings ({error}): restore it from a copy, or "
            "leave init out"
        ) from error

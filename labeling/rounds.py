"""The training after a round of labelling: on all labels so far, in a new directory."""

import statistics
from pathlib import Path

from data_io.image_io import image_size
from data_io.layout import IMAGE, list_split
from engine import Recipe
from labeling.proposals import SEEN
from labeling.session import Session
from prepare.splits import OFFICIAL

IMAGES = 2400  # that a training passes through the network, which takes some minutes
EPOCHS = 12, 60  # at least and at most


def next_round(
    session: Session, recipe: str | Path, runs: str | Path, **changes
) -> tuple[Recipe, Path]:
    """The recipe and the new directory of a training on what a session has labelled.

    Changes what the recipe's file says of the data, the size at which photographs are seen and the
    number of epochs, and then what `changes` says. Raises ValueError if fewer than two photographs
    are labelled, and as `Recipe`.
    """
    session.flush()
    images = {
        split: list_split(session.root / "leftImg8bit" / split, IMAGE).stems for split in OFFICIAL
    }
    if not all(images.values()):
        raise ValueError(
            f"{len(images['train'])} labelled photographs to train on and {len(images['val'])} to "
            "validate on: label at least two, of which one trains and one validates (of each five "
            "that follow, one more validates; directories called train and val decide instead)"
        )
    done = [int(path.name) for path in Path(runs).glob("[0-9]*") if path.name.isdigit()]
    folder = session.root / "leftImg8bit" / "train"
    fields = fitting(session.root, [f"{folder / stem}{IMAGE}" for stem in images["train"]])
    settings = Recipe.from_file(recipe, **{**fields, **changes})
    return settings, Path(runs) / str(max(done, default=0) + 1)


def fitting(root: Path, images: list[str]) -> dict:
    """What a recipe should say of a data set: where it is, how much to downscale, epochs.

    images: of its `train`. Those that cannot be read are left for the training to refuse.
    """
    sizes = [max(size) for size in map(image_size, images) if size] or [SEEN]
    low, high = EPOCHS
    return {
        "data_root": str(root),
        "downscale": max(1, round(statistics.median(sizes) / SEEN)),
        "epochs": min(max(IMAGES // len(images), low), high),
    }

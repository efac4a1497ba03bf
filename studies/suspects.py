"""How many known errors `labeling.suspects` finds in CamVid's masks.

    python -m studies.suspects --parts 2 --epochs 8

Copies CamVid and puts an error into 5 % of the masks of `train`, by turns: a connected area gets
another class, the whole mask is shifted by 12 to 24 pixels, or an object gets the class around it.
A suspect region is right if at least half of the pixels in its box that have its label were
changed. An error is found if a right region lies in its mask. Every other region counts as wrong,
though CamVid's own masks have errors, too. The result is added to studies/records/suspects.jsonl.
"""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import binary_dilation, shift
from skimage.measure import label as connected

from data_io.image_io import read_grey
from data_io.layout import name_of
from dataset import Cityscapes
from engine import Recipe
from labeling.suspects import Suspect, find_suspects
from runtime.console import command_line, errors_shown
from runtime.machine import ROOT
from studies.common import add, identity
from utils import Classes

WRONG = 0.05  # of the masks get an error
OBJECTS = 17, 20, 24, 25, 26  # ids: pole, traffic sign, person, rider, car
FIRST = 20, 50, 100  # regions that are looked at
RUNS, SEED = Path("runs/study-suspects"), 0


def draw_area(mask: np.ndarray, ids: list[int], draw: np.random.Generator) -> np.ndarray | None:
    """A connected area of 300 to 20,000 pixels of one of the ids, (H, W) bool; None without one."""
    areas = connected(mask + 1, connectivity=1)
    sizes = np.bincount(areas.ravel())
    found = [i for i in np.unique(areas[np.isin(mask, ids)]) if 300 <= sizes[i] <= 20_000]
    return areas == draw.choice(found) if found else None


def swap_class(mask: np.ndarray, draw: np.random.Generator) -> np.ndarray | None:
    """An area gets another class that the mask has."""
    ids = [i for i in np.unique(mask).tolist() if i]
    area = draw_area(mask, ids, draw)
    others = [] if area is None else [i for i in ids if i != mask[area][0]]
    return np.where(area, draw.choice(others), mask).astype(np.uint8) if others else None


def shift_mask(mask: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """The mask lies beside its image; what comes in is not labelled."""
    return shift(mask, draw.integers(12, 25, 2) * draw.choice([-1, 1], 2), order=0)


def leave_out(mask: np.ndarray, draw: np.random.Generator) -> np.ndarray | None:
    """An object gets the class that is the commonest around it."""
    area = draw_area(mask, OBJECTS, draw)
    if area is None:
        return None
    around = mask[binary_dilation(area, iterations=4) & ~area]
    around = around[(around != 0) & (around != mask[area][0])]
    if not len(around):
        return None
    return np.where(area, np.bincount(around).argmax(), mask).astype(np.uint8)


ERRORS = {"swapped": swap_class, "shifted": shift_mask, "left out": leave_out}


def put_errors_in(root: Path, seed: int) -> dict[str, tuple[str, np.ndarray]]:
    """Change masks of `train`; returns, by the image's name, the kind and the changed pixels."""
    scenes, draw, changed = Cityscapes(root), np.random.default_rng(seed), {}
    for i in draw.permutation(len(scenes)):
        if len(changed) == round(WRONG * len(scenes)):
            break
        kind, mask = list(ERRORS)[len(changed) % len(ERRORS)], read_grey(scenes.targets[i]).numpy()
        wrong = ERRORS[kind](mask, draw)
        if wrong is not None:
            Image.fromarray(wrong).save(scenes.targets[i])
            changed[name_of(scenes.root, scenes.images[i])] = kind, wrong != mask
    return changed


def is_right(suspect: Suspect, root: Path, classes: Classes, changed: dict) -> bool:
    """Whether a region is an error of `put_errors_in`, which returned `changed`."""
    if suspect.image not in changed:
        return False
    left, top, right, bottom = suspect.box
    box = slice(top, bottom), slice(left, right)
    mask = read_grey(root / "gtFine" / f"{suspect.image}_gtFine_labelIds.png").numpy()
    there = mask[box] == classes.ids[classes.names.index(suspect.label)]
    return bool(there.any()) and changed[suspect.image][1][box][there].mean() >= 0.5


def found_in(suspects: list[Suspect], right: list[bool], changed: dict) -> dict:
    """Precision and recall of the first regions, and the errors of each kind: [found, put in]."""
    images = {each.image for each, ok in zip(suspects, right, strict=True) if ok}
    found = Counter(changed[image][0] for image in images)
    put_in = Counter(kind for kind, _ in changed.values())
    kinds = {kind: [found[kind], put_in[kind]] for kind in ERRORS}
    precision, recall = sum(right) / len(right), len(images) / len(changed)
    return {"precision": precision, "recall": recall, "found, of": kinds}


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--parts", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=8)
    args = parser.parse_args()
    with errors_shown():
        root = RUNS / "data"
        ignored = shutil.ignore_patterns(".cache")
        shutil.copytree("data/camvid", root, ignore=ignored, dirs_exist_ok=True)
        changed, classes = put_errors_in(root, SEED), Cityscapes(root).classes
        fields = {"data_root": str(root), "downscale": 2, "crop": [160, 224], "scale": [0.7, 1.4]}
        fields |= {"epochs": args.epochs, "seed": SEED, "lr": 0.01}  # as on record
        recipe = Recipe.from_file(ROOT / "recipes" / "own.yaml", **fields)
        suspects = find_suspects(recipe, args.parts, RUNS / f"{SEED}")
    right = [is_right(each, root, classes, changed) for each in suspects[: max(FIRST)]]
    first = {n: found_in(suspects[:n], right[:n], changed) for n in FIRST}
    result = {"places": len(suspects), "errors": len(changed), "parts": args.parts, "first": first}
    add("suspects", "suspects", {**result, "recipe": identity(recipe)})
    print(json.dumps(first, indent=1))


if __name__ == "__main__":
    main()

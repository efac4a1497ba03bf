"""How many known errors `labeling.suspects` finds in CamVid's masks.

    python -m studies.suspects --parts 2 --epochs 8

Copies CamVid and puts an error into 5 % of the masks of `train`, by turns: a connected area gets
another class, the whole mask is shifted by 12 to 24 pixels, or an object gets the class around it.
A box of the ranking is right if at least half of the pixels in it that have its label were changed.
An error is found if a right box lies in its mask. What else the ranking names counts as wrong,
though CamVid's own masks have errors, too. The result is added to studies/records/suspects.jsonl.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import binary_dilation
from skimage.measure import label as connected

from data_io.image_io import read_grey
from data_io.layout import IMAGE
from dataset import Cityscapes
from engine import Recipe
from labeling.suspects import Place, find_suspects
from runtime.console import command_line, errors_shown
from runtime.machine import ROOT
from studies.common import add, identity

WRONG = 0.05  # of the masks get an error
OBJECTS = 17, 20, 24, 25, 26  # ids: pole, traffic sign, person, rider, car
FIRST = 20, 50, 100  # boxes that are looked at


def an_area(mask: np.ndarray, ids: tuple[int, ...], draw: np.random.Generator) -> np.ndarray | None:
    """A connected area of 300 to 20,000 pixels of one of the ids, (H, W) bool; None without one."""
    areas = connected(mask + 1, connectivity=1)
    sizes = np.bincount(areas.ravel())
    found = [i for i in np.unique(areas[np.isin(mask, ids)]) if 300 <= sizes[i] <= 20_000]
    return areas == draw.choice(found) if found else None


def swap(mask: np.ndarray, draw: np.random.Generator) -> np.ndarray | None:
    """An area gets another class that the mask has."""
    ids = tuple(set(np.unique(mask).tolist()) - {0})
    area = an_area(mask, ids, draw)
    if area is None:
        return None
    others = [i for i in ids if i != mask[area][0]]
    return np.where(area, draw.choice(others), mask).astype(np.uint8) if others else None


def shift(mask: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """The mask lies beside its image; what comes in is not labelled."""
    by = draw.integers(12, 25, 2) * draw.choice([-1, 1], 2)
    moved = np.roll(mask, by, (0, 1))
    for axis, n in enumerate(by):
        np.moveaxis(moved, axis, 0)[slice(0, n) if n > 0 else slice(n, None)] = 0
    return moved


def leave_out(mask: np.ndarray, draw: np.random.Generator) -> np.ndarray | None:
    """An object gets the class that is the commonest around it."""
    area = an_area(mask, OBJECTS, draw)
    if area is None:
        return None
    around = mask[binary_dilation(area, iterations=4) & ~area]
    around = around[(around != 0) & (around != mask[area][0])]
    if not len(around):
        return None
    return np.where(area, np.bincount(around).argmax(), mask).astype(np.uint8)


ERRORS: dict[str, Callable] = {"swapped": swap, "shifted": shift, "left out": leave_out}


def put_errors_in(root: Path, seed: int) -> dict[str, tuple[str, np.ndarray]]:
    """Change masks of `train`; returns, by the image's name, the kind and the changed pixels."""
    scenes, draw, changed = Cityscapes(root), np.random.default_rng(seed), {}
    order, kinds = draw.permutation(len(scenes)), list(ERRORS)
    for i in order:
        if len(changed) == round(WRONG * len(scenes)):
            break
        kind, mask = kinds[len(changed) % len(kinds)], read_grey(scenes.targets[i]).numpy()
        wrong = ERRORS[kind](mask, draw)
        if wrong is not None:
            Image.fromarray(wrong).save(scenes.targets[i])
            path = Path(scenes.images[i]).relative_to(scenes.root / "leftImg8bit")
            changed[path.as_posix().removesuffix(IMAGE)] = kind, wrong != mask
    return changed


def is_right(place: Place, root: Path, changed: dict[str, tuple[str, np.ndarray]]) -> bool:
    """Whether a box of the ranking is an error that was put in."""
    if place.image not in changed:
        return False
    classes = Cityscapes(root).classes
    i = classes.ids[classes.names.index(place.label)]
    left, top, right, bottom = place.box
    box = slice(top, bottom), slice(left, right)
    mask = read_grey(root / "gtFine" / f"{place.image}_gtFine_labelIds.png").numpy()
    there = mask[box] == i
    return bool(there.any()) and changed[place.image][1][box][there].mean() >= 0.5


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--camvid", type=Path, default=Path("data/camvid"))
    parser.add_argument("--parts", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--runs", type=Path, default=Path("runs/study-suspects"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with errors_shown():
        root = args.runs / "data"
        ignored = shutil.ignore_patterns(".cache")
        shutil.copytree(args.camvid, root, ignore=ignored, dirs_exist_ok=True)
        changed = put_errors_in(root, args.seed)
        fields = {"data_root": str(root), "downscale": 2, "crop": [160, 224], "scale": [0.7, 1.4]}
        fields |= {"epochs": args.epochs, "seed": args.seed}
        recipe = Recipe.from_file(ROOT / "recipes" / "own.yaml", **fields)
        places = find_suspects(recipe, args.parts, args.runs / f"{args.seed}")
    right = [is_right(place, root, changed) for place in places[: max(FIRST)]]
    first = {}
    for n in FIRST:
        hit = {place.image for place, ok in zip(places[:n], right, strict=False) if ok}
        found = Counter(changed[image][0] for image in hit)
        put_in = Counter(kind for kind, _ in changed.values())
        kinds = {"found, of": {kind: [found[kind], put_in[kind]] for kind in ERRORS}}
        first[n] = {"precision": sum(right[:n]) / n, "recall": len(hit) / len(changed), **kinds}
    result = {"places": len(places), "errors": len(changed), "parts": args.parts, "first": first}
    add("suspects", "suspects", {**result, "recipe": identity(recipe)})
    print(json.dumps(first, indent=1))


if __name__ == "__main__":
    main()

"""Find regions where the labels of a data set contradict a network that never saw them.

    python -m labeling.suspects data/mine
    python -m labeling.suspects data/mine --parts 4 --recipe recipes/camvid.yaml

Splits `train` into parts, trains on all but one, and predicts that one, for each part in turn
(confident learning, Northcutt et al. 2021, https://arxiv.org/abs/1911.00068). A pixel is suspect if
another class than its label's is more probable there than that class is, on average, where the
labels have it. Connected suspect pixels make a region. ROOT/suspects.json lists the regions, the
most suspect first (see `rank`); `label.ipynb` opens them for correction (`suspects` in its
settings). Trains as that notebook does; or a recipe as it is, but for its `data_root`. A run that
was stopped goes on, in --runs; remove it to train on labels that were corrected.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from skimage.measure import label as connected
from skimage.measure import regionprops
from torch import Tensor, nn

from data_io.layout import name_of
from dataset import Cityscapes, find_root
from engine import Recipe, fit, make_loader, make_model
from engine.augment import make_transforms
from inference import inference_net, predict_rows
from labeling.rounds import fitting
from runtime.console import command_line, errors_shown, progress_bar
from runtime.files import atomic_write
from utils import IGNORE_INDEX

MIN_AREA = 40  # pixels of a region, at the size that the network sees


class Suspect(NamedTuple):
    """A region where the labels contradict the network: its box, in pixels of the image."""

    image: str  # <split>/<city>/<stem>
    box: tuple[int, int, int, int]  # left, top, right, bottom
    label: str
    predicted: str
    score: float


def train_without(recipe: Recipe, part: int, parts: int, run: Path) -> tuple[nn.Module, list[int]]:
    """A network that never saw a part of `train`, and the indices of that part's images.

    Image i is in part i % parts. Raises ValueError for fewer than two images a part.
    """
    options = {"seed": recipe.seed, "downscale": recipe.downscale}
    train = Cityscapes(recipe.data_root, transforms=make_transforms(recipe), **options)
    val, count = Cityscapes(recipe.data_root, **options), len(train)
    if count < 2 * parts:
        raise ValueError(f"{count} images are too few for {parts} parts: give --parts 2")
    held_out = list(range(part, count, parts))
    few = held_out[:: max(len(held_out) // 10, 1)]  # for the loss that is shown
    for scenes, kept in (train, sorted({*range(count)} - {*held_out})), (val, few):
        scenes.images, scenes.targets = (
            [paths[i] for i in kept] for paths in (scenes.images, scenes.targets)
        )
    loaders = [
        make_loader(scenes, recipe.batch_size, scenes is train, 0) for scenes in (train, val)
    ]
    model = make_model(recipe, train.classes, run)
    for record in fit(model, *loaders, recipe, run):
        epoch = f"epoch {record['epoch']} of {recipe.epochs}, loss {record['train_loss']:.3f}"
        print(f"part {part + 1} of {parts}: {epoch}, {record['seconds']:.0f} s", flush=True)
    return inference_net(model, recipe.precision), held_out


@torch.inference_mode()
def predict_all(
    net: nn.Module, scenes: Cityscapes, indices: list[int], description: str
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Each index with its labels (h, w) uint8 train ids and probabilities (classes, h, w)."""
    with progress_bar(len(indices), description) as bar:
        for i in indices:
            image, labels = scenes[i]
            logits = torch.cat([*predict_rows(net, image, 1.0, None)], 1)
            yield i, labels, logits.float().softmax(0).cpu()
            bar.update()


def thresholds(found: Iterable[tuple[int, Tensor, Tensor]], classes: int) -> Tensor:
    """The mean probability of each class where the labels have it: (classes,) float32.

    1 for a class that no label has.
    """
    total, count = torch.zeros(2, classes, dtype=torch.float64)
    for _, labels, probabilities in found:
        labelled = labels != IGNORE_INDEX
        index = labels[labelled].long()
        given = probabilities[:, labelled].gather(0, index[None])[0]
        total += torch.bincount(index, given.double(), classes)
        count += torch.bincount(index, minlength=classes)
    return torch.where(count > 0, total / count.clamp(min=1), 1.0).float()


def suspect_regions(
    labels: Tensor, probabilities: Tensor, limits: Tensor
) -> Iterator[tuple[tuple[int, int, int, int], int, int, float]]:
    """The suspect regions of an image: box, label, predicted class (train ids) and strength.

    The margin of a pixel is the probability of the predicted class less that of the label. A
    region's strength is the square of its mean margin times the root of its area: a small region
    of which the network is sure comes before a large one of which it is not.
    """
    classes, labels = len(limits), labels.long()
    confidence, predicted = torch.where(
        probabilities >= limits[:, None, None], probabilities, 0
    ).max(0)
    given = probabilities.gather(0, labels.clamp(max=classes - 1)[None])[0]
    wrong = (labels != IGNORE_INDEX) & (confidence > 0) & (predicted != labels)
    pairs = torch.where(wrong, labels * classes + predicted + 1, 0).numpy()
    regions = connected(pairs, background=0, connectivity=1)
    for region in regionprops(regions, (confidence - given).numpy()):
        if region.area >= MIN_AREA and region.intensity_mean > 0:
            top, left, bottom, right = region.bbox
            label, other = divmod(int(pairs[tuple(region.coords[0])]) - 1, classes)
            strength = region.intensity_mean**2 * math.sqrt(region.area)
            yield (left, top, right, bottom), label, other, float(strength)


def rank(suspects: list[Suspect]) -> list[Suspect]:
    """Divide each score by the number of images with the same confusion, and sort by the result.

    A class that the network takes for another one in most images is the network's own weakness; a
    confusion that few images have is likely to be an error of their labels.
    """
    images = defaultdict(set)
    for each in suspects:
        images[each.label, each.predicted].add(each.image)
    scored = [
        each._replace(score=each.score / len(images[each.label, each.predicted]))
        for each in suspects
    ]
    return sorted(scored, key=lambda each: -each.score)


def find_suspects(recipe: Recipe, parts: int, runs: Path) -> list[Suspect]:
    """All suspect regions of a data set's `train`, the most suspect first.

    Raises as `fit`, and ValueError for one part alone or a recipe that leaves images out.
    """
    if parts < 2:
        raise ValueError(f"{parts} parts leave nothing to train on: give --parts 2 or more")
    if (recipe.train_split, recipe.mode, recipe.hold_out) != ("train", "fine", ()):
        raise ValueError("the search is in all fine labels of `train`: take a recipe for these")
    scenes = Cityscapes(recipe.data_root, downscale=recipe.downscale)
    names, suspects = scenes.classes.names, []
    for part in range(parts):
        net, indices = train_without(recipe, part, parts, runs / str(part))
        limits = thresholds(predict_all(net, scenes, indices, "predict"), len(names))
        for i, labels, probabilities in predict_all(net, scenes, indices, "compare"):
            image = name_of(scenes.root, scenes.images[i])
            for box, label, other, strength in suspect_regions(labels, probabilities, limits):
                box = tuple(recipe.downscale * n for n in box)
                suspects.append(Suspect(image, box, names[label], names[other], strength))
    return rank(suspects)


def read_suspects(path: str | Path, most: int = 100) -> dict[str, list[tuple]]:
    """Image -> the boxes to look at, each with a text, of the most suspect regions."""
    boxes = defaultdict(list)
    for image, box, label, predicted, _ in json.loads(Path(path).read_text())["suspects"][:most]:
        boxes[image].append((*box, f"{label}: {predicted}?"))
    return dict(boxes)


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("root", metavar="ROOT", help="a data set")
    parser.add_argument("--recipe", metavar="FILE", help="default: recipes/own.yaml, fitted to it")
    parser.add_argument("--parts", type=int, default=3, help="of the images, 2 or more; default: 3")
    parser.add_argument("--runs", type=Path, default=Path("runs/suspects"), help="of checkpoints")
    args = parser.parse_args()
    with errors_shown():
        root = find_root(args.root)
        fitted = {} if args.recipe else fitting(root, Cityscapes(root).images)
        recipe = Recipe.from_file(
            args.recipe or "recipes/own.yaml", **{"data_root": str(root), **fitted}
        )
        count, kind = len(Cityscapes(root).images), Path(args.recipe or "own").stem
        runs = args.runs / f"{root.resolve().name}-{count}-{kind}-{args.parts}"
        suspects = find_suspects(recipe, args.parts, runs)
        path = root / "suspects.json"
        atomic_write(path, json.dumps({"suspects": suspects}, indent=1).encode())
    for each in suspects[:20]:
        print(f"{each.score:8.3f}  {each.image}  {each.label}, or {each.predicted}?")
    print(f"{len(suspects)} regions: {path}; label.ipynb opens them (suspects = {str(path)!r})")


if __name__ == "__main__":
    main()

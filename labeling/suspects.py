"""Find places where the labels of a data set contradict a network that never saw them.

    python -m labeling.suspects data/mine
    python -m labeling.suspects data/mine --parts 4 --epochs 20 --recipe recipes/camvid.yaml

Trains on all parts of `train` but one, predicts that one, and so on (confident learning, Northcutt
et al. 2021, https://arxiv.org/abs/1911.00068): a pixel is suspect if another class than its label's
is more probable there than that class is, on average, where the labels have it. Connected ones make
a place; the surest and largest come first. ROOT/suspects.json keeps them, and `label.ipynb` opens
them for correction (`suspects` in its settings). A run that was stopped goes on, in --runs.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from skimage.measure import label as connected
from skimage.measure import regionprops
from torch import Tensor, nn

from data_io.layout import IMAGE
from dataset import Cityscapes
from engine import Recipe, fit, make_loader, make_model
from engine.augment import make_transforms
from engine.recipe import parse_recipe, recipe_parser
from inference import inference_net, predict_rows
from runtime.console import errors_shown, progress_bar
from runtime.files import atomic_write
from utils import IGNORE_INDEX

LEAST = 40  # pixels of a place, at the size that the network sees


class Place(NamedTuple):
    """Where labels contradict the network: a box in pixels of the image, and what stands there.

    `score` is the surplus of the predicted class's probability over the label's, summed over the
    pixels; so it grows with the size of a place, and with how sure the network is.
    """

    image: str  # <split>/<city>/<stem>
    box: tuple[int, int, int, int]  # left, top, right, bottom
    label: str
    predicted: str
    score: float


def train_without(recipe: Recipe, part: int, parts: int, run: Path) -> tuple[nn.Module, list[int]]:
    """A network that never saw a part of `train`, and the places of that part in it.

    Image i is in part i % parts.
    """
    scenes = [
        Cityscapes(
            *(recipe.data_root, "train", "fine", make_transforms(recipe)),
            *(recipe.seed, recipe.downscale),
        ),
        Cityscapes(recipe.data_root, downscale=recipe.downscale),
    ]
    count = len(scenes[0])
    if count < 2 * parts:
        raise ValueError(f"{count} images are too few for {parts} parts: give --parts 2")
    part_of = [i for i in range(count) if i % parts == part]
    few = part_of[:: max(len(part_of) // 10, 1)]  # for the loss that is shown
    for each, kept in zip(scenes, (set(range(count)) - set(part_of), few), strict=True):
        each.images, each.targets = (
            [all_[i] for i in kept] for all_ in (each.images, each.targets)
        )
    loaders = [make_loader(each, recipe.batch_size, each is scenes[0], 0) for each in scenes]
    model = make_model(recipe, scenes[0].classes)
    for record in fit(model, *loaders, recipe, run):
        print(
            f"part {part + 1} of {parts}: epoch {record['epoch']} of {recipe.epochs}, "
            f"loss {record['train_loss']:.3f}, {record['seconds']:.0f} s",
            flush=True,
        )
    return inference_net(model, recipe.precision), part_of


@torch.inference_mode()
def predict_all(
    net: nn.Module, scenes: Cityscapes, indices: list[int], what: str
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Each index with its labels (h, w) uint8 train ids and probabilities (classes, h, w)."""
    with progress_bar(len(indices), what) as bar:
        for i in indices:
            image, labels = scenes[i]
            logits = torch.cat([*predict_rows(net, image, 1.0, None)], 1)
            yield i, labels, logits.float().softmax(0).cpu()
            bar.update()


def thresholds(found: Iterable[tuple[int, Tensor, Tensor]], classes: int) -> Tensor:
    """How probable each class is, on average, where the labels have it: (classes,) float32.

    1 for a class that no label has.
    """
    total, count = torch.zeros(2, classes + 1, dtype=torch.float64)
    for _, labels, probabilities in found:
        labels = labels.long().clamp(max=classes).flatten()
        padded = torch.cat([probabilities.flatten(1), torch.zeros(1, labels.numel())]).double()
        total.index_add_(0, labels, padded.gather(0, labels[None])[0])
        count.index_add_(0, labels, torch.ones(labels.numel(), dtype=torch.float64))
    return torch.where(count > 0, total / count.clamp(min=1), 1.0)[:classes].float()


def suspect_places(
    labels: Tensor, probabilities: Tensor, limits: Tensor
) -> Iterator[tuple[tuple[int, int, int, int], int, int, float]]:
    """The places of an image: box, label, predicted class (train ids) and score."""
    chosen = probabilities.float().where(probabilities >= limits[:, None, None], 0)
    sure, predicted = chosen.max(0)
    labels = labels.long()
    given = probabilities.gather(0, labels.clamp(max=len(limits) - 1)[None])[0].float()
    wrong = (labels != IGNORE_INDEX) & (sure > 0) & (predicted != labels)
    surplus = ((sure - given) * wrong).numpy()
    kinds = torch.where(wrong, labels * len(limits) + predicted + 1, 0).numpy()
    for place in regionprops(connected(kinds, background=0, connectivity=1), surplus):
        if place.area >= LEAST:
            top, left, bottom, right = place.bbox
            label, other = divmod(int(kinds[tuple(place.coords[0])]) - 1, len(limits))
            score = float(place.area * place.intensity_mean)
            yield (left, top, right, bottom), label, other, score


def find_suspects(recipe: Recipe, parts: int, runs: Path) -> list[Place]:
    """All places of a data set's `train`, the most suspect first. Raises as `fit`."""
    scenes = Cityscapes(recipe.data_root, downscale=recipe.downscale)
    names, places = scenes.classes.names, []
    for part in range(parts):
        net, indices = train_without(recipe, part, parts, runs / str(part))
        limits = thresholds(predict_all(net, scenes, indices, "predict"), len(names))
        for i, labels, probabilities in predict_all(net, scenes, indices, "compare"):
            path = Path(scenes.images[i]).relative_to(scenes.root / "leftImg8bit")
            name = path.as_posix().removesuffix(IMAGE)
            for box, label, predicted, score in suspect_places(labels, probabilities, limits):
                box = tuple(recipe.downscale * n for n in box)
                places.append(Place(name, box, names[label], names[predicted], round(score, 1)))
    return sorted(places, key=lambda place: -place.score)


def read_places(path: str | Path, most: int = 100) -> dict[str, list[tuple]]:
    """Image -> the boxes to look at, each with a text, of the first places that were found."""
    places = {}
    for image, box, label, predicted, _ in json.loads(Path(path).read_text())["places"][:most]:
        places.setdefault(image, []).append((*box, f"{label}: {predicted}?"))
    return places


def main() -> None:
    parser = recipe_parser(__doc__)
    parser.add_argument("root", metavar="ROOT", help="a data set")
    parser.add_argument("--parts", type=int, default=3, help="of the images")
    parser.add_argument("--runs", type=Path, default=Path("runs/suspects"), help="of checkpoints")
    with errors_shown():
        recipe, args = parse_recipe(parser)
        recipe = replace(recipe, data_root=args.root)
        places = find_suspects(recipe, args.parts, args.runs)
        path = Path(args.root) / "suspects.json"
        atomic_write(path, json.dumps({"places": places}, indent=1).encode())
    for place in places[:20]:
        print(f"{place.score:8.0f}  {place.image}  {place.label}, or {place.predicted}?")
    print(f"{len(places)} places: {path}; label.ipynb opens them (suspects = {str(path)!r})")


if __name__ == "__main__":
    main()

"""What the widget proposes: segments, labels, and which photograph to label next."""

from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from skimage.measure import label as connected
from skimage.segmentation import felzenszwalb
from torch import Tensor

from data_io.image_io import read_image
from dataset import resize
from inference import predict
from labeling.session import Session
from model import UNet
from runtime.console import progress_bar
from utils import Classes

LONGEST = 1000  # pixels of the side of what segments and proposals are computed on
SEEN = 800  # pixels of the longest side that a network looks at, about as in its trainings
SURE = 0.7  # how probable a segment's class must be for it to be proposed
LEAST = 50  # pixels of a segment, of a photograph with 480x360
LOOK = 3 * 16 * 16  # numbers that describe a photograph from far away


class Proposal(NamedTuple):
    """A network's labels for the segments of a view of a photograph (see `view_of`).

    Attributes:
        ids: (h, w) uint8, the id of each segment's class, or void where the user has no such class.
        sure: (h, w) uint8, the mean probability of that class in the segment, in per cent.
    """

    ids: np.ndarray
    sure: np.ndarray


def view_of(image: Tensor, longest: int = LONGEST) -> Tensor:
    """A photograph (3, H, W) uint8 with at most `longest` pixels a side."""
    factor = min(1, longest / max(image.shape[-2:]))
    return resize(image, [max(round(n * factor), 1) for n in image.shape[-2:]])


def enlarge(small: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A map of a view, such as its segments, at the photograph's size, as the widget has it."""
    rows, columns = (np.arange(n) * m // n for n, m in zip(shape, small.shape, strict=True))
    return small[rows][:, columns]


def segments(view: Tensor) -> np.ndarray:
    """Divide a photograph (3, h, w) uint8 into regions of one colour: (h, w) int64, from 0.

    By the graph of Felzenszwalb & Huttenlocher 2004
    (https://doi.org/10.1023/B:VISI.0000022288.19776.77), whose regions are large in sky and road,
    and small where there is detail.
    """
    height, width = view.shape[-2:]
    least = max(round(LEAST * height * width / (480 * 360)), 2)
    pixels = view.permute(1, 2, 0).numpy()
    return felzenszwalb(pixels, scale=50, sigma=0.6, min_size=least)


def propose(model: UNet, view: Tensor, found: np.ndarray, classes: Classes, void: int) -> Proposal:
    """A network's labels for the segments `found` of a view; classes are matched by their names.

    Each segment gets the class that is the most probable in it, so that edges are those of the
    photograph. A segment has a low probability if the network is unsure of it, or sees two classes.
    """
    scale = min(1, SEEN / max(view.shape[-2:])) * model.downscale
    labels, probability = predict(model, view, probabilities=True, scale=scale)
    ids = {name.lower(): i for name, i in zip(classes.names, classes.ids, strict=True)}
    names = model.classes.names if model.classes else classes.names
    table = np.array([ids.get(name.lower(), void) for name in names], dtype=np.uint8)
    count = int(found.max()) + 1
    of_pixel = (found * 256 + table[labels.numpy()]).ravel()
    votes = np.bincount(of_pixel, probability.numpy().ravel(), 256 * count).reshape(count, 256)
    mean = votes.max(1) / np.bincount(found.ravel(), minlength=count)
    return Proposal(votes.argmax(1).astype(np.uint8)[found], (100 * mean).astype(np.uint8)[found])


def regions(proposal: Proposal) -> np.ndarray:
    """Connected segments of one class, sure or not: (h, w) int64, numbered from 0."""
    return connected(proposal.ids, background=-1, connectivity=1) - 1


def known_classes(model: UNet, classes: Classes) -> list[str]:
    """The classes that a network knows, by name: those in its validation, if that is recorded."""
    theirs = (model.classes or classes).names
    known = {theirs[i].lower() for i in model.known or range(len(theirs))}
    return [name for name in classes.names if name.lower() in known]


def uncertainty(proposal: Proposal) -> float:
    """The part of the pixels that are left open, 0..1."""
    return float((proposal.sure < 100 * SURE).mean())


def look(image: Tensor) -> np.ndarray:
    """What a photograph looks like from far away: (LOOK,) float32 of length 1, the mean taken off.

    The product of two is near 1 for photographs of the same corner.
    """
    pixels = resize(image, [16, 16]).float().flatten()
    pixels = pixels - pixels.mean()
    return (pixels / pixels.norm().clamp(min=1e-6)).numpy()


def choose_order(unsure: np.ndarray, looks: np.ndarray, before: np.ndarray) -> list[int]:
    """The order in which photographs are worth labelling, as indices.

    The next one has the highest product of its uncertainty and its distance to all before it, as in
    the greedy core-set of Sener & Savarese 2018 (https://arxiv.org/abs/1708.00489).

    Args:
        unsure: (N,) uncertainties.
        looks: (N, D) of `look`.
        before: (M, D) of photographs that are labelled already.
    """
    near = (looks @ before.T).max(1) if len(before) else np.zeros(len(looks))
    left, order = np.ones(len(looks), dtype=bool), []
    for _ in range(len(looks)):
        worth = (unsure + 1e-3) * (1 - near.clip(0, 1)) + 1e-6 * unsure
        best = int(np.where(left, worth, -1).argmax())
        order.append(best)
        left[best] = False
        near = np.maximum(near, looks @ looks[best])
    return order


def readable_views(session: Session, names: Iterable[str], most: int = 4) -> list[Tensor]:
    """The first photographs that can be read, as `view_of` gives them."""
    views = []
    for name in names:
        with suppress(OSError, ValueError):
            views.append(view_of(read_image(session.photos[name].image)))
        if len(views) == most:
            break
    return views


def rank(session: Session, model: UNet) -> list[tuple[str, float]]:
    """Predict all photographs, and put the session in the order of `choose_order`.

    Returns the names and uncertainties of those that are not labelled, in that order. Files that
    cannot be read come last, with nan.
    """
    unsure, looks = {}, {}
    with progress_bar(len(session.photos), "look at all") as bar:
        for name, photo in session.photos.items():
            try:
                view = view_of(read_image(photo.image), SEEN)
            except (OSError, ValueError):
                unsure[name] = float("nan")
            else:
                looks[name] = look(view)
                if not session.is_labelled(name):
                    of = segments(view), session.classes, session.void
                    unsure[name] = uncertainty(propose(model, view, *of))
            bar.update()
    fresh = [name for name in unsure if name in looks]
    stack = np.array([looks[name] for name in fresh]).reshape(len(fresh), LOOK)
    before = np.array([value for name, value in looks.items() if name not in unsure])
    chosen = choose_order(np.array([unsure[name] for name in fresh]), stack, before)
    order = [fresh[i] for i in chosen] + [name for name in unsure if name not in looks]
    session.set_order(order)
    return [(name, unsure[name]) for name in order]

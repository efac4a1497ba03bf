"""An oracle in place of the person who labels: it knows the true labels, and fills segments.

The committed notebook runs it, and `studies.labels` counts its fills.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from data_io.image_io import read_grey, read_image
from labeling.proposals import SURE, Proposal, enlarge, propose, regions, segments, view_of
from labeling.session import Session
from model import UNet
from streets import draw_tree


def draw_photographs(dst: str | Path) -> Path:
    """Draw scenes that no network of this repository has seen; the folder of their images."""
    draw_tree(dst, train=20, val=0, seed=34, quiet=True)
    return Path(dst) / "leftImg8bit" / "train"


def true_labels(image: Path) -> np.ndarray:
    """The label ids of an image of a data set, (H, W) uint8."""
    return read_grey(str(image).replace("leftImg8bit", "gtFine")[:-4] + "_labelIds.png").numpy()


def best_fill(
    found: np.ndarray, truth: np.ndarray, mask: np.ndarray, ids: tuple[int, ...]
) -> tuple[int, int, int]:
    """The fill that makes the most pixels right: how many more are right, its segment, its id.

    Args:
        found: (H, W) segments, numbered from 0.
        truth: (H, W) uint8 ids; pixels of other ids than `ids` are ignored.
        mask: (H, W) uint8, what is labelled so far.
        ids: of the classes.
    """
    labelled = np.isin(truth, ids)
    pairs = found[labelled].astype(np.int64) * 256 + truth[labelled]
    counts = np.bincount(pairs, minlength=256 * (int(found.max()) + 1)).reshape(-1, 256)
    gains = counts.max(1) - np.bincount(found[labelled & (mask == truth)], minlength=len(counts))
    segment = int(gains.argmax())
    return int(gains[segment]), segment, int(counts[segment].argmax())


def fills(
    maps: list[np.ndarray], truth: np.ndarray, mask: np.ndarray, ids: tuple[int, ...]
) -> Iterator[tuple[np.ndarray, int]]:
    """The best fill, again and again: its pixels, (H, W) bool, and its id; changes `mask`.

    maps: segments, and perhaps `regions`; a fill takes a segment of one of them.
    """
    while True:
        best = [best_fill(found, truth, mask, ids) for found in maps]
        gain, segment, i = max(best)
        if gain <= 0:
            return
        where = maps[best.index((gain, segment, i))] == segment
        mask[where] = i
        yield where, i


def fills_needed(
    maps: list[np.ndarray], truth: np.ndarray, mask: np.ndarray, ids: tuple[int, ...]
) -> int | None:
    """How many `fills` make 95 % of the pixels right; None if the maps are too coarse."""
    mask, labelled = mask.copy(), np.isin(truth, ids)
    filled, count = fills(maps, truth, mask, ids), 0
    while (mask == truth)[labelled].mean() < 0.95:
        if next(filled, None) is None:
            return None
        count += 1
    return count


def accept(proposal: Proposal, mask: np.ndarray, void: int) -> np.ndarray:
    """A mask with the proposal, of at least the probability `SURE`, where it was not labelled."""
    taken = enlarge(np.where(proposal.sure >= 100 * SURE, proposal.ids, void), mask.shape)
    return np.where(mask == void, taken, mask)


def label(session: Session, name: str, truth: np.ndarray, model: UNet | None, most: int) -> float:
    """Label a photograph of a session with the proposal and at most `most` fills.

    Returns which part of its labelled pixels is then right, 0..1.
    """
    mask, view = session.mask(name).copy(), view_of(read_image(session.photos[name].image))
    found, ids = segments(view), session.classes.ids
    maps = [enlarge(found, mask.shape)]
    if model is not None:
        proposal = propose(model, view, found, session.classes, session.void)
        maps.append(enlarge(regions(proposal), mask.shape))
        mask = accept(proposal, mask, session.void)
        session.stroke(name, as_runs(mask))
    for where, i in islice(fills(maps, truth, mask, ids), most):
        session.stroke(name, as_runs(np.full(mask.shape, i), where))
    return float((session.mask(name) == truth)[np.isin(truth, ids)].mean())


def as_runs(values: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
    """The pixels of (H, W) ids as a stroke (see `Session.stroke`), all or some of them."""
    flat = np.where(True if where is None else where, values.astype(np.int64), -1).ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=-2))
    runs = np.stack([starts, np.diff(starts, append=len(flat)), flat[starts]], 1)
    return runs[runs[:, 2] >= 0]

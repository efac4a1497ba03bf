"""Images that are too large for one pass: tiles whose logits are blended, and bands of rows.

Memory is bounded by a row of tiles, if a band is dropped before the next is asked for.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

OVERLAP = 192  # pixels that neighbouring tiles have in common, at least
BAND = 128  # rows that are upsampled at once


def blend_tiles(
    logits_of: Callable[[Tensor], Tensor], image: Tensor, tile: int, step: int
) -> Iterator[Tensor]:
    """The logits of an image in bands of full rows, (num_classes, h, W) float32.

    Where tiles overlap, their logits are averaged with weights that fall towards their edges. A
    band is the rows that no further tile touches.

    Args:
        logits_of: gives the logits (num_classes, h, w) of a tile (3, h, w) uint8.
        image: (3, H, W) uint8.
        tile: height and width of the tiles, at least 2 * `OVERLAP`.
        step: tiles begin at multiples of this.
    """
    height, width = image.shape[-2:]
    shared = None  # sums and weights of the rows that belong to the last row of tiles, too
    for y, next_y in pairwise([*tile_starts(height, tile, step), height]):
        h, done = min(tile, height - y), next_y - y
        sums, weights = None, torch.zeros(h, width, device=image.device)
        for x in tile_starts(width, tile, step):
            part = image[:, y : y + h, x : x + tile]
            logits = logits_of(part)
            if sums is None:
                sums = torch.zeros(len(logits), h, width, device=image.device)
            vertical = _tile_weights(y, y + h, height, image.device)
            window = vertical[:, None] * _tile_weights(x, x + part.shape[-1], width, image.device)
            for total, values in zip(sums, logits, strict=True):  # class by class: no copy of all
                total[:, x : x + tile].addcmul_(values, window)
            weights[:, x : x + tile] += window
            del logits
        if shared is not None:
            sums[:, : shared[0].shape[1]] += shared[0]
            weights[: len(shared[1])] += shared[1]
        shared = sums[:, done:].clone(), weights[done:].clone()
        band = sums[:, :done].div_(weights[:done])
        del sums
        yield band
        del band


def upsample_bands(bands: Iterator[Tensor], h: int, height: int, width: int) -> Iterator[Tensor]:
    """Bands of the rows of (C, h, w), in bands of those of (C, height, width).

    They are what bilinear `F.interpolate` gives, up to rounding, without all of it in memory.
    """
    position = ((torch.arange(height) + 0.5) * h / height - 0.5).clamp(0, h - 1)  # of source rows
    upper, fraction = position.long(), position.frac()
    kept, first, done = None, 0, 0  # source rows, the number of the first, and output rows
    for band in bands:
        kept = band if kept is None else torch.cat([kept, band], 1)
        del band
        there = first + kept.shape[1]
        stop = height if there == h else int((upper + 1 < there).sum())
        for out in range(done, stop, BAND):
            rows = slice(out, min(out + BAND, stop))
            above = (upper[rows] - first).to(kept.device)
            below = (above + 1).clamp(max=kept.shape[1] - 1)
            t = fraction[rows].to(kept.device).unsqueeze(1)
            mixed = torch.lerp(kept[:, above], kept[:, below], t)
            yield F.interpolate(mixed[None], (mixed.shape[1], width), mode="bilinear")[0]
        done = stop
        if done < height:  # forget the rows above those that the next output row lies between
            over = min(int(upper[done]) - first, kept.shape[1])
            kept, first = kept[:, over:].clone(), first + over


def tile_starts(size: int, tile: int, step: int) -> list[int]:
    """Where tiles begin, at multiples of `step`, to cover `size` pixels evenly.

    Neighbours have at least `OVERLAP` in common.
    """
    if size <= tile:
        return [0]
    last = -(-(size - tile) // step)
    count = -(-last // ((tile - OVERLAP) // step)) + 1
    return [i * last // (count - 1) * step for i in range(count)]


def _tile_weights(start: int, stop: int, size: int, device: torch.device) -> Tensor:
    """How much the pixels `start` to `stop` of `size` count in their tile: (stop - start,) float32.

    That is the fourth power of the distance from the tile's edges, where its context ends. Edges
    of the image do not count.
    """
    i = torch.arange(start, stop, device=device)
    before = i - start + 1 if start else torch.full_like(i, size)
    after = stop - i if stop < size else torch.full_like(i, size)
    return (torch.minimum(before, after) / size) ** 4

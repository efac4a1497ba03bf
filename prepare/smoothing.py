"""What smoothed edges and JPEG leave in masks, told from the values that were drawn."""

from collections import Counter

import numpy as np

from prepare.masks import TRANSPARENT, show, split_rgb

STRONG = 0.002  # the share of the pixels from which a colour is no oversight of a drawing tool
NEAR, NOISE = 3, 12  # how far blends lie from a line between two colours, JPEG's from one, in RGB


def strong_values(pixels: Counter, colored: bool) -> list[int]:
    """The values of at least `STRONG` of the pixels that no smoothing or JPEG explains."""
    strong, total = [], pixels.total()
    for value, number in pixels.most_common(256):
        stronger = [other for other in strong if pixels[other] >= 4 * number]
        if value != TRANSPARENT and number >= STRONG * total:
            strong += [] if stronger and _are_blends([value], stronger, colored)[0] else [value]
    return strong


def refuse_smoothed(pixels: Counter, colored: bool) -> None:
    """Raise ValueError where most values are blends of a few.

    Ids lie between each other as well: of bytes, only the edges of two or three far ones count.
    """
    strong = strong_values(pixels, colored)
    others = [*pixels.keys() - {*strong, TRANSPARENT}][:300]
    if not strong or len(others) < max(5, len(strong)):
        return
    if not colored and (len(strong) > 3 or max(strong) - min(strong) < 64):
        return
    share = sum(pixels[value] for value in strong) / pixels.total()
    if share > 0.5 and _are_blends(others, strong, colored).mean() > 0.5:
        raise ValueError(
            f"the masks hold {len(pixels):,} values, of which {len(strong)} make up {share:.1%} "
            f"({show(strong, colored)}); the others are blends, as smoothed edges and JPEG leave "
            "them: export the masks without smoothing, or have each pixel take the nearest of "
            "these, or of the colours of --classes, with --nearest-color"
        )


def _are_blends(values: list[int], strong: list[int], colored: bool) -> np.ndarray:
    """Whether each value lies between two of the strong ones, or beside one: (values,) bool.

    Smoothed edges leave hundreds of values between, JPEG hundreds beside.
    """
    scale = 1 if colored else 0x010101  # a byte is grey
    colors = split_rgb(np.array(values) * scale)[:, None, None]
    ends = split_rgb(np.array(strong) * scale)
    start, step = ends[:, None], ends[None] - ends[:, None]
    along = ((colors - start) * step).sum(-1) / np.maximum((step**2).sum(-1), 1)
    nearest = start + along.clip(0, 1)[..., None] * step
    apart = np.linalg.norm(nearest - colors, axis=-1)  # (values, strong, strong)
    return (apart.min((1, 2)) <= NEAR) | (apart.diagonal(0, 1, 2).min(1) <= NOISE)

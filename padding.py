"""Sizes, and what the network sees beyond an image's edges.

`model.UNet` needs this for images whose sides are no multiple of 2 ** depth, and for `valid`
padding, where every 3x3 convolution costs a pixel on each side.
"""

from itertools import count

import torch
from torch import Tensor


def mirror(images: Tensor, height: int, width: int, margin: int = 0) -> Tensor:
    """Extend (N, C, H, W) by reflection to (N, C, height, width).

    The image is put `margin` pixels from the top and left. It is reflected as often as needed
    (`F.pad` reflects only once). This is how the paper extrapolates missing context (section 2,
    figure 2).
    """

    def index(size: int, padded: int) -> Tensor:
        period = max(2 * (size - 1), 1)
        i = (torch.arange(padded, device=images.device) - margin) % period
        return torch.minimum(i, period - i) if size > 1 else torch.zeros_like(i)

    rows, columns = index(images.shape[-2], height), index(images.shape[-1], width)
    return images.index_select(-2, rows).index_select(-1, columns)


def skip_margin(step: int) -> int:
    """Pixels of a skip, at each side, that the map from below does not cover: 4, 16, 40, 88, ...

    Args:
        step: of the expansive path, from 0 on, with `valid` padding.
    """
    margin = 4  # two convolutions cost 2 pixels on each side, which are 4 of the level above
    for _ in range(step):
        margin = 2 * (margin + 4)  # and two convolutions each, before and after
    return margin


def network_margin(depth: int) -> int:
    """Pixels of an image, at each side, without logits: the top skip's, and 2 + 2 convolutions'."""
    return skip_margin(depth - 1) + 4


def valid_size(n: int, depth: int) -> int:
    """What a network with `valid` padding leaves of n pixels; less than 1 if nothing."""
    for _ in range(depth):
        n = (n - 4) // 2
    n = n - 4
    for _ in range(depth):
        n = 2 * n - 4
    return n


def output_size(height: int, width: int, depth: int, padding: str) -> tuple[int, int]:
    """Height and width of the logits of an image that is not extended.

    Raises ValueError if the image is empty, or too small for `valid` padding.
    """
    if min(height, width) < 1:
        raise ValueError(f"an image of {height}x{width} pixels is empty")
    if padding != "valid":
        return height, width
    if valid_size(min(height, width), depth) < 1:
        smallest = next(n for n in count(1) if valid_size(n, depth) > 0)
        raise ValueError(
            f'an image of {height}x{width} pixels is too small for padding="valid" at depth '
            f'{depth}: give at least {smallest}x{smallest}, or use padding="same"'
        )
    return valid_size(height, depth), valid_size(width, depth)


def extend(images: Tensor, depth: int, padding: str, full_image: bool) -> Tensor:
    """The image as the layers take it: (N, C, H, W) -> (N, C, H or more, W or more).

    With `same` padding, to multiples of 2 ** depth, since each pooling must find an even size.
    With `valid` padding, if `full_image`, so far that every pixel gets logits; else not at all.
    """
    size = tuple(images.shape[-2:])
    if padding != "valid":
        padded, margin = tuple(n + -n % 2**depth for n in size), 0
    elif full_image:
        padded = tuple(next(m for m in count(n) if valid_size(m, depth) >= n) for n in size)
        margin = network_margin(depth)
    else:
        padded = size
    return images if padded == size else mirror(images, *padded, margin)

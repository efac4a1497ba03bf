"""The things of a scene: their footprints, and the order in which to paint them."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.random import Generator

from streets.canvas import Canvas

Span = tuple[float, float]


class Things:
    """What is to be painted from far to near, once all is known."""

    def __init__(self, canvas: Canvas, rng: Generator) -> None:
        self._canvas, self._rng = canvas, rng
        self._boxes: list[tuple[float, float, float, float]] = []
        self._draws: list[tuple[Callable, tuple]] = []

    def add(self, x: Span, z: Span, draw: Callable, *args) -> None:
        """Add what stands on a footprint that spans x and z: draw(canvas, rng, *args) draws it."""
        self._boxes.append((*x, *z))
        self._draws.append((draw, args))

    def add_at(
        self, x: float, z: float, draw: Callable, *args, half: float = 0.3, deep: float = 0.0
    ) -> None:
        """Add what stands around (x, z), if it may be seen: draw(canvas, rng, x, z, *args).

        half, deep: how far its footprint reaches to each side, and along."""
        deep = deep or half
        if any(self._canvas.sees(x, depth, half + 4) for depth in (z - deep, z, z + deep)):
            self.add((x - half, x + half), (z - deep, z + deep), draw, x, z, *args)

    def paint(self) -> None:
        """Paint them all."""
        for i in far_to_near(self._boxes):
            draw, args = self._draws[i]
            draw(self._canvas, self._rng, *args)


def far_to_near(boxes: Sequence[tuple[float, float, float, float]]) -> list[int]:
    """The order in which to paint things so that each hides what is behind it.

    boxes: (x0, x1, z0, z1) footprints, seen from x = 0, z = 0.  Returns their indices."""
    if not boxes:
        return []
    box = np.array(boxes)
    x0, x1 = np.minimum(box[:, 0], box[:, 1]), np.maximum(box[:, 0], box[:, 1])
    z0, z1 = box[:, 2], box[:, 3]
    beyond = z0[:, None] >= z1[None] - 1e-6  # [i, j]: i is farther along the street than j
    right = (x0[:, None] >= x1[None]) & (x1[None] > 0)  # i is farther to the right
    left = (x1[:, None] <= x0[None]) & (x0[None] < 0)
    behind = beyond | ((right | left) & ~beyond.T)
    behind &= ~behind.T
    np.fill_diagonal(behind, False)
    waiting, order = behind.sum(axis=0).astype(float), []  # how many must still come before j
    far = z1 * 1e-6
    for _ in range(len(box)):
        i = int(np.argmin(waiting - far))
        order.append(i)
        waiting -= behind[i]
        waiting[i] = np.inf
    return order

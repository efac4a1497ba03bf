"""Trees, bushes and hedges; (x, z): where one stands; tall, wide: metres; colour: of its leaves."""

import math
from functools import cache

import numpy as np
from numpy.random import Generator

from streets.canvas import LEAVES, Canvas, square
from streets.colours import Colour, shade, tint
from streets.textures import noise

VEGETATION = 21


def tree(
    canvas: Canvas, rng: Generator, x: float, z: float, tall: float, wide: float, colour: Colour
) -> None:
    """Draw a tree with a crown of leaves."""
    canvas.begin(VEGETATION, x, z, 0.5)
    canvas.cast(square(x, z, 0.2), tall * 0.5)
    if canvas.sun:
        _shade_of_crown(canvas, rng, x, z, tall, wide)
    foot = min(2.8, tall * 0.33)
    bark = tint(rng, (86, 72, 58))
    lean = (rng.random() - 0.5) * 0.5
    canvas.tube([(x, 0, z), (x + lean, tall * 0.6, z)], 0.10 + 0.012 * tall, bark)
    paints = _leaves(canvas, tint(rng, colour, 30), 0.35 + 0.5 * rng.random())
    at = (x + lean, (foot + tall) / 2, z)
    canvas.stamp(_crown(int(rng.random() * 6)), paints, at, wide, tall - foot)


def bush(
    canvas: Canvas, rng: Generator, x: float, z: float, tall: float, wide: float, colour: Colour
) -> None:
    """Draw a bush, a piece of hedge or a far tree whose trunk is hidden."""
    canvas.begin(VEGETATION, x, z, 0.5)
    paints = _leaves(canvas, tint(rng, colour, 26), 0.3 + 0.5 * rng.random())
    canvas.stamp(_crown(int(rng.random() * 6)), paints, (x, tall * 0.45, z), wide, tall * 1.25)


def _shade_of_crown(
    canvas: Canvas, rng: Generator, x: float, z: float, tall: float, wide: float
) -> None:
    """Cast the shadow of a crown: bough by bough or, from afar, all of it."""
    x, z, near = x + canvas.sun[0] * tall * 0.6, z + canvas.sun[1] * tall * 0.6, z < 35
    for _ in range(9 if near else 1):
        size = wide * (0.12 + 0.14 * rng.random() if near else 0.4)
        a, b = x + (rng.random() - 0.5) * wide * 0.6, z + (rng.random() - 0.5) * wide * 0.6
        angles = [i * 0.63 for i in range(10)]
        rim = [(a + size * math.cos(angle), b + size * math.sin(angle)) for angle in angles]
        canvas.cast(rim, 0, dark=210)


def _leaves(canvas: Canvas, colour: Colour, lit: float) -> list[int]:
    """The four paints of a crown, dark to bright."""
    canvas.lit = lit
    return [canvas.number(shade(colour, factor), LEAVES) for factor in (0.6, 0.82, 1.0, 1.22)]


@cache
def _crown(form: int) -> np.ndarray:
    """A leafy crown in levels: uint8 [128, 128], 0 outside, 1 (dark) to 4 (bright) inside."""
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    rough = noise(1.2, 128, seed=10 + form)
    fine = noise(0.5, 128, seed=30 + form)
    taper = (1 + (0.25 + 0.35 * (form % 3 == 1)) * y) ** -1 if form % 3 != 2 else 1
    inside = np.hypot(x * taper, y) + 0.11 * rough + 0.05 * fine < 0.80
    tone = 1.6 - 1.2 * y - 0.35 * x + 0.9 * rough + 0.55 * fine
    return (inside * np.clip(tone + 1, 1, 4)).astype(np.uint8)

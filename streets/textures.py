"""Textures of materials, and the noise that they are made of.

s, t: where each of N pixels lies on its surface, in metres along and up (or, on the ground, to the
right and ahead); step: metres that a pixel covers. All are float32 [N]."""

from collections import namedtuple
from functools import cache

import numpy as np
from numpy import ndarray
from numpy.random import Generator

from streets.canvas import ASPHALT, BARS, BRICK, GLASS, GLOSS, GRASS, LEAVES, PLAIN, SLABS, TWIGS
from streets.plan import Light

# The style of a front, see `lots.draw_style`; an array [N] each in `facade`.
Facade = namedtuple("Facade", "pitch floor wide tall shop seed frame brick panes blind")
ROOM = np.array([[0.09], [0.10], [0.12]], np.float32)  # behind a window
GOODS = np.array([[0.2], [0.17], [0.15]], np.float32)

# The grain of each material: deviations of its fine and coarse noise, least and most.
GRAIN = {
    PLAIN: ((0.0, 0.05), (0.0, 0.12)),
    ASPHALT: ((0.02, 0.12), (0.02, 0.12)),
    SLABS: ((0.02, 0.08), (0.03, 0.12)),
    BRICK: ((0.02, 0.08), (0.03, 0.12)),
    LEAVES: ((0.05, 0.25), (0.05, 0.2)),
    GRASS: ((0.05, 0.25), (0.05, 0.2)),
    GLOSS: ((0.0, 0.02), (0.02, 0.12)),
    GLASS: ((0.0, 0.02), (0.1, 0.4)),
}


def texture(kind: int, s: ndarray, t: ndarray, step: ndarray, rng: Generator) -> ndarray:
    """How bright each pixel of a material is: float32 [N], about 1."""
    fine, coarse = (np.float32(rng.uniform(*bounds)) for bounds in GRAIN[kind])
    scale = np.float32(rng.uniform(0.6, 1.6))
    near = np.clip(0.05 / step, 0.15, 1)  # detail fades where a pixel covers more than the grain
    value = 1 + fine * near * sample(noise(0.5), s * (60 * scale), t * (60 * scale))
    value += coarse * sample(noise(1.3, seed=1), s * (14 * scale), t * (14 * scale))
    if kind == SLABS:
        size = np.float32(rng.uniform(0.3, 1.2))
        depth = rng.uniform(0.0, 0.3)
        s, t = s / size, t / (size * np.float32(rng.uniform(0.6, 1.6)))
        joint = np.minimum(np.abs(s % 1 - 0.5), np.abs(t % 1 - 0.5)) < 0.04
        slab = sample(noise(0.0), np.floor(s + 0.5), np.floor(t + 0.5))
        value += (0.08 * slab - depth * joint) * np.clip(0.1 * size / step, 0, 1)
    elif kind == BRICK:
        row = np.floor(t / 0.3)
        joint = (t / 0.3 - row < 0.14) | (((s / 0.7 + row * 0.5) % 1) < 0.06)
        brick = sample(noise(0.0), np.floor(s / 0.7 + row * 0.5), row)
        value += (0.1 * brick - 0.22 * joint) * np.clip(0.08 / step, 0.15, 1)
    elif kind == GLOSS:  # the sky above and the ground below are mirrored in it
        value += 0.25 * np.clip(t - 0.75, -0.5, 0.6)
    return np.maximum(value, 0.2)


def hole(material: ndarray, s: ndarray, t: ndarray, step: ndarray, plane: ndarray) -> ndarray:
    """Where one sees through a material: bool [N].

    How far the bars of a fence stand apart differs from plane to plane. Bars too thin to be seen
    are drawn as fewer thick ones."""
    apart = np.float32(0.1) + plane % 5 * np.float32(0.05)
    apart *= np.exp2(np.ceil(np.log2(np.maximum(3 * step / apart, 1))))
    bars = (np.abs(s / apart % 1 - 0.5) > 0.15) & (np.abs(t % 0.9 - 0.1) > 0.04)
    twigs = sample(noise(0.4, seed=7), s * 30, t * 30) > -0.5
    return np.select([material == BARS, material == TWIGS], [bars, twigs], True)


def facade(
    rgb: ndarray, s: ndarray, t: ndarray, steps: tuple, style: Facade, light: Light
) -> ndarray:
    """Paint windows, frames, floors and shops onto walls.

    rgb: float32 [3, N] in 0..1, changed in place; steps: metres a pixel along and up.
    Returns float32 [N]: the windows' own light, 0..1."""
    along, up = steps
    pitch, floor, shop, seed = style.pitch, style.floor, style.shop, style.seed
    wall = 1 + 0.05 * sample(noise(0.6), s * 30, t * 30)
    wall += 0.07 * sample(noise(1.2, seed=1), s * 11 + seed, t * 7)
    courses = np.abs((t / 0.25) % 1 - 0.5) < 0.125
    wall -= style.brick * 0.16 * courses * np.clip(0.12 / up, 0, 1)
    upper, is_shop = t > shop, shop > 2
    rgb *= np.maximum(wall, 0.3)
    column, row = s / pitch, np.where(upper, (t - shop) / np.maximum(floor, 1), 0.5)
    cell, storey = np.floor(column), np.floor(row)
    x = np.abs(column - cell - 0.5) * pitch  # from the middle of the window
    y = np.where(upper, np.abs(row - storey - 0.5) * floor, np.abs(t - shop * 0.42))
    wide = np.where(upper, style.wide, pitch * 0.86)
    tall = np.where(upper, style.tall, shop * 0.66)
    chance = sample(noise(0.0), cell * 37 + seed, storey * 91 + seed * 3)
    there = sample(noise(0.0, seed=8), cell * 53 + seed, seed) > np.where(style.blind > 0.5, 0, -1)
    there |= ~upper

    def inside(wide: ndarray, tall: ndarray) -> ndarray:
        across = np.clip((wide / 2 - x) / along + 0.5, 0, 1)
        return across * np.clip((tall / 2 - y) / up + 0.5, 0, 1) * there

    far = np.clip(2 - 2.5 * along / pitch, 0, 1)  # 0: too far to tell windows apart
    rgb += inside(wide + 0.24, tall + 0.28) * far * 0.7 * (style.frame - rgb)
    bars = np.abs((column - cell) * style.panes % 1 - 0.5) * wide / style.panes < 0.03
    glass = inside(wide, tall) * (0.25 + 0.75 * far) * (1 - 0.8 * bars * far)
    mirrored = np.clip(0.12 + 0.16 * chance, 0, 0.7) * 0.5
    mirrored *= 0.6 + 0.3 * sample(noise(1.4, seed=5), s * 40, t * 40)
    shown = np.clip(sample(noise(0.5, seed=9), s * 18 + seed, t * 18), 0, 2)  # in shop windows
    shown *= ~upper & is_shop & (t < shop * 0.5)
    pane = ROOM + np.minimum(mirrored * light.horizon, 0.8) + shown * GOODS
    rgb += glass * (pane - rgb)
    i = np.flatnonzero(is_shop & ~upper & (t > shop * 0.80))  # the board with the shop's name
    board = cell[i] * 29 + seed[i], seed[i]
    paint = np.stack([sample(noise(0.0, seed=k), *board) for k in (10, 11, 12)])
    paint = np.clip(paint * 0.25 + 0.35, 0.03, 0.95)
    letters = (np.abs(t[i] / shop[i] - 0.885) < 0.045) & (x[i] / pitch[i] < 0.3)
    letters &= sample(noise(0.3), s[i] * 26, s[i]) > 0.2
    paint += letters * np.where(paint.mean(0) > 0.4, -0.35, 0.5)
    rgb[:, i] += 0.9 * far[i] * (np.clip(paint, 0, 1) - rgb[:, i])
    rgb *= 1 - 0.25 * (np.abs(t - shop) < 0.12 + up / 2) * far  # the ledge above the shop
    return glass * far * (chance > np.where(upper, 0.55, 0.15)) * light.night


@cache
def noise(power: float, side: int = 512, seed: int = 0) -> ndarray:
    """A tile of noise that repeats seamlessly: float32 [side, side], mean 0, deviation 1.

    power: how fast the spectrum falls; 0 is grain, 1 is clouds of every size, 2 is smooth."""
    rng = np.random.default_rng(seed)
    fx, fy = np.fft.rfftfreq(side)[None], np.fft.fftfreq(side)[:, None]
    fall = np.hypot(fx, fy)
    fall[0, 0] = np.inf
    wave = np.fft.rfft2(rng.standard_normal((side, side))) / fall**power
    tile = np.fft.irfft2(wave, (side, side))
    return ((tile - tile.mean()) / tile.std()).astype(np.float32)


def sample(tile: ndarray, s: ndarray, t: ndarray) -> ndarray:
    """The values of a tile, which repeats endlessly, at (s, t) in texels; any shape."""
    mask = tile.shape[0] - 1
    return tile.ravel()[((t.astype(np.int32) & mask) * tile.shape[0]) + (s.astype(np.int32) & mask)]

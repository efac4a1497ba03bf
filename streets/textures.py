"""Textures of materials, and the noise that they are made of.

s, t: where each of N pixels lies on its surface, in metres along and up (or, on the ground, to the
right and ahead); step: metres that a pixel covers. All are float32 [N]."""

from functools import cache
from typing import NamedTuple

import numpy as np

from streets.canvas import ASPHALT, BARS, BRICK, LEAVES, SLABS


class Facade(NamedTuple):
    """The style of a front: metres, where nothing else is said. An array [N] each in `facade`."""

    pitch: float  # from window to window
    floor: float  # from floor to floor
    wide: float  # of a window
    tall: float
    shop: float  # where the upper floors start
    seed: float  # of chance from window to window
    frame: float  # how bright the frames are, 0..1
    brick: float  # how much the courses of bricks show, 0..1


def texture(kind: int, s: np.ndarray, t: np.ndarray, step: np.ndarray) -> np.ndarray:
    """How bright each pixel of a material is: float32 [N], about 1."""
    fine = np.clip(0.05 / step, 0, 1)  # detail fades where a pixel covers more than the grain
    grain = sample(noise(0.5), s * 60, t * 60)
    blot = sample(noise(1.5, seed=1), s * 14, t * 14)
    if kind == ASPHALT:
        return 1 + 0.045 * fine * grain + 0.04 * blot
    if kind == SLABS:
        s, t = s / 0.8, t / 0.8
        joint = np.minimum(np.abs(s % 1 - 0.5), np.abs(t % 1 - 0.5)) < 0.04
        slab = sample(noise(0.0), np.floor(s + 0.5), np.floor(t + 0.5))
        return 1 + 0.03 * fine * grain + (0.08 * slab - 0.26 * joint) * np.clip(0.07 / step, 0, 1)
    if kind == BRICK:
        row = np.floor(t / 0.3)
        joint = (t / 0.3 - row < 0.14) | (((s / 0.7 + row * 0.5) % 1) < 0.06)
        brick = sample(noise(0.0), np.floor(s / 0.7 + row * 0.5), row)
        return 1 + 0.05 * blot + (0.08 * brick - 0.22 * joint) * np.clip(0.08 / step, 0.15, 1)
    if kind == BARS:
        gap = np.abs((s / 0.34) % 1 - 0.5) < 0.17
        rail = np.abs(t % 0.9 - 0.2) < 0.07
        return 1.05 - 0.5 * (gap & ~rail) * np.clip(0.12 / step, 0.25, 1) + 0.03 * grain
    if kind == LEAVES:
        return 1 + 0.13 * sample(noise(0.7, seed=2), s * 22, t * 22)
    return 1 + 0.14 * fine * grain + 0.09 * blot  # GRASS


def facade(
    rgb: np.ndarray,
    s: np.ndarray,
    t: np.ndarray,
    steps: tuple[np.ndarray, np.ndarray],
    style: Facade,
    sky: np.ndarray,
    night: float,
) -> np.ndarray:
    """Paint windows, frames, floors and shops onto walls.

    rgb: float32 [N, 3] in 0..1, changed in place; steps: metres a pixel along and up; sky: the
    colour that windows reflect; night: how many of them are lit, 0..1.
    Returns float32 [N]: the windows' own light, 0..1."""
    along, up = steps
    edge = sample(noise(1.0), s * 30, t * 30) * 0.03 + 1
    courses = np.abs((t / 0.25) % 1 - 0.5) * 2
    edge -= style.brick * 0.16 * (courses < 0.25) * np.clip(0.12 / up, 0, 1)
    rgb *= edge[:, None]
    pitch, floor, shop = style.pitch, style.floor, style.shop
    upper = t > shop
    column, row = s / pitch, np.where(upper, (t - shop) / np.maximum(floor, 1), 0.5)
    cell, storey = np.floor(column), np.floor(row)
    x = np.abs(column - cell - 0.5) * pitch  # from the middle of the window
    y = np.where(upper, np.abs(row - storey - 0.5) * floor, np.abs(t - shop * 0.45))
    wide = np.where(upper, style.wide, pitch * 0.86)
    tall = np.where(upper, style.tall, shop * 0.78)
    chance = sample(noise(0.0), cell * 37 + style.seed, storey * 91 + style.seed * 3)

    def inside(wide: np.ndarray, tall: np.ndarray) -> np.ndarray:
        across = np.clip((wide / 2 - x) / along + 0.5, 0, 1)
        return (across * np.clip((tall / 2 - y) / up + 0.5, 0, 1))[:, None]

    far = np.clip(2 - 2.5 * along / pitch, 0, 1)[:, None]  # too far to tell windows apart
    rgb += inside(wide + 0.28, tall + 0.28) * far * (style.frame[:, None] - 0.5) * 0.5
    glass = inside(wide, tall) * (0.25 + 0.75 * far)
    mirrored = np.clip(0.10 + 0.12 * chance, 0, 0.6)[:, None] * ((sky + sky.mean()) * 0.55)
    rgb += glass * (np.array([0.13, 0.16, 0.20]) + mirrored - rgb)
    rgb *= 1 - 0.25 * (np.abs(t - shop) < 0.15 + up / 2)[:, None] * far  # the ledge above the shop
    return (glass * far)[:, 0] * (chance > 0.55 - 0.4 * (~upper)) * night


@cache
def noise(power: float, side: int = 512, seed: int = 0) -> np.ndarray:
    """A tile of noise that repeats seamlessly: float32 [side, side], mean 0, deviation 1.

    power: how fast the spectrum falls; 0 is grain, 1 is clouds of every size, 2 is smooth."""
    rng = np.random.default_rng(seed)
    fx, fy = np.fft.rfftfreq(side)[None], np.fft.fftfreq(side)[:, None]
    fall = np.hypot(fx, fy)
    fall[0, 0] = np.inf
    wave = np.fft.rfft2(rng.standard_normal((side, side))) / fall**power
    tile = np.fft.irfft2(wave, (side, side))
    return ((tile - tile.mean()) / tile.std()).astype(np.float32)


def sample(tile: np.ndarray, s: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The values of a tile, which repeats endlessly, at (s, t) in texels; any shape."""
    mask = tile.shape[0] - 1
    return tile.ravel()[((t.astype(np.int32) & mask) * tile.shape[0]) + (s.astype(np.int32) & mask)]

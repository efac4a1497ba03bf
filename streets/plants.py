"""Trees, bushes and hedges; tall, wide: metres."""

import math
from functools import cache

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter

from streets.canvas import LEAVES, TWIGS, Canvas
from streets.colours import Colour, palette, shade, tinted
from streets.plan import Flora
from streets.solids import Solid
from streets.textures import noise

VEGETATION = 21
SIDE = 128  # of a pattern
GAP = 5  # the level of a pattern where one sees through
LEAFY, CONIFER, BARE = range(3)
FORMS = 8  # of each kind
OCTAGON = [(math.cos(i * 0.785), math.sin(i * 0.785)) for i in range(8)]
BARK = palette("56483a 3a322c 686056 46423c")


def tree(it: Solid, rng: Generator, tall: float, wide: float, flora: Flora) -> None:
    """Draw a tree: leafy, bare or a conifer."""
    canvas = it.canvas
    if not canvas.sees(it.x, it.z, wide):
        return
    it.begin(VEGETATION, 0.5)
    dice = rng.random()
    kind = BARE if dice < flora.bare else CONIFER if dice > 1 - flora.conifers else LEAFY
    if it.z < 60:
        it.cast(0.2, 0.2, tall * 0.5)
    if canvas.sun and kind != BARE:  # the shadow of its crown, bough by bough or as one
        (dx, dz), near = canvas.sun, it.z < 35
        x, z = it.x + dx * tall * 0.6, it.z + dz * tall * 0.6
        for _ in range(7 if near else 1):
            size = wide * (0.12 + 0.14 * rng.random() if near else 0.4)
            a, b = (middle + (rng.random() - 0.5) * wide * 0.6 for middle in (x, z))
            spots = [(a + size * u, b + size * v) for u, v in OCTAGON]
            canvas.darken(canvas.shadow, spots, 210)
    foot = min(2.8, tall * 0.33) * rng.random() ** (1.5 if kind == CONIFER else 0.4)
    bark = tinted(rng, BARK)
    lean = (rng.random() - 0.5) * 0.5
    it.bar([(0, 0, 0), (0, tall * 0.6, lean)], 0.06 + 0.014 * tall, bark, material=LEAVES)
    colour = bark if kind == BARE else tinted(rng, flora.greens, 30)
    paints = _leaves(canvas, colour, rng.uniform(0.25, 0.85))
    wide *= 0.55 if kind == CONIFER else 1.0
    crown = _crown(kind, int(rng.random() * FORMS))
    canvas.stamp(crown, paints, it.at(0, (foot + tall) / 2, lean), wide, tall - foot)


def bush(it: Solid, rng: Generator, tall: float, wide: float, flora: Flora) -> None:
    """Draw a bush, a piece of hedge or a far tree whose trunk is hidden."""
    if not it.canvas.sees(it.x, it.z, wide):
        return
    it.begin(VEGETATION, 0.5)
    kind = BARE if rng.random() < flora.bare * 0.5 else LEAFY
    colour = tinted(rng, flora.greens if kind == LEAFY else BARK, 26)
    paints = _leaves(it.canvas, colour, rng.uniform(0.2, 0.8))
    crown = _crown(kind, int(rng.random() * FORMS))
    it.canvas.stamp(crown, paints, it.at(0, tall * 0.45, 0), wide, tall * 1.25)


def _leaves(canvas: Canvas, colour: Colour, lit: float) -> list[int]:
    """The paints of a crown: four from dark to bright, and that of its gaps."""
    canvas.lit = lit
    paints = [canvas.number(shade(colour, factor), LEAVES) for factor in (0.5, 0.78, 1.0, 1.25)]
    return [*paints, canvas.number(shade(colour, 0.6), TWIGS)]


@cache
def _crown(kind: int, form: int) -> Image.Image:
    """A crown in levels, SIDE x SIDE: 0 outside, 1 (dark) to 4 (bright), GAP."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    rough, fine = noise(1.2, SIDE, seed=10 + form), noise(0.5, SIDE, seed=30 + form)
    rng = np.random.default_rng(form)
    if kind == BARE:
        return _bare_crown(rng, fine)
    if kind == CONIFER:
        tiers = np.abs((y * (4 + form)) % 1 - 0.5) * 0.25
        outline = 0.9 - np.abs(x) / np.maximum((y + 1) * 0.5 - tiers, 0.02)
    else:  # a heap of boughs
        outline = np.full_like(x, -9)
        for _ in range(5 + form):
            angle, away = rng.random() * 6.3, 0.6 * rng.random() ** 0.5
            size = min(0.3 + 0.3 * rng.random(), 0.95 - away * 0.7)
            middle = away * math.cos(angle), away * math.sin(angle) * 0.9
            bough = 1 - np.hypot(x - middle[0], y - middle[1]) / size
            outline = np.maximum(outline, bough)
    inside = outline + 0.22 * rough + 0.12 * fine > 0.05
    tone = 1.6 - 1.0 * y - 0.5 * x + 0.9 * rough + 0.7 * fine + 1.2 * np.clip(outline, 0, 0.5)
    levels = np.clip(tone + 0.8, 1, 4)
    sparse = (outline < 0.35) & (fine + 0.5 * rough > 0.55 + 0.1 * form)
    return Image.fromarray((inside * np.where(sparse, GAP, levels)).astype(np.uint8))


def _bare_crown(rng: Generator, fine: np.ndarray) -> Image.Image:
    """A crown of branches: levels 1 to 3, with gaps between them."""
    image = Image.new("L", (SIDE, SIDE))
    pen = ImageDraw.Draw(image)
    twigs = [(SIDE / 2, SIDE - 1.0, -math.pi / 2, SIDE * 0.22, 5.0)]
    while twigs:
        x, y, angle, length, thick = twigs.pop()
        end = (x + length * math.cos(angle), y + length * math.sin(angle))
        level = 1 + int(rng.random() * 3)
        pen.line([(x, y), end], fill=level, width=max(1, round(thick)))
        if length > 5:
            for _ in range(2 + int(rng.random() * 2)):
                turn = angle + (rng.random() - 0.5) * 1.7 - 0.1 * math.cos(angle)
                twigs.append((*end, turn, length * (0.6 + 0.25 * rng.random()), thick * 0.62))
    branches = np.asarray(image)
    around = Image.fromarray(np.uint8(branches > 0) * np.uint8(255))
    around = np.asarray(around.filter(ImageFilter.GaussianBlur(SIDE / 30)), np.float32)
    envelope = around + 10 * fine > 40
    levels = np.where(branches > 0, branches, GAP * envelope).astype(np.uint8)
    return Image.fromarray(levels)

"""Street furniture: lamps, posts, signs, boxes, traffic lights, at (x, z) on the ground.

side: on which side of the road, -1 is left, 1 is right."""

import math

from numpy.random import Generator

from streets.canvas import Canvas, Point
from streets.colours import INK, METALS, PAINTS, PALE, Colour, pick, shade, tint
from streets.solids import Solid

STATIC, POLE, LIGHT, SIGN = 4, 17, 19, 20
SIGN_RED, SIGN_WHITE, SIGN_BLUE = (190, 30, 36), (228, 228, 224), (30, 76, 165)
SIGN_YELLOW, SIGN_GREEN, SIGN_GREY = (236, 190, 50), (30, 100, 72), (120, 120, 120)
# Of each: plate, rim, what is on it.
DISCS = (
    (SIGN_WHITE, SIGN_RED, INK),
    (SIGN_BLUE, SIGN_WHITE, SIGN_WHITE),
    (SIGN_RED, SIGN_WHITE, SIGN_WHITE),
)
WARNINGS = ((SIGN_WHITE, SIGN_RED, INK), (SIGN_YELLOW, INK, INK))
PRIORITIES = ((SIGN_YELLOW, PALE, SIGN_YELLOW),)
BOARDS = (
    (SIGN_BLUE, PALE, PALE),
    (SIGN_YELLOW, INK, INK),
    (PALE, INK, INK),
    (SIGN_GREEN, PALE, PALE),
    (PALE, SIGN_RED, SIGN_RED),
    ((44, 48, 54), PALE, PALE),
)
DISC = tuple((math.cos(i * math.pi / 8), math.sin(i * math.pi / 8)) for i in range(16))
TRIANGLE = ((-1, -0.6), (1, -0.6), (0, 1))
DIAMOND = ((-1, 0), (0, -1), (1, 0), (0, 1))
SQUARE = ((-1, -1), (1, -1), (1, 1), (-1, 1))
PLATES = (  # outline, colours, half width and height in metres: least and most
    (DISC, DISCS, (0.28, 0.45), (1.0, 1.0)),
    (DISC, DISCS, (0.28, 0.45), (1.0, 1.0)),
    (TRIANGLE, WARNINGS, (0.35, 0.55), (0.9, 1.0)),
    (DIAMOND, PRIORITIES, (0.35, 0.5), (1.0, 1.0)),
    (SQUARE, BOARDS, (0.25, 0.45), (0.8, 1.4)),
    (SQUARE, BOARDS, (0.5, 1.3), (0.25, 0.8)),
)
LAMPS = ((240, 40, 30), (250, 180, 30), (60, 230, 120))  # of a traffic light, downwards


def lamp(canvas: Canvas, rng: Generator, x: float, z: float, side: int) -> None:
    """Draw a street lamp that leans over the road."""
    canvas.begin(POLE, x, z, 0.1 + 0.8 * rng.random())
    tall, thick = rng.uniform(3.5, 11), rng.uniform(0.045, 0.1)
    canvas.cast(Solid(canvas, x, z).footprint(0.07, 0.07), tall)
    metal = canvas.number(tint(rng, pick(rng, METALS)))
    canvas.tube([(x, 0, z), (x, 1.0, z)], thick * rng.uniform(1.0, 1.8), metal)
    canvas.tube([(x, 0, z), (x, tall, z)], thick, metal)
    reach, rise = rng.uniform(0.3, 2.5), rng.uniform(-0.1, 0.8)
    bulb, glow = ((250, 225, 170), 1.0) if canvas.lamps_lit else ((150, 150, 150), 0.0)
    for way in (-side, side) if rng.random() < 0.15 else (-side,):
        end = x + way * reach
        arm = [(x, tall - 0.1, z), ((x + end) / 2, tall + rise, z), (end, tall + rise, z)]
        canvas.tube(arm, thick * 0.6, metal)
        head = [(end, tall + rise, z), (end + way * 0.6, tall + rise - 0.05, z)]
        canvas.tube(head, 0.08, bulb, glow=glow)


def post(
    canvas: Canvas, rng: Generator, x: float, z: float, tall: float, radius: float = 0.05
) -> None:
    """Draw a plain post or bollard."""
    canvas.begin(POLE, x, z, 0.1 + 0.8 * rng.random())
    canvas.cast(Solid(canvas, x, z).footprint(0.05, 0.05), tall)
    paint = tint(rng, pick(rng, METALS))
    canvas.tube([(x, 0, z), (x, tall, z)], radius, paint)
    if tall < 1.5 and rng.random() < 0.4:  # a bollard with a band
        up = tall * rng.uniform(0.7, 0.9)
        canvas.tube([(x, up, z), (x, up + 0.12, z)], radius * 1.1, pick(rng, (PALE, SIGN_RED, INK)))


def box(canvas: Canvas, rng: Generator, x: float, z: float) -> None:
    """Draw a bin, a switch box or a letter box, which the benchmark ignores."""
    canvas.begin(STATIC, x, z, 0.1 + 0.8 * rng.random())
    wide, tall = rng.uniform(0.2, 0.6), rng.uniform(0.7, 1.5)
    colour = tint(rng, pick(rng, PAINTS + METALS))
    canvas.cast(Solid(canvas, x, z).footprint(wide, wide), tall)
    canvas.upright([(x - wide, z), (x + wide, z)], (0, tall), colour)
    canvas.upright([(x - wide, z), (x + wide, z)], (tall * 0.9, tall), shade(colour, 1.2))


def sign(canvas: Canvas, rng: Generator, x: float, z: float) -> None:
    """Draw traffic signs on a post: one or two plates, at times seen from their back."""
    high = rng.uniform(1.6, 3.0)
    post(canvas, rng, x, z, high + 0.3, rng.uniform(0.03, 0.06))
    canvas.label, back = SIGN, rng.random() < 0.15
    for _ in range(1 if rng.random() < 0.7 else 2):
        outline, colours, widths, ratios = pick(rng, PLATES)
        wide = rng.uniform(*widths)
        tall = wide * rng.uniform(*ratios)
        colour, rim, ink = (SIGN_GREY, METALS[0], SIGN_GREY) if back else pick(rng, colours)
        for size, paint in ((1.0, rim), (rng.uniform(0.7, 0.95), colour)):
            plate = [(x + a * wide * size, high + b * tall * size, z) for a, b in outline]
            canvas.poly(plate, tint(rng, paint, 30))
        if not back:
            _symbol(canvas, rng, (x, high, z), (wide * 0.6, tall * 0.55), ink)
        high -= tall + 0.45


def _symbol(
    canvas: Canvas, rng: Generator, at: Point, half: tuple[float, float], ink: Colour
) -> None:
    """Draw what a sign shows: a bar, an arrow, digits or lines of text."""
    x, y, z = at
    for _ in range(1 + int(rng.random() * 4)):
        a, b = (x + half[0] * rng.uniform(-0.9, 0.9) for _ in range(2))
        c, d = (y + half[1] * rng.uniform(-0.9, 0.9) for _ in range(2))
        path = [(a, c, z), (b, c, z)] if rng.random() < 0.5 else [(a, c, z), (a, d, z)]
        canvas.tube(path, rng.uniform(0.02, 0.06), ink)


def signal(canvas: Canvas, rng: Generator, x: float, z: float, side: int, lit: bool = True) -> None:
    """Draw a traffic light on its pole, at times with a second one over the road.

    lit: whether its front, with the lamp that is on, points to the camera."""
    tall, over = rng.uniform(2.4, 3.6), rng.random() < 0.35
    pole = 5.6 if over else tall + rng.uniform(-0.3, 0.8)
    post(canvas, rng, x, z, pole, rng.uniform(0.04, 0.08))
    heads = [(x, tall)]
    if over:
        canvas.tube([(x, 5.5, z), (x - side * 3.6, 5.6, z)], 0.06, (80, 82, 84))
        heads.append((x - side * 3.4, 5.3))
    canvas.label, phase = LIGHT, int(rng.random() * 3)
    wide, backing = rng.uniform(0.14, 0.24), rng.random() < 0.3
    for middle, up in heads:
        if backing:
            canvas.tube([(middle, up - 0.7, z), (middle, up + 0.7, z)], wide * 1.5, (20, 20, 22))
        canvas.tube([(middle, up - 0.55, z), (middle, up + 0.55, z)], wide, (26, 28, 28))
        for i, colour in enumerate(LAMPS):
            on = lit and i == phase
            at, radius = (middle, up + 0.36 - 0.36 * i, z), wide * 0.6
            canvas.ball(at, radius, radius, colour if on else shade(colour, 0.15), glow=1.0 * on)

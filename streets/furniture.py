"""Street furniture: lamps, posts, signs, traffic lights, at (x, z) on the ground.

side: on which side of the road, -1 is left, 1 is right."""

from numpy.random import Generator

from streets.canvas import Canvas, square
from streets.colours import INK, METALS, PALE, Colour, pick, shade, tint

POLE, LIGHT, SIGN = 17, 19, 20
BOARDS = (((30, 84, 170), PALE), ((236, 190, 50), INK), (PALE, INK), ((30, 110, 80), PALE))
SQUARE = ((-1, -1), (1, -1), (1, 1), (-1, 1))
TRIANGLE = ((-1, -0.6), (1, -0.6), (0, 1))
DIAMOND = ((-1, 0), (0, -1), (1, 0), (0, 1))
SIGN_RED, SIGN_WHITE, SIGN_BLUE = (196, 30, 34), (232, 232, 228), (30, 80, 170)
LAMPS = ((240, 40, 30), (250, 180, 30), (60, 230, 120))  # of a traffic light, downwards


def lamp(canvas: Canvas, rng: Generator, x: float, z: float, side: int) -> None:
    """Draw a street lamp that leans over the road."""
    canvas.begin(POLE, x, z, 0.3 + 0.5 * rng.random())
    tall, colour = 5 + 3 * rng.random(), tint(rng, pick(rng, METALS))
    canvas.cast(square(x, z, 0.07), tall)
    metal = canvas.number(colour)
    canvas.tube([(x, 0, z), (x, 1.0, z)], 0.12, metal)
    canvas.tube([(x, 0, z), (x, tall, z)], 0.075, metal)
    if rng.random() < 0.7:
        canvas.tube([(x, tall - 0.1, z), (x - side * 1.5, tall + 0.25, z)], 0.05, metal)
        bulb = [(x - side * 1.3, tall + 0.22, z), (x - side * 2.0, tall + 0.2, z)]
        canvas.tube(bulb, 0.1, (250, 225, 170), glow=1.0)


def post(
    canvas: Canvas, rng: Generator, x: float, z: float, tall: float, radius: float = 0.05
) -> None:
    """Draw a plain post or bollard."""
    canvas.begin(POLE, x, z, 0.3 + 0.5 * rng.random())
    canvas.cast(square(x, z, 0.05), tall)
    canvas.tube([(x, 0, z), (x, tall, z)], radius, tint(rng, pick(rng, METALS)))


def sign(canvas: Canvas, rng: Generator, x: float, z: float) -> None:
    """Draw a traffic sign on its post: a prohibition, warning, order, priority or a board."""
    high = 2.2 + 0.5 * rng.random()
    post(canvas, rng, x, z, high + 0.3)
    canvas.label, size, kind = SIGN, 0.40 + 0.1 * rng.random(), rng.random()

    def plate(corners: tuple[tuple[float, float], ...], wide: float, colour: Colour) -> None:
        points = [(x + a * wide, high + b * wide, z) for a, b in corners]
        canvas.poly(points, colour)

    if kind < 0.3:  # a prohibition
        for factor, colour in ((1, SIGN_RED), (0.72, SIGN_WHITE)):
            canvas.ball((x, high, z), size * factor, size * factor, colour)
        canvas.tube([(x - 0.15, high, z), (x + 0.15, high, z)], 0.055, INK)
    elif kind < 0.5:  # a warning
        for factor, colour in ((1.15, SIGN_RED), (0.7, SIGN_WHITE)):
            plate(TRIANGLE, size * factor, colour)
    elif kind < 0.65:  # an order
        canvas.ball((x, high, z), size, size, SIGN_BLUE)
        arrow = [(x, high - size * 0.5, z), (x, high + size * 0.5, z)]
        canvas.tube(arrow, 0.06, (232, 232, 230))
    elif kind < 0.75:  # priority
        for factor, colour in ((1.15, PALE), (0.8, (236, 186, 30))):
            plate(DIAMOND, size * factor, colour)
    else:
        wide, tall = (0.35, 0.35) if kind < 0.88 else (0.8, 0.3)
        colour, ink = pick(rng, BOARDS)
        for factor, paint in ((1, ink), (0.88, colour)):
            corners = [(x + a * wide * factor, high + b * tall * factor, z) for a, b in SQUARE]
            canvas.poly(corners, paint)
        canvas.tube([(x - wide * 0.5, high, z), (x + wide * 0.5, high, z)], 0.05, ink)


def signal(canvas: Canvas, rng: Generator, x: float, z: float, side: int, lit: bool = True) -> None:
    """Draw a traffic light on its pole, at times with a second one over the road.

    lit: whether its front, with the lamp that is on, points to the camera."""
    tall = 3.1 + 0.4 * rng.random()
    over = rng.random() < 0.5
    post(canvas, rng, x, z, 5.6 if over else tall, 0.075)
    heads = [(x, tall)]
    if over:
        canvas.tube([(x, 5.5, z), (x - side * 3.6, 5.6, z)], 0.06, (80, 82, 84))
        heads.append((x - side * 3.4, 5.3))
    canvas.label, phase = LIGHT, int(rng.random() * 3)
    for middle, up in heads:
        canvas.tube([(middle, up - 0.58, z), (middle, up + 0.58, z)], 0.22, (26, 28, 28))
        for i, colour in enumerate(LAMPS):
            on = lit and i == phase
            at = (middle, up + 0.36 - 0.36 * i, z)
            canvas.ball(at, 0.14, 0.14, colour if on else shade(colour, 0.2), glow=1.0 * on)

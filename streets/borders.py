"""What stands along the edge of a piece of land, or of a sidewalk: walls, fences, hedges."""

from numpy.random import Generator

from streets.canvas import BARS, BRICK, PLAIN, Canvas, Spot
from streets.colours import FENCES, WALLS, pick, shade, tint
from streets.plants import Flora, bush

WALL, FENCE = 12, 13


def draw_border(canvas: Canvas, rng: Generator, ends: list[Spot], kind: str, flora: Flora) -> None:
    """Draw a "wall", a "fence", a "hedge" or "none" between two spots, the nearer one first."""
    if kind == "hedge":
        _hedge(canvas, rng, ends, flora)
    elif kind != "none":
        draw = _wall if kind == "wall" else fence
        draw(canvas, rng, ends)


def fence(canvas: Canvas, rng: Generator, ends: list[Spot], railing: bool = False) -> None:
    """Draw a fence of bars or boards, or a railing as it stands along a kerb."""
    canvas.label, canvas.on, lit = FENCE, canvas.plane(ends), rng.random()
    tall = rng.uniform(0.8, 1.2) if railing else rng.uniform(0.7, 2.4)
    colour = tint(rng, pick(rng, FENCES), 30)
    material = BARS if railing or rng.random() < 0.7 else PLAIN
    canvas.upright(ends, (0, tall), colour, material=material, lit=lit)
    canvas.upright(ends, (tall - rng.uniform(0.04, 0.12), tall), shade(colour, 0.9), lit=lit)
    if material == PLAIN:
        canvas.cast([(x, max(z, 3)) for x, z in ends], tall)


def _wall(canvas: Canvas, rng: Generator, ends: list[Spot]) -> None:
    canvas.label, canvas.on, lit = WALL, canvas.plane(ends), rng.random()
    tall, colour = rng.uniform(0.6, 2.8), tint(rng, pick(rng, WALLS), 30)
    canvas.upright(ends, (0, tall), colour, material=BRICK, lit=lit)
    canvas.upright(ends, (tall - 0.12, tall), shade(colour, 1.2), lit=lit)
    canvas.cast([(x, max(z, 3)) for x, z in ends], tall)


def _hedge(canvas: Canvas, rng: Generator, ends: list[Spot], flora: Flora) -> None:
    tall, (x, near), z = 0.7 + 2.5 * rng.random() ** 2, ends[0], ends[1][1]
    while z > max(near, 3):
        bush(canvas, rng, x + (0.7 if x > 0 else -0.7), z, tall, 2.8, flora)
        z -= 2.2 if z < 25 else 5

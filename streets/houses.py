"""Houses: fronts with windows and shops, gables, roofs, awnings."""

from typing import NamedTuple

from numpy.random import Generator

from streets.canvas import BRICK, FACADE, Canvas, Spot
from streets.colours import PAINTS, ROOFS, WALLS, Colour, pick, shade, tint
from streets.textures import Facade

BUILDING = 11


class House(NamedTuple):
    """Where a house stands, in metres."""

    front: float  # x of its front
    near: float  # z where it starts
    far: float  # z where it ends
    side: int  # of the street: -1 is left, 1 is right
    tall: float
    lit: float  # the sunlight that its front gets, 0..1


def terrace(canvas: Canvas, rng: Generator, house: House) -> None:
    """Paint a house: its front, the gable that is seen, at times a roof and shops."""
    front, near, far, side, tall, lit = house
    colour, style = wall_colour(rng), draw_style(rng)
    back, shown = front + side * rng.uniform(7, 13), max(near, 2)
    canvas.cast([(front, shown), (front, far), (back, far), (back, shown)], tall)
    if near > 3:
        gable = style._replace(pitch=style.pitch if rng.random() < 0.6 else 60)  # no windows
        block(canvas, rng, [(front, near), (back, near)], tall, shade(colour, 0.92), gable, 0.3)
    if rng.random() < 0.5:
        _roof(canvas, rng, house, colour)
    ends = [(front, near), (front, far)]
    block(canvas, rng, ends, tall, colour, style, lit)
    canvas.upright(ends, (tall - 0.45, tall), shade(colour, pick(rng, (0.75, 1.15))))
    if style.shop > 3 and rng.random() < 0.7:
        _shops(canvas, rng, house, style.shop)


def block(
    canvas: Canvas,
    rng: Generator,
    ends: list[Spot],
    tall: float,
    colour: Colour | None = None,
    style: Facade | None = None,
    lit: float | None = None,
) -> None:
    """Paint one wall of a house between two spots; what is not given is drawn at random."""
    canvas.label = BUILDING
    canvas.on = canvas.plane(ends, style or draw_style(rng))
    colour = colour or wall_colour(rng)
    lit = rng.random() if lit is None else lit
    canvas.upright(ends, (0, tall), colour, material=FACADE, lit=lit)


def wall_colour(rng: Generator) -> Colour:
    """The colour of plaster, stone or brick: mostly greyer than paints are."""
    colour, grey = shade(pick(rng, WALLS), rng.uniform(0.5, 1.35)), rng.uniform(0.0, 0.8)
    mean = sum(colour) / 3
    return tint(rng, tuple(c + (mean - c) * grey for c in colour), 16)


def draw_style(rng: Generator) -> Facade:
    """The style of a front at random."""
    pitch = rng.uniform(1.6, 4.2)
    return Facade(
        pitch,
        floor=rng.uniform(2.6, 3.8),
        wide=pitch * rng.uniform(0.25, 0.9) ** (0.5 if rng.random() < 0.15 else 1),
        tall=rng.uniform(0.9, 2.4),
        shop=rng.uniform(2.8, 4.4) if rng.random() < 0.5 else 0.8,
        seed=rng.random() * 500,
        frame=rng.uniform(0.1, 0.95),
        brick=rng.random() if rng.random() < 0.5 else 0.0,
        panes=1 + int(rng.random() * 3),
        blind=rng.random(),
    )


def _roof(canvas: Canvas, rng: Generator, house: House, colour: Colour) -> None:
    """Paint a roof that leans back, with its chimney and skylights; colour: of the walls."""
    front, near, far, side, tall, _ = house
    tiles = tint(rng, pick(rng, ROOFS))
    up, ridge, eaves = 2.0 + 1.5 * rng.random(), front + side * 3, front - side * 0.3
    canvas.begin(BUILDING, front, (max(near, 4) + far) / 2, 0.6)
    gable = [(front, tall, near), (ridge, tall + up, near), (2 * ridge - front, tall, near)]
    canvas.poly(gable, shade(colour, 0.8))
    roof = [(eaves, tall, near), (ridge, tall + up, near), (ridge, tall + up, far)]
    canvas.poly([*roof, (eaves, tall, far)], tiles, material=BRICK)
    x, z = ridge, near + (far - near) * rng.random()
    if z > 5 and rng.random() < 0.7:  # a chimney
        top = tall + up + 1.1
        canvas.upright([(x - 0.5, z), (x + 0.5, z)], (top - 1.8, top), shade(colour, 0.7))
    for i in range(int((far - near) / 5) if rng.random() < 0.5 else 0):
        start = near + 3 + i * 5
        if start > 4:
            ends = [(front + side, start), (front + side, start + 1.3)]
            canvas.upright(ends, (tall + up * 0.3, tall + up * 0.85), (66, 74, 86))


def _shops(canvas: Canvas, rng: Generator, house: House, up: float) -> None:
    """Paint awnings and shop signs, `up` metres above the ground."""
    front, start, far, side = house.front, house.near + 1, house.far, house.side
    while start < far - 4:
        colour, shown, end = tint(rng, pick(rng, PAINTS)), start > 4, start + 3.4
        if shown and rng.random() < 0.6:
            edge = front - side * 0.9
            awning = [(front, up, start), (edge, up - 0.55, start), (edge, up - 0.55, end)]
            canvas.poly([*awning, (front, up, end)], colour)
        elif shown:
            canvas.upright([(front, start), (front, end)], (up - 0.5, up), colour, glow=0.3)
        start += 4.2

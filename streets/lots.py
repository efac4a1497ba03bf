"""What lines a street: houses, gardens, parks and their borders, wires, and the skyline."""

import math
from typing import Any, NamedTuple

from numpy.random import Generator

from streets.canvas import ASPHALT, BARS, BRICK, FACADE, GRASS, PLAIN, Canvas, Spot
from streets.colours import FENCES, PAINTS, ROOFS, WALLS, Colour, pick, shade, tint, tinted
from streets.ground import ROAD, SIDEWALK, TERRAIN, turf
from streets.plan import FAR, Flora, Plan
from streets.plants import bush, tree
from streets.solids import Solid, Things
from streets.textures import Facade
from streets.vehicles import car

BUILDING, WALL, FENCE = 11, 12, 13


class Lot(NamedTuple):
    """A piece of land beside the street, or the place of a house, in metres."""

    front: float  # x of the side that faces the street
    near: float  # z where it starts
    far: float  # z where it ends
    side: int  # of the street: -1 is left, 1 is right
    flora: Flora

    @property
    def ends(self) -> list[Spot]:
        """Those of its front, the nearer one first."""
        return [(self.front, self.near), (self.front, self.far)]

    def x(self, inwards: float) -> float:
        """x of what is so many metres behind its front."""
        return self.front + self.side * inwards


def skyline(canvas: Canvas, rng: Generator, plan: Plan) -> None:
    """Paint what closes the view: far blocks and trees."""
    for z in (300, 220):
        canvas.begin(BUILDING, 0, z, 0.5)
        x = -190.0
        while x < 190:
            run = 12 + 30 * rng.random()
            if rng.random() < 0.15 or not canvas.sees(x + run / 2, z, run):
                pass  # open sky
            elif rng.random() < 0.2 + 0.6 * plan.town:
                block(canvas, rng, [(x, z), (x + run, z)], 4 + 12 * rng.random() ** 2)
            else:
                bush(Solid(canvas, x, z), rng, 4 + 10 * rng.random(), run * 1.6, plan.flora)
            x += run


def hang_wires(canvas: Canvas, rng: Generator, plan: Plan) -> None:
    """Hang wires over the street: across it, between poles along it, or none."""
    dice = rng.random()
    left, right = -plan.kerb[-1] - plan.walk[-1], plan.kerb[1] + plan.walk[1]
    up = rng.uniform(5, 9)
    if dice < 0.2 or plan.rails is not None:
        for i in range(6):
            z = 8 + i * rng.uniform(10, 25)
            canvas.wire((left, up, z), (right, up + rng.uniform(-1, 1), z), rng.uniform(0, 0.6))
    if dice > 0.8 or plan.rails is not None:
        x = plan.rails if plan.rails is not None else pick(rng, (left, right))
        for i in range(1 + int(rng.random() * 4)):
            for z in range(3, 120, 30):
                height = up + 0.3 * i
                canvas.wire((x, height, z), (x, height, z + 30), rng.uniform(0, 0.5))


def add_lots(rng: Generator, plan: Plan, side: int, things: Things) -> None:
    """Add the lots along one side, and the houses that the street may run into."""
    canvas, z, front = things.canvas, -2.0, side * (plan.kerb[side] + plan.walk[side])
    lit = 0.05 + 0.95 * rng.random()  # the sunlight that the walls along the street get
    built = 0.2 + 0.6 * plan.town
    while z < FAR:
        run = rng.uniform(5, 24)
        after, start = z + run, plan.crossing
        if start is not None and z <= start < z + run + 2:
            run, after = start - 2.5 - z, start + plan.wide + 2.5
            if run < 3:
                z = after
                continue
        lot, kind = Lot(front, z, z + run, side, plan.flora), rng.random()
        if kind < built:
            tall = max(3.5, 3.1 * (plan.storeys + rng.uniform(-1.2, 1.2)) + 1)
            deep, draw, args = 12, house, (tall, lit)
        elif kind < built + (1 - built) * 0.45:
            border = pick(rng, ("wall", "fence", "hedge", "hedge", "fence", "none"))
            deep, draw, args = 22, garden, (border, lit)
        elif kind < built + (1 - built) * 0.75:
            border = pick(rng, ("none", "fence", "hedge", "wall", "none"))
            deep, draw, args = 40, park, (border, rng.random())
        else:
            border = pick(rng, ("none", "fence", "hedge", "none"))
            deep, draw, args = 40, car_park, (border, plan.road)
        things.add((front, lot.x(deep)), (z, z + run), draw, canvas, rng, lot, *args)
        z = after
    if plan.end and side == 1:  # the street meets another one
        x, z = -45.0, FAR * 0.6
        while x < 45:
            run = 10 + 12 * rng.random()
            ends, tall = [(x, z), (x + run, z)], 6 + 10 * rng.random()
            things.add((x, x + run), (z, z + 9), block, canvas, rng, ends, tall)
            x += run


def garden(canvas: Canvas, rng: Generator, lot: Lot, border: str, lit: float) -> None:
    """Paint a house set back behind grass, trees and a border; lit: of the house."""
    canvas.strip((lot.front, lot.x(22)), (lot.near, lot.far), turf(rng, lot.flora), GRASS, TERRAIN)
    if rng.random() < 0.75:
        front, tall = lot.x(4 + 5 * rng.random()), 4 + 3 * int(1 + rng.random() * 3)
        place = lot._replace(front=front, near=lot.near + 1.5, far=lot.far - 1.5)
        house(canvas, rng, place, tall, lit)
    start, spots = max(lot.near, 6), []
    for _ in range(int(rng.random() * 4)):
        spots.append((start + (lot.far - start) * rng.random(), 1 + 3 * rng.random()))
    for z, inwards in sorted(spots, reverse=True):
        if lot.far > 8:
            tall, wide = 4 + 5 * rng.random(), 4 + 3 * rng.random()
            tree(Solid(canvas, lot.x(inwards), z), rng, tall, wide, lot.flora)
    draw_border(canvas, rng, lot.ends, border, lot.flora)


def park(canvas: Canvas, rng: Generator, lot: Lot, border: str, wood: float) -> None:
    """Paint grass behind a border, and trees: many, few or none; wood: how many, 0..1."""
    z = lot.far
    canvas.strip((lot.front, lot.x(60)), (lot.near, z), turf(rng, lot.flora), GRASS, TERRAIN)
    while z > max(lot.near, 7):
        rows = (19, 4) if z < 70 else (4,)
        for inwards in (row + 6 * rng.random() for row in rows):
            if rng.random() <= wood:
                tall, wide = 4 + 11 * rng.random(), 4 + 6 * rng.random()
                tree(Solid(canvas, lot.x(inwards), z), rng, tall, wide, lot.flora)
        if rng.random() < 0.5:
            x, tall = lot.x(1 + 3 * rng.random()), 1.2 + rng.random()
            bush(Solid(canvas, x, z - 1), rng, tall, 3, lot.flora)
        z -= 5 + 5 * rng.random()
    draw_border(canvas, rng, lot.ends, border, lot.flora)


def car_park(canvas: Canvas, rng: Generator, lot: Lot, border: str, road: Colour) -> None:
    """Paint an open place with rows of parked cars."""
    kind = ROAD if rng.random() < 0.6 else SIDEWALK
    surface = shade(road, rng.uniform(0.8, 1.3))
    canvas.strip((lot.front, lot.x(45)), (lot.near, lot.far), surface, ASPHALT, kind)
    far, head = lot.far - 2, math.pi / 2 * pick(rng, (-1, 1))
    while far > max(lot.near + 1, 6):
        for inwards in (28, 17, 6) if far < 45 else (6,):
            if rng.random() < 0.6:
                car(Solid(canvas, lot.x(inwards), far, head), rng)
        far -= rng.uniform(2.4, 3.5)
    draw_border(canvas, rng, lot.ends, border, lot.flora)


def draw_border(canvas: Canvas, rng: Generator, ends: list[Spot], kind: str, flora: Flora) -> None:
    """Draw a "wall", a "fence", a "hedge" or "none" between two spots, the nearer one first."""
    if kind == "fence":
        draw_fence(canvas, rng, ends)
    elif kind == "wall":
        canvas.label, canvas.on, lit = WALL, canvas.plane(ends), rng.random()
        tall, colour = rng.uniform(0.6, 2.8), tinted(rng, WALLS, 30)
        canvas.upright(ends, (0, tall), colour, material=BRICK, lit=lit)
        canvas.upright(ends, (tall - 0.12, tall), shade(colour, 1.2), lit=lit)
        canvas.cast([(x, max(z, 3)) for x, z in ends], tall)
    elif kind == "hedge":
        tall, (x, near), z = 0.7 + 2.5 * rng.random() ** 2, ends[0], ends[1][1]
        while z > max(near, 3):
            bush(Solid(canvas, x + (0.7 if x > 0 else -0.7), z), rng, tall, 2.8, flora)
            z -= 2.2 if z < 25 else 5


def draw_fence(canvas: Canvas, rng: Generator, ends: list[Spot], railing: bool = False) -> None:
    """Draw a fence of bars or boards, or a railing as it stands along a kerb."""
    canvas.label, canvas.on, lit = FENCE, canvas.plane(ends), rng.random()
    tall = rng.uniform(0.8, 1.2) if railing else rng.uniform(0.7, 2.4)
    colour = tinted(rng, FENCES, 30)
    material = BARS if railing or rng.random() < 0.7 else PLAIN
    canvas.upright(ends, (0, tall), colour, material=material, lit=lit)
    canvas.upright(ends, (tall - rng.uniform(0.04, 0.12), tall), shade(colour, 0.9), lit=lit)
    if material == PLAIN:
        canvas.cast([(x, max(z, 3)) for x, z in ends], tall)


def house(canvas: Canvas, rng: Generator, lot: Lot, tall: float, lit: float) -> None:
    """Paint a house: its front, the gable that is seen, at times a roof and shops.

    lit: the sunlight that its front gets, 0..1."""
    front, near, far, side, _ = lot
    colour, style = draw_wall_colour(rng), draw_style(rng)
    back, shown = lot.x(rng.uniform(7, 13)), max(near, 2)
    canvas.cast([(front, shown), (front, far), (back, far), (back, shown)], tall)
    if near > 3:
        gable = style._replace(pitch=style.pitch if rng.random() < 0.6 else 60)  # no windows
        block(canvas, rng, [(front, near), (back, near)], tall, gable, shade(colour, 0.92), 0.3)
    if rng.random() < 0.5:
        _draw_roof(canvas, rng, lot, tall, colour)
    block(canvas, rng, lot.ends, tall, style, colour, lit)
    canvas.upright(lot.ends, (tall - 0.45, tall), shade(colour, pick(rng, (0.75, 1.15))))
    up, start = style.shop, near + 1
    if up <= 3 or rng.random() >= 0.7:
        return
    while start < far - 4:  # awnings and signs of shops
        colour, end = tinted(rng, PAINTS), start + 3.4
        if start > 4 and rng.random() < 0.6:
            edge = front - side * 0.9
            awning = [(front, up, start), (edge, up - 0.55, start), (edge, up - 0.55, end)]
            canvas.poly([*awning, (front, up, end)], colour)
        elif start > 4:
            canvas.upright([(front, start), (front, end)], (up - 0.5, up), colour, glow=0.3)
        start += 4.2


def block(canvas: Canvas, rng: Generator, ends: list[Spot], tall: float, *look: Any) -> None:
    """Paint one wall of a house between two spots.

    look: its style, its colour and the sunlight it gets; at random where they are not given."""
    style, colour, lit = look or (draw_style(rng), draw_wall_colour(rng), rng.random())
    canvas.label, canvas.on = BUILDING, canvas.plane(ends, style)
    canvas.upright(ends, (0, tall), colour, material=FACADE, lit=lit)


def draw_wall_colour(rng: Generator) -> Colour:
    """The colour of plaster, stone or brick: mostly greyer than paints are."""
    colour, grey = shade(pick(rng, WALLS), rng.uniform(0.5, 1.35)), rng.uniform(0.0, 0.8)
    mean = sum(colour) / 3
    return tint(rng, tuple(c + (mean - c) * grey for c in colour), 16)


def draw_style(rng: Generator) -> Facade:
    """The style of a front at random, in metres where nothing else is said."""
    pitch = rng.uniform(1.6, 4.2)
    return Facade(
        pitch,  # from window to window
        floor=rng.uniform(2.6, 3.8),  # from floor to floor
        wide=pitch * rng.uniform(0.25, 0.9) ** (0.5 if rng.random() < 0.15 else 1),  # of a window
        tall=rng.uniform(0.9, 2.4),
        shop=rng.uniform(2.8, 4.4) if rng.random() < 0.5 else 0.8,  # where the upper floors start
        seed=rng.random() * 500,  # of chance from window to window
        frame=rng.uniform(0.1, 0.95),  # how bright the frames are, 0..1
        brick=rng.random() if rng.random() < 0.5 else 0.0,  # how much the courses show, 0..1
        panes=1 + int(rng.random() * 3),  # how many panes a window has across
        blind=rng.random(),  # the share of windows that are not there
    )


def _draw_roof(canvas: Canvas, rng: Generator, lot: Lot, tall: float, colour: Colour) -> None:
    """Paint a roof that leans back, with its chimney and skylights; colour: of the walls."""
    front, near, far = lot[:3]
    tiles = tinted(rng, ROOFS)
    up, ridge, eaves = 2.0 + 1.5 * rng.random(), lot.x(3), lot.x(-0.3)
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
            ends = [(lot.x(1), start), (lot.x(1), start + 1.3)]
            canvas.upright(ends, (tall + up * 0.3, tall + up * 0.85), (66, 74, 86))

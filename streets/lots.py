"""What lines a street: houses, gardens, parks and their borders, and the skyline at its end."""

import math
from dataclasses import dataclass

from numpy.random import Generator

from streets.borders import draw_border
from streets.canvas import ASPHALT, GRASS, Canvas
from streets.cars import car
from streets.colours import Colour, pick, shade
from streets.ground import ROAD, SIDEWALK, TERRAIN, turf
from streets.houses import BUILDING, House, block, terrace
from streets.plan import FAR, Plan
from streets.plants import Flora, bush, tree
from streets.things import Things


@dataclass(frozen=True)
class Lot:
    """A piece of land beside the street."""

    front: float  # x of the side that faces the street
    near: float  # z where it starts
    far: float  # z where it ends
    side: int  # of the street: -1 is left, 1 is right
    flora: Flora


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
                bush(canvas, rng, x, z, 4 + 10 * rng.random(), run * 1.6, plan.flora)
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
    z, front = -2.0, side * (plan.kerb[side] + plan.walk[side])
    lit = 0.05 + 0.95 * rng.random()  # of the walls along the street
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
            deep, draw, args = 12, terrace, (House(front, z, z + run, side, tall, lit),)
        elif kind < built + (1 - built) * 0.45:
            border = pick(rng, ("wall", "fence", "hedge", "hedge", "fence", "none"))
            deep, draw, args = 22, garden, (lot, border, lit)
        elif kind < built + (1 - built) * 0.75:
            border = pick(rng, ("none", "fence", "hedge", "wall", "none"))
            deep, draw, args = 40, park, (lot, border, rng.random())
        else:
            border = pick(rng, ("none", "fence", "hedge", "none"))
            deep, draw, args = 40, car_park, (lot, border, plan.road)
        things.add((front, front + side * deep), (z, z + run), draw, *args)
        z = after
    if plan.end and side == 1:  # the street meets another one
        x, z = -45.0, FAR * 0.6
        while x < 45:
            run = 10 + 12 * rng.random()
            ends, tall = [(x, z), (x + run, z)], 6 + 10 * rng.random()
            things.add((x, x + run), (z, z + 9), block, ends, tall)
            x += run


def garden(canvas: Canvas, rng: Generator, lot: Lot, border: str, lit: float) -> None:
    """Paint a house set back behind grass, trees and a border; lit: see `houses.House`."""
    z = (lot.near, lot.far)
    canvas.strip((lot.front, lot.front + lot.side * 22), z, turf(rng, lot.flora), GRASS, TERRAIN)
    if rng.random() < 0.75:
        front = lot.front + lot.side * (4 + 5 * rng.random())
        tall = 4 + 3 * int(1 + rng.random() * 3)
        house = House(front, lot.near + 1.5, lot.far - 1.5, lot.side, tall, lit)
        terrace(canvas, rng, house)
    start, spots = max(lot.near, 6), []
    for _ in range(int(rng.random() * 4)):
        spots.append((start + (lot.far - start) * rng.random(), 1 + 3 * rng.random()))
    for z, inwards in sorted(spots, reverse=True):
        if lot.far > 8:
            tall, wide = 4 + 5 * rng.random(), 4 + 3 * rng.random()
            tree(canvas, rng, lot.front + lot.side * inwards, z, tall, wide, lot.flora)
    draw_border(canvas, rng, [(lot.front, lot.near), (lot.front, lot.far)], border, lot.flora)


def park(canvas: Canvas, rng: Generator, lot: Lot, border: str, wood: float) -> None:
    """Paint grass behind a border, and trees: many, few or none; wood: how many, 0..1."""
    front, side, z = lot.front, lot.side, lot.far
    canvas.strip((front, front + side * 60), (lot.near, z), turf(rng, lot.flora), GRASS, TERRAIN)
    while z > max(lot.near, 7):
        rows = (19, 4) if z < 70 else (4,)
        for inwards in (row + 6 * rng.random() for row in rows):
            if rng.random() > wood:
                continue
            tall, wide = 4 + 11 * rng.random(), 4 + 6 * rng.random()
            tree(canvas, rng, front + side * inwards, z, tall, wide, lot.flora)
        if rng.random() < 0.5:
            x, tall = front + side * (1 + 3 * rng.random()), 1.2 + rng.random()
            bush(canvas, rng, x, z - 1, tall, 3, lot.flora)
        z -= 5 + 5 * rng.random()
    draw_border(canvas, rng, [(lot.front, lot.near), (lot.front, lot.far)], border, lot.flora)


def car_park(canvas: Canvas, rng: Generator, lot: Lot, border: str, road: Colour) -> None:
    """Paint an open place with rows of parked cars."""
    front, side, z = lot.front, lot.side, (lot.near, lot.far)
    kind = ROAD if rng.random() < 0.6 else SIDEWALK
    surface = shade(road, rng.uniform(0.8, 1.3))
    canvas.strip((front, front + side * 45), z, surface, ASPHALT, kind)
    far, head = lot.far - 2, math.pi / 2 * pick(rng, (-1, 1))
    while far > max(lot.near + 1, 6):
        for inwards in (28, 17, 6) if far < 45 else (6,):
            if rng.random() < 0.6:
                car(canvas, rng, front + side * inwards, far, head)
        far -= rng.uniform(2.4, 3.5)
    draw_border(canvas, rng, [(lot.front, lot.near), (lot.front, lot.far)], border, lot.flora)

"""Vehicles on four wheels or more.

(x, z) is the middle of a vehicle on the ground, in metres; `head` the direction it points to, as
in `solids.Solid`."""

import math
from typing import NamedTuple

from numpy.random import Generator

from streets.canvas import GLASS as MIRROR
from streets.canvas import Canvas
from streets.colours import AMBER, CHROME, DARK, GLASS, PAINTS, Colour, pick, shade, tint
from streets.solids import Solid

CAR, TRUCK, BUS, TRAIN = 26, 27, 28, 31
BUSES = (*PAINTS, (232, 226, 210), (230, 180, 40))
BOXES = PAINTS + ((225, 225, 222), (196, 176, 150)) * 2
PLATES = ((226, 226, 216), (226, 226, 216), (214, 190, 60), (60, 60, 62))
TRAMS, TRIMS = (*PAINTS, (220, 205, 150), (200, 40, 40)), PAINTS + ((236, 232, 220),) * 4


class CarShape(NamedTuple):
    """The outline of a car seen from its side, in metres; the belt is where its windows start.

    Along the car 0 is the middle; `back` and `front` are those of the cabin."""

    long: float
    wide: float
    belt: float
    roof: float
    bonnet: float  # how high it ends in front
    back: tuple[float, float]  # at the belt, at the roof
    front: tuple[float, float]
    doors: int = 2  # windows on a side


SALOON = CarShape(4.5, 1.78, 0.92, 1.43, 0.76, (-1.75, -1.05), (1.05, 0.3))
CARS = (  # as often as in the streets of Europe
    SALOON,
    CarShape(3.9, 1.72, 0.95, 1.48, 0.78, (-1.85, -1.5), (1.0, 0.25)),  # hatchback
    CarShape(3.6, 1.62, 0.96, 1.52, 0.82, (-1.72, -1.5), (1.05, 0.4)),  # city car
    CarShape(4.0, 1.75, 0.98, 1.54, 0.82, (-1.9, -1.62), (1.1, 0.35)),  # hatchback
    CarShape(4.6, 1.80, 0.98, 1.50, 0.78, (-2.2, -1.9), (1.1, 0.3)),  # estate
    CarShape(4.3, 1.78, 1.02, 1.66, 0.90, (-2.05, -1.85), (1.35, 0.6)),  # people carrier
    CarShape(4.5, 1.86, 1.10, 1.74, 1.02, (-2.15, -1.8), (0.95, 0.35)),  # off-roader
    CarShape(4.8, 1.94, 1.18, 2.05, 1.00, (-2.36, -2.3), (1.7, 1.05), doors=1),  # van
    CarShape(5.4, 2.00, 1.25, 2.45, 1.05, (-2.66, -2.6), (1.9, 1.25), doors=1),  # van
)


def car(canvas: Canvas, rng: Generator, x: float, z: float, head: float) -> None:
    """Draw a car or a van."""
    if not canvas.sees(x, z, 4):
        return
    canvas.begin(CAR, x, z, 0.4 + 0.5 * rng.random())
    it, shape, body = Solid(canvas, x, z, head), pick(rng, CARS), tint(rng, pick(rng, PAINTS))
    size = rng.uniform(0.94, 1.06)
    half, wide, roof = shape.long / 2 * size, shape.wide / 2 * size, shape.roof * size
    belt, bonnet, clear = shape.belt * size, shape.bonnet * size, rng.uniform(0.16, 0.3)
    bumper = shade(body, 1.0 if rng.random() < 0.6 else 0.35)
    it.stand(half, wide, roof, (-half + 0.3, half - 0.3))
    (b0, b1), (f0, f1) = shape.back, shape.front
    hump = roof + rng.uniform(0.0, 0.05)
    outline = [  # along, up, half width, and the colour of what follows, from the rear to the front
        (-half + 0.12, clear, wide * 0.9, bumper),
        (-half, 0.42, wide * 0.97, bumper),
        (-half, 0.62, wide, body),
        (min(b0, -half + 0.06), belt, wide * 0.96, shade(body, 1.1)),
        (b0, belt + 0.02, wide * 0.93, GLASS),
        (b1, roof - 0.05, wide * 0.76, shade(body, 1.05)),
        (b1 + 0.3, roof, wide * 0.72, shade(body, 1.15)),
        ((b1 + f1) / 2, hump, wide * 0.70, shade(body, 1.15)),
        (f1 - 0.2, roof, wide * 0.72, shade(body, 1.1)),
        (f1, roof - 0.05, wide * 0.76, GLASS),
        (f0, belt, wide * 0.93, shade(body, 1.15)),
        (half - 0.25, bonnet, wide * 0.92, shade(body, 1.05)),
        (half - 0.04, bonnet - 0.14, wide * 0.95, body),
        (half, 0.45, wide * 0.97, bumper),
        (half - 0.1, clear, wide * 0.9, None),
    ]
    near = canvas.scale(z) > 24  # enough for its windows to be told apart
    outline = outline if near else outline[:1] + outline[2::2]
    profile, colours = [point[:3] for point in outline], [point[3] for point in outline]
    side = it.extrude(profile, colours, shade(body, rng.uniform(0.8, 1.0)))
    if near:
        if side:
            _car_side(it, shape, size, body, side)
        _car_ends(it, rng, shape, size, body)
    for along in (-half * 0.6, half * 0.62):
        it.wheel(along, 0.31 * size, side * wide)


def _car_side(it: Solid, shape: CarShape, size: float, body: Colour, side: int) -> None:
    """Draw the windows, sill and wheel arches of a car."""
    wide, half = side * shape.wide / 2 * size, shape.long / 2 * size
    low, high = shape.belt * size + 0.03, (shape.roof - 0.1) * size
    at_belt, at_roof = (
        (shape.back[0] + 0.15, shape.front[0] - 0.12),
        (shape.back[1], shape.front[1]),
    )
    for door in range(shape.doors):
        spans = []
        for start, end in (at_belt, at_roof):
            part = (end - start) / shape.doors
            first = door if shape.doors > 1 else 0.62  # a van has windows in front alone
            spans.append((start + part * first + 0.04, start + part * (door + 1) - 0.04))
        (a0, a1), (b0, b1) = spans
        corners = [(a0, low, wide * 0.96), (b0, high, wide * 0.8)]
        corners += [(b1, high, wide * 0.8), (a1, low, wide * 0.96)]
        it.face(corners, GLASS, material=MIRROR)
    it.slab((-half + 0.1, half - 0.1), (0.2, 0.3), wide * 1.0, shade(body, 0.4))
    seam = (shape.back[0] + shape.front[0]) / 2
    it.slab((seam, seam + 0.02), (0.35, shape.belt * size), wide * 1.0, shade(body, 0.6))
    for along in (-half * 0.6, half * 0.62):
        it.disc(along, 0.33, 0.39 * size, wide, shade(body, 0.25))


def _car_ends(it: Solid, rng: Generator, shape: CarShape, size: float, body: Colour) -> None:
    """Draw the lamps, plate, grille and bumper of the end that is seen."""
    half, wide, belt = shape.long / 2 * size, shape.wide / 2 * size, shape.belt * size
    tall = rng.uniform(0.1, 0.3)
    low = rng.uniform(0.52, 0.68)
    end = it.lamps(half, wide, (low, low + tall), inner=rng.uniform(0.55, 0.8))
    plate = 0.45 if rng.random() < 0.5 else low
    it.panel(end * 1.003, (plate, plate + 0.12), (-0.27, 0.27), pick(rng, PLATES))
    if end > 0:
        it.panel(end * 1.002, (0.36, 0.5), (-wide * 0.6, wide * 0.6), DARK)
    elif rng.random() < 0.3:
        it.panel(end * 1.002, (belt - 0.12, belt - 0.08), (-wide * 0.5, wide * 0.5), CHROME)
    it.panel(end * 1.001, (0.24, 0.3), (-wide * 0.9, wide * 0.9), shade(body, 0.3))


def bus(canvas: Canvas, rng: Generator, x: float, z: float, head: float) -> None:
    """Draw a city bus, 11 m long."""
    canvas.begin(BUS, x, z, 0.6 + 0.3 * rng.random())
    body = tint(rng, pick(rng, BUSES))
    it, half, wide, tall = Solid(canvas, x, z, head), 5.5, 1.27, 3.05
    it.stand(half, wide, tall, (-half + 0.6, half - 0.6))
    dim = shade(body, 0.85)
    hull = [
        (-half, 0.32, wide),
        (-half, tall - 0.15, wide),
        (-half + 0.2, tall, wide * 0.94),
        (half - 0.2, tall, wide * 0.94),
        (half, tall - 0.15, wide),
        (half, 0.32, wide),
    ]
    flank = shade(body, 0.95)
    side = it.extrude(hull, [dim, body, shade(body, 1.1), body, dim, None], flank) * wide * 1.002
    it.slab((-half + 0.3, half - 0.15), (1.25, 2.45), side, GLASS)
    for i in range(8):
        along = -half + 0.3 + i * 1.31
        it.slab((along, along + 0.09), (1.2, 2.5), side * 1.001, shade(body, 0.7))
    for along in (-half * 0.15, half * 0.72):
        it.slab((along, along + 1.2), (0.38, 2.4), side * 1.002, shade(GLASS, 1.25))
    it.slab((-half, half), (0.7, 0.95), side * 1.001, pick(rng, PAINTS))
    for along in (-half * 0.55, half * 0.52):
        it.wheel(along, 0.48, side * 1.003)
    end = it.lamps(half, wide, (0.72, 0.98))
    it.panel(end, (1.2, 2.5), (-wide * 0.93, wide * 0.93), GLASS)
    it.panel(end * 1.001, (2.58, 2.92), (-wide * 0.75, wide * 0.75), (30, 26, 20))
    it.panel(end * 1.002, (2.66, 2.84), (-wide * 0.5, wide * 0.35), AMBER, glow=0.9)
    if end > 0:
        it.panel(end * 1.002, (1.2, 2.5), (-0.03, 0.03), shade(body, 0.7))


def truck(canvas: Canvas, rng: Generator, x: float, z: float, head: float) -> None:
    """Draw a lorry: a cab and a box."""
    canvas.begin(TRUCK, x, z, 0.6 + 0.3 * rng.random())
    it, body = Solid(canvas, x, z, head), tint(rng, pick(rng, PAINTS))
    cargo = tint(rng, pick(rng, BOXES), 34)
    half, wide, tall = 3.6 + 0.8 * rng.random(), 1.23, 3.2 + 0.5 * rng.random()
    it.stand(half, wide, tall, (-half + 0.9, half - 0.8))
    cut, stripe = half - 2.0, pick(rng, PAINTS)  # where the box ends and the cab starts
    for part in ("cab", "box") if math.cos(head) > -0.2 else ("box", "cab"):
        if part == "box":
            _truck_box(it, cargo, stripe, (half, cut, wide, tall))
        else:
            _truck_cab(it, body, (half, cut, wide))


def _truck_box(
    it: Solid, cargo: Colour, stripe: Colour, measures: tuple[float, float, float, float]
) -> None:
    half, cut, wide, tall = measures
    profile = [(-half, 0.85, wide), (-half, tall, wide), (cut, tall, wide), (cut, 0.85, wide)]
    colours = [shade(cargo, 0.88), shade(cargo, 1.1), shade(cargo, 0.8), None]
    side = it.extrude(profile, colours, shade(cargo, 0.96)) * wide * 1.002
    it.slab((-half, cut), (0.6, 0.9), side, DARK)
    it.slab((-half * 0.7, cut - 0.6), (1.5, 2.2), side, stripe)
    for along in (-half * 0.72, -half * 0.45):
        it.wheel(along, 0.48, side * 1.003)
    if it.lamps(half, wide, (0.55, 0.8)) < 0:
        back = -half * 1.002
        it.panel(back, (0.9, tall - 0.08), (-0.04, 0.04), shade(cargo, 0.55))
        for s in (-1, 1):
            it.panel(back, (1.0, tall - 0.2), (s * 0.35, s * 0.39), CHROME)
        it.panel(back, (0.55, 0.85), (-wide * 0.6, wide * 0.6), DARK)


def _truck_cab(it: Solid, body: Colour, measures: tuple[float, float, float]) -> None:
    half, cut, wide = measures
    profile = [
        (cut + 0.15, 0.5, wide * 0.97),
        (cut + 0.15, 2.6, wide * 0.95),
        (half - 0.3, 2.6, wide * 0.93),
        (half, 1.5, wide * 0.97),
        (half, 0.4, wide),
    ]
    colours = [None, shade(body, 1.1), GLASS, shade(body, 0.9), None]
    side = it.extrude(profile, colours, shade(body, 0.95)) * wide
    it.slab((half - 1.3, half - 0.35), (1.5, 2.3), side * 0.98, GLASS)
    it.wheel(half - 1.0, 0.48, side * 1.003)
    if it.lamps(half, wide, (0.6, 0.85)) > 0:
        it.panel(half * 1.004, (0.95, 1.35), (-0.8, 0.8), shade(body, 0.5))


def tram(canvas: Canvas, rng: Generator, x: float, z: float, head: float) -> None:
    """Draw a tram, 22 m long, with its pantograph."""
    canvas.begin(TRAIN, x, z, 0.6 + 0.3 * rng.random())
    body, trim = tint(rng, pick(rng, TRAMS)), tint(rng, pick(rng, TRIMS))
    it, half, wide, tall = Solid(canvas, x, z, head), 11.0, 1.0, 3.35
    it.stand(half, wide, tall, ())
    mast = half * 0.4 * (-1 if math.cos(head) > 0 else 1)
    it.bar([(mast - 0.6, tall, 0), (mast, tall + 0.7, 0), (mast, tall + 1.3, 0)], 0.04, DARK)
    it.bar([(mast, tall + 1.3, -0.8), (mast, tall + 1.3, 0.8)], 0.05, DARK)
    hull = [
        (-half, 0.18, wide),
        (-half - 0.1, 1.2, wide),
        (-half + 0.7, tall, wide * 0.85),
        (half - 0.7, tall, wide * 0.85),
        (half + 0.1, 1.2, wide),
        (half, 0.18, wide),
    ]
    colours = [body, GLASS, shade(trim, 1.1), GLASS, body, None]
    side = it.extrude(hull, colours, shade(body, 0.9)) * wide
    it.slab((-half + 0.7, half - 0.7), (1.2, tall), side, trim)
    it.slab((-half + 0.8, half - 0.8), (1.35, 2.6), side * 1.002, GLASS)
    for i in range(12):
        along = -half + 0.8 + i * (2 * half - 1.6) / 11
        it.slab((along - 0.07, along + 0.07), (1.3, 2.65), side * 1.003, trim)
        if i % 4 == 2:
            it.slab((along - 0.7, along + 0.7), (0.3, 2.6), side * 1.004, shade(GLASS, 1.3))
    end = it.lamps(half, wide, (0.72, 0.95))
    it.panel(end * 0.955, (tall - 0.5, tall - 0.2), (-0.55, 0.55), AMBER, glow=0.8)
    it.panel(end, (0.2, 0.45), (-wide * 0.95, wide * 0.95), DARK)

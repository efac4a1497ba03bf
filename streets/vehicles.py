"""Vehicles on four wheels or more.

(x, z) is the middle of a vehicle on the ground, in metres; `head` the direction it points to, as
in `solids.Solid`."""

import math
from typing import NamedTuple

from numpy.random import Generator

from streets.canvas import Canvas
from streets.colours import AMBER, CHROME, DARK, GLASS, PAINTS, Colour, pick, shade, tint
from streets.solids import Solid

CAR, TRUCK, BUS, TRAIN = 26, 27, 28, 31
BUSES = (*PAINTS, (232, 226, 210), (230, 180, 40))
BOXES = PAINTS + ((225, 225, 222), (196, 176, 150)) * 2
TRAMS, TRIMS = (*PAINTS, (220, 205, 150), (200, 40, 40)), PAINTS + ((236, 232, 220),) * 4


class CarShape(NamedTuple):
    """The measures of a car in metres; belt is the height where its windows start."""

    half: float  # of the length
    wide: float  # half of the width
    belt: float
    roof: float
    cabin: tuple[float, float]  # from and to, along, at the belt
    top: tuple[float, float]  # the same at the roof
    windows: tuple[tuple[float, float], ...]  # from and to, as parts of the cabin


SEDAN_WINDOWS = ((0.06, 0.47), (0.53, 0.94))
VAN = CarShape(2.4, 0.95, 1.15, 2.05, (-2.38, 1.75), (-2.3, 1.05), ((0.66, 0.95),))
SALOON = CarShape(2.25, 0.89, 0.92, 1.43, (-1.75, 1.05), (-1.05, 0.3), SEDAN_WINDOWS)
ESTATE = CarShape(2.25, 0.92, 1.0, 1.62, (-2.2, 1.1), (-1.95, 0.35), SEDAN_WINDOWS)
HATCHBACK = CarShape(1.9, 0.86, 0.95, 1.48, (-1.82, 1.0), (-1.45, 0.25), SEDAN_WINDOWS)
CARS = (VAN, SALOON, SALOON, ESTATE, HATCHBACK, HATCHBACK)


def car(canvas: Canvas, rng: Generator, x: float, z: float, head: float) -> None:
    """Draw a hatchback, saloon, estate or van."""
    canvas.begin(CAR, x, z, 0.55 + 0.35 * rng.random())
    it, shape, body = Solid(canvas, x, z, head), pick(rng, CARS), tint(rng, pick(rng, PAINTS))
    half, wide, belt, roof, cabin, top, windows = shape
    dim, bright = shade(body, 0.88), shade(body, 1.15)
    it.stand(half, wide, roof, (-half + 0.3, half - 0.3))
    lower = [
        (-half, 0.26, wide),
        (-half - 0.04, 0.62, wide),
        (-half + 0.05, belt, wide * 0.97),
        (cabin[1], belt, wide * 0.97),
        (half - 0.15, belt - 0.16, wide * 0.95),
        (half, 0.6, wide),
        (half - 0.03, 0.26, wide),
    ]
    upper = [
        (cabin[0], belt, wide * 0.94),
        (top[0], roof, wide * 0.8),
        (top[1], roof, wide * 0.8),
        (cabin[1], belt, wide * 0.94),
    ]
    side = it.extrude(lower, [dim, body, bright, bright, body, dim, None], shade(body, 0.92))
    it.extrude(upper, [GLASS, bright, GLASS, None], shade(body, 0.9))
    flank = side * wide
    if side and canvas.scale(z) > 24:  # near enough for its windows to be told apart
        low, high = belt + 0.03, roof - 0.14 * (roof - belt)
        for window in windows:
            a, b = ([span[0] + (span[1] - span[0]) * f for f in window] for span in (cabin, top))
            corners = [(a[0], low, flank * 0.93), (b[0], high, flank * 0.82)]
            it.face([*corners, (b[1], high, flank * 0.82), (a[1], low, flank * 0.93)], GLASS)
        it.slab((-half + 0.1, half - 0.1), (0.24, 0.34), flank, shade(body, 0.45))
        door = cabin[0] * 0.1
        it.slab((door, door + 0.03), (0.4, belt), flank * 1.002, shade(body, 0.6))
    for along in (-half * 0.62, half * 0.64):
        it.wheel(along, 0.33, flank * 1.005)
    end = it.lamps(half, wide, (0.62, belt - 0.1))
    it.panel(end, (0.26, 0.42), (-wide, wide), shade(body, 0.5))
    it.panel(end * 1.003, (0.45, 0.57), (-0.27, 0.27), (226, 226, 216) if end < 0 else DARK)


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

"""Buses, trams and trucks; (x, z), head: as in `solids.Solid`."""

import math
from typing import NamedTuple

from numpy.random import Generator

from streets.canvas import Canvas
from streets.colours import AMBER, CHROME, DARK, PAINTS, PANE, Colour, pick, shade, tint
from streets.solids import Solid

TRUCK, BUS, TRAIN = 27, 28, 31
LIVERIES = (*PAINTS[::2], (232, 226, 210), (230, 180, 40), (200, 40, 40), (220, 205, 150))
BOXES = PAINTS + ((225, 225, 222), (196, 176, 150)) * 4


class CoachShape(NamedTuple):
    """The measures of a bus or tram, in metres."""

    label: int
    long: float
    wide: float
    tall: float
    clear: float  # between the body and the road
    slant: float  # how far the ends recede on their way up
    decks: tuple[tuple[float, float], ...]  # from and to which height the windows are
    axles: tuple[float, ...]  # where the wheels are, as parts of half the length


CITY_BUS = CoachShape(BUS, 11.0, 2.54, 3.05, 0.32, 0.2, ((1.25, 2.45),), (-0.55, 0.52))
DOUBLE_DECKER = CoachShape(BUS, 10.0, 2.5, 4.3, 0.32, 0.15, ((1.2, 2.1), (2.8, 3.7)), (-0.5, 0.55))
TRAM = CoachShape(TRAIN, 22.0, 2.2, 3.35, 0.18, 0.7, ((1.35, 2.6),), ())


def bus(canvas: Canvas, rng: Generator, x: float, z: float, head: float) -> None:
    """Draw a city bus, or one with two decks."""
    _coach(canvas, rng, x, z, head, CITY_BUS if rng.random() < 0.75 else DOUBLE_DECKER)


def tram(canvas: Canvas, rng: Generator, x: float, z: float, head: float) -> None:
    """Draw a tram with its pantograph."""
    it, tall = Solid(canvas, x, z, head), TRAM.tall
    mast = TRAM.long * 0.2 * (-1 if math.cos(head) > 0 else 1)
    canvas.begin(TRAIN, x, z)
    it.bar([(mast - 0.6, tall, 0), (mast, tall + 0.7, 0), (mast, tall + 1.3, 0)], 0.04, DARK)
    it.bar([(mast, tall + 1.3, -0.8), (mast, tall + 1.3, 0.8)], 0.05, DARK)
    _coach(canvas, rng, x, z, head, TRAM)


def _coach(
    canvas: Canvas, rng: Generator, x: float, z: float, head: float, shape: CoachShape
) -> None:
    canvas.begin(shape.label, x, z, 0.4 + 0.5 * rng.random())
    it, half, wide, tall = Solid(canvas, x, z, head), shape.long / 2, shape.wide / 2, shape.tall
    body, trim = tint(rng, pick(rng, LIVERIES)), tint(rng, pick(rng, LIVERIES))
    it.stand(half, wide, tall, [axle * half for axle in shape.axles])
    low, high = shape.decks[0]
    edge = -half + shape.slant
    outline = [(-half, shape.clear, wide), (-half, low, wide)]
    outline += [(edge, tall - 0.15, wide), (edge + 0.2, tall, wide * 0.92)]
    outline += [(-along, up, across) for along, up, across in reversed(outline)]
    roof, dim = shade(body, 1.1), shade(body, 0.85)
    colours = [dim, body, body, roof, body, body, dim, None]
    side = it.extrude(outline, colours, shade(body, 0.95)) * wide * 1.002
    it.slab((-half, half), (0.5, 0.5 + rng.uniform(0.1, 0.7)), side, trim)
    start, end = edge + 0.1, -edge - 0.1
    for deck in shape.decks:
        it.slab((start, end), deck, side * 1.001, PANE)
        for i in range(9):
            along = start + (end - start) * i / 8
            it.slab((along - 0.05, along + 0.05), deck, side * 1.002, shade(body, 0.7))
    for part in (-0.15, 0.35, 0.75):  # doors
        it.slab((half * part, half * part + 1.2), (shape.clear + 0.05, high), side * 1.003, PANE)
    for axle in shape.axles:
        it.wheel(axle * half, 0.48, side * 1.004)
    end = it.lamps(half, wide, (0.72, 0.95))
    at = end * (1.004 - shape.slant / half * 0.5)
    for deck in shape.decks:
        it.panel(at, deck, (-wide * 0.93, wide * 0.93), PANE)
    it.panel(at * 1.001, (tall - 0.5, tall - 0.15), (-wide * 0.75, wide * 0.75), (30, 26, 20))
    glow = 0.9 if canvas.lamps_lit else 0.3
    it.panel(at * 1.002, (tall - 0.42, tall - 0.24), (-wide * 0.5, wide * 0.35), AMBER, glow)


def truck(canvas: Canvas, rng: Generator, x: float, z: float, head: float) -> None:
    """Draw a lorry: a cab and a box."""
    canvas.begin(TRUCK, x, z, 0.4 + 0.5 * rng.random())
    it, wide, tall = Solid(canvas, x, z, head), 1.23, rng.uniform(2.8, 3.8)
    body, cargo = tint(rng, pick(rng, PAINTS)), tint(rng, pick(rng, BOXES), 34)
    half = rng.uniform(3.0, 4.4)
    cut = half - 2.0  # where the box ends and the cab starts
    it.stand(half, wide, tall, (-half + 0.9, half - 0.8))
    stripe = pick(rng, PAINTS) if rng.random() < 0.5 else cargo
    for part in ("cab", "box") if math.cos(head) > -0.2 else ("box", "cab"):
        if part == "box":
            _truck_box(it, cargo, stripe, (half, cut, wide, tall))
        else:
            _truck_cab(it, body, (half, cut, wide))


def _truck_box(
    it: Solid, cargo: Colour, stripe: Colour, measures: tuple[float, float, float, float]
) -> None:
    half, cut, wide, tall = measures
    outline = [(-half, 0.85, wide), (-half, tall, wide), (cut, tall, wide), (cut, 0.85, wide)]
    colours = [shade(cargo, 0.88), shade(cargo, 1.1), shade(cargo, 0.8), None]
    side = it.extrude(outline, colours, shade(cargo, 0.96)) * wide * 1.002
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
    outline = [(cut + 0.15, 0.5, wide * 0.97), (cut + 0.15, 2.6, wide * 0.95)]
    outline += [(half - 0.3, 2.6, wide * 0.93), (half, 1.5, wide * 0.97), (half, 0.4, wide)]
    colours = [None, shade(body, 1.1), PANE, shade(body, 0.9), None]
    side = it.extrude(outline, colours, shade(body, 0.95)) * wide
    it.slab((half - 1.3, half - 0.35), (1.5, 2.3), side * 0.98, PANE)
    it.wheel(half - 1.0, 0.48, side * 1.003)
    if it.lamps(half, wide, (0.6, 0.85)) > 0:
        it.panel(half * 1.004, (0.95, 1.35), (-0.8, 0.8), shade(body, 0.5))

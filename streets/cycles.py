"""Bicycles and motorcycles, ridden or left on the sidewalk; (x, z), head: as in `solids.Solid`."""

import math

from numpy.random import Generator

from streets.canvas import SPOKES, Canvas
from streets.colours import BLACK, CHROME, PAINTS, SOOT, TYRE, pick, tint
from streets.people import Seat, rider
from streets.solids import Solid

MOTORCYCLE, BICYCLE = 32, 33
BICYCLE_SEAT = Seat((-0.22, 1.0), (0.34, 1.06, 0.26), (-0.05, 0.22, 0.13))
MOTORCYCLE_SEAT = Seat((-0.25, 0.95), (0.42, 1.08, 0.34), (0.0, 0.3, 0.24))


def bicycle(
    canvas: Canvas,
    rng: Generator,
    x: float,
    z: float,
    head: float,
    ridden: bool = True,
) -> None:
    """Draw a bicycle, and its rider."""
    canvas.begin(BICYCLE, x, z, 0.4 + 0.5 * rng.random())
    it, paint = Solid(canvas, x, z, head), tint(rng, pick(rng, PAINTS))
    canvas.cast(it.footprint(0.9, 0.15), 1.7 if ridden else 0.9)
    for along in (-0.55, 0.55):
        _wheel(it, along, 0.34, 0.035)
    hub, pedal, saddle, stem = (-0.55, 0.36), (-0.08, 0.32), (-0.22, 0.9), (0.36, 0.86)
    fork, bars = (stem, (0.55, 0.36)), (stem, (0.32, 1.04))
    for path in ((hub, pedal, saddle, hub), (pedal, stem, saddle), fork, bars):
        it.bar([(along, up, 0) for along, up in path], 0.032, paint)
    it.bar([(0.34, 1.04, -0.28), (0.34, 1.04, 0.28)], 0.03, SOOT)
    it.bar([(-0.36, 0.95, 0), (-0.1, 0.95, 0)], 0.06, BLACK)
    if rng.random() < 0.4:  # a basket
        it.panel(-0.6, (0.55, 0.85), (-0.18, 0.18), tint(rng, pick(rng, PAINTS)))
    if ridden:
        rider(it, rng, BICYCLE_SEAT, helmet=rng.random() < 0.5)


def motorcycle(
    canvas: Canvas, rng: Generator, x: float, z: float, head: float, ridden: bool = True
) -> None:
    """Draw a motorcycle or scooter, and its rider."""
    canvas.begin(MOTORCYCLE, x, z, 0.4 + 0.5 * rng.random())
    it, paint = Solid(canvas, x, z, head), tint(rng, pick(rng, PAINTS))
    canvas.cast(it.footprint(1, 0.3), 1.6 if ridden else 1.0)
    for along in (-0.72, 0.72):
        _wheel(it, along, 0.3, 0.07)
        it.bar([(along, 0, 0), (along, 0.6, 0)], 0.09, TYRE)
    body = [
        (-0.5, 0.25, 0.16),
        (-0.95, 0.75, 0.15),
        (-0.8, 0.88, 0.18),
        (0.05, 0.82, 0.2),
        (0.2, 0.98, 0.22),
        (0.62, 0.98, 0.2),
        (0.75, 0.6, 0.2),
        (0.4, 0.25, 0.18),
    ]
    colours = [(44, 44, 44), paint, (36, 34, 34), paint, paint, paint, (50, 50, 50), None]
    it.extrude(body, colours, paint)
    it.bar([(0.7, 0.32, 0), (0.45, 1.1, 0)], 0.05, CHROME)
    it.bar([(0.42, 1.1, -0.38), (0.42, 1.1, 0.38)], 0.04, SOOT)
    for side in (-1, 1):
        it.ball((0.42, 1.2, side * 0.42), 0.08, 0.06, (60, 60, 64))
    along, lamp = (-0.97, (210, 30, 26)) if math.cos(head) > 0 else (0.8, (250, 244, 220))
    it.panel(along, (0.68, 0.84), (-0.12, 0.12), lamp, glow=0.8)
    if ridden:
        rider(it, rng, MOTORCYCLE_SEAT, helmet=True)


def parked_cycle(canvas: Canvas, rng: Generator, x: float, z: float) -> None:
    """Draw a bicycle, at times a motorcycle, left on the sidewalk."""
    if rng.random() < 0.3:
        motorcycle(canvas, rng, x, z, (rng.random() - 0.5) * 2, ridden=False)
    else:
        bicycle(canvas, rng, x, z, 1.57 + (rng.random() - 0.5) * 1.6, ridden=False)


def _wheel(it: Solid, along: float, radius: float, tyre: float) -> None:
    """Draw a thin wheel, with spokes that one sees through."""
    angles = [i * math.pi / 8 for i in range(17)]
    rim = [
        (along + radius * math.cos(angle), radius + 0.02 + radius * math.sin(angle), 0)
        for angle in angles
    ]
    it.face(rim, CHROME, material=SPOKES)
    it.bar(rim, tyre, TYRE)

"""Cars and vans, buses, trams and trucks, and the traffic that they make."""

import math
from collections.abc import Callable

from numpy.random import Generator

from streets.canvas import GLASS
from streets.colours import AMBER, CHROME, DARK, PAINTS, PANE, palette, pick, shade, tinted
from streets.people import bicycle, motorcycle, person
from streets.plan import SIDES, Plan
from streets.solids import Solid, Things

CAR, TRUCK, BUS, TRAIN = 26, 27, 28, 31
PLATES = palette("e2e2d8 e2e2d8 d6be3c 3c3c3e")
LIVERIES = PAINTS[::2] + palette("e8e2d2 e6b428 c82828 dccd96")
BOXES = PAINTS + palette("e1e1de c4b096") * 4


# Cars, in metres: half the length and half the width; how high the windows start, the roof is and
# the bonnet ends; where along a car, 0 is its middle, the cabin ends below and above, and starts.
CARS = (  # as often as in the streets of Europe
    (2.25, 0.89, 0.92, 1.43, 0.76, -1.75, -1.05, 1.05, 0.30),  # saloon
    (1.95, 0.86, 0.95, 1.48, 0.78, -1.85, -1.50, 1.00, 0.25),  # hatchback
    (1.80, 0.81, 0.96, 1.52, 0.82, -1.72, -1.50, 1.05, 0.40),  # city car
    (2.00, 0.875, 0.98, 1.54, 0.82, -1.90, -1.62, 1.10, 0.35),  # hatchback
    (2.30, 0.90, 0.98, 1.50, 0.78, -2.20, -1.90, 1.10, 0.30),  # estate
    (2.15, 0.89, 1.02, 1.66, 0.90, -2.05, -1.85, 1.35, 0.60),  # people carrier
    (2.25, 0.93, 1.10, 1.74, 1.02, -2.15, -1.80, 0.95, 0.35),  # off-roader
    (2.40, 0.97, 1.18, 2.05, 1.00, -2.36, -2.30, 1.70, 1.05),  # van
    (2.70, 1.00, 1.25, 2.45, 1.05, -2.66, -2.60, 1.90, 1.25),  # van
)
VAN = 1.9  # metres; what is higher has windows in front only


def car(it: Solid, rng: Generator) -> None:
    """Draw a car or a van."""
    if not it.canvas.sees(it.x, it.z, 4):
        return
    it.begin(CAR, rng.uniform(0.4, 0.9))
    body, shape, size = tinted(rng, PAINTS), pick(rng, CARS), rng.uniform(0.94, 1.06)
    half, wide, belt, roof, bonnet, back, roof_back, front, roof_front = (n * size for n in shape)
    it.stand(half, wide, roof, (-half + 0.3, half - 0.3))
    bumper, bright = shade(body, 1.0 if rng.random() < 0.6 else 0.35), shade(body, 1.12)
    clear, hump = rng.uniform(0.16, 0.3), roof + 0.05 * rng.random()
    outline = [  # from the rear over the roof to the front
        (-half + 0.12, clear, wide * 0.9, bumper),
        (-half, 0.42, wide * 0.97, bumper),
        (-half, 0.62, wide, body),
        (min(back, -half + 0.06), belt, wide * 0.96, bright),
        (back, belt + 0.02, wide * 0.93, PANE),
        (roof_back, roof - 0.05, wide * 0.76, body),
        (roof_back + 0.3, roof, wide * 0.72, bright),
        ((roof_back + roof_front) / 2, hump, wide * 0.70, bright),
        (roof_front - 0.2, roof, wide * 0.72, bright),
        (roof_front, roof - 0.05, wide * 0.76, PANE),
        (front, belt, wide * 0.93, bright),
        (half - 0.25, bonnet, wide * 0.92, body),
        (half - 0.04, bonnet - 0.14, wide * 0.95, body),
        (half, 0.45, wide * 0.97, bumper),
        (half - 0.1, clear, wide * 0.9, None),
    ]
    near, axles = it.canvas.scale(it.z) > 24, (-half * 0.6, half * 0.62)
    outline = outline if near else outline[:1] + outline[2::2]
    side = wide * it.extrude(outline, shade(body, rng.uniform(0.8, 1.0)))
    if near and side:
        low, high, sill = belt + 0.03, roof - 0.1, (-half + 0.1, half - 0.1)
        below, above = front - back - 0.27, roof_front - roof_back  # how long the windows are
        for start, end in ((0.62, 1.0),) if roof > VAN else ((0.0, 0.5), (0.5, 1.0)):
            window = [(back + 0.19 + below * start, low), (roof_back + 0.04 + above * start, high)]
            window += [(roof_back - 0.04 + above * end, high), (back + 0.11 + below * end, low)]
            corners = [(a, up, side * (0.96 if up == low else 0.8)) for a, up in window]
            it.face(corners, PANE, material=GLASS)
        it.rect(sill, (0.2, 0.3), side, shade(body, 0.4))
        seam = (back + front) / 2
        it.rect((seam, seam + 0.02), (0.35, belt), side, shade(body, 0.6))
        for along in axles:
            it.disc(along, 0.39, 0.33, side, shade(body, 0.25))
    if near:  # the lamps, plate, grille and bumper of the end that is seen
        low = rng.uniform(0.52, 0.68)
        end = it.lamps(half, wide, (low, low + rng.uniform(0.1, 0.3)), rng.uniform(0.55, 0.8))
        plate = 0.45 if rng.random() < 0.5 else low
        it.rect(end * 1.003, (plate, plate + 0.12), (-0.27, 0.27), pick(rng, PLATES))
        if end > 0:
            it.rect(end * 1.002, (0.36, 0.5), (-wide * 0.6, wide * 0.6), DARK)
        elif rng.random() < 0.3:
            it.rect(end * 1.002, (belt - 0.12, belt - 0.08), (-wide * 0.5, wide * 0.5), CHROME)
        it.rect(end * 1.001, (0.24, 0.3), (-wide * 0.9, wide * 0.9), shade(body, 0.3))
    for along in axles:
        it.wheel(along, 0.31, side)


# Buses and a tram, in metres: label, half the length, half the width, height, room below, how far
# the ends recede on their way up; from and to which height the windows are; where the wheels are.
CITY_BUS = (BUS, 5.5, 1.27, 3.05, 0.32, 0.2, ((1.25, 2.45),), (-3.025, 2.86))
DOUBLE_DECKER = (BUS, 5.0, 1.25, 4.3, 0.32, 0.15, ((1.2, 2.1), (2.8, 3.7)), (-2.5, 2.75))
TRAM = (TRAIN, 11.0, 1.1, 3.35, 0.18, 0.7, ((1.35, 2.6),), ())


def bus(it: Solid, rng: Generator) -> None:
    """Draw a city bus, or one with two decks."""
    _draw_coach(it, rng, CITY_BUS if rng.random() < 0.75 else DOUBLE_DECKER)


def tram(it: Solid, rng: Generator) -> None:
    """Draw a tram with its pantograph."""
    roof, mast = TRAM[3], -4.4 if it.cos > 0 else 4.4
    it.begin(TRAIN)
    it.bar([(mast - 0.6, roof, 0), (mast, roof + 0.7, 0), (mast, roof + 1.3, 0)], 0.04, DARK)
    it.bar([(mast, roof + 1.3, -0.8), (mast, roof + 1.3, 0.8)], 0.05, DARK)
    _draw_coach(it, rng, TRAM)


def _draw_coach(it: Solid, rng: Generator, shape: tuple) -> None:
    label, half, wide, tall, clear, slant, decks, axles = shape
    it.begin(label, rng.uniform(0.4, 0.9))
    body, trim = tinted(rng, LIVERIES), tinted(rng, LIVERIES)
    it.stand(half, wide, tall, axles)
    (low, high), start, end = decks[0], -half + slant, half - slant
    rear = [(-half, clear, wide), (-half, low, wide), (start, tall - 0.15, wide)]
    rear += [(start + 0.2, tall, wide * 0.92)]
    outline = rear + [(-along, up, w) for along, up, w in reversed(rear)]
    dim, roof = shade(body, 0.85), shade(body, 1.1)
    colours = (dim, body, body, roof, body, body, dim, None)
    outline = [(*point, colour) for point, colour in zip(outline, colours, strict=True)]
    side = it.extrude(outline, shade(body, 0.95)) * wide * 1.002
    it.rect((-half, half), (0.5, 0.5 + rng.uniform(0.1, 0.7)), side, trim)
    start, end = start + 0.1, end - 0.1
    for deck in decks:
        it.rect((start, end), deck, side * 1.001, PANE)
        for i in range(9):
            along = start + (end - start) * i / 8
            it.rect((along - 0.05, along + 0.05), deck, side * 1.002, shade(body, 0.7))
    for door in (-half * 0.15, half * 0.35, half * 0.75):
        it.rect((door, door + 1.2), (clear + 0.05, high), side * 1.003, PANE)
    for axle in axles:
        it.wheel(axle, 0.48, side * 1.004)
    at = it.lamps(half, wide, (0.72, 0.95)) * (1.004 - slant / half * 0.5)
    for deck in decks:
        it.rect(at, deck, (-wide * 0.93, wide * 0.93), PANE)
    it.rect(at * 1.001, (tall - 0.5, tall - 0.15), (-wide * 0.75, wide * 0.75), (30, 26, 20))
    glow, line = 0.9 if it.canvas.lamps_lit else 0.3, (-wide * 0.5, wide * 0.35)
    it.rect(at * 1.002, (tall - 0.42, tall - 0.24), line, AMBER, glow=glow)  # where it goes to


def truck(it: Solid, rng: Generator) -> None:
    """Draw a lorry: a cab and a box."""
    it.begin(TRUCK, rng.uniform(0.4, 0.9))
    wide, tall = 1.23, rng.uniform(2.8, 3.8)
    body, cargo = tinted(rng, PAINTS), tinted(rng, BOXES, 34)
    half = rng.uniform(3.0, 4.4)
    cut = half - 2.0  # where the box ends and the cab starts
    it.stand(half, wide, tall, (-half + 0.9, half - 0.8))
    stripe = pick(rng, PAINTS) if rng.random() < 0.5 else cargo

    def draw_box() -> None:
        rear, top, front = (shade(cargo, factor) for factor in (0.88, 1.1, 0.8))
        outline = [(-half, 0.85, wide, rear), (-half, tall, wide, top), (cut, tall, wide, front)]
        side = it.extrude([*outline, (cut, 0.85, wide, None)], shade(cargo, 0.96)) * wide * 1.002
        it.rect((-half, cut), (0.6, 0.9), side, DARK)
        it.rect((-half * 0.7, cut - 0.6), (1.5, 2.2), side, stripe)
        for along in (-half * 0.72, -half * 0.45):
            it.wheel(along, 0.48, side * 1.003)
        if it.lamps(half, wide, (0.55, 0.8)) < 0:
            back = -half * 1.002
            it.rect(back, (0.9, tall - 0.08), (-0.04, 0.04), shade(cargo, 0.55))
            for s in (-1, 1):
                it.rect(back, (1.0, tall - 0.2), (s * 0.35, s * 0.39), CHROME)
            it.rect(back, (0.55, 0.85), (-wide * 0.6, wide * 0.6), DARK)

    def draw_cab() -> None:
        rear, roof, hood = cut + 0.15, shade(body, 1.1), shade(body, 0.9)
        outline = [(rear, 0.5, wide * 0.97, None), (rear, 2.6, wide * 0.95, roof)]
        outline += [(half - 0.3, 2.6, wide * 0.93, PANE), (half, 1.5, wide * 0.97, hood)]
        side = it.extrude([*outline, (half, 0.4, wide, None)], shade(body, 0.95)) * wide
        it.rect((half - 1.3, half - 0.35), (1.5, 2.3), side * 0.98, PANE)
        it.wheel(half - 1.0, 0.48, side * 1.003)
        if it.lamps(half, wide, (0.6, 0.85)) > 0:
            it.rect(half * 1.004, (0.95, 1.35), (-0.8, 0.8), shade(body, 0.5))

    for draw in (draw_cab, draw_box) if it.cos > -0.2 else (draw_box, draw_cab):
        draw()


LENGTHS = {car: 4.6, truck: 8.8, bus: 11.0, tram: 22.0, bicycle: 1.9, motorcycle: 2.1}  # metres
DRIVING = (car,) * 40 + (truck, bus, bus) + (motorcycle, bicycle) * 2
CROSSING = (car,) * 16 + (truck, bus, bicycle, motorcycle)


def add_traffic(rng: Generator, plan: Plan, things: Things) -> None:
    """Add the vehicles, riders and pedestrians on the road."""

    def add(draw: Callable, x: float, z: float, head: float) -> None:
        half, deep = (0.4, 1) if draw in (bicycle, motorcycle) else (1.25, LENGTHS[draw] / 2)
        reach = (deep, half) if abs(math.sin(head)) > 0.7 else (half, deep)
        things.add_at(x, z, draw, reach=reach, head=head + (rng.random() - 0.5) * 0.05)

    for side in SIDES:  # parked
        x, z = side * (plan.kerb[side] - 1.15), 3 + 9 * rng.random()
        while plan.parked[side] and z < 110:
            if not plan.is_on_crossing(z, 8, 4) and rng.random() < 0.3 + 0.6 * plan.jam:
                draw = truck if rng.random() < 0.015 else car
                head = 0 if side > 0 or rng.random() < 0.3 else math.pi
                add(draw, x, z + LENGTHS[draw] / 2, head)
                z += LENGTHS[draw]
            else:
                z += 5
            z += 0.8 + 1.2 * rng.random()
    lanes = [(plan.middle + plan.lane * (i + 0.5), 0.0, 9.0) for i in range(plan.own)]
    lanes += [(plan.middle - plan.lane * (i + 0.5), math.pi, 6.0) for i in range(plan.other)]
    for x, head, first in lanes:  # driving
        z = first + 50 * rng.random()
        while z < 120:
            draw = pick(rng, DRIVING)
            add(draw, x + (rng.random() - 0.5) * 0.5, z + LENGTHS[draw] / 2, head)
            z += LENGTHS[draw] + 5 + 40 * rng.random() * (1.3 - plan.jam)
    for side, head in ((1, 0.0), (-1, math.pi)):  # bicycles keep to the side
        z = 8 + 40 * rng.random()
        while z < 60 and rng.random() < 0.5:
            x = side * (plan.kerb[side] - (2.3 if plan.parked[side] else 0) - 0.3)
            add(bicycle, x, z, head)
            z += 3 + 20 * rng.random()
    if plan.rails is not None and rng.random() < 0.8:
        add(tram, plan.rails, 23 + 34 * rng.random(), pick(rng, (0.0, math.pi)))
    if plan.crossing is None:
        return
    for part, head in ((0.3, math.pi / 2), (0.72, -math.pi / 2)):  # on the crossroad
        x, z = -30 + 12 * rng.random(), plan.crossing + plan.wide * part
        while x < 30:
            draw = pick(rng, CROSSING)
            if rng.random() < 0.42:
                add(draw, x, z, head)
            x += LENGTHS[draw] + 2 + 16 * rng.random()
    for _ in range(int(rng.random() * 5 * plan.crowd + 0.5)):  # across the zebra
        x = -plan.kerb[-1] + (plan.kerb[-1] + plan.kerb[1]) * rng.random()
        z = plan.crossing - 1.2 - 2.5 * rng.random()
        things.add_at(x, z, person, head=pick(rng, (1.57, -1.57)), reach=(0.25, 0.25))

"""Who and what is in a street: the furniture and people of its sidewalks, the traffic between."""

import math

from numpy.random import Generator

from streets.borders import fence
from streets.cars import car
from streets.colours import pick
from streets.cycles import bicycle, motorcycle, parked_cycle
from streets.furniture import box, lamp, post, sign, signal
from streets.people import person
from streets.plan import Plan
from streets.plants import tree
from streets.things import Things
from streets.vehicles import bus, tram, truck

KINDS = {  # what draws it, length in metres
    "car": (car, 4.6),
    "truck": (truck, 8.8),
    "bus": (bus, 11.0),
    "tram": (tram, 22.0),
    "bicycle": (bicycle, 1.9),
    "motorcycle": (motorcycle, 2.1),
}
DRIVING = ("car",) * 40 + ("truck", "bus", "bus") + ("motorcycle", "bicycle") * 2
CROSSING = ("car",) * 16 + ("truck", "bus", "bicycle", "motorcycle")
HEADS = (0.0, math.pi, 0.3, 2.8, 1.5, -1.5)  # of those who walk on the sidewalk


def furnish(rng: Generator, plan: Plan, side: int, things: Things) -> None:
    """Add the trees, poles, signs, lights, parked cycles and people of one sidewalk."""
    kerb, walk = plan.kerb[side], plan.walk[side]
    edge = side * (kerb + 0.55)  # x of what stands along the kerb
    apart = 14 + 22 * rng.random()
    z, step = 5 + 6 * rng.random(), 5.5 + 6 * rng.random()
    while z < 110:
        if not plan.is_on_crossing(z, 3, 3):
            _add_at_kerb(rng, plan, side, edge, z, things)
        z += step * (0.7 + 0.6 * rng.random())
    x, z = edge - side * 0.1, 4 + apart * rng.random()
    while z < 120:
        things.add_at(x, z, lamp, side, half=0.12)
        z += apart
    if plan.rail[side]:
        z = 4 + 30 * rng.random() ** 2
        for _ in range(1 + int(rng.random() * 8)):
            ends = [(edge, z), (edge, z + 4)]
            if not plan.is_on_crossing(z, 4, 0):
                things.add((edge - 0.05, edge + 0.05), (z, z + 4), fence, ends, True)
            z += 4
    _add_signals(rng, plan, side, edge - side * 0.2, things)
    for _ in range(int(1 + 16 * plan.crowd * rng.random())):
        z, x = 5 + 50 * rng.random() ** 1.3, side * (kerb + 0.9 + (walk - 1.2) * rng.random())
        for i in range(1 + int(rng.random() * 2.4)):
            at = (x + i * 0.6 * side, z + 0.3 * i)
            things.add_at(*at, person, pick(rng, HEADS), half=0.25)


def _add_at_kerb(
    rng: Generator,
    plan: Plan,
    side: int,
    edge: float,
    z: float,
    things: Things,
) -> None:
    """Add a tree, a sign, a post, some parked cycles or nothing."""
    dice = rng.random()
    if dice < plan.avenue:
        x = side * (plan.kerb[side] + 0.9)
        tall, wide = 4 + 7 * rng.random(), 3 + 5 * rng.random()
        things.add_at(x, z, tree, tall, wide, plan.flora)
        return
    dice = rng.random()
    if dice > 0.4 + 0.6 * plan.clutter:
        return
    if dice < 0.25 or dice > 0.7:
        things.add_at(edge, z, sign)
    elif dice < 0.38:
        tall, apart = 0.7 + 2.5 * rng.random() ** 2, rng.uniform(1.2, 4)
        for i in range(1 + int(rng.random() * 5)):
            at = (edge, z + i * apart)
            things.add_at(*at, post, tall, rng.uniform(0.04, 0.09), half=0.1)
    elif dice < 0.42:
        things.add_at(edge, z, box)
    elif dice < 0.6:
        x = edge + side * 0.1
        for i in range(1 + int(rng.random() * 3)):
            at = (x, z + i * 0.9)
            things.add_at(*at, parked_cycle, half=0.35)


def _add_signals(rng: Generator, plan: Plan, side: int, x: float, things: Things) -> None:
    """Add traffic lights at the crossing, at times where there is none."""
    if plan.crossing is not None:
        before, after = plan.crossing - 1.2, plan.crossing + plan.wide + 1.2
        for z in (before, after):
            if rng.random() < 0.85:
                lit = z == before or rng.random() < 0.3
                things.add_at(x, z, signal, side, lit, half=0.15)
    elif rng.random() < 0.15:
        z = 10 + 20 * rng.random()
        things.add_at(x, z, signal, side, half=0.15)


def add_traffic(rng: Generator, plan: Plan, things: Things) -> None:
    """Add the vehicles, riders and pedestrians on the road."""

    def add(kind: str, x: float, z: float, head: float) -> None:
        draw, length = KINDS[kind]
        half, deep = (0.4, 1) if kind in ("bicycle", "motorcycle") else (1.25, length / 2)
        if abs(math.sin(head)) > 0.7:
            half, deep = deep, half
        head += (rng.random() - 0.5) * 0.05
        things.add_at(x, z, draw, head, half=half, deep=deep)

    for side in (-1, 1):  # parked
        x, z = side * (plan.kerb[side] - 1.15), 3 + 9 * rng.random()
        while plan.parked[side] and z < 110:
            if not plan.is_on_crossing(z, 8, 4) and rng.random() < 0.3 + 0.6 * plan.jam:
                kind = "truck" if rng.random() < 0.015 else "car"
                length = KINDS[kind][1]
                head = 0 if side > 0 or rng.random() < 0.3 else math.pi
                add(kind, x, z + length / 2, head)
                z += length
            else:
                z += 5
            z += 0.8 + 1.2 * rng.random()
    lanes = [(plan.middle + plan.lane * (i + 0.5), 0.0, 9.0) for i in range(plan.own)]
    lanes += [(plan.middle - plan.lane * (i + 0.5), math.pi, 6.0) for i in range(plan.other)]
    for x, head, first in lanes:  # driving
        z = first + 50 * rng.random()
        while z < 120:
            kind = pick(rng, DRIVING)
            length = KINDS[kind][1]
            add(kind, x + (rng.random() - 0.5) * 0.5, z + length / 2, head)
            z += length + 5 + 40 * rng.random() * (1.3 - plan.jam)
    for side, head in ((1, 0.0), (-1, math.pi)):  # bicycles keep to the side
        z = 8 + 40 * rng.random()
        while z < 60 and rng.random() < 0.5:
            x = side * (plan.kerb[side] - (2.3 if plan.parked[side] else 0) - 0.3)
            add("bicycle", x, z, head)
            z += 3 + 20 * rng.random()
    if plan.rails is not None and rng.random() < 0.8:
        add("tram", plan.rails, 23 + 34 * rng.random(), pick(rng, (0.0, math.pi)))
    if plan.crossing is None:
        return
    for part, head in ((0.3, math.pi / 2), (0.72, -math.pi / 2)):  # on the crossroad
        x, z = -30 + 12 * rng.random(), plan.crossing + plan.wide * part
        while x < 30:
            kind = pick(rng, CROSSING)
            if rng.random() < 0.42:
                add(kind, x, z, head)
            x += KINDS[kind][1] + 2 + 16 * rng.random()
    for _ in range(int(rng.random() * 5 * plan.crowd + 0.5)):  # across the zebra
        x = -plan.kerb[-1] + (plan.kerb[-1] + plan.kerb[1]) * rng.random()
        z = plan.crossing - 1.2 - 2.5 * rng.random()
        things.add_at(x, z, person, pick(rng, (1.57, -1.57)), half=0.25)

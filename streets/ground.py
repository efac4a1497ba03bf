"""The ground: road, markings, rails, sidewalks, and what is open."""

from numpy.random import Generator

from streets.canvas import ASPHALT, GRASS, SLABS, Canvas
from streets.colours import EARTH, Colour, pick, shade, tint
from streets.plan import FAR, Plan

ROAD, SIDEWALK, TERRAIN = 7, 8, 22
NEARBY = 1.6  # metres; where the ground starts
ALONG = (NEARBY, FAR)


def pave(canvas: Canvas, rng: Generator, plan: Plan) -> None:
    """Paint everything that lies flat."""
    left, right = -plan.kerb[-1], plan.kerb[1]
    canvas.strip((-400, 400), (NEARBY, 480), turf(rng, plan.green), GRASS, TERRAIN)
    for side in (-1, 1):
        _sidewalk(canvas, rng, plan, side)
    canvas.strip((left, right), ALONG, plan.road, ASPHALT, ROAD)
    for x in (left + 0.12, right - 0.42):  # the gutters
        canvas.strip((x, x + 0.3), ALONG, shade(plan.road, 0.8), ASPHALT)
    for _ in range(int(rng.random() * 4)):  # patches
        x, z = left + (right - left) * rng.random(), 5 + 25 * rng.random()
        right_edge, far = x + 1 + 1.5 * rng.random(), z + 2 + 8 * rng.random()
        patch = shade(plan.road, 0.8 + 0.3 * rng.random())
        canvas.strip((x, right_edge), (z, far), patch, ASPHALT)
    white = tint(rng, (205, 204, 196) if rng.random() < 0.85 else (214, 178, 70), 16)
    white = canvas.number(white, ASPHALT, on=0)
    _lines(canvas, rng, plan, white)
    for bed in (-0.72, 0.72) if plan.rails is not None else ():
        x = plan.rails + bed
        canvas.strip((x - 0.16, x + 0.16), ALONG, shade(plan.road, 0.85), ASPHALT)
        canvas.strip((x - 0.05, x + 0.05), ALONG, (62, 58, 56))
    if plan.crossing:
        z = plan.crossing
        canvas.strip((-120, 120), (z, z + plan.wide), plan.road, ASPHALT, ROAD)
        if rng.random() < 0.8:
            _zebra(canvas, plan, (z - 4.2, z - 1.0), white)
        canvas.strip((plan.middle + 0.1, right), (z - 5.6, z - 5.2), white)
    elif rng.random() < 0.2:
        z = 9 + 14 * rng.random()
        _zebra(canvas, plan, (z, z + 3), white)


def turf(rng: Generator, green: Colour) -> Colour:
    """The colour of open ground: grass as green as the leaves, or soil, straw, gravel."""
    return tint(rng, green if rng.random() < 0.5 else pick(rng, EARTH))


def _sidewalk(canvas: Canvas, rng: Generator, plan: Plan, side: int) -> None:
    kerb = side * plan.kerb[side]
    edge = kerb + side * plan.walk[side]
    canvas.strip((kerb, edge + side * 30), ALONG, plan.paving, SLABS, SIDEWALK)
    if plan.verge[side]:
        verge = (kerb + side * 0.3, kerb + side * plan.verge[side])
        canvas.strip(verge, ALONG, turf(rng, plan.green), GRASS, TERRAIN)
    stone = tint(rng, (176, 174, 170))
    canvas.strip((kerb, kerb + side * 0.28), ALONG, stone, label=SIDEWALK)


def _lines(canvas: Canvas, rng: Generator, plan: Plan, white: int) -> None:
    """Paint the lines between lanes, and beside parked cars: solid, dashed or worn away."""
    middle, lane = plan.middle, plan.lane
    lines = [(middle, rng.random() < 0.25)]
    lines += [(middle + lane * i, False) for i in range(1, plan.own)]
    lines += [(middle - lane * i, False) for i in range(1, plan.other)]
    for side in (-1, 1):
        if plan.parked[side] and rng.random() < 0.7:
            lines.append((side * (plan.kerb[side] - 2.2), rng.random() < 0.5))
    gap, start = 5 + 4 * rng.random(), 6 * rng.random()
    for x, solid in lines:
        if rng.random() < 0.12:
            continue
        for i in range(1 if solid else 12):
            z = NEARBY if solid else start + i * (gap + 3)
            canvas.strip((x - 0.07, x + 0.07), (z, FAR if solid else z + 3.2), white)


def _zebra(canvas: Canvas, plan: Plan, z: tuple[float, float], white: int) -> None:
    left, right = -plan.kerb[-1], plan.kerb[1]
    for i in range(int((right - left) / 1.0)):
        canvas.strip((left + 0.3 + i, left + 0.8 + i), z, white)

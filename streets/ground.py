"""The ground: road, markings, rails, sidewalks, and what is open."""

from numpy.random import Generator

from streets.canvas import ASPHALT, GRASS, Canvas
from streets.colours import EARTH, Colour, pick, shade, tint, tinted
from streets.plan import FAR, SIDES, Flora, Plan

ROAD, SIDEWALK, TERRAIN = 7, 8, 22
NEARBY = 1.6  # metres; where the ground starts
ALONG = (NEARBY, FAR)


def pave(canvas: Canvas, rng: Generator, plan: Plan) -> None:
    """Paint everything that lies flat."""
    left, right, road = -plan.kerb[-1], plan.kerb[1], plan.road
    canvas.strip((-400, 400), (NEARBY, 480), turf(rng, plan.flora), GRASS, TERRAIN)
    canvas.strip((left, right), ALONG, road, ASPHALT, ROAD)
    _wear(canvas, rng, plan)
    for side in SIDES:  # sidewalk, verge, kerb; the ground behind them is part of the lots
        kerb = side * plan.kerb[side]
        edge = kerb + side * (plan.walk[side] + 4)
        canvas.strip((kerb, edge), ALONG, plan.paving, plan.surface, SIDEWALK)
        if plan.verge[side]:
            verge = (kerb + side * 0.3, kerb + side * plan.verge[side])
            canvas.strip(verge, ALONG, turf(rng, plan.flora), GRASS, TERRAIN)
        stone = tint(rng, plan.stone)
        canvas.strip((kerb, kerb + side * rng.uniform(0.1, 0.3)), ALONG, stone, label=SIDEWALK)
        face = kerb - side * rng.uniform(0.04, 0.14)
        canvas.strip((face, kerb), ALONG, shade(stone, rng.uniform(0.4, 1.1)))
    canvas.label = ROAD
    white = _mark(canvas, rng, plan)
    for bed in (-0.72, 0.72) if plan.rails is not None else ():
        x = plan.rails + bed
        canvas.strip((x - 0.16, x + 0.16), ALONG, shade(road, 0.85), ASPHALT)
        canvas.strip((x - 0.05, x + 0.05), ALONG, (62, 58, 56))
    zebra = None
    if plan.crossing is not None:
        z = plan.crossing
        canvas.strip((-120, 120), (z, z + plan.wide), road, ASPHALT, ROAD)
        if rng.random() < 0.8:
            zebra = (z - 4.2, z - 1.0)
        canvas.strip((plan.middle + 0.1, right), (z - 5.6, z - 5.2), white)
    elif rng.random() < 0.2:
        z = 9 + 14 * rng.random()
        zebra = (z, z + 3)
    for i in range(int(right - left) if zebra else 0):
        canvas.strip((left + 0.3 + i, left + 0.8 + i), zebra, white)


def turf(rng: Generator, flora: Flora) -> Colour:
    """The colour of open ground: grass as green as the leaves, or soil, straw, gravel."""
    return tinted(rng, flora.greens if rng.random() < 0.5 else EARTH)


def _wear(canvas: Canvas, rng: Generator, plan: Plan) -> None:
    """Paint gutters, the tracks of wheels, patches, seams and covers on the road."""
    left, right, road = -plan.kerb[-1] + 0.15, plan.kerb[1] - 0.15, plan.road
    if rng.random() < 0.5:
        for x in (left, right - 0.3):
            canvas.strip((x, x + 0.3), ALONG, shade(road, rng.uniform(0.7, 1.1)), ASPHALT)
    if rng.random() < 0.5:
        track = shade(road, rng.uniform(0.85, 1.12))
        for x in (plan.middle + 0.4, plan.middle + plan.lane - 1.2):
            canvas.strip((x, x + 0.8), ALONG, track, ASPHALT)
    for _ in range(int(rng.random() * 5)):
        x, z = left + (right - left) * rng.random(), 3 + 25 * rng.random()
        wide, long = pick(rng, ((0.07, 20), (2.0, 8), (1.0, 3), (3.0, 30), (6.0, 0.4)))
        end = min(x + wide * rng.uniform(0.5, 1), right), z + long * rng.uniform(0.3, 1)
        canvas.strip((x, end[0]), (z, end[1]), shade(road, rng.uniform(0.75, 1.2)), ASPHALT)
    for _ in range(int(rng.random() * 4)):
        x, z = left + (right - left) * rng.random(), 4 + 20 * rng.random()
        canvas.strip((x, x + 0.6), (z, z + 0.6), shade(road, rng.uniform(0.5, 0.9)))


def _mark(canvas: Canvas, rng: Generator, plan: Plan) -> int:
    """Paint lines between lanes and beside parked cars, arrows, hatched areas, double lines.

    Returns the number of the paint."""
    middle, lane = plan.middle, plan.lane
    worn = rng.random() ** 2  # how much the paint is worn away
    paint = (214, 212, 206) if rng.random() < 0.85 else (214, 178, 70)
    paint = tuple(p + (r - p) * worn for p, r in zip(paint, plan.road, strict=True))
    white = canvas.number(tint(rng, paint, 16), ASPHALT)
    lines = [(middle, rng.random() < 0.25)]  # x, and whether it is solid
    lines += [(middle + lane * i, False) for i in range(1, plan.own)]
    lines += [(middle - lane * i, False) for i in range(1, plan.other)]
    for side in SIDES:
        if plan.parked[side] and rng.random() < 0.7:
            lines.append((side * (plan.kerb[side] - 2.2), rng.random() < 0.5))
    gap, start, half = 1 + 8 * rng.random(), 6 * rng.random(), rng.uniform(0.04, 0.09)
    dash = rng.uniform(1, 5)
    for x, solid in lines:
        dashes = [(z, z + dash) for z in (start + i * (gap + dash) for i in range(12))]
        if rng.random() >= 0.2:
            for z in [ALONG] if solid else dashes:
                canvas.strip((x - half, x + half), z, white)
    if rng.random() < 0.3:
        x, z = middle + lane / 2, 6 + 20 * rng.random()
        canvas.strip((x - 0.1, x + 0.1), (z, z + 2.5), white)
        canvas.poly([(x - 0.5, 0, z + 2.5), (x + 0.5, 0, z + 2.5), (x, 0, z + 4.5)], white)
    if rng.random() < 0.25:
        x, z, slant = middle - 0.6, 5 + 20 * rng.random(), rng.uniform(-2, 2)
        for a in (z + i * 1.6 for i in range(8)):
            corners = [(x, 0, a), (x, 0, a + 0.5), (x + 1.2, 0, a + 0.5 + slant)]
            canvas.poly([*corners, (x + 1.2, 0, a + slant)], white)
    if rng.random() < 0.3:
        yellow = canvas.number(tint(rng, (200, 170, 70), 30), ASPHALT)
        for side in SIDES:
            for x in (side * (plan.kerb[side] - away) for away in (0.25, 0.5)):
                canvas.strip((x - 0.05, x + 0.05), ALONG, pick(rng, (white, yellow, yellow)))
    return white

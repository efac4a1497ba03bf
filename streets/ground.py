"""The ground: road, markings, rails, sidewalks, and what is open."""

from numpy.random import Generator

from streets.canvas import ASPHALT, GRASS, Canvas
from streets.colours import EARTH, Colour, pick, shade, tint, tinted
from streets.plan import FAR, Flora, Plan

ROAD, SIDEWALK, TERRAIN = 7, 8, 22
NEARBY = 1.6  # metres; where the ground starts
ALONG = (NEARBY, FAR)


def pave(canvas: Canvas, rng: Generator, plan: Plan) -> None:
    """Paint everything that lies flat."""
    left, right = -plan.kerb[-1], plan.kerb[1]
    canvas.strip((-400, 400), (NEARBY, 480), turf(rng, plan.flora), GRASS, TERRAIN)
    canvas.strip((left, right), ALONG, plan.road, ASPHALT, ROAD)
    _wear(canvas, rng, plan)
    for side in (-1, 1):
        _sidewalk(canvas, rng, plan, side)
    canvas.label = ROAD
    worn = rng.random() ** 2  # how much the paint of the markings is worn away
    paint = (214, 212, 206) if rng.random() < 0.85 else (214, 178, 70)
    paint = tuple(p + (r - p) * worn for p, r in zip(paint, plan.road, strict=True))
    white = canvas.number(tint(rng, paint, 16), ASPHALT)
    _lines(canvas, rng, plan, white)
    _signs_on_road(canvas, rng, plan, white)
    for bed in (-0.72, 0.72) if plan.rails is not None else ():
        x = plan.rails + bed
        canvas.strip((x - 0.16, x + 0.16), ALONG, shade(plan.road, 0.85), ASPHALT)
        canvas.strip((x - 0.05, x + 0.05), ALONG, (62, 58, 56))
    if plan.crossing is not None:
        z = plan.crossing
        canvas.strip((-120, 120), (z, z + plan.wide), plan.road, ASPHALT, ROAD)
        if rng.random() < 0.8:
            _zebra(canvas, plan, (z - 4.2, z - 1.0), white)
        canvas.strip((plan.middle + 0.1, right), (z - 5.6, z - 5.2), white)
    elif rng.random() < 0.2:
        z = 9 + 14 * rng.random()
        _zebra(canvas, plan, (z, z + 3), white)


def turf(rng: Generator, flora: Flora) -> Colour:
    """The colour of open ground: grass as green as the leaves, or soil, straw, gravel."""
    return tinted(rng, flora.greens if rng.random() < 0.5 else EARTH)


def _sidewalk(canvas: Canvas, rng: Generator, plan: Plan, side: int) -> None:
    """Paint a sidewalk, its verge and its kerb; the ground behind it is part of the lots."""
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


def _signs_on_road(canvas: Canvas, rng: Generator, plan: Plan, white: int) -> None:
    """Paint arrows, hatched areas, bars and double lines along the kerb."""
    if rng.random() < 0.3:
        x, z = plan.middle + plan.lane / 2, 6 + 20 * rng.random()
        canvas.strip((x - 0.1, x + 0.1), (z, z + 2.5), white)
        head = [(x - 0.5, 0, z + 2.5), (x + 0.5, 0, z + 2.5), (x, 0, z + 4.5)]
        canvas.poly(head, white)
    if rng.random() < 0.25:
        x, z, slant = plan.middle - 0.6, 5 + 20 * rng.random(), rng.uniform(-2, 2)
        for i in range(8):
            a = z + i * 1.6
            corners = [(x, 0, a), (x, 0, a + 0.5), (x + 1.2, 0, a + 0.5 + slant)]
            canvas.poly([*corners, (x + 1.2, 0, a + slant)], white)
    if rng.random() < 0.3:
        yellow = canvas.number(tint(rng, (200, 170, 70), 30), ASPHALT)
        for side in (-1, 1):
            for away in (0.25, 0.5):
                x = side * (plan.kerb[side] - away)
                canvas.strip((x - 0.05, x + 0.05), ALONG, pick(rng, (white, yellow, yellow)))


def _lines(canvas: Canvas, rng: Generator, plan: Plan, white: int) -> None:
    """Paint the lines between lanes, and beside parked cars: solid, dashed or worn away."""
    middle, lane = plan.middle, plan.lane
    lines = [(middle, rng.random() < 0.25)]
    lines += [(middle + lane * i, False) for i in range(1, plan.own)]
    lines += [(middle - lane * i, False) for i in range(1, plan.other)]
    for side in (-1, 1):
        if plan.parked[side] and rng.random() < 0.7:
            lines.append((side * (plan.kerb[side] - 2.2), rng.random() < 0.5))
    gap, start, half = 1 + 8 * rng.random(), 6 * rng.random(), rng.uniform(0.04, 0.09)
    dash = rng.uniform(1, 5)
    for x, solid in lines:
        if rng.random() < 0.2:
            continue
        for i in range(1 if solid else 12):
            z = NEARBY if solid else start + i * (gap + dash)
            canvas.strip((x - half, x + half), (z, FAR if solid else z + dash), white)


def _zebra(canvas: Canvas, plan: Plan, z: tuple[float, float], white: int) -> None:
    left, right = -plan.kerb[-1], plan.kerb[1]
    for i in range(int((right - left) / 1.0)):
        canvas.strip((left + 0.3 + i, left + 0.8 + i), z, white)

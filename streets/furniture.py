"""Street furniture, and who and what else is on a sidewalk.

side: on which side of the road, -1 is left, 1 is right."""

import math

from numpy.random import Generator

from streets.colours import INK, METALS, PAINTS, PALE, Colour, palette, pick, shade, tint, tinted
from streets.lots import draw_fence
from streets.people import parked_cycle, person
from streets.plan import Plan
from streets.plants import tree
from streets.solids import Solid, Things, circle

STATIC, POLE, LIGHT, SIGN = 4, 17, 19, 20
SIGN_RED, SIGN_GREY = palette("be1e24 787878")
DISC, TRIANGLE = circle(16), ((-1, -0.6), (1, -0.6), (0, 1))
DIAMOND, SQUARE = ((-1, 0), (0, -1), (1, 0), (0, 1)), ((-1, -1), (1, -1), (1, 1), (-1, 1))


def _faces(*rows: str) -> list[tuple[Colour, ...]]:
    """The colours of signs: the plate, its rim, what is on it."""
    return [palette(row) for row in rows]


DISCS = _faces("e4e4e0 be1e24 28282c", "1e4ca5 e4e4e0 e4e4e0", "be1e24 e4e4e0 e4e4e0")
WARNINGS = _faces("e4e4e0 be1e24 28282c", "ecbe32 28282c 28282c")
BOARDS = _faces("1e4ca5 ebebe6 ebebe6", "ecbe32 28282c 28282c", "ebebe6 28282c 28282c")
BOARDS += _faces("1e6448 ebebe6 ebebe6", "ebebe6 be1e24 be1e24", "2c3036 ebebe6 ebebe6")
SIGNS = (  # outline, colours, half width in metres, height as a part of the width
    (DISC, DISCS, (0.28, 0.45), (1.0, 1.0)),
    (DISC, DISCS, (0.28, 0.45), (1.0, 1.0)),
    (TRIANGLE, WARNINGS, (0.35, 0.55), (0.9, 1.0)),
    (DIAMOND, _faces("ecbe32 ebebe6 ecbe32"), (0.35, 0.5), (1.0, 1.0)),
    (SQUARE, BOARDS, (0.25, 0.45), (0.8, 1.4)),
    (SQUARE, BOARDS, (0.5, 1.3), (0.25, 0.8)),
)
LAMPS = palette("f0281e fab41e 3ce678")  # of a traffic light, downwards
HEADS = (0.0, math.pi, 0.3, 2.8, 1.5, -1.5)  # of those who walk on the sidewalk


def lamp(it: Solid, rng: Generator, side: int) -> None:
    """Draw a street lamp that leans over the road."""
    it.begin(POLE, rng.uniform(0.1, 0.9))
    tall, thick = rng.uniform(3.5, 11), rng.uniform(0.045, 0.1)
    it.cast(0.07, 0.07, tall)
    metal = it.canvas.number(tinted(rng, METALS))
    it.bar([(0, 0, 0), (0, 1.0, 0)], thick * rng.uniform(1.0, 1.8), metal)
    it.bar([(0, 0, 0), (0, tall, 0)], thick, metal)
    reach, high = rng.uniform(0.3, 2.5), tall + rng.uniform(-0.1, 0.8)
    bulb, glow = ((250, 225, 170), 1.0) if it.canvas.lamps_lit else ((150, 150, 150), 0.0)
    for way in (-side, side) if rng.random() < 0.15 else (-side,):
        end = way * reach
        it.bar([(0, tall - 0.1, 0), (0, high, end / 2), (0, high, end)], thick * 0.6, metal)
        it.bar([(0, high, end), (0, high - 0.05, end + way * 0.6)], 0.08, bulb, glow=glow)


def post(it: Solid, rng: Generator, tall: float, radius: float = 0.05) -> None:
    """Draw a plain post or bollard."""
    it.begin(POLE, rng.uniform(0.1, 0.9))
    it.cast(0.05, 0.05, tall)
    it.bar([(0, 0, 0), (0, tall, 0)], radius, tinted(rng, METALS))
    if tall < 1.5 and rng.random() < 0.4:  # a bollard with a band
        up = tall * rng.uniform(0.7, 0.9)
        it.bar([(0, up, 0), (0, up + 0.12, 0)], radius * 1.1, pick(rng, (PALE, SIGN_RED, INK)))


def box(it: Solid, rng: Generator) -> None:
    """Draw a bin, a switch box or a letter box, which the benchmark ignores."""
    it.begin(STATIC, rng.uniform(0.1, 0.9))
    wide, tall, colour = rng.uniform(0.2, 0.6), rng.uniform(0.7, 1.5), tinted(rng, PAINTS + METALS)
    it.cast(wide, wide, tall)
    for start, paint in ((0, colour), (tall * 0.9, shade(colour, 1.2))):
        it.face([(0, start, -wide), (0, tall, -wide), (0, tall, wide), (0, start, wide)], paint)


def sign(it: Solid, rng: Generator) -> None:
    """Draw traffic signs on a post: one or two, at times seen from their back."""
    high = rng.uniform(1.6, 3.0)
    post(it, rng, high + 0.3, rng.uniform(0.03, 0.06))
    it.canvas.label, back = SIGN, rng.random() < 0.15
    for _ in range(1 if rng.random() < 0.7 else 2):
        outline, colours, widths, ratios = pick(rng, SIGNS)
        wide = rng.uniform(*widths)
        tall = wide * rng.uniform(*ratios)
        colour, rim, ink = (SIGN_GREY, METALS[0], SIGN_GREY) if back else pick(rng, colours)
        for size, paint in ((1.0, rim), (rng.uniform(0.7, 0.95), colour)):
            plate = [(0, high + b * tall * size, a * wide * size) for a, b in outline]
            it.face(plate, tint(rng, paint, 30))
        for _ in range(0 if back else 1 + int(rng.random() * 4)):  # a bar, an arrow, text
            a, b = (wide * 0.6 * rng.uniform(-0.9, 0.9) for _ in range(2))
            c, d = (high + tall * 0.55 * rng.uniform(-0.9, 0.9) for _ in range(2))
            path = [(0, c, a), (0, c, b)] if rng.random() < 0.5 else [(0, c, a), (0, d, a)]
            it.bar(path, rng.uniform(0.02, 0.06), ink)
        high -= tall + 0.45


def signal(it: Solid, rng: Generator, side: int, lit: bool = True) -> None:
    """Draw a traffic light on its pole, at times with a second one over the road.

    lit: whether its front, with the lamp that is on, points to the camera."""
    tall, over = rng.uniform(2.4, 3.6), rng.random() < 0.35
    pole = 5.6 if over else tall + rng.uniform(-0.3, 0.8)
    post(it, rng, pole, rng.uniform(0.04, 0.08))
    heads = [(0, tall)]
    if over:
        it.bar([(0, 5.5, 0), (0, 5.6, -side * 3.6)], 0.06, (80, 82, 84))
        heads.append((-side * 3.4, 5.3))
    it.canvas.label, phase = LIGHT, int(rng.random() * 3)
    wide, backing = rng.uniform(0.14, 0.24), rng.random() < 0.3
    for across, up in heads:
        if backing:
            it.bar([(0, up - 0.7, across), (0, up + 0.7, across)], wide * 1.5, (20, 20, 22))
        it.bar([(0, up - 0.55, across), (0, up + 0.55, across)], wide, (26, 28, 28))
        for i, colour in enumerate(LAMPS):
            on = lit and i == phase
            paint, radius = colour if on else shade(colour, 0.15), wide * 0.6
            it.ball((0, up + 0.36 - 0.36 * i, across), radius, radius, paint, glow=1.0 * on)


def furnish(rng: Generator, plan: Plan, side: int, things: Things) -> None:
    """Add the trees, poles, signs, lights, parked cycles and people of one sidewalk."""
    kerb, walk, crossing = plan.kerb[side], plan.walk[side], plan.crossing
    edge = side * (kerb + 0.55)  # x of what stands along the kerb
    apart = 14 + 22 * rng.random()
    z, step = 5 + 6 * rng.random(), 5.5 + 6 * rng.random()
    while z < 110:
        if not plan.is_on_crossing(z, 3, 3):
            _add_at_kerb(rng, plan, side, z, things)
        z += step * (0.7 + 0.6 * rng.random())
    z = 4 + apart * rng.random()
    while z < 120:
        things.add_at(edge - side * 0.1, z, lamp, side, reach=(0.12, 0.12))
        z += apart
    if plan.rail[side]:
        z = 4 + 30 * rng.random() ** 2
        for _ in range(1 + int(rng.random() * 8)):
            if not plan.is_on_crossing(z, 4, 0):
                x, ends = (edge - 0.05, edge + 0.05), [(edge, z), (edge, z + 4)]
                things.add(x, (z, z + 4), draw_fence, things.canvas, rng, ends, True)
            z += 4
    x = edge - side * 0.2
    if crossing is not None:
        for z in (crossing - 1.2, crossing + plan.wide + 1.2):
            if rng.random() < 0.85:
                lit = z < crossing or rng.random() < 0.3
                things.add_at(x, z, signal, side, lit, reach=(0.15, 0.15))
    elif rng.random() < 0.15:
        things.add_at(x, 10 + 20 * rng.random(), signal, side, reach=(0.15, 0.15))
    for _ in range(int(1 + 16 * plan.crowd * rng.random())):
        z, x = 5 + 50 * rng.random() ** 1.3, side * (kerb + 0.9 + (walk - 1.2) * rng.random())
        for i in range(1 + int(rng.random() * 2.4)):
            at, head = (x + i * 0.6 * side, z + 0.3 * i), pick(rng, HEADS)
            things.add_at(*at, person, head=head, reach=(0.25, 0.25))


def _add_at_kerb(rng: Generator, plan: Plan, side: int, z: float, things: Things) -> None:
    """Add a tree, a sign, a post, some parked cycles or nothing."""
    kerb = plan.kerb[side]
    edge = side * (kerb + 0.55)
    if rng.random() < plan.avenue:
        tall, wide = 4 + 7 * rng.random(), 3 + 5 * rng.random()
        things.add_at(side * (kerb + 0.9), z, tree, tall, wide, plan.flora)
        return
    dice = rng.random()
    if dice > 0.4 + 0.6 * plan.clutter:
        return
    if dice < 0.25 or dice > 0.7:
        things.add_at(edge, z, sign)
    elif dice < 0.38:
        tall, apart = 0.7 + 2.5 * rng.random() ** 2, rng.uniform(1.2, 4)
        for i in range(1 + int(rng.random() * 5)):
            thick = rng.uniform(0.04, 0.09)
            things.add_at(edge, z + i * apart, post, tall, thick, reach=(0.1, 0.1))
    elif dice < 0.42:
        things.add_at(edge, z, box)
    elif dice < 0.6:
        for i in range(1 + int(rng.random() * 3)):
            things.add_at(edge + side * 0.1, z + i * 0.9, parked_cycle, reach=(0.35, 0.35))

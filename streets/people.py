"""People on foot, and bicycles and motorcycles: ridden, or left on the sidewalk."""

from numpy.random import Generator

from streets.canvas import SPOKES
from streets.colours import CHROME, CLOTHES, PAINTS, TYRE, Colour, palette, pick, shade, tinted
from streets.solids import Solid, circle

PERSON, RIDER, MOTORCYCLE, BICYCLE = 24, 25, 32, 33
SOOT, BLACK = palette("28282a 1e1c1c")
TROUSERS, VESTS = CLOTHES[:9], palette("dce63c f0781e")
SKIN = palette("e8bea0 cea080 a07052 6e4a36 deb296")
HAIR = palette("1e1814 46301e 826034 b09664 787674 32243c")


def person(it: Solid, rng: Generator) -> None:
    """Draw somebody who stands or walks."""
    it.begin(PERSON, rng.uniform(0.2, 0.8))
    # 1 is an adult of 1.75 m
    size = rng.uniform(0.92, 1.08) if rng.random() > 0.1 else rng.uniform(0.55, 0.8)
    girth = rng.uniform(0.85, 1.3) * size
    coat, trousers = tinted(rng, CLOTHES), tinted(rng, TROUSERS)
    stride = 0.36 * rng.random() * size  # from the middle to a foot
    facing = Solid(it.canvas, it.x, it.z)  # has what looks the same from any side
    facing.cast(0.2, 0.2, 1.7 * size)
    thick, shin = rng.uniform(0.06, 0.09) * girth, shade(trousers, rng.uniform(0.8, 1.0))
    if rng.random() < 0.12:  # a skirt
        shin = tinted(rng, SKIN)
    for side in (-1, 1):
        step, apart, factor = side * stride, side * rng.uniform(0.05, 0.1), 1 + 0.1 * side
        knee = (step * 0.6, 0.47 * size, apart)
        it.bar([(0, 0.88 * size, apart), knee], thick * 1.15, shade(trousers, factor))
        it.bar([knee, (step, 0.05, apart)], thick * 0.85, shade(shin, factor))
        it.ball((step + 0.05, 0.04, apart), 0.1, 0.05, BLACK)
    bag = rng.random()
    if bag < 0.15:  # a rucksack, or a child on the arm
        it.ball((-0.16, 1.2 * size, 0), 0.19 * size, 0.26 * size, tinted(rng, CLOTHES))
    sleeve, bent, skin = shade(coat, rng.uniform(0.7, 1.0)), rng.random() < 0.3, tinted(rng, SKIN)
    for side in (-1, 1):
        elbow = (-side * stride * 0.5, 1.1 * size, side * 0.25 * girth)
        hand = (-side * stride * 0.6 + 0.08, 0.85 * size, side * 0.24 * girth)
        if bent:
            hand = (0.25, rng.uniform(1.0, 1.4) * size, side * 0.12 * girth)
        it.bar([(0, 1.38 * size, side * 0.2 * girth), elbow, hand], 0.052 * girth, sleeve)
        it.ball(hand, 0.05 * size, 0.06 * size, skin)
    _draw_torso(facing, rng, size, girth, coat)
    _draw_head(facing, rng, size, shows_face=abs(it.head) > 1.2)
    if 0.15 < bag < 0.35:  # carried in a hand
        side, colour = pick(rng, (-1, 1)), tinted(rng, CLOTHES)
        low, tall = rng.uniform(0.35, 0.6), rng.uniform(0.15, 0.4)
        inner, outer, high = side * 0.2 * girth, side * 0.42 * girth, low + tall
        facing.face([(0, low, inner), (0, low, outer), (0, high, outer), (0, high, inner)], colour)
    elif bag > 0.97:  # an umbrella
        facing.bar([(0, 1.2 * size, 0.15), (0, 2.1 * size, 0)], 0.02, BLACK)
        roof = [(0, 1.85 * size + 0.3 * b, 0.55 * a) for a, b in circle(16)[:9]]
        facing.face(roof, tinted(rng, PAINTS))


def _draw_torso(facing: Solid, rng: Generator, size: float, girth: float, coat: Colour) -> None:
    """Draw a jacket, a shirt, a long coat or a dress."""
    hem = rng.uniform(0.78, 0.9) if rng.random() < 0.7 else rng.uniform(0.35, 0.75)
    wide = rng.uniform(0.15, 0.2) + 0.1 * max(0.8 - hem, 0)
    half = [(wide, hem), (0.17, 1.02), (0.2, 1.25), (0.21, 1.36), (0.15, 1.45), (0.06, 1.5)]
    clothes, dice = [(half + [(-w, up) for w, up in reversed(half)], coat)], rng.random()
    if dice < 0.2:  # open in front, over a shirt
        shirt = [(-0.05, hem), (0.05, hem), (0.04, 1.45), (-0.04, 1.45)]
        clothes.append((shirt, tinted(rng, CLOTHES)))
    elif dice < 0.35:  # a stripe, or a vest that is seen from afar
        low = rng.uniform(0.95, 1.3)
        high = min(low + rng.uniform(0.05, 0.3), 1.4)
        stripe = [(-0.19, low), (0.19, low), (0.19, high), (-0.19, high)]
        clothes.append((stripe, tinted(rng, CLOTHES + VESTS)))
    for outline, colour in clothes:
        facing.face([(0, up * size, w * girth) for w, up in outline], colour)


def _draw_head(facing: Solid, rng: Generator, size: float, shows_face: bool) -> None:
    """Draw a head with hair, a cap or a hood."""
    w, up = rng.uniform(-0.04, 0.04), 1.62 * size
    hair, skin = tinted(rng, HAIR), tinted(rng, SKIN)
    cover = tinted(rng, CLOTHES) if rng.random() < 0.25 else hair
    long = 0.06 if rng.random() < 0.35 else 0.0
    facing.bar([(0, up - 0.22 * size, w), (0, up, w)], 0.055 * size, skin)
    facing.ball((0, up + (0.02 - long) * size, w), 0.105 * size, (0.13 + long) * size, cover)
    if shows_face:
        w += rng.uniform(-0.03, 0.03)
        facing.ball((0, up - 0.015 * size, w), 0.085 * size, 0.105 * size, skin)


# Where a rider sits: hips, hands and feet; along, up and, of hands and feet, across to each side.
BICYCLE_SEAT = (-0.22, 1.0), (0.34, 1.06, 0.26), (-0.05, 0.22, 0.13)
MOTORCYCLE_SEAT = (-0.25, 0.95), (0.42, 1.08, 0.34), (0.0, 0.3, 0.24)


def bicycle(it: Solid, rng: Generator, ridden: bool = True) -> None:
    """Draw a bicycle, and its rider."""
    it.begin(BICYCLE, rng.uniform(0.4, 0.9))
    paint = it.canvas.number(tinted(rng, PAINTS))
    it.cast(0.9, 0.15, 1.7 if ridden else 0.9)
    for along in (-0.55, 0.55):
        _draw_wheel(it, along, 0.34, 0.035)
    hub, pedal, saddle = (-0.55, 0.36, 0), (-0.08, 0.32, 0), (-0.22, 0.9, 0)
    stem, axle, bars = (0.36, 0.86, 0), (0.55, 0.36, 0), (0.32, 1.04, 0)
    for path in ((hub, pedal, saddle, hub), (pedal, stem, saddle), (stem, axle), (stem, bars)):
        it.bar(path, 0.032, paint)
    it.bar([(0.34, 1.04, -0.28), (0.34, 1.04, 0.28)], 0.03, SOOT)
    it.bar([(-0.36, 0.95, 0), (-0.1, 0.95, 0)], 0.06, BLACK)
    if rng.random() < 0.4:  # a basket
        it.rect(-0.6, (0.55, 0.85), (-0.18, 0.18), tinted(rng, PAINTS))
    if ridden:
        _draw_rider(it, rng, BICYCLE_SEAT, helmet=rng.random() < 0.5)


def motorcycle(it: Solid, rng: Generator, ridden: bool = True) -> None:
    """Draw a motorcycle or scooter, and its rider."""
    it.begin(MOTORCYCLE, rng.uniform(0.4, 0.9))
    paint = tinted(rng, PAINTS)
    it.cast(1, 0.3, 1.6 if ridden else 1.0)
    for along in (-0.72, 0.72):
        _draw_wheel(it, along, 0.3, 0.07)
        it.bar([(along, 0, 0), (along, 0.6, 0)], 0.09, TYRE)
    black, seat, engine = (44, 44, 44), (36, 34, 34), (50, 50, 50)
    body = [(-0.5, 0.25, 0.16, black), (-0.95, 0.75, 0.15, paint), (-0.8, 0.88, 0.18, seat)]
    body += [(0.05, 0.82, 0.2, paint), (0.2, 0.98, 0.22, paint), (0.62, 0.98, 0.2, paint)]
    it.extrude([*body, (0.75, 0.6, 0.2, engine), (0.4, 0.25, 0.18, None)], paint)
    it.bar([(0.7, 0.32, 0), (0.45, 1.1, 0)], 0.05, CHROME)
    it.bar([(0.42, 1.1, -0.38), (0.42, 1.1, 0.38)], 0.04, SOOT)
    for side in (-1, 1):
        it.ball((0.42, 1.2, side * 0.42), 0.08, 0.06, (60, 60, 64))
    along, lamp = (-0.97, (210, 30, 26)) if it.cos > 0 else (0.8, (250, 244, 220))
    it.rect(along, (0.68, 0.84), (-0.12, 0.12), lamp, glow=0.8)
    if ridden:
        _draw_rider(it, rng, MOTORCYCLE_SEAT, helmet=True)


def parked_cycle(it: Solid, rng: Generator) -> None:
    """Draw a bicycle, at times a motorcycle, left on the sidewalk."""
    draw, head, turn = (motorcycle, 0, 2) if rng.random() < 0.3 else (bicycle, 1.57, 1.6)
    head += (rng.random() - 0.5) * turn
    draw(Solid(it.canvas, it.x, it.z, head), rng, ridden=False)


def _draw_wheel(it: Solid, along: float, radius: float, tyre: float) -> None:
    """Draw a thin wheel, with spokes that one sees through."""
    rim = [(along + radius * a, radius + 0.02 + radius * b, 0) for a, b in circle(16)]
    it.face(rim, CHROME, material=SPOKES)
    it.bar([*rim, rim[0]], tyre, TYRE)


def _draw_rider(it: Solid, rng: Generator, seat: tuple, helmet: bool) -> None:
    """Draw somebody who rides the cycle `it`."""
    it.canvas.label = RIDER
    coat, legs = tinted(rng, CLOTHES), tinted(rng, TROUSERS)
    girth = rng.uniform(0.85, 1.25)
    (along, up), hands, feet = seat
    neck = (along + rng.uniform(0.12, 0.36), up + rng.uniform(0.5, 0.6))
    lifts = (0.22, 0.0) if rng.random() < 0.5 else (0.05, 0.18)
    for side, lift in zip((-1, 1), lifts, strict=True):
        knee = (along + 0.36, up - 0.22 + lift, side * 0.14)
        leg = [(along, up, side * 0.1), knee, (feet[0], feet[1] + lift, side * feet[2])]
        it.bar(leg, 0.08 * girth, shade(legs, 1 + 0.1 * side))
        it.ball(leg[2], 0.1, 0.05, BLACK)
    middle = ((along + neck[0]) / 2 - 0.03, (up + neck[1]) / 2)
    it.bar([(along, up - 0.08, 0), (*middle, 0)], 0.17 * girth, shade(coat, 0.9))
    it.bar([(*middle, 0), (*neck, 0)], 0.19 * girth, coat)
    if rng.random() < 0.25:
        it.ball((middle[0] - 0.15, middle[1] + 0.1, 0), 0.2, 0.26, tinted(rng, CLOTHES))
    for side in (-1, 1):
        shoulder = (neck[0], neck[1] - 0.04, side * 0.19 * girth)
        elbow = (hands[0] - 0.2, hands[1] + 0.08, side * 0.28 * girth)
        arm = [shoulder, elbow, (*hands[:2], side * hands[2])]
        it.bar(arm, 0.055 * girth, shade(coat, rng.uniform(0.8, 1.0)))
    it.ball((neck[0] + 0.06, neck[1] + 0.19, 0), 0.1, 0.13, tinted(rng, SKIN))
    top = tinted(rng, PAINTS if helmet else HAIR)
    it.ball((neck[0] + 0.03, neck[1] + 0.24, 0), 0.125, 0.115, top)

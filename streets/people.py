"""People on foot, and those who ride."""

import math
from typing import NamedTuple

from numpy.random import Generator

from streets.canvas import Canvas
from streets.colours import BLACK, CLOTHES, HAIR, PAINTS, SKIN, TROUSERS, Colour, pick, shade, tint
from streets.solids import Solid

PERSON, RIDER = 24, 25
VESTS = ((220, 230, 60), (240, 120, 30))


class Build(NamedTuple):
    """How somebody is built, and walks."""

    size: float  # 1 is an adult of 1.75 m
    girth: float
    stride: float  # from the middle to a foot, in metres


class Seat(NamedTuple):
    """Where a rider sits: hips, hands and feet; heights and distances in metres."""

    hips: tuple[float, float]  # along, up
    hands: tuple[float, float, float]  # along, up, across to each side
    feet: tuple[float, float, float]


def person(canvas: Canvas, rng: Generator, x: float, z: float, head: float) -> None:
    """Draw somebody who stands or walks at (x, z) towards `head`, see `solids.Solid`."""
    canvas.begin(PERSON, x, z, 0.2 + 0.6 * rng.random())
    size = rng.uniform(0.92, 1.08) if rng.random() > 0.1 else rng.uniform(0.55, 0.8)
    girth = rng.uniform(0.85, 1.3) * size
    it = Solid(canvas, x, z, head)
    coat, legs = tint(rng, pick(rng, CLOTHES)), tint(rng, pick(rng, TROUSERS))
    build = Build(size, girth, 0.36 * rng.random() * size)
    canvas.cast(Solid(canvas, x, z).footprint(0.2, 0.2), 1.7 * size)
    _legs(it, rng, build, legs)
    bag = rng.random()
    if bag < 0.15:  # a rucksack, or a child on the arm
        it.ball((-0.16, 1.2 * size, 0), 0.19 * size, 0.26 * size, tint(rng, pick(rng, CLOTHES)))
    _arms(it, rng, build, shade(coat, rng.uniform(0.7, 1.0)))
    _torso(it, rng, build, coat)
    at = (x + rng.uniform(-0.04, 0.04), 1.62 * size, z)
    _head(canvas, rng, at, size, face=abs(head) > 1.2)
    if 0.15 < bag < 0.35:  # carried in a hand
        side, colour = pick(rng, (-1, 1)), tint(rng, pick(rng, CLOTHES))
        up, tall = rng.uniform(0.35, 0.6), rng.uniform(0.15, 0.4)
        corners = [(x + side * 0.2 * girth, up, z), (x + side * 0.42 * girth, up, z)]
        corners += [(u, up + tall, z) for u, _, _ in reversed(corners)]
        canvas.poly(corners, colour)
    elif bag > 0.97:  # an umbrella
        top = (x, 2.1 * size, z)
        canvas.tube([(x + 0.15, 1.2 * size, z), top], 0.02, BLACK)
        arc = [(math.cos(i * math.pi / 8), math.sin(i * math.pi / 8)) for i in range(9)]
        roof = [(x + 0.55 * a, 1.85 * size + 0.3 * b, z) for a, b in arc]
        canvas.poly(roof, tint(rng, pick(rng, PAINTS)))


def _legs(it: Solid, rng: Generator, build: Build, colour: Colour) -> None:
    """Draw legs in trousers, or below a skirt."""
    size, girth, stride = build
    thick, shin = rng.uniform(0.06, 0.09) * girth, shade(colour, rng.uniform(0.8, 1.0))
    if rng.random() < 0.12:
        shin = tint(rng, pick(rng, SKIN))
    for side in (-1, 1):
        step, apart = side * stride, side * rng.uniform(0.05, 0.1)
        knee = (step * 0.6, 0.47 * size, apart)
        it.bar([(0, 0.88 * size, apart), knee], thick * 1.15, shade(colour, 1 + 0.1 * side))
        it.bar([knee, (step, 0.05, apart)], thick * 0.85, shade(shin, 1 + 0.1 * side))
        it.ball((step + 0.05, 0.04, apart), 0.1, 0.05, BLACK)


def _arms(it: Solid, rng: Generator, build: Build, colour: Colour) -> None:
    """Draw arms that swing, hang or are bent."""
    size, girth, stride = build
    bent, skin = rng.random() < 0.3, tint(rng, pick(rng, SKIN))
    for side in (-1, 1):
        step = -side * stride
        elbow = (step * 0.5, 1.1 * size, side * 0.25 * girth)
        hand = (step * 0.6 + 0.08, 0.85 * size, side * 0.24 * girth)
        if bent:
            hand = (0.25, rng.uniform(1.0, 1.4) * size, side * 0.12 * girth)
        it.bar([(0, 1.38 * size, side * 0.2 * girth), elbow, hand], 0.052 * girth, colour)
        it.ball(hand, 0.05 * size, 0.06 * size, skin)


def _torso(it: Solid, rng: Generator, build: Build, coat: Colour) -> None:
    """Draw a jacket, a shirt, a long coat or a dress, as seen from any side."""

    def cloth(outline: list[tuple[float, float]], colour: Colour) -> None:
        corners = [(it.x + w * build.girth, up * build.size, it.z) for w, up in outline]
        it.canvas.poly(corners, colour)

    hem = rng.uniform(0.78, 0.9) if rng.random() < 0.7 else rng.uniform(0.35, 0.75)
    wide = rng.uniform(0.15, 0.2) + 0.1 * max(0.8 - hem, 0)
    half = [(wide, hem), (0.17, 1.02), (0.2, 1.25), (0.21, 1.36), (0.15, 1.45), (0.06, 1.5)]
    cloth(half + [(-w, up) for w, up in reversed(half)], coat)
    dice = rng.random()
    if dice < 0.2:  # open in front, over a shirt
        shirt = [(-0.05, hem), (0.05, hem), (0.04, 1.45), (-0.04, 1.45)]
        cloth(shirt, tint(rng, pick(rng, CLOTHES)))
    elif dice < 0.35:  # a stripe, or a vest that is seen from afar
        low = rng.uniform(0.95, 1.3)
        high = min(low + rng.uniform(0.05, 0.3), 1.4)
        stripe = [(-0.19, low), (0.19, low), (0.19, high), (-0.19, high)]
        cloth(stripe, tint(rng, pick(rng, CLOTHES + VESTS)))


def _head(
    canvas: Canvas, rng: Generator, at: tuple[float, float, float], size: float, face: bool
) -> None:
    """Draw a head with hair, a cap or a hood; face: whether it shows."""
    x, y, z = at
    hair, skin = tint(rng, pick(rng, HAIR)), tint(rng, pick(rng, SKIN))
    cover = tint(rng, pick(rng, CLOTHES)) if rng.random() < 0.25 else hair
    long = 0.06 if rng.random() < 0.35 else 0.0
    canvas.tube([(x, y - 0.22 * size, z), (x, y, z)], 0.055 * size, skin)
    canvas.ball((x, y + (0.02 - long) * size, z), 0.105 * size, (0.13 + long) * size, cover)
    if face:
        turn = rng.uniform(-0.03, 0.03)
        canvas.ball((x + turn, y - 0.015 * size, z), 0.085 * size, 0.105 * size, skin)


def rider(it: Solid, rng: Generator, seat: Seat, helmet: bool) -> None:
    """Draw somebody who rides the cycle `it`."""
    it.canvas.label = RIDER
    coat, legs = tint(rng, pick(rng, CLOTHES)), tint(rng, pick(rng, TROUSERS))
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
        it.ball((middle[0] - 0.15, middle[1] + 0.1, 0), 0.2, 0.26, tint(rng, pick(rng, CLOTHES)))
    for side in (-1, 1):
        shoulder = (neck[0], neck[1] - 0.04, side * 0.19 * girth)
        elbow = (hands[0] - 0.2, hands[1] + 0.08, side * 0.28 * girth)
        arm = [shoulder, elbow, (*hands[:2], side * hands[2])]
        it.bar(arm, 0.055 * girth, shade(coat, rng.uniform(0.8, 1.0)))
    it.ball((neck[0] + 0.06, neck[1] + 0.19, 0), 0.1, 0.13, tint(rng, pick(rng, SKIN)))
    top = tint(rng, pick(rng, PAINTS if helmet else HAIR))
    it.ball((neck[0] + 0.03, neck[1] + 0.24, 0), 0.125, 0.115, top)

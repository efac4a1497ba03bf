"""People on foot, and those who ride."""

from typing import NamedTuple

from numpy.random import Generator

from streets.canvas import Canvas, square
from streets.colours import BLACK, CLOTHES, HAIR, PAINTS, SKIN, TROUSERS, pick, shade, tint
from streets.solids import Solid

PERSON, RIDER = 24, 25


class Seat(NamedTuple):
    """Where a rider sits: hips, hands and feet; heights and distances in metres."""

    hips: tuple[float, float]  # along, up
    hands: tuple[float, float, float]  # along, up, across to each side
    feet: tuple[float, float, float]


def person(canvas: Canvas, rng: Generator, x: float, z: float, head: float) -> None:
    """Draw somebody who stands or walks at (x, z) towards `head`, see `solids.Solid`."""
    canvas.begin(PERSON, x, z, 0.4 + 0.5 * rng.random())
    size = 0.92 + 0.16 * rng.random() if rng.random() > 0.1 else 0.65  # of an adult, of a child
    it = Solid(canvas, x, z, head)
    coat, legs = tint(rng, pick(rng, CLOTHES)), tint(rng, pick(rng, TROUSERS))
    stride, skirt = 0.36 * rng.random() * size, rng.random() < 0.25
    canvas.cast(square(x, z, 0.2), 1.7 * size)
    for side in (-1, 1):
        step = side * stride
        leg = [(0, 0.9 * size, side * 0.09), (step * 0.6, 0.47 * size, side * 0.1)]
        it.bar([*leg, (step, 0.04, side * 0.1)], 0.085 * size, shade(legs, 1 + 0.1 * side))
        it.ball((step + 0.05, 0.04, side * 0.1), 0.11, 0.05, BLACK)
    for side in (-1, 1):
        step = -side * stride
        arm = [(0, 1.4 * size, side * 0.22), (step * 0.5, 1.12 * size, side * 0.27)]
        arm.append((step * 0.6 + 0.08, 0.86 * size, side * 0.26))
        it.bar(arm, 0.06 * size, shade(coat, 0.85))
    torso = [(0.84 * 0.19, 0.62 if skirt else 0.84), (0.2, 1.1), (0.24, 1.4), (0.1, 1.5)]
    outline = torso + [(-wide, up) for wide, up in reversed(torso)]
    canvas.poly([(x + wide * size, up * size, z) for wide, up in outline], coat)
    hair = tint(rng, pick(rng, HAIR))
    canvas.ball((x, 1.64 * size, z), 0.115 * size, 0.15 * size, hair)
    if abs(head) > 1.2:  # the face shows
        skin = tint(rng, pick(rng, SKIN))
        canvas.ball((x, 1.61 * size, z), 0.1 * size, 0.125 * size, skin)
    if rng.random() < 0.25:
        bag = tint(rng, pick(rng, CLOTHES))
        it.ball((-0.15, 1.2 * size, 0), 0.18 * size, 0.24 * size, bag)


def rider(it: Solid, rng: Generator, seat: Seat, helmet: bool) -> None:
    """Draw somebody who rides the cycle `it`."""
    it.canvas.label = RIDER
    coat, legs = tint(rng, pick(rng, CLOTHES)), tint(rng, pick(rng, TROUSERS))
    (along, up), hands, feet = seat
    neck = (along + 0.28, up + 0.56)
    for side, lift in ((-1, 0.22), (1, 0.0)):
        leg = [(along, up, side * 0.1), (along + 0.36, up - 0.22 + lift, side * 0.15)]
        leg.append((feet[0], feet[1] + lift, side * feet[2]))
        it.bar(leg, 0.09, shade(legs, 1 + 0.1 * side))
    it.bar([(along, up - 0.08, 0), (*neck, 0)], 0.19, coat)
    for side in (-1, 1):
        arm = [(neck[0], neck[1] - 0.06, side * 0.2)]
        arm.append((hands[0] - 0.2, hands[1] + 0.08, side * 0.3))
        it.bar([*arm, (*hands[:2], side * hands[2])], 0.06, shade(coat, 0.85))
    it.ball((neck[0] + 0.06, neck[1] + 0.2, 0), 0.11, 0.14, tint(rng, pick(rng, SKIN)))
    top = tint(rng, pick(rng, PAINTS if helmet else HAIR))
    it.ball((neck[0] + 0.03, neck[1] + 0.25, 0), 0.14, 0.13, top)

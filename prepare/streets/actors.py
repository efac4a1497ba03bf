"""Everything that stands or moves in a street, except vehicles on four wheels.

Each function draws one thing onto a `canvas.Canvas`.  rng: numpy Generator; (x, z): where it
touches the ground, in metres; `head`: the direction it points to, in radians, 0 is away from the
camera; `side`: on which side of the road it stands, -1 or 1; tall, wide: metres.
"""

import math
from functools import cache

import numpy as np

from prepare.streets.canvas import BODIES, LEAVES, pick, shade, tint
from prepare.streets.photo import noise
from prepare.streets.vehicles import CHROME, TYRE, frame, panel, solid

POLE, LIGHT, SIGN, VEGETATION = 17, 19, 20, 21
PERSON, RIDER, MOTORCYCLE, BICYCLE = 24, 25, 32, 33
# fmt: off
CLOTHES = (
    (30, 32, 38), (52, 56, 66), (40, 52, 88), (96, 98, 104), (150, 40, 44), (190, 184, 172),
    (64, 86, 60), (120, 84, 56), (170, 120, 60), (70, 110, 150), (200, 90, 60), (110, 60, 110),
    (222, 222, 218), (210, 190, 70),
)
# fmt: on
PALE, INK = (235, 235, 230), (40, 40, 44)
BOARDS = (((30, 84, 170), PALE), ((236, 190, 50), INK), (PALE, INK), ((30, 110, 80), PALE))
METALS = ((84, 88, 90), (60, 62, 64), (126, 128, 128), (70, 80, 72))
SKIN = ((232, 190, 160), (206, 160, 128), (160, 112, 82), (110, 74, 54), (222, 178, 150))
HAIR = ((30, 24, 20), (70, 48, 30), (130, 96, 52), (176, 150, 100), (120, 118, 116), (50, 36, 60))


def square(x, z, half):
    """The corners of a square footprint around (x, z)."""
    return [(x + a * half, z + b * half) for a in (-1, 1) for b in (-1, 1)]


def person(canvas, rng, x, z, head):
    """Draw somebody who stands or walks."""
    canvas.begin(PERSON, x, z, 0.4 + 0.5 * rng.random())
    k = 0.92 + 0.16 * rng.random() if rng.random() > 0.1 else 0.65
    place = frame(x, z, head)
    coat, legs = tint(rng, pick(rng, CLOTHES)), tint(rng, pick(rng, CLOTHES[:9]))
    stride, swing = 0.36 * rng.random() * k, rng.random() < 0.25
    canvas.cast(square(x, z, 0.2), 1.7 * k)
    for s in (-1, 1):
        canvas.tube(
            [
                place(0, 0.9 * k, s * 0.09),
                place(s * stride * 0.6, 0.47 * k, s * 0.1),
                place(s * stride, 0.04, s * 0.1),
            ],
            0.085 * k,
            shade(legs, 1 + 0.1 * s),
        )
        canvas.ball(*place(s * stride + 0.05, 0.04, s * 0.1), 0.11, 0.05, (30, 28, 28))
    hem = 0.62 if swing else 0.84
    for s in (-1, 1):
        arm = [
            place(0, 1.4 * k, s * 0.22),
            place(-s * stride * 0.5, 1.12 * k, s * 0.27),
            place(-s * stride * 0.6 + 0.08, 0.86 * k, s * 0.26),
        ]
        canvas.tube(arm, 0.06 * k, shade(coat, 0.85))
    torso = [(0.84 * 0.19, hem), (0.2, 1.1), (0.24, 1.4), (0.1, 1.5)]
    ring = [(w, y) for w, y in torso] + [(-w, y) for w, y in reversed(torso)]
    canvas.poly([(x + w * k, y * k, z) for w, y in ring], coat)
    face = abs(head) > 1.2
    canvas.ball(x, 1.64 * k, z, 0.115 * k, 0.15 * k, tint(rng, pick(rng, HAIR)))
    if face:
        canvas.ball(x, 1.61 * k, z, 0.1 * k, 0.125 * k, tint(rng, pick(rng, SKIN)))
    if rng.random() < 0.25:
        canvas.ball(*place(-0.15, 1.2 * k, 0), 0.18 * k, 0.24 * k, tint(rng, pick(rng, CLOTHES)))


def sit(canvas, rng, place, seat, bars, foot, helmet):
    """Draw a rider: hips at `seat`, hands at `bars`, feet at `foot`, all (along, up, across)."""
    canvas.label = RIDER
    coat, legs = tint(rng, pick(rng, CLOTHES)), tint(rng, pick(rng, CLOTHES[:9]))
    neck = (seat[0] + 0.28, seat[1] + 0.56)
    for s, lift in ((-1, 0.22), (1, 0.0)):
        leg = [
            place(seat[0], seat[1], s * 0.1),
            place(seat[0] + 0.36, seat[1] - 0.22 + lift, s * 0.15),
            place(foot[0], foot[1] + lift, s * foot[2]),
        ]
        canvas.tube(leg, 0.09, shade(legs, 1 + 0.1 * s))
    canvas.tube([place(seat[0], seat[1] - 0.08, 0), place(neck[0], neck[1], 0)], 0.19, coat)
    for s in (-1, 1):
        arm = [
            place(neck[0], neck[1] - 0.06, s * 0.2),
            place(bars[0] - 0.2, bars[1] + 0.08, s * 0.3),
            place(bars[0], bars[1], s * bars[2]),
        ]
        canvas.tube(arm, 0.06, shade(coat, 0.85))
    canvas.ball(*place(neck[0] + 0.06, neck[1] + 0.2, 0), 0.11, 0.14, tint(rng, pick(rng, SKIN)))
    canvas.ball(
        *place(neck[0] + 0.03, neck[1] + 0.25, 0),
        0.14,
        0.13,
        tint(rng, pick(rng, BODIES if helmet else HAIR)),
    )


def bicycle(canvas, rng, x, z, head, ridden, ground):
    """Draw a bicycle, and its rider; `ground` is the colour seen through the wheels."""
    canvas.begin(BICYCLE, x, z, 0.4 + 0.5 * rng.random())
    place, paint = frame(x, z, head), tint(rng, pick(rng, BODIES))
    canvas.cast(
        [place(a, 0, w)[::2] for a in (-0.9, 0.9) for w in (-0.15, 0.15)], 1.7 if ridden else 0.9
    )
    for a in (-0.55, 0.55):
        ring(canvas, place, a, 0.34, 0.035, shade(ground, 0.85))
    hub, pedal, saddle, stem = (-0.55, 0.36), (-0.08, 0.32), (-0.22, 0.9), (0.36, 0.86)
    for path in (
        (hub, pedal, saddle, hub),
        (pedal, stem, saddle),
        (stem, (0.55, 0.36)),
        (stem, (0.32, 1.04)),
    ):
        canvas.tube([place(a, y, 0) for a, y in path], 0.032, paint)
    canvas.tube([place(0.34, 1.04, -0.28), place(0.34, 1.04, 0.28)], 0.03, (40, 40, 42))
    canvas.tube([place(-0.36, 0.95, 0), place(-0.1, 0.95, 0)], 0.06, (30, 28, 28))
    if rng.random() < 0.4:
        panel(canvas, place, -0.6, 0.55, 0.85, -0.18, 0.18, tint(rng, pick(rng, BODIES)))
    if ridden:
        sit(
            canvas,
            rng,
            place,
            (-0.22, 1.0),
            (0.34, 1.06, 0.26),
            (-0.05, 0.22, 0.13),
            rng.random() < 0.5,
        )


def motorcycle(canvas, rng, x, z, head, ridden):
    """Draw a motorcycle or scooter, and its rider."""
    canvas.begin(MOTORCYCLE, x, z, 0.4 + 0.5 * rng.random())
    place, paint = frame(x, z, head), tint(rng, pick(rng, BODIES))
    canvas.cast([place(a, 0, w)[::2] for a in (-1, 1) for w in (-0.3, 0.3)], 1.6 if ridden else 1.0)
    for a in (-0.72, 0.72):
        ring(canvas, place, a, 0.3, 0.07, (60, 60, 62))
        canvas.tube([place(a, 0, 0), place(a, 0.6, 0)], 0.09, TYRE)
    solid(
        canvas,
        place,
        [
            (-0.5, 0.25, 0.16),
            (-0.95, 0.75, 0.15),
            (-0.8, 0.88, 0.18),
            (0.05, 0.82, 0.2),
            (0.2, 0.98, 0.22),
            (0.62, 0.98, 0.2),
            (0.75, 0.6, 0.2),
            (0.4, 0.25, 0.18),
        ],
        [(44,) * 3, paint, (36, 34, 34), paint, paint, paint, (50,) * 3, None],
        paint,
    )
    canvas.tube([place(0.7, 0.32, 0), place(0.45, 1.1, 0)], 0.05, CHROME)
    canvas.tube([place(0.42, 1.1, -0.38), place(0.42, 1.1, 0.38)], 0.04, (40, 40, 42))
    for s in (-1, 1):
        canvas.ball(*place(0.42, 1.2, s * 0.42), 0.08, 0.06, (60, 60, 64))
    away = math.cos(head) > 0
    panel(
        canvas,
        place,
        -0.97 if away else 0.8,
        0.68,
        0.84,
        -0.12,
        0.12,
        (210, 30, 26) if away else (250, 244, 220),
        glow=0.8,
    )
    if ridden:
        sit(canvas, rng, place, (-0.25, 0.95), (0.42, 1.08, 0.34), (0.0, 0.3, 0.24), True)


def ring(canvas, place, along, radius, tyre, fill):
    """Draw a thin wheel; `fill` is what is seen between the spokes."""
    points = [
        place(
            along + radius * math.cos(i * math.pi / 8),
            radius + 0.02 + radius * math.sin(i * math.pi / 8),
            0,
        )
        for i in range(17)
    ]
    canvas.poly(points, fill)
    canvas.tube(points, tyre, TYRE)


def tree(canvas, rng, x, z, tall, wide, colour):
    """Draw a tree of `tall` metres with a crown `wide` metres across."""
    canvas.begin(VEGETATION, x, z, 0.5)
    canvas.cast(square(x, z, 0.2), tall * 0.5)
    if canvas.sun:
        sx, sz = x + canvas.sun[0] * tall * 0.6, z + canvas.sun[1] * tall * 0.6
        for _ in range(9 if z < 35 else 1):  # boughs; from afar, the whole crown
            size = wide * (0.12 + 0.14 * rng.random() if z < 35 else 0.4)
            a, b = sx + (rng.random() - 0.5) * wide * 0.6, sz + (rng.random() - 0.5) * wide * 0.6
            canvas.cast(
                [(a + size * math.cos(i * 0.63), b + size * math.sin(i * 0.63)) for i in range(10)],
                0,
                dark=210,
            )
    foot = min(2.8, tall * 0.33)
    bark = tint(rng, (86, 72, 58))
    lean = (rng.random() - 0.5) * 0.5
    canvas.tube([(x, 0, z), (x + lean, tall * 0.6, z)], 0.10 + 0.012 * tall, bark)
    paints = leaves(canvas, tint(rng, colour, 30), 0.35 + 0.5 * rng.random())
    canvas.stamp(
        crown(int(rng.random() * 6)), paints, x + lean, (foot + tall) / 2, z, wide, tall - foot
    )


def bush(canvas, rng, x, z, tall, wide, colour):
    """Draw a bush, a piece of hedge or a far tree whose trunk is hidden."""
    canvas.begin(VEGETATION, x, z, 0.5)
    paints = leaves(canvas, tint(rng, colour, 26), 0.3 + 0.5 * rng.random())
    canvas.stamp(crown(int(rng.random() * 6)), paints, x, tall * 0.45, z, wide, tall * 1.25)


def leaves(canvas, colour, lit=0.7):
    """The four paints of a crown, dark to bright."""
    canvas.lit = lit
    return [canvas.number(shade(colour, k), LEAVES) for k in (0.6, 0.82, 1.0, 1.22)]


@cache
def crown(form):
    """A leafy crown in levels: 128 x 128 uint8, 0 outside, 1 (dark) to 4 (bright) inside."""
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    rough = noise(1.2, 128, seed=10 + form)
    fine = noise(0.5, 128, seed=30 + form)
    taper = (1 + (0.25 + 0.35 * (form % 3 == 1)) * y) ** -1 if form % 3 != 2 else 1
    inside = np.hypot(x * taper, y) + 0.11 * rough + 0.05 * fine < 0.80
    tone = 1.6 - 1.2 * y - 0.35 * x + 0.9 * rough + 0.55 * fine
    return (inside * np.clip(tone + 1, 1, 4)).astype(np.uint8)


def lamp(canvas, rng, x, z, side):
    """Draw a street lamp that leans over the road."""
    canvas.begin(POLE, x, z, 0.3 + 0.5 * rng.random())
    tall, colour = 5 + 3 * rng.random(), tint(rng, pick(rng, METALS))
    canvas.cast(square(x, z, 0.07), tall)
    n = canvas.number(colour)
    canvas.tube([(x, 0, z), (x, 1.0, z)], 0.12, n)
    canvas.tube([(x, 0, z), (x, tall, z)], 0.075, n)
    if rng.random() < 0.7:
        canvas.tube([(x, tall - 0.1, z), (x - side * 1.5, tall + 0.25, z)], 0.05, n)
        canvas.tube(
            [(x - side * 1.3, tall + 0.22, z), (x - side * 2.0, tall + 0.2, z)],
            0.1,
            (250, 225, 170),
            glow=1.0,
        )


def post(canvas, rng, x, z, tall, radius=0.05):
    """Draw a plain post or bollard."""
    canvas.begin(POLE, x, z, 0.3 + 0.5 * rng.random())
    canvas.cast(square(x, z, 0.05), tall)
    canvas.tube([(x, 0, z), (x, tall, z)], radius, tint(rng, pick(rng, METALS)))


def sign(canvas, rng, x, z):
    """Draw a traffic sign on its post."""
    high = 2.2 + 0.5 * rng.random()
    post(canvas, rng, x, z, high + 0.3)
    canvas.label, r, kind = SIGN, 0.40 + 0.1 * rng.random(), rng.random()
    if kind < 0.3:  # a prohibition
        for k, colour in ((1, (196, 30, 34)), (0.72, (232, 232, 228))):
            canvas.ball(x, high, z, r * k, r * k, colour)
        canvas.tube([(x - 0.15, high, z), (x + 0.15, high, z)], 0.055, INK)
    elif kind < 0.5:  # a warning
        for k, colour in ((1.15, (196, 30, 34)), (0.7, (232, 232, 228))):
            canvas.poly(
                [
                    (x - r * k, high - r * k * 0.6, z),
                    (x + r * k, high - r * k * 0.6, z),
                    (x, high + r * k, z),
                ],
                colour,
            )
    elif kind < 0.65:  # an order
        canvas.ball(x, high, z, r, r, (30, 80, 170))
        canvas.tube([(x, high - r * 0.5, z), (x, high + r * 0.5, z)], 0.06, (232, 232, 230))
    elif kind < 0.75:  # priority
        for k, colour in ((1.15, (235, 235, 230)), (0.8, (236, 186, 30))):
            canvas.poly(
                [
                    (x - r * k, high, z),
                    (x, high - r * k, z),
                    (x + r * k, high, z),
                    (x, high + r * k, z),
                ],
                colour,
            )
    else:  # a board
        w, h = (0.35, 0.35) if kind < 0.88 else (0.8, 0.3)
        colour, ink = pick(rng, BOARDS)
        for k, c in ((1, ink), (0.88, colour)):
            canvas.poly(
                [
                    (x + a * w * k, high + b * h * k, z)
                    for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))
                ],
                c,
            )
        canvas.tube([(x - w * 0.5, high, z), (x + w * 0.5, high, z)], 0.05, ink)


def signal(canvas, rng, x, z, side, away=True):
    """Draw a traffic light on its pole, at times with a second one over the road."""
    tall = 3.1 + 0.4 * rng.random()
    over = rng.random() < 0.5
    post(canvas, rng, x, z, 5.6 if over else tall, 0.075)
    heads = [(x, tall)]
    if over:
        canvas.tube([(x, 5.5, z), (x - side * 3.6, 5.6, z)], 0.06, (80, 82, 84))
        heads.append((x - side * 3.4, 5.3))
    canvas.label, phase = LIGHT, int(rng.random() * 3)
    for a, y in heads:
        canvas.tube([(a, y - 0.58, z), (a, y + 0.58, z)], 0.22, (26, 28, 28))
        for i, colour in enumerate(((240, 40, 30), (250, 180, 30), (60, 230, 120))):
            on = i == phase and away
            canvas.ball(
                a,
                y + 0.36 - 0.36 * i,
                z,
                0.14,
                0.14,
                colour if on else shade(colour, 0.2),
                glow=1.0 if on else 0,
            )

"""Vehicles on four wheels or more, and the solids they are made of.

(x, z) is the middle of a thing on the ground, in metres; `head` is the direction it points to, in
radians: 0 is away from the camera, pi / 2 to the right.  A thing has coordinates of its own, too:
(along, up, across), which `frame` takes to the street's.
"""

import math

from prepare.streets.canvas import BODIES, pick, shade, tint

CAR, TRUCK, BUS, TRAIN = 26, 27, 28, 31
GLASS, TYRE, CHROME, DARK = (46, 54, 64), (26, 26, 28), (150, 152, 156), (52, 52, 56)
RED, WHITE, AMBER, PLATE = (200, 26, 22), (250, 244, 220), (240, 165, 50), (226, 226, 216)

# half length, half width, height of belt and roof, cabin from and to at belt, at roof
CARS = (
    (2.4, 0.95, 1.15, 2.05, -2.38, 1.75, -2.3, 1.05),  # van
    (2.25, 0.89, 0.92, 1.43, -1.75, 1.05, -1.05, 0.3),  # saloon
    (2.25, 0.89, 0.92, 1.43, -1.75, 1.05, -1.05, 0.3),
    (2.25, 0.92, 1.0, 1.62, -2.2, 1.1, -1.95, 0.35),  # estate
    (1.9, 0.86, 0.95, 1.48, -1.82, 1.0, -1.45, 0.25),  # hatchback
    (1.9, 0.86, 0.95, 1.48, -1.82, 1.0, -1.45, 0.25),
)


def frame(x, z, head):
    """The function that takes (along, up, across) of a thing to (x, y, z) of the street."""
    sin, cos = math.sin(head), math.cos(head)
    return lambda a, y, w: (x + a * sin + w * cos, y, z + a * cos - w * sin)


def solid(canvas, place, profile, colours, flank):
    """Draw a profile [(along, up, half width)] extruded across, as far as the camera sees it.

    colours: one for each edge of the profile, None to leave it out; flank: that of the sides.
    Returns which side the camera sees: -1, 1, or 0 when it looks straight at an end."""

    def seen(p, q, r):  # whether a face, given so that its normal points inwards, is seen
        (px, py, pz), (qx, qy, qz), (rx, ry, rz) = (
            (x + canvas.bend * z * z, y - canvas.eye, z) for x, y, z in (p, q, r)
        )
        ux, uy, uz, vx, vy, vz = qx - px, qy - py, qz - pz, rx - qx, ry - qy, rz - qz
        return (uy * vz - uz * vy) * px + (uz * vx - ux * vz) * py + (ux * vy - uy * vx) * pz > 0

    faces = []
    for (a0, y0, w0), (a1, y1, w1), colour in zip(
        profile, profile[1:] + profile[:1], colours, strict=True
    ):
        quad = [place(a0, y0, w0), place(a1, y1, w1), place(a1, y1, -w1), place(a0, y0, -w0)]
        if colour and seen(*quad[:3]):
            faces.append((quad[0][2] + quad[1][2], quad, colour))
    for _, quad, colour in sorted(faces, key=lambda face: -face[0]):
        canvas.poly(quad, colour)
    for side in (-1, 1):
        w = side * profile[0][2]
        if seen(place(side, 0, w), place(side, 1, w), place(-side, 1, w)):
            canvas.poly([place(a, y, side * w) for a, y, w in profile], flank)
            return side
    return 0


def panel(canvas, place, along, y0, y1, w0, w1, colour, glow=0.0):
    """Draw an upright rectangle across a thing: lamps, plates, windscreens; none at along = 0."""
    if along:
        canvas.poly(
            [
                place(along, y0, w0),
                place(along, y1, w0),
                place(along, y1, w1),
                place(along, y0, w1),
            ],
            colour,
            glow=glow,
        )


def slab(canvas, place, a0, a1, y0, y1, across, colour):
    """Draw an upright rectangle along a side: windows, doors, stripes; none at across = 0."""
    if across:
        canvas.poly(
            [
                place(a0, y0, across),
                place(a0, y1, across),
                place(a1, y1, across),
                place(a1, y0, across),
            ],
            colour,
        )


def wheel(canvas, place, along, radius, across):
    """Draw a wheel seen from its side; none at across = 0."""
    for r, colour in ((radius, TYRE), (radius * 0.58, (118, 120, 124))) if across else ():
        canvas.poly(
            [
                place(
                    along + r * math.cos(i * math.pi / 7),
                    radius + r * math.sin(i * math.pi / 7),
                    across,
                )
                for i in range(14)
            ],
            colour,
        )


def lamps(canvas, place, half, wide, low, high):
    """Draw the lamps of the end that is seen: red at the back, white in front.

    Returns where the end is: -half, half, or 0 when neither is seen."""
    (x, _, z), (xa, _, za) = place(0, 0, 0), place(1, 0, 0)
    x += canvas.bend * z * z
    dot = (xa - place(0, 0, 0)[0]) * x + (za - z) * z  # how far ahead the camera is, negated
    if abs(dot) < half:
        return 0
    end = math.copysign(half * 1.004, -dot)
    for side in (-1, 1):
        panel(
            canvas,
            place,
            end,
            low,
            high,
            side * wide * 0.68,
            side * wide * 0.95,
            RED if dot > 0 else WHITE,
            glow=0.55 if dot > 0 else 0.9,
        )
    return end


def stand(canvas, place, half, wide, tall, axles):
    """Cast the shadow of a vehicle and draw the wheels that show between it and the road."""
    corners = [place(a, 0, w) for a in (-half, half) for w in (-wide, wide)]
    canvas.cast([(x, z) for x, _, z in corners], tall)
    for a in axles:
        for side in (-1, 1):
            panel(canvas, place, a, 0, 0.5, side * (wide - 0.28), side * (wide - 0.04), TYRE)


def car(canvas, rng, x, z, head):
    """Draw a hatchback, saloon, estate or van."""
    canvas.begin(CAR, x, z, 0.55 + 0.35 * rng.random())
    place, kind, body = frame(x, z, head), pick(rng, CARS), tint(rng, pick(rng, BODIES))
    half, wide, belt, roof, b0, b1, t0, t1 = kind
    dim, bright = shade(body, 0.88), shade(body, 1.15)
    stand(canvas, place, half, wide, roof, (-half + 0.3, half - 0.3))
    side = solid(
        canvas,
        place,
        [
            (-half, 0.26, wide),
            (-half - 0.04, 0.62, wide),
            (-half + 0.05, belt, wide * 0.97),
            (b1, belt, wide * 0.97),
            (half - 0.15, belt - 0.16, wide * 0.95),
            (half, 0.6, wide),
            (half - 0.03, 0.26, wide),
        ],
        [dim, body, bright, bright, body, dim, None],
        shade(body, 0.92),
    )
    solid(
        canvas,
        place,
        [
            (b0, belt, wide * 0.94),
            (t0, roof, wide * 0.8),
            (t1, roof, wide * 0.8),
            (b1, belt, wide * 0.94),
        ],
        [GLASS, bright, GLASS, None],
        shade(body, 0.9),
    )
    w = side * wide
    if side and canvas.scale(z) > 24:  # near enough for its windows to be told apart
        for f0, f1 in ((0.66, 0.95),) if kind is CARS[0] else ((0.06, 0.47), (0.53, 0.94)):
            low, top = belt + 0.03, roof - 0.14 * (roof - belt)
            canvas.poly(
                [
                    place(b0 + (b1 - b0) * f0, low, w * 0.93),
                    place(t0 + (t1 - t0) * f0, top, w * 0.82),
                    place(t0 + (t1 - t0) * f1, top, w * 0.82),
                    place(b0 + (b1 - b0) * f1, low, w * 0.93),
                ],
                GLASS,
            )
        slab(canvas, place, -half + 0.1, half - 0.1, 0.24, 0.34, w, shade(body, 0.45))
        slab(canvas, place, b0 * 0.1, b0 * 0.1 + 0.03, 0.4, belt, w * 1.002, shade(body, 0.6))
    for a in (-half * 0.62, half * 0.64):
        wheel(canvas, place, a, 0.33, w * 1.005)
    end = lamps(canvas, place, half, wide, 0.62, belt - 0.1)
    panel(canvas, place, end, 0.26, 0.42, -wide, wide, shade(body, 0.5))
    panel(canvas, place, end * 1.003, 0.45, 0.57, -0.27, 0.27, PLATE if end < 0 else DARK)


def bus(canvas, rng, x, z, head):
    """Draw a city bus, 11 m long."""
    canvas.begin(BUS, x, z, 0.6 + 0.3 * rng.random())
    body = tint(rng, pick(rng, BODIES + ((232, 226, 210), (230, 180, 40))))
    place, half, wide, tall = frame(x, z, head), 5.5, 1.27, 3.05
    stand(canvas, place, half, wide, tall, (-half + 0.6, half - 0.6))
    dim = shade(body, 0.85)
    side = solid(
        canvas,
        place,
        [
            (-half, 0.32, wide),
            (-half, tall - 0.15, wide),
            (-half + 0.2, tall, wide * 0.94),
            (half - 0.2, tall, wide * 0.94),
            (half, tall - 0.15, wide),
            (half, 0.32, wide),
        ],
        [dim, body, shade(body, 1.1), body, dim, None],
        shade(body, 0.95),
    )
    w = side * wide * 1.002
    slab(canvas, place, -half + 0.3, half - 0.15, 1.25, 2.45, w, GLASS)
    for i in range(8):
        a = -half + 0.3 + i * 1.31
        slab(canvas, place, a, a + 0.09, 1.2, 2.5, w * 1.001, shade(body, 0.7))
    for a in (-half * 0.15, half * 0.72):
        slab(canvas, place, a, a + 1.2, 0.38, 2.4, w * 1.002, shade(GLASS, 1.25))
    slab(canvas, place, -half, half, 0.7, 0.95, w * 1.001, pick(rng, BODIES))
    for a in (-half * 0.55, half * 0.52):
        wheel(canvas, place, a, 0.48, w * 1.003)
    end = lamps(canvas, place, half, wide, 0.72, 0.98)
    panel(canvas, place, end, 1.2, 2.5, -wide * 0.93, wide * 0.93, GLASS)
    panel(canvas, place, end * 1.001, 2.58, 2.92, -wide * 0.75, wide * 0.75, (30, 26, 20))
    panel(canvas, place, end * 1.002, 2.66, 2.84, -wide * 0.5, wide * 0.35, AMBER, glow=0.9)
    if end > 0:
        panel(canvas, place, end * 1.002, 1.2, 2.5, -0.03, 0.03, shade(body, 0.7))


def truck(canvas, rng, x, z, head):
    """Draw a lorry: a cab and a box."""
    canvas.begin(TRUCK, x, z, 0.6 + 0.3 * rng.random())
    place, body = frame(x, z, head), tint(rng, pick(rng, BODIES))
    cargo = tint(rng, pick(rng, BODIES + ((225, 225, 222), (196, 176, 150)) * 2), 34)
    half, wide, tall = 3.6 + 0.8 * rng.random(), 1.23, 3.2 + 0.5 * rng.random()
    stand(canvas, place, half, wide, tall, (-half + 0.9, half - 0.8))
    cut, stripe = half - 2.0, pick(rng, BODIES)

    def box():
        side = solid(
            canvas,
            place,
            [(-half, 0.85, wide), (-half, tall, wide), (cut, tall, wide), (cut, 0.85, wide)],
            [shade(cargo, 0.88), shade(cargo, 1.1), shade(cargo, 0.8), None],
            shade(cargo, 0.96),
        )
        w = side * wide * 1.002
        slab(canvas, place, -half, cut, 0.6, 0.9, w, DARK)
        slab(canvas, place, -half * 0.7, cut - 0.6, 1.5, 2.2, w, stripe)
        for a in (-half * 0.72, -half * 0.45):
            wheel(canvas, place, a, 0.48, w * 1.003)
        if lamps(canvas, place, half, wide, 0.55, 0.8) < 0:
            panel(canvas, place, -half * 1.002, 0.9, tall - 0.08, -0.04, 0.04, shade(cargo, 0.55))
            for s in (-1, 1):
                panel(canvas, place, -half * 1.002, 1.0, tall - 0.2, s * 0.35, s * 0.39, CHROME)
            panel(canvas, place, -half * 1.002, 0.55, 0.85, -wide * 0.6, wide * 0.6, DARK)

    def cab():
        side = solid(
            canvas,
            place,
            [
                (cut + 0.15, 0.5, wide * 0.97),
                (cut + 0.15, 2.6, wide * 0.95),
                (half - 0.3, 2.6, wide * 0.93),
                (half, 1.5, wide * 0.97),
                (half, 0.4, wide),
            ],
            [None, shade(body, 1.1), GLASS, shade(body, 0.9), None],
            shade(body, 0.95),
        )
        w = side * wide
        slab(canvas, place, half - 1.3, half - 0.35, 1.5, 2.3, w * 0.98, GLASS)
        wheel(canvas, place, half - 1.0, 0.48, w * 1.003)
        if lamps(canvas, place, half, wide, 0.6, 0.85) > 0:
            panel(canvas, place, half * 1.004, 0.95, 1.35, -0.8, 0.8, shade(body, 0.5))

    for part in (cab, box) if math.cos(head) > -0.2 else (box, cab):
        part()


def tram(canvas, rng, x, z, head):
    """Draw a tram, 22 m long, with its pantograph."""
    canvas.begin(TRAIN, x, z, 0.6 + 0.3 * rng.random())
    body = tint(rng, pick(rng, BODIES + ((220, 205, 150), (200, 40, 40))))
    trim = tint(rng, pick(rng, BODIES + ((236, 232, 220),) * 4))
    place, half, wide, tall = frame(x, z, head), 11.0, 1.0, 3.35
    stand(canvas, place, half, wide, tall, ())
    top = half * 0.4 * (-1 if math.cos(head) > 0 else 1)
    canvas.tube(
        [place(top - 0.6, tall, 0), place(top, tall + 0.7, 0), place(top, tall + 1.3, 0)],
        0.04,
        DARK,
    )
    canvas.tube([place(top, tall + 1.3, -0.8), place(top, tall + 1.3, 0.8)], 0.05, DARK)
    side = solid(
        canvas,
        place,
        [
            (-half, 0.18, wide),
            (-half - 0.1, 1.2, wide),
            (-half + 0.7, tall, wide * 0.85),
            (half - 0.7, tall, wide * 0.85),
            (half + 0.1, 1.2, wide),
            (half, 0.18, wide),
        ],
        [body, GLASS, shade(trim, 1.1), GLASS, body, None],
        shade(body, 0.9),
    )
    w = side * wide
    slab(canvas, place, -half + 0.7, half - 0.7, 1.2, tall, w, trim)
    slab(canvas, place, -half + 0.8, half - 0.8, 1.35, 2.6, w * 1.002, GLASS)
    for i in range(12):
        a = -half + 0.8 + i * (2 * half - 1.6) / 11
        slab(canvas, place, a - 0.07, a + 0.07, 1.3, 2.65, w * 1.003, trim)
        if i % 4 == 2:
            slab(canvas, place, a - 0.7, a + 0.7, 0.3, 2.6, w * 1.004, shade(GLASS, 1.3))
    end = lamps(canvas, place, half, wide, 0.72, 0.95)
    panel(canvas, place, end * 0.955, tall - 0.5, tall - 0.2, -0.55, 0.55, AMBER, glow=0.8)
    panel(canvas, place, end, 0.2, 0.45, -wide * 0.95, wide * 0.95, DARK)

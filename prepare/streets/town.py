"""The town: ground and markings, houses, gardens, parks, walls, fences, the skyline.

street: the plan of `scene.plan`.  b: where a lot begins, x in metres; side: -1 is left, 1 is right;
z0, z1: where it starts and ends along the street; tall: metres; green: the colour of leaves."""

from prepare.streets import actors
from prepare.streets.canvas import (
    ASPHALT,
    BARS,
    BODIES,
    BRICK,
    FACADE,
    GRASS,
    SLABS,
    pick,
    shade,
    tint,
)

ROAD, SIDEWALK, BUILDING, WALL, FENCE, TERRAIN = 7, 8, 11, 12, 13, 22
FAR = 170.0  # metres; where the street ends
NEARBY = 1.6  # metres; where the ground starts
# fmt: off
WALLS = (
    (196, 178, 150), (170, 148, 120), (150, 96, 76), (124, 70, 58), (206, 200, 188),
    (150, 150, 148), (112, 112, 114), (186, 160, 104), (160, 132, 118), (132, 142, 148),
    (96, 84, 76), (214, 190, 168), (128, 140, 116), (176, 120, 92), (88, 96, 108),
)
# fmt: on
FENCES = WALLS + BODIES[:6] + ((110, 82, 54),) * 3
EARTH = ((120, 108, 76), (150, 140, 104), (132, 126, 116), (104, 92, 74), (164, 156, 136))


def turf(rng, green):
    """The colour of open ground: grass as green as the leaves, or soil, straw, gravel."""
    return tint(rng, green if rng.random() < 0.5 else pick(rng, EARTH))


def pave(canvas, rng, street):
    """Paint everything that lies flat: road, markings, rails, sidewalks, ground."""
    left, right, road = -street["kerb"][-1], street["kerb"][1], street["road"]
    canvas.strip(-400, 400, NEARBY, 480, turf(rng, street["green"]), GRASS, TERRAIN)
    zc, wide = street["crossing"], street["wide"]
    for side in (-1, 1):
        kerb = side * street["kerb"][side]
        edge = kerb + side * street["walk"][side]
        canvas.strip(kerb, edge + side * 30, NEARBY, FAR, street["paving"], SLABS, SIDEWALK)
        if street["verge"][side]:
            canvas.strip(
                kerb + side * 0.3,
                kerb + side * street["verge"][side],
                NEARBY,
                FAR,
                turf(rng, street["green"]),
                GRASS,
                TERRAIN,
            )
        stone = tint(rng, (176, 174, 170))
        canvas.strip(kerb, kerb + side * 0.28, NEARBY, FAR, stone, label=SIDEWALK)
    canvas.strip(left, right, NEARBY, FAR, road, ASPHALT, ROAD)
    for x in (left + 0.12, right - 0.42):
        canvas.strip(x, x + 0.3, NEARBY, FAR, shade(road, 0.8), ASPHALT)
    for _ in range(int(rng.random() * 4)):  # patches
        x, z = left + (right - left) * rng.random(), 5 + 25 * rng.random()
        canvas.strip(
            x,
            x + 1 + 1.5 * rng.random(),
            z,
            z + 2 + 8 * rng.random(),
            shade(road, 0.8 + 0.3 * rng.random()),
            ASPHALT,
        )
    white = tint(rng, (205, 204, 196) if rng.random() < 0.85 else (214, 178, 70), 16)
    white = canvas.number(white, ASPHALT, on=0)
    lane, mid = street["lane"], street["middle"]
    lines = [(mid, rng.random() < 0.25)]
    lines += [(mid + lane * i, False) for i in range(1, street["own"])]
    lines += [(mid - lane * i, False) for i in range(1, street["other"])]
    for s in (-1, 1):
        if street["parked"][s] and rng.random() < 0.7:
            lines.append((s * (street["kerb"][s] - 2.2), rng.random() < 0.5))
    gap, start = 5 + 4 * rng.random(), 6 * rng.random()
    for x, solid in lines:
        if rng.random() < 0.12:
            continue
        for i in range(1 if solid else 12):
            z = NEARBY if solid else start + i * (gap + 3)
            canvas.strip(x - 0.07, x + 0.07, z, FAR if solid else z + 3.2, white)
    if street["rails"] is not None:
        for bed in (-0.72, 0.72):
            x = street["rails"] + bed
            canvas.strip(x - 0.16, x + 0.16, NEARBY, FAR, shade(road, 0.85), ASPHALT)
            canvas.strip(x - 0.05, x + 0.05, NEARBY, FAR, (62, 58, 56))
    if zc:
        canvas.strip(-120, 120, zc, zc + wide, road, ASPHALT, ROAD)
        if rng.random() < 0.8:
            for i in range(int((right - left) / 1.0)):
                canvas.strip(left + 0.3 + i, left + 0.8 + i, zc - 4.2, zc - 1.0, white)
        canvas.strip(mid + 0.1, right, zc - 5.6, zc - 5.2, white)
    elif rng.random() < 0.2:
        z = 9 + 14 * rng.random()
        for i in range(int((right - left) / 1.0)):
            canvas.strip(left + 0.3 + i, left + 0.8 + i, z, z + 3, white)


def skyline(canvas, rng, street):
    """Paint what closes the view: far blocks and trees."""
    for z in (330, 260, 215):
        canvas.begin(BUILDING, 0, z, 0.5)
        x = -190.0
        while x < 190:
            run = 12 + 30 * rng.random()
            if rng.random() < 0.35 + 0.5 * street["town"]:
                block(canvas, rng, [(x, z), (x + run, z)], 7 + 16 * rng.random())
            else:
                actors.bush(canvas, rng, x, z, 9 + 7 * rng.random(), run * 1.6, street["green"])
            x += run


def lots(canvas, rng, street, side, things):
    """Add the houses, gardens, parks, walls and fences along one side."""
    z, line = -2.0, street["kerb"][side] + street["walk"][side]
    zc, wide, green = street["crossing"], street["wide"], street["green"]
    facing = 0.25 + 0.75 * rng.random()  # sunlight on walls along the street
    while z < FAR:
        run = 9 + 17 * rng.random()
        if zc and z <= zc < z + run + 2:
            run, after = zc - 2.5 - z, zc + wide + 2.5
            if run < 3:
                z = after
                continue
        else:
            after = z + run
        kind, b, z1 = rng.random(), side * line, z + run
        if kind < 0.36 + 0.34 * street["town"]:
            tall = (3 + int(rng.random() * 5)) * 3.1 + 1
            things.append(
                (b, b + side * 12, z, z1, lot(terrace, canvas, rng, b, z, z1, side, tall, facing))
            )
        elif kind < 0.80:
            hedge = pick(rng, ("wall", "fence", "hedge", "wall", "fence"))
            things.append(
                (
                    b,
                    b + side * 22,
                    z,
                    z1,
                    lot(garden, canvas, rng, b, z, z1, side, hedge, green, facing),
                )
            )
        else:
            hedge = pick(rng, ("none", "fence", "fence", "wall"))
            things.append(
                (b, b + side * 40, z, z1, lot(park, canvas, rng, b, z, z1, side, hedge, green))
            )
        z = after
    if street["end"] and side == 1:  # the street meets another one
        x = -45.0
        while x < 45:
            run = 10 + 12 * rng.random()
            things.append(
                (
                    x,
                    x + run,
                    FAR * 0.6,
                    FAR * 0.6 + 9,
                    lot(
                        block,
                        canvas,
                        rng,
                        [(x, FAR * 0.6), (x + run, FAR * 0.6)],
                        9 + 14 * rng.random(),
                    ),
                )
            )
            x += run


def lot(draw, *args):
    """A function that draws one thing later, in the order from far to near."""
    return lambda: draw(*args)


def terrace(canvas, rng, b, z0, z1, side, tall, facing):
    """Paint a house whose front stands at x = b and gets `facing` (0..1) of the sun."""
    colour, style, deep = tint(rng, pick(rng, WALLS), 34), house(rng), b + side * 11
    canvas.cast([(b, max(z0, 2)), (b, z1), (deep, z1), (deep, max(z0, 2))], tall)
    if z0 > 3:
        block(canvas, rng, [(b, z0), (deep, z0)], tall, shade(colour, 0.92), (60, *style[1:]), 0.3)
    if rng.random() < 0.5:  # a roof that leans back
        roof = tint(rng, pick(rng, ((112, 62, 48), (74, 72, 76), (130, 86, 64), (60, 58, 60))))
        up, back = 2.0 + 1.5 * rng.random(), b + side * 3
        canvas.begin(BUILDING, b, (max(z0, 4) + z1) / 2, 0.6)
        canvas.poly(
            [(b, tall, z0), (back, tall + up, z0), (2 * back - b, tall, z0)], shade(colour, 0.8)
        )
        canvas.poly(
            [
                (b - side * 0.3, tall, z0),
                (back, tall + up, z0),
                (back, tall + up, z1),
                (b - side * 0.3, tall, z1),
            ],
            roof,
            material=BRICK,
        )
        for i in range(int((z1 - z0) / 5)):
            z = z0 + 3 + i * 5
            if z > 4:
                low, high = tall + up * 0.3, tall + up * 0.85
                canvas.poly(
                    [
                        (b + side, low, z),
                        (b + side, high, z),
                        (b + side, high, z + 1.3),
                        (b + side, low, z + 1.3),
                    ],
                    (66, 74, 86),
                )
    block(canvas, rng, [(b, z0), (b, z1)], tall, colour, style, facing)
    canvas.poly(
        [(b, tall - 0.45, z0), (b, tall, z0), (b, tall, z1), (b, tall - 0.45, z1)],
        shade(colour, pick(rng, (0.75, 1.15))),
    )
    if style[4] > 3 and rng.random() < 0.7:  # awnings and shop signs
        z = z0 + 1
        while z < z1 - 4:
            c, on = tint(rng, pick(rng, BODIES)), z > 4
            if on and rng.random() < 0.6:
                y = style[4]
                canvas.poly(
                    [
                        (b, y, z),
                        (b - side * 0.9, y - 0.55, z),
                        (b - side * 0.9, y - 0.55, z + 3.4),
                        (b, y, z + 3.4),
                    ],
                    c,
                )
            elif on:
                y = style[4]
                canvas.poly(
                    [(b, y - 0.5, z), (b, y, z), (b, y, z + 3.4), (b, y - 0.5, z + 3.4)],
                    c,
                    glow=0.3,
                )
            z += 4.2


def garden(canvas, rng, b, z0, z1, side, kind, green, facing):
    """Paint a house set back behind grass, trees and a border."""
    canvas.strip(b, b + side * 22, z0, z1, turf(rng, green), GRASS, TERRAIN)
    if rng.random() < 0.75:
        set_back = b + side * (4 + 5 * rng.random())
        tall = 4 + 3 * int(1 + rng.random() * 3)
        terrace(canvas, rng, set_back, z0 + 1.5, z1 - 1.5, side, tall, facing)
    trees = sorted(
        (
            (max(z0, 6) + (z1 - max(z0, 6)) * rng.random(), 1 + 3 * rng.random())
            for _ in range(int(rng.random() * 4))
        ),
        reverse=True,
    )
    for z, x in trees:
        if z1 > 8:
            tall, wide = 4 + 5 * rng.random(), 4 + 3 * rng.random()
            actors.tree(canvas, rng, b + side * x, z, tall, wide, green)
    border(canvas, rng, b, z0, z1, kind, green)


def park(canvas, rng, b, z0, z1, side, kind, green):
    """Paint grass and many trees behind a border."""
    canvas.strip(b, b + side * 60, z0, z1, turf(rng, green), GRASS, TERRAIN)
    z = z1
    while z > max(z0, 7):
        for x in (26 + 8 * rng.random(), 15 + 6 * rng.random(), 3 + 6 * rng.random()):
            tall, wide = 7 + 7 * rng.random(), 6 + 4 * rng.random()
            actors.tree(canvas, rng, b + side * x, z, tall, wide, green)
        if rng.random() < 0.5:
            x, tall = b + side * (1 + 3 * rng.random()), 1.2 + rng.random()
            actors.bush(canvas, rng, x, z - 1, tall, 3, green)
        z -= 4 + 4 * rng.random()
    border(canvas, rng, b, z0, z1, kind, green)


def border(canvas, rng, b, z0, z1, kind, green):
    """Paint a wall, a fence or a hedge along x = b."""
    if kind == "hedge":
        tall, z = 0.9 + 1.1 * rng.random(), z1
        while z > max(z0, 3):
            actors.bush(canvas, rng, b + 0.7 * (1 if b > 0 else -1), z, tall, 2.4, green)
            z -= 1.5 if z < 40 else 4
        return
    if kind == "none":
        return
    canvas.label = WALL if kind == "wall" else FENCE
    canvas.on = canvas.plane([(b, z0), (b, z1)])
    tall = 1.4 + 1.6 * rng.random() if kind == "wall" else 1.1 + 0.9 * rng.random()
    colour = tint(rng, pick(rng, WALLS if kind == "wall" else FENCES), 30)
    lit = rng.random()
    canvas.poly(
        [(b, 0, z0), (b, tall, z0), (b, tall, z1), (b, 0, z1)],
        colour,
        material=BRICK if kind == "wall" else BARS,
        lit=lit,
    )
    canvas.poly(
        [(b, tall - 0.12, z0), (b, tall, z0), (b, tall, z1), (b, tall - 0.12, z1)],
        shade(colour, 1.2 if kind == "wall" else 0.9),
        lit=lit,
    )
    canvas.cast([(b, max(z0, 3)), (b, z1)], tall)


def block(canvas, rng, ends, tall, colour=None, style=None, lit=None):
    """Paint one wall of a house between two (x, z) ends."""
    canvas.label = BUILDING
    canvas.on = canvas.plane(ends, style or house(rng))
    (xa, za), (xb, zb) = ends
    canvas.poly(
        [(xa, 0, za), (xa, tall, za), (xb, tall, zb), (xb, 0, zb)],
        colour or tint(rng, pick(rng, WALLS)),
        material=FACADE,
        lit=rng.random() if lit is None else lit,
    )


def house(rng):
    """The style of a facade, see `photo.facade`."""
    pitch = 1.9 + 1.8 * rng.random()
    shop = 3.2 + 1.2 * rng.random() if rng.random() < 0.5 else 0.8
    return (
        pitch,
        2.7 + 0.8 * rng.random(),
        pitch * (0.35 + 0.3 * rng.random()),
        1.2 + 0.8 * rng.random(),
        shop,
        rng.random() * 500,
        pick(rng, (0.9, 0.8, 0.3, 0.5)),
        float(rng.random() < 0.35),
    )
